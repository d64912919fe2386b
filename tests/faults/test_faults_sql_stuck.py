"""A first sending that the network still holds when it is sent again, and delivers afterwards."""

import asyncio
import re
from collections import Counter as Count
from datetime import timedelta

import pytest
from sqlalchemy import text

from statehold import AsyncStore, Counter, State
from statehold.testing.servers import Pgbouncer
from tests.faults.stuck import Stuck, until
from tests.faults.test_faults_sql_once import outcome
from tests.faults.trials import at, patiently, portably
from tests.sql.sqlbackends import portable as driver_at

BIG = 1_000_000
CALLS = 3


class Visit(State, ttl=timedelta(hours=1)):
    clicks = Counter()


def has_op(data):
    return b"stuck " in data


def is_commit(data):
    return re.search(rb"COMMIT(?!TED)", data) is not None


class Played:
    """One play, and what its calls came to."""

    def __init__(self, url, opens, holds, settings):
        self.url, self.opens, self.holds, self.settings = url, opens, holds, settings
        self.found = Count()

    def call(self, op):
        return self.visits.apply("a", Visit.clicks.add(BIG), op=op)

    async def run(self, port, others, *, remade=False):
        async with Stuck(port) as relay:
            through = re.sub(r":\d+/", f":{relay.port}/", self.url)
            async with (
                self.opens(through, timeout=10.0, **self.settings)() as store,
                AsyncStore.open(self.url, timeout=20.0) as beside,
            ):
                self.visits, self.theirs = store.collection(Visit), beside.collection(Visit)
                await self.theirs.apply("a", Visit.clicks.add(0))
                # Calls one after the other and at once, so that each way has its statement prepared.
                for _ in range(3):
                    warm = (self.visits.apply("a", Visit.clicks.add(0)) for _ in range(CALLS))
                    await asyncio.gather(*warm)
                relay.holds = self.holds
                calls = [
                    asyncio.ensure_future(outcome(self.call(f"stuck {n}"))) for n in range(CALLS)
                ]
                await until(lambda: relay.held)
                await asyncio.sleep(0.1)  # the others of them, too
                relay.reset_clients()
                return await self.after(relay, calls, others, remade=remade)


class Fast(Played):
    """It is sent again and answered, others come, and then what was held arrives."""

    async def after(self, relay, calls, others, *, remade):
        self.found += Count(await asyncio.gather(*calls))
        assert any(has_op(b"".join(sent)) for _, *sent in relay.held.values())
        for _ in range(others // 100 or 1):
            some = (self.theirs.apply("a", Visit.clicks.add(1)) for _ in range(min(others, 100)))
            await asyncio.gather(*some)
        if remade:
            await self.theirs.delete("a")
            await self.theirs.apply("a", Visit.clicks.add(7))
        relay.deliver()
        await asyncio.sleep(0.3)
        return (await self.theirs.get("a")).clicks


@pytest.mark.parametrize(("others", "remade"), [(10, False), (900, False), (10, True)])
def test_what_is_delivered_late_is_not_applied_again(statehold_postgres, others, remade):
    """However many others came between, and though the state was deleted and made anew."""
    play = Fast(statehold_postgres.new_database(), at, has_op, {})
    clicks = asyncio.run(play.run(statehold_postgres.port, others, remade=remade))
    assert set(play.found) == {"written"}, "its sessions were ended, and so it is known"
    assert clicks == (7 if remade else CALLS * BIG + others)


class Locked(Played):
    """A COMMIT is held: others wait for the rows, and so does what is sent again."""

    async def after(self, relay, calls, others, *, remade):
        theirs = [
            asyncio.ensure_future(self.theirs.apply("a", Visit.clicks.add(1)))
            for _ in range(others)
        ]
        if remade:
            theirs.append(asyncio.ensure_future(self.theirs.delete("a")))
        await asyncio.sleep(0.3)
        assert not any(call.done() for call in theirs)
        relay.deliver()
        self.found += Count(await asyncio.gather(*calls))
        await asyncio.gather(*theirs)
        state = await self.theirs.get("a")
        return state.clicks if state.meta.exists else 0


@pytest.fixture(params=["portable", "pooler", "mariadb"])
def transactional(request):
    """What commits in a transaction: a client of it, and the port that leads there."""
    maria = request.param == "mariadb"
    server = request.getfixturevalue("statehold_mariadb" if maria else "statehold_postgres")
    url = server.new_database()
    if request.param != "pooler":
        yield Locked(url, portably if not maria else at, is_commit, {}), server.port
        return
    with Pgbouncer.start(server) as pooler:
        through = Locked(url, at, is_commit, {"pooler": "transaction"})
        yield through, pooler.port


@pytest.mark.parametrize(("others", "remade"), [(10, False), (900, False), (10, True)])
def test_a_commit_that_is_held_keeps_others_from_its_state(transactional, others, remade):
    """So that it comes before them all, or not at all, and what is sent again can tell."""
    play, port = transactional
    clicks = asyncio.run(play.run(port, others, remade=remade))
    assert set(play.found) <= {"written", "InDoubt"}
    if remade:  # what was sent again came before the deletion, or begins a new life, or is doubtful
        assert clicks <= CALLS * BIG + others
    else:
        assert play.found["written"] * BIG + others <= clicks <= CALLS * BIG + others


async def delivered_late(play, port):
    """What a call came to whose COMMIT is delivered after its time, and the count before and after.

    Somebody holds the row for a part of that time, so that the transaction is not silent for long.
    """
    holder = driver_at(play.url)
    async with Stuck(port) as relay:
        through = re.sub(r":\d+/", f":{relay.port}/", play.url)
        async with (
            play.opens(through, timeout=3.0, **play.settings)() as store,
            AsyncStore.open(play.url, timeout=20.0) as beside,
        ):
            visits, theirs = store.collection(Visit), beside.collection(Visit)
            await patiently(lambda: visits.apply("a", Visit.clicks.add(1)))
            async with holder.engine.connect() as other, other.begin():
                await other.execute(text("SELECT * FROM visit WHERE id = 'a' FOR UPDATE"))
                relay.holds = is_commit
                call = asyncio.ensure_future(outcome(visits.apply("a", Visit.clicks.add(BIG))))
                await asyncio.sleep(1.0)
            await until(lambda: relay.held)
            told = await call
            before = (await theirs.get("a")).clicks
            relay.deliver()
            await asyncio.sleep(0.5)
            after = (await theirs.get("a")).clicks
    await holder.close()
    return told, before, after


def test_a_commit_that_is_held_does_nothing_after_its_time(transactional):
    """Though its transaction was not silent for long: the COMMIT itself says until when."""
    play, port = transactional
    told, before, after = asyncio.run(delivered_late(play, port))
    assert (told, before, after) == ("Timeout", 1, 1)
