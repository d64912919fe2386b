"""How values of a type are written as JSON, read, described, and what is said when they do not fit.

JSON by msgspec; a type with a Pydantic model in it by Pydantic, which alone knows what it means.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from functools import lru_cache
from itertools import product
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

    def dump(by_alias: bool) -> Dump:
        return lambda value: adapter.dump_json(
            value, by_alias=by_alias, round_trip=True, warnings="error"
        )

    def load(data: Any) -> Any:
        raw = data if data.__class__ is bytes else bytes(data)
        return adapter.validate_json(raw, by_alias=True, by_name=True)

    return (dump(True), dump(False)), load


def is_pydantic(kind: Any, seen: tuple[object, ...] = ()) -> bool:
    """Whether there is a Pydantic model in the type."""
    if isinstance(kind, type):
        if hasattr(kind, "model_validate_json"):
            return True
        if kind not in seen and (is_dataclass(kind) or issubclass(kind, tuple | dict)):
            return any(is_pydantic(inside, (*seen, kind)) for inside in _members(kind))
    return any(is_pydantic(argument, seen) for argument in typing.get_args(kind))


def _members(kind: type) -> Iterable[Any]:
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

_SHAPES: Final = 64
"""Of at most how many combinations of members' types a Struct is said to be certain."""


def _never(_value: object) -> bool:
    return False


def _certain(kind: Any, info: msgspec.inspect.Type) -> Callable[[Any], bool]:
    """What says of a value, cheaply, that its JSON is read back as it is, by type and by value.

    So it is for exact text, ints, bools and None, and for Structs of nothing but such; of all else
    it says no, and the value is read back and compared. Floats are not among them (NaN), nor types
    that bound their values, nor Structs that do something of their own when they are made.
    """
    own = _exact(info)
    if own:
        return lambda value: value.__class__ in own
    if not isinstance(info, msgspec.inspect.StructType) or info.array_like:
        return _never
    config = kind.__struct_config__
    if config.dict or hasattr(kind, "__post_init__"):
        return _never
    members = [_exact(field.type) for field in info.fields]
    combinations = 1
    for types in members:
        combinations *= len(types)
    if not 0 < combinations <= _SHAPES:
        return _never
    shapes = frozenset(product(*members))
    members_of = msgspec.structs.astuple

    def certain(value: Any) -> bool:
        return value.__class__ is kind and tuple(map(type, members_of(value))) in shapes

    return certain


def _exact(info: msgspec.inspect.Type) -> tuple[type, ...]:
    """The types that exact values of this type have; none if there is more to it."""
    if isinstance(info, msgspec.inspect.UnionType):
        parts = [_exact(part) for part in info.types]
        return tuple(kind for part in parts for kind in part) if all(parts) else ()
    kind = _EXACT.get(type(info))
    if kind is None or any(bound is not None for bound in msgspec.structs.astuple(info)):
        return ()
    return (kind,)


# -------------------------------------------------------------------------------------- what is said

_VALUE: Final = re.compile(r"^Invalid (enum )?value .*?(?= - at `[^`]*`$|$)", re.DOTALL)
_UNKNOWN: Final = re.compile(r"unknown field `.*?`(?= - at |$)", re.DOTALL)


def reason(error: BaseException, kind: Any) -> str:
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
    own = first["type"] in ("value_error", "assertion_error")
    text = "its class refuses it" if own else first["msg"]
    more = error.error_count() - 1
    return f"{at.lstrip('.')}: {text}".lstrip(": ") + (f", and {more} more" if more else "")


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
            for inside in cast("list[Any]", node):
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
        return [_shape(inside) for inside in cast("list[Any]", node)]
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
