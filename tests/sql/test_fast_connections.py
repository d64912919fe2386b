"""PostgreSQL's fast path when connections are lost, taken, pooled by others, or held up."""

import asyncio
import time

import pytest
import sqlalchemy
import sqlalchemy.ext.asyncio

from statehold.changes import Add, Append
from statehold.commits import EVERYTHING, Commit
from statehold.driver import FieldLayout, Layout, Written
from statehold.errors import Busy, Closed, Timeout, Unavailable
from statehold.middleware.coalesce import Coalesce
from statehold.testing import Proxy
from statehold.testing.rig import FIELDS, KIND, layout, plain
from statehold.testing.servers import Pgbouncer
from tests.sql.sqlbackends import opened, portable


def key(id="a"):
    return ("t", KIND, id)


def commit(n, id="a", op=None, **options):
    changes = (Add("sum", "k", 1), Append("log", (b"%d" % n,), 10_000))
    return Commit(key(id), changes, 1000.0, f"op {n}" if op is None else op, **options)


async def read(driver, id="a"):
    (cells,) = await driver.read([key(id)], EVERYTHING, time.time())
    return cells and plain(cells)


def using(url, **settings):
    """An async context manager of a driver that knows the kit's kind."""
    return Using(url, {"sweep": "off"} | settings)


class Using:
    def __init__(self, url, settings):
        self.url, self.settings = url, settings

    async def __aenter__(self):
        self.driver = opened(self.url, self.settings)
        await self.driver.open(layout())
        return self.driver

    async def __aexit__(self, *exc):
        await self.driver.close()


def test_a_lost_reply_is_asked_for_again(statehold_postgres):
    """The server has committed and the answer is cut off: applied once, with its first revision."""

    async def run():
        with Proxy(statehold_postgres.port) as proxy:
            async with using(proxy.through(statehold_postgres.new_database())) as driver:
                await driver.commit([commit(0)], time.time())
                with proxy.cut_reply():
                    batch = [commit(1), commit(2, id="b"), commit(3)]
                    outcomes = await driver.commit(batch, time.time())
                assert [o.revision.number for o in outcomes] == [2, 1, 3]
                assert (await read(driver))["log"] == [b"0", b"1", b"3"]
                assert (await read(driver, "b"))["sum"] == {"k": 1}
                with proxy.cut_reply():
                    assert (await read(driver))["sum"] == {"k": 3}

    asyncio.run(run())


def test_a_lost_reply_without_op_id_is_not_asked_for_again(statehold_postgres):
    """No one can know whether it was applied, and applying it twice would be worse."""

    async def run():
        with Proxy(statehold_postgres.port) as proxy:
            async with using(proxy.through(statehold_postgres.new_database())) as driver:
                await driver.commit([commit(0)], time.time())
                with proxy.cut_reply(), pytest.raises(Unavailable):
                    await driver.commit([commit(1, op="")], time.time())
                assert (await read(driver))["sum"] == {"k": 2}

    asyncio.run(run())


def test_lost_connections_are_replaced(statehold_postgres):
    """All at once, idle ones included; nothing is lost or doubled under 32 writers."""

    async def run():
        with Proxy(statehold_postgres.port) as proxy:
            async with using(proxy.through(statehold_postgres.new_database())) as driver:
                grouped = Coalesce(driver)

                async def write(n):
                    for i in range(12):
                        await grouped.commit([commit(n * 100 + i)], time.time())

                writers = [asyncio.create_task(write(n)) for n in range(32)]
                for _ in range(3):
                    await asyncio.sleep(0.03)
                    proxy.reset()
                await asyncio.gather(*writers)
                found = await read(driver)
                assert found["sum"] == {"k": 32 * 12}
                assert len(set(found["log"])) == len(found["log"]) == 32 * 12

    asyncio.run(run())


def test_behind_a_transaction_pooler(statehold_postgres):
    """With fewer sessions than connections: statements never meet another session's, or none."""

    async def run():
        with Pgbouncer.start(statehold_postgres, pool_size=2) as pooler:
            url = pooler.through(statehold_postgres.new_database())
            async with using(url, pooler="transaction", pool_size=9) as driver:

                async def write(n):
                    for i in range(8):
                        id = "a" if n % 2 else f"s{n}"
                        (outcome,) = await driver.commit([commit(n * 100 + i, id)], time.time())
                        assert isinstance(outcome, Written)
                        assert (await read(driver, id))["sum"]["k"] > 0
                        returning = commit(n * 100 + i + 50, id, returning=EVERYTHING)
                        (outcome,) = await driver.commit([returning], time.time())
                        assert plain(outcome.returned)["sum"]["k"] > 1

                await asyncio.gather(*(write(n) for n in range(20)))
                assert (await read(driver))["sum"] == {"k": 160}
                assert driver.stats()["fast_handed_back_total"] == 0
                # What the function refuses ends its transaction, and the connection goes on.
                first, again = [
                    (await driver.commit([commit(9999)], time.time()))[0] for _ in range(2)
                ]
                assert (first.repeated, again.repeated) == (False, True)
                assert (await read(driver))["sum"] == {"k": 161}

    asyncio.run(run())


