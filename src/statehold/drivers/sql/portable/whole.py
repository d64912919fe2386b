"""Whole lives: read with all that they remember, and installed in the place of what stands."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.changes import Cell, Items, Refusal
from statehold.commits import EVERYTHING, Commit, Key
from statehold.driver import Op, Outcome, WholeLife, Written
from statehold.drivers.sql.deciding import TooLate
from statehold.drivers.sql.portable import fitting
from statehold.drivers.sql.portable.executor import KindWork, lock_all
from statehold.drivers.sql.portable.fences import fence_of
from statehold.drivers.sql.portable.fold import Life, fits, note_forgotten
from statehold.drivers.sql.portable.load import chunks
from statehold.drivers.sql.portable.read import Found, read
from statehold.drivers.sql.portable.recalling import (
    Past,
    Remembered,
    forgotten,
    note_ends,
)
from statehold.drivers.sql.portable.save import erase_lives, save
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.tables import CLAIM, Tables
from statehold.drivers.sql.serverclock import ServerClock
from statehold.errors import Busy, Invalid
from statehold.folding import (
    INSTALLED,
    NO_FENCE,
    Ends,
    Head,
    admit_life,
    cells_within,
    fence_with,
    forgets,
    head_of,
    refused,
    whole,
    written,
)


async def read_lives(
    connection: AsyncConnection, dialect: Dialect, tables: Tables, keys: Sequence[Key], now: float
) -> dict[Key, WholeLife]:
    """Those that live, within the transaction under way. Raises `Corrupted`."""
    found = await read(connection, dialect, tables, keys, EVERYTHING, now)
    main, ops = tables.main, tables.ops
    heads: dict[int, Any] = {}
    rows: dict[int, list[Any]] = {}
    for some in chunks(one.state for one in found.values()):
        columns = [main.c[name] for name in ("state", "epoch", "ops", CLAIM)]
        for row in await connection.execute(select(*columns).where(main.c.state.in_(some))):
            heads[row.state] = row
        listed = select(ops).where(ops.c.state.in_(some)).order_by(ops.c.state, ops.c.seq)
        for row in await connection.execute(listed):
            rows.setdefault(row.state, []).append(row)
    return {
        key: _whole(key, one, heads[one.state], rows.get(one.state, ()))
        for key, one in found.items()
    }


def _whole(key: Key, one: Found, head: Any, rows: Sequence[Any]) -> WholeLife:
    ops = [Op(row.op, row.number, row.intent, row.at) for row in rows if row.op]
    gone = max((row.at for row in rows if not row.op), default=-math.inf)
    first = INSTALLED if head.ops >= INSTALLED else 0
    if head.ops > first:
        oldest = next((row for row in rows if row.op), None)
        if oldest is None:
            gone = math.inf
        elif oldest.seq > first + 1:
            gone = max(gone, oldest.at)
    fence = fence_of(head.epoch, -math.inf, head._mapping[CLAIM])  # noqa: SLF001  its public name
    return whole(key, one.cells, ops, gone, fence)


async def install_all(
    connection: AsyncConnection,
    dialect: Dialect,
    kinds: Mapping[str, Tables],
    lives: Sequence[WholeLife],
    now: float,
    *,
    clock: ServerClock,
    until: float,
    making: Collection[Key],
) -> list[Outcome]:
    """Install lives within the transaction under way; see `InstallsLives.install`.

    Raises `TooLate` after `until`, by the monotonic clock; `Meanwhile`; and `Invalid`.
    """
    outcomes: dict[Key, Outcome] = {}
    # Whoever begins a state makes its row, so that it can be locked: as for such a commit.
    works = [
        KindWork(
            connection,
            dialect,
            kinds[kind],
            {
                life.key: deque([(0, Commit(life.key, (), None))])
                for life in lives
                if life.key[1] == kind
            },
            now,
        )
        for kind in sorted(kinds)
    ]
    if until < await lock_all(works, clock, (until,), making):
        raise TooLate
    for kind, work in zip(sorted(kinds), works, strict=True):
        comes = {life.key: life for life in lives if life.key[1] == kind}
        queues = work.queues
        await work.begin_anew(queues)
        await forgotten(connection, work.tables, work.lives, work.pasts, list(comes))
        admitted: dict[Key, tuple[Head, float]] = {}
        replaced: list[Life] = []
        for key, life in comes.items():
            outcome = _judged(work, life)
            if isinstance(outcome, Written) and not outcome.repeated:
                admitted[key] = head_of(life), _forgets(work, life)
                there = work.lives[key]
                if there.head is not None:
                    replaced.append(there)
            outcomes[key] = outcome
        if replaced:  # a new row, with nothing in it that the old one had
            await erase_lives(connection, work.tables, replaced)
            for there in replaced:
                del work.lives[there.key]
            await work.begin_anew({there.key: queues[there.key] for there in replaced})
        for key, (head, forgot) in admitted.items():
            there = work.lives[key]
            if there.head is not None:  # nobody else can have made it, since its row was locked
                raise Busy(f"{kind}: other writers were in the way", key=key)
            _fill(there, comes[key], head, forgot)
            fence = fence_with(comes[key], work.fences.get(key, NO_FENCE))
            there.fence = work.fences[key] = fence
        await save(connection, dialect, work.tables, [work.lives[key] for key in admitted])
        await note_ends(connection, dialect, work.tables, work.ends)
        await work.settle()
    return [outcomes[life.key] for life in lives]


def _judged(work: KindWork, life: WholeLife) -> Outcome:
    """What becomes of a life. Raises `Invalid`."""
    there, fence = work.lives[life.key], work.fences.get(life.key, NO_FENCE)
    barred = admit_life(life, there.head, fence, work.now)
    if barred is not None:
        return barred
    try:
        cells = cells_within(life)
        for name, cell in cells.items():
            _check(work.tables, name, cell)
        if work.packet is not None:
            ends = {name: _stored(cell) for name, cell in cells.items()}
            fitting.check(work.tables.fields, ends, ends, work.packet)
    except (Refusal, Invalid) as error:
        return refused(error)
    return written(life.cells)


def _check(tables: Tables, name: str, cell: Cell) -> None:
    """Raises `Invalid` or `Refusal` for what its columns cannot hold."""
    stored = tables.fields.get(name)
    if stored is None:
        raise Invalid(f"{name}: the tables have nothing to hold it", field=name)
    if isinstance(cell, Items) is not (stored.form == "items"):
        kinds = ("items", "entries")
        listed = stored.form == "items"
        raise Refusal(name, "type", kinds[not listed], kinds[listed])
    if isinstance(cell, dict):
        fits(stored, cell)


def _forgets(work: KindWork, life: WholeLife) -> float:
    there, past = work.lives[life.key], work.pasts.setdefault(life.key, Past())
    return forgets(life, there.head, Remembered(there, past, work.now))


def _fill(there: Life, life: WholeLife, head: Head, forgot: float) -> None:
    """The life is in the row that was made for it, once that is saved."""
    there.head = head
    there.cells = {name: _stored(cell) for name, cell in cells_within(life).items()}
    there.touched = set(there.cells)
    there.ops = INSTALLED + len(life.ops)
    there.keep_ops = there.ops  # none of them makes way
    for seq, one in enumerate(life.ops, INSTALLED + 1):
        there.applied[one.op] = (one.number, one.intent)
        there.recorded.append((one.op, seq, one.at))
    note_forgotten(there, forgot)
    there.changed = True


def _stored(cell: Cell) -> Cell:
    """A list as one of which all items are new."""
    if not isinstance(cell, Items):
        return cell
    floor = cell.first - 1
    return Ends(floor + len(cell), floor, tuple(cell), len(cell))
