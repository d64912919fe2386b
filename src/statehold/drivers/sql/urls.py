"""URLs of databases."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import SplitResult, unquote

from sqlalchemy import URL

from statehold.drivers.sql.driver import SqlDriver
from statehold.drivers.sql.schema.dialects import SCHEMES
from statehold.drivers.sql.settings import SETTINGS
from statehold.errors import ConfigError


def from_url(
    url: SplitResult, settings: Mapping[str, object], *, tiers: Collection[str] | None = None
) -> SqlDriver:
    """The driver for `postgresql://user:password@host/database` and the like.

    `sqlite+sql:///relative.db` is a SQLite file with these tables. `tiers` names the ways to commit that are
    used, for tests of each (see `tiers.TIERS`).
    """
    dialect = SCHEMES[url.scheme]
    database = unquote(url.path[1:])
    if database in ("", ":memory:") or (dialect.name == "sqlite" and url.netloc):
        example = "sqlite+sql:///relative.db" if dialect.name == "sqlite" else "//host/database"
        raise ConfigError(f"{url.scheme}: the URL names no database; say {example}", field="url")
    try:
        port = url.port
    except ValueError:  # which shows what may be a password
        raise ConfigError(f"{url.scheme}: the URL's port is no number", field="url") from None
    if dialect.name == "sqlite":
        made = URL.create(dialect.driver, database=database)
    else:
        made = URL.create(
            dialect.driver,
            username=None if url.username is None else unquote(url.username),
            password=None if url.password is None else unquote(url.password),
            host=url.hostname,
            port=port,
            database=database,
        )
    return SqlDriver(made, dialect, tiers=tiers, **SETTINGS.parse(settings))
