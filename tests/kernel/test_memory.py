"""The memory driver's own promises: expiry without scanning, a budget, nothing that grows."""

import asyncio
import gc
import random
import threading

import pytest

from statehold import (
    Closed,
    ConfigError,
    Counter,
    Invalid,
    Log,
    ManualClock,
    Map,
    Register,
    State,
    Store,
)
from statehold.changes import Add
from statehold.commits import HOLD_SECONDS, Commit
from statehold.driver import Doubtful
from statehold.drivers.memory import MemoryDriver
from statehold.drivers.sqlite import SqliteDriver
from statehold.testing import Backend, Rig
from statehold.testing.children import REFUSED, in_fork


class Visit(State, ttl=60):
    turns = Counter()
    note = Register(bytes, default=b"", max_bytes=100_000)
    notes = Log(bytes, keep=3)


class Kept(State, ttl=None):
    turns = Counter()


class Read(State, ttl=60, max_age=150, renew_on_read=True):
    turns = Counter()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def store(clock):
    with Store.open("memory://", clock=clock) as store:
        yield store


def stats(store):
    return store.driver.stats()


def test_a_million_seconds_later_everything_is_gone(store, clock):
    visits, kept = store.collection(Visit), store.collection(Kept)
    for n in range(300):
        visits.apply(str(n), Visit.turns.add(1), subject=["ann", f"run {n}"])
        clock.advance(0.1)
    kept.apply("a", Kept.turns.add(1))
    clock.advance(10**6)
    assert list(visits.scan()) == list(visits.find("ann")) == []
    assert not visits.get("7").meta.exists
    for _ in range(300):  # each call lets go of a few
        kept.get("a")
    assert stats(store)["states"] == 1
    assert stats(store)["expired_total"] == 300
    driver = store.driver
    assert len(driver._states.buckets) <= 1
    assert len(driver._states.subjects) == 0


def test_no_single_call_pays_for_all_that_expires(store, clock):
    visits = store.collection(Visit)
    for n in range(1000):
        visits.apply(str(n), Visit.turns.add(1))
    clock.advance(61)
    before = stats(store)["states"]
    visits.get("none")
    assert 0 < before - stats(store)["states"] < 200


def test_renewals_leave_nothing_behind(store, clock):
    visits = store.collection(Visit)
    for _ in range(2000):
        visits.apply("a", Visit.turns.add(1))
        clock.advance(1)
    assert visits.get("a").turns == 2000
    assert store.driver._states.buckets.states() == 1
    assert len(store.driver._states.buckets._order) == len(store.driver._states.buckets)
    clock.advance(60)
    assert not visits.get("a").meta.exists


def test_reading_renews_within_the_longest_life(store, clock):
    reads = store.collection(Read)
    start = clock.now()
    reads.apply("a", Read.turns.add(1))
    for _ in range(2):
        clock.advance(50)
        reads.get("a")
    assert reads.get("a").meta.expires == start + 150
    clock.advance(49)
    assert reads.get("a").meta.exists
    clock.advance(1)
    assert not reads.get("a").meta.exists


def test_what_expired_does_not_come_back(store, clock):
    visits = store.collection(Visit)
    first = visits.apply("a", Visit.turns.add(5), Visit.notes.append(b"x"), op="op", subject="ann")
    clock.advance(60)
    assert not visits.touch("a")
    again = visits.apply("a", Visit.turns.add(1), op="op")
    assert again.incarnation != first.incarnation
    state = visits.get("a")
    assert (state.turns, list(state.notes), state.meta.subject) == (1, [], None)
    assert list(visits.find("ann")) == []


def test_a_clock_that_goes_back_loses_nothing(store, clock):
    visits = store.collection(Visit)
    visits.apply("a", Visit.turns.add(1))
    clock.advance(-30)
    visits.apply("a", Visit.turns.add(1))
    state = visits.get("a")
    assert (state.turns, state.meta.age) == (2, 0)
    clock.advance(59)
    assert visits.get("a").meta.exists
    clock.advance(2)
    assert not visits.get("a").meta.exists


def test_the_budget_holds_and_eviction_is_counted(clock):
    with Store.open("memory://", clock=clock, max_bytes="1MiB") as store:
        visits, kept = store.collection(Visit), store.collection(Kept)
        kept.apply("for ever", Kept.turns.add(1))
        for n in range(100):
            visits.apply(str(n), Visit.note.put(b"x" * 80_000), subject="ann")
            clock.advance(0.25)
            assert stats(store)["bytes"] <= 1 << 20
        found = stats(store)
        assert found["evicted_total"] == 100 + 1 - found["states"]
        assert found["expired_total"] == 0
        assert kept.get("for ever").meta.exists  # what expires soonest goes first
        alive = [n for n in range(100) if visits.get(str(n)).meta.exists]
        assert alive == list(range(100 - len(alive), 100))
        assert sorted(visits.find("ann")) == sorted(map(str, alive))
        assert sorted(visits.scan()) == sorted(map(str, alive))


