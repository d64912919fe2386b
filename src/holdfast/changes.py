"""The five changes, the commit that carries them, and the fold that applies them.

This is the waist of the hourglass: fields compile to these changes, drivers fold them where the
state lives. A state, physically, is a mapping from field name to *cell*; a cell is either

* *entries*: a dict from entry name (str) to a value, which is `bytes` (an encoded value, or a
  little-endian float64 array), an `int` of 64 bits or a `float`; or
* *items*: a list of `bytes`, kept in the order of commits.

An empty cell is the same as no cell. Everything here is pure: no I/O, no clock, no third party
beyond numpy for the elementwise sum.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, overload

import msgspec

Scalar: TypeAlias = bytes | int | float
Entries: TypeAlias = dict[str, Scalar]

Key: TypeAlias = tuple[str, str, str]
"""(tenant, kind, id). A plain tuple: it is made on every call."""

INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)


class Refusal(Exception):
    """A change cannot be applied. Internal: drivers turn it into the outcome `Refused`.

    `reason` is "bound" (entries over the field's bound), "range" (a sum left int64 or the finite
    floats), "shape" (arrays of different length) or "type" (the cell holds something else).
    """

    def __init__(self, field: str, reason: str, limit: str | int, found: str | int) -> None:
        super().__init__(f"{field}: {reason}, limit {limit}, found {found}")
        self.field, self.reason, self.limit, self.found = field, reason, limit, found


# ---------------------------------------------------------------- the arithmetic every driver shares


def add_numbers(field: str, old: Scalar | None, amount: float) -> int | float:
    """`old + amount`: exact within int64 for two ints, else float. Refuses to leave either range."""
    if old is None:
        return amount
    if isinstance(old, bytes):
        raise Refusal(field, "type", "a number", "bytes")
    total = old + amount
    if isinstance(total, int):
        if not INT64_MIN <= total <= INT64_MAX:
            raise Refusal(field, "range", "int64", str(total))
    elif not math.isfinite(total):
        raise Refusal(field, "range", "finite float", str(total))
    return total


def add_arrays(field: str, old: Scalar | None, array: bytes) -> bytes:
    """The elementwise sum of two little-endian float64 arrays of the same length."""
    import numpy as np

    if old is None:
        return array
    if not isinstance(old, bytes):
        raise Refusal(field, "type", "an array", type(old).__name__)
    if len(old) != len(array):
        raise Refusal(field, "shape", len(old) // 8, len(array) // 8)
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.frombuffer(old, "<f8") + np.frombuffer(array, "<f8")
    if not np.isfinite(total).all():
        raise Refusal(field, "range", "finite float", "infinity")
    return bytes(total.tobytes())


# ---------------------------------------------------------------------------------------- the cells


_bare = object.__new__


class Items(Sequence[bytes]):
    """An immutable list of encoded items to which appending is cheap.

    Versions share one growing buffer and differ in the window that they show of it, so appending
    to a long list copies nothing, and a reader's version never changes under it. What falls out of
    the window is let go by copying the window once a good part of the buffer is outside it.
    """

    __slots__ = ("_buffer", "_start", "_stop", "nbytes")

    nbytes: int
    """The bytes of all items together."""

    def __init__(self, items: Iterable[bytes] = ()) -> None:
        self._buffer: list[bytes] = list(items)
        self._start = 0
        self._stop = len(self._buffer)
        self.nbytes = sum(map(len, self._buffer))

    def appended(self, items: Sequence[bytes], keep: int) -> Items:
        """This list with `items` at its end, cut to the newest `keep`. Not safe for two threads."""
        buffer, start, stop = self._buffer, self._start, self._stop
        if stop != len(buffer):  # another version has gone on from here: part ways
            buffer = buffer[start:stop]
            start = 0
        nbytes = self.nbytes
        if len(items) == 1:
            buffer.append(items[0])
            nbytes += len(items[0])
        else:
            buffer.extend(items)
            nbytes += sum(map(len, items))
        stop = len(buffer)
        if stop - start > keep:
            first = stop - keep
            nbytes -= (
                len(buffer[start]) if first - start == 1 else sum(map(len, buffer[start:first]))
            )
            start = first
            if start > keep >> 3:
                buffer = buffer[start:]
                start = 0
                stop = keep
        new: Items = _bare(Items)
        new._buffer = buffer
        new._start = start
        new._stop = stop
        new.nbytes = nbytes
        return new

    def tail(self, count: int) -> Items:
        """The newest `count` items."""
        if count >= self._stop - self._start:
            return self
        return Items(self._buffer[self._stop - count : self._stop])

    def fork(self) -> Items:
        """The same items in a buffer of their own."""
        return Items(self._buffer[self._start : self._stop])

    def __len__(self) -> int:
        return self._stop - self._start

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        size = self._stop - self._start
        if isinstance(index, slice):
            begin, end, step = index.indices(size)
            if step == 1:
                return self._buffer[self._start + begin : self._start + max(begin, end)]
            return [self._buffer[self._start + i] for i in range(begin, end, step)]
        if index < 0:
            index += size
        if not 0 <= index < size:
            raise IndexError(index)
        return self._buffer[self._start + index]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._buffer[self._start : self._stop])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Items) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Items({list(self)!r})"


Cell: TypeAlias = Entries | Items


def _nbytes(value: Scalar) -> int:
    return len(value) if isinstance(value, bytes) else 8


class Draft:
    """A working copy of cells: what it does not own it copies before the first change to it.

    `undo()` takes back everything since `begin()`, so that a refused commit leaves no trace. The
    `sole` writer of its lists may append to buffers that readers share; others copy them first.
    """

    __slots__ = ("_nbytes", "_sole", "_undo", "cells", "nbytes", "owned")

    def __init__(self, cells: Mapping[str, Cell], *, sole: bool = False) -> None:
        self._sole = sole
        self.cells: dict[str, Cell] = dict(cells)
        self.owned: list[str] = []
        self.nbytes = 0
        """How many bytes of names and values the draft has gained since it was made."""
        self._nbytes = 0
        self._undo: list[
            tuple[dict[str, Scalar], str, Scalar | None] | tuple[str, Cell | None]
        ] = []

    def begin(self) -> None:
        """`undo()` goes back to here."""
        self._undo.clear()
        self._nbytes = self.nbytes

    def undo(self) -> None:
        """Everything since `begin()` is taken back."""
        for step in reversed(self._undo):
            if len(step) == 2:
                name, cell = step
                if cell is None:
                    self.cells.pop(name, None)
                else:
                    self.cells[name] = cell
            else:
                entries, entry, old = step
                if old is None:
                    entries.pop(entry, None)
                else:
                    entries[entry] = old
        self._undo.clear()
        self.nbytes = self._nbytes

    def entries(self, field: str) -> Entries:
        """The field's entries, writable, made when absent."""
        cell = self.cells.get(field)
        if cell is None:
            self._undo.append((field, None))
            self.owned.append(field)
            made: Entries = {}
            self.cells[field] = made
            return made
        if not isinstance(cell, dict):
            raise Refusal(field, "type", "entries", "items")
        if field not in self.owned:
            self.owned.append(field)
            cell = self.cells[field] = cell.copy()
        return cell

    def items(self, field: str) -> Items:
        """The field's items, to be replaced through `set_items`."""
        cell = self.cells.get(field)
        if cell is None:
            self.owned.append(field)
            return Items()
        if not isinstance(cell, Items):
            raise Refusal(field, "type", "items", "entries")
        if not self._sole and field not in self.owned:
            self.owned.append(field)
            cell = self.cells[field] = cell.fork()
        return cell

    def set_items(self, field: str, old: Items, items: Items) -> None:
        """Replace the field's items."""
        self._undo.append((field, self.cells.get(field)))
        self.cells[field] = items
        self.nbytes += items.nbytes - old.nbytes

    def replace_number(self, entries: Entries, entry: str, old: Scalar, total: float) -> None:
        """Set an entry that exists, number for number."""
        self._undo.append((entries, entry, old))
        entries[entry] = total

    def set_entry(
        self,
        entries: Entries,
        field: str,
        entry: str,
        value: Scalar,
        bound: int | None,
        drop_lowest: bool,
    ) -> None:
        """Set one entry, keeping the field's bound: refuse a new one past it, or drop the lowest."""
        old = entries.get(entry)
        if old is None and bound is not None and len(entries) >= bound:
            if not drop_lowest:
                raise Refusal(field, "bound", bound, len(entries) + 1)
            lowest = min(entries)
            if entry < lowest:
                return  # it would be the first to go
            gone = entries.pop(lowest)
            self._undo.append((entries, lowest, gone))
            self.nbytes -= len(lowest) + _nbytes(gone)
        self._undo.append((entries, entry, old))
        entries[entry] = value
        self.nbytes += _nbytes(value) + (len(entry) if old is None else -_nbytes(old))

    def drop(self, field: str, entry: str | None) -> None:
        """Remove one entry, or the field."""
        cell = self.cells.get(field)
        if cell is None:
            return
        if entry is None:
            self._undo.append((field, cell))
            self.nbytes -= (
                cell.nbytes
                if isinstance(cell, Items)
                else sum(len(name) + _nbytes(value) for name, value in cell.items())
            )
            del self.cells[field]
            if field in self.owned:
                self.owned.remove(field)
        elif isinstance(cell, dict) and entry in cell:
            cell = self.entries(field)
            gone = cell.pop(entry)
            self._undo.append((cell, entry, gone))
            self.nbytes -= len(entry) + _nbytes(gone)
            if not cell:
                self.drop(field, None)


