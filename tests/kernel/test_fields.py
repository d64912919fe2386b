"""Each field: its view, its edits, its bounds, and that a session shows what will be stored."""

import copy
import enum
import math
import pickle
from datetime import timedelta
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from sample import Everything, Message, class_of, opened, shown

from statehold import (
    Corrupted,
    Counter,
    DecayedMean,
    Invalid,
    Log,
    Map,
    Register,
    SchemaError,
    SetOf,
    State,
    Steps,
    Store,
    Tally,
    TooLarge,
    Turns,
    Vector,
    Window,
)
from statehold.changes import Add, Append, Drop

HI = Message("user", "hi")
YO = Message("assistant", "yo")

# One way to change each field through an instance, the same as class-level edits, what it reads as.
DONE = {
    "focus": (
        lambda s: setattr(s, "focus", "shoes"),
        lambda: [Everything.focus.put("shoes")],
        "shoes",
    ),
    "basket": (lambda s: setattr(s, "basket", [1]), lambda: [Everything.basket.put([1])], [1]),
    "turns": (
        lambda s: setattr(s, "turns", s.turns.__iadd__(2)),
        lambda: [Everything.turns.add(2)],
        2,
    ),
    "spent": (
        lambda s: setattr(s, "spent", s.spent.__isub__(0.5)),
        lambda: [Everything.spent.add(-0.5)],
        -0.5,
    ),
    "filters": (
        lambda s: s.filters.update(colour="blue", size="9"),
        lambda: [Everything.filters.update({"colour": "blue", "size": "9"})],
        {"colour": "blue", "size": "9"},
    ),
    "ranks": (
        lambda s: s.ranks.update({7: 0.5, -1: 2}),
        lambda: [Everything.ranks.put(7, 0.5), Everything.ranks.put(-1, 2.0)],
        {7: 0.5, -1: 2.0},
    ),
    "tags": (lambda s: s.tags.add("a"), lambda: [Everything.tags.add("a")], {"a"}),
    "seen": (
        lambda s: s.seen.__ior__({1, 2}),
        lambda: [Everything.seen.add(1, 2)],
        {1, 2},
    ),
    "history": (
        lambda s: s.history.append(HI, YO),
        lambda: [Everything.history.extend([HI, YO])],
        [HI, YO],
    ),
    "talk": (lambda s: s.talk.append(HI, YO), lambda: [Everything.talk.append(HI, YO)], [HI, YO]),
    "vector": (
        lambda s: setattr(s, "vector", [1, 2.5]),
        lambda: [Everything.vector.put(np.array([1, 2.5]))],
        [1.0, 2.5],
    ),
    "taste": (
        lambda s: s.taste.add([1, 3]),
        lambda: [Everything.taste.add((1.0, 3.0))],
        [1.0, 3.0],
    ),
    "clicks": (
        lambda s: s.clicks.update({"a": 2, "b": 1}),
        lambda: [Everything.clicks.add("a", 2), Everything.clicks.add("b")],
        {"a": 2, "b": 1},
    ),
    "scores": (
        lambda s: s.scores.add(7, 0.5),
        lambda: [Everything.scores.update({7: 0.5})],
        {7: 0.5},
    ),
    "spend": (lambda s: s.spend.add(2.5), lambda: [Everything.spend.add(2.5)], (1, 2.5)),
    "steps": (
        lambda s: s.steps.__setitem__("pay", {"id": 1}),
        lambda: [Everything.steps.put("pay", {"id": 1})],
        {"pay": {"id": 1}},
    ),
}


def read(state, name):
    view = getattr(state, name)
    if name == "vector":
        return None if view is None else view.tolist()
    if name == "taste":
        return None if view.mean is None else view.mean.tolist()
    if name == "spend":
        return view.count, view.sum
    return view


def test_every_field_is_tried():
    assert DONE.keys() == Everything.__schema__.fields.keys()


@pytest.mark.parametrize("name", DONE)
def test_session_and_apply_store_the_same_and_show_it_at_once(collection, name):
    do, edits, want = DONE[name]
    with collection.session("session") as state:
        do(state)
        assert read(state, name) == want
        mine = shown(state)
        assert state.pending
    assert read(collection.get("session"), name) == want
    assert shown(collection.get("session")) == mine
    collection.apply("apply", *edits())
    assert shown(collection.get("apply")) == mine


@pytest.mark.parametrize("name", DONE)
def test_other_fields_are_left_alone(collection, name):
    collection.apply("a", *DONE[name][1]())
    changed = shown(collection.get("a"))
    empty = shown(Everything())
    assert {other for other in empty if empty[other] != changed[other]} == {name}