def test_a_renewed_state_is_not_evicted_first(clock):
    with Store.open("memory://", clock=clock, max_bytes=500_000) as store:
        visits = store.collection(Visit)
        visits.apply("old", Visit.turns.add(1))
        for n in range(50):
            clock.advance(1)
            visits.apply("old", Visit.turns.add(1))
            visits.apply(str(n), Visit.note.put(b"x" * 60_000))
        assert visits.get("old").turns == 51


def test_a_state_over_the_budget_is_kept_alone(clock):
    with Store.open("memory://", clock=clock, max_bytes=1000) as store:
        visits = store.collection(Visit)
        for name in "abc":
            visits.apply(name, Visit.note.put(b"x" * 60_000))
            assert [n for n in "abc" if visits.get(n).meta.exists] == [name]
        assert stats(store)["evicted_total"] == 2
        visits.delete("c")
        assert stats(store)["bytes"] == 0


def test_bytes_are_accounted_for_to_the_last(store, clock):
    """Whatever is done, what is counted is what is there; and nothing when nothing is."""

    class Mixed(State, ttl=60, ops=4):
        note = Register(str, default="", max_bytes=100)
        marks = Map(str, str, keep=4)
        turns = Counter()
        notes = Log(str, keep=5)

    rng = random.Random(3)
    mixed = store.collection(Mixed)
    for _ in range(3000):
        name = rng.choice("abcdef")
        edits = [
            Mixed.note.put("x" * rng.randrange(50)),
            Mixed.note.drop(),
            Mixed.marks.put(rng.choice("abcdef"), "x" * rng.randrange(50)),
            Mixed.marks.put(rng.choice("abcdef"), "x", if_absent=True),
            Mixed.marks.drop(rng.choice("abcdef")),
            Mixed.marks.clear(),
            Mixed.turns.add(1),
            Mixed.turns.set(3),
            Mixed.turns.add(2**62),
            Mixed.notes.append(*["x" * rng.randrange(20)] * rng.randrange(8)),
            Mixed.notes.clear(),
        ]
        mixed.apply_many([(name, rng.sample(edits, rng.randrange(1, 4)))])
        if rng.random() < 0.05:
            mixed.delete(name)
        clock.advance(rng.random() * 10)
    for name in "abcdef":
        mixed.delete(name)
    assert (stats(store)["states"], stats(store)["bytes"]) == (0, 0)


@pytest.mark.parametrize("cls", [Visit, Kept])
def test_states_that_come_and_go_leave_nothing_behind(store, cls):
    states = store.collection(cls)
    for n in range(3000):
        states.apply(str(n % 7), cls.turns.add(1), subject=["ann", f"{n}"] if n % 2 else "ann")
        states.delete(str(n % 7))
        if n % 100 == 0:
            list(states.scan())
    driver = store.driver
    assert driver.stats()["bytes"] == 0
    assert len(driver._states.subjects) == 0
    assert driver._states.buckets.states() < 1000
    assert len(driver._states.ids) == 0


def test_a_deleted_state_leaves_no_work_behind(store, clock):
    """No call looks at states when none is due."""
    visits, kept = store.collection(Visit), store.collection(Kept)
    visits.apply("early", Visit.turns.add(1))
    for n in range(100):
        kept.apply(str(n), Kept.turns.add(1))
    visits.delete("early")
    clock.advance(61)
    for _ in range(3):  # whatever there is to tidy up
        kept.get("0")
    looked, take = [], store.driver._states.buckets.next
    store.driver._states.buckets.next = lambda: looked.append(1) or take()
    for _ in range(20):
        kept.get("0")
    assert len(looked) <= 20


def test_refused_commits_leave_nothing_behind(store):
    visits = store.collection(Visit)
    visits.apply("a", Visit.turns.add(2**63 - 1))
    before = stats(store)["bytes"]
    for _ in range(500):
        visits.apply_many([("a", [Visit.notes.append(b"x"), Visit.turns.add(1)])])
        visits.apply_many([("new", [Visit.turns.add(2**62), Visit.turns.add(2**62)])])
    assert stats(store) | {"bytes": before, "states": 1} == stats(store)
    slot = store.driver._states.slots["", "visit", "a"]
    for attribute in slot.__slots__:
        value = getattr(slot, attribute, None)
        if hasattr(value, "__len__"):
            assert len(value) < 10


