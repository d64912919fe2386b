"""SQL backends for the tests of the driver, importable by the processes that the kit starts."""

import asyncio
import functools
from urllib.parse import urlsplit

import sqlalchemy
import sqlalchemy.ext.asyncio
from sqlalchemy import delete, func, select, text

from statehold.commits import Commit
from statehold.drivers.sql import from_url
from statehold.drivers.sql.schema.tables import Tables
from statehold.testing import Backend
from statehold.testing.rig import layout

TICKS = {"postgresql": 0.6, "mariadb": 0.6}
"""The unit of time, in seconds, where the database's own clock decides. Some cases
make tables while a state waits for its end, which takes MariaDB a while."""


PATIENT = {"timeout": 30.0}
"""Where a case is not about time: the machine may have other things to do."""


def opened(url, settings=None, tiers=None):
    """The driver of a URL as a store opens it; or with some of its ways to commit."""
    return from_url(urlsplit(url), PATIENT | (settings or {}), tiers=tiers)


def portable(url, settings=None):
    """With nothing but transactions, also on PostgreSQL."""
    return opened(url, settings, ["portable"])


def without_function(url, settings=None):
    """With a statement for what comes alone, and transactions for all else."""
    return opened(url, settings, ["single", "portable"])


def without_single(url, settings=None):
    """With the function also for what comes alone."""
    return opened(url, settings, ["function", "portable"])


def sql_backend(url, open_=opened, settings=None):
    """The backend of a database; a gap in a list's rows is what cannot be read."""
    drivers = []

    def opening():
        drivers.append(open_(url, settings))
        return drivers[-1]

    return Backend(
        open=opening,
        recipe=f"{__name__}:{open_.__name__}",
        arguments=(url, settings),
        own_clock=TICKS.get(url.partition(":")[0]),
        set_back=url.startswith("sqlite"),
        corrupt=functools.partial(damage, url),
    )


def behind(url, work):
    """The result of `await work(connection)` on a connection that is not the driver's."""

    async def run():
        driver = opened(url)
        engine = sqlalchemy.ext.asyncio.create_async_engine(
            driver.engine.url, poolclass=sqlalchemy.NullPool, **LEAVING_JSON_ALONE
        )
        await driver.close()
        async with engine.begin() as connection:
            return await work(connection)

    with asyncio.Runner() as runner:
        return runner.run(run())


LEAVING_JSON_ALONE = {"json_serializer": lambda x: x, "json_deserializer": lambda x: x}


def tables(kind="basket"):
    """The kit's tables."""
    return Tables(layout(kind))


def damage(url, key, field):
    """Delete the newest row of a list behind the driver's back."""
    main, child = tables(key[1]).main, tables(key[1]).children.get(field)
    if child is None or "seq" not in child.c:
        raise LookupError(f"only lists are broken here, and {field} is none")

    async def work(connection):
        found = select(main.c.state).where(main.c.tenant == key[0], main.c.id == key[2])
        state = (await connection.execute(found)).scalar_one()
        rows = child.c.state == state
        last = (await connection.execute(select(func.max(child.c.seq)).where(rows))).scalar_one()
        await connection.execute(delete(child).where(rows, child.c.seq == last))

    behind(url, work)


def database(request, name, folder):
    """The URL of an empty database of that kind, for a fixture's `request`."""
    if name == "sqlite":
        return f"sqlite+sql:///{folder}/state.db"
    server = {"postgresql": "statehold_postgres", "mariadb": "statehold_mariadb"}[name]
    return request.getfixturevalue(server).new_database()


NOW = 1_700_000_000.0


def key(id="a"):
    """A key of the kit's kind."""
    return ("t", "basket", id)


def commit(*changes, id="a", ttl=None, kind="basket", **options):
    """A commit to it."""
    return Commit(("t", kind, id), changes, ttl, **options)


def play(url, work, *, open_=portable, settings=None):
    """The result of `await work(driver)`, the kit's kind being open.

    The tables are made without these settings: a timeout of a test is not for them.
    """

    async def run(settings, work):
        driver = open_(url, settings)
        try:
            await driver.open(layout())
            return await work(driver)
        finally:
            await driver.close()

    async def nothing(_):
        pass

    if settings and "timeout" in settings:
        asyncio.run(run({**settings, "timeout": 60.0}, nothing))
    return asyncio.run(run(settings, work))


def rows(url, table):
    """How many rows a table has."""

    async def work(connection):
        return (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()

    return behind(url, work)