# -------------------------------------------------------------------------------------- the changes


class Put(msgspec.Struct, frozen=True, gc=False, tag="put"):
    """Set one entry to encoded bytes. With `if_absent`, what stands already stays."""

    field: str
    entry: str
    value: bytes
    if_absent: bool = False
    bound: int | None = None
    drop_lowest: bool = False

    def into(self, draft: Draft) -> None:
        """Apply it to a draft. Raises `Refusal`."""
        entries = draft.entries(self.field)
        if self.if_absent and self.entry in entries:
            return
        draft.set_entry(entries, self.field, self.entry, self.value, self.bound, self.drop_lowest)


class Drop(msgspec.Struct, frozen=True, gc=False, tag="drop"):
    """Remove one entry, or (None) the whole field, items included."""

    field: str
    entry: str | None = None

    def into(self, draft: Draft) -> None:
        """Apply it to a draft. Raises `Refusal`."""
        draft.drop(self.field, self.entry)


class Add(msgspec.Struct, frozen=True, gc=False, tag="add"):
    """Add a number to an entry; absent counts as nothing. Ints stay exact within int64."""

    field: str
    entry: str
    amount: int | float
    bound: int | None = None
    drop_lowest: bool = False

    def into(self, draft: Draft) -> None:
        """Apply it to a draft. Raises `Refusal`."""
        entries = draft.entries(self.field)
        old = entries.get(self.entry)
        if old is None:
            draft.set_entry(
                entries, self.field, self.entry, self.amount, self.bound, self.drop_lowest
            )
        else:
            draft.replace_number(
                entries, self.entry, old, add_numbers(self.field, old, self.amount)
            )


