"""Expired states, deleted a few at a time, and what was remembered of ended ones.

A state is deleted no sooner than `HOLD_SECONDS` after its end: until then its row tells those who
send a commit again that the life is over to which it may have been applied.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import Column, Row, Table, and_, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.commits import HOLD_SECONDS, Commit
from statehold.drivers.sql.errors import ERRORS
from statehold.drivers.sql.portable.fences import fence_of
from statehold.drivers.sql.portable.load import chunks
from statehold.drivers.sql.portable.save import erase
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.tables import CLAIM, Tables

SWEEP_COMMITS = 64
"""How many commits are between two sweeps, at least."""

SWEEP_SECONDS = 1.0
"""How much time is between two sweeps, at least."""

FORGET_ROUNDS = 16
"""How many times as many erasures and ended lives are forgotten at the most."""

SWEEP_STATES = 512
"""How many rows are looked at in one transaction. As many transactions follow each other as it
takes to look at two rows for each commit: a whole table twice while as many states are made."""


class Sweeper:
    """Goes round the rows of a kind without end."""

    def __init__(self) -> None:
        self._last = 0  # the row at which the last sweep ended
        self.round_ended = False

    async def sweep(
        self, connection: AsyncConnection, dialect: Dialect, tables: Tables, now: float
    ) -> int:
        """Delete the expired ones among the next few rows, within the transaction under way.

        Returns how many. Rows that a writer has locked are left for another round, so that neither
        waits for the other; a sweep itself locks none but expired ones.
        """
        main = tables.main
        following = (
            select(main.c.state)
            .where(main.c.state > self._last)
            .order_by(main.c.state)
            .limit(SWEEP_STATES)
            .subquery()
        )
        count, last = (
            await connection.execute(select(func.count(), func.max(following.c.state)))
        ).one()
        first, self._last = self._last, last if count == SWEEP_STATES else 0
        self.round_ended = count < SWEEP_STATES
        if not count:
            await self._forget(connection, dialect, tables.ended, now)
            return 0
        before = dialect.moment(now, -HOLD_SECONDS)
        # A commit whose maximum age was over is newer than the deadline that it set.
        expired = and_(main.c.expires_at <= before, main.c.updated_at <= before)
        found = select(*_ends(main)).where(main.c.state > first, main.c.state <= last, expired)
        rows = await connection.execute(found)
        over = [row for row in rows if not _held(row, now)]
        if over and dialect.locks_rows:
            # A writer may have renewed or begun one since; its row is looked at again.
            locking = (
                select(*_ends(main))
                .where(main.c.state.in_([row.state for row in over]), expired)
                .with_for_update(skip_locked=True)
            )
            rows = await connection.execute(locking)
            over = [row for row in rows if not _held(row, now)]
        states = [row.state for row in over]
        several = [row.state for row in over if row.also_about is not None]
        await erase(connection, tables, states, several)
        await self._forget(connection, dialect, tables.ended, now)
        return len(states)

    async def _forget(
        self, connection: AsyncConnection, dialect: Dialect, ended: Table, now: float
    ) -> None:
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


class Sweeps:
    """The sweeps of one driver: beside the callers, one at a time, and not often.

    `sweep(kind, sweeper, now)` is one transaction.
    """

    def __init__(self, sweep: Callable[[str, Sweeper, float], Awaitable[int]]) -> None:
        self._sweep = sweep
        self._commits = 0  # since the last one
        self._kinds: dict[str, Sweeper] = {}
        self._committed: dict[str, None] = {}  # kinds
        self.due = 0.0
        self.task: asyncio.Task[None] | None = None
        """The last one."""
        self.swept = self.failed = 0

    def after(self, commits: Sequence[Commit], now: float) -> asyncio.Task[None] | None:
        """To be told of each call. Returns the sweep that has begun, if one has."""
        self._commits += len(commits)
        for commit in commits:
            self._committed[commit.key[1]] = None
        if self._commits < SWEEP_COMMITS or time.monotonic() < self.due:
            return None
        if self.task is not None and not self.task.done() and not self.task.get_loop().is_closed():
            return None
        self.due = time.monotonic() + SWEEP_SECONDS
        self.task = asyncio.get_running_loop().create_task(self._work(now))
        return self.task

    async def _work(self, now: float) -> None:
        """Sweep the kinds that were committed to. It failing takes nothing from what was written."""
        rows, self._commits = 2 * self._commits, 0
        kinds, self._committed = list(self._committed), {}
        for kind in kinds:
            sweeper = self._kinds.setdefault(kind, Sweeper())
            for _ in range(0, rows, SWEEP_STATES):
                try:
                    self.swept += await self._sweep(kind, sweeper, now)
                except ERRORS:
                    self.failed += 1
                    return
                if sweeper.round_ended:
                    break
