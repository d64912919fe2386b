"""What was folded, written back: a bounded number of statements, however many states there are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Delete, Table, and_, bindparam, delete, or_, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.changes import Scalar
from statehold.commits import Key, subjects_of
from statehold.drivers.sql.op_ids import FORGET_EVERY, MOST_OPS, RECENT_SECONDS
from statehold.drivers.sql.portable.fences import husk, to_claim
from statehold.drivers.sql.portable.fold import Life
from statehold.drivers.sql.portable.load import chunks
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.statements import kept
from statehold.drivers.sql.schema.tables import CLAIM, FieldStorage, Tables
from statehold.drivers.sql.schema.types import NATIVE
from statehold.drivers.sql.schema.values import (
    NULL,
    to_column,
    to_nulls,
    to_object,
    to_others,
)
from statehold.errors import Invalid
from statehold.folding import Ends, Fence, Part


async def erase(
    connection: AsyncConnection, tables: Tables, states: Iterable[int], several: Iterable[int]
) -> None:
    """Delete rows with everything that belongs to them; `several` are those about several subjects."""
    await _unlist(connection, tables, several)
    for some in chunks(states):
        for table in tables.owned:
            await connection.execute(kept(table, ("of",), partial(_of, table)), {"states": some})


def _of(table: Table) -> Delete:
    return delete(table).where(table.c.state.in_(bindparam("states", expanding=True)))


async def erase_lives(connection: AsyncConnection, tables: Tables, lives: Sequence[Life]) -> None:
    """Delete these states with everything that belongs to them."""
    several = [life.state for life in lives if isinstance(life.about, tuple)]
    await erase(connection, tables, [life.state for life in lives], several)


async def _unlist(connection: AsyncConnection, tables: Tables, states: Iterable[int]) -> None:
    for some in chunks(states):
        await connection.execute(delete(tables.about).where(tables.about.c.state.in_(some)))


async def leave(
    connection: AsyncConnection,
    dialect: Dialect,
    tables: Tables,
    fences: Mapping[Key, Fence],
    now: float,
) -> None:
    """Leave husks of these keys, which have no state and are locked."""
    rows = [husk(key, fence, now) for key, fence in fences.items()]
    if rows:
        changing = [name for name in rows[0] if name not in ("tenant", "id")]
        await connection.execute(dialect.upsert(tables.main, ["tenant", "id"], changing), rows)


async def save(
    connection: AsyncConnection, dialect: Dialect, tables: Tables, lives: Sequence[Life]
) -> None:
    """Write what was folded into these states, which are as saved afterwards. Raises `Invalid`."""
    changed = [life for life in lives if life.changed]
    if not changed:
        return
    await _save_rows(connection, dialect, tables, changed)
    for name, table in tables.children.items():
        touched = [life for life in changed if name in life.touched]
        if not touched:
            continue
        stored = tables.fields[name]
        if stored.form == "items":
            await _save_items(connection, dialect, table, stored, touched)
        else:
            await _save_entries(connection, dialect, table, stored, touched)
    await _save_ops(connection, dialect, tables.ops, changed)
    await _save_about(connection, dialect, tables, changed)
    for life in changed:
        life.touched.clear()
        life.recorded.clear()
        for name in life.loaded:
            life.cells.pop(name, None)  # to be loaded again, should another commit need it
        life.loaded.clear()
        for name, cell in life.cells.items():
            if isinstance(cell, Ends):
                life.cells[name] = Ends(cell.end)
        life.changed = False


async def _save_rows(
    connection: AsyncConnection, dialect: Dialect, tables: Tables, lives: Sequence[Life]
) -> None:
    """The main rows, together with all others that have changed the same columns."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for life in lives:
        nulls = set(life.nulls)
        head = life.head
        assert head is not None  # noqa: S101  it has changed
        row: dict[str, Any] = {
            "state": life.state,
            "tenant": life.key[0],
            "id": life.key[2],
            "incarnation": head.revision.incarnation,
            "number": head.revision.number,
            "created_at": head.created,
            "updated_at": head.updated,
            "expires_at": head.deadline,
            "epoch": head.epoch,
            "subject": next(iter(subjects_of(head.subject)), None),
            "ops": life.ops,
        }
        if isinstance(head.subject, tuple) or isinstance(life.about, tuple):
            row["also_about"] = to_others(head.subject)
        if life.fence.epoch:
            row[CLAIM] = to_claim(life.fence)
        for stored in tables.fields.values():
            if stored.column and stored.name in life.touched:
                row[stored.column] = _column(life, stored, nulls, dialect)
        life.nulls = frozenset(nulls)
        row["nulls"] = to_nulls(nulls)
        groups.setdefault(tuple(row), []).append(row)
    for columns, rows in groups.items():
        changing = [name for name in columns if name not in ("state", "tenant", "id")]
        await connection.execute(dialect.upsert(tables.main, ["state"], changing), rows)


