"""Rows locked, and as much of each state loaded as its commits need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Row, Select, Table, bindparam, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.changes import Change, Commit, Entries, Is, Key, Revision
from statehold.drivers.sql.dialects import Dialect
from statehold.drivers.sql.folding import Life
from statehold.drivers.sql.kept import kept
from statehold.drivers.sql.tables import META, Stored, Tables
from statehold.drivers.sql.types import escaped
from statehold.drivers.sql.values import (
    NATIVE,
    NULL,
    Unreadable,
    from_column,
    from_nulls,
    from_object,
)
from statehold.folding import Ends, Head, Part

CHUNK: Final = 500
"""Maximum keys, or pairs, in one statement."""

Loaded: TypeAlias = Row[Any]


def chunks(values: Iterable[Any]) -> Iterable[list[Any]]:
    """The values in pieces that a statement takes."""
    listed = list(values)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]


def in_order(keys: Iterable[Key]) -> list[Key]:
    """The keys as every writer takes them, which is the order of PostgreSQL's index: by bytes."""
    return sorted(keys, key=lambda key: (escaped(key[0]).encode(), escaped(key[2]).encode()))


async def lock(
    connection: AsyncConnection,
    dialect: Dialect,
    tables: Tables,
    keys: Sequence[Key],
    columns: Sequence[Stored],
) -> list[Life]:
    """The states whose rows exist, locked in the order of their keys, with these columns."""
    found: list[Life] = []
    for some in chunks(in_order(keys)):
        names = [(key[0], key[2]) for key in some]
        rows = await connection.execute(_locking(dialect, tables, columns), {"keys": names})
        found += [life_of(row, tables, columns, dialect) for row in rows]
    return found


def _locking(dialect: Dialect, tables: Tables, columns: Sequence[Stored]) -> Select[Any]:
    """The rows of `keys`, pairs of tenant and id."""
    main = tables.main

    def make() -> Select[Any]:
        which = tuple_(main.c.tenant, main.c.id).in_(bindparam("keys", expanding=True))
        made: Select[Any] = select(
            *(main.c[name] for name in META), *map(tables.column, columns)
        ).where(which)
        if dialect.locks_rows:
            made = made.order_by(main.c.tenant, main.c.id).with_for_update()
        return made

    return kept(main, ("lock", dialect.name, *(stored.column for stored in columns)), make)


def life_of(row: Loaded, tables: Tables, columns: Sequence[Stored], dialect: Dialect) -> Life:
    """A row as a state; what cannot be read of it is as if it were not there."""
    nulls = from_nulls(row.nulls)
    head = None
    if row.incarnation:
        head = Head(
            Revision(row.incarnation, row.number),
            row.created_at,
            row.updated_at,
            row.expires_at,
            row.epoch,
            row.subject,
        )
    life = Life((row.tenant, tables.kind, row.id), row.state, head, row.ops, nulls)
    values = row._mapping  # noqa: SLF001  SQLAlchemy's public name for it
    for stored in columns:
        value = values[stored.column]
        if stored.lies == "items":
            life.cells[stored.name] = Ends(value or 0)
            continue
        try:
            cell = cell_of(stored, value, nulls, dialect)
        except Unreadable:
            continue  # it is written over
        if cell:
            life.cells[stored.name] = cell
    return life


def cell_of(stored: Stored, value: Any, nulls: frozenset[str], dialect: Dialect) -> Entries:
    """The entries that a column of the main table holds. Raises `Unreadable`."""
    if stored.lies == "object":
        return from_object(stored.name, value, escape=dialect.escapes, spaced=dialect.spaces_json)
    if value is None:
        is_null = stored.holds in NATIVE and stored.name in nulls
        return {"": NULL} if is_null else {}
    if stored.lies == "number":
        return {"": value}
    if value == 0 and stored.holds == "float" and stored.name in nulls:
        value = -0.0
    return {"": from_column(stored, value)}


# ------------------------------------------------------------------------------------- the children


async def load_children(
    connection: AsyncConnection,
    tables: Tables,
    lives: Mapping[Key, Life],
    commits: Sequence[Commit],
) -> None:
    """Load what the commits touch of entries with tables of their own."""
    touched: dict[str, _Touched] = {}
    for commit in commits:
        life = lives.get(commit.key)
        if life is None or life.head is None:
            continue  # nothing is stored
        for part in (*commit.changes, *commit.where):
            stored = tables.fields.get(part.field)
            if stored is not None and stored.lies == "entries":
                _touch(touched.setdefault(part.field, {}), life.state, part)
    by_state = {life.state: life for life in lives.values()}
    for name, states in touched.items():
        await _load_entries(
            connection, tables.children[name], tables.fields[name], states, by_state
        )


async def load_newest(
    connection: AsyncConnection,
    tables: Tables,
    lives: Mapping[Key, Life],
    commits: Sequence[Commit],
) -> None:
    """Load the newest items of the lists that the commits have conditions on."""
    for commit in commits:
        life = lives.get(commit.key)
        for name in {condition.field for condition in commit.where}:
            stored = tables.fields.get(name)
            if life is None or life.head is None or stored is None or stored.lies != "items":
                continue
            table, ends = tables.children[name], life.cells.get(name)
            newest = select(table).where(table.c.state == life.state)
            row = (
                await connection.execute(newest.order_by(table.c.seq.desc()).limit(1))
            ).one_or_none()
            life.newest[name] = None
            if row is not None and isinstance(ends, Ends):
                try:
                    whole = row.seq == ends.end
                    life.newest[name] = from_column(stored, row.value) if whole else Unreadable()
                except Unreadable as error:
                    life.newest[name] = error


_Touched: TypeAlias = dict[int, set[str] | None]
"""The entries of a field that are wanted of each state; None for all."""


def _touch(touched: _Touched, state: int, change: Change | Is) -> None:
    names = touched.setdefault(state, set())
    entry: str | None = getattr(change, "entry", None)
    if getattr(change, "drop_lowest", False):
        touched[state] = None  # which is the lowest depends on all of them
    elif names is not None and entry is not None:
        names.add(entry)


async def _load_entries(
    connection: AsyncConnection,
    table: Table,
    stored: Stored,
    states: _Touched,
    lives: Mapping[int, Life],
) -> None:
    found: dict[int, Entries] = {state: {} for state in states}
    whole = [state for state, names in states.items() if names is None]
    pairs = [(state, name) for state, names in states.items() for name in sorted(names or ())]
    wanted = [table.c.state.in_(some) for some in chunks(whole)]
    wanted += [tuple_(table.c.state, table.c.entry).in_(some) for some in chunks(pairs)]
    for condition in wanted:
        for row in await connection.execute(select(table).where(condition)):
            value = number_or_bytes(stored, row)
            if value is not None:
                found[row.state][row.entry] = value
    counts: dict[int, int] = {}
    for some in chunks(state for state, names in states.items() if names is not None):
        counting = (
            select(table.c.state, func.count())
            .where(table.c.state.in_(some))
            .group_by(table.c.state)
        )
        counts.update((row[0], row[1]) for row in await connection.execute(counting))
    for state, entries in found.items():
        part = Part.of(entries, max(0, counts.get(state, 0) - len(entries)))
        if len(part):
            lives[state].cells[stored.name] = part
            lives[state].loaded.add(stored.name)


def number_or_bytes(stored: Stored, row: Loaded) -> Any:
    """The value of an entry's row; None if there is none, which is damage."""
    if stored.adds:
        if row.whole is not None:
            return row.whole
        if row.real is not None:
            return row.real
    return row.value if stored.holds != "nothing" else None
