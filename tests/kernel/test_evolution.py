"""A class changes while its states are stored: added, removed, renamed and retyped fields."""

from typing import Any

import msgspec
import pytest
from sample import shown

from statehold import Counter, Log, ManualClock, Map, Register, State, Steps, Store, Turns


class Old(msgspec.Struct, frozen=True):
    name: str


class New(msgspec.Struct, frozen=True):
    first: str
    last: str


def split(value: dict[str, Any]) -> dict[str, Any]:
    first, _, last = value["name"].partition(" ")
    return {"first": first, "last": last}


class Before(State, ttl=60, kind="person"):
    who = Register(Old | None, default=None)
    friends = Map(str, Old, keep=3)
    seen = Log(Old, keep=3)
    talk = Turns(Old, keep=3)
    steps = Steps(Old, keep=3)


def retyped(**options):
    return {"version": 2, "upcast": {1: lambda value: value and split(value)}, **options}


class After(State, ttl=60, kind="person"):
    who = Register(New | None, default=None, **retyped())
    friends = Map(str, New, keep=3, **retyped())
    seen = Log(New, keep=3, **retyped())
    talk = Turns(New, keep=3, **retyped())
    steps = Steps(New, keep=3, **retyped())


ANN, BOB, CID = Old("Ann Lee"), Old("Bob Ray"), Old("Cid Poe")
ANN2, BOB2, CID2, DEE2 = New("Ann", "Lee"), New("Bob", "Ray"), New("Cid", "Poe"), New("Dee", "Doe")


@pytest.fixture
def both():
    """Collections of old and new code over the same states."""
    clock = ManualClock()
    with Store.open("memory://", clock=clock) as store, Store(store.driver, clock=clock) as other:
        yield store.collection(Before), other.collection(After)


def fill(old):
    old.apply(
        "a",
        Before.who.put(ANN),
        Before.friends.update({"bob": BOB, "cid": CID}),
        Before.seen.append(ANN, BOB),
        Before.talk.append(ANN, BOB),
        Before.talk.append(CID),
        Before.steps.put("one", ANN),
    )


def test_retyped_fields_read_as_the_new_type(both):
    old, new = both
    fill(old)
    state = new.get("a")
    assert state.who == ANN2
    assert state.friends == {"bob": BOB2, "cid": CID2}
    assert state.seen == [ANN2, BOB2]
    assert state.talk.turns == [(ANN2, BOB2), (CID2,)]
    assert state.steps == {"one": ANN2}
    assert state.meta.corrupted == []
    for name in After.__schema__.fields:
        assert shown(new.get("a", fields=[name])) == {name: shown(state)[name]}


def test_new_code_applies_blindly_on_an_old_state(both):
    old, new = both
    fill(old)
    new.apply(
        "a",
        After.who.put(DEE2),
        After.friends.put("bob", DEE2),
        After.seen.append(CID2, DEE2),
        After.talk.append(DEE2),
        After.steps.put("two", DEE2),
    )
    state = new.get("a")
    assert state.who == DEE2
    assert state.friends == {"bob": DEE2, "cid": CID2}
    assert state.seen == [BOB2, CID2, DEE2]
    assert state.talk.turns == [(ANN2, BOB2), (CID2,), (DEE2,)]
    assert state.steps == {"one": ANN2, "two": DEE2}


def test_a_session_of_new_code_stores_what_it_shows(both):
    old, new = both
    fill(old)
    with new.session("a") as state:
        state.friends["bob"] = DEE2
        del state.friends["cid"]
        state.seen.append(DEE2)
        state.talk.append(DEE2)
        state.steps["two"] = DEE2
        state.who = None
        mine = shown(state)
    assert shown(new.get("a")) == mine
    assert new.get("a").who is None
    assert "cid" not in new.get("a").friends


def test_drops_remove_older_versions_too(both):
    old, new = both
    fill(old)
    new.apply(
        "a",
        After.who.drop(),
        After.friends.drop("bob"),
        After.seen.clear(),
        After.talk.clear(),
        After.steps.clear(),
    )
    state = new.get("a")
    assert (state.who, dict(state.friends)) == (None, {"cid": CID2})
    assert (list(state.seen), list(state.talk), dict(state.steps)) == ([], [], {})
    assert old.get("a").who is None


def test_old_code_is_told_of_what_a_newer_version_wrote(both):
    old, new = both
    fill(old)
    new.apply("a", After.who.put(DEE2), After.seen.append(DEE2))
    state = old.get("a")
    assert state.who == ANN
    assert list(state.seen) == [ANN, BOB]
    assert set(state.meta.newer) == {"who", "seen"}
    assert new.get("a").meta.newer == ()


