"""Whatever is put reads back equal by value and by type, or is refused: every field, every backend."""

import math

import families
import msgspec
import numpy as np
import pytest
from families import FAMILIES, deeply

from statehold import (
    Counter,
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
)


def hashable(value):
    try:
        hash(value)
    except TypeError:
        return False
    return True


def plain_fields(kind):
    return {
        "register": Register(kind, default=None),
        "log": Log(kind, keep=3),
        "turns": Turns(kind, keep=3),
        "entries": Map(str, kind, keep=3),
        "steps": Steps(kind, keep=3),
    }


def keyed_fields(kind):
    return {
        "keys": Map(kind, int, keep=3),
        "members": SetOf(kind, keep=3),
        "tally": Tally(kind, keep=3),
    }


KEYED = frozenset(keyed_fields(str))


def put(cls, name, value):
    """The edit that puts the value into the field, and how it is read from a state again."""
    field = getattr(cls, name)
    return {
        "register": lambda: (field.put(value), lambda s: s.register),
        "log": lambda: (field.append(value), lambda s: s.log[-1]),
        "turns": lambda: (field.append(value, value), lambda s: s.turns.turns[-1][1]),
        "entries": lambda: (field.put("k", value), lambda s: s.entries["k"]),
        "steps": lambda: (field.put("k", value), lambda s: s.steps["k"]),
        "keys": lambda: (field.put(value, 1), lambda s: next(iter(s.keys))),
        "members": lambda: (field.add(value), lambda s: next(iter(s.members))),
        "tally": lambda: (field.add(value), lambda s: next(iter(s.tally))),
    }[name]()


def classes(family):
    kind, kept, _ = FAMILIES[family]
    fields = plain_fields(kind)
    if kept and all(map(hashable, kept)) and kind not in (str | None, bytes):
        fields |= keyed_fields(kind)
    return type(State)("Values", (State,), fields, ttl=60)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_reads_back_by_value_and_type(store, family):
    cls = classes(family)
    states = store.collection(cls)
    for n, value in enumerate(FAMILIES[family][1]):
        want = deeply(value)
        puts = {name: put(cls, name, value) for name in cls.__schema__.fields}
        states.apply(f"{n}", *(edit for edit, _ in puts.values()))
        state = states.get(f"{n}")
        made = cls()  # what a session shows of what it has just been given
        for name, (edit, read) in puts.items():
            made._record(edit)
            for back in (read(state), read(made)):
                if name in KEYED:
                    assert back == value, name  # of equal keys one is kept
                else:
                    assert deeply(back) == want, name
        assert state.meta.corrupted == []


@pytest.mark.parametrize("family", FAMILIES)
def test_what_would_be_altered_is_refused(family):
    cls = classes(family)
    for value in FAMILIES[family][2]:
        for name in cls.__schema__.fields:
            if name in KEYED and not hashable(value):
                continue
            with pytest.raises(Invalid, match=f"^{name}: ") as caught:
                put(cls, name, value)
            assert caught.value.field == name
            assert "\n" not in str(caught.value)
            assert "hunter2" not in str(caught.value)


def test_attrs_classes_are_kept_whole(store):
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Item:
        sku: str
        seen: object = attrs.field(default=None, eq=False)

    @attrs.define
    class More(Item):
        why: str = ""

    cls = type(State)("Values", (State,), plain_fields(Item), ttl=60)
    states = store.collection(cls)
    for name in cls.__schema__.fields:
        edit, read = put(cls, name, Item("a", [1.0]))
        states.apply("a", edit)
        back = read(states.get("a"))
        assert (type(back), back.sku, back.seen) == (Item, "a", [1.0])
        for wrong in (Item("a", families.AT), More("a"), Item(1)):
            with pytest.raises(Invalid, match=f"^{name}: "):
                put(cls, name, wrong)


def test_what_is_said_of_a_value_names_the_place_and_shows_nothing():
    """One sentence, with the field, where in the value, and what would be read back."""
    turns = Log(families.Turn, keep=3)
    turns.__set_name__(State, "turns")
    tool = families.Turn(messages=[families.ToolMessage(role="hunter2", call="hunter2")])
    with pytest.raises(Invalid) as caught:
        turns.append(tool)
    assert str(caught.value) == (
        "turns: this Turn cannot be stored: messages[0] would be read back as Message, not ToolMessage"
    )
    for kind, wrong in (
        (families.Aliased, {"text": {"hunter2": "hunter2"}}),
        (families.Aliased, {"hunter2": 1}),
        (families.Drawing, {"shape": {"kind": "hunter2"}}),
        (families.Forbids, {"n": 1, "hunter2": "hunter2"}),
        (dict[str, families.Message], {"hunter2": {"role": 5}}),
        (families.Mood, "hunter2"),
        (families.Cat | families.Dog, {"type": "hunter2"}),
        (dict[families.Mood, int], {"hunter2": 1}),
    ):
        field = Register(kind, default=None)
        field.__set_name__(State, "field")
        with pytest.raises(Invalid) as caught:
            field._codec.from_json(wrong)
        said = str(caught.value)
        assert said.startswith("field: not a valid ")
        assert "hunter2" not in said
        assert "\n" not in said
        assert caught.value.__cause__ is None


