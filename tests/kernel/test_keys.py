"""Keys that are equal in Python are one entry, of every field that has keys."""

import dataclasses
import datetime as dt
import enum
from decimal import Decimal
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest

from statehold import Invalid, Map, SchemaError, SetOf, State, Store, Tally

T = TypeVar("T")

NOON = dt.datetime(2026, 3, 4, 12, tzinfo=dt.UTC)
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
WEST = dt.timezone(-dt.timedelta(hours=8))


class Pair(NamedTuple):
    price: Decimal
    at: dt.datetime


class Box(msgspec.Struct, Generic[T], frozen=True):
    inside: T


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    price: Decimal = Decimal(1)


class Deal(pydantic.BaseModel, frozen=True):
    price: Decimal
    weight: float = 0.0
    at: dt.datetime = NOON


class Rare(pydantic.BaseModel, frozen=True, extra="allow"):
    name: str


class Size(enum.IntEnum):
    S = 1


def time(hour, minute, offset):
    return dt.time(hour, minute, tzinfo=dt.timezone(dt.timedelta(minutes=offset)))


EQUAL = {
    "Decimal": (Decimal, [Decimal("9.5"), Decimal("9.50"), Decimal("95E-1"), Decimal("9.500")]),
    "whole Decimal": (Decimal, [Decimal(100), Decimal("1E+2"), Decimal("100.0")]),
    "large Decimal": (Decimal, [Decimal("1E+90"), Decimal("10E+89"), Decimal(10**90)]),
    "long Decimal": (Decimal, [Decimal("1." + "1" * 60), Decimal("1." + "1" * 60 + "0")]),
    "Decimal of nothing": (Decimal, [Decimal(0), Decimal("-0"), Decimal("0.00"), Decimal("0E+9")]),
    "negative Decimal": (Decimal, [Decimal("-9.5"), Decimal("-9.50")]),
    "datetime": (dt.datetime, [NOON, NOON.astimezone(EAST), NOON.astimezone(WEST)]),
    "datetime in zones": (dt.datetime, [NOON, NOON.astimezone(ZoneInfo("Asia/Tokyo"))]),
    "time": (dt.time, [time(12, 0, 0), time(17, 30, 330), time(4, 0, -480)]),
    "time before the day in UTC": (dt.time, [time(0, 30, 60), time(0, 0, 30), time(1, 0, 90)]),
    "time after the day in UTC": (dt.time, [time(23, 30, -60), time(23, 59, -31)]),
    "float": (float, [0.0, -0.0, 0]),
    "large float": (float, [1e22, 10**22]),
    "number": (int | float, [1, 1.0]),
    "large number": (int | float, [10**22, 1e22]),
    "nothing": (int | float | None, [0, -0.0, 0.0]),
    "Any": (Any, [1, 1.0, True]),
    "object": (object, [0, False, -0.0]),
    "tuple": (tuple[int, Decimal], [(1, Decimal("1.0")), (1, Decimal("1.00"))]),
    "tuple of anything": (tuple, [(1, "a"), (1.0, "a"), (True, "a")]),
    "set": (frozenset[Decimal], [frozenset({Decimal(1), Decimal("2.50")}), frozenset({Decimal("2.5"), Decimal("1.0")})]),
    "named tuple": (Pair, [Pair(Decimal(1), NOON), Pair(Decimal("1.0"), NOON.astimezone(EAST))]),
    "Struct": (Box[float], [Box(0.0), Box(-0.0)]),
    "Struct of bools": (Box[bool], [Box(True), Box(True)]),
    "Struct of anything": (Box, [Box(1), Box(1.0), Box(True)]),
    "dataclass": (Point, [Point(0.0), Point(-0.0), Point(0, Decimal("1.0"))]),
    "Pydantic": (Deal, [Deal(price=Decimal(1)), Deal(price=Decimal("1.0"), weight=-0.0, at=NOON.astimezone(WEST))]),
    "Pydantic with more": (Rare, [Rare(name="a", b=1, c=2), Rare(name="a", c=2.0, b=1.0)]),
    "dict": (dict[str, Decimal], [{"a": Decimal(1), "b": Decimal(2)}, {"b": Decimal("2.0"), "a": Decimal("1.0")}]),
}  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_equal_keys_are_one_entry(name):
    kind, keys = EQUAL[name]

    class Keyed(State, ttl=60):
        entries = Map(kind, int, keep=1)
        members = SetOf(kind, keep=1)
        counts = Tally(kind, keep=1)

    with Store.open("memory://") as store:
        states = store.collection(Keyed)
        for n, key in enumerate(keys):
            states.apply(
                "a", Keyed.entries.put(key, n), Keyed.members.add(key), Keyed.counts.add(key, n + 1)
            )
        state = states.get("a")
        for key in keys:
            assert state.entries[key] == len(keys) - 1
            assert key in state.members
            assert state.counts[key] == sum(range(len(keys) + 1))
        assert [*state.entries] == [*state.members] == [*state.counts] == [keys[0]]
        first, last = keys[0], keys[-1]
        states.apply("a", Keyed.entries.drop(last), Keyed.members.discard(first))
        state = states.get("a")
        assert len(state.entries) == len(state.members) == 0


