"""Families of values: of each a type, values of it that are kept, and values that are refused."""

import dataclasses
import datetime as dt
import enum
import functools
import uuid
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pydantic
from pydantic import Field
from pydantic.alias_generators import to_camel

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    S = 1


class Mood(enum.StrEnum):
    GLAD = "glad"


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Listed(list):
    pass


class Mapped(dict):
    pass


# ------------------------------------------------------------------------------------------- Structs


class Plain(msgspec.Struct, frozen=True):
    role: str
    count: int | None = None


class More(Plain, frozen=True):
    call: str = ""


class Mixed(msgspec.Struct):
    size: float
    inside: list[Plain] = []
    other: Any = None


class ByKey(msgspec.Struct):
    key: str
    seen: Any = None

    def __eq__(self, other):
        return self.key == other.key

    __hash__ = None


class Cat(msgspec.Struct, tag=True, frozen=True):
    lives: int


class Dog(msgspec.Struct, tag=True, frozen=True):
    name: str


class Renamed(msgspec.Struct, rename="camel", omit_defaults=True):
    first_name: str = "Ann"


class Doubles(msgspec.Struct):
    n: int

    def __post_init__(self):
        self.n = min(2 * self.n, 100)


class Within(msgspec.Struct):
    inner: Plain
    n: int = 0


class Generally(msgspec.Struct, Generic[T], frozen=True):
    inside: T
    more: T | None = None


class Unset(msgspec.Struct):
    a: int | msgspec.UnsetType = msgspec.UNSET
    b: int = 1


# --------------------------------------------------------- dataclasses, typed dicts and named tuples


@dataclasses.dataclass
class Item:
    sku: str
    at: Any = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass
class Rarer(Item):
    why: str = ""

    @functools.cached_property
    def shout(self):
        return self.why.upper()


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0


@dataclasses.dataclass
class Cart:
    items: list[Item]


class Slot(TypedDict, total=False):
    name: str
    value: int


class Pair(NamedTuple):
    left: int
    right: str


# ------------------------------------------------------------------------------------------- Pydantic


class Message(pydantic.BaseModel):
    role: str


class ToolMessage(Message):
    call: str


class Turn(pydantic.BaseModel):
    messages: list[Message]


class Frozen(pydantic.BaseModel, frozen=True):
    role: str


class Aliased(pydantic.BaseModel):
    content: str = Field(alias="text")


class Camel(pydantic.BaseModel, alias_generator=to_camel, populate_by_name=True):
    first_name: str
    inner_part: Aliased | None = None


class Apart(pydantic.BaseModel):
    value: int = Field(validation_alias="in", serialization_alias="out")


class Swapped(pydantic.BaseModel, populate_by_name=True):
    a: str = Field(alias="b")
    b: str = Field(alias="a")


class Chosen(pydantic.BaseModel, populate_by_name=True):
    value: int = Field(validation_alias=pydantic.AliasChoices("first", "second"))


class Forbids(pydantic.BaseModel, extra="forbid"):
    n: int

    @pydantic.computed_field
    @property
    def double(self) -> int:
        return 2 * self.n


class Allows(pydantic.BaseModel, extra="allow"):
    n: int = 0


class Excludes(pydantic.BaseModel):
    n: int = 0
    secret: str = Field(default="", exclude=True)


class Rounded(pydantic.BaseModel):
    x: float

    @pydantic.field_serializer("x")
    def rounded(self, x: float) -> float:
        return round(x)


class Wrapped(pydantic.BaseModel):
    x: int

    @pydantic.model_serializer
    def wrapped(self) -> dict[str, Any]:
        return {"y": self.x}


class Box(pydantic.BaseModel, Generic[T]):
    inside: T


class Names(pydantic.RootModel[list[str]]):
    pass


class Circle(pydantic.BaseModel):
    kind: Literal["circle"] = "circle"
    radius: float


class Square(pydantic.BaseModel):
    kind: Literal["square"] = "square"
    side: int


class Drawing(pydantic.BaseModel):
    shape: Circle | Square = Field(discriminator="kind")
    note: Any = None


class Private(pydantic.BaseModel):
    n: int = 0
    _cache: int = pydantic.PrivateAttr(default=0)


class Parsed(pydantic.BaseModel):
    data: pydantic.Json[list[int]]


class Login(pydantic.BaseModel):
    password: pydantic.SecretStr


class Stamped(pydantic.BaseModel):
    when: dt.datetime
    price: Decimal
    id: uuid.UUID
    raw: bytes = b""
    mood: Mood = Mood.GLAD


@dataclasses.dataclass
class Holder:
    model: Message


@pydantic.dataclasses.dataclass
class Checked:
    name: str
    inside: Message | None = None
    rank: int = Field(default=0, ge=0)


def unchecked():
    value = Checked("a")
    value.rank = "1"
    return value


def private(**values):
    model = Private(n=1)
    model._cache = values["cache"]
    return model


def rarer_that_was_shouted():
    item = Rarer("a", why="b")
    assert item.shout == "B"
    return item