def test_a_zone_is_kept_as_its_offset():
    """The instant and the offset stay; JSON has no name for a zone."""
    field = Register(families.dt.datetime | None, default=None)
    field.__set_name__(State, "at")
    back = field._codec.decode(field.put(families.BERLIN).value)
    assert back == families.BERLIN
    assert back.utcoffset() == families.BERLIN.utcoffset()


@pytest.mark.parametrize("value", [np.float64(1e16), np.float32(0.5), np.int64(5), np.str_("a")])
def test_numbers_of_numpy_and_of_fields_are_the_plain_ones(value):
    class Numbers(State, ttl=60):
        any = Register(object, default=None)
        turns = Counter()
        spent = Counter(float)

    with Store.open("memory://") as store:
        numbers = store.collection(Numbers)
        numbers.apply("a", Numbers.any.put([value]), Numbers.turns.add(3), Numbers.spent.add(1.5))
        assert deeply(numbers.get("a").any) == deeply([value.item()])
        with numbers.session("a") as state:
            state.any = [state.turns, state.spent]
        assert deeply(numbers.get("a").any) == deeply([3, 1.5])


def test_an_int_is_the_float_that_was_declared():
    for kind, value, want in (
        (float, 5, 5.0),
        (list[float], [1, 2.5], [1.0, 2.5]),
        (families.Point, families.Point(1), families.Point(1.0)),
    ):
        field = Register(kind, default=None)
        field.__set_name__(State, "field")
        assert deeply(field._codec.decode(field.put(value).value)) == deeply(want)
    field = Register(float, default=0.0)
    field.__set_name__(State, "field")
    with pytest.raises(Invalid):
        field.put(2**60 + 1)  # there is no float of that value


def test_a_deep_value_is_compared_to_its_end():
    """As deep as JSON goes: comparing takes no more of the interpreter's stack."""
    field = Register(object, default=None, max_bytes=10_000)
    field.__set_name__(State, "field")
    value = (1,)
    for _ in range(300):
        value = [value]
    with pytest.raises(Invalid, match="as list, not tuple"):
        field.put(value)


def test_a_model_that_is_given_an_alias_reads_what_was_stored_before():
    class Before(families.pydantic.BaseModel):
        content: str

    class First(State, ttl=60, kind="v"):
        said = Log(Before, keep=3)

    class Second(State, ttl=60, kind="v"):
        said = Log(families.Aliased, keep=3)

    with Store.open("memory://") as one, Store(one.driver) as two:
        one.collection(First).apply("a", First.said.append(Before(content="hi")))
        state = two.collection(Second).get("a")
        assert [message.content for message in state.said] == ["hi"]


def test_too_large_is_said_of_the_bytes_that_are_stored():
    field = Register(families.Camel, default=None, max_bytes=20)
    field.__set_name__(State, "field")
    with pytest.raises(TooLarge, match="field: a value of"):
        field.put(families.Camel(first_name="a" * 20))


def test_floats_keep_their_sign(store):
    class Signs(State, ttl=60):
        real = Register(float, default=1.0)
        any = Map(str, object, keep=3)

    states = store.collection(Signs)
    states.apply("a", Signs.real.put(-0.0), Signs.any.put("k", [-0.0]))
    state = states.get("a")
    assert math.copysign(1, state.real) == -1
    assert math.copysign(1, state.any["k"][0]) == -1


def test_what_is_certain_is_what_would_have_been_compared():
    """The short cut for exact builtins and plain Structs says nothing of any other value."""
    from statehold.formats import Format

    for kind, kept, refused in FAMILIES.values():
        certain = Format(kind).certain
        assert not any(certain(value) for value in refused if not isinstance(value, str))
        for value in kept:
            if certain(value):
                data = msgspec.json.encode(value)
                assert deeply(msgspec.json.decode(data, type=kind)) == deeply(value)
    assert Format(families.Plain).certain(families.Plain("u", 1))
    assert Format(str).certain("a")
    assert not Format(str).certain(families.Mood.GLAD)


# ------------------------------------------------------------------------- what others' encoders make


class Constants(families.pydantic.BaseModel, ser_json_inf_nan="constants"):
    f: float


