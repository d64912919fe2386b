"""Expired states, deleted a few at a time, and what was remembered of ended ones.

A state is deleted no sooner than `HOLD_SECONDS` after its end: until then its row tells those who
send a commit again that the life is over to which it may have been applied.

A transaction deletes a bounded number of rows. A state that has more of them in one table goes in several: the
first marks it as over for ever, so that half of it can never come back, and its own row goes last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Column, Row, Table, and_, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.clock import AMBIENT
from statehold.commits import HOLD_SECONDS
from statehold.drivers.sql.portable.fences import BEFORE_ALL, fence_of
from statehold.drivers.sql.portable.load import chunks
from statehold.drivers.sql.portable.save import erase
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.tables import CLAIM, Tables

FORGET_ROUNDS = 16
"""How many times as many erasures and ended lives are forgotten at the most."""

SWEEP_STATES = 512
"""How many rows are looked at in one transaction."""

SWEEP_ROWS = 2_000
"""How many rows of one table are deleted in one transaction, about."""


class Piece(msgspec.Struct, frozen=True):
    """What one transaction did."""

    removed: int
    """States that are gone."""
    found: int
    """States that were found to be over, gone by now or not."""
    last: int
    """The row up to which all has been looked at."""
    ended: bool
    """Whether there are no further ones."""


async def sweep(
    connection: AsyncConnection,
    dialect: Dialect,
    tables: Tables,
    after: int,
    now: float,
    most: int = SWEEP_STATES,
) -> Piece:
    """Delete the expired ones among the next few rows, `most` at most, within the transaction under way.

    Rows that a writer has locked are left for another round, so that neither waits for the other; a
    sweep itself locks none but expired ones.
    """
    main = tables.main
    following = (
        select(main.c.state)
        .where(main.c.state > after)
        .order_by(main.c.state)
        .limit(SWEEP_STATES)
        .subquery()
    )
    count, last = (
        await connection.execute(select(func.count(), func.max(following.c.state)))
    ).one()
    await _forget(connection, dialect, tables.ended, now)
    if not count:
        return Piece(0, 0, 0, True)
    end, ended = last, count < SWEEP_STATES
    before = dialect.moment(now, -HOLD_SECONDS)
    # A commit whose maximum age was over is newer than the deadline that it set.
    expired = and_(main.c.expires_at <= before, main.c.updated_at <= before)
    found = select(*_ends(main)).where(main.c.state > after, main.c.state <= last, expired)
    rows = await connection.execute(found.order_by(main.c.state))
    over = [row for row in rows if not _held(row, now)]
    if len(over) > most:
        over, end, ended = over[:most], over[most].state - 1, False
    cut, crowded = await _cut(connection, tables, [row.state for row in over])
    if crowded is not None:
        over = [row for row in over if row.state < cut] or over[:1]
        end, ended = cut - 1, False
    if over and dialect.locks_rows:
        # A writer may have renewed or begun one since; its row is looked at again.
        locking = (
            select(*_ends(main))
            .where(main.c.state.in_([row.state for row in over]), expired)
            .with_for_update(skip_locked=True)
        )
        rows = await connection.execute(locking)
        over = [row for row in rows if not _held(row, now)]
    if crowded is not None and [row.state for row in over] == [cut]:
        await connection.execute(
            update(main).where(main.c.state == cut).values(expires_at=BEFORE_ALL)
        )
        await _thin_out(connection, crowded, cut)
        return Piece(0, 1, end, False)
    if not over:
        end = max(end, cut)  # a writer has it
    states = [row.state for row in over]
    several = [row.state for row in over if row.also_about is not None]
    await erase(connection, tables, states, several)
    return Piece(len(states), len(states), end, ended)


async def _cut(
    connection: AsyncConnection, tables: Tables, states: Sequence[int]
) -> tuple[int, Table | None]:
    """The first of these states that is too much for one transaction, and the table by which it is.

    No table if none is. Rows of states between them count as well, which need not be known from these.
    """
    cut, crowded = 0, None
    if not states:
        return cut, crowded
    for table in (*tables.children.values(), tables.ops):
        end = cut - 1 if cut else states[-1]
        too_many = (
            select(table.c.state)
            .where(table.c.state >= states[0], table.c.state <= end)
            .order_by(table.c.state)
            .offset(SWEEP_ROWS)
            .limit(1)
        )
        found = (await connection.execute(too_many)).scalar()
        if found is not None:
            cut, crowded = next(state for state in states if state >= found), table
            if cut == states[0]:
                break
    return cut, crowded


async def _thin_out(connection: AsyncConnection, table: Table, state: int) -> None:
    """Delete the first rows that a state has in a table."""
    second = next(column for column in table.primary_key if column.name != "state")
    own = table.c.state == state
    following = select(second).where(own).order_by(second).offset(SWEEP_ROWS).limit(1)
    end = (await connection.execute(following)).scalar_one()
    await connection.execute(delete(table).where(own, second < end))


async def _forget(connection: AsyncConnection, dialect: Dialect, ended: Table, now: float) -> None:
    """Delete what need not be remembered any longer, as far as no writer has it."""
    names = [ended.c[name] for name in ("tenant", "id", "op")]
    old = select(*names).where(ended.c.at <= dialect.moment(now, -HOLD_SECONDS))
    old = old.order_by(ended.c.at).limit(SWEEP_STATES)
    if dialect.locks_rows:
        old = old.with_for_update(skip_locked=True)
    for _ in range(FORGET_ROUNDS):
        rows = [tuple(row) for row in await connection.execute(old)]
        for some in chunks(rows):
            await connection.execute(delete(ended).where(tuple_(*names).in_(some)))
        if len(rows) < SWEEP_STATES:
            return


def _ends(main: Table) -> list[Column[Any]]:
    return [main.c.state, main.c.epoch, main.c[CLAIM], main.c.also_about]


def _held(row: Row[Any], now: float) -> bool:
    """Whether its epoch was claimed for longer than the state lived, and has to be remembered."""
    return now < fence_of(row.epoch, -math.inf, row._mapping[CLAIM]).until  # noqa: SLF001  public


class Sweeper:
    """Goes round the rows of a kind without end, from anywhere on: others may do the same."""

    def __init__(self, first: float | None = None) -> None:
        self._first = AMBIENT.fraction() if first is None else first
        self._last: int | None = None  # the row up to which the last sweep looked
        self.round_ended = False

    async def sweep(
        self,
        connection: AsyncConnection,
        dialect: Dialect,
        tables: Tables,
        now: float,
        most: int = SWEEP_STATES,
    ) -> Piece:
        """See `sweep`, of the next rows."""
        if self._last is None:
            highest = (await connection.execute(select(func.max(tables.main.c.state)))).scalar()
            self._last = int(self._first * (highest or 0))
        piece = await sweep(connection, dialect, tables, self._last, now, most)
        self._last = 0 if piece.ended else piece.last
        self.round_ended = piece.ended
        return piece


__all__: Final = ["Piece", "Sweeper", "sweep"]
