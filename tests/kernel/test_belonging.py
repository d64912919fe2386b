"""What is of a class, and what is not: edits, conditions, steps."""

from datetime import timedelta

import pytest
from sample import Everything, Message, opened

from statehold import (
    Counter,
    DecayedMean,
    Invalid,
    Log,
    SetOf,
    State,
    Turns,
    Vector,
    Window,
)

E = Everything


@pytest.fixture
def collection():
    with opened() as (collection, _):
        yield collection


class Other(State, ttl=1):
    """What has the names of `Everything`, and other bounds or types or the same ones."""

    unknown = Counter()
    focus = Counter()
    turns = Counter()
    history = Log(int, keep=500)
    talk = Turns(Message, keep=3, max_bytes=256)
    tags = SetOf(str, keep=300, past="drop_lowest")
    spend = Window(timedelta(minutes=1), buckets=6)
    taste = DecayedMean(2, timedelta(minutes=10))


EDITS = {
    "another kind": Other.focus.add(1),
    "the same": Other.turns.add(1),
    "the same, several": Other.turns.set(1),
    "drop": Other.turns.drop(),
    "another type, past the bound": Other.history.append(*range(20)),
    "another type": Other.history.append(1),
    "pop": Other.history.pop(),
    "a turn": Other.talk.append(Message("user", "hi")),
    "another bound": Other.tags.add("a", "b", "c", "d"),
    "by the time": Other.spend.add(1),
    "a vector": Other.taste.add([1, 2]),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_edits_of_another_class_are_refused(collection, edit):
    """Whatever they have in common: what a class does not declare is not written to its states."""
    name = edit.field or next(iter(edit.at(0.0))).field
    with pytest.raises(Invalid, match=rf"^{name}: .* by Everything\.{name}") as caught:
        collection.apply("a", E.focus.put("x"), edit)
    assert caught.value.field == name
    (refused,) = collection.apply_many([("a", [edit])])
    assert isinstance(refused, Invalid)
    with pytest.raises(Invalid):
        collection.get("a")._record(edit)
    assert not collection.get("a").meta.exists


def test_edits_of_fields_that_a_class_has_not_are_refused(collection):
    with pytest.raises(Invalid, match=r"Everything has no field for this Add, .* 'unknown'"):
        collection.apply("a", Other.unknown.add(1))


class Sums:
    """A mixin."""

    __slots__ = ()
    n = Counter()


class Base(Sums, State, ttl=60):
    x = Log(str, keep=3)
    y = Log(str, keep=3)


class Derived(Base, kind="derived"):
    y = Log(str, keep=2)


def test_what_a_field_makes_goes_to_every_class_that_has_it():
    """Subclasses and mixins share a field; who declares it anew has one of its own."""
    with opened(Derived) as (collection, _):
        collection.apply("a", Base.n.add(1), Sums.__dict__["n"].add(1), Derived.x.append("1"))
        collection.apply("a", Base.x.append("2"), where=Base.n.holds(2))
        assert (collection.get("a").n, list(collection.get("a").x)) == (2, ["1", "2"])
        with pytest.raises(Invalid, match=r"^y: .* by Derived\.y"):
            collection.apply("a", Base.y.append("1"))
        with pytest.raises(Invalid, match=r"^y: .* by Derived\.y"):
            collection.apply("a", where=Base.y.is_empty())
        collection.apply("a", Derived.y.append("1"))
    with opened(Base) as (collection, _):
        collection.apply("a", Derived.x.append("1"))
        with pytest.raises(Invalid):
            collection.apply("a", Derived.y.append("1"))


@pytest.mark.parametrize("name", ["n", "N", "é", "ÿ", "ß", "名", "nn"])
@pytest.mark.parametrize("stored_as", [None, "1", "x", "xy"])
def test_a_name_of_one_character_tells_its_class_too(name, stored_as):
    """CPython has one object for each text of one character, and a field needs its own."""
    one, two = (
        type(State)("One", (State,), {name: Counter(stored_as=stored_as)}, ttl=1) for _ in range(2)
    )
    with opened(one) as (collection, _):
        collection.apply("a", getattr(one, name).add(1), where=getattr(one, name).holds(0))
        for wrong in (getattr(two, name).add(1), getattr(two, name).drop()):
            with pytest.raises(Invalid, match="was made by a field of that name"):
                collection.apply("a", wrong)
        with pytest.raises(Invalid, match="was made by a field of that name"):
            collection.apply("a", where=getattr(two, name).holds(1))
        assert getattr(collection.get("a"), name) == 1


def test_one_field_may_be_of_two_classes():
    """The same object under the same name: what one class makes of it, the other takes."""
    count = Counter()
    one, two = (type(State)("One", (State,), {"count": count}, ttl=1) for _ in range(2))
    for cls in (one, two):
        with opened(cls) as (collection, _):
            collection.apply("a", one.count.add(1), two.count.add(1), where=two.count.holds(0))
            assert collection.get("a").count == 2


WRONG_CONDITIONS = [
    False,
    True,
    0,
    5,
    "",
    "turns",
    b"",
    {},
    {"turns": 5},
    set(),
    E.turns,
    E.turns.add(1),
    [E.turns.holds(0), False],
    [None],
    [[E.turns.holds(0)]],
    Other.turns.holds(0),
    Other.unknown.holds(0),
    [Other.turns.holds(0)],
]


@pytest.mark.parametrize("wrong", WRONG_CONDITIONS, ids=range(len(WRONG_CONDITIONS)))
def test_what_is_no_condition_is_refused(collection, wrong):
    """By every call that takes one, also where it looks as if there were none."""
    edit = E.turns.add(1)

    def in_session() -> None:
        with collection.session("a", where=wrong) as state:
            state.turns += 1

    calls = [
        lambda: collection.apply("a", edit, where=wrong),
        lambda: collection.apply("a", edit, where=wrong, op="1"),
        lambda: collection.apply("a", edit, where=wrong, returning=["turns"]),
        lambda: collection.commit("a", [edit], where=wrong),
        lambda: collection.delete("a", where=wrong),
        lambda: collection.step("a", edit, where=wrong),
        lambda: collection.session("a", where=wrong),
        in_session,
    ]
    for call in calls:
        with pytest.raises(Invalid) as caught:
            call()
        assert caught.value.field in ("where", "turns", None)
    assert not collection.get("a").meta.exists


def test_it_is_said_how_conditions_are_made(collection):
    with pytest.raises(Invalid, match=r"where: bool is no condition; .* Everything\.focus\.holds"):
        collection.apply("a", where=E.turns == 5)

    class Listed(State, ttl=1):
        place = Vector(2)
        lines = Log(str, keep=1)

    with (
        opened(Listed) as (listed, _),
        pytest.raises(Invalid, match=r"Listed\.lines\.is_empty\(\)"),
    ):
        listed.apply("a", where=0)


@pytest.mark.parametrize("none", [None, (), []], ids=repr)
def test_no_condition(collection, none):
    edit = E.turns.add(1)
    collection.apply("a", edit, where=none)
    collection.commit("a", [edit], where=none)
    with collection.session("a", where=none) as state:
        state.turns += 1
    assert collection.step("a", edit, where=none).where == ()
    assert collection.get("a").turns == 3
    assert collection.delete("a", where=none)
