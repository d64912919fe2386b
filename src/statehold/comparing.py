"""Whether what was read back is what was put: by value and by type, all the way down.

`==` does not say so: it takes 1 for True and a member of a `StrEnum` for its text, classes may leave
attributes out of it, and a Pydantic model's dump shows what was stored rather than what was given.
"""

from __future__ import annotations

import dataclasses
import enum
import marshal
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, time
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, TypeAlias, cast

from msgspec import Struct
from msgspec.structs import astuple

ATOMS: Final = frozenset({str, int, float, bool, bytes, type(None)})
"""Types of which `==` between two of the same type says all."""

Parts: TypeAlias = Callable[[Any], "Sequence[Any]"]
Path: TypeAlias = "tuple[Path, type, int] | None"
"""Where a part stands: in what, the class of that, and the part's position in it."""

_ABSENT: Final = object()
_NESTED: Final = frozenset({dict, list, tuple})


class Number:
    """A number as a field reads it, of a class of its own. It is stored as the plain number."""

    __slots__ = ()


def plain(value: Any) -> Any:
    """The builtin that a numpy scalar or a number read from a field stands for; else the value."""
    if isinstance(value, Number):
        return cast("Any", int if isinstance(value, int) else float)(value)
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    return value


def difference(back: Any, value: Any) -> str | None:  # noqa: C901  one kind after another
    """In which place, and how, `back` is another value; None if it is the same everywhere.

    Allowed are: the plain number for a numpy scalar or a number read from a field, the equal float
    for an int where a float is declared, and a time's zone as its offset from UTC. Says nothing of
    the values themselves.
    """
    todo: list[tuple[Any, Any, Path]] = [(back, value, None)]
    while todo:  # no recursion: JSON may be as deep as the interpreter's limit
        back, value, path = todo.pop()
        if back is value:  # msgspec's UNSET, an attribute that neither has
            continue
        kind = value.__class__
        if back.__class__ is not kind:
            wrong = _unlike(back, value, path)
            if wrong is not None:
                return wrong
            continue
        if kind in ATOMS:
            if back != value:
                return _otherwise(path)
            continue
        if kind in _NESTED and _builtin(back, value):
            continue
        parts = _parts(kind)
        if parts is None:
            if not _same(back, value):
                return _otherwise(path)
            continue
        ours, theirs = parts(back), parts(value)
        if len(ours) != len(theirs):
            return _otherwise(path)
        for at, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if one.__class__ is not other.__class__ or one.__class__ not in ATOMS or one != other:
                todo.append((one, other, (path, kind, at)))
    return None


def _builtin(ours: Any, theirs: Any) -> bool:
    """Whether both are the same builtins all the way down, which C says quickly.

    `marshal` tells exact types apart, and has no form for any that is not the interpreter's own; its
    version 0 writes equal values alike. Nothing is ever read from it.
    """
    try:
        return marshal.dumps(ours, 0) == marshal.dumps(theirs, 0)
    except ValueError:
        return False  # something else is in it: part by part, then


def _unlike(back: Any, value: Any, path: Path) -> str | None:
    """What is to be said of two of different classes; None if they may stand for each other."""
    other = plain(value)
    if back.__class__ is other.__class__ or (type(back) is float and type(other) is int):
        return None if back == other else _otherwise(path)
    return f"{place(path)} would be read back as {type(back).__name__}, not {type(value).__name__}"


def _same(back: Any, value: Any) -> bool:
    """Whether two of one class, which has no parts, are the same."""
    if isinstance(value, enum.Enum):
        return back is value
    if isinstance(value, datetime | time):
        zone = value.utcoffset()
        return bool(
            back.utcoffset() == zone
            and back.replace(tzinfo=None, fold=0) == value.replace(tzinfo=None, fold=0)
        )
    if isinstance(value, Decimal):
        return bool(back == value and back.as_tuple() == value.as_tuple())  # 1.0 and 1.00 are two
    compares: object = type(value).__eq__
    return compares is not object.__eq__ and bool(back == value)


@lru_cache(maxsize=1024)
def _parts(kind: Any) -> Parts | None:
    """What the values of a class are made of, as a function of one; None: they are not."""
    if kind is list or kind is tuple:
        return _itself
    if kind is dict:
        return _pairs
    if issubclass(kind, Struct) and not kind.__dictoffset__:
        return astuple
    names = declared(kind)
    if names is None:
        return _itself if issubclass(kind, tuple) else _members if issubclass(kind, _SETS) else None

    known = frozenset(names)
    get = attrgetter(*names) if len(names) > 1 else None

    def parts(value: Any) -> Sequence[Any]:
        try:
            its = get(value) if get else tuple(getattr(value, name) for name in names)
        except AttributeError:  # one that was deleted, or never set
            its = tuple(getattr(value, name, _ABSENT) for name in names)
        held: dict[str, Any] = getattr(value, "__dict__", {})
        if held.keys() <= known:
            return cast("Sequence[Any]", its)
        # What a class keeps there by itself, a cached property, can be had anew.
        more = {n: v for n, v in held.items() if n not in known and not hasattr(kind, n)}
        return (*its, more) if more else cast("Sequence[Any]", its)

    return parts


_SETS: Final = (set, frozenset)


def _itself(value: Any) -> Sequence[Any]:
    return cast("Sequence[Any]", value)


def _pairs(value: dict[Any, Any]) -> Sequence[Any]:
    return [*value, *value.values()]


def _members(value: set[Any] | frozenset[Any]) -> Sequence[Any]:
    """Members of equal sets in the same order, unless two of them look the same."""
    kinds = {*map(type, value)}
    if len(kinds) == 1 and ATOMS.issuperset(kinds):
        return sorted(value)
    return sorted(value, key=lambda member: (type(member).__name__, repr(member)))


@lru_cache(maxsize=1024)
def declared(kind: Any) -> tuple[str, ...] | None:
    """The attributes that a class declares; None if it is no class that does."""
    if issubclass(kind, Struct):
        fields: tuple[str, ...] = kind.__struct_fields__
        return fields
    if dataclasses.is_dataclass(kind):  # Pydantic's too
        return tuple(field.name for field in dataclasses.fields(kind))
    if hasattr(kind, "__pydantic_fields__"):
        return (*kind.__pydantic_fields__, "__pydantic_extra__", "__pydantic_private__")
    attrs: Any = getattr(kind, "__attrs_attrs__", None)
    return None if attrs is None else tuple(field.name for field in attrs)


def _otherwise(path: Path) -> str:
    return f"{place(path)} would be read back otherwise"


def walk(value: Any) -> Iterator[tuple[Path, Any]]:
    """A value and all that it is made of, each with where it stands."""
    todo: list[tuple[Path, Any]] = [(None, value)]
    while todo:
        path, value = todo.pop()
        yield path, value
        kind = value.__class__
        parts = None if kind in ATOMS else _parts(kind)
        if parts is not None:
            todo.extend(((path, kind, at), part) for at, part in enumerate(parts(value)))


def place(path: Path) -> str:
    """A place in a value, in words: `messages[0].call`."""
    steps: list[str] = []
    while path is not None:
        path, kind, at = path
        names = declared(kind)
        if names is not None:
            steps.append(f".{names[at]}" if at < len(names) else "")
        else:
            steps.append(f"[{at}]" if issubclass(kind, list | tuple) else "[…]")
    return "".join(reversed(steps)).lstrip(".") or "it"
