"""Rows locked, and as much of each state loaded as its commits need."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import Row, Select, Table, and_, bindparam, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.changes import Change, Entries, Splice
from statehold.commits import HOLD_SECONDS, Commit, Is, Key, Revision
from statehold.drivers.sql.portable.fences import fence_of
from statehold.drivers.sql.portable.fold import Life
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.statements import kept
from statehold.drivers.sql.schema.tables import CLAIM, META, FieldStorage, Tables, lock_order
from statehold.drivers.sql.schema.types import NATIVE
from statehold.drivers.sql.schema.values import (
    NULL,
    Unreadable,
    from_column,
    from_nulls,
    from_object,
    from_others,
)
from statehold.folding import Ends, Head, Part

FEW: Final = 16
"""Of how many entries of a state it is asked for each by its state and itself, at most."""

CHUNK: Final = 500
"""Maximum keys, or pairs, in one statement."""

Loaded: TypeAlias = Row[Any]


def chunks(values: Iterable[Any]) -> Iterable[list[Any]]:
    """The values in pieces that a statement takes."""
    listed = list(values)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]


async def lock(
    connection: AsyncConnection,
    dialect: Dialect,
    tables: Tables,
    keys: Sequence[Key],
    columns: Sequence[FieldStorage],
) -> list[Life]:
    """The states whose rows exist, locked in the order of their keys, with these columns."""
    found: list[Life] = []
    for some in chunks(lock_order(keys)):
        names = [(key[0], key[2]) for key in some]
        rows = await connection.execute(_locking(dialect, tables, columns), {"keys": names})
        found += [life_of(row, tables, columns, dialect) for row in rows]
    return found


def _locking(dialect: Dialect, tables: Tables, columns: Sequence[FieldStorage]) -> Select[Any]:
    """The rows of `keys`, pairs of tenant and id."""
    main = tables.main

    def make() -> Select[Any]:
        which = tuple_(main.c.tenant, main.c.id).in_(bindparam("keys", expanding=True))
        made: Select[Any] = select(
            *(main.c[name] for name in (*META, CLAIM)), *map(tables.column, columns)
        ).where(which)
        if dialect.locks_rows:
            made = made.order_by(main.c.tenant, main.c.id).with_for_update()
        return made

    return kept(main, ("lock", dialect.name, *(stored.column for stored in columns)), make)


def life_of(row: Loaded, tables: Tables, columns: Sequence[FieldStorage], dialect: Dialect) -> Life:
    """A row as a state; what cannot be read of it is as if it were not there."""
    nulls = from_nulls(row.nulls)
    about = from_others(row.subject, row.also_about)
    head = None
    if row.incarnation:
        head = Head(
            Revision(row.incarnation, row.number),
            row.created_at,
            row.updated_at,
            row.expires_at,
            row.epoch,
            about,
        )
    life = Life((row.tenant, tables.kind, row.id), row.state, head, row.ops, nulls, about)
    values = row._mapping  # noqa: SLF001  SQLAlchemy's public name for it
    if row.epoch:
        until = row.updated_at + HOLD_SECONDS if head is None else -math.inf
        life.fence = fence_of(row.epoch, until, values[CLAIM])
    for stored in columns:
        value = values[stored.column]
        if stored.form == "items":
            life.cells[stored.name] = Ends(value or 0)
            continue
        if stored.counted:
            life.counts[stored.name] = value or 0
            continue
        try:
            cell = cell_of(stored, value, nulls, dialect)
        except Unreadable:
            continue  # it is written over
        if cell:
            life.cells[stored.name] = cell
    return life


def cell_of(stored: FieldStorage, value: Any, nulls: frozenset[str], dialect: Dialect) -> Entries:
    """The entries that a column of the main table holds. Raises `Unreadable`."""
    if stored.form == "object":
        return from_object(stored.name, value, escape=dialect.escapes, spaced=dialect.spaces_json)
    if value is None:
        is_null = stored.column_type in NATIVE and stored.name in nulls
        return {"": NULL} if is_null else {}
    if stored.form == "number":
        return {"": value}
    if value == 0 and stored.column_type == "float" and stored.name in nulls:
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
    spliced: dict[str, dict[int, _Spliced]] = {}
    for commit in commits:
        life = lives.get(commit.key)
        if life is None or life.head is None:
            continue  # nothing is stored
        for part in (*commit.changes, *commit.where):
            stored = tables.fields.get(part.field)
            if stored is not None and stored.form == "entries":
                _touch(touched.setdefault(part.field, {}), life.state, part)
                continue
            if stored is None or stored.form != "items" or not isinstance(part, Splice | Is):
                continue
            asked = spliced.setdefault(part.field, {}).setdefault(life.state, _Spliced())
            if isinstance(part, Is):
                asked.newest += 1
            else:
                asked.newest += max(part.take, len(part.same or ()))
                asked.places |= {part.at} if part.at else set()
    by_state = {life.state: life for life in lives.values()}
    for name, states in touched.items():
        await _load_entries(
            connection, tables.children[name], tables.fields[name], states, by_state
        )
    for name, asked_of in spliced.items():
        await _load_items(connection, tables, tables.fields[name], asked_of, by_state)


class _Spliced(msgspec.Struct):
    """Which items of a list are looked at."""

    newest: int = 0
    places: set[int] = set()


async def _load_items(
    connection: AsyncConnection,
    tables: Tables,
    stored: FieldStorage,
    asked: Mapping[int, _Spliced],
    lives: Mapping[int, Life],
) -> None:
    """The items that a splice looks at, and where the lists begin."""
    name, table = stored.name, tables.children[stored.name]
    found: dict[int, dict[int, bytes]] = {state: {} for state in asked}
    for some in chunks(asked):
        beyond = {state: _ends(lives[state], name).end - asked[state].newest for state in some}
        places = sorted({place for state in some for place in asked[state].places})
        for row in await newest_of(connection, table, beyond, places):
            try:
                found[row.state][row.seq] = from_column(stored, row.value)
            except Unreadable:
                continue  # it is like nothing that was put
    firsts = await first_of(connection, tables, stored, list(asked))
    for state, items in found.items():
        end = _ends(lives[state], name).end
        floor = firsts.get(state, end + 1) - 1
        lives[state].cells[name] = Ends(end, floor, look_up=partial(_item, items))


async def newest_of(
    connection: AsyncConnection,
    table: Table,
    beyond: Mapping[int, int],
    places: Sequence[int] = (),
) -> Iterable[Loaded]:
    """The items of each state that lie beyond its position, or in one of the places; in order."""
    rows: Iterable[Loaded]
    if len(beyond) == 1:  # nearly always: and to make a statement takes longer than to run it
        ((of, position),) = beyond.items()
        given = {"of": of, "beyond": position, "places": list(places)}
        rows = await connection.execute(_newest(table), given)
        return rows
    state, seq = table.c.state, table.c.seq
    each = [
        and_(state == one, or_(seq > position, seq.in_(places)) if places else seq > position)
        for one, position in beyond.items()
    ]
    rows = await connection.execute(select(table).where(or_(*each)).order_by(state, seq))
    return rows


def _newest(table: Table) -> Select[Any]:
    def make() -> Select[Any]:
        seq = table.c.seq
        which = or_(seq > bindparam("beyond"), seq.in_(bindparam("places", expanding=True)))
        return select(table).where(table.c.state == bindparam("of"), which).order_by(seq)

    return kept(table, ("newest",), make)


def _item(items: Mapping[int, bytes], position: int) -> bytes:
    return items.get(position, b"")


def _ends(life: Life, name: str) -> Ends:
    ends = life.cells[name]
    assert isinstance(ends, Ends)  # noqa: S101  so it was loaded with its row
    return ends


async def first_of(
    connection: AsyncConnection, tables: Tables, stored: FieldStorage, states: Sequence[int]
) -> dict[int, int]:
    """The position of the first item of each state's list; those without items are left out."""
    statement = _firsts(tables.main, tables.children[stored.name])
    found: dict[int, int] = {}
    for some in chunks(states):
        rows = await connection.execute(statement, {"states": some})
        found.update((row.state, row.first) for row in rows if row.first is not None)
    return found


