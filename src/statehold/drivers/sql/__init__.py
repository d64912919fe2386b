"""States in tables of a SQL database: PostgreSQL, MariaDB, MySQL, SQLite."""

from statehold.drivers.sql.driver import SqlDriver
from statehold.drivers.sql.querying import tables_of
from statehold.drivers.sql.settings import SETTINGS
from statehold.drivers.sql.urls import from_url

__all__ = ["SETTINGS", "SqlDriver", "from_url", "tables_of"]
