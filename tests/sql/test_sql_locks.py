"""In which order rows are locked, and that what was locked late is folded late."""

import asyncio
import random
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from statehold.changes import Append
from statehold.commits import EVERYTHING
from statehold.driver import Written
from statehold.drivers.sql.portable import executor as transactions
from statehold.drivers.sql.postgres.executor import LANES
from statehold.drivers.sql.schema.tables import lock_order
from statehold.drivers.sql.schema.types import escaped
from statehold.drivers.sql.turns import Turns
from statehold.testing.rig import layout
from tests.sql.sqlbackends import NOW, TICKS, commit, database, key, opened, play, portable


@pytest.fixture(params=["postgresql", "mariadb"])
def server_url(request, tmp_path):
    return database(request, request.param, tmp_path)


def tick(url):
    return TICKS[url.partition(":")[0]]


WAITING = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


@given(st.sets(st.tuples(st.text(max_size=4), st.just("basket"), st.text(max_size=4))))
def test_the_order_is_that_of_postgresqls_index(keys):
    """By the bytes of what is stored: whoever locks rows by the index locks them in this order, too."""
    stored = {key: (escaped(key[0]), escaped(key[2])) for key in keys}
    assert lock_order(keys) == stored
    in_bytes = [tuple(name.encode() for name in names) for names in lock_order(keys).values()]
    assert in_bytes == sorted(in_bytes)


async def somebody_waits(driver, connection):
    """Until a transaction waits for a lock of that connection's."""
    asking = text(WAITING[driver.dialect.name])
    for _ in range(40):
        if (await connection.execute(asking)).scalar_one():
            return
        await asyncio.sleep(0.15)  # what InnoDB tells of itself is as old as 0.1 s
    raise AssertionError("nobody waits")


CHANGE = Append("log", (b'"y"',), 9)

MAKE = text(
    "INSERT INTO basket (tenant, id, incarnation, number, created_at, updated_at, epoch, ops)"
    " VALUES ('t', :id, 0, 0, '2000-01-01', '2000-01-01', 0, 0)"
)
"""A row as a writer makes it that is about to begin a state."""


@pytest.mark.parametrize("open_", [opened, portable])
@pytest.mark.parametrize("together", [False, True])
def test_who_waits_for_a_row_that_is_being_made_holds_no_later_one(server_url, open_, together):
    """Else two such wait for each other, until the server sees it."""

    async def work(driver):
        await driver.commit([commit(CHANGE, id="b")], NOW)
        both = [commit(CHANGE, id=id) for id in "ab"]
        call = driver.commit_together if together else driver.commit
        async with driver.engine.connect() as other:
            await other.execute(MAKE, {"id": b"a" if driver.dialect.name == "mysql" else "a"})
            writing = asyncio.ensure_future(call(both, NOW))
            await somebody_waits(driver, other)
            locking = text("SELECT state FROM basket WHERE id = 'b' FOR UPDATE NOWAIT")
            try:
                free = len((await other.execute(locking)).all())
            except DBAPIError as error:
                free = str(error.orig)
            await other.rollback()
        return free, await writing

    free, outcomes = play(server_url, work, open_=open_)
    assert free == 1
    assert [outcome.revision.number for outcome in outcomes] == [1, 2]


@pytest.mark.parametrize("open_", [opened, portable])
def test_writers_who_also_delete_are_in_no_deadlock(statehold_postgres, open_):
    """PostgreSQL sees one after a second."""
    url = statehold_postgres.new_database()

    async def work(first):
        drivers = [first, open_(url), open_(url)]
        for driver in drivers:
            await driver.open(layout())

        async def caller(driver, seed):
            chance = random.Random(seed)
            for _ in range(12):
                ids = chance.sample("abc", 2)
                adding = [commit(CHANGE, id=id) for id in ids]
                if chance.random() < 0.4:
                    await driver.commit([commit(id=ids[0], erase=True)], NOW)
                elif chance.random() < 0.5:
                    await driver.commit_together(adding, NOW)
                else:
                    await driver.commit(adding, NOW)

        await asyncio.gather(
            *(caller(one, 9 * n + k) for n, one in enumerate(drivers) for k in range(2))
        )
        for driver in drivers[1:]:
            await driver.close()

    before = statehold_postgres.log().count("deadlock detected")
    play(url, work, open_=open_)
    assert statehold_postgres.log().count("deadlock detected") == before