@pytest.mark.parametrize("name", DONE)
def test_an_emptied_field_reads_as_one_never_written(collection, name):
    field = Everything.__schema__.fields[name]
    collection.apply("a", *DONE[name][1]())
    empty = field.clear() if hasattr(field, "clear") else field.drop()
    collection.apply("a", empty)
    assert shown(collection.get("a")) == shown(Everything())
    with collection.session("b") as state:
        DONE[name][0](state)
        view = getattr(state, name)
        if hasattr(view, "clear") and name != "basket":
            view.clear()
            assert shown(state) == shown(Everything())


@pytest.mark.parametrize(
    "name", [n for n in DONE if n not in {"focus", "basket", "turns", "spent", "vector"}]
)
def test_what_is_no_single_value_is_not_assigned_to(name):
    with pytest.raises(AttributeError, match=name):
        setattr(Everything(), name, [])


def test_a_misspelt_field_is_an_error_on_instance_and_class():
    state = Everything()
    with pytest.raises(AttributeError, match="focsu"):
        state.focsu = "x"
    with pytest.raises(AttributeError, match="focsu"):
        Everything.focsu  # noqa: B018


# ------------------------------------------------------------------------------------- Register


def test_register_default_is_nobodys_to_change():
    Everything().basket.append(5)
    assert Everything().basket == []
    assert Everything.basket.default == []


def test_register_put_if_absent_keeps_the_first(collection):
    collection.apply("a", Everything.focus.put("first", if_absent=True))
    collection.apply("a", Everything.focus.put("second", if_absent=True))
    assert collection.get("a").focus == "first"
    collection.apply("a", Everything.focus.drop(), Everything.focus.put("third", if_absent=True))
    assert collection.get("a").focus == "third"


def test_register_without_optional_type_still_says_null_in_its_schema():
    class Bare(State, ttl=1):
        name = Register(str, default=None)

    assert Bare().to_json() == {"name": None}
    assert {"type": "null"} in Bare.name.json_schema()["anyOf"]
    with pytest.raises(Invalid, match="name"):
        Bare().name = None


# -------------------------------------------------------------------------------------- Counter


def test_counter_increase_is_an_addition():
    state = Everything()
    state.turns += 1
    state.turns += 2
    state.turns -= 5
    state.spent += 0.25
    assert [c.amount for c in state.pending] == [1, 2, -5, 0.25]
    assert all(isinstance(c, Add) for c in state.pending)
    assert (state.turns, state.spent) == (-2, 0.25)


def test_counter_increased_in_a_local_name_adds_it_all(collection):
    collection.apply("a", Everything.turns.add(10), Everything.spent.add(10))
    with collection.session("a") as state:
        turns, spent = state.turns, state.spent
        for _ in range(3):
            turns += 1
            spent += 0.5
        collection.apply("a", Everything.turns.add(100), Everything.spent.add(100))
        state.turns, state.spent = turns, spent
        assert (state.turns, state.spent) == (13, 11.5)
    assert (collection.get("a").turns, collection.get("a").spent) == (113, 111.5)


def test_counter_of_another_state_is_a_value():
    one, other = Everything(), Everything()
    one.turns += 7
    other.turns = one.turns
    assert [type(c) for c in other.pending] == [Drop, Add]
    more = one.turns
    more += 1
    other.turns += 100
    other.turns = more  # counted on from 7, and this is at 107
    assert other.turns == 8


def test_counter_assigned_to_says_so(collection):
    collection.apply("a", Everything.turns.add(10))
    with collection.session("a") as state:
        state.turns = 3
        state.turns += 1
    assert collection.get("a").turns == 4


@pytest.mark.parametrize(
    "amount", [np.uint8(1), np.int64(1), np.uint64(1), enum.IntEnum("E", "ONE").ONE], ids=repr
)
def test_counter_takes_any_integer(amount):
    state = Everything()
    state.turns = 300
    state.turns += amount
    assert state.turns == 301
    state.turns -= amount
    state.turns -= amount
    assert state.turns == 299
    assert {type(c.amount) for c in state.pending if isinstance(c, Add)} == {int}


@pytest.mark.parametrize(
    "amount", [np.float16(0.5), np.float32(0.5), np.int8(3), Fraction(1, 2)], ids=repr
)
def test_float_counter_takes_any_number(amount):
    state = Everything()
    state.spent = 70_000.0
    state.spent += amount
    state.spent -= amount
    assert state.spent == 70_000.0
    assert {type(c.amount) for c in state.pending if isinstance(c, Add)} == {float}


@pytest.mark.parametrize(
    "amount", [True, np.True_, 1.5, 1.0, math.nan, 2**63, "1", None, [1], np.ones(2)], ids=repr
)
def test_counter_refuses_what_is_no_int64(amount):
    with pytest.raises(Invalid, match=r"^turns: ") as caught:
        Everything.turns.add(amount)
    assert caught.value.field == "turns"
    state = Everything()
    with pytest.raises((Invalid, TypeError)):
        state.turns += amount
    with pytest.raises((Invalid, TypeError)):
        state.turns -= amount
    assert state.pending == ()
    assert state.turns == 0


