"""States in one SQLite file: the embedded default."""

from statehold.drivers.sqlite.driver import SETTINGS, SqliteDriver, from_url

__all__ = ["SETTINGS", "SqliteDriver", "from_url"]
