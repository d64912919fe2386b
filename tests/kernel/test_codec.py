"""A decoded value equals the encoded one, for every supported type; anything else is refused."""

import collections
import dataclasses
import datetime as dt
import enum
import math
import re
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from statehold import Invalid, Register, SchemaError, State, TooLarge
from statehold.codec import Codec, NameCodec, json_schema


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    S = 1
    L = 3


class Point(msgspec.Struct, frozen=True):
    x: float
    y: float = 0.0


class Circle(msgspec.Struct, tag=True, frozen=True):
    centre: Point
    radius: int


class Square(msgspec.Struct, tag=True, frozen=True):
    corners: tuple[Point, ...]


class ById(msgspec.Struct, eq=False):
    at: dt.datetime


@dataclasses.dataclass
class Item:
    sku: str
    price: Decimal
    tags: frozenset[str] = frozenset()


@dataclasses.dataclass(eq=False)
class Opaque:
    inside: list[int]


class Slot(TypedDict, total=False):
    name: str
    value: int


class Pair(NamedTuple):
    left: int
    right: str


class Node(msgspec.Struct):
    value: int
    below: "list[Node]" = []


class Product(pydantic.BaseModel):
    sku: str
    price: Decimal
    seen: dt.datetime | None = None
    score: float | None = None


class Order(pydantic.BaseModel):
    products: list[Product]
    note: str = pydantic.Field(default="", exclude=True)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
floats = st.floats(allow_nan=False, allow_infinity=False)
ints = st.integers() | st.sampled_from([2**53 + 1, 2**63, -(2**63), 2**64, 10**40])
zones = st.sampled_from(
    [dt.UTC, dt.timezone(dt.timedelta(hours=-9, minutes=30)), ZoneInfo("Europe/Berlin")]
)
times = st.datetimes(
    dt.datetime(1970, 1, 2),  # noqa: DTZ001
    dt.datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.none() | zones,
)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
points = st.builds(Point, floats, floats)
products = st.builds(
    Product,
    sku=texts,
    price=decimals,
    seen=st.none() | st.datetimes(timezones=st.just(dt.UTC)),
    score=st.none() | floats,
)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
nodes = st.recursive(
    st.builds(Node, ints),
    lambda inner: st.builds(Node, ints, st.lists(inner, max_size=2)),
    max_leaves=5,
)

VALUES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (None, st.none()),
    (bool, st.booleans()),
    (int, ints),
    (float, floats),
    (str, texts),
    (bytes, st.binary(max_size=30)),
    (bytearray, st.binary(max_size=30).map(bytearray)),
    (dt.datetime, times),
    (dt.date, st.dates()),
    (dt.time, st.times()),
    (dt.timedelta, st.timedeltas(dt.timedelta(-99999), dt.timedelta(99999))),
    (uuid.UUID, st.uuids()),
    (Decimal, decimals),
    (Colour, st.sampled_from(Colour)),
    (Size, st.sampled_from(Size)),
    (Literal["a", 1], st.sampled_from(["a", 1])),
    (Annotated[int, msgspec.Meta(ge=0)], st.integers(0, 2**63)),
    (Any, json),
    (object, json),
    (list[int | None], st.lists(st.none() | ints, max_size=5)),
    (tuple[int, str], st.tuples(ints, texts)),
    (set[str], st.sets(texts, max_size=5)),
    (frozenset[int], st.frozensets(ints, max_size=5)),
    (dict[str, float], st.dictionaries(texts, floats, max_size=5)),
    (dict[int, bool], st.dictionaries(ints, st.booleans(), max_size=5)),
    (dict[uuid.UUID, dt.date], st.dictionaries(st.uuids(), st.dates(), max_size=3)),
    (int | str | list[float], ints | texts | st.lists(floats, max_size=3)),
    (Point, points),
    (
        Circle | Square,
        st.builds(Circle, points, ints)
        | st.builds(Square, st.lists(points, max_size=3).map(tuple)),
    ),
    (list[Circle | None], st.lists(st.none() | st.builds(Circle, points, ints), max_size=3)),
    (Item, st.builds(Item, texts, decimals, st.frozensets(texts, max_size=3))),
    (Slot, st.fixed_dictionaries({}, optional={"name": texts, "value": ints})),
    (Pair, st.builds(Pair, ints, texts)),
    (Node, nodes),
    (Product, products),
    (list[Product] | None, st.none() | st.lists(products, max_size=3)),
    (
        dict[str, Order],
        st.dictionaries(
            texts,
            st.builds(Order, products=st.lists(products, max_size=2), note=st.just("")),
            max_size=2,
        ),
    ),
]


