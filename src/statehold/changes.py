"""The six changes, the cells that they change, and the fold that applies them.

This is the waist of the hourglass: fields compile to these changes, drivers fold them where the
state lives. What carries them there is in `commits`. A state, physically, is a mapping from field
name to *cell*; a cell is either

* *entries*: a dict from entry name (str) to a value, which is `bytes` (an encoded value, or a
  little-endian float64 array), an `int` of 64 bits or a `float`; or
* *items*: a list of `bytes`, kept in the order of commits, each with a position (`items`).

An empty cell is the same as no cell, but that an empty list remembers where its positions go on. Everything
here is pure: no I/O, no clock, no third party beyond numpy for the elementwise sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias, cast

import msgspec

from statehold.items import Items as Items  # noqa: PLC0414  who has cells has it from here

Scalar: TypeAlias = bytes | int | float
Entries: TypeAlias = dict[str, Scalar]

INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)

BEYOND: Final = 2**53
"""A position that no item has, and the most of anything that can be asked for."""


class Refusal(Exception):
    """A change cannot be applied. Internal: drivers turn it into the outcome `Refused`.

    `reason` is "bound" (entries over the field's bound), "range" (a sum left int64 or the finite
    floats), "shape" (arrays of different length), "type" (the cell holds something else), "changed"
    (the list's items are not those that were to be replaced) or "gone" (it has no such position).
    """

    def __init__(self, field: str, reason: str, limit: str | int, found: str | int) -> None:
        super().__init__(f"{field}: {reason}, limit {limit}, found {found}")
        self.field, self.reason, self.limit, self.found = field, reason, limit, found


# ---------------------------------------------------------------- the arithmetic every driver shares


def add_numbers(field: str, old: Scalar | None, amount: float) -> int | float:
    """`old + amount`: exact within int64 for two ints, else float. Refuses to leave either range."""
    if isinstance(old, bytes):
        raise Refusal(field, "type", "a number", "bytes")
    total = amount if old is None else old + amount
    if isinstance(total, int):
        if not INT64_MIN <= total <= INT64_MAX:
            raise Refusal(field, "range", "int64", str(total))
    elif not math.isfinite(total):
        raise Refusal(field, "range", "finite float", str(total))
    return total


def add_arrays(field: str, old: Scalar | None, array: bytes) -> bytes:
    """The elementwise sum of two little-endian float64 arrays of the same length."""
    import numpy as np

    if len(array) % 8:
        raise Refusal(field, "shape", "whole float64", len(array))
    total = np.frombuffer(array, "<f8")
    if old is not None:
        if not isinstance(old, bytes):
            raise Refusal(field, "type", "an array", type(old).__name__)
        if len(old) != len(array):
            raise Refusal(field, "shape", len(old) // 8, len(array) // 8)
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.frombuffer(old, "<f8") + total
    if not np.isfinite(total).all():
        raise Refusal(field, "range", "finite float", "infinity or NaN")
    return bytes(total.tobytes())


# ---------------------------------------------------------------------------------------- the cells


Cell: TypeAlias = Entries | Items


def _nbytes(value: Scalar) -> int:
    return len(value) if isinstance(value, bytes) else 8


def cell_nbytes(cell: Cell) -> int:
    """The bytes of a cell's names and values."""
    if isinstance(cell, Items):
        return cell.nbytes
    return sum(len(entry) + _nbytes(value) for entry, value in cell.items())


_NO_ITEMS: Final = Items()


class PartlyLoaded(dict[str, Scalar]):
    """Entries of which not all are here: a driver may give them to `into`, and need not load a map.

    What `into` does to entries is `get`, `in`, `[]` (of what it has found there), `[]=`, `del`, `len`,
    `copy` and, past a bound, `lowest`: these must answer for all of the field's entries. Nothing is
    iterated but by `cell_nbytes`, so that what `into` returns means nothing then.
    """

    __slots__ = ()

    def lowest(self) -> str:
        """The name of the lowest entry. There is one."""
        raise NotImplementedError


def _entries(cells: dict[str, Cell], field: str, own: list[str]) -> Entries:
    """The field's entries, to be written: made when absent, copied unless in `own`, then in it."""
    cell = cells.get(field)
    if cell is None or not (isinstance(cell, dict) or cell):
        made: Entries = {}
        cells[field] = made
        own.append(field)
        return made
    if not isinstance(cell, dict):
        raise Refusal(field, "type", "entries", "items")
    if field not in own:
        own.append(field)
        cells[field] = cell = cell.copy()
    return cell


def _enter(entries: Entries, change: Put | Add | Accumulate, value: Scalar) -> int:
    """Set an entry that is new, within the field's bound. Returns the growth in bytes."""
    growth = 0
    bound = change.bound
    while bound is not None and len(entries) >= bound:
        if not change.drop_lowest or bound < 1:
            raise Refusal(change.field, "bound", bound, len(entries) + 1)
        lowest = entries.lowest() if isinstance(entries, PartlyLoaded) else min(entries)
        if change.entry < lowest:
            return growth  # it would be the first to go
        growth -= len(lowest) + _nbytes(entries[lowest])
        del entries[lowest]
    entries[change.entry] = value
    return growth + len(change.entry) + _nbytes(value)


# -------------------------------------------------------------------------------------- the changes
#
# `into(cells, own)` applies a change to a working copy of the cells. A cell whose name is in `own`
# is the caller's alone and changed in place; any other is copied first, and its name added. Returns
# by how many bytes of names and values the cells have grown. Raises `Refusal` before anything of
# this one change is visible.
#
# Of `cells` it uses `get`, `[]=` and `del`, for the field that the change names. What it finds there is
# entries, a dict, or one that is `PartlyLoaded`; or items, of which it uses `appended`, `nbytes` and
# `cleared`, and `Splice` also `len`, `first`, `[]`, `without_newest` and `with_item`.


class Put(msgspec.Struct, frozen=True, gc=False, tag="put"):
    """Set one entry to encoded bytes. With `if_absent`, what stands already stays."""

    field: str
    entry: str
    value: bytes
    if_absent: bool = False
    bound: int | None = None
    drop_lowest: bool = False

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:
        """Apply it."""
        entries = _entries(cells, self.field, own)
        old = entries.get(self.entry)
        if old is None:
            return _enter(entries, self, self.value)
        if self.if_absent:
            return 0
        entries[self.entry] = self.value
        return len(self.value) - _nbytes(old)


class Drop(msgspec.Struct, frozen=True, gc=False, tag="drop"):
    """Remove one entry, or (None) the whole field, items included."""

    field: str
    entry: str | None = None

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:
        """Apply it."""
        cell = cells.get(self.field)
        if cell is None:
            return 0
        if self.entry is None:
            nbytes = cell_nbytes(cell)
            if isinstance(cell, dict):
                del cells[self.field]
            else:
                cells[self.field] = cell.cleared()
            return -nbytes
        if not isinstance(cell, dict) or self.entry not in cell:
            return 0
        entries = _entries(cells, self.field, own)
        growth = -len(self.entry) - _nbytes(entries[self.entry])
        del entries[self.entry]
        if not entries:
            del cells[self.field]
        return growth


class Add(msgspec.Struct, frozen=True, gc=False, tag="add"):
    """Add a number to an entry; absent counts as nothing. Ints stay exact within int64."""

    field: str
    entry: str
    amount: int | float
    bound: int | None = None
    drop_lowest: bool = False

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:
        """Apply it."""
        field, entry, amount = self.field, self.entry, self.amount
        cell = cells.get(field)
        if type(cell) is dict:  # the usual case, with few calls
            old: Any = cell.get(entry)
            if old.__class__ is int is amount.__class__:
                total = old + amount
                if -INT64_MAX <= total <= INT64_MAX:
                    if field not in own:
                        own.append(field)
                        cells[field] = cell = cell.copy()
                    cell[entry] = total
                    return 0
        entries = _entries(cells, field, own)
        old = entries.get(entry)
        if old is None:
            return _enter(entries, self, add_numbers(field, None, amount))
        entries[entry] = add_numbers(field, old, amount)
        return 0


class Accumulate(msgspec.Struct, frozen=True, gc=False, tag="accumulate"):
    """Add an array to an entry, elementwise. `array` is little-endian float64."""

    field: str
    entry: str
    array: bytes
    bound: int | None = None
    drop_lowest: bool = False

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:
        """Apply it."""
        entries = _entries(cells, self.field, own)
        old = entries.get(self.entry)
        if old is None:
            return _enter(entries, self, add_arrays(self.field, None, self.array))
        entries[self.entry] = add_arrays(self.field, old, self.array)
        return 0


class Append(msgspec.Struct, frozen=True, gc=False, tag="append"):
    """Append items to a list and keep the newest `keep`."""

    field: str
    items: tuple[bytes, ...]
    keep: int

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:  # noqa: ARG002  lists share
        """Apply it."""
        if not self.items:
            return 0
        if self.keep < 1:
            raise Refusal(self.field, "bound", self.keep, len(self.items))
        old = cells.get(self.field)
        if old is None:
            old = _NO_ITEMS.fork()
        elif type(old) is not Items and isinstance(old, dict):  # the first is quicker
            raise Refusal(self.field, "type", "items", "entries")
        new = old.appended(self.items, self.keep)
        cells[self.field] = new
        return new.nbytes - old.nbytes


class Splice(msgspec.Struct, frozen=True, gc=False, tag="splice"):
    """Change a list otherwise than by appending: its newest items, or the one in a position.

    * `at` 0: the newest `take` items go, as many of them as there are, with their positions; `items`
      come in their place, and of all the newest `keep` stay. Where none come, none go for `keep`.
      `same`: refused unless these are the newest items now.
    * `at` a position: the one item in `items` takes the place of the one there, refused if there is
      none ("gone"). `same`: refused unless that is the one in it.
    """

    field: str
    keep: int
    at: int = 0
    take: int = 0
    items: tuple[bytes, ...] = ()
    same: tuple[bytes, ...] | None = None

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:  # noqa: ARG002  lists share
        """Apply it."""
        field, at, items = self.field, self.at, self.items
        old = cells.get(field)
        if old is None:
            old = _NO_ITEMS.fork()
        elif isinstance(old, dict):
            raise Refusal(field, "type", "items", "entries")
        size = len(old)
        if at:
            place = at - old.first
            if not 0 <= place < size:
                raise Refusal(field, "gone", _positions(old), at)
            if self.same is not None and self.same != (old[place],):
                raise Refusal(field, "changed", "the item as it was", "another")
            new = old.with_item(at, items[0])
        else:
            same = self.same
            if same is not None and (len(same) > size or tuple(old[size - len(same) :]) != same):
                raise Refusal(field, "changed", "the newest items as they were", "others")
            take = min(self.take, size)
            if not take and not items:
                return 0
            new = old.without_newest(take) if take else old
            if items:
                new = new.appended(items, self.keep)
        cells[field] = new
        return new.nbytes - old.nbytes


def _positions(items: Items) -> str:
    if not items:
        return "no items"
    return f"positions {items.first} to {items.first + len(items) - 1}"


Change: TypeAlias = Put | Drop | Add | Accumulate | Append | Splice


def fold(cells: Mapping[str, Cell], changes: Iterable[Change]) -> dict[str, Cell]:
    """The cells after the changes, in order; `cells` itself is not touched. Raises `Refusal`.

    Lists share their buffers with `cells`: two threads must not fold the same cells at once.
    """
    out = dict(cells)
    own: list[str] = []
    for change in changes:
        change.into(out, own)
    return out


# ------------------------------------------------------------------------------ what a change asks for


def said_of(change: Change) -> tuple[object, ...]:
    """What a change asks for. Without its bound, which belongs to a release and not to the caller."""
    if isinstance(change, Append):
        return ("append", change.field, [_meant(item) for item in change.items])
    if isinstance(change, Splice):
        same = None if change.same is None else [_meant(item) for item in change.same]
        items = [_meant(item) for item in change.items]
        return ("splice", change.field, change.at, change.take, items, same)
    if isinstance(change, Add):
        return ("add", change.field, change.entry, change.amount)
    if isinstance(change, Accumulate):
        return ("accumulate", change.field, change.entry, change.array)
    if isinstance(change, Put):
        return ("put", change.field, change.entry, _meant(change.value), change.if_absent)
    return ("drop", change.field, change.entry)


def _meant(value: bytes) -> bytes:
    """An encoded value without what may differ when the same is said again.

    That is the order of a set's or an object's members, and members that are null, which a newer
    release may have and an older one not. Lists are taken as sets: nobody knows them apart here.
    """
    try:
        return _unordered(msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value


def _unordered(found: Any) -> bytes:
    if isinstance(found, dict):
        given = cast("dict[str, Any]", found).items()
        members = [
            repr(name).encode() + b":" + _unordered(each)
            for name, each in given
            if each is not None
        ]
        return b"{" + b",".join(sorted(members)) + b"}"
    if isinstance(found, list):
        listed: list[Any] = cast("Any", found)
        return b"[" + b",".join(sorted(map(_unordered, listed))) + b"]"
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    return repr(found).encode()
