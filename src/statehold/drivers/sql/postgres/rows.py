"""Rows of the read statement as cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from statehold.changes import INT64_MAX, Cell, Items
from statehold.commits import Revision, Want
from statehold.driver import Cells
from statehold.drivers.sql.postgres.read import META_TYPES, read_statement, selection
from statehold.drivers.sql.schema.tables import FieldStorage, Tables
from statehold.drivers.sql.schema.types import NATIVE, escaped, unescaped
from statehold.drivers.sql.schema.values import (
    NULL,
    Unreadable,
    from_column,
    from_nulls,
    from_object,
    from_others,
)
from statehold.drivers.sql.schema.vectors import from_sent
from statehold.folding import cut

_SENT = np.dtype([("size", ">i4"), ("value", ">f8")])
_HEAD: Final = 20
"""Bytes before the numbers of an array of one dimension, as PostgreSQL sends it."""


class Reader:
    """How the states of a kind are read: the statements, their arguments, their rows."""

    def __init__(self, tables: Tables) -> None:
        self._fields = list(tables.fields.values())
        self._places = selection(tables, "", "").places
        self._tables = tables
        self._statements: dict[tuple[bool, ...], str] = {}

    def statement(self, want: Want) -> str:
        """The statement that reads what is wanted."""
        kind = (want.renew is not None, want.entries is not None, bool(want.unless))
        text = self._statements.get(kind)
        if text is None:
            renew, single, unless = kind
            text = read_statement(self._tables, renew=renew, single=single, unless=unless)
            self._statements[kind] = text
        return text

    def arguments(self, wants: Sequence[Want]) -> tuple[list[bool | None], list[int | None]]:
        """Which fields are read, and how many items of each, so that every want is met.

        None says that of its table only the entries are read that `singles` tells.
        """
        asked: list[bool | None] = []
        tails: list[int | None] = []
        for stored in self._fields:
            name = stored.name
            some = [w.tail_of(name) for w in wants if w.fields is None or name in w.fields]
            asked.append(bool(some))
            counts = [tail for tail in some if tail is not None]
            tails.append(max(counts) if counts and len(counts) == len(some) else None)
        for number in self._chosen(wants):
            asked[number - 1] = None
        return asked, tails

    def known(self, want: Want) -> tuple[list[int], list[int]]:
        """The revisions of which no fields are read; those that no row can have are left out."""
        some = [r for r in want.unless if max(r.incarnation, r.number) <= INT64_MAX]
        return [r.incarnation for r in some], [r.number for r in some]

    def singles(self, wants: Sequence[Want]) -> tuple[list[int], list[str]]:
        """The single entries that are read: the numbers of their fields, and their names."""
        fields: list[int] = []
        names: list[str] = []
        for number, some in self._chosen(wants).items():
            fields += [number] * len(some)
            names += map(escaped, some)
        return fields, names

    def _chosen(self, wants: Sequence[Want]) -> dict[int, dict[str, None]]:
        """By the numbers of the fields with tables of which only single entries are read: their names."""
        found: dict[int, dict[str, None]] = {}
        if all(want.entries is None for want in wants):
            return found
        for number, stored in enumerate(self._fields, 1):
            name = stored.name
            readers = [w for w in wants if w.fields is None or name in w.fields]
            some = [w.entries_of(name) for w in readers]
            if stored.form == "entries" and readers and None not in some:
                found[number] = dict.fromkeys(entry for one in some for entry in one or ())
        return found

    def cells(self, row: Sequence[Any], want: Want, now: float) -> Cells:
        """The cells of a state. `row` begins with the columns of `META_TYPES`."""
        incarnation, number, created, updated, expires, epoch, subject, nulls, others, clock = row[
            : len(META_TYPES)
        ]
        fields: dict[str, Cell] = {}
        corrupted: list[str] = []
        null = from_nulls(nulls)
        revision = Revision(incarnation, number)
        same = revision in want.unless
        for stored in () if same else self._fields:
            name = stored.name
            if want.fields is not None and name not in want.fields:
                continue
            try:
                single = want.entries is not None and name in want.entries
                cell = _cell(stored, row, len(META_TYPES) + self._places[name], null, single)
            except Unreadable:
                corrupted.append(name)
                continue
            if isinstance(cell, Items):
                tail = want.tail_of(name)
                fields[name] = cell if tail is None else cell.tail(tail)
            elif cell:
                fields[name] = cell
        if want.entries is not None:
            fields = cut(fields, want)
        return Cells(
            revision,
            fields,
            created.timestamp(),
            updated.timestamp(),
            None if expires is None else expires.timestamp(),
            clock.timestamp() - now,
            epoch,
            from_others(None if subject is None else unescaped(subject), others),
            corrupted=tuple(corrupted),
            unchanged=same,
        )


def _cell(
    stored: FieldStorage, row: Sequence[Any], at: int, nulls: frozenset[str], single: bool
) -> Cell | None:
    """What a field holds; None or empty for nothing. Raises `Unreadable`.

    `single`: not all of its entries need be in the row.
    """
    if stored.form == "items":
        return _items(stored, *row[at : at + 4])
    if stored.counted:
        names, values, count = row[at : at + 3]
        return _counted(stored, names, values, None if single else count or 0)
    if stored.form == "entries":
        return _entries(stored, row, at)
    value = row[at]
    if stored.form == "object":
        return from_object(stored.name, value, escape=True, spaced=True)
    if value is None:
        return {"": NULL} if stored.column_type in NATIVE and stored.name in nulls else None
    if stored.column_type == "vector":
        value = from_sent(value)
    return {"": value if stored.form == "number" else from_column(stored, value)}


def _items(
    stored: FieldStorage, values: list[Any] | None, first: int, last: int, end: int | None
) -> Items | None:
    if end is None:
        return None
    if values is None:
        return Items((), end + 1)
    if last != end or first != end - len(values) + 1:
        raise Unreadable(stored.name)  # some are missing
    if stored.column_type == "json":
        return Items([value.encode() for value in values], first)
    return Items(values, first)


def _counted(
    stored: FieldStorage, names: list[str] | None, values: list[Any] | None, count: int | None
) -> dict[str, Any] | None:
    if count is not None and count != len(names or ()):
        raise Unreadable(stored.name)  # some are missing
    if names is None or values is None:
        return None
    return {unescaped(name): one.encode() for name, one in zip(names, values, strict=True)}


def _entries(stored: FieldStorage, row: Sequence[Any], at: int) -> dict[str, Any] | None:
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
    if stored.column_type != "nothing":
        raws: list[Any] = row[at]
        if stored.column_type == "array":
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
