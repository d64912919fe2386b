"""PostgreSQL's fast path for a commit that comes alone: a statement of plain SQL, as exact as the function."""

import asyncio
import contextlib
import math
import time
from unittest.mock import patch

import pytest

from statehold.changes import Add, Append, Drop, Put
from statehold.commits import ABSENT, EVERYTHING, PRESENT, Commit, Revision
from statehold.driver import Reused, Written
from statehold.drivers.sql.op_ids import FORGET_EVERY, MOST_OPS
from statehold.drivers.sql.portable.executor import commit_all
from statehold.drivers.sql.postgres.single import AVOIDED, Singles
from statehold.drivers.sql.schema.tables import Tables
from statehold.drivers.sql.serverclock import ServerClock
from statehold.errors import Busy, Timeout
from statehold.testing.rig import KIND, layout, plain
from tests.sql.sqlbackends import behind, opened, without_function, without_single
from tests.sql.test_fast_commits import ODD

KEY = ("t", KIND, "a")
PLAIN = {
    "nothing": (),
    "append": (Append("log", (b"1", b"2"), 3), Append("trail", (b"{}",), 1)),
    "put": (Put("note", "", b'"x"'),),
    "put in a map": (Put("map", "k\\\0", b'{"a": 1}', bound=2),),
    "put in a large map": (Put("book", "k\\\0", b'{"a": 1e16, "b": "\\u0000"}', bound=1),),
}
OTHER = {
    "drop": (Drop("map"),),
    "put if absent": (Put("once", "k", b"1", if_absent=True, bound=9),),
    "one field twice": (Append("log", (b"1",), 3), Append("log", (b"2",), 3)),
    "a tally": (Add("sum", "k", 1, 9),),
    "more than the bound": (Append("log", (b"1", b"2"), 1),),
    "many items": (Append("log", (b"1",) * 9, 99),),
}


def commit(*changes, key=KEY, op="", ttl=1000.0, **options):
    return Commit(key, changes, ttl, op, **options)


async def ready(url, *, kind=None, open_=opened, **settings):
    driver = open_(url, {"sweep": "off"} | settings)
    await driver.open(kind or layout())
    await driver.read([(KEY[0], (kind or layout()).kind, "none")], EVERYTHING, time.time())
    return driver


async def read(driver, key=KEY):
    (cells,) = await driver.read([key], EVERYTHING, time.time())
    return cells


def run(url, work, **options):
    async def main():
        driver = await ready(url, **options)
        try:
            return await work(driver)
        finally:
            await driver.close()

    return asyncio.run(main())


def handed_back(driver):
    """How many commits went the long way. With one of the short ways alone: how many it did not do."""
    return driver.stats()["fast_handed_back_total"]


@pytest.mark.parametrize("changes", PLAIN.values(), ids=PLAIN)
def test_it_writes_what_the_function_writes(statehold_postgres, changes):
    """The same commits, alone and by the function: a new state, one that is there, without op id."""
    url = statehold_postgres.new_database()
    found = []
    for open_ in (without_function, without_single):
        key = ("t", KIND, open_.__name__)

        async def work(driver, key=key):
            for options in (
                {"op": "1", "subject": "me"},
                {"op": "2", "max_age": 500.0},
                {"ttl": None},
                {"op": "3", "max_age": 500.0, "ttl": None},
            ):
                one = commit(*changes, key=key, **options)
                (outcome,) = await driver.commit([one], time.time())
            assert handed_back(driver) == 0
            cells = await read(driver, key)
            found.append((outcome.revision.number, plain(cells), cells.subject))
            assert 490 < cells.deadline - cells.created <= 500.001
            (again,) = await driver.commit([commit(*changes, key=key, op="2")], time.time())
            assert again == Written(Revision(outcome.revision.incarnation, 2), None, True)
            assert handed_back(driver) == 1

        run(url, work, open_=open_)
    assert found[0] == found[1]
    assert found[0][0] == 4


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        *((changes, {}) for changes in OTHER.values()),
        *(((), one) for one in ({"expect": PRESENT}, {"epoch": 1}, {"erase": True})),
    ],
    ids=[*OTHER, "condition", "epoch", "erase"],
)
def test_what_is_not_plain_is_left_to_the_function(statehold_postgres, changes, options):
    """No statement is sent for it: without the function it takes a transaction."""

    async def work(driver):
        await driver.commit([commit()], time.time())
        assert handed_back(driver) == 0
        await driver.commit([commit(*changes, **options)], time.time())
        assert handed_back(driver) == 1

    run(statehold_postgres.new_database(), work, open_=without_function)
    assert Singles(Tables(layout())).statement(commit(*changes, **options), math.inf) is None


