"""Equal keys are one entry: of values that `==` takes for the same, one is written.

Python takes 9.5 for 9.50, an instant for itself in another zone, 0.0 for -0.0 and 1 for 1.0; their
JSON differs. So a key's name is written of the canonical one of the values equal to it, and types
for which there is no such value are refused when the class is made.
"""

from __future__ import annotations

import copy
import dataclasses
import operator
import types
import typing
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from statehold.comparing import declared

_STEADY: Final = frozenset({str, int, type(None), bytes, date, timedelta, UUID})
"""Types of which equal values have the same JSON already."""

_PLACES: Final = 40
"""Whole decimals of at most so many digits are written without an exponent."""

_SHORT: Final = 2**63
"""Whole floats below this are written as ints: as 1 rather than 1.0."""

_DAY: Final = 24 * 60

# ------------------------------------------------------------------------------------- of the values


def canonical(value: Any, loose: frozenset[type] = frozenset()) -> Any:  # noqa: PLR0911  one kind after another
    """Of the values equal to this one, the one to be written; itself if it is that one.

    `loose` are the types of numbers that may stand where an int may too.
    """
    kind = value.__class__
    if kind in _STEADY:
        return value
    if kind is float:
        whole = value.is_integer() and (float in loose or abs(value) < _SHORT)
        return int(value) if whole else value  # where only floats may be, it is read back as one
    if kind is bool:
        return int(value) if bool in loose else value
    if kind in _ONE_OF:
        return _ONE_OF[kind](value)
    if isinstance(value, dict):
        held: dict[Any, Any] = cast("Any", value)
        keys, values = canonical([*held], loose), canonical([*held.values()], loose)
        return dict(zip(keys, values, strict=True))
    if isinstance(value, list | tuple | set | frozenset):
        given = [*cast("Iterable[Any]", value)]
        parts = [canonical(part, loose) for part in given]
        if all(map(operator.is_, parts, given)):
            return cast("Any", value)
        make: Any = getattr(kind, "_make", kind)  # of a named tuple
        return make(parts)
    return _instance(value, loose)


def _instance(value: Any, loose: frozenset[type]) -> Any:
    """An instance of a class that declares its attributes, with the canonical ones."""
    new: Any = None
    for name in declared(value.__class__) or ():
        part = getattr(value, name, None)
        one = canonical(part, loose)
        if one is part:
            continue
        if new is None:
            new = copy.copy(value)
        if isinstance(value, msgspec.Struct):
            msgspec.structs.force_setattr(new, name, one)
        else:
            object.__setattr__(new, name, one)  # also where the class is frozen
    return value if new is None else new