@pytest.mark.parametrize(
    "amount",
    [True, math.nan, math.inf, -math.inf, 10**400, "1", None, np.ones(1), Fraction(10**400)],
    ids=lambda it: repr(it)[:20],
)
def test_float_counter_refuses_what_is_not_finite(amount):
    with pytest.raises(Invalid, match=r"^spent: "):
        Everything.spent.add(amount)
    state = Everything()
    with pytest.raises((Invalid, TypeError, OverflowError)):
        state.spent += amount
    assert state.pending == ()


def test_counter_stays_within_64_bits(collection):
    collection.apply("a", Everything.turns.add(2**63 - 1))
    with pytest.raises(TooLarge, match="turns") as caught:
        collection.apply("a", Everything.focus.put("x"), Everything.turns.add(1))
    assert (caught.value.field, caught.value.expected) == ("turns", "int64")
    assert collection.get("a").focus is None
    with pytest.raises(TooLarge, match="turns"), collection.session("a") as state:
        state.turns += 1
    collection.apply("a", Everything.turns.add(-1))
    assert collection.get("a").turns == 2**63 - 2
    collection.apply("a", Everything.spent.add(1e308))
    with pytest.raises(TooLarge, match="spent"):
        collection.apply("a", Everything.spent.add(1e308))


def test_a_count_is_a_number_to_everybody(collection):
    state = Everything()
    state.turns += 3
    total = state.turns
    total += 0.5  # arithmetic of one's own
    assert total == 3.5
    assert pickle.loads(pickle.dumps(state.turns)) == 3
    growing = state.turns
    growing += 1
    assert pickle.loads(pickle.dumps(growing)) == 4
    state.basket = [state.turns]
    state.ranks[state.turns] = state.spent
    state.history.append(Message("user", f"{state.turns:03d}"))
    assert (state.basket, state.history[0].text, dict(state.ranks)) == ([3], "003", {3: 0.0})


def test_counter_of_anything_else_is_refused():
    for number in (bool, str, Fraction, None):
        with pytest.raises(SchemaError, match=r"^Chat: thing: a counter"):
            class_of(Counter(number))
        with pytest.raises(SchemaError, match=r"^Chat: thing: a tally"):
            class_of(Tally(str, number, keep=1))


# ------------------------------------------------------------------------------------------ Map


def test_map_is_a_mutable_mapping(collection):
    with collection.session("a") as state:
        state.filters["colour"] = "red"
        state.filters |= {"size": "9"}
        assert state.filters.setdefault("size", "10") == "9"
        assert state.filters.setdefault("brand", "x") == "x"
        assert state.filters.pop("brand") == "x"
        assert state.filters.pop("brand", None) is None
        with pytest.raises(KeyError):
            state.filters.pop("brand")
        with pytest.raises(KeyError):
            del state.filters["brand"]
        assert state.filters == {"colour": "red", "size": "9"}
        assert list(state.filters.items()) == [("colour", "red"), ("size", "9")]
        assert "colour" in state.filters
        assert repr(state.filters) == "{'colour': 'red', 'size': '9'}"
        for key in state.filters:  # changing it while going through it
            del state.filters[key]
        assert not state.filters
        state.filters["last"] = ""
        assert state.filters.popitem() == ("last", "")
        state.filters["stays"] = ""
    assert dict(collection.get("a").filters) == {"stays": ""}


@pytest.mark.parametrize("key", [5, None, "\ud800", "k" * 513, ["a"]], ids=lambda it: repr(it)[:9])
def test_map_has_no_key_that_cannot_be_one(key):
    state = Everything()
    assert key not in state.filters
    with pytest.raises(KeyError):
        state.filters[key]
    with pytest.raises((Invalid, TooLarge), match="filters"):
        state.filters[key] = "x"
    assert state.pending == ()


@pytest.mark.parametrize("key", ["", "\0", "a:b", "{x}", "*", "%", "'\"", "\n", "ключ", "k" * 512])
def test_map_keys_are_any_text(collection, key):
    collection.apply("a", Everything.filters.put(key, "x"), Everything.tags.add(key))
    collection.apply("a", Everything.clicks.add(key))
    state = collection.get("a")
    assert (state.filters, state.tags, state.clicks) == ({key: "x"}, {key}, {key: 1})
    collection.apply("a", Everything.filters.drop(key), Everything.tags.discard(key))
    assert not collection.get("a").filters
    assert not collection.get("a").tags


