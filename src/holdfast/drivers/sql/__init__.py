"""States in tables of a SQL database: PostgreSQL, MariaDB, MySQL, SQLite."""

from holdfast.drivers.sql.driver import SqlDriver
from holdfast.drivers.sql.querying import tables_of
from holdfast.drivers.sql.settings import SETTINGS
from holdfast.drivers.sql.urls import from_url

__all__ = ["SETTINGS", "SqlDriver", "from_url", "tables_of"]