def all_of(table: Table) -> Select[Any]:
    """The rows of `states`."""

    def make() -> Select[Any]:
        return select(table).where(table.c.state.in_(bindparam("states", expanding=True)))

    return kept(table, ("all",), make)


def named(
    table: Table, wanted: Mapping[int, Collection[str]]
) -> list[tuple[Select[Any], dict[str, Any]]]:
    """What is to be asked for the rows of these entries of each state.

    Pairs of a state and an entry are asked for together, but only where a state has few: not every
    planner finds many of them by the index, one after the other, and looks at each row with each pair.
    """
    few = [(state, name) for state, names in wanted.items() if len(names) <= FEW for name in names]
    asked: list[tuple[Select[Any], dict[str, Any]]] = [
        (_pairs(table), {"pairs": some}) for some in chunks(few)
    ]
    for state, names in wanted.items():
        if len(names) > FEW:
            asked += [(_of_one(table), {"owner": state, "names": some}) for some in chunks(names)]
    return asked


def _pairs(table: Table) -> Select[Any]:
    """The rows of `pairs`, of a state and an entry."""

    def make() -> Select[Any]:
        which = tuple_(table.c.state, table.c.entry)
        return select(table).where(which.in_(bindparam("pairs", expanding=True)))

    return kept(table, ("pairs",), make)