def test_map_bound_is_refused_whole(collection):
    collection.apply("a", Everything.filters.update(dict.fromkeys("abcd", "x")))
    with pytest.raises(TooLarge, match="filters: 5 entries, at most 4") as caught:
        collection.apply("a", Everything.turns.add(1), Everything.filters.put("e", "x"))
    assert (caught.value.field, caught.value.expected, caught.value.found) == ("filters", 4, 5)
    assert collection.get("a").turns == 0
    collection.apply("a", Everything.filters.put("a", "y"))  # one that is there
    with collection.session("a") as state:
        with pytest.raises(TooLarge, match="filters"):
            state.filters.update(a="z", e="x")
        assert state.filters["a"] == "z"  # `update` sets one by one, as of any mapping
        with pytest.raises(TooLarge, match="filters"):
            state._record(Everything.filters.update({"b": "z", "e": "x"}))
        assert state.filters["b"] == "x"
        del state.filters["a"]
        state.filters["e"] = "new"
    assert collection.get("a").filters == {"b": "x", "c": "x", "d": "x", "e": "new"}


def test_map_keys_that_are_equal_are_one_entry(collection):
    class Scale(State, ttl=60):
        at = Map(float, str, keep=4)
        by = Map(tuple[int, float], str, keep=4)

    state = Scale()
    for key in (1, 1.0, np.float64(1)):
        state.at[key] = str(key)
        state.by[3, key] = str(key)
    assert len(state.at) == len(state.by) == 1
    assert (list(state.at), list(state.by)) == ([1.0], [(3, 1.0)])
    with pytest.raises(Invalid, match="ranks"):
        Everything.ranks.put(1.0, 2.0)
    with pytest.raises(Invalid, match="ranks"):
        Everything.ranks.put(True, 2.0)


def test_map_keys_of_an_optional_type_are_read_back_as_they_were():
    class Odd(State, ttl=60):
        by = Map(float | None, int, keep=4)

    state = Odd()
    state.by[None] = 1
    with pytest.raises(Invalid, match="by"):
        state.by[math.nan] = 2
    assert dict(state.by) == {None: 1}


def test_enum_members_that_are_text_are_ids_but_no_text_to_be_kept(collection):
    """They would be read back as what they are not; a field may be declared to hold them."""

    class Colour(str, enum.Enum):  # noqa: UP042  its str() is not its value
        RED = "red"

    for edit in (
        lambda: Everything.filters.put("a", Colour.RED),
        lambda: Everything.filters.put(Colour.RED, "a"),
    ):
        with pytest.raises(Invalid, match=r"filters: Colour .*be read back as str"):
            edit()
    collection.apply(Colour.RED, Everything.filters.put("red", "red"))
    assert list(collection.get_many([Colour.RED])) == ["red"]
    assert list(collection.scan()) == ["red"]
    assert collection.delete(Colour.RED)


# ------------------------------------------------------------------------------------ SetOf, Tally


def test_set_is_a_mutable_set(collection):
    with collection.session("a") as state:
        state.tags |= {"a", "b"}
        state.tags -= {"b", "z"}
        state.tags.add("c")
        assert state.tags & {"a", "x"} == {"a"}
        assert state.tags | {"x"} == {"a", "c", "x"}
        state.tags.remove("c")
        with pytest.raises(KeyError):
            state.tags.remove("c")
        assert 5 not in state.tags
    assert collection.get("a").tags == {"a"}
    assert repr(collection.get("a").tags) == "{'a'}"


def test_set_bound(collection):
    collection.apply("a", Everything.tags.add("a", "b", "c"), Everything.tags.add("a"))
    with pytest.raises(TooLarge, match="tags"):
        collection.apply("a", Everything.tags.add("d"))
    collection.apply("a", Everything.tags.discard("a"), Everything.tags.add("d"))
    assert collection.get("a").tags == {"b", "c", "d"}


def test_set_members_have_no_upcasters():
    with pytest.raises(SchemaError, match=r"^Chat: thing: .* upcast"):
        class_of(SetOf(int, keep=3, version=2, upcast={1: str}))


def test_tally_counts_zero_where_nothing_was_added(collection):
    state = Everything()
    assert state.clicks["never"] == 0
    assert "never" not in state.clicks
    state.clicks.add("a")
    state.clicks.add("a", -3)
    state.clicks.add("b", np.int64(4))
    assert state.clicks.most_common() == [("b", 4), ("a", -2)]
    assert state.clicks.most_common(1) == [("b", 4)]
    state.clicks.drop("b")
    assert dict(state.clicks) == {"a": -2}
    with pytest.raises(Invalid, match="clicks"):
        state.clicks.add("a", 0.5)
    with pytest.raises(Invalid, match="scores"):
        state.scores.add(1, math.nan)


def test_tally_bound_and_range(collection):
    collection.apply("a", Everything.clicks.update({"a": 2**62, "b": 1, "c": 1}))
    with pytest.raises(TooLarge, match="clicks: 4 entries"):
        collection.apply("a", Everything.clicks.add("d"))
    with pytest.raises(TooLarge, match="clicks"):
        collection.apply("a", Everything.clicks.add("a", 2**62))
    assert collection.get("a").clicks == {"a": 2**62, "b": 1, "c": 1}