def test_one_row_that_is_held_does_not_hold_up_all(statehold_postgres):
    """Another process has the row locked: commits to others go on, this one's waits for it."""

    async def run():
        url = statehold_postgres.new_database()
        async with using(url, timeout="4s") as driver:
            await driver.commit([commit(0)], time.time())
            engine = sqlalchemy.ext.asyncio.create_async_engine(
                driver.engine.url, poolclass=sqlalchemy.NullPool
            )
            async with engine.connect() as other:
                await other.exec_driver_sql(f'SELECT state FROM "{KIND}" FOR UPDATE')
                held = asyncio.create_task(driver.commit([commit(1)], time.time()))
                await asyncio.sleep(0.05)
                work = [driver.commit([commit(n, f"s{n}")], time.time()) for n in range(9)]
                await asyncio.gather(*work)
                assert not held.done()
                await other.rollback()
            assert isinstance((await held)[0], Written)
            await engine.dispose()

    asyncio.run(run())


def test_a_wait_for_a_row_has_an_end(statehold_postgres):
    """And is told: nothing was written, and the driver goes on."""

    async def run():
        async with using(statehold_postgres.new_database(), timeout="1500ms") as driver:
            await driver.commit([commit(0)], time.time())
            engine = sqlalchemy.ext.asyncio.create_async_engine(
                driver.engine.url, poolclass=sqlalchemy.NullPool
            )
            async with engine.connect() as other:
                await other.exec_driver_sql(f'SELECT state FROM "{KIND}" FOR UPDATE')
                with pytest.raises((Busy, Timeout)):
                    await driver.commit([commit(1)], time.time())
                await other.rollback()
            await engine.dispose()
            await driver.commit([commit(2)], time.time())
            assert (await read(driver))["sum"] == {"k": 2}

    asyncio.run(run())


def test_a_full_pool_is_busy(statehold_postgres):
    """No connection comes free within the timeout: `Busy`, and afterwards all is as before."""

    async def run():
        async with using(
            statehold_postgres.new_database(), pool_size=1, timeout="1500ms"
        ) as driver:
            await driver.commit([commit(0)], time.time())
            pool = driver.executor.sender.pools.here()
            taken = await pool.take()
            with pytest.raises(Busy):
                await read(driver)
            pool.give(taken)
            assert (await read(driver))["sum"] == {"k": 1}

    asyncio.run(run())


def test_a_cancelled_caller_leaves_the_others(statehold_postgres):
    """Callers whose commits went down together: one gives up, and the others are answered."""

    async def run():
        async with using(statehold_postgres.new_database()) as driver:
            await driver.commit([commit(0)], time.time())
            for round in range(5):
                numbers = range(1 + round * 20, 21 + round * 20)
                tasks = [
                    asyncio.create_task(driver.commit([commit(n, f"s{n}")], time.time()))
                    for n in numbers
                ]
                await asyncio.sleep(0.001 * round)
                for task in tasks[::3]:
                    task.cancel()
                done = await asyncio.gather(*tasks, return_exceptions=True)
                for n, outcome in zip(numbers, done, strict=True):
                    found = await read(driver, f"s{n}")
                    if not isinstance(outcome, asyncio.CancelledError):
                        assert isinstance(outcome[0], Written)
                        assert found["sum"] == {"k": 1}
                    assert found is None or found["sum"] == {"k": 1}

    asyncio.run(run())