def _column(life: Life, stored: FieldStorage, nulls: set[str], dialect: Dialect) -> Any:
    """What the field's column is set to; `nulls` is brought up to date."""
    cell: Any = life.cells.get(stored.name, {})
    if isinstance(cell, Ends):
        return cell.end or None
    if stored.counted:
        life.counts[stored.name] = len(cell)
        return len(cell) or None
    if stored.form == "object":
        return to_object(stored.name, cell, escape=dialect.escapes)
    value: Scalar | None = cell.get("")
    nulls.discard(stored.name)
    if value is None or stored.form == "number":
        return value
    if value == NULL and stored.column_type in NATIVE:
        nulls.add(stored.name)
        return None
    column = to_column(stored, value)
    if column == 0 and stored.column_type == "float" and not dialect.keeps_minus_zero:
        nulls |= {stored.name} if math.copysign(1, column) < 0 else set()
    return column


async def _save_about(
    connection: AsyncConnection, dialect: Dialect, tables: Tables, lives: Sequence[Life]
) -> None:
    """What lists the states that are, or were, about several."""
    gone: list[int] = []
    rows: list[dict[str, Any]] = []
    for life in lives:
        about = None if life.head is None else life.head.subject
        if about == life.about:
            continue
        if isinstance(life.about, tuple):
            gone.append(life.state)
        if isinstance(about, tuple):
            others = {"state": life.state, "tenant": life.key[0]}
            rows += [{**others, "subject": subject} for subject in about[1:]]
        life.about = about
    await _unlist(connection, tables, gone)
    if rows:
        await connection.execute(dialect.insert(tables.about), rows)


async def _save_items(
    connection: AsyncConnection,
    dialect: Dialect,
    table: Table,
    stored: FieldStorage,
    lives: Sequence[Life],
) -> None:
    gone: list[tuple[int, int]] = []
    taken: list[tuple[int, int]] = []
    edited: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for life in lives:
        ends: Any = life.cells[stored.name]
        if ends.floor > 0:
            gone.append((life.state, ends.floor))
        if ends.left < ends.saved:
            taken.append((life.state, ends.left))
        edited += [
            {"state": life.state, "seq": at, "value": to_column(stored, item)}
            for at, item in ends.edits.items()
            if at > ends.floor
        ]
        first = ends.end - len(ends.fresh) + 1
        rows += [
            {"state": life.state, "seq": seq, "value": to_column(stored, item)}
            for seq, item in enumerate(ends.fresh, first)
        ]
    await _delete_old(connection, table, gone)
    for some in chunks(taken):
        each = [and_(table.c.state == state, table.c.seq > last) for state, last in some]
        await connection.execute(delete(table).where(or_(*each)))
    if edited:
        await connection.execute(dialect.upsert(table, ["state", "seq"], ["value"]), edited)
    if rows:
        await connection.execute(dialect.insert(table), rows)