def test_numpy_numbers_are_keys(collection):
    collection.apply("a", Everything.scores.add(np.int64(5), np.float32(0.5)))
    collection.apply("a", Everything.scores.add(5, 0.5), Everything.seen.add(np.uint8(5)))
    assert collection.get("a").scores == {5: 1.0}
    assert collection.get("a").seen == {5}


# ---------------------------------------------------------------------------------- Log, Turns


def test_log_slices_like_a_list(collection):
    items = [Message("user", str(n)) for n in range(5)]
    collection.apply("a", Everything.history.append(*items))
    history = collection.get("a").history
    for index in range(-5, 5):
        assert history[index] == items[index]
    for part in (
        slice(None),
        slice(-2, None),
        slice(1, -1),
        slice(None, None, -1),
        slice(4, 0, -2),
        slice(9, 99),
        slice(-99, 2),
    ):
        assert history[part] == items[part]
    for index in (5, -6):
        with pytest.raises(IndexError):
            history[index]
    assert list(reversed(history)) == items[::-1]
    assert items[2] in history
    assert history.index(items[3]) == 3
    assert history == items
    assert history != items[:4]


def test_log_keeps_the_newest(collection):
    with collection.session("a") as state:
        for n in range(7):
            state.history.append(Message("user", str(n)))
            assert len(state.history) == min(n + 1, 5)
        for item in state.history:  # appending while going through it ends
            state.history.append(item)
    assert [m.text for m in collection.get("a").history] == list("23456")
    collection.apply("b", Everything.history.extend(Message("user", str(n)) for n in range(9)))
    assert [m.text for m in collection.get("b").history] == list("45678")


def test_log_takes_nothing_and_generators(collection):
    collection.apply("a", Everything.history.append())
    with collection.session("a") as state:
        state.history.extend(iter([]))
        state.history += (m for m in [HI])
    assert collection.get("a").history == [HI]


def test_log_refuses_an_item_whole(collection):
    for wrong in ({"role": "user"}, "text", None, Message("user", 5)):
        with pytest.raises(Invalid, match="history"):
            Everything.history.append(HI, wrong)
    with pytest.raises(TooLarge, match="history: a value of") as caught:
        Everything.history.append(Message("user", "x" * 128))
    assert (caught.value.field, caught.value.expected) == ("history", 128)
    state = Everything()
    with pytest.raises(TooLarge):
        state.history.append(HI, Message("user", "x" * 128))
    assert state.pending == ()


def test_turns_are_kept_whole_and_read_flat(collection):
    for n in range(4):
        turn = [Message("user", str(n))] + [Message("tool", "")] * n
        collection.apply("a", Everything.talk.append(*turn))
    talk = collection.get("a").talk
    assert [len(turn) for turn in talk.turns] == [2, 3, 4]
    assert len(talk) == 9
    assert talk[0].text == "1"
    assert talk[-4:] == list(talk.turns[-1])
    assert talk[-3:] == [Message("tool", "")] * 3
    assert talk[::-1] == list(talk)[::-1]
    assert list(reversed(talk)) == list(talk)[::-1]
    tail = collection.get("a", tail=1)
    assert [len(turn) for turn in tail.talk.turns] == [4]


def test_turns_limits():
    with pytest.raises(Invalid, match="talk: a turn has at least one message"):
        Everything.talk.append()
    with pytest.raises(TooLarge, match="talk: a turn of") as caught:
        Everything.talk.append(*[HI] * 10)
    assert (caught.value.field, caught.value.expected) == ("talk", 256)
    with pytest.raises(Invalid, match="talk"):
        Everything.talk.append(HI, "x")


@pytest.mark.parametrize("name", ["history", "talk"])
def test_lists_are_unhashable(name):
    with pytest.raises(TypeError, match="unhashable"):
        hash(getattr(Everything(), name))


# --------------------------------------------------------------------- Vector, DecayedMean, Window


@pytest.mark.parametrize(
    "wrong",
    [
        [1],
        [1, 2, 3],
        [[1, 2]],
        5,
        None,
        "ab",
        ["1", "2"],
        [True, False],
        [1, math.nan],
        [1, 1e39],
        [math.inf, 0],
        [1, None],
        np.array([1j, 0]),
    ],
    ids=repr,
)
def test_vectors_are_finite_numbers_of_one_shape(wrong):
    with pytest.raises(Invalid, match=r"^vector: "):
        Everything.vector.put(wrong)
    if repr(wrong) != "[1, 1e+39]":  # float64 has room for that
        with pytest.raises(Invalid, match=r"^taste: "):
            Everything.taste.add(wrong)


def test_vector_reads_as_float32_of_ones_own(collection):
    collection.apply("a", Everything.vector.put(np.array([1, 2], ">i8")))
    vector = collection.get("a").vector
    assert vector.dtype == np.float32
    assert vector.shape == (2,)
    with collection.session("a") as state:
        state.vector = None
    assert collection.get("a").vector is None