@pytest.mark.parametrize(
    ("kind", "values"), [pytest.param(*pair, id=f"{n} {pair[0]}") for n, pair in enumerate(VALUES)]
)
def test_what_is_encoded_is_what_is_decoded(kind, values):
    codec = Codec(kind, "field", 1 << 20)

    @settings(max_examples=40)
    @given(values)
    def check(value):
        data = codec.encode(value)
        back = codec.decode(data)
        assert back == value or isinstance(value, dt.datetime)
        assert type(back) is type(value)
        msgspec.json.decode(data)  # other languages can read it
        if isinstance(value, dt.datetime) and value.tzinfo:
            assert back.astimezone(dt.UTC) == value.astimezone(dt.UTC)
        assert codec.from_json(msgspec.json.decode(data)) == back or isinstance(value, float)

    check()


@given(
    st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(width=16, allow_nan=False, allow_infinity=False)
)
def test_floats_keep_every_bit(value):
    codec = Codec(float, "field", 64)
    assert math.copysign(1, codec.decode(codec.encode(value))) == math.copysign(1, value)
    assert codec.decode(codec.encode(value)).hex() == value.hex()


def test_the_hour_that_a_clock_shows_twice_can_be_stored():
    berlin = ZoneInfo("Europe/Berlin")
    for fold in (0, 1):
        twice = dt.datetime(2024, 10, 27, 2, 30, tzinfo=berlin, fold=fold)
        for kind, value in (
            (dt.datetime, twice),
            (list[dt.datetime], [twice]),
            (ById, ById(twice)),
        ):
            codec = Codec(kind, "field", 99)
            codec.encode(value)
        codec = Codec(dt.datetime, "field", 99)
        assert codec.decode(codec.encode(twice)).timestamp() == twice.timestamp()


def test_classes_that_compare_by_identity_can_be_stored():
    codec = Codec(list[Opaque], "field", 99)
    assert codec.decode(codec.encode([Opaque([1, 2])]))[0].inside == [1, 2]
    codec = Codec(dict[str, ById], "field", 99)
    when = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    assert codec.decode(codec.encode({"a": ById(when)}))["a"].at == when
    with pytest.raises(Invalid):
        Codec(list[Opaque], "field", 99).encode([Opaque((1, 2))])


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (np.float64(0.1), float),
        (np.float32(0.1), float),
        (np.int64(5), int),
        (np.uint8(5), float),
        (np.True_, bool),
        (np.str_("a"), str),
    ],
    ids=repr,
)
def test_numpy_scalars_are_the_numbers_that_they_hold(number, kind):
    codec = Codec(kind, "field", 99)
    assert codec.decode(codec.encode(number)) == number
    codec = Codec(dict[str, Any], "field", 99)
    assert codec.decode(codec.encode({"a": [number]})) == {"a": [number]}


WRONG = [
    (float, math.nan),
    (float, math.inf),
    (float, -math.inf),
    (float | None, math.nan),
    (list[float | None], [math.inf]),
    (Point, Point(math.nan)),
    (Any, {"a": math.nan}),
    (Product, Product(sku="a", price=Decimal(1), score=math.nan)),
    (list[Product], [Product(sku="a", price=Decimal(1), score=math.inf)]),
    (str, "\ud800"),
    (Any, ["\udfff"]),
    (int, 10**5000),
    (Any, [-(10**5000)]),
    (int, "5"),
    (int, 5.0),
    (int, True),
    (int, None),
    (str, 5),
    (str, b"5"),
    (bytes, "5"),
    (float, "5"),
    (float, 2**60 + 1),
    (bool, 1),
    (list[int], (1, 2)),
    (list[int], [1, "2"]),
    (list[int], np.array([1, 2])),
    (list[int], iter([1])),
    (tuple[int, int], [1, 2]),
    (tuple[int, int], (1, 2, 3)),
    (dict[str, int], {1: 1}),
    (Any, {1: 1}),
    (Any, (1, 2)),
    (Any, {1, 2}),
    (Any, dt.date(2024, 1, 1)),
    (Colour, "red"),
    (Literal["a"], "b"),
    (Annotated[int, msgspec.Meta(ge=0)], -1),
    (Point, {"x": 1.0, "y": 0.0}),
    (Point, Point("a")),
    (Slot, {"name": "a", "more": 1}),
    (Product, {"sku": "a", "price": 1}),
    (Product, Product.model_construct(sku=5, price=1)),
    (Product, 5),
    (Any, object()),
    (Any, lambda: 0),
    (Decimal, Decimal("NaN")),
    (dt.datetime, "2024-01-01T00:00:00"),
]  # fmt: skip