async def _delete_old(
    connection: AsyncConnection, table: Table, gone: Sequence[tuple[int, int]]
) -> None:
    """Delete the rows of each state up to a `seq`."""
    for some in chunks(gone):
        if len(some) == 1:
            state, last = some[0]
            statement = kept(table, ("old",), lambda: _old(table))
            await connection.execute(statement, {"of": state, "last": last})
            continue
        each = [and_(table.c.state == state, table.c.seq <= last) for state, last in some]
        await connection.execute(delete(table).where(or_(*each)))


def _old(table: Table) -> Delete:
    return delete(table).where(table.c.state == bindparam("of"), table.c.seq <= bindparam("last"))


async def _save_entries(
    connection: AsyncConnection,
    dialect: Dialect,
    table: Table,
    stored: FieldStorage,
    lives: Sequence[Life],
) -> None:
    cleared: list[int] = []
    gone: list[tuple[int, str]] = []
    rows: list[dict[str, Any]] = []
    for life in lives:
        cell: Any = life.cells.get(stored.name, {})
        changed: dict[str, Scalar | None] = cell.changed if isinstance(cell, Part) else cell
        if stored.name in life.loaded and not isinstance(cell, Part):
            cleared.append(life.state)  # dropped as a whole, and perhaps made anew
        gone += [(life.state, entry) for entry, value in changed.items() if value is None]
        rows += [
            {"state": life.state, "entry": entry, **_columns(stored, value)}
            for entry, value in changed.items()
            if value is not None
        ]
    for some in chunks(cleared):
        await connection.execute(kept(table, ("of",), partial(_of, table)), {"states": some})
    for some in chunks(gone):
        statement = kept(table, ("these",), partial(_these, table))
        await connection.execute(statement, {"pairs": some})
    if rows:
        changing = [name for name in rows[0] if name not in ("state", "entry")]
        await connection.execute(dialect.upsert(table, ["state", "entry"], changing), rows)


def _these(table: Table) -> Delete:
    pairs = tuple_(table.c.state, table.c.entry)
    return delete(table).where(pairs.in_(bindparam("pairs", expanding=True)))


def _columns(stored: FieldStorage, value: Scalar) -> dict[str, Any]:
    """The columns of an entry's row."""
    made: dict[str, Any] = {}
    if stored.adds:
        made["whole"] = value if isinstance(value, int) else None
        made["real"] = value if isinstance(value, float) else None
    if stored.counted:
        made["value"] = to_column(stored, value)
    elif stored.column_type != "nothing":
        made["value"] = value if isinstance(value, bytes) else None
        if stored.column_type == "array" and isinstance(value, bytes) and len(value) % 8:
            raise Invalid(f"{stored.name}: no array of float64", field=stored.name)
    return made


async def _save_ops(
    connection: AsyncConnection, dialect: Dialect, table: Table, lives: Sequence[Life]
) -> None:
    """Record the op ids. Those to be forgotten are deleted now and then."""
    rows: list[dict[str, Any]] = []
    forgotten: list[tuple[Life, float]] = []
    for life in lives:
        for op, seq, at in life.recorded:
            number, intent = life.applied[op]
            row = {"state": life.state, "op": op, "number": number, "seq": seq}
            rows.append({**row, "intent": intent, "at": at})
        step = max(FORGET_EVERY, life.keep_ops // 2)
        due = life.ops // step > (life.ops - len(life.recorded)) // step
        if life.recorded and life.ops > life.keep_ops and due:
            forgotten.append((life, life.recorded[-1][2]))
    for some in chunks(forgotten):
        each = [
            and_(
                table.c.state == life.state,
                table.c.seq <= life.ops - life.keep_ops,
                or_(
                    table.c.seq <= life.ops - MOST_OPS,
                    table.c.at < newest - RECENT_SECONDS,
                ),
            )
            for life, newest in some
        ]
        await connection.execute(delete(table).where(or_(*each)))
    if rows:
        changing = ["number", "seq", "intent", "at"]
        await connection.execute(dialect.upsert(table, ["state", "op"], changing), rows)
