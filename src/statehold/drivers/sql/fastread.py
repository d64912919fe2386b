"""Rows of the read statement as cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from statehold.changes import Cell, Items, Revision, Want
from statehold.driver import Cells
from statehold.drivers.sql.function_reading import META, read_statement, selection
from statehold.drivers.sql.tables import Stored, Tables
from statehold.drivers.sql.types import unescaped
from statehold.drivers.sql.values import (
    NATIVE,
    NULL,
    Unreadable,
    from_column,
    from_nulls,
    from_object,
)
from statehold.drivers.sql.vectors import from_sent

_SENT = np.dtype([("size", ">i4"), ("value", ">f8")])
_HEAD: Final = 20
"""Bytes before the numbers of an array of one dimension, as PostgreSQL sends it."""


class Reader:
    """How the states of a kind are read: the statements, their arguments, their rows."""

    def __init__(self, tables: Tables) -> None:
        self._fields = list(tables.fields.values())
        self._places = selection(tables, "", "").places
        self.statement = read_statement(tables)
        self.renewing = read_statement(tables, renew=True)

    def arguments(self, wants: Sequence[Want]) -> tuple[list[bool], list[int | None]]:
        """Which fields are read, and how many items of each, so that every want is met."""
        asked: list[bool] = []
        tails: list[int | None] = []
        for stored in self._fields:
            name = stored.name
            some = [w.tail_of(name) for w in wants if w.fields is None or name in w.fields]
            asked.append(bool(some))
            counts = [tail for tail in some if tail is not None]
            tails.append(max(counts) if counts and len(counts) == len(some) else None)
        return asked, tails

    def cells(self, row: Sequence[Any], want: Want, now: float) -> Cells:
        """The cells of a state. `row` begins with the columns of `META`."""
        incarnation, number, created, updated, expires, epoch, subject, nulls, clock = row[
            : len(META)
        ]
        fields: dict[str, Cell] = {}
        corrupted: list[str] = []
        null = from_nulls(nulls)
        for stored in self._fields:
            name = stored.name
            if want.fields is not None and name not in want.fields:
                continue
            try:
                cell = _cell(stored, row, len(META) + self._places[name], null)
            except Unreadable:
                corrupted.append(name)
                continue
            if isinstance(cell, Items):
                tail = want.tail_of(name)
                fields[name] = cell if tail is None else cell.tail(tail)
            elif cell:
                fields[name] = cell
        return Cells(
            Revision(incarnation, number),
            fields,
            created.timestamp(),
            updated.timestamp(),
            None if expires is None else expires.timestamp(),
            clock.timestamp() - now,
            epoch,
            None if subject is None else unescaped(subject),
            corrupted=tuple(corrupted),
        )


def _cell(stored: Stored, row: Sequence[Any], at: int, nulls: frozenset[str]) -> Cell | None:
    """What a field holds; None or empty for nothing. Raises `Unreadable`."""
    if stored.lies == "items":
        return _items(stored, *row[at : at + 4])
    if stored.lies == "entries":
        return _entries(stored, row, at)
    value = row[at]
    if stored.lies == "object":
        return from_object(stored.name, value, escape=True, spaced=True)
    if value is None:
        return {"": NULL} if stored.holds in NATIVE and stored.name in nulls else None
    if stored.holds == "vector":
        value = from_sent(value)
    return {"": value if stored.lies == "number" else from_column(stored, value)}


def _items(
    stored: Stored, values: list[Any] | None, first: int, last: int, end: int | None
) -> Items | None:
    if end is None:
        return None
    if values is None:
        return Items((), end + 1)
    if last != end or first != end - len(values) + 1:
        raise Unreadable(stored.name)  # some are missing
    if stored.holds == "json":
        return Items([value.encode() for value in values], first)
    return Items(values, first)


def _entries(stored: Stored, row: Sequence[Any], at: int) -> dict[str, Any] | None:
    names = row[at]
    if names is None:
        return None
    at += 1
    found: list[Any] = [None] * len(names)
    if stored.adds:
        found = [
            whole if whole is not None else real
            for whole, real in zip(row[at], row[at + 1], strict=True)
        ]
        at += 2
    if stored.holds != "nothing":
        raws: list[Any] = row[at]
        if stored.holds == "array":
            raws = [raw and array_bytes(raw) for raw in raws]
        found = [one if one is not None else raw for one, raw in zip(found, raws, strict=True)]
    if None in found:
        raise Unreadable(stored.name)
    return {unescaped(name): one for name, one in zip(names, found, strict=True)}


def array_bytes(sent: bytes) -> bytes:
    """Little-endian float64 of an array as PostgreSQL sends it. Raises `Unreadable`."""
    if int.from_bytes(sent[:4], "big") == 0:
        return b""  # no dimension, no number
    if int.from_bytes(sent[:4], "big") != 1 or sent[4:8] != b"\0\0\0\0":
        raise Unreadable("array")  # of more dimensions, or with NULLs
    numbers: Any = np.frombuffer(sent, _SENT, offset=_HEAD)["value"]
    return bytes(numbers.astype("<f8").tobytes())
