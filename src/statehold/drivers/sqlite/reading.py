"""The rows of a state, read as cells."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from statehold.changes import Cell, Entries, Items
from statehold.commits import Revision, Want
from statehold.driver import Cells, WouldWait
from statehold.drivers.sqlite.errors import is_damage
from statehold.drivers.sqlite.names import FieldNames
from statehold.drivers.sqlite.schema import FIELD_BITS, FIELD_MASK, PLACE_BITS
from statehold.errors import Corrupted

Execute: TypeAlias = Callable[..., sqlite3.Cursor]
Ring: TypeAlias = tuple[int, int, int, int, int]
"""A list as stored: its id, the place of the next item, how many there are, how many places, and the
position of the newest. The id is 0 where there are none."""
Shape: TypeAlias = dict[int, int | Ring]
"""What a state's fields hold, by field number: a count of entries, or a list."""
Row: TypeAlias = tuple[Any, ...]

SHORT = 2000
"""How many items and entries are read where nobody may be kept waiting; some milliseconds."""

SELECT_STATE = (
    "SELECT id, incarnation, number, epoch, created, updated, deadline, subject, ops, shape"
    " FROM state WHERE tenant = ? AND kind = ? AND key = ?"
)
_shapes = msgspec.json.Decoder(Shape)
encode_shape = msgspec.json.Encoder().encode
_several = msgspec.json.Decoder(tuple[str, ...])
encode_several = msgspec.json.Encoder().encode
"""Several subjects as the row of their state has them."""


def decode_several(text: bytes) -> tuple[str, ...]:
    """The subjects from a row. Raises `Corrupted`."""
    try:
        return _several.decode(text)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Corrupted("whom a stored state is about cannot be read") from error


def decode_shape(text: str | bytes) -> Shape:
    """The shape from a row. Raises `Corrupted`."""
    try:
        return _shapes.decode(text)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise Corrupted("the description of a stored state cannot be read") from error


def places(ring: Ring, skip: int, take: int) -> Iterator[tuple[int, int]]:
    """First and last place of each run of rows that holds these items, in order."""
    _, following, stored, size, _ = ring
    if take <= 0:
        return
    first = following - stored + skip
    if first < 0:
        first += size
    end = first + take
    if end <= size:
        yield first, end - 1
        return
    yield first, size - 1
    yield 0, end - size - 1


class Room:
    """For how many rows a reading has room that is to be short. Raises `WouldWait` where there is none."""

    def __init__(self, rows: int = SHORT) -> None:
        self._rows = rows

    def take(self, rows: int) -> None:
        self._rows -= rows
        if self._rows < 0:
            raise WouldWait


def _take(room: Room | None, rows: int) -> None:
    if room is not None:
        room.take(rows)


def cells_of(
    execute: Execute, names: FieldNames, row: Row, want: Want, room: Room | None = None
) -> Cells:
    """The state whose row is given, as far as wanted; what cannot be read is in `corrupted`."""
    state, incarnation, number, epoch, created, updated, until, subject, _, text = row
    if type(subject) is bytes:
        subject = decode_several(subject)
    revision = Revision(incarnation, number)
    if revision in want.unless:
        return Cells(
            revision, {}, created, updated, until, epoch=epoch, subject=subject, unchanged=True
        )
    shape = decode_shape(text)
    try:
        fields, corrupted = _fields(execute, names, state, shape, want, room)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        fields, corrupted = _one_by_one(execute, names, state, shape, want)
    return Cells(
        revision,
        fields,
        created,
        updated,
        until,
        epoch=epoch,
        subject=subject,
        corrupted=tuple(corrupted),
    )