def _decimal(value: Decimal) -> Decimal:
    """Exactly the same number, whatever the context: 9.50 as 9.5, 1E+2 as 100, -0 as 0."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return value  # infinite
    if not value:
        return Decimal(0)
    sign, kept = int(value < 0), list(digits)
    while kept[-1] == 0:
        kept.pop()
        exponent += 1
    while exponent > 0 and value.adjusted() < _PLACES:
        kept.append(0)
        exponent -= 1
    return Decimal((sign, tuple(kept), exponent))


def _datetime(value: datetime) -> datetime:
    if value.utcoffset() is None:
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise TypeError("in UTC it is before the year 1 or after the year 9999") from None


def _time(value: time) -> time:
    """In UTC, or in the zone nearest to it in which it is on the same day, as `==` has it."""
    offset = value.utcoffset()
    if offset is None:
        return value
    minutes = value.hour * 60 + value.minute - offset // timedelta(minutes=1)
    zone = max(0, -minutes) + min(0, _DAY - 1 - minutes)
    hour, minute = divmod(minutes + zone, 60)
    return value.replace(hour=hour, minute=minute, tzinfo=timezone(timedelta(minutes=zone)))


_ONE_OF: Final[dict[type, Callable[[Any], Any]]] = {
    Decimal: _decimal,
    datetime: _datetime,
    time: _time,
}


# -------------------------------------------------------------------------------------- of the types

_KNOWN: Final = frozenset(
    {"builtins", "datetime", "decimal", "uuid", "enum", "msgspec", "pydantic"}
)
"""Modules whose classes compare by what they hold."""

_GENERATED: Final = ("<string>", "<attrs generated")
"""How the file is called of an `==` that dataclasses and attrs have written."""


class _Found:
    """What there is in a type of keys."""

    def __init__(self, pydantic: bool) -> None:
        self.pydantic = pydantic
        self.anything = False
        self.mixed = False  # ints and floats in one place
        self.bools = False
        self.seen: set[Any] = set()
        self.given: set[Any] = set()  # type variables that stand for a type


def loose_numbers(kind: Any, *, pydantic: bool) -> frozenset[type]:
    """The types of numbers that, in keys of this type, may stand where an int may too.

    Raises TypeError if equal keys of the type could have different JSON.
    """
    found = _Found(pydantic)
    _look(kind, found, within_set=False)
    if found.anything and found.bools:
        raise TypeError(
            "True equals 1, and would be another entry; declare the type of each number"
        )
    if found.anything:
        return frozenset({float, bool})
    return frozenset({float}) if found.mixed else frozenset()


def _look(kind: Any, found: _Found, within_set: bool) -> None:
    if kind in (Any, object) or isinstance(kind, typing.TypeVar):
        found.anything |= kind not in found.given
        return
    for alias in ("__supertype__", "__value__"):
        if hasattr(kind, alias):
            _look(getattr(kind, alias), found, within_set)
            return
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        _look(inner[0], found, within_set)
        return
    if origin is typing.Literal:
        found.bools |= any(isinstance(value, bool) for value in inner)
        return
    if origin in (typing.Union, types.UnionType):
        found.mixed |= _is_mixed(inner)
        kind = origin = None
    shape: Any = origin or kind
    if isinstance(shape, type):
        _look_at_class(shape, inner, found, within_set)
        within_set |= issubclass(shape, AbstractSet)
    for part in inner:
        if part is not Ellipsis:
            _look(part, found, within_set)


def _look_at_class(cls: Any, inner: tuple[Any, ...], found: _Found, within_set: bool) -> None:
    found.bools |= cls is bool
    _refuse_equality(cls)
    if issubclass(cls, AbstractSet):
        _refuse_set(found, within_set)
    if cls in (tuple, list, dict, set, frozenset):
        found.anything |= not inner
    elif cls not in found.seen:
        found.seen.add(cls)
        of_whom: Any = cast("object", cls)
        given: tuple[Any, ...] = getattr(of_whom, "__parameters__", ()) if inner else ()
        found.given.update(given)
        for part in _members(cls):
            _look(part, found, within_set)


def _members(kind: Any) -> Iterable[Any]:
    fields: dict[str, Any] | None = getattr(kind, "__pydantic_fields__", None)
    if fields is not None:
        config: Any = (
            getattr(kind, "model_config", getattr(kind, "__pydantic_config__", None)) or {}
        )
        inner = [field.annotation for field in fields.values()]
        return [*inner, Any] if config.get("extra") == "allow" else inner
    of_whom: Any = kind
    if declared(of_whom) is None and not issubclass(kind, tuple | dict):
        return ()
    try:
        hints = typing.get_type_hints(of_whom, include_extras=True)
    except Exception:  # noqa: BLE001  names that only a type checker knows: anything goes
        return (Any,)
    names = declared(of_whom)
    return [hint for name, hint in hints.items() if names is None or name in names]


def _refuse_set(found: _Found, within_set: bool) -> None:
    if within_set:
        raise TypeError("sets of sets have no order, so equal ones could be several entries")
    if found.pydantic:
        raise TypeError("Pydantic writes sets in any order, so equal ones could be several entries")


def _is_mixed(parts: tuple[Any, ...]) -> bool:
    """Whether ints and floats may be in one place. Raises TypeError for other kinds of numbers."""
    sorts = {sort for part in parts for sort in _numbers(part)}
    if len(sorts) > 1 and sorts != {"int", "float"}:
        raise TypeError(
            f"{' and '.join(sorted(sorts))} may be equal, and would be several entries; "
            "declare one of them"
        )
    return len(sorts) > 1


def _numbers(part: Any) -> Iterable[str]:
    """What numbers there are in one part of a union."""
    if typing.get_origin(part) is typing.Annotated:
        return _numbers(typing.get_args(part)[0])
    if typing.get_origin(part) is typing.Literal:
        its = typing.get_args(part)
        return {"a Literal" for value in its if isinstance(value, int)}
    if not isinstance(part, type):
        return ()
    if part in (bool, int, float, Decimal):
        return (part.__name__,)
    return (part.__name__,) if issubclass(part, int | float | Decimal) else ()


def _refuse_equality(kind: Any) -> None:
    """Raise TypeError for a class whose instances may be equal and hold different things."""
    if kind is object or issubclass(kind, type(None)):
        return
    owner = next(base for base in kind.__mro__ if "__eq__" in vars(base))
    known = owner.__module__.partition(".")[0].lstrip("_") in _KNOWN
    if known and (owner is not object or declared(kind) is None):
        if issubclass(kind, msgspec.Struct) and not kind.__struct_config__.eq:
            raise TypeError(f"{kind.__name__} compares by identity, which nothing read back has")
        return
    if owner is object:
        raise TypeError(f"{kind.__name__} compares by identity, which nothing read back has")
    code = getattr(vars(owner)["__eq__"], "__code__", None)
    if code is None or not code.co_filename.startswith(_GENERATED):
        raise TypeError(
            f"{kind.__name__} has an == of its own, so equal ones could be several entries"
        )
    left_out = [name for name, compared in _compared(kind) if not compared]
    if left_out:
        raise TypeError(
            f"{kind.__name__} leaves {left_out[0]} out of ==, so equal ones could be several entries"
        )


def _compared(kind: Any) -> Iterable[tuple[str, bool]]:
    """The attributes of a dataclass or an attrs class, and whether they are compared as they are."""
    if dataclasses.is_dataclass(kind):
        return [(field.name, field.compare) for field in dataclasses.fields(kind)]
    return [(its.name, its.eq and its.eq_key is None) for its in kind.__attrs_attrs__]


__all__ = ["canonical", "loose_numbers"]
