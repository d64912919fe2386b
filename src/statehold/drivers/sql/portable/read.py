"""States read as cells: one statement for the main rows and one for each child table wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, Table, and_, bindparam, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.changes import Entries, Items
from statehold.commits import Key, Revision, Want
from statehold.driver import Cells
from statehold.drivers.sql.portable.load import (
    Loaded,
    all_of,
    cell_of,
    chunks,
    first_of,
    named,
    newest_of,
    number_or_bytes,
)
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.statements import kept
from statehold.drivers.sql.schema.tables import META, FieldStorage, Tables
from statehold.drivers.sql.schema.values import Unreadable, from_column, from_nulls, from_others
from statehold.folding import cut


class Found:
    """A state as read. `state` is its row's number."""

    def __init__(self, row: Loaded, cells: Cells) -> None:
        self.state: int = row.state
        self.cells = cells
        self.corrupted: list[str] = []
        self.ends: dict[str, int] = {}
        """Of lists where they end, of entries how many there are where the row counts them."""


def wanted(tables: Tables, want: Want) -> list[FieldStorage]:
    """How the fields that are asked for lie; unknown ones are left out."""
    if want.fields is None:
        return list(tables.fields.values())
    return [tables.fields[name] for name in want.fields if name in tables.fields]


def takes_one_statement(stored: Sequence[FieldStorage]) -> bool:
    """Whether all of it is in the main table."""
    return not any(one.table for one in stored)


async def read(
    connection: AsyncConnection,
    dialect: Dialect,
    tables: Tables,
    keys: Sequence[Key],
    want: Want,
    now: float,
    *,
    at: float | None = None,
) -> dict[Key, Found]:
    """The states that live, as far as wanted, within the transaction under way.

    They live now or, what a commit has just written being read, as of the commit's time, `at`.
    """
    fields = wanted(tables, want)
    found: dict[Key, Found] = {}
    if want.unless:
        heads = await _read_rows(connection, dialect, tables, keys, (), now, at)
        for key, one in heads.items():
            one.cells.unchanged = one.cells.revision in want.unless
            if one.cells.unchanged:
                found[key] = one
        keys = [key for key in heads if key not in found]
    changed = await _read_rows(connection, dialect, tables, keys, fields, now, at)
    found |= changed
    for stored in fields:
        if not stored.table:
            continue
        for some in chunks(changed.values()):
            if stored.form == "items":
                await _read_items(connection, tables, stored, some, want)
            else:
                names = want.entries_of(stored.name)
                await _read_entries(connection, tables, stored, some, names)
    for one in found.values():
        one.cells.corrupted = tuple(one.corrupted)
        if want.entries is not None:
            one.cells.fields = cut(one.cells.fields, want)
    return found


async def _read_rows(
    connection: AsyncConnection,
    dialect: Dialect,
    tables: Tables,
    keys: Sequence[Key],
    fields: Sequence[FieldStorage],
    now: float,
    at: float | None,
) -> dict[Key, Found]:
    """The states that live, with what of these fields is in the main table."""
    found: dict[Key, Found] = {}
    for some in chunks(dict.fromkeys(keys)):
        pairs = [(key[0], key[2]) for key in some]
        for row in await connection.execute(_rows(dialect, tables, fields), {"keys": pairs}):
            clock: float = row.clock if dialect.own_clock else now
            lives = row.expires_at is None or (clock if at is None else at) < row.expires_at
            if row.incarnation and lives:
                key = (row.tenant, tables.kind, row.id)
                found[key] = _found(row, dialect, fields, clock - now)
    return found


def _rows(
    dialect: Dialect, tables: Tables, fields: Sequence[FieldStorage]
) -> Select[*tuple[Any, ...]]:
    """The rows of `keys`, pairs of tenant and id, with the columns of these fields."""
    main = tables.main
    names = [stored.column for stored in fields if stored.column]

    def make() -> Select[*tuple[Any, ...]]:
        columns: list[Any] = [main.c[name] for name in (*META, *names)]
        if dialect.own_clock:
            columns.append(dialect.clock().label("clock"))
        which = tuple_(main.c.tenant, main.c.id).in_(bindparam("keys", expanding=True))
        return select(*columns).where(which)

    return kept(main, ("rows", dialect.name, *names), make)