@pytest.mark.parametrize("open_", [opened, without_function])
def test_a_list_keeps_its_bound_when_others_append_meanwhile(statehold_postgres, open_):
    """A commit waits for a writer whose items its statement cannot see: they are deleted all the same."""

    async def work(driver):
        await driver.commit([commit(Append("log", (b"0",), 1), op="0")], time.time())
        async with driver.engine.begin() as connection:
            other = [commit(Append("log", (b"1",), 1), op="1")]
            await commit_all(
                connection,
                driver.dialect,
                {KIND: driver.tables_of(layout())},
                other,
                time.time(),
                clock=ServerClock(),
                untils=[math.inf],
            )
            waiting = asyncio.ensure_future(
                driver.commit([commit(Append("log", (b"2",), 1), op="2")], time.time())
            )
            await _blocked(driver)
        (outcome,) = await waiting
        assert outcome.revision.number == 3
        assert plain(await read(driver))["log"] == [b"2"]
        if open_ is without_function:  # for a while no statement is tried
            for n in range(AVOIDED + 1):
                assert handed_back(driver) == 1 + n
                await driver.commit([commit(op=f"later {n}")], time.time())
            assert handed_back(driver) == 1 + AVOIDED

    run(statehold_postgres.new_database(), work, open_=open_)


async def _blocked(driver):
    """Until somebody waits for a lock."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with driver.engine.connect() as connection:
        for _ in range(1000):
            if (await connection.exec_driver_sql(query)).scalar_one():
                return
            await asyncio.sleep(0.005)
    pytest.fail("nobody waits for a lock")


def test_the_time_limit_is_one_for_both_ways(statehold_postgres):
    """The statement waits for one writer, and what does its work for the next: the same `timeout`."""
    limit = 2.5

    async def written_to(driver, connection):
        other = [commit(Append("log", (b"1",), 1))]
        await commit_all(
            connection,
            driver.dialect,
            {KIND: driver.tables_of(layout())},
            other,
            time.time(),
            clock=ServerClock(),
            untils=[math.inf],
        )

    async def work(driver):
        await driver.commit([commit(Append("log", (b"0",), 1), op="0")], time.time())
        async with contextlib.AsyncExitStack() as until_the_end:
            function = driver.tiers[1]
            by_function = function.commit

            async def held_up(*arguments):
                next_one = await until_the_end.enter_async_context(driver.engine.begin())
                await written_to(driver, next_one)
                return await by_function(*arguments)

            with patch.object(function, "commit", side_effect=held_up) as called:
                async with driver.engine.begin() as first:
                    await written_to(driver, first)
                    began = time.monotonic()
                    waiting = asyncio.ensure_future(
                        driver.commit([commit(Append("log", (b"2",), 1), op="2")], time.time())
                    )
                    await _blocked(driver)
                    await asyncio.sleep(began + limit / 2 - time.monotonic())
                with pytest.raises((Busy, Timeout)):
                    await waiting
                assert called.call_count == 1  # both ways were gone
            assert time.monotonic() - began < limit * 1.3  # with a limit for each: 1.4 times

    run(statehold_postgres.new_database(), work, timeout=limit)


def test_an_expired_state_begins_anew(statehold_postgres):
    """Also one that expires while the commit waits: the clock is read when the row is locked."""

    async def work(driver):
        await driver.commit([commit(Append("log", (b"0",), 9), op="0", ttl=0.3)], time.time())
        async with driver.engine.begin() as connection:
            await connection.exec_driver_sql(f'SELECT FROM "{KIND}" FOR UPDATE')
            waiting = asyncio.ensure_future(
                driver.commit([commit(Append("log", (b"1",), 9), op="1")], time.time())
            )
            await _blocked(driver)
            await asyncio.sleep(0.35)
        (outcome,) = await waiting
        assert outcome.revision.number == 1
        assert plain(await read(driver))["log"] == [b"1"]

    run(statehold_postgres.new_database(), work)


def test_columns_of_every_type(statehold_postgres):
    """Native values, sums and JSON, set one by one; a null that is noted is cleared by what comes after it."""
    key = ("t", ODD.kind, "a")
    changes = (
        Put("name", "", b'"x"'),
        Put("number", "", b"7"),
        Put("share", "", b"0.5"),
        Put("flag", "", b"true"),
        Put("doc", "", b'{"a":null}'),
        Put("vector", "", b"\0\xff"),
        Add("count", "", 2),
        Add("weight", "", 0.25),
        Put("Über@2", "k", b"1", bound=4),
    )

    async def work(driver):
        for change in changes + changes[::-1]:
            await driver.commit([commit(change, key=key)], time.time())
        assert handed_back(driver) == 0
        found = plain(await read(driver, key))
        assert found["count"] == {"": 4}
        assert found["weight"] == {"": 0.5}
        assert found["doc"] == {"": b'{"a":null}'}
        assert found["vector"] == {"": b"\0\xff"}
        await driver.commit([commit(Put("name", "", b"null"), key=key)], time.time())
        await driver.commit([commit(Put("number", "", b"8"), key=key)], time.time())
        await driver.commit([commit(Put("name", "", b'"y"'), key=key)], time.time())
        found = plain(await read(driver, key))
        assert (found["name"], found["number"]) == ({"": b'"y"'}, {"": b"8"})

    run(statehold_postgres.new_database(), work, kind=ODD, open_=without_function)


def test_a_list_has_no_more_rows_than_items(statehold_postgres):
    """Items that fall out and op ids that are forgotten are deleted."""
    url = statehold_postgres.new_database()

    async def work(driver):
        for n in range(1000):
            one = commit(Append("log", (b"%d" % n, b"0"), 3), op=f"{n}", ops=8)
            await driver.commit([one], time.time())

    run(url, work)

    async def counted(connection):
        query = f'SELECT (SELECT count(*) FROM "{KIND}__log"), (SELECT count(*) FROM "{KIND}__ops")'
        return tuple((await connection.exec_driver_sql(query)).one())

    items, ops = behind(url, counted)
    assert items == 3
    assert 8 <= ops <= MOST_OPS + FORGET_EVERY


# -------------------------------------------------------------------------------------- erasures


def left(server, url):
    """How many rows there are in each of the kit's tables, of those that have any."""
    names = ("", "__sum", "__log", "__trail", "__ops", "__also_about")
    found = {
        name: int(server.sql(f"SELECT count(*) FROM basket{name}", url)[0][0]) for name in names
    }
    return {name: count for name, count in found.items() if count}


