"""Threads that commit at the same time share a transaction, and each gets its own answer."""

import threading
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, State, Store
from statehold.backends import open_for_threads
from statehold.changes import Add
from statehold.commits import EVERYTHING, Commit, Revision
from statehold.driver import Driver, Refused, Written
from statehold.drivers.memory import MemoryDriver
from statehold.drivers.sqlite import SqliteDriver
from statehold.engine import run_now
from statehold.errors import Full, Unavailable
from statehold.middleware.following import Following
from statehold.middleware.wrapper import Wrapper
from statehold.testing.children import in_fork

NOW = 1_700_000_000.0


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()


class Slow(Wrapper):
    """Its first call lasts until it is let go; each call's commits are counted."""

    def __init__(self, inner, wrong=None):
        super().__init__(inner)
        self.calls = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.wrong = wrong

    async def passed(self, commits, now, on):
        self.calls.append([commit.key[2] for commit in commits])
        if len(self.calls) == 1:
            self.begun.set()
            assert self.go.wait(10)
        if self.wrong is not None and len(self.calls) == 2:
            raise self.wrong
        return await on(commits, now)


def add(id, **kw):
    return Commit(("", "chat", id), (Add("n", "", 1),), 60.0, **kw)


def playing(slow, calls, following=None):
    """What each call came to, the first made alone and the others while it lasts."""
    following = following or Following(slow)
    came = {}

    def call(name, work):
        try:
            came[name] = run_now(work(following))
        except BaseException as error:  # noqa: BLE001  it is the answer
            came[name] = error

    threads = [threading.Thread(target=call, args=each) for each in calls.items()]
    threads[0].start()
    assert slow.begun.wait(10)
    for count, thread in enumerate(threads[1:], 1):
        thread.start()
        while len(following._waiting) < count and thread.is_alive():
            pass
    slow.go.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert following._leader is None
    assert following._waiting == []
    return came


def commits(*ids):
    return {id: lambda f, at=id: f.commit([add(at)], NOW) for id in ids}


def test_what_comes_meanwhile_goes_down_together():
    slow = Slow(MemoryDriver())
    came = playing(slow, commits(*"abcdefgh"))
    assert slow.calls == [["a"], list("bcdefgh")]
    assert all(type(outcome) is Written for (outcome,) in came.values())


def test_what_stands_together_goes_down_alone():
    slow = Slow(MemoryDriver())
    together = {"t": lambda f: f.commit_together([add("x"), add("y")], NOW)}
    playing(slow, commits("a", "b") | together | commits("c", "d"))
    assert slow.calls == [["a"], ["b"], ["x", "y"], ["c", "d"]]


def test_batches_are_bounded_and_calls_stay_whole():
    slow = Slow(MemoryDriver())
    two = {id: lambda f, at=id: f.commit([add(at), add(at)], NOW) for id in "bcde"}
    playing(slow, commits("a") | two, Following(slow, max_batch=5))
    assert slow.calls == [["a"], list("bbcc"), list("ddee")]


def test_each_thread_is_told_its_own_fate():
    """An error of the batch reaches each of its callers, as an error of its own."""
    slow = Slow(MemoryDriver(), Full("no room"))
    came = playing(slow, commits(*"abcd"))
    assert type(came["a"][0]) is Written
    errors = [came[id] for id in "bcd"]
    assert {type(error) for error in errors} == {Full}
    assert len(set(map(id, errors))) == 3


def test_what_cannot_be_stored_is_its_callers_alone(tmp_path):
    slow = Slow(SqliteDriver(tmp_path / "state.db"))
    bad = {"x": lambda f: f.commit([Commit(("", "chat", "\ud800"), (), 60.0)], NOW)}
    came = playing(slow, commits("a", "b") | bad | commits("c"))
    assert type(came["x"][0]) is Refused
    assert [type(came[id][0]) for id in "abc"] == [Written] * 3
    run_now(slow.close())