@pytest.mark.filterwarnings("default")  # as where warnings are no errors
@pytest.mark.parametrize(
    ("kind", "value"), [pytest.param(*pair, id=f"{n} {pair[0]}") for n, pair in enumerate(WRONG)]
)
def test_what_would_not_be_read_back_is_refused(kind, value):
    codec = Codec(kind, "field", 1 << 20)
    with pytest.raises(Invalid, match=r"^field: ") as caught:
        codec.encode(value)
    assert caught.value.field == "field"


def test_a_value_that_holds_itself_is_refused():
    value: list[Any] = []
    value.append(value)
    with pytest.raises(Invalid):
        Codec(Any, "field", 1 << 20).encode(value)


@given(texts)
def test_the_byte_limit_is_of_what_is_stored(text):
    size = len(msgspec.json.encode(text))
    assert len(Codec(str, "field", size).encode(text)) == size
    assume(size > 1)
    with pytest.raises(TooLarge, match="field") as caught:
        Codec(str, "field", size - 1).encode(text)
    assert (caught.value.expected, caught.value.found) == (size - 1, size)


class Custom:
    pass


@dataclasses.dataclass
class Holds:
    deep: dict[str, list[Custom]]


@pytest.mark.parametrize(
    "kind",
    [
        Custom,
        list[Custom],
        Custom | None,
        Holds,
        re.Pattern,
        collections.deque,
        complex,
        np.ndarray,
        np.float64,
        str | bytes,
        "nowhere",
        5,
    ],
    ids=str,
)
def test_a_type_without_json_is_refused_with_its_class(kind):
    with pytest.raises(SchemaError, match="thing"):

        class Bad(State, ttl=60):
            thing = Register(kind, default=None)


@settings(max_examples=60)
@given(st.data())
def test_names_of_entries_come_back(data):
    kind, values = data.draw(
        st.sampled_from(
            [
                (str, texts),
                (int, st.integers(-(2**63), 2**63 - 1)),
                (uuid.UUID, st.uuids()),
                (dt.date, st.dates()),
                (Colour, st.sampled_from(Colour)),
                (tuple[int, str], st.tuples(st.integers(0, 99), texts)),
                (int | str, st.integers(0, 99) | texts),
                (float, floats),
                (bool, st.booleans()),
                (Point, points),
                (frozenset[str], st.frozensets(texts, max_size=4)),
            ]
        )
    )
    value = data.draw(values)
    codec = NameCodec(kind, "field")
    name = codec.encode(value)
    assert codec.decode(name) == value
    assert type(name) is str
    assert codec.encode(codec.decode(name)) == name
    again = NameCodec(kind, "field").encode(
        type(value)(value) if isinstance(value, frozenset) else value
    )
    assert again == name  # equal keys have one name
    if kind not in {str, int | str}:
        assert codec.from_json(name) == value


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (str, 5),
        (str, b"a"),
        (str, None),
        (str, "\ud800"),
        (int, True),
        (int, 1.0),
        (int, "1"),
        (float, math.nan),
        (float | None, math.inf),
        (Colour, "red"),
    ],
    ids=repr,
)
def test_keys_of_another_type_are_refused(kind, key):
    with pytest.raises(Invalid, match="field"):
        NameCodec(kind, "field").encode(key)


def test_keys_have_a_limit():
    assert NameCodec(str, "field").encode("é" * 256)
    for kind, key in ((str, "é" * 257), (tuple[str, int], ("x" * 512, 1))):
        with pytest.raises(TooLarge, match="512"):
            NameCodec(kind, "field").encode(key)


def test_schemas_have_no_references_and_end():
    assert json_schema(Node)["properties"]["below"]["items"] == {}
    text = repr(json_schema(list[Circle | Square])) + repr(json_schema(Order))
    assert "$ref" not in text
    assert (
        json_schema(Order)["properties"]["products"]["items"]["properties"]["sku"]["type"]
        == "string"
    )
