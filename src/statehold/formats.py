"""How values of a type are written as JSON, read, described, and what is said when they do not fit.

JSON by msgspec; a type with a Pydantic model in it by Pydantic, which alone knows what it means.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from functools import lru_cache, partial
from itertools import product
from math import isfinite, prod
from operator import attrgetter
from typing import Any, Final, TypeAlias, cast

import msgspec

from statehold.comparing import plain

Dump: TypeAlias = Callable[[Any], bytes]
Load: TypeAlias = Callable[[Any], Any]

TYPED: Final = frozenset({bytes, str, int, float, bool})
"""Value types that a backend may keep in a column of their own, not as JSON."""


def _hook(value: object) -> object:
    """What msgspec encodes in place of a value that it does not know."""
    found: object = plain(value)
    if found is value:
        raise TypeError(f"{type(value).__name__} has no JSON")
    return found


encode: Final = msgspec.json.Encoder(enc_hook=_hook).encode
encode_name: Final = msgspec.json.Encoder(enc_hook=_hook, order="deterministic").encode


# --------------------------------------------------------------------------- the two who do the work


class Format:
    """How values of one type become bytes and come back. Raises for a type that has no JSON."""

    __slots__ = ("certain", "dumps", "kind", "load")

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.dumps: tuple[Dump, ...]
        """Ways to write a value, the first that reads back as it was to be taken."""
        self.load: Load
        if is_pydantic(kind):
            self.dumps, self.load = _pydantic(kind)
            self.certain: Callable[[Any], bool] = _never
        else:
            self.load = msgspec.json.Decoder(kind).decode
            info = msgspec.inspect.type_info(kind)
            _refuse_custom(info, set())
            self.dumps = (encode,)
            self.certain = _certain(kind, info)


def _pydantic(kind: Any) -> tuple[tuple[Dump, ...], Load]:
    """By its aliases, as the model's own JSON is; by names, where it cannot read its own aliases.

    Both are read, so a model that is given an alias later on reads what was stored before.
    """
    import pydantic

    adapter = pydantic.TypeAdapter[Any](kind)
    dump = partial(adapter.dump_json, round_trip=True, warnings="error")

    def load(data: Any) -> Any:
        raw = data if data.__class__ is bytes else bytes(data)
        return adapter.validate_json(raw, by_alias=True, by_name=True)

    return (partial(dump, by_alias=True), partial(dump, by_alias=False)), load


def is_pydantic(kind: Any, seen: tuple[object, ...] = ()) -> bool:
    """Whether there is a Pydantic model in the type."""
    inner: list[Any] = [*typing.get_args(kind)]
    later = (*seen, kind)
    if isinstance(kind, type) and kind not in seen:
        if hasattr(kind, "model_validate_json"):
            return True
        if is_dataclass(kind) or issubclass(kind, tuple | dict):
            inner += _members(kind)
    return any(is_pydantic(part, later) for part in inner)


def _members(kind: Any) -> Iterable[Any]:
    try:
        return typing.get_type_hints(kind).values()
    except Exception:  # noqa: BLE001  names that only a type checker knows: msgspec will say so
        return ()


_PLAIN: Final[tuple[object, ...]] = (None, True, 0, 0.0, "", [], {})


def _refuse_custom(info: object, seen: set[int]) -> None:
    """Raise TypeError for a type that no JSON value is ever decoded to."""
    if isinstance(info, tuple):
        for part in cast("tuple[object, ...]", info):
            _refuse_custom(part, seen)
    elif isinstance(info, msgspec.inspect.CustomType):
        if not any(isinstance(value, info.cls) for value in _PLAIN):
            raise TypeError(f"msgspec has no JSON for {info.cls.__name__}")
    elif isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field) and id(info) not in seen:
        seen.add(id(info))
        _refuse_custom(msgspec.structs.astuple(info), seen)


# ----------------------------------------------------- what need not be read back to be known as kept

_EXACT: Final[dict[type, type]] = {
    msgspec.inspect.StrType: str,
    msgspec.inspect.IntType: int,
    msgspec.inspect.BoolType: bool,
    msgspec.inspect.NoneType: type(None),
}

_LOOKED_INTO: Final[dict[type, type]] = {
    msgspec.inspect.FloatType: float,
    msgspec.inspect.ListType: list,
}

_SHAPES: Final = 64
"""Of at most how many combinations of members' types a Struct is said to be certain."""