@pytest.mark.parametrize("at", [-1, math.nan, math.inf, "now", True])
def test_times_of_updates_are_dates(at):
    with pytest.raises(Invalid):
        Everything.taste.add([1, 2], at=at)
    with pytest.raises(Invalid):
        Everything.spend.add(1, at=at)


def test_what_is_yet_to_come_does_not_count(collection):
    """One update from the future would outweigh, or push out, all that come before that time."""
    now = collection.get("a")._now()
    for edit in (
        Everything.taste.add([1, 2], at=now + 61),
        Everything.spend.add(1, at=now + 365 * 86400),
    ):
        with pytest.raises(Invalid, match="in the future"):
            collection.apply("a", edit)
        with pytest.raises(Invalid, match="in the future"), collection.session("a") as state:
            state._record(edit)
    assert not collection.get("a").meta.exists
    collection.apply("a", Everything.spend.add(1, at=now + 59), Everything.spend.add(2, at=now))
    assert collection.get("a").spend.count >= 1


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, "1", None])
def test_weights_are_over_zero(weight):
    with pytest.raises(Invalid, match="taste"):
        Everything.taste.add([1, 2], weight=weight)


def test_decayed_mean_too_large_to_be_weighted_is_refused(collection):
    half_life = Everything.taste.half_life
    late = Everything.taste.epoch * 10 + 63 * half_life
    with pytest.raises(Invalid, match="taste"):
        collection.apply("a", Everything.taste.add([1e300, 0], at=late))
    assert not collection.get("a").meta.exists
    collection.apply("a", Everything.taste.add([1e308, 0], at=0))
    with pytest.raises(TooLarge, match="taste"):
        collection.apply("a", Everything.taste.add([1e308, 0], at=0))
    assert collection.get("a").taste.mean.tolist() == [1e308, 0]


def test_decayed_mean_weighs_half_after_a_half_life():
    state = Everything()
    assert state.taste.mean is None
    assert state.taste.weight() == 0
    state.taste.add([1, 0], at=1000)
    state.taste.add([0, 1], at=1600)
    assert state.taste.mean.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert state.taste.weight(at=1600) == pytest.approx(1.5)
    assert state.taste.weight(at=2200) == pytest.approx(0.75)
    state.taste.drop()
    assert state.taste.mean is None


def test_window_forgets():
    with opened() as (collection, clock):
        start = clock.now()
        state = collection.get("a")
        state.spend.add(2)
        clock.advance(30)
        state.spend.add(3, at=start + 29)
        assert state.spend.at(start + 31) == (2, 5.0)
        assert state.spend.at(start + 75) == (1, 3.0)
        assert state.spend.at(start + 1000) == (0, 0.0)
        assert Everything().spend.mean == 0.0
        for wrong in (math.nan, math.inf, True, "1", None):
            with pytest.raises(Invalid, match="spend"):
                state.spend.add(wrong)


def test_an_amount_from_before_the_span_is_refused(collection):
    """It would count nowhere, so it is not acknowledged."""
    now = collection.get("a")._now()
    edit = Everything.spend.add(1, at=now - 60)
    with pytest.raises(Invalid, match=r"spend: time \d+\.0 is 60 s ago, beyond 60 s"):
        collection.apply("a", edit)
    with pytest.raises(Invalid, match="beyond"), collection.session("a") as state:
        state._record(edit)
    assert not collection.get("a").meta.exists
    collection.apply("a", Everything.spend.add(1, at=now - 59.9))
    assert collection.get("a").spend.count == 1


def test_window_holds_no_more_buckets_than_it_has_room_for():
    with opened() as (collection, clock):
        for _ in range(300):
            clock.advance(10)
            collection.apply("a", Everything.spend.add(1))
        cells = collection._core._driver._states.slots["", "everything", "a"].cells.fields
        assert len(cells["spend"]) == Everything.spend.keep == 7 + 128
        assert collection.get("a").spend.count in (6, 7)


# ----------------------------------------------------------------------------------------- Steps


def test_steps_keep_the_first_result(collection):
    first = collection.apply(
        "job", Everything.steps.put("pay", {"id": 1}), returning=[Everything.steps]
    )
    second = collection.apply(
        "job", Everything.steps.put("pay", {"id": 2}), returning=[Everything.steps]
    )
    assert first.steps["pay"] == second.steps["pay"] == {"id": 1}
    with collection.session("job") as state:
        state.steps["pay"] = {"id": 3}
        assert state.steps["pay"] == {"id": 1}
    collection.apply("job", Everything.steps.put("pay", {"id": 4}, if_absent=False))
    assert collection.get("job").steps["pay"] == {"id": 4}


# ---------------------------------------------------------------------------------- declarations


