"""A server that takes few connections: callers wait for those that there are, and nobody holds what he does not use."""

import asyncio
import time

import pytest

from statehold.changes import Add
from statehold.commits import EVERYTHING
from statehold.driver import Written
from statehold.drivers.sql import room
from statehold.drivers.sql.portable import here
from statehold.drivers.sql.postgres import pool
from statehold.errors import Unavailable
from statehold.testing.rig import layout, plain
from tests.sql.sqlbackends import commit, key, opened, play, portable

LIMIT = 2
"""How many connections the user may have: one to each of the driver's two pools on PostgreSQL."""


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request):
    """A server, and the URL of a database whose tables are made, for a user of few connections."""
    name = {"postgresql": "statehold_postgres", "mariadb": "statehold_mariadb"}[request.param]
    server = request.getfixturevalue(name)
    return server, limited(server, request.param)


def limited(server, kind, limit=LIMIT):
    """The URL of a database whose tables are made, for a user of few connections."""
    url = server.new_database()

    async def nothing(_):
        pass

    play(url, nothing, open_=opened)
    user, database = f"few_{time.monotonic_ns()}", url.rpartition("/")[2]
    if kind == "postgresql":
        server.sql(
            f"CREATE ROLE {user} LOGIN CONNECTION LIMIT {limit};"
            f" GRANT ALL ON ALL TABLES IN SCHEMA public TO {user};"
            f" GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {user}",
            url,
        )
    else:
        server.sql(f"CREATE USER {user} WITH MAX_USER_CONNECTIONS {limit}", url)
        server.sql(f"GRANT ALL ON `{database}`.* TO {user}", url)
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{user}@{rest.rpartition('@')[2]}"


def crowd(driver, count=24):
    """Commits and reads of many callers at once."""

    async def one(n):
        outcomes = await driver.commit([commit(Add("sum", "k", 1), id=f"s{n % 7}")], time.time())
        await driver.read([key(f"s{n % 7}")], EVERYTHING, time.time())
        return outcomes[0]

    return asyncio.gather(*(one(n) for n in range(count)))


@pytest.mark.parametrize("open_", [opened, portable])
def test_who_is_refused_a_further_connection_goes_on_with_what_there_is(server, open_):
    """All are answered, though the pool may have ten times as many connections as the server gives."""

    async def work(driver):
        for _ in range(3):
            assert all(isinstance(one, Written) for one in await crowd(driver))
        return (await driver.read([key("s0")], EVERYTHING, time.time()))[0]

    cells = play(server[1], work, open_=open_, settings={"pool_size": 20})
    assert plain(cells)["sum"] == {"k": 12}


def test_processes_share_what_there_is(statehold_postgres):
    """Each gets one in the end, as the others give up what they have beside it."""
    url = limited(statehold_postgres, "postgresql", 5)

    async def run():
        drivers = [opened(url, {"pool_size": 20}) for _ in range(3)]

        async def life(driver):
            await driver.open(layout())
            for _ in range(4):
                await crowd(driver, 12)

        await asyncio.gather(*map(life, drivers))
        for driver in drivers:
            await driver.close()

    asyncio.run(run())


def test_who_has_none_waits_for_one_and_is_told_if_there_is_none(server):
    """Within the time of the call; the error says why, and that the server was reached."""
    _, url = server

    async def run():
        import sqlalchemy
        from sqlalchemy.ext.asyncio import create_async_engine

        plain = portable(url)
        engine = create_async_engine(plain.engine.url, poolclass=sqlalchemy.NullPool)
        await plain.close()
        taken = [await engine.connect() for _ in range(LIMIT)]
        driver = opened(url, {"timeout": 1.0})
        with pytest.raises(Unavailable, match="connection"):
            await driver.open(layout())
        await driver.close()
        driver = opened(url, {"timeout": 30.0})
        opening = asyncio.create_task(driver.open(layout()))
        await asyncio.sleep(0.2)
        assert not opening.done()
        for one in taken:
            await one.close()
        await opening
        await crowd(driver)
        await driver.close()
        await engine.dispose()

    asyncio.run(run())


def connections(server, url):
    """How many there are to a database, that are not this one's."""
    server.sql("SELECT 1", url)
    return int(
        server.sql(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            url,
        )[0][0]
    )


async def until(condition):
    """Return once it holds; others end connections in their own time."""
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  it is the server's
            await asyncio.sleep(0.02)


async def several(driver):
    """Have the pool make a few connections."""
    mine = driver.executor.sender.pools.here()
    taken = [await mine.take() for _ in range(5)]
    for made in taken:
        mine.give(made)


def test_what_nobody_uses_is_closed_after_a_while(statehold_postgres, monkeypatch):
    """But for the last one, with which the next call need not wait."""
    url = statehold_postgres.new_database()
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(here, "IDLE_SECONDS", 0.1)

    async def work(driver):
        await several(driver)
        await until(lambda: connections(statehold_postgres, url) == 1)
        await crowd(driver)

    play(url, work, open_=opened)


def test_who_sees_that_few_are_left_gives_some_up(statehold_postgres, monkeypatch):
    """A look at how many are taken: a third goes, and so on, until there is one."""
    url = statehold_postgres.new_database()
    monkeypatch.setattr(room, "MOST_TAKEN", 0.0)

    async def work(driver):
        await several(driver)
        mine, pools = driver.executor.sender.pools.here(), driver.executor.sender.pools
        counts = []
        for _ in range(5):
            await pools.look_for_room(1.0)
            counts.append(mine._made)
        await until(lambda: connections(statehold_postgres, url) == 1)
        await crowd(driver)
        return counts

    assert play(url, work, open_=opened) == [3, 2, 1, 1, 1]
