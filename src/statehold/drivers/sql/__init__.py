"""States in tables of a SQL database: PostgreSQL, MariaDB, MySQL, SQLite.

How a commit goes is on one page, `docs/sql-commits.md`. Where what lies, lint holding the walls:

* `driver` is the contract: it opens, reads, commits, scans; it alone knows both ways to commit.
* `portable/` is one of them, on any database, for everything (`transactions`): rows are locked (`load`),
  commits folded (`fold`) and written (`save`) in one transaction (`executor`), on SQLAlchemy's connections
  (`engines`).
* `postgres/` is the other, which does most commits and all reads in one round trip (`executor`): as a
  statement (`single`) or as a call (`calling`, `call`, `merge`) of a function (`function`, `fields`), on
  asyncpg's connections (`sending`, `pools`). What it does not do it leaves to `portable`, with nothing of it
  written: the ways to commit are tiers, asked in turn (`tiers`).
* `schema/` is how a kind lies in tables (`tables`) and values in rows (`values`). It knows no executor.
* `migrating/` makes tables and their functions, looks whether they fit (`opening`), and changes them.
* Beside them is what both ways use: who goes together (`lanes`) and after whom (`turns`); how one connects
  (`connecting`, `tls`), what an error means (`errors`) and whether it is tried again (`retrying`); whether a
  commit comes in time (`deciding`), the server's clock (`serverclock`), place (`moving`) and room (`room`); how long op ids
  are kept (`op_ids`); what is configured (`settings`).
* On top `urls` makes drivers of URLs, `rounds` sweeps over all kinds, and `querying` tables for the application's queries.
"""

from statehold.drivers.sql.driver import SqlDriver
from statehold.drivers.sql.querying import tables_of
from statehold.drivers.sql.settings import SETTINGS
from statehold.drivers.sql.urls import from_url

__all__ = ["SETTINGS", "SqlDriver", "from_url", "tables_of"]