@pytest.mark.parametrize("bound", [0, -1, True, 1.5, "3", None])
def test_bounds_are_whole_numbers_over_zero(bound):
    for make in (
        lambda: Log(str, keep=bound),
        lambda: Turns(str, keep=bound),
        lambda: Map(str, str, keep=bound),
        lambda: SetOf(str, keep=bound),
        lambda: Tally(str, keep=bound),
        lambda: Steps(str, keep=bound),
        lambda: Vector(bound),
        lambda: DecayedMean(bound, 1),
        lambda: Window(60, buckets=bound),
        lambda: Log(str, keep=1, max_bytes=bound),
        lambda: Map(str, str, keep=1, max_bytes=bound),
        lambda: Register(str, default="", max_bytes=bound),
    ):
        with pytest.raises(SchemaError, match=r"^Chat: thing: .* whole number of at least 1"):
            class_of(make())


@pytest.mark.parametrize("span", [0, -1, None, "x", math.nan, timedelta(0)])
def test_spans_are_over_zero(span):
    with pytest.raises(SchemaError, match=r"^Chat: thing: span"):
        class_of(Window(span))
    with pytest.raises(SchemaError, match=r"^Chat: thing: half_life"):
        class_of(DecayedMean(2, span))


def test_window_buckets_are_at_least_a_millisecond():
    with pytest.raises(SchemaError, match=r"^Chat: thing: .* 1 ms"):
        class_of(Window(0.01, buckets=60))


@pytest.mark.parametrize(
    "make",
    [
        lambda keep: Log(str, keep=keep),
        lambda keep: Turns(str, keep=keep),
        lambda keep: Map(str, str, keep=keep),
        lambda keep: SetOf(str, keep=keep),
        lambda keep: Tally(str, keep=keep),
        lambda keep: Steps(str, keep=keep),
    ],
    ids=["log", "turns", "map", "set", "tally", "steps"],
)
@pytest.mark.parametrize("keep", ["by_ttl", None, 0], ids=repr)
def test_a_wrong_keep_is_told_of_the_other_bound(make, keep):
    with pytest.raises(
        SchemaError, match=r"^Chat: thing: keep must be .*statehold\.BY_TTL"
    ) as caught:
        class_of(make(keep))
    assert (caught.value.field, caught.value.found) == ("thing", keep)


# ----------------------------------------------------------------------------------- corruption


def corrupted(collection, field, entry, raw):
    """Put bytes that are not what the field's type says."""
    slot = collection._core._driver._states.slots["", "everything", "a"]
    slot.cells.fields[field][entry] = raw


def test_what_cannot_be_decoded_is_reported_and_the_rest_served(collection):
    collection.apply(
        "a",
        Everything.filters.update({"good": "x", "bad": "y"}),
        Everything.ranks.update({1: 0.5, 2: 0.5}),
        Everything.focus.put("x"),
        Everything.turns.add(5),
        Everything.vector.put([1, 2]),
        Everything.clicks.add("a", 2),
        Everything.taste.add([1, 2]),
        Everything.spend.add(1),
    )
    corrupted(collection, "filters", "bad", b"{")
    corrupted(collection, "ranks", "no number", b"1")
    corrupted(collection, "focus", "", b"5")
    corrupted(collection, "turns", "", b"five")
    corrupted(collection, "vector", "", b"123")
    corrupted(collection, "clicks", "a", b"two")
    corrupted(collection, "taste", "epoch", b"1")
    corrupted(collection, "spend", "bucket", b"1")
    state = collection.get("a")
    assert dict(state.filters) == {"good": "x"}
    assert dict(state.filters.items()) == {"good": "x"}
    assert "bad" not in state.filters
    assert state.filters.get("bad") is None
    assert dict(state.ranks) == {1: 0.5, 2: 0.5}
    assert (state.focus, state.turns, state.vector, state.clicks["a"]) == (None, 0, None, 0)
    assert state.taste.mean.tolist() == [1, 2]
    assert state.spend.count == 1
    repr(state)
    shown(state)
    found = {(c.field, c.entry): c.raw for c in state.meta.corrupted}
    assert found == {
        ("filters", "bad"): b"{",
        ("ranks", "no number"): b"1",
        ("focus", ""): b"5",
        ("turns", ""): b"five",
        ("vector", ""): b"123",
        ("clicks", "a"): b"two",
        ("taste", "epoch"): b"1",
        ("spend", "bucket"): b"1",
    }
    assert collection._core.home.corrupted == len(found)
    with collection.session("a") as state:
        del state.filters["bad"]
        state.focus = "whole"
    assert collection.get("a").focus == "whole"
    assert len(collection.get("a").filters) == 1
    with pytest.raises(Corrupted, match="turns"):
        collection.apply("a", Everything.turns.add(1))
    collection.apply("a", Everything.turns.set(1))
    assert collection.get("a").turns == 1