@families.dataclasses.dataclass
class HoldsConstants:
    inside: Constants


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("hold", [Constants, HoldsConstants, list[Constants]])
def test_what_an_encoder_makes_that_is_no_json_is_refused(hold, number):
    """Pydantic can be told to write Infinity and NaN, which no other reader of JSON takes."""
    value = Constants(f=number)
    value = {Constants: value, HoldsConstants: HoldsConstants(value)}.get(hold, [value])
    cls = type(State)("Values", (State,), plain_fields(hold), ttl=60)
    for name in cls.__schema__.fields:
        with pytest.raises(Invalid, match=f"^{name}: .*not written as valid JSON"):
            put(cls, name, value)
    frozen = families.pydantic.create_model(
        "Key", __base__=Constants, __cls_kwargs__={"frozen": True}
    )
    members = SetOf(frozen, keep=3)
    members.__set_name__(State, "members")
    with pytest.raises(Invalid, match=r"^members: .*not written as valid JSON"):
        members.add(frozen(f=number))
    assert Register(Constants, default=Constants(f=1.5)).default.f == 1.5


@pytest.mark.parametrize("raw", [b"Infinity", b'"\xff"', b"[1,]", b"", b"1 2"])
def test_json_that_is_given_ready_made_is_refused_where_it_is_none(raw):
    cls = type(State)("Values", (State,), plain_fields(dict[str, msgspec.Raw]), ttl=60)
    for name in cls.__schema__.fields:
        with pytest.raises(Invalid, match=f"^{name}: "):
            put(cls, name, {"a": msgspec.Raw(raw)})
    put(cls, "log", {"a": msgspec.Raw(b'[1.5,"\xc3\xa9"]')})


# --------------------------------------------------------------------------- what is said, and of what


def error_of(kind, value):
    field = Register(kind, default=None)
    field.__set_name__(State, "field")
    with pytest.raises(Invalid, match=r"^field: ") as caught:
        field.put(value)
    return str(caught.value)


def test_bytes_that_pydantic_cannot_write_are_named():
    class Blob(families.pydantic.BaseModel):
        raw: bytes

    class Blobs(families.pydantic.BaseModel):
        inside: list[Blob]

    said = error_of(Blobs, Blobs(inside=[Blob(raw=b"fine"), Blob(raw=b"\xff\xfe")]))
    assert "inside[1].raw is not UTF-8" in said
    assert "base64" in said


@pytest.mark.parametrize("kind", ["Pydantic", "Struct", "dataclass", "Enum"])
def test_a_value_of_a_class_that_was_defined_again_is_said_to_be_one(kind):
    """In a notebook: the same name, another class."""

    def made():
        if kind == "Pydantic":
            return families.pydantic.create_model("M", role=(str, ...))
        if kind == "Struct":
            return msgspec.defstruct("M", [("role", str)])
        if kind == "dataclass":
            return families.dataclasses.make_dataclass("M", [("role", str)])
        return families.enum.Enum("M", {"A": "a"})

    old, new = made(), made()
    value = old.A if kind == "Enum" else old(role="u")
    other = "of another class that is called M too, which was defined before it or elsewhere"
    assert f"this M cannot be stored: it is {other}" in error_of(new, value)
    assert f"[0] is {other}" in error_of(list[new], [value])


@pytest.mark.parametrize("keys", [bool, None, tuple[int, int], frozenset[str]])
def test_a_dict_whose_keys_have_no_json_is_no_type_of_values(keys):
    with pytest.raises(SchemaError, match=r"field: .* cannot be the key of a dict in JSON"):
        Register(dict[keys, int], default=None).__set_name__(State, "field")
    assert "cannot be the key of a dict in JSON" in error_of(object, {True: 1})


def test_a_number_where_json_should_be_says_what_it_is():
    class Before(State, ttl=60, kind="v"):
        seen = Counter()

    class After(State, ttl=60, kind="v"):
        seen = Register(int, default=0)

    with Store.open("memory://") as one, Store(one.driver) as two:
        one.collection(Before).apply("a", Before.seen.add(3))
        state = two.collection(After).get("a")
        assert state.seen == 0
        assert [found.reason for found in state.meta.corrupted] == [
            "a number of a counter, where JSON should be"
        ]


def test_what_does_not_fit_is_listed_when_its_field_is_read():
    class Before(State, ttl=60, kind="v"):
        said = Log(str, keep=3)

    class After(State, ttl=60, kind="v"):
        said = Log(int, keep=3)

    with Store.open("memory://") as one, Store(one.driver) as two:
        one.collection(Before).apply("a", Before.said.append("x"))
        state = two.collection(After).get("a")
        assert state.meta.corrupted == []
        assert list(state.said) == []
        assert len(state.meta.corrupted) == 1
        again = two.collection(After).get("a")
        again.to_json()  # reads them all
        assert len(again.meta.corrupted) == 1