class _NoType:
    """What no value is of."""


def _never(_value: object) -> bool:
    return False


def _certain(kind: Any, info: msgspec.inspect.Type) -> Callable[[Any], bool]:
    """What says of a value, cheaply, that its JSON is read back as it is, by type and by value.

    So it is for exact text, numbers, bools and None, and for lists and Structs of nothing but such;
    of all else it says no, and the value is read back and compared. Not among them are types that
    bound their values, and Structs that do something of their own when they are made.
    """
    own = _exact(info)
    if own:
        return lambda value: value.__class__ in own
    if isinstance(info, msgspec.inspect.FloatType) and _unbounded(info):
        return lambda value: value.__class__ is float and isfinite(value)
    if isinstance(info, msgspec.inspect.ListType) and info.min_length is info.max_length is None:
        inside = frozenset(_exact(info.item_type))
        return lambda value: value.__class__ is list and inside.issuperset(map(type, value))
    if isinstance(info, msgspec.inspect.StructType):
        return _certain_struct(kind, info)
    return _never


def _certain_struct(kind: Any, info: msgspec.inspect.StructType) -> Callable[[Any], bool]:
    if info.array_like or kind.__struct_config__.dict or hasattr(kind, "__post_init__"):
        return _never
    shapes: list[tuple[type, ...]] = []  # of each member the types that it may be of
    inside: list[tuple[Callable[[Any], Any], Callable[[Any], bool]]] = []
    for field in info.fields:
        member = _exact(field.type)
        if not member:
            member = (_LOOKED_INTO.get(type(field.type), _NoType),)
            inside.append((attrgetter(field.name), _certain(None, field.type)))
        shapes.append(member)
    if len(shapes) < 2 or prod(map(len, shapes)) > _SHAPES:
        return _never
    known = frozenset(product(*shapes))
    shape = attrgetter(*(f"{field.name}.__class__" for field in info.fields))
    if not inside:
        return lambda value: value.__class__ is kind and shape(value) in known
    return lambda value: (
        value.__class__ is kind
        and shape(value) in known
        and all([holds(member(value)) for member, holds in inside])  # noqa: C419  the quicker
    )


def _exact(info: msgspec.inspect.Type) -> tuple[type, ...]:
    """The types that exact values of this type have; none if there is more to it."""
    if isinstance(info, msgspec.inspect.AnyType):
        return tuple(_EXACT.values())
    if isinstance(info, msgspec.inspect.UnionType):
        parts = [_exact(part) for part in info.types]
        return tuple(kind for part in parts for kind in part) if all(parts) else ()
    kind = _EXACT.get(type(info))
    return () if kind is None or not _unbounded(info) else (kind,)


def _unbounded(info: msgspec.inspect.Type) -> bool:
    return all(bound is None for bound in msgspec.structs.astuple(info))


# -------------------------------------------------------------------------------------- what is said

_VALUE: Final = re.compile(r"^Invalid (enum )?value .*?(?= - at `[^`]*`$|$)", re.DOTALL)
_UNKNOWN: Final = re.compile(r"unknown field `.*?`(?= - at |$)", re.DOTALL)