def test_an_interrupt_is_its_threads_alone():
    """Nobody knows what it left done, so the others' commits are not made again; whoever comes next goes on."""
    slow = Slow(MemoryDriver(), KeyboardInterrupt())
    following = Following(slow)
    came = playing(slow, commits(*"abcd"), following)
    assert type(came["b"]) is KeyboardInterrupt
    assert type(came["a"][0]) is Written
    assert [type(came[id]) for id in "cd"] == [Unavailable] * 2
    assert slow.calls == [["a"], ["b", "c", "d"]]
    assert type(run_now(following.commit([add("e")], NOW))[0]) is Written


def test_the_main_thread_leads_for_itself_alone():
    """Where signals come, nothing of another thread is under way."""
    slow = Slow(MemoryDriver())
    following = Following(slow)
    threads = [
        threading.Thread(target=lambda at=id: run_now(following.commit([add(at)], NOW)))
        for id in "bcd"
    ]

    def others():
        assert slow.begun.wait(10)
        for count, thread in enumerate(threads, 1):
            thread.start()
            while len(following._waiting) < count:
                pass
        slow.go.set()

    starter = threading.Thread(target=others)
    starter.start()
    run_now(following.commit([add("a")], NOW))
    for thread in (starter, *threads):
        thread.join(10)
    assert slow.calls == [["a"], ["b", "c", "d"]]


def test_a_process_that_was_forked_off_waits_for_nobody():
    """Threads of the parent that lead or wait have not come along."""
    slow = Slow(MemoryDriver())
    following = Following(slow)
    thread = threading.Thread(target=lambda: run_now(following.commit([add("a")], NOW)))
    thread.start()
    assert slow.begun.wait(10)

    def child():
        following.inner = MemoryDriver()
        return type(run_now(following.commit([add("b")], NOW))[0]).__name__

    assert in_fork(child) == "Written"
    slow.go.set()
    thread.join(10)


def test_draining_waits_for_who_waits():
    """Who leads, and who follows: they are over by then, or it says that they are not."""
    slow = Slow(MemoryDriver())
    following = Following(slow)
    done = []

    def call(id):
        done.append(type(run_now(following.commit([add(id)], NOW))[0]))

    threads = [threading.Thread(target=call, args=(id,)) for id in "abc"]
    threads[0].start()
    assert slow.begun.wait(10)
    for count, thread in enumerate(threads[1:], 1):
        thread.start()
        while len(following._waiting) < count:
            pass
    assert not run_now(following.drain(0.05))
    slow.go.set()
    assert run_now(following.drain(10.0))
    for thread in threads:
        thread.join(10)
    assert done == [Written] * 3


def test_a_store_of_threads_loses_nothing(tmp_path):
    """With a flush to disk for each group; and both stores over one file at once."""
    with Store.open(f"sqlite:///{tmp_path}/state.db?synchronous=FULL") as store:
        assert isinstance(store.driver, Following)
        chats = store.collection(Chat)
        made = []

        def work(me):
            made.extend(chats.apply(f"s{n % 3}", Chat.turns.add(1)) for n in range(60))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(made)) == 360
        assert all(type(one) is Revision for one in made)
        assert sum(chats.get(f"s{n}").turns for n in range(3)) == 360
        stats = store.driver.stats()
        assert stats["commits_total"] == 360
        assert stats["transactions_total"] <= 360
        shared = store.asynchronous()
        assert isinstance(shared, AsyncStore)
        assert not isinstance(shared.driver.inner, Following)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/state.db"])
def test_nothing_lies_over_what_needs_no_flush(url, tmp_path):
    driver = open_for_threads(url.format(tmp_path))
    assert type(driver) in (MemoryDriver, SqliteDriver)
    run_now(driver.close())


def test_a_driver_that_suspends_belongs_to_its_loop():
    class Suspends(MemoryDriver):
        suspends = True

    with pytest.raises(ValueError, match="event loop"):
        Following(Suspends())


def test_reading_passes_through():
    driver = MemoryDriver()
    following = Following(driver)
    assert isinstance(following, Driver)
    run_now(following.commit([add("a")], NOW))
    (cells,) = run_now(following.read([("", "chat", "a")], EVERYTHING, NOW))
    assert cells.fields == {"n": {"": 1}}
