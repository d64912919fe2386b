"""Many states in memory: what is done for all of them is done in steps, and nothing looks at all."""

import copy
import gc
import pickle
import random
from bisect import bisect_left, bisect_right

import pytest

from statehold import Counter, Log, ManualClock, State, Store, Tally
from statehold.drivers.memory.kept import FREED, LOOKED_AT, SPARE
from statehold.drivers.memory.layered import Layered
from statehold.drivers.memory.listing import CHUNK, Listings


class Visit(State, ttl=600):
    turns = Counter()


class Kept(State, ttl=None):
    turns = Counter()


class Chat(State, ttl=600):
    notes = Log(bytes, keep=20)
    turns = Counter()


class Large(State, ttl=600, limit_bytes="8GiB"):
    notes = Log(bytes, keep=50_000)
    marks = Tally(str, keep=50_000)


@pytest.fixture
def clock():
    return ManualClock()


def looks(driver):
    """How many states each call from now on is looking at, in the order of their deadlines."""
    found, take = [], driver._states.buckets.next

    def counted():
        found.append(1)
        return take()

    driver._states.buckets.next = counted
    return found


@pytest.mark.parametrize("seed", range(6))
def test_ids_are_in_order_whatever_comes_and_goes(seed):
    """In chunks of bounded size, and none of them is empty."""
    rng = random.Random(seed)
    listings, stands = Listings(), []
    for step in range(12_000):
        shrinks = step // 3000 % 2
        if stands and rng.random() < (0.8 if shrinks else 0.2):
            id = stands.pop(rng.randrange(len(stands)) if seed % 2 else 0)
            listings.remove("a", id)
        else:
            id = f"{step:06d}" if seed % 3 == 0 else f"{rng.getrandbits(40):010x}"
            stands.insert(bisect_left(stands, id), id)
            listings.add("a", id)
        if step % 500 == 0:
            assert sorted(listings.all("a")) == stands
            for after in (False, True):
                low = rng.choice([*stands, "", "g"])
                high = rng.choice([None, "8", low + "1"])
                begin = (bisect_right if after else bisect_left)(stands, low)
                end = len(stands) if high is None else bisect_left(stands, high)
                page = listings.page("a", low, high, 700, after=after)
                assert page == stands[begin:end][:700]
            chunks = getattr(listings._found.get("a"), "chunks", [])
            assert all(CHUNK // 4 <= len(chunk) <= 2 * CHUNK for chunk in chunks)
    for id in stands:
        listings.remove("a", id)
    assert len(listings) == 0


def test_a_page_looks_at_no_more_states_than_it_has(clock):
    """Of a kind as of a subject, however many were born since the last one."""
    with Store.open("memory://", clock=clock) as store:
        visits = store.collection(Visit)
        for n in range(3000):
            visits.apply(f"{n * 7919 % 3000:04d}", Visit.turns.add(1), subject="ann")
        slots, looked = store.driver._states.slots, []

        class Counted(dict):
            def __getitem__(self, key):
                looked.append(key)
                return super().__getitem__(key)

            def __iter__(self):
                raise AssertionError("all states are gone through")

        store.driver._states.slots = Counted(slots)
        for about in (None, "ann"):
            ids, cursor = visits.scan_page(limit=50, subject=about)
            assert ids == [f"{n:04d}" for n in range(50)]
            for n in range(200):
                visits.apply(f"{about} {n}", Visit.turns.add(1), subject="ann")
            looked.clear()
            ids, _ = visits.scan_page(limit=50, subject=about, cursor=cursor)
            assert ids == [f"{n:04d}" for n in range(50, 100)]
            assert len(looked) == 50


@pytest.mark.parametrize("cls", [Visit, Kept])
def test_making_room_takes_a_few_steps_a_call(cls, clock):
    """Though every state was renewed; meanwhile there is little more than the budget, and then it holds."""
    with Store.open("memory://", clock=clock) as store:
        states, driver = store.collection(cls), store.driver
        for _ in range(2):
            for n in range(2000):
                states.apply(f"{n:08d}", cls.turns.add(1))
            clock.advance(100)
        budget = driver._states.budget = driver._states.most = driver.stats()["bytes"]
        looked, most = looks(driver), 0
        for n in range(100):
            looked.clear()
            states.apply(f"new {n:04d}", cls.turns.add(1))
            assert len(looked) <= LOOKED_AT
            most = max(most, driver.stats()["bytes"])
        assert (most > budget) == (cls is Visit)
        assert most < budget * (1 + 1 / SPARE)
        assert driver.stats()["bytes"] <= budget
        assert driver.stats()["evicted_total"] == 100
        assert all(states.get(f"new {n:04d}").meta.exists for n in range(100))


def test_past_its_spare_the_budget_holds_whatever_it_takes(clock):
    with Store.open("memory://", clock=clock) as store:
        states, driver = store.collection(Visit), store.driver
        for n in range(2000):
            states.apply(str(n), Visit.turns.add(1))
        driver._states.budget = driver._states.most = driver.stats()["bytes"] // 2
        states.apply("new", Visit.turns.add(1))
        assert driver.stats()["bytes"] <= driver._states.budget * (1 + 1 / SPARE)
        for _ in range(2):
            states.apply("new", Visit.turns.add(1))
        assert driver.stats()["bytes"] <= driver._states.budget
        assert driver.stats()["states"] < 1001


def test_what_came_to_be_kept_for_ever_is_not_the_next_to_go(clock):
    """It was to expire when it was first written."""
    with Store.open("memory://", clock=clock) as store:
        kept, driver = store.collection(Kept), store.driver
        for n in range(10):
            kept.apply(f"short {n}", Kept.turns.add(1), ttl=60)
        kept.apply("short 0", Kept.turns.add(1))
        kept.apply("long", Kept.turns.add(1), ttl=3600)
        driver._states.budget = driver._states.most = driver.stats()["bytes"] - 8 * 900
        kept.apply("new", Kept.turns.add(1))
        kept.apply("new", Kept.turns.add(1))
        assert kept.get("short 0").meta.exists
        assert not kept.get("short 1").meta.exists


def test_a_huge_state_is_freed_in_pieces(clock):
    """By the calls that come after, and it stays whole for whoever has read it."""
    with Store.open("memory://", clock=clock) as store:
        large, kept, driver = store.collection(Large), store.collection(Kept), store.driver
        large.apply("a", *[Large.notes.append(bytes(200)) for _ in range(4 * FREED + 10)])
        kept.apply("b", Kept.turns.add(1))
        read = large.get("a")
        large.delete("a")
        left = [sum(map(len, driver._states.left))]
        while left[-1]:
            assert kept.get("b").turns == 1
            left.append(sum(map(len, driver._states.left)))
        assert left == [max(0, 4 * FREED + 10 - n * FREED) for n in range(6)]
        assert len(read.notes) == 4 * FREED + 10
        assert driver._states.buckets.due == driver._states.buckets.earliest
        assert driver.stats()["bytes"] < 2000


def test_states_are_looked_at_when_they_are_due_though_there_is_something_to_free(clock):
    with Store.open("memory://", clock=clock) as store:
        large, kept, driver = store.collection(Large), store.collection(Kept), store.driver
        for n in range(10):
            kept.apply(str(n), Kept.turns.add(1))
        large.apply("a", *[Large.notes.append(bytes(200)) for _ in range(4 * FREED)])
        large.delete("a")
        looked = looks(driver)
        for n in range(3):
            kept.get(str(n))
        assert not looked


@pytest.mark.parametrize("seed", range(8))
def test_a_layered_field_is_as_a_dict(seed):
    """Each version stays as it was, whatever is done to those made of it."""
    rng = random.Random(seed)
    plain = {f"{n:03d}": n for n in range(rng.choice([65, 200, 900]))}
    now, versions = Layered.of(plain), []
    for _ in range(200):
        versions.append((now, dict(plain)))
        if rng.random() < 0.2:
            now = versions[rng.randrange(len(versions))][0]
        now, plain = now.copy(), dict(now.items())
        for _ in range(rng.randrange(4)):
            entry = f"{rng.randrange(1000):03d}"
            if rng.random() < 0.5:
                now[entry] = plain[entry] = rng.randrange(99)
            elif entry in plain:
                del now[entry], plain[entry]
        if type(now) is dict:
            now = Layered.of(now)
        entry = f"{rng.randrange(1000):03d}"
        assert (len(now), now.get(entry), entry in now) == (
            len(plain),
            plain.get(entry),
            entry in plain,
        )
        assert now == plain
        assert now.lowest() == min(plain)
        assert (
            {**now} == dict(now) == plain == copy.deepcopy(now) == pickle.loads(pickle.dumps(now))
        )
    for version, was in versions:
        assert version == was
        assert sorted(version) == sorted(was)
    with pytest.raises(KeyError):
        now["none"]


def test_a_read_and_then_a_change_copy_few_entries(clock):
    """Of a large field: what is over those that all versions share."""
    with Store.open("memory://", clock=clock) as store:
        large, driver = store.collection(Large), store.driver
        large.apply("a", *[Large.marks.add(f"{n:05d}", 1) for n in range(10_000)])
        below = set()
        for n in range(300):
            assert large.get("a").marks[f"{n:05d}"] == 1
            large.apply("a", Large.marks.add(f"{n:05d}", 1))
            cell = driver._states.slots["", "large", "a"].cells.fields["marks"]
            below.add(id(cell._below))
            assert len(cell._over) <= 1 + (8 * 10_000) ** 0.5
        assert len(below) <= 3
        assert [large.get("a").marks[f"{n:05d}"] for n in (0, 299, 300)] == [2, 2, 1]


def test_pythons_collector_walks_two_objects_of_a_state(clock):
    """Its fields and the list, whose items lie in a tuple; with twenty thousand that is its time."""
    with Store.open("memory://", clock=clock) as store:
        chats = store.collection(Chat)
        chats.apply("first", Chat.notes.append(b"x"), Chat.turns.add(1))
        gc.collect()
        before = len(gc.get_objects())
        for n in range(1000):
            for _ in range(3):
                chats.apply(f"{n}", Chat.notes.append(b"x"), Chat.turns.add(1), subject="ann")
        gc.collect()
        assert len(gc.get_objects()) - before < 2100


@pytest.mark.parametrize("second", range(1, 40, 3))
def test_an_interrupt_while_another_is_mended_loses_nothing(clock, monkeypatch, second):
    """Ctrl-C twice: what is left to mend is mended by the next call."""
    with Store.open("memory://", clock=clock) as store:
        chats = store.collection(Chat)
        for at in range(40):
            chats.apply(f"{at:02}", Chat.turns.add(1), subject=f"s{at % 3}")
        add, left = Listings.add, [1, second]

        def interrupted(self, about, id):
            left[0] -= 1
            if left[0] == 0:
                left[:] = left[1:] or [-1]
                raise KeyboardInterrupt
            add(self, about, id)

        with monkeypatch.context() as patched:
            patched.setattr(Listings, "add", interrupted)
            with pytest.raises(KeyboardInterrupt):
                chats.apply("new", Chat.turns.add(1))
        assert left == [-1]
        assert list(chats.scan()) == [f"{at:02}" for at in range(40)]
        assert len(list(chats.find("s0"))) == 14
        assert chats.get("07").turns == 1
        clock.advance(601)
        assert list(chats.scan()) == []
        assert store.driver.stats()["bytes"] == store.driver._states.past.nbytes()