def test_a_value_that_its_upcaster_cannot_take_is_reported(both):
    old, new = both
    fill(old)

    def fail(value):
        raise ValueError(value)

    class Broken(State, ttl=60, kind="person"):
        who = Register(New | None, default=None, version=2, upcast={1: fail})
        friends = Map(str, New, keep=3, **retyped())

    with Store(new._core._driver, clock=new._core.store.clock) as store:
        state = store.collection(Broken).get("a")
        assert state.who is None
        assert state.friends["bob"] == BOB2
        assert [c.field for c in state.meta.corrupted] == ["who"]


def test_upcasters_run_one_after_the_other():
    class One(State, ttl=60, kind="n"):
        n = Register(int, default=0)
        log = Log(int, keep=9)

    class Two(State, ttl=60, kind="n"):
        n = Register(str, default="", version=2, upcast={1: str})
        log = Log(str, keep=9, version=2, upcast={1: str})

    class Three(State, ttl=60, kind="n"):
        n = Register(list[str], default=[], version=3, upcast={1: str, 2: lambda v: [v]})
        log = Log(list[str], keep=9, version=3, upcast={1: str, 2: lambda v: [v]})

    with Store.open("memory://") as one, Store(one.driver) as two, Store(one.driver) as three:
        one.collection(One).apply("a", One.n.put(1), One.log.append(1))
        assert three.collection(Three).get("a").n == ["1"]
        two.collection(Two).apply("a", Two.n.put("2"), Two.log.append("2"))
        three.collection(Three).apply("a", Three.log.append(["3"]))
        state = three.collection(Three).get("a")
        assert state.n == ["2"]
        assert list(state.log) == [["1"], ["2"], ["3"]]
        assert set(one.collection(One).get("a").meta.newer) == {"n", "log"}


def test_fields_come_and_go_and_are_renamed():
    class One(State, ttl=60, kind="shop"):
        gone = Register(str, default="")
        colour = Register(str, default="none")
        clicks = Counter()

    class Two(State, ttl=60, kind="shop"):
        shade = Register(str, default="none", stored_as="colour")
        hits = Counter(stored_as="clicks")
        added = Map(str, int, keep=3)

    with Store.open("memory://") as one, Store(one.driver) as two:
        old, new = one.collection(One), two.collection(Two)
        old.apply("a", One.gone.put("x"), One.colour.put("blue"), One.clicks.add(2))
        state = new.get("a")
        assert (state.shade, state.hits, dict(state.added)) == ("blue", 2, {})
        with new.session("a", fields=["shade", "hits"]) as state:
            state.shade = "red"
            state.hits += 1
        new.apply("a", Two.added.put("k", 1))
        assert (old.get("a").colour, old.get("a").clicks, old.get("a").gone) == ("red", 3, "x")
        assert old.get("a").meta.corrupted == []
        with pytest.raises(ValueError, match="hits"):
            new.apply("a", Two.hits.add(2**63 - 1))


def test_a_tail_of_a_retyped_log_is_as_long_as_asked():
    class One(State, ttl=60, kind="shop"):
        log = Log(int, keep=5)

    class Two(State, ttl=60, kind="shop"):
        log = Log(str, keep=5, version=2, upcast={1: str})

    with Store.open("memory://") as one, Store(one.driver) as two:
        one.collection(One).apply("a", One.log.append(1, 2, 3))
        states = two.collection(Two)
        states.apply("a", Two.log.append("4", "5", "6"))
        assert list(states.get("a", tail=2).log) == ["5", "6"]
        assert list(states.get("a", tail=4).log) == ["3", "4", "5", "6"]
        assert list(states.get_many(["a"], tail={"log": 1})["a"].log) == ["6"]
        assert list(states.apply("a", returning=["log"], tail=2).log) == ["5", "6"]


def test_the_first_result_of_a_step_stands_across_versions():
    class One(State, ttl=60, kind="job"):
        steps = Steps(int)

    class Two(State, ttl=60, kind="job"):
        steps = Steps(str, version=2, upcast={1: str})

    with Store.open("memory://") as one, Store(one.driver) as two:
        one.collection(One).apply("a", One.steps.put("pay", 1))
        states = two.collection(Two)
        with states.session("a") as state:
            state.steps["pay"] = "again"
            assert state.steps["pay"] == "1"
        assert states.get("a").steps["pay"] == "1"