def item_with_more():
    item = Item("a")
    item.more = 1
    return item


AT = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
NUMBERS = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 0.1, 1.0, 1e16, 1e22, 1e300, 5e-324, -1.5]
JSON = [
    None,
    True,
    "",
    '\u00e9 \U0001f45f \\ " \n',
    [],
    {},
    [[], [{}], [None, False, ""]],
    {"": {"a": [1, 1.0, -0.0, 1e16, 1e22, True, None]}},
]

FAMILIES = {
    "str": (str, ["", "a", ' \u00e9 \U0001f45f \\n " '], [Mood.GLAD, Text("a"), b"a", 1, "\ud800"]),
    "int": (int, NUMBERS, [True, 1.0, Size.S, Whole(1), "1"]),
    "float": (float, FLOATS, [float("nan"), float("inf"), "1", True]),
    "bool": (bool, [True, False], [1, 0.0, "true"]),
    "bytes": (bytes, [b"", b"\x00\xff"], ["a", bytearray(b"a")]),
    "None": (int | None, [None, 3], [3.0]),
    "int | float": (int | float, [*NUMBERS, *FLOATS], [True]),
    "Any": (
        Any,
        [*JSON, *NUMBERS, *FLOATS],
        [(1,), {1}, {1: 2}, AT, b"a", Mood.GLAD, Plain("u"), Listed(), Mapped(), [Text("a")], {"a": (1,)}],
    ),
    "list": (list[int], [[], [1, 2**53 + 1]], [(1,), Listed([1]), [True], [1.0], [Size.S]]),
    "tuple": (tuple[int, ...], [(), (1, 2)], [[1], Pair(1, "a"), (1, 2.0)]),
    "set": (frozenset[str], [frozenset(), frozenset({"a", "b"})], [{"a"}, frozenset({Mood.GLAD})]),
    "dict": (dict[str, Any], [{}, {"a": JSON}], [Mapped(a=1), {Mood.GLAD: 1}, {"a": AT}, {1: 1}]),
    "dict of ints": (dict[int, float], [{}, {1: 0.5, -2: 1e16}], [{"1": 0.5}, {True: 1.0}]),
    "Enum": (Colour, [Colour.RED], ["red"]),
    "IntEnum": (Size, [Size.S], [1, True]),
    "StrEnum": (Mood, [Mood.GLAD], ["glad"]),
    "datetime": (dt.datetime, [AT, dt.datetime(2026, 1, 1)], [AT.date(), "2026-01-01"]),  # noqa: DTZ001
    "date": (dt.date, [AT.date()], [AT]),
    "timedelta": (dt.timedelta, [dt.timedelta(days=-1, microseconds=1)], [1]),
    "UUID": (uuid.UUID, [uuid.UUID(int=5)], [str(uuid.UUID(int=5))]),
    "Decimal": (Decimal, [Decimal("1.10"), Decimal("-0"), Decimal("1E+5")], [1.5, "1", Decimal("NaN")]),
    "Struct": (Plain, [Plain("u"), Plain("", 2**53 + 1)], [More("u", 1, "x"), Plain(Mood.GLAD), Plain("u", True), Plain(1), {"role": "u"}, Message(role="u")]),
    "Struct of more": (
        Mixed,
        [Mixed(1e16), Mixed(0.5, [Plain("u", 1)], {"a": [1.0]})],
        [Mixed(0.5, [More("u")]), Mixed(0.5, (Plain("u"),)), Mixed(0.5, [], AT), Mixed(0.5, [], (1,)), Mixed(0.5, [], Plain("u"))],
    ),
    "Struct that equals by key": (ByKey, [ByKey("a"), ByKey("a", [1])], [ByKey("a", AT), ByKey("a", {1})]),
    "tagged union": (Cat | Dog, [Cat(9), Dog("a")], [Plain("u"), Cat("9")]),
    "renamed Struct": (Renamed, [Renamed(), Renamed("Bob")], []),
    "generic Struct": (Generally[int], [Generally(1), Generally(1, 2)], [Generally("a"), Generally(1.0), Plain("u")]),
    "generic Struct of floats": (Generally[float], [Generally(1.5), Generally(-0.5, 1e22)], [Generally("a")]),
    "generic Struct of Structs": (Generally[Plain], [Generally(Plain("u")), Generally(Plain(""), Plain("v", 3))], [Generally(More("u", 1, "x")), Generally(1), Generally(Plain("u", True))]),
    "Struct in a Struct": (Within, [Within(Plain("u")), Within(Plain("", 2**53 + 1), 3)], [Within(More("u", 1, "x")), Within(Plain("u"), 1.0), Plain("u")]),
    "Struct with UNSET": (Unset, [Unset(), Unset(1), Unset(b=2)], [Unset(None), Unset(1.0)]),
    "Struct that changes": (Doubles, [Doubles(60)], [Doubles(1)]),
    "dataclass": (Item, [Item("a"), Item("a", [1])], [Item("a", AT), Rarer("a", why="b"), item_with_more(), Item(1)]),
    "dataclass inherited": (Rarer, [Rarer("a", 1, "b"), rarer_that_was_shouted()], [Item("a"), Rarer("a", (1,))]),
    "frozen dataclass": (Point, [Point(1e22, -0.0)], [Point("a")]),
    "dataclass of dataclasses": (Cart, [Cart([Item("a")])], [Cart([Rarer("a")]), Cart((Item("a"),))]),
    "TypedDict": (Slot, [{}, {"name": "a", "value": 1}], [{"name": Mood.GLAD}, {"more": 1}, {"value": 1.0}]),
    "NamedTuple": (Pair, [Pair(1, "a")], [(1, "a"), Pair(True, "a"), Pair(1, Mood.GLAD)]),
    "Pydantic": (Message, [Message(role="u")], [ToolMessage(role="u", call="c"), Plain("u"), {"role": "u"}, Message.model_construct(role=5)]),
    "Pydantic or None": (Message | None, [None, Message(role="")], [5]),
    "Pydantic nested": (Turn, [Turn(messages=[]), Turn(messages=[Message(role="u")])], [Turn(messages=[ToolMessage(role="u", call="c")])]),
    "Pydantic frozen": (Frozen, [Frozen(role="u")], []),
    "list of Pydantic": (list[Message], [[], [Message(role="u")]], [[ToolMessage(role="u", call="c")]]),
    "alias": (Aliased, [Aliased(text="a")], [Message(role="u")]),
    "alias generator": (Camel, [Camel(first_name="a", inner_part=Aliased(text="b"))], []),
    "aliases apart": (Apart, [Apart(**{"in": 1})], []),
    "aliases swapped": (Swapped, [Swapped(a="1", b="1"), Swapped.model_validate({"a": "1", "b": "2"})], []),
    "alias choices": (Chosen, [Chosen(first=1)], []),
    "computed and forbidding": (Forbids, [Forbids(n=2)], []),
    "extra allowed": (Allows, [Allows(n=1), Allows(n=1, more=[1.0, "a"])], [Allows(more=AT), Allows(more=(1,))]),
    "excluded": (Excludes, [Excludes(n=1)], [Excludes(secret="a")]),
    "field serializer": (Rounded, [Rounded(x=2.0)], [Rounded(x=2.4)]),
    "model serializer": (Wrapped, [], [Wrapped(x=1)]),
    "generic": (Box[int], [Box[int](inside=1)], [Box[float](inside=1.0), Box(inside=1)]),
    "generic of models": (Box[Message], [Box[Message](inside=Message(role="u"))], [Box[Message](inside=ToolMessage(role="u", call="c"))]),
    "root model": (Names, [Names([]), Names(["a"])], [["a"]]),
    "discriminated": (Drawing, [Drawing(shape=Circle(radius=1e16)), Drawing(shape=Square(side=2))], [Drawing(shape=Square(side=2), note=AT)]),
    "discriminated union": (Annotated[Circle | Square, Field(discriminator="kind")], [Circle(radius=1.5), Square(side=2)], [Message(role="u")]),
    "private attribute": (Private, [Private(n=1), private(cache=0)], [private(cache=5)]),
    "Json": (Parsed, [Parsed(data="[1,2]")], []),
    "SecretStr": (Login, [], [Login(password="hunter2")]),
    "Pydantic of many": (Stamped, [Stamped(when=AT, price=Decimal("1.10"), id=uuid.UUID(int=1), raw=b"a")], []),
    "dataclass by Pydantic": (Checked, [Checked("a"), Checked("a", Message(role="u"), 3)], [Item("a"), unchecked(), Checked("a", ToolMessage(role="u", call="c"))]),
    "dataclass of Pydantic": (Holder, [Holder(Message(role="u"))], [Holder(ToolMessage(role="u", call="c"))]),
}  # fmt: skip
"""Name → (type, what is kept, what is refused)."""

BERLIN = dt.datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))


def deeply(value):  # noqa: PLR0911  one kind of value after another
    """A value as its type and all that it holds, to be compared with `==`."""
    kind = type(value)
    if isinstance(value, enum.Enum) or value is None:
        return kind, value
    if isinstance(value, float):
        return kind, value.hex()
    if isinstance(value, list | tuple):
        return kind, [deeply(inside) for inside in value]
    if isinstance(value, dict):
        return kind, [(deeply(key), deeply(inside)) for key, inside in value.items()]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(deeply(inside)) for inside in value)
    if isinstance(value, Decimal):
        return kind, value.as_tuple()
    if isinstance(value, msgspec.Struct):
        return kind, [deeply(getattr(value, name)) for name in value.__struct_fields__]
    if isinstance(value, pydantic.BaseModel):
        parts = (value.__pydantic_extra__, value.__pydantic_private__)
        return kind, [deeply(dict(value.__dict__)), *map(deeply, parts)]
    if hasattr(value, "__dict__"):
        held = {n: v for n, v in vars(value).items() if n != "shout"}
        return kind, [deeply(dict(sorted(held.items())))]  # in whatever order they were set
    return kind, value
