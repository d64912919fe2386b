"""How values of a type are written as JSON, read, and described.

JSON by msgspec; a type with a Pydantic model in it by Pydantic, which alone knows what it means.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from functools import partial
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
        name = type(value).__name__
        if isinstance(value, bool | tuple | frozenset | None):  # msgspec asks of a dict's key only
            raise TypeError(f"{name} cannot be the key of a dict in JSON")
        raise TypeError(f"{name} has no JSON")
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
            _refuse_custom(info)
            self.dumps = (_checked(encode) if _is_raw(info) else encode,)
            self.certain = _certain(info)


def _pydantic(kind: Any) -> tuple[tuple[Dump, ...], Load]:
    """By its aliases, as the model's own JSON is; by names, where it cannot read its own aliases.

    Both are read, so a model that is given an alias later on reads what was stored before.
    """
    import pydantic

    adapter = pydantic.TypeAdapter[Any](kind)
    dump = _checked(partial(adapter.dump_json, round_trip=True, warnings="error"))

    def load(data: Any) -> Any:
        raw = data if data.__class__ is bytes else bytes(data)
        return adapter.validate_json(raw, by_alias=True, by_name=True)

    return (partial(dump, by_alias=True), partial(dump, by_alias=False)), load


def _checked(dump: Callable[..., bytes]) -> Callable[..., bytes]:
    """What dumps, for bytes that others make: refused unless they are JSON (RFC 8259), in UTF-8."""

    def checked(value: Any, **options: Any) -> bytes:
        data = dump(value, **options)
        try:
            _valid(data)
            data.decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise TypeError("it is not written as valid JSON (NaN and infinity are not)") from None
        return data

    return checked


_valid: Final = msgspec.json.Decoder(msgspec.Raw).decode
"""Goes through JSON and makes nothing of it."""


def _is_raw(info: msgspec.inspect.Type) -> bool:
    """Whether the type holds JSON that its user has made."""
    return any(isinstance(node, msgspec.inspect.RawType) for node in _nodes(info, set()))


def is_pydantic(kind: Any, seen: tuple[object, ...] = ()) -> bool:
    """Whether there is a Pydantic model in the type."""
    inner: list[Any] = [*typing.get_args(kind)]
    later = (*seen, kind)
    if isinstance(kind, type) and kind not in seen:
        if hasattr(kind, "__pydantic_validator__"):  # a model, or a dataclass of Pydantic's
            return True
        if is_dataclass(kind) or issubclass(kind, tuple | dict):
            inner += members(kind)
    return any(is_pydantic(part, later) for part in inner)


def members(kind: Any) -> Iterable[Any]:
    """The types of what a class declares."""
    try:
        return typing.get_type_hints(kind).values()
    except Exception:  # noqa: BLE001  names that only a type checker knows: msgspec will say so
        return ()


_PLAIN: Final[tuple[object, ...]] = (None, True, 0, 0.0, "", [], {})


def _refuse_custom(info: msgspec.inspect.Type) -> None:
    """Raise TypeError for a type that no JSON value is ever decoded to."""
    for node in _nodes(info, set()):
        if isinstance(node, msgspec.inspect.CustomType):
            if not any(isinstance(value, node.cls) for value in _PLAIN):
                raise TypeError(f"msgspec has no JSON for {node.cls.__name__}")
        elif isinstance(node, msgspec.inspect.DictType) and isinstance(node.key_type, _NO_KEYS):
            name = type(node.key_type).__name__.removesuffix("Type").lower()
            raise TypeError(f"{name} cannot be the key of a dict in JSON")


_NO_KEYS: Final = (
    msgspec.inspect.BoolType,
    msgspec.inspect.NoneType,
    msgspec.inspect.CollectionType,
    msgspec.inspect.TupleType,
)
"""Types that JSON has values of, but no keys."""


def _nodes(info: object, seen: set[int]) -> Iterator[object]:
    """All that a type is made of, as msgspec describes it."""
    if isinstance(info, tuple):
        for part in cast("tuple[object, ...]", info):
            yield from _nodes(part, seen)
    elif isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field) and id(info) not in seen:
        seen.add(id(info))
        yield info
        yield from _nodes(msgspec.structs.astuple(info), seen)


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


def _certain(info: msgspec.inspect.Type) -> Callable[[Any], bool]:
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
        return _certain_struct(info)
    return _never


def _certain_struct(info: msgspec.inspect.StructType) -> Callable[[Any], bool]:
    kind: Any = typing.get_origin(info.cls) or info.cls  # a generic one is made without its types
    if info.array_like or kind.__struct_config__.dict or hasattr(kind, "__post_init__"):
        return _never
    shapes: list[tuple[type, ...]] = []  # of each member the types that it may be of
    inside: list[tuple[Callable[[Any], Any], Callable[[Any], bool]]] = []
    for field in info.fields:
        member = _exact(field.type)
        if not member:
            member = (_LOOKED_INTO.get(type(field.type), _NoType),)
            inside.append((attrgetter(field.name), _certain(field.type)))
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