def _of_one(table: Table) -> Select[Any]:
    """The rows of the entries `names` of the state `owner`."""

    def make() -> Select[Any]:
        which = table.c.entry.in_(bindparam("names", expanding=True))
        return select(table).where(table.c.state == bindparam("owner"), which)

    return kept(table, ("of one",), make)


def _counting(table: Table) -> Select[*tuple[Any, ...]]:
    """How many rows there are of each of `states`."""

    def make() -> Select[*tuple[Any, ...]]:
        which = table.c.state.in_(bindparam("states", expanding=True))
        return select(table.c.state, func.count()).where(which).group_by(table.c.state)

    return kept(table, ("counting",), make)


def _firsts(main: Table, table: Table) -> Select[*tuple[Any, ...]]:
    """The lowest position of each of `states`."""

    def make() -> Select[*tuple[Any, ...]]:
        # The index has the first row of each; of an aggregate over them all not every database sees that.
        first = select(func.min(table.c.seq)).where(table.c.state == main.c.state)
        which = main.c.state.in_(bindparam("states", expanding=True))
        return select(main.c.state, first.scalar_subquery().label("first")).where(which)

    return kept(table, ("firsts",), make)


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
    stored: FieldStorage,
    states: _Touched,
    lives: Mapping[int, Life],
) -> None:
    found: dict[int, Entries] = {state: {} for state in states}
    whole = [state for state, names in states.items() if names is None]
    some_of = {state: sorted(names) for state, names in states.items() if names is not None}
    wanted = [(all_of(table), {"states": some}) for some in chunks(whole)]
    wanted += named(table, some_of)
    for statement, given in wanted:
        for row in await connection.execute(statement, given):
            value = number_or_bytes(stored, row)
            if value is not None:
                found[row.state][row.entry] = value
    counts: dict[int, int] = {}
    uncounted = [] if stored.counted else [s for s, names in states.items() if names is not None]
    if stored.counted:
        counts = {state: lives[state].counts.get(stored.name, 0) for state in states}
    for some in chunks(uncounted):
        rows = await connection.execute(_counting(table), {"states": some})
        counts.update((row[0], row[1]) for row in rows)
    for state, entries in found.items():
        part = Part.of(entries, max(0, counts.get(state, 0) - len(entries)))
        if len(part):
            lives[state].cells[stored.name] = part
            lives[state].loaded.add(stored.name)


def number_or_bytes(stored: FieldStorage, row: Loaded) -> Any:
    """The value of an entry's row; None if there is none, which is damage."""
    if stored.counted:
        return row.value.encode() if isinstance(row.value, str) else None
    if stored.adds:
        if row.whole is not None:
            return row.whole
        if row.real is not None:
            return row.real
    return row.value if stored.column_type != "nothing" else None