def _found(row: Loaded, dialect: Dialect, fields: Sequence[FieldStorage], skew: float) -> Found:
    one = Found(
        row,
        Cells(
            Revision(row.incarnation, row.number),
            {},
            row.created_at,
            row.updated_at,
            row.expires_at,
            skew,
            row.epoch,
            from_others(row.subject, row.also_about),
        ),
    )
    nulls = from_nulls(row.nulls)
    values = row._mapping  # noqa: SLF001  SQLAlchemy's public name for it
    for stored in fields:
        if stored.form == "items" or stored.counted:
            one.ends[stored.name] = values[stored.column] or 0
        elif stored.column:
            try:
                cell = cell_of(stored, values[stored.column], nulls, dialect)
            except Unreadable:
                one.corrupted.append(stored.name)
                continue
            if cell:
                one.cells.fields[stored.name] = cell
    return one


async def _read_entries(
    connection: AsyncConnection,
    tables: Tables,
    stored: FieldStorage,
    states: Sequence[Found],
    names: Sequence[str] | None,
) -> None:
    """The entries, or those of these names."""
    table = tables.children[stored.name]
    entries: dict[int, Entries] = {one.state: {} for one in states}
    broken: set[int] = set()
    asked: list[tuple[Select[Any], dict[str, Any]]] = [(all_of(table), {"states": list(entries)})]
    if names is not None:
        asked = named(table, dict.fromkeys(entries, tuple(dict.fromkeys(names))))
    for statement, given in asked:
        for row in await connection.execute(statement, given):
            value = number_or_bytes(stored, row)
            if value is None:
                broken.add(row.state)
            else:
                entries[row.state][row.entry] = value
    for one in states:
        is_short = (
            names is None and stored.counted and len(entries[one.state]) != one.ends[stored.name]
        )
        if one.state in broken or is_short:
            one.corrupted.append(stored.name)
        elif entries[one.state]:
            one.cells.fields[stored.name] = entries[one.state]


async def _read_items(
    connection: AsyncConnection,
    tables: Tables,
    stored: FieldStorage,
    states: Sequence[Found],
    want: Want,
) -> None:
    """The items wanted; a field whose rows have a gap, or lack the newest, is corrupted."""
    name, table = stored.name, tables.children[stored.name]
    some = [one for one in states if one.ends[name]]
    if not some:
        return
    after, tail = want.after_of(name), want.tail_of(name)
    last = {one.state: one.ends[name] for one in some}
    if after is not None and want.limit is not None:
        firsts = await first_of(connection, tables, stored, list(last))
        for state, end in last.items():
            last[state] = min(end, max(after, firsts.get(state, 1) - 1) + want.limit)
    rows: dict[int, list[tuple[int, Any]]] = {}
    if tail != 0 or after is not None:
        for row in await _items(connection, table, last, after, tail):
            rows.setdefault(row.state, []).append((row.seq, row.value))
    for one in some:
        listed = rows.get(one.state)
        if not listed:  # all were dropped, or none is wanted
            one.cells.fields[name] = Items((), one.ends[name] + 1)
            continue
        first = listed[0][0]
        whole = listed[-1][0] == last[one.state] == first + len(listed) - 1
        try:
            values = [from_column(stored, value) for _, value in listed] if whole else None
        except Unreadable:
            values = None
        if values is None:
            one.corrupted.append(name)
        else:
            one.cells.fields[name] = Items(values, first)


async def _items(
    connection: AsyncConnection,
    table: Table,
    last: Mapping[int, int],
    after: int | None,
    tail: int | None,
) -> Iterable[Loaded]:
    """The items wanted of each state, in order, `last` being the position of the last of them."""
    rows: Iterable[Loaded]
    state, seq = table.c.state, table.c.seq
    if after is not None:
        each = [and_(state == one, seq > after, seq <= end) for one, end in last.items()]
        rows = await connection.execute(select(table).where(or_(*each)).order_by(state, seq))
    elif tail is not None:
        rows = await newest_of(connection, table, {one: end - tail for one, end in last.items()})
    else:
        statement = kept(table, ("listed",), lambda: all_of(table).order_by(state, seq))
        rows = await connection.execute(statement, {"states": list(last)})
    return rows
