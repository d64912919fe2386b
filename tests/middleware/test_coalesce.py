"""Concurrent commits go down together, and each caller hears of its own."""

import asyncio
import threading
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, Log, State
from statehold.changes import Add, Append
from statehold.commits import EVERYTHING, Commit
from statehold.driver import Driver, Failed, Feature, Page, Written
from statehold.drivers.memory import MemoryDriver
from statehold.drivers.sqlite import SqliteDriver
from statehold.errors import Busy, Closed, Unavailable
from statehold.middleware.coalesce import Coalesce

NOW = 1_700_000_000.0


def add(name="a", amount=1):
    return Commit(("", "chat", name), (Add("n", "", amount),), None)


class Visit(State, ttl=60):
    turns = Counter()


class Watched(Driver):
    """Notes what is passed down; suspends or blocks for a while if told to."""

    features = frozenset({Feature.EXPECT})

    def __init__(self, *, suspends=False):
        self.suspends = suspends
        self.driver = MemoryDriver()
        self.batches = []
        self.began = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.error = None

    async def commit(self, commits, now):
        self.batches.append(len(commits))
        self.began.set()
        if self.suspends:
            await asyncio.sleep(0.001)
        assert self.gate.wait(10)
        if self.error is not None and any(commit.key[2] == "bad" for commit in commits):
            raise self.error
        return await self.driver.commit(commits, now)

    async def read(self, keys, want, now):
        return await self.driver.read(keys, want, now)

    async def scan(self, asked, now):
        return Page(())

    async def close(self):
        await self.driver.close()


WAYS = [{"suspends": False}, {"suspends": True}, {"suspends": False, "in_thread": True}]


@pytest.fixture(params=WAYS, ids=["tick", "suspending", "thread"])
def make(request):
    """A watched driver and the middleware over it."""

    def both(**kw):
        watched = Watched(suspends=request.param["suspends"])
        return watched, Coalesce(watched, in_thread=request.param.get("in_thread", False), **kw)

    return both


async def total(driver, name="a"):
    (cells,) = await driver.read([("", "chat", name)], EVERYTHING, NOW)
    return cells.fields["n"][""] if cells else 0


def test_commits_of_one_tick_are_one_batch(make):
    watched, driver = make()

    async def play():
        for _ in range(3):
            outcomes = await asyncio.gather(*(driver.commit([add()], NOW) for _ in range(64)))
        numbers = [outcome.revision.number for (outcome,) in outcomes]
        assert numbers == list(range(129, 193))
        assert await total(driver) == 192
        await driver.close()

    asyncio.run(play())
    assert watched.batches[-1] == 64
    assert len(watched.batches) <= 4


def test_batches_are_bounded_and_calls_stay_whole(make):
    watched, driver = make(max_batch=10)

    async def play():
        calls = [[add(amount=n)] * n for n in (4, 4, 4, 30, 1, 9)]
        outcomes = await asyncio.gather(*(driver.commit(call, NOW) for call in calls))
        assert [len(some) for some in outcomes] == [4, 4, 4, 30, 1, 9]
        assert await driver.commit([], NOW) == []
        await driver.close()

    asyncio.run(play())
    assert watched.batches[-4:] in ([8, 4, 30, 10], [4, 4 + 4, 30, 10])


def test_what_one_task_does_alone_is_not_delayed():
    """Without company a commit is made at once; with company the next ones gather."""
    watched = Watched()
    driver = Coalesce(watched)

    async def several():
        for _ in range(2):
            with pytest.raises(StopIteration):
                driver.commit([add()], NOW).send(None)
        assert watched.batches == [1, 1]
        await asyncio.gather(*(driver.commit([add()], NOW) for _ in range(8)))
        assert await total(driver) == 10
        await driver.close()

    asyncio.run(several())


def test_a_cancelled_caller_leaves_the_others(make):
    """Its commit is whole or not there; its neighbours never notice."""
    _, driver = make()

    async def play():
        for round_ in range(20):
            name = f"r{round_}"
            tasks = [asyncio.create_task(driver.commit([add(name)], NOW)) for _ in range(8)]
            for _ in range(round_ % 4):
                await asyncio.sleep(0)
            tasks[3].cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            written = [answer for answer in done if isinstance(answer, list)]
            assert len(written) >= 7
            assert await total(driver, name) in (len(written), 8)
        await driver.close()

    asyncio.run(play())


def test_an_error_of_the_batch_reaches_every_caller(make):
    watched, driver = make()
    watched.error = Busy("locked")

    async def play():
        await asyncio.gather(*(driver.commit([add("z")], NOW) for _ in range(3)))
        calls = [driver.commit([add(name)], NOW) for name in ("a", "bad", "b")]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Busy] * 3
        watched.error = None
        assert await total(driver) == 0
        await driver.commit([add()], NOW)
        assert await total(driver) == 1
        await driver.close()

    asyncio.run(play())


def test_each_caller_has_an_error_of_its_own(make):
    """With the class, the words, the fields and the cause of the one that there was."""
    watched, driver = make()
    cause = OSError("no route")
    watched.error = Busy("nobody answers", field="x", expected=1, found=2)
    watched.error.__cause__ = cause

    async def main():
        errors = await asyncio.gather(
            *(driver.commit([add("bad")], NOW) for _ in range(12)), return_exceptions=True
        )
        await driver.close()
        return errors

    errors = asyncio.run(main())
    assert len({id(error) for error in errors}) == 12
    for error in errors:
        assert type(error) is Busy
        assert (str(error), error.field, error.expected, error.found) == (
            "nobody answers",
            "x",
            1,
            2,
        )
        assert error.__cause__ is cause