def test_keys_that_differ_stay_apart():
    class Keyed(State, ttl=60):
        prices = SetOf(Decimal, keep=9)
        times = SetOf(dt.time, keep=9)
        anything = SetOf(object, keep=9)

    state = Keyed()
    state.prices.add(Decimal("1E-30"))
    state.prices.add(Decimal("1E+41"))
    state.prices.add(Decimal(0))
    days = {time(0, 30, 60), time(23, 30, 0), time(23, 30, -60), time(0, 30, 0), dt.time(0, 30)}
    for one in days:
        state.times.add(one)
    for one in (1, "1", None, 1.5):
        state.anything.add(one)
    assert set(state.prices) == {Decimal("1E-30"), Decimal("1E+41"), Decimal(0)}
    assert set(state.times) == days
    assert set(state.anything) == {1, "1", None, 1.5}


@dataclasses.dataclass(frozen=True)
class LeavesOut:
    key: str
    note: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True, eq=False)
class ByIdentity:
    key: str


class StructByIdentity(msgspec.Struct, frozen=True, eq=False):
    key: str


class OwnEqual(msgspec.Struct, frozen=True):
    key: str

    def __eq__(self, other):
        return self.key.lower() == other.key.lower()

    def __hash__(self):
        return hash(self.key.lower())


class Sets(pydantic.BaseModel, frozen=True):
    names: frozenset[str]


class Row(TypedDict):
    key: LeavesOut


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (bool | int, "bool and int may be equal"),
        (int | Decimal, "Decimal and int may be equal"),
        (Size | float, "Size and float may be equal"),
        (Literal[1] | float, "a Literal and float may be equal"),
        (tuple[str, bool | float], "bool and float may be equal"),
        (tuple[bool, Any], "True equals 1"),
        (frozenset[frozenset[int]], "sets of sets have no order"),
        (Sets, "Pydantic writes sets in any order"),
        (LeavesOut, "LeavesOut leaves note out of =="),
        (tuple[LeavesOut, int], "LeavesOut leaves note out of =="),
        (Row, "LeavesOut leaves note out of =="),
        (ByIdentity, "ByIdentity compares by identity"),
        (StructByIdentity, "StructByIdentity compares by identity"),
        (OwnEqual, "OwnEqual has an == of its own"),
    ],
    ids=repr,
)
def test_types_whose_equal_keys_could_be_several_entries_are_refused(kind, said):
    """When the class is made, by the field's name."""
    for field in (Map(kind, int, keep=3), SetOf(kind, keep=3), Tally(kind, keep=3)):
        with pytest.raises(SchemaError, match=said) as caught:
            type(State)("Keyed", (State,), {"things": field}, ttl=60)
        assert caught.value.field == "things"


def test_an_instant_that_utc_has_no_year_for_is_refused():
    class Keyed(State, ttl=60):
        at = SetOf(dt.datetime, keep=3)

    with pytest.raises(Invalid, match=r"at: .* in UTC it is before the year 1"):
        Keyed.at.add(dt.datetime(1, 1, 1, tzinfo=EAST))