def test_an_erasure_is_one_statement(statehold_postgres):
    """With all that belongs to the state; repeated, it erases no later life."""
    url = statehold_postgres.new_database()

    async def work(driver):
        changes = (Append("log", (b"1", b"2"), 9), Add("sum", "k", 1))
        several = {"subject": ("ann", "run 7")}
        (made,) = await driver.commit([commit(*changes, op="1", **several)], time.time())
        before = driver.stats()
        (gone,) = await driver.commit([commit(op="erase", erase=True)], time.time())
        after = driver.stats()
        assert gone == Written(made.revision)
        assert after["transactions_total"] == before["transactions_total"] + 1
        assert handed_back(driver) == before["fast_handed_back_total"]
        assert left(statehold_postgres, url) == {}
        (later,) = await driver.commit([commit(*changes, op="2")], time.time())
        (again,) = await driver.commit([commit(op="erase", erase=True)], time.time())
        assert again == Written(made.revision, repeated=True)
        assert (await read(driver)).revision == later.revision
        (reused,) = await driver.commit([commit(op="2", erase=True)], time.time())
        assert isinstance(reused, Reused)
        (absent,) = await driver.commit(
            [commit(op="3", erase=True, key=("t", KEY[1], "nobody"))], time.time()
        )
        assert absent == Written(ABSENT)

    run(url, work)


def test_erasures_beside_writers_leave_nothing_behind(statehold_postgres):
    """Two drivers write to a state and erase it: no row of a list stays whose state is gone."""
    url = statehold_postgres.new_database()

    async def work(driver):
        other = await ready(url)

        async def one(driver, n):
            for turn in range(25):
                erase = (n + turn) % 5 == 0
                changes = () if erase else (Append("log", (b"1",), 50), Add("sum", "k", 1))
                again = commit(*changes, op=f"{n} {turn}", erase=erase)
                (outcome,) = await driver.commit([again], time.time())
                assert isinstance(outcome, Written)

        await asyncio.gather(*(one((driver, other)[n % 2], n) for n in range(8)))
        await driver.commit([commit(op="last", erase=True)], time.time())
        await other.close()

    run(url, work)
    assert left(statehold_postgres, url) == {}