class Down(MemoryDriver):
    """A driver whose commits suspend, and fail together."""

    suspends = True

    async def commit(self, commits, now):
        await asyncio.sleep(0)
        raise Busy("down")


def test_an_error_names_the_key_of_its_caller():
    """Whether it is read or written, alone or with others."""

    async def main():
        async with AsyncStore(Coalesce(Down())) as store:
            visits = store.collection(Visit, tenant="t")
            calls = [
                *(visits.apply(f"v{n}", Visit.turns.add(1)) for n in range(6)),
                visits.commit("v6", [Visit.turns.add(1)]),
                visits.delete("v7"),
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

    errors = asyncio.run(main())
    assert [error.key for error in errors] == [("t", "visit", f"v{n}") for n in range(8)]


@pytest.mark.parametrize("in_thread", [False, True])
def test_what_cannot_be_stored_is_its_callers_alone(tmp_path, in_thread):
    """It is an outcome, so that nothing is committed again for the others."""

    async def play():
        driver = Coalesce(SqliteDriver(tmp_path / "state.db"), in_thread=in_thread)
        calls = [driver.commit([add(name)], NOW) for name in ("a", "\ud800", "b", "\udfff")]
        ((a,), (bad,), (b,), (worse,)) = await asyncio.gather(*calls)
        assert (a.revision.number, b.revision.number) == (1, 1)
        assert (bad.reason, worse.reason) == ("value", "value")
        assert (await total(driver, "a"), await total(driver, "b")) == (1, 1)
        assert driver.stats()["transactions_total"] == 1
        await driver.close()

    asyncio.run(play())


def test_the_next_batch_gathers_while_one_is_written():
    watched = Watched()
    driver = Coalesce(watched, in_thread=True)

    async def play():
        watched.gate.clear()
        first = asyncio.create_task(driver.commit([add()], NOW))
        await asyncio.to_thread(watched.began.wait, 10)
        others = [asyncio.create_task(driver.commit([add()], NOW)) for _ in range(9)]
        await asyncio.sleep(0.01)
        assert watched.batches == [1]
        watched.gate.set()
        await asyncio.gather(first, *others)
        assert watched.batches == [1, 9]
        await driver.close()

    asyncio.run(play())


def test_close_waits_for_what_is_under_way(make):
    _, driver = make()

    async def play():
        tasks = [asyncio.create_task(driver.commit([add()], NOW)) for _ in range(5)]
        await asyncio.sleep(0)
        await driver.close()
        for outcomes in await asyncio.gather(*tasks):
            assert isinstance(outcomes[0], Written)
        await driver.close()
        with pytest.raises(Closed):
            await driver.commit([add()], NOW)

    asyncio.run(play())


@pytest.mark.parametrize("in_thread", [False, True])
def test_loops_one_after_the_other_and_at_once(tmp_path, in_thread):
    """Each loop has its own queue; none is lost, and none keeps its loop alive."""
    driver = Coalesce(SqliteDriver(tmp_path / "state.db"), in_thread=in_thread)

    async def play():
        change = (Add("n", "", 1), Append("log", (b"x",), 5))
        commit = Commit(("", "chat", "a"), change, None)
        await asyncio.gather(*(driver.commit([commit], NOW) for _ in range(20)))

    async def end():
        assert await total(driver) == 20 * 3 + 20 * 4 * 5
        await driver.close()

    for _ in range(3):
        asyncio.run(play())
    threads = [
        threading.Thread(target=lambda: [asyncio.run(play()) for _ in range(5)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(end())
    assert len(driver._queues) <= 2


def test_tasks_keep_their_order_while_the_file_is_opened(tmp_path):
    """Those that find it open do not overtake those that had to wait for that."""

    class Chat(State, ttl=timedelta(hours=1)):
        history = Log(str, keep=100)

    async def play(number):
        async with AsyncStore.open(f"sqlite:///{tmp_path}/{number}.db") as store:
            chats = store.collection(Chat)
            said = [str(n) for n in range(50)]
            await asyncio.gather(*(chats.apply("a", Chat.history.append(n)) for n in said))
            assert list((await chats.get("a")).history) == said

    for number in range(10):
        asyncio.run(play(number))


def test_a_driver_that_suspends_cannot_be_in_a_thread():
    with pytest.raises(ValueError, match="loop"):
        Coalesce(Watched(suspends=True), in_thread=True)


class Halfway(Watched):
    """Does what it is told, and fails at all commits to "bad"."""

    async def commit(self, commits, now):
        outcomes = await super().commit(commits, now)
        return [
            Failed(Busy("somebody else has it")) if commit.key[2] == "bad" else outcome
            for commit, outcome in zip(commits, outcomes, strict=True)
        ]


def test_each_caller_is_told_its_own_fate():
    """What failed for others did not fail for me; and of a call that did in part, not that all did."""

    async def main():
        gathering = Coalesce(Halfway(suspends=True))
        calls = [[add("a")], [add("bad")], [add("b"), add("bad")], [add("bad"), add("bad")]]
        found = await asyncio.gather(
            *(gathering.commit(call, NOW) for call in calls), return_exceptions=True
        )
        await gathering.close()
        return found

    mine, bad, partly, both = asyncio.run(main())
    assert isinstance(mine[0], Written)
    assert (type(bad), type(both)) == (Busy, Busy)
    assert bad is not both
    assert type(partly) is Unavailable, "which does not say that nothing was written"