class Accumulate(msgspec.Struct, frozen=True, gc=False, tag="accumulate"):
    """Add an array to an entry, elementwise. `array` is little-endian float64."""

    field: str
    entry: str
    array: bytes
    bound: int | None = None
    drop_lowest: bool = False

    def into(self, draft: Draft) -> None:
        """Apply it to a draft. Raises `Refusal`."""
        entries = draft.entries(self.field)
        total = add_arrays(self.field, entries.get(self.entry), self.array)
        draft.set_entry(entries, self.field, self.entry, total, self.bound, self.drop_lowest)


class Append(msgspec.Struct, frozen=True, gc=False, tag="append"):
    """Append items to a list and keep the newest `keep`."""

    field: str
    items: tuple[bytes, ...]
    keep: int

    def into(self, draft: Draft) -> None:
        """Apply it to a draft. Raises `Refusal`."""
        if self.items:
            old = draft.items(self.field)
            draft.set_items(self.field, old, old.appended(self.items, self.keep))


Change: TypeAlias = Put | Drop | Add | Accumulate | Append


def fold(cells: Mapping[str, Cell], changes: Iterable[Change]) -> dict[str, Cell]:
    """The cells after the changes, in order; `cells` itself is not touched. Raises `Refusal`."""
    draft = Draft(cells)
    for change in changes:
        change.into(draft)
    return draft.cells