def test_both_ways_at_once_lose_nothing(statehold_postgres):
    """The fast and the portable executor of several drivers on the same keys: no deadlock stays."""

    async def run():
        url = statehold_postgres.new_database()
        drivers = [opened(url), portable(url), opened(url)]
        for driver in drivers:
            await driver.open(layout())

        async def write(driver, base):
            for i in range(15):
                ids = ("c", "a", "b", f"new {i}", "a")
                batch = [commit(base + i * 10 + k, id) for k, id in enumerate(ids)]
                for outcome in await driver.commit(batch, time.time()):
                    assert isinstance(outcome, Written)

        await asyncio.gather(*(write(drivers[n % 3], n * 1000) for n in range(6)))
        assert (await read(drivers[0], "a"))["sum"] == {"k": 180}
        assert (await read(drivers[0], "b"))["sum"] == {"k": 90}
        assert (await read(drivers[0], "new 3"))["sum"] == {"k": 6}
        for driver in drivers:
            await driver.close()

    asyncio.run(run())


def test_two_versions_side_by_side(statehold_postgres):
    """A newer release has made the tables, with a field more: both go on by the same functions."""
    url = statehold_postgres.new_database()
    more = FieldLayout("extra", "log", frozenset({"append", "drop"}), str, 9, 99)
    older, newer = Layout("chat", FIELDS, 8), Layout("chat", (*FIELDS, more), 8)

    async def run():
        from statehold.drivers.sql.postgres.function import any_version

        old, new = opened(url), opened(url)
        await new.open(newer)
        await old.open(older)
        for driver, field in ((old, "log"), (new, "extra"), (old, "trail")):
            changes = (Append(field, (b"1",), 9),)
            before = driver.stats()["fast_commits_total"]
            await driver.commit([Commit(("t", "chat", "a"), changes, 9.0, field)], time.time())
            assert driver.stats()["fast_commits_total"] == before + 1
            assert driver.stats()["fast_handed_back_total"] == 0
        (cells,) = await old.read([("t", "chat", "a")], EVERYTHING, time.time())
        assert plain(cells) == {"log": [b"1"], "extra": [b"1"], "trail": [b"1"]}
        pattern = any_version(new.tables_of(newer))
        await old.close()
        await new.close()
        return pattern

    pattern = asyncio.run(run())
    names = statehold_postgres.sql(f"SELECT proname FROM pg_proc WHERE proname ~ '{pattern}'", url)
    assert len(names) == 2


def test_without_its_functions_it_goes_the_other_way(statehold_postgres):
    """A role that may not make them: a warning, and the same answers in more round trips."""
    url = statehold_postgres.new_database()

    async def make():
        async with using(url):
            pass

    async def run(url):
        driver = opened(url)
        with pytest.warns(RuntimeWarning, match="migrate"):
            await driver.open(layout())
        (outcome,) = await driver.commit([commit(1)], time.time())
        assert isinstance(outcome, Written)
        assert (await read(driver))["sum"] == {"k": 1}
        assert driver.stats()["fast_commits_total"] == 0
        await driver.close()

    asyncio.run(make())
    drops = statehold_postgres.sql(
        "SELECT 'DROP FUNCTION ' || oid::regprocedure FROM pg_proc WHERE proname ~ '^statehold_'",
        url,
    )
    assert len(drops) == 2
    role = f"limited_{time.monotonic_ns()}"
    statehold_postgres.sql(
        ";".join(drop for (drop,) in drops)
        + f"; CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};"
        f" GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",
        url,
    )
    host = url.rpartition("@")[2]
    asyncio.run(run(f"postgresql://{role}@{host}"))


def test_functions_that_vanish_are_made_up_for(statehold_postgres):
    """A migration drops what it takes for old: commits and reads go on all the same."""
    url = statehold_postgres.new_database()

    async def run():
        async with using(url) as driver:
            await driver.commit([commit(1)], time.time())
            statehold_postgres.sql(
                "DO $$ DECLARE f record; BEGIN FOR f IN SELECT oid::regprocedure AS name FROM"
                " pg_proc WHERE proname ~ '^statehold_' LOOP EXECUTE 'DROP FUNCTION ' || f.name;"
                " END LOOP; END $$",
                url,
            )
            await driver.commit([commit(2), commit(3, "b")], time.time())
            assert (await read(driver))["sum"] == {"k": 2}

    asyncio.run(run())


def test_closed_is_closed_for_those_who_wait(statehold_postgres):
    """`close` while commits are under way: each is answered, or told that the store is closed."""

    async def run():
        driver = opened(statehold_postgres.new_database())
        await driver.open(layout())
        work = [
            asyncio.create_task(driver.commit([commit(n, f"s{n}")], time.time())) for n in range(30)
        ]
        await asyncio.sleep(0.002)
        await driver.close()
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            assert isinstance(outcome, Closed) or isinstance(outcome[0], Written), outcome

    asyncio.run(run())