def reason(error: BaseException, kind: Any) -> str:  # noqa: PLR0911  one error after another
    """Why a value does not fit its type: one sentence that says nothing of the value."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeError):
        return "it is not valid Unicode"
    if isinstance(error, msgspec.ValidationError) and error.__cause__ is not None:
        return f"its class refuses it ({type(error.__cause__).__name__})"
    if isinstance(error, msgspec.MsgspecError):
        return _UNKNOWN.sub("unknown field", _VALUE.sub("Invalid value", str(error)))
    if isinstance(error, TypeError):
        return str(error)
    if type(error).__module__.partition(".")[0] == "pydantic_core":
        return _pydantic_reason(error, kind)
    if isinstance(error, ValueError) and "digits" in str(error):
        return "an int of too many digits"
    return type(error).__name__


def _pydantic_reason(error: Any, kind: Any) -> str:
    if not hasattr(error, "errors"):  # what could not be written
        found = re.search(r"field_name='(\w+)'", str(error))
        return f"{found[1] if found else 'something in it'} is not of its declared type"
    known = _names(kind)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    at = ""
    for step in first["loc"]:
        shown = f"[{step}]" if isinstance(step, int) else "[…]"
        at += f".{step}" if step in known else shown
    text = first["msg"]
    if first["type"] == "union_tag_invalid":
        text = "no such tag"
    elif first["type"] not in _said_by_pydantic():
        text = "its class refuses it"
    more = error.error_count() - 1
    return f"{at.lstrip('.')}: {text}".lstrip(": ") + (f", and {more} more" if more else "")


@lru_cache(maxsize=1)
def _said_by_pydantic() -> frozenset[str]:
    """The types of errors whose words are Pydantic's own, and show no value."""
    from pydantic_core import core_schema

    known = frozenset(typing.get_args(core_schema.ErrorType))
    return known - {"value_error", "assertion_error"}


@lru_cache(maxsize=64)
def _names(kind: Any) -> frozenset[object]:
    """The names that a type gives its members; what else stands in a path is of the value."""
    found: set[object] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            its = cast("dict[str, Any]", node)
            found.update(its.get("properties", ()))
            for inside in its.values():
                walk(inside)
        elif isinstance(node, list):
            for inside in cast("Iterable[Any]", node):
                walk(inside)

    walk(json_schema(kind))
    return frozenset(found)


# ------------------------------------------------------------------------------ the shape of a type


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON schema of a type with its references resolved in place; `{}` for what has none."""
    try:
        if is_pydantic(kind):
            import pydantic

            schema = pydantic.TypeAdapter[Any](kind).json_schema()
            return _inlined(schema, schema.pop("$defs", {}), ())
        (schema,), defs = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    except Exception:  # noqa: BLE001  custom types have no schema: anything goes
        return {}
    return _inlined(schema, defs, ())


def _inlined(node: dict[str, Any], defs: dict[str, Any], seen: tuple[str, ...]) -> dict[str, Any]:
    ref = node.get("$ref")
    if isinstance(ref, str):
        name = ref.rsplit("/", 1)[-1]
        return {} if name in seen else _inlined(defs.get(name, {}), defs, (*seen, name))

    def inside(value: Any) -> Any:
        if isinstance(value, dict):
            return _inlined(cast("dict[str, Any]", value), defs, seen)
        if isinstance(value, list):
            return [inside(item) for item in cast("Iterable[Any]", value)]
        return value

    return {key: inside(value) for key, value in node.items()}


def alike(kind: Any, other: Any) -> bool:
    """Whether values of two types are stored in the same shape, whatever the types are called.

    A class that is defined again as it was is another object, and stores the same.
    """
    if kind is other or kind == other:
        return True
    if kind in TYPED or other in TYPED:
        return False
    shape = _shape(json_schema(kind))
    return bool(shape) and shape == _shape(json_schema(other))


_SAID: Final = frozenset({"title", "description", "default", "examples"})


def _shape(node: Any) -> Any:
    """A JSON schema without what is said of it for people."""
    if isinstance(node, list):
        return [_shape(inside) for inside in cast("Iterable[Any]", node)]
    if not isinstance(node, dict):
        return node
    its = cast("dict[str, Any]", node)
    return {
        key: {name: _shape(inside) for name, inside in value.items()}
        if key == "properties"
        else _shape(value)
        for key, value in its.items()
        if key not in _SAID
    }


def type_name(kind: Any) -> str:
    """A type as people write it."""
    return kind.__name__ if isinstance(kind, type) else str(kind)