def test_all_locks_are_got_before_it_is_said_what_time_it_is(server_url):
    """A state ends while those of another kind are waited for: then it is not written to."""
    seconds = 2 * tick(server_url)

    async def work(driver):
        await driver.open(layout("later"))
        (first,) = await driver.commit([commit(CHANGE, ttl=seconds)], time.time())
        other = commit(CHANGE, kind="later")
        await driver.commit([other], time.time())
        async with driver.engine.connect() as holder:
            await holder.execute(text("SELECT state FROM later FOR UPDATE"))
            both = asyncio.ensure_future(
                driver.commit_together([commit(CHANGE, ttl=seconds), other], time.time())
            )
            await asyncio.sleep(seconds + 0.2)
            await holder.rollback()
        return first, (await both)[0]

    first, second = play(server_url, work)
    assert second.revision.number == 1
    assert second.revision.incarnation != first.revision.incarnation


def test_a_life_that_ends_before_the_commit_is_not_written_to(server_url, monkeypatch):
    """A transaction may take long, and readers see a state absent meanwhile."""
    seconds = 2 * tick(server_url)
    saving, slow = transactions.save, []

    async def save(*given):
        await saving(*given)
        if slow:
            await asyncio.sleep(slow.pop())

    monkeypatch.setattr(transactions, "save", save)

    async def work(driver):
        adding = commit(CHANGE, ttl=seconds)
        (first,) = await driver.commit([adding], time.time())
        slow.append(seconds + 0.2)
        return first, (await driver.commit([adding], time.time()))[0]

    first, second = play(server_url, work)
    assert isinstance(second, Written)
    assert second.revision.number == 1
    assert second.revision.incarnation != first.revision.incarnation


@pytest.mark.parametrize("open_", [opened, portable])
@pytest.mark.parametrize("together", [False, True])
def test_what_a_caller_had_asked_for_who_has_gone_comes_before_what_he_asks_for_next(
    server_url, open_, together
):
    """His commit waits, in a call with another's, for a row; he is cancelled, and deletes the state."""
    same = [
        id for id in "abcdefghijklmnopqrstuvwxyz" if hash(key(id)) % LANES == hash(key("a")) % LANES
    ]

    async def work(driver):
        first, mine, begun = same[0], *same[1:3]
        for id in (first, begun):
            await driver.commit([commit(CHANGE, id=id)], NOW)
        call = driver.commit_together if together else driver.commit
        async with driver.engine.connect() as other:
            await other.execute(
                text(f"SELECT state FROM basket WHERE tenant = 't' AND id = '{first}' FOR UPDATE")
            )
            wanted = [commit(CHANGE, id=id) for id in (begun, first, mine)]
            if len(driver.tiers) == 1:  # which cannot tell whose callers have gone
                before = [asyncio.ensure_future(driver.commit(wanted[1:], NOW))]
            else:
                before = [asyncio.ensure_future(driver.commit([one], NOW)) for one in wanted]
            await somebody_waits(driver, other)
            if len(driver.tiers) > 1:
                before[2].cancel()
            erasing = asyncio.ensure_future(call([commit(id=mine, erase=True)], NOW))
            await asyncio.sleep(0.3)
            await other.rollback()
        await erasing
        await asyncio.gather(*before, return_exceptions=True)
        await asyncio.sleep(0.1)
        return await driver.read([key(mine)], EVERYTHING, NOW)

    assert play(server_url, work, open_=open_) == [None]


def test_what_comes_later_on_a_key_waits_also_if_who_waited_before_it_gave_up():
    ended = []

    async def work(name, until):
        await until.wait()
        ended.append(name)

    async def main():
        turns, first, others = Turns(), asyncio.Event(), asyncio.Event()
        others.set()
        calls = [
            asyncio.ensure_future(
                turns.take({("t", "basket", id) for id in ids}, partial(work, ids, go))
            )
            for ids, go in (("ab", first), ("bc", others), ("c", others), ("d", others))
        ]
        await asyncio.sleep(0)
        calls[1].cancel()
        last = asyncio.ensure_future(turns.take({("t", "basket", "b")}, partial(work, "b", others)))
        for _ in range(5):
            await asyncio.sleep(0)
        early = list(ended)
        first.set()
        await last
        return early, bool(turns)

    assert asyncio.run(main()) == (["d", "c"], False)
    assert ended == ["d", "c", "ab", "b"]
