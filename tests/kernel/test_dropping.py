"""Fields that make room for a new key by dropping the lowest, on every backend."""

from datetime import date, timedelta
from itertools import permutations
from uuid import UUID

import msgspec
import pytest
from sample import class_of

from statehold import Map, SchemaError, SetOf, State, Steps, Store, Tally, TooLarge

HOUR = timedelta(hours=1)
DAYS = [date(2026, 9, 30), date(2026, 10, 1), date(2026, 10, 2), date(2026, 11, 1)]


class Recent(State, ttl=HOUR):
    notes = Map(str, dict[str, int], keep=3, past="drop_lowest")
    days = SetOf(date, keep=2, past="drop_lowest")
    clicks = Tally(date, keep=2, past="drop_lowest")
    spent = Tally(str, float, keep=2, past="drop_lowest")


def test_the_lowest_key_makes_room_whatever_the_order_of_the_writers(store):
    recent = store.collection(Recent)
    for n, order in enumerate(permutations(["a", "b", "c", "d"])):
        for key in order:
            recent.apply(f"r{n}", Recent.notes.put(key, {"of": ord(key)}))
        notes = recent.get(f"r{n}").notes
        assert dict(notes) == {key: {"of": ord(key)} for key in "bcd"}, order


def test_a_set_and_a_tally_keep_the_newest_days(store):
    recent = store.collection(Recent)
    with recent.session("r") as state:
        for day in DAYS:
            state.days.add(day)
            state.clicks.add(day, day.month)
            state.clicks.add(day)
        shown = state.to_builtins()
    kept = recent.get("r")
    assert set(kept.days) == set(DAYS[2:])
    assert dict(kept.clicks) == {DAYS[2]: 11, DAYS[3]: 12}
    assert {**shown, "days": sorted(shown["days"])} == {
        **kept.to_builtins(),
        "days": sorted(map(str, DAYS[2:])),
    }, "a session shows what will be stored"


def test_a_new_key_below_all_the_others_is_not_kept_and_an_old_one_changes_in_place(store):
    recent = store.collection(Recent)
    recent.apply("r", Recent.spent.update({"m": 1.0, "n": 2.0}))
    recent.apply("r", Recent.spent.add("a", 100.0))
    recent.apply("r", Recent.spent.add("m", 0.5))
    assert dict(recent.get("r").spent) == {"m": 1.5, "n": 2.0}
    recent.apply("r", Recent.spent.drop("m"), Recent.spent.add("a", 100.0))
    assert dict(recent.get("r").spent) == {"a": 100.0, "n": 2.0}


def test_without_it_one_more_is_refused(store):
    class Held(State, ttl=HOUR):
        notes = Map(str, int, keep=1, past="refuse")
        days = SetOf(str, keep=1)
        clicks = Tally(str, keep=1)

    held = store.collection(Held)
    held.apply("h", Held.notes.put("a", 1), Held.days.add("a"), Held.clicks.add("a"))
    for edit in (Held.notes.put("b", 1), Held.days.add("b"), Held.clicks.add("b")):
        with pytest.raises(TooLarge, match="2 entries, at most 1 are kept"):
            held.apply("h", edit)


def test_a_release_may_begin_to_drop(tmp_path):
    """It is a matter of the changes that are sent; what is stored is the same."""
    url = f"sqlite:///{tmp_path}/later.db"

    def release(**past):
        class Later(State, ttl=HOUR):
            notes = Map(str, int, keep=2, **past)

        return Later

    for past in ({}, {"past": "drop_lowest"}):
        cls = release(**past)
        with Store.open(url) as store:
            later = store.collection(cls)
            later.apply("l", cls.notes.update({"a": 1, "b": 2} if not past else {"c": 3}))
    with Store.open(url) as store:
        assert dict(store.collection(cls).get("l").notes) == {"b": 2, "c": 3}


@pytest.mark.parametrize("keys", [str, date, UUID])
def test_the_order_of_the_keys_is_the_order_of_their_names(keys):
    of = {
        str: ["", "!", "a", "é", "\uffff", "\U0001f600"],
        date: [date(1, 1, 1), date(999, 12, 31), *DAYS, date(9999, 1, 1)],
        UUID: [UUID(int=n) for n in (0, 9, 10, 255, 2**64, 2**128 - 1)],
    }[keys]
    field = Map(keys, int, keep=9, past="drop_lowest")
    field.__set_name__(State, "field")
    names = [field.put(key, 1).entry for key in of]
    assert names == sorted(names)
    assert of == sorted(of)


@pytest.mark.parametrize("keys", [int, float, bytes, str | int, tuple[int, int]])
@pytest.mark.parametrize(
    "made", [lambda k, **o: Map(k, int, **o), SetOf, Tally], ids=["map", "set", "tally"]
)
def test_keys_whose_names_are_in_another_order_are_refused(made, keys):
    with pytest.raises(SchemaError, match=r"^Chat: thing: .*str, date or UUID, not .*use str"):
        class_of(made(keys, keep=3, past="drop_lowest"))


def test_nothing_else_is_done_past_the_bound():
    for made in (Map(str, int, keep=3, past="oldest"), SetOf(str, keep=3, past="oldest")):
        with pytest.raises(
            SchemaError, match=r'^Chat: thing: .*"refuse" or "drop_lowest", not \'oldest\''
        ) as caught:
            class_of(made)
        assert caught.value.field == "thing"
    with pytest.raises(SchemaError, match=r"^Chat: thing: steps are not dropped"):
        class_of(Steps(int, past="drop_lowest"))


def test_json_operations_drop_too():
    with Store.open("memory://") as store:
        recent = store.collection(Recent)
        given = {"notes": {"put": {key: {} for key in "abcd"}}, "spent": {"add": {"x": 1, "y": 2}}}
        recent.apply(
            "r", *Recent.__schema__.edits_from_json(msgspec.json.decode(msgspec.json.encode(given)))
        )
        assert sorted(recent.get("r").notes) == ["b", "c", "d"]