def test_scans_page_while_states_come_and_go(store):
    visits = store.collection(Visit)
    stays = [f"{n:04d}" for n in range(0, 1000, 2)]
    for name in stays:
        visits.apply(name, Visit.turns.add(1))
    found = []
    for n, name in enumerate(visits.scan(page_size=10)):
        found.append(name)
        visits.apply(f"{(n * 7) % 1000 | 1:04d}", Visit.turns.add(1))
        visits.delete(f"{(n * 3) % 1000 | 1:04d}")
    assert [name for name in found if name in set(stays)] == stays
    assert len(found) == len(set(found))


@pytest.mark.parametrize("size", [0, -1])
def test_a_budget_is_over_zero(size):
    with pytest.raises(ConfigError):
        MemoryDriver(max_bytes=size)
    with pytest.raises(ConfigError):
        Store.open("memory://", max_bytes=size)


def test_a_cursor_is_of_one_listing(store):
    """Another tenant's, kind's or subject's would skip states without a word."""
    listings = [
        (store.collection(Visit, tenant="one"), None),
        (store.collection(Visit, tenant="two"), None),
        (store.collection(Kept, tenant="one"), None),
        (store.collection(Visit, tenant="one"), "ann"),
        (store.collection(Visit, tenant="one"), "bob"),
    ]
    for states, subject in listings:
        for n in range(4):
            states.apply(f"{subject} {n}", type_of(states).turns.add(1), subject=subject)
    for states, subject in listings:
        _, cursor = states.scan_page(limit=2, subject=subject)
        assert len(states.scan_page(limit=100, cursor=cursor, subject=subject)[0]) >= 2
        for others, about in listings:
            if (others.schema.kind, others._core.tenant, about) != (
                states.schema.kind,
                states._core.tenant,
                subject,
            ):
                with pytest.raises(Invalid, match="cursor"):
                    others.scan_page(cursor=cursor, subject=about)
    for none in ("+a", cursor[:8] + "/w==", cursor[:8] + "gICA"):
        with pytest.raises(Invalid, match="cursor"):
            others.scan_page(cursor=none, subject=about)


def type_of(states):
    return states._core.cls


def test_a_fork_waits_for_the_commit_under_way(store):
    """The child of a process whose other threads commit has whole states, and no shut lock."""
    visits = store.collection(Kept)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            visits.apply("busy", Kept.turns.add(1))

    def child():
        before = visits.get("busy")
        visits.apply("busy", Kept.turns.add(1))
        after = visits.get("busy")
        assert after.meta.revision.number == before.meta.revision.number + 1 == after.turns
        return after.turns

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        found = [in_fork(child) for _ in range(15)]
        assert in_fork(gc.collect) >= 0  # once: it touches all that this process has
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert found == sorted(found)
    assert visits.get("busy").turns >= found[-1] - 1


def test_a_fork_in_the_midst_of_a_commit_of_its_own_is_refused_in_the_child(store):
    """As a signal handler may do it: nobody waits for ever, and the parent goes on."""
    visits = store.collection(Kept)
    visits.apply("a", Kept.turns.add(1))
    found = []

    class Forks:
        field = "turns"

        def into(self, cells, own):
            found.append(in_fork(lambda: visits.get("a").turns))
            found.append(in_fork(lambda: list(visits.scan())))
            return 0

    asyncio.run(store.driver.commit([Commit(("", "Kept", "b"), (Forks(),), None)], 1.0))
    assert found == [REFUSED, REFUSED]
    visits.apply("a", Kept.turns.add(1))
    assert visits.get("a").turns == 2
    store.close()
    with pytest.raises(Closed):
        visits.get("a")


@pytest.mark.parametrize("open_driver", [MemoryDriver, lambda: SqliteDriver("late.db")])
def test_an_erasure_that_nobody_need_remember_is_in_doubt(open_driver, tmp_path, monkeypatch):
    """An erasure is remembered for a minute; who repeats one that was sent before is told so."""
    monkeypatch.chdir(tmp_path)
    rig = Rig(Backend(open_driver))
    stood = rig.write(Add("sum", "k", 1)).revision
    long_ago = rig.now - 2 * HOLD_SECONDS
    assert rig.erase(op="op 2", since=long_ago) == Doubtful()
    assert rig.stands().revision == stood
    rig.close()
