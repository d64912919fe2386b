"""What a call waited for counts: it goes by the time after that, and only if it is wanted still."""

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, Log, ManualClock, State, Store
from statehold.changes import Append
from statehold.clock import AMBIENT
from statehold.commits import EVERYTHING, Commit, Want
from statehold.drivers.memory import MemoryDriver
from statehold.drivers.sqlite import SqliteDriver
from statehold.engine import run_now

NOW = 1_700_000_000.0
KEY = ("", "chat", "a")
FOR = 0.3
"""Seconds for which somebody else is at it, in these tests."""


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()
    history = Log(str, keep=100)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@contextlib.contextmanager
def held(path):
    """Another connection is writing."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def opened(name, path):
    return MemoryDriver() if name == "memory" else SqliteDriver(path)


def busy(driver, path):
    """Somebody else is at it, for a while from now on. Returns what waits for the end of that."""
    begun = threading.Event()

    def work():
        with driver.lock if isinstance(driver, MemoryDriver) else held(path):
            if isinstance(driver, MemoryDriver):
                driver._busy = True
            begun.set()
            time.sleep(FOR)
            if isinstance(driver, MemoryDriver):
                driver._busy = False

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(10)
    return thread.join


def append(ttl=FOR / 2, **more):
    return Commit(KEY, (Append("log", (b"x",), 9),), ttl, **more)


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize("name", ["memory", "sqlite"])
def test_a_commit_that_waited_does_not_resurrect(name, together, path):
    """Meanwhile the state has ended, and others may have seen that."""
    driver = opened(name, path)
    ((first,)) = run_now(driver.commit([append()], NOW))
    join = busy(driver, path)
    call = driver.commit_together if together else driver.commit
    ((second,)) = run_now(call([append()], NOW + 0.01))
    join()
    assert second.revision.incarnation != first.revision.incarnation
    assert second.revision.number == 1
    assert second.updated >= NOW + 0.01 + FOR / 2
    assert second.deadline == pytest.approx(second.updated + FOR / 2)
    (cells,) = run_now(driver.read([KEY], EVERYTHING, second.updated))
    assert list(cells.fields["log"]) == [b"x"]
    run_now(driver.close())


@pytest.mark.parametrize("name", ["memory", "sqlite"])
def test_what_may_be_done_until_then_is_late(name, path):
    """The time by which a commit is to be made is past when its turn comes."""
    driver = opened(name, path)
    run_now(driver.commit([append(60.0)], NOW))
    join = busy(driver, path)
    (outcome,) = run_now(driver.commit([append(60.0, until=NOW + FOR / 2)], NOW))
    join()
    assert type(outcome).__name__ == "Late"
    run_now(driver.close())


@pytest.mark.parametrize("name", ["memory", "sqlite"])
def test_a_renewal_that_waited_does_not_resurrect(name, path):
    """What was read before its end is not renewed after it."""
    driver = opened(name, path)
    run_now(driver.commit([append()], NOW))
    join = busy(driver, path)
    run_now(driver.read([KEY], Want(renew=(60.0, None)), NOW + FOR / 4))
    join()
    assert run_now(driver.read([KEY], EVERYTHING, NOW + 2 * FOR)) == [None]
    run_now(driver.close())


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_what_waits_in_the_queue_does_not_resurrect(synchronous, path):
    """Nor what waits for those who wait."""

    async def play():
        url = f"sqlite:///{path}?synchronous={synchronous}"
        async with AsyncStore.open(url, clock=ManualClock(NOW)) as store:
            chats = store.collection(Chat)
            ids = [f"c{n}" for n in range(5)]
            first = [await chats.apply(id, Chat.turns.add(1), ttl=FOR / 2) for id in ids]
            with held(path):
                tasks = []
                for id in ids:
                    tasks.append(asyncio.create_task(chats.apply(id, Chat.turns.add(1))))
                    await asyncio.sleep(0.005)
                await asyncio.sleep(FOR)
            second = await asyncio.gather(*tasks)
            for one, two in zip(first, second, strict=True):
                assert one.incarnation != two.incarnation

    asyncio.run(play())


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_what_nobody_waits_for_is_not_done(synchronous, together, path):
    """Cancelled while another process writes, a commit does not come after all."""

    async def play():
        async with AsyncStore.open(f"sqlite:///{path}?synchronous={synchronous}") as store:
            chats = store.collection(Chat)
            await chats.apply("first", Chat.turns.add(1))
            with held(path):
                for id in ("a", "b"):
                    call = chats.apply(id, Chat.turns.add(1))
                    if together:
                        call.close()
                        step = chats.step(id, Chat.turns.add(1))
                        call = store.apply_together(step, chats.step("c"))
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(call, 0.05)
                last = asyncio.create_task(chats.apply("last", Chat.turns.add(1)))
                await asyncio.sleep(0.05)
            await last
            assert sorted([id async for id in chats.scan()]) == ["first", "last"]

    asyncio.run(play())


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_a_deletion_together_overtakes_nothing(synchronous, path):
    """What was said before is done before, also if nobody waits for it any more."""

    async def play():
        async with AsyncStore.open(f"sqlite:///{path}?synchronous={synchronous}") as store:
            chats = store.collection(Chat)
            await chats.apply("w", Chat.turns.add(1))
            for n in range(20):
                id = f"k{n}"
                await chats.apply(id, Chat.turns.add(1))
                others = [
                    asyncio.create_task(chats.apply(f"o{k}", Chat.history.append("x" * 20_000)))
                    for k in range(3)
                ]
                for _ in range(n % 4):
                    await asyncio.sleep(0)
                task = asyncio.create_task(chats.apply(id, Chat.turns.add(1)))
                await asyncio.sleep(0)
                if n % 2:
                    task.cancel()
                await store.apply_together(chats.step(id, delete=True), chats.step("w"))
                await asyncio.gather(task, *others, return_exceptions=True)
                assert not (await chats.get(id)).meta.exists

    asyncio.run(play())


@pytest.mark.parametrize("call", ["apply", "together", "touch"])
@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_draining_waits_for_what_waits(synchronous, call, path):
    """For another process, in whatever call: it is over when all is said to be."""

    async def play():
        async with AsyncStore.open(f"sqlite:///{path}?synchronous={synchronous}") as store:
            chats = store.collection(Chat)
            await chats.apply("w", Chat.turns.add(1))
            calls = {
                "apply": lambda: chats.apply("a", Chat.turns.add(1)),
                "together": lambda: store.apply_together(chats.step("a"), chats.step("w")),
                "touch": lambda: chats.touch("w", ttl=60),
            }
            with held(path):
                task = asyncio.create_task(calls[call]())
                await asyncio.sleep(0.05)
                assert await store.drain(0.05) is False
                assert not task.done()
            assert await store.drain(5) is True
            assert task.done()
            await task

    asyncio.run(play())


def test_draining_waits_for_the_calls_of_other_threads(path):
    """Those of the synchronous API, where the backend does not suspend."""
    store = Store.open(f"sqlite:///{path}")
    chats = store.collection(Chat)
    chats.apply("w", Chat.turns.add(1))
    with held(path):
        threads = [
            threading.Thread(target=chats.apply, args=("a", Chat.turns.add(1))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        assert store.drain(0.05) is False
    assert store.drain(5) is True
    for thread in threads:
        thread.join(1)
    store.close()
    with Store.open(f"sqlite:///{path}") as again:
        assert again.collection(Chat).get("a").turns == 3


def test_draining_memory_waits_for_other_threads():
    driver = MemoryDriver()
    join = busy(driver, None)
    assert run_now(driver.drain(0.01)) is False
    assert run_now(driver.drain(5)) is True
    join()
    run_now(driver.close())


@pytest.mark.parametrize("commits", [1, 10, 63])
def test_stores_that_are_opened_for_a_few_commits_sweep_as_well(commits, path, monkeypatch):
    """In proportion to what they write: what has ended goes, be it states, erasures or fences."""
    monkeypatch.setattr(AMBIENT, "fraction", random.Random(commits).random)
    now = NOW
    for number in range(1920 // commits):
        driver = SqliteDriver(path)
        for n in range(commits):
            now += 1.0
            key = ("", "chat", f"{number}.{n}")
            commit = Commit(key, (Append("log", (b"x",), 9),), 5.0, op="x", epoch=1)
            run_now(driver.commit([commit], now))
            if n % 2:
                run_now(driver.commit([Commit(key, (), None, op="y", epoch=1, erase=True)], now))
        run_now(driver.close())
    with contextlib.closing(sqlite3.connect(path)) as conn:
        counts = {
            table: conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("state", "item", "op", "erased", "fence")
        }
    assert max(counts.values()) < 900, counts