# --------------------------------------------------------------------------------------- the commit


class Revision(msgspec.Struct, frozen=True, order=False, gc=False):
    """Which life of a state (`incarnation`, random, never 0) and which commit in it (from 1)."""

    incarnation: int
    number: int

    def __str__(self) -> str:
        return f"{self.incarnation:x}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Revision:
        """The revision that `str()` printed. Raises ValueError for anything else."""
        incarnation, dot, number = text.partition(".")
        if not dot or not number.isdecimal():
            raise ValueError(f"not a revision: {text[:40]!r}")
        return cls(int(incarnation, 16), int(number))


ABSENT: Final = Revision(0, 0)
"""As `expect`: the state must not exist. As what stands: it does not."""

PRESENT: Final = Revision(0, 1)
"""As `expect`: the state must exist, at whatever revision."""


def new_incarnation() -> int:
    """A number for a state's next life: 63 random bits, never 0."""
    return (int.from_bytes(os.urandom(8), "little") >> 2) + 1


class Want(msgspec.Struct, frozen=True, gc=False):
    """What a reader asks for. `fields` None means all; `tail` bounds the items read of each list.

    `renew` moves the deadline as a write would, in the same round trip: (ttl, max age) in seconds.
    """

    fields: tuple[str, ...] | None = None
    tail: int | dict[str, int] | None = None
    renew: tuple[float | None, float | None] | None = None

    def tail_of(self, field: str) -> int | None:
        """How many of the field's newest items are wanted; None for all."""
        tail = self.tail
        return tail.get(field) if isinstance(tail, dict) else tail


EVERYTHING: Final = Want()


class Commit(msgspec.Struct, frozen=True, gc=False):
    """One atomic step of one state, the record that everything passes along.

    * `op`: applied at most once per state among its newest `ops` ids; "" where no one could
      repeat the call (see `Driver.ambiguous`).
    * `expect`: the revision that must stand, `ABSENT`, `PRESENT`, or None for whatever is there.
    * `epoch`: the writer's fencing epoch; lower than the state has seen is refused. 0: unfenced,
      which any state that has seen an epoch refuses too.
    * `ttl`: seconds from this commit until the state expires, None for never; `max_age`: seconds
      from the state's creation that no renewal moves it beyond.
    * `subject`: whom the state is about from now on; None leaves it as it is.
    * `erase`: delete the state with everything that belongs to it; `changes` must be empty.
    """

    key: Key
    changes: tuple[Change, ...]
    ttl: float | None
    op: str = ""
    expect: Revision | None = None
    epoch: int = 0
    max_age: float | None = None
    subject: str | None = None
    ops: int = 128
    returning: Want | None = None
    erase: bool = False


def deadline(created: float, now: float, ttl: float | None, max_age: float | None) -> float | None:
    """When a state written (or renewed) at `now` expires, in epoch seconds; None for never.

    A state is expired at the instant `now >= deadline`.
    """
    if max_age is None:
        return None if ttl is None else now + ttl
    return created + max_age if ttl is None else min(now + ttl, created + max_age)