def test_a_list_with_a_broken_item_serves_the_others(collection):
    edit = Everything.history.append(HI, YO, HI)
    broken = Append(Everything.history.stored, (edit.items[0], b"{", edit.items[1]), 5)
    turns = Append(Everything.talk.stored, (b"[5]", b"[]", b"5"), 3)
    collection.apply("a", broken, turns)
    state = collection.get("a")
    assert state.history == [HI, YO]
    assert state.history[-2:] == [YO]
    assert state.history[::-1] == [YO, HI]
    assert list(reversed(state.history)) == [YO, HI]
    with pytest.raises(IndexError):
        state.history[1]
    with pytest.raises(IndexError):
        state.history[-2]
    assert state.talk.turns == [()]
    shown(state)
    found = [(c.field, c.entry) for c in state.meta.corrupted]
    assert sorted(found) == [("history", 1), ("talk", 0), ("talk", 2)]


def test_a_field_that_was_of_another_kind_is_reported(collection):
    """A list where entries should be, and the other way round."""
    driver = collection._core._driver
    collection.apply("a", Everything.history.append(HI), Everything.focus.put("x"))
    fields = driver._states.slots["", "everything", "a"].cells.fields
    fields["history"], fields["focus"] = fields["focus"], fields["history"]
    state = collection.get("a")
    assert state.focus is None
    assert state.history == []
    assert {c.field for c in state.meta.corrupted} == {"focus", "history"}
    with pytest.raises(Corrupted, match="focus"):
        collection.apply("a", Everything.focus.put("y"))


# ------------------------------------------------------------------------------- State as a value


def test_copies_of_a_state_go_their_own_ways(collection):
    collection.apply("a", Everything.history.append(HI), Everything.filters.put("a", "b"))
    for copied in (copy.copy, copy.deepcopy):
        with collection.session("a") as state:
            state.filters["first"] = "x"
            other = copied(state)
            state.filters["mine"] = "x"
            other.history.append(YO)
            other.filters["theirs"] = "x"
            assert (len(state.history), len(other.history)) == (1, 2)
            assert set(state.filters) == {"a", "first", "mine"}
            assert set(other.filters) == {"a", "first", "theirs"}
            assert len(state.pending) == 2
            assert len(other.pending) == 3
            state._todo.clear()


def test_a_state_can_be_pickled(collection):
    collection.apply("a", *[edit for _, edits, _ in DONE.values() for edit in edits()])
    with collection.session("a") as state:
        state.focus = "x"
        back = pickle.loads(pickle.dumps(state))
    assert shown(back) == shown(state)
    assert back.pending == state.pending
    assert back.meta.revision == state.meta.revision


def test_repr_shows_the_fields():
    assert repr(Everything()).startswith("Everything(focus=None, basket=[], turns=0,")


def test_counts_do_not_go_through_msgspec_but_the_states_json_does():
    assert b'"turns":0' in msgspec.json.encode(Everything().to_json())


# ------------------------------------------------------------------------------- ints that are floats


def test_a_float_where_ints_are_declared_is_reported_and_not_cut_off():
    class Floats(State, ttl=60, kind="n"):
        n = Counter(float)
        by = Tally(str, float, keep=3)

    class Ints(State, ttl=60, kind="n"):
        n = Counter()
        by = Tally(str, keep=3)

    with Store.open("memory://") as one, Store(one.driver) as two:
        old, new = one.collection(Floats), two.collection(Ints)
        old.apply("a", Floats.n.add(1.5), Floats.by.add("k", 2.0), Floats.by.add("l", 1.0))
        state = new.get("a")
        assert (state.n, dict(state.by)) == (0, {"k": 0, "l": 0})
        assert state.to_builtins() == {"n": 0, "by": {}}
        reported = {(c.field, c.entry): (c.raw, c.reason) for c in state.meta.corrupted}
        assert reported[("n", "")] == (1.5, "a float where ints are declared")
        assert reported[("by", "k")][0] == 2.0
        for change in (
            lambda s: setattr(s, "n", s.n.__iadd__(1)),
            lambda s: s.by.add("k"),
            lambda s: s.by.update({"k": 1}),
        ):
            with pytest.raises(Corrupted, match="float where ints"), new.session("a") as state:
                change(state)
        assert old.get("a").n == 1.5
        with new.session("a") as state:
            state.n = 7
            state.by.drop("k")
            state.by.add("k")
        assert (new.get("a").n, new.get("a").by["k"]) == (7, 1)
        new.apply("b", Ints.n.add(1))  # the other way round nothing is lost
        assert old.get("b").n == 1.0


def test_turns_of_models_read_back(collection):
    pydantic = pytest.importorskip("pydantic")

    class Said(pydantic.BaseModel):
        role: str

    class Talks(State, ttl=60):
        talk = Turns(Said, keep=3)

    with Store.open("memory://") as store:
        talks = store.collection(Talks)
        talks.apply("a", Talks.talk.append(Said(role="u"), Said(role="a")))
        assert talks.get("a").talk.turns == [(Said(role="u"), Said(role="a"))]
        assert talks.get("a").to_builtins() == {"talk": [{"role": "u"}, {"role": "a"}]}
