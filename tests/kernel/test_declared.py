"""What a class of states may hold, and when two of a kind are the same."""

import dataclasses
import enum
from typing import ClassVar, Final

import msgspec
import pydantic
import pytest

from statehold import (
    Counter,
    Invalid,
    Log,
    Map,
    Register,
    SchemaError,
    State,
    Steps,
    Store,
    Turns,
    Vector,
)

# -------------------------------------------------------------------------------- what a class holds


@pytest.mark.parametrize("kind", [int, "int", "Register[int]"], ids=repr)
def test_an_annotation_that_is_no_field_is_refused(kind):
    """As one writes it for other libraries; it would hold nothing."""
    with pytest.raises(SchemaError, match=r"Z: 'x' is an annotation and holds nothing"):
        type(State)("Z", (State,), {"__annotations__": {"x": kind}, "x": 0}, ttl=1)
    with pytest.raises(SchemaError, match="'x'"):
        type(State)("Z", (State,), {"__annotations__": {"x": kind}, "n": Counter()}, ttl=1)


def test_what_belongs_to_the_class_may_be_annotated():
    class Chat(State, ttl=60):
        LIMIT: ClassVar[int] = 3
        MOST: Final = 5
        _own: int = 7
        said: Log[str] = Log(str, keep=3)

    class Texts(State, ttl=60):
        __annotations__ = {"a": "ClassVar[int]", "b": "typing.Final[int]"}
        n = Counter()

    assert list(Chat.__schema__.fields) == ["said"]


def test_a_class_without_fields_is_for_others_to_inherit():
    class Base(State, ttl=60, ops=7):
        pass

    class Chat(Base):
        turns = Counter()

    assert Chat.__schema__.ops == 7
    with Store.open("memory://") as store:
        with pytest.raises(Invalid, match="Base has no fields"):
            store.collection(Base)
        store.collection(Chat)


# ------------------------------------------------------------------------------ a class defined again


def talk(**fields):
    return type(State)("Talk", (State,), fields, ttl=60)


def struct(name="Message", **members):
    return msgspec.defstruct(name, list(members.items()))


def model(name="Message", **members):
    return pydantic.create_model(name, **{n: (kind, ...) for n, kind in members.items()})


def colours(*names):
    return enum.Enum("Colour", {name: name for name in names})


DECLARED = {
    "Struct": lambda: Log(struct(role=str), keep=5),
    "model": lambda: Log(model(role=str), keep=5),
    "dataclass": lambda: Turns(dataclasses.make_dataclass("Said", [("role", str)]), keep=5),
    "nested": lambda: Map(str, list[struct(inside=struct("Part", n=int))], keep=5),
    "enum": lambda: Register(colours("a", "b") | None, default=None),
    "nested model": lambda: Register(model(part=model("Part", n=int)), default=None),
    "counter": Counter,
    "vector": lambda: Vector(3),
}


@pytest.mark.parametrize("make", DECLARED.values(), ids=DECLARED)
def test_a_class_that_is_defined_again_as_it_was_is_the_same(make, tmp_path):
    """A notebook runs a cell again, Streamlit the whole script, for each click."""
    for url in ("memory://", f"sqlite:///{tmp_path}/s.db", f"sqlite+sql:///{tmp_path}/t.db"):
        with Store.open(url) as store:
            first = store.collection(talk(f=make()))
            first.apply("a")
            for _ in range(3):
                again = store.collection(talk(f=make()))
                assert again.get("a").meta.exists
                again.apply("a")


OTHERWISE = {
    "a member's type": (Log(struct(role=str), keep=5), Log(struct(role=int), keep=5)),
    "the bound": (Log(struct(role=str), keep=5), Log(struct(role=str), keep=6)),
    "a member more": (Log(struct(role=str), keep=5), Log(struct(role=str, n=int), keep=5)),
    "of a model": (Log(model(role=str), keep=5), Log(model(role=bool), keep=5)),
    "enums": (
        Register(colours("a") | None, default=None),
        Register(colours("b") | None, default=None),
    ),
    "builtins": (Register(str, default=""), Register(int, default=0)),
    "raw": (Register(bytes, default=b""), Vector(3)),
    "numbers": (Counter(), Counter(float)),
    "fields": (Map(str, int, keep=3), Steps(int, keep=3)),
}


@pytest.mark.parametrize(("one", "other"), OTHERWISE.values(), ids=OTHERWISE)
def test_a_class_that_is_defined_again_otherwise_is_told_where(one, other):
    with Store.open("memory://") as store:
        store.collection(talk(f=one))
        with pytest.raises(Invalid, match=r"another definition .*field 'f' is declared otherwise"):
            store.collection(talk(f=other))
        with pytest.raises(Invalid, match="there was no field 'more'"):
            store.collection(talk(f=one, more=Counter()))
        with pytest.raises(Invalid, match="no field 'f' any more"):
            store.collection(talk(more=Counter()))