def _fields(
    execute: Execute,
    names: FieldNames,
    state: int,
    shape: Shape,
    want: Want,
    room: Room | None = None,
) -> tuple[dict[str, Cell], list[str]]:
    """What is wanted of a state, and the names of the fields that are not as `shape` says."""
    fields: dict[str, Cell] = {}
    corrupted: list[str] = []
    wanted = shape
    if want.fields is not None:
        numbers = [names.known(execute, name) for name in want.fields]
        wanted = {n: shape[n] for n in numbers if n is not None and n in shape}
    counted: list[tuple[int, str, int]] = []
    base = state << FIELD_BITS
    for number, held in wanted.items():
        name = names.name(execute, number)
        cell: Cell | None
        if isinstance(held, tuple):
            first = held[4] - held[2] + 1
            skip, take = want.window_of(name, first, held[2])
            _take(room, take)
            cell = _items(execute, held, first, skip, take)
        elif want.entries is not None and name in want.entries:
            cell = _single_entries(execute, base | number, want.entries[name])
        else:
            _take(room, held)
            counted.append((number, name, held))
            continue
        if cell is None:
            corrupted.append(name)
        else:
            fields[name] = cell
    if counted:
        whole = want.entries is None and (want.fields is None or len(counted) > 3)
        read = _entries_of_all if whole else _entries_of_each
        entries = read(execute, base, counted)
        for number, name, count in counted:
            found = entries[base | number]
            if len(found) == count and SCALARS.issuperset(map(type, found.values())):
                fields[name] = found
            else:
                corrupted.append(name)
    return fields, corrupted


def _entries_of_all(
    execute: Execute, base: int, counted: list[tuple[int, str, int]]
) -> dict[int, Entries]:
    """By slot, in one statement that reads the entries of every field."""
    found: dict[int, Entries] = {base | number: {} for number, _, _ in counted}
    for slot, entry, value in execute(
        "SELECT slot, entry, value FROM cell WHERE slot BETWEEN ? AND ?",
        (base, base | FIELD_MASK),
    ):
        if slot in found:
            found[slot][entry] = value
    return found


def _entries_of_each(
    execute: Execute, base: int, counted: list[tuple[int, str, int]]
) -> dict[int, Entries]:
    """By slot, in one statement for each field."""
    return {
        base | number: dict(
            execute("SELECT entry, value FROM cell WHERE slot = ?", (base | number,))
        )
        for number, _, _ in counted
    }


def _single_entries(execute: Execute, slot: int, names: tuple[str, ...]) -> Entries | None:
    """The entries of these names, as far as there are any; None if one is not as it can have been put."""
    found: Entries = {}
    for entry in names:
        row = execute(
            "SELECT value FROM cell WHERE slot = ? AND entry = ?", (slot, entry)
        ).fetchone()
        if row is not None:
            found[entry] = row[0]
    return found if SCALARS.issuperset(map(type, found.values())) else None


SCALARS = frozenset((bytes, int, float))


def _items(execute: Execute, ring: Ring, first: int, skip: int, take: int) -> Items | None:
    """Some of the items; None if they are not all there as bytes."""
    values = rows_of(execute, ring, skip, take)
    if len(values) != take or any(type(value) is not bytes for value in values):
        return None
    return Items(values, first + skip)


def rows_of(execute: Execute, ring: Ring, skip: int, take: int) -> list[Any]:
    """The values of these rows of a list, as far as they are there."""
    base = ring[0] << PLACE_BITS
    return [
        value
        for first, last in places(ring, skip, take)
        for (value,) in execute(
            "SELECT value FROM item WHERE id BETWEEN ? AND ? ORDER BY id",
            (base | first, base | last),
        )
    ]


def _one_by_one(
    execute: Execute, names: FieldNames, state: int, shape: Shape, want: Want
) -> tuple[dict[str, Cell], list[str]]:
    """The slow way round damaged pages: what can be read of each field by itself."""
    fields: dict[str, Cell] = {}
    corrupted: list[str] = []
    for name in [names.name(execute, number) for number in shape]:
        if want.fields is not None and name not in want.fields:
            continue
        try:
            some, bad = _fields(execute, names, state, shape, replace(want, fields=(name,)))
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            bad = [name]
        else:
            fields.update(some)
        corrupted += bad
    return fields, corrupted
