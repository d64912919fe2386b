"""When expired states are deleted: beside the callers, as much as was written, and on as long as there is any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from statehold.commits import HOLD_SECONDS, Commit
from statehold.driver import Outcome, Written
from statehold.drivers.sql.errors import ERRORS
from statehold.drivers.sql.portable.sweep import SWEEP_STATES, Piece, Sweeper

SWEEP_COMMITS = 64
"""How many commits are between two sweeps, at least. The first of a process counts as so many."""

SWEEP_SECONDS = 1.0
"""How much time is between two sweeps, at least."""

LOOKED_AT: Final = 2
"""How many rows are looked at for each commit: a whole table twice while as many states are made."""

REMOVED: Final = 2
"""How many states are deleted for each that was made, at most. Else they would become more and more."""

REMOVED_BESIDE: Final = 0.25
"""How many are deleted for each other commit, at most. What expires all at once is to slow down nobody."""


class Sweeps:
    """The sweeps of one driver: beside the callers, one at a time, and not often.

    `sweep(kind, sweeper, now, most)` is one transaction. Where a writer has the database to itself
    (`alone`), a commit waits for the sweep that it has begun, and none goes on by itself: whoever stops
    its event loop would keep the others out.

    What has ended stays for a minute, for who sends a commit again. So a sweep that has nothing more to delete
    looks once more after that, and a commit that comes a minute after the last sweep begins another.
    """

    def __init__(
        self, sweep: Callable[[str, Sweeper, float, int], Awaitable[Piece]], *, alone: bool = False
    ) -> None:
        self._sweep = sweep
        self._alone = alone
        self._commits = SWEEP_COMMITS - 1  # since the last one
        self._made = 0  # states, by these commits
        self._kinds: dict[str, Sweeper] = {}
        self._due: dict[str, None] = {}  # kinds that were committed to, or are not done with
        self._closing = False
        self.due = 0.0
        self._later: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        """The last one."""
        self.swept = self.failed = 0

    async def after(
        self, commits: Sequence[Commit], outcomes: Sequence[Outcome], now: float
    ) -> asyncio.Task[None] | None:
        """To be told of each call. Returns the sweep that has begun, if one has, and was not waited for."""
        self._commits += len(commits)
        for commit, outcome in zip(commits, outcomes, strict=True):
            self._due[commit.key[1]] = None
            if isinstance(outcome, Written) and outcome.revision.number == 1:
                self._made += 1
        early = self.due if self._commits >= SWEEP_COMMITS else self.due + HOLD_SECONDS
        if time.monotonic() < early:
            return None
        task = self._begin(now)
        if task is not None and self._alone:
            await asyncio.wait([task])
            return None
        return task

    def _begin(self, now: float, *, again: bool = False) -> asyncio.Task[None] | None:
        """The sweep that begins; None if one is under way."""
        if self.task is not None and not self.task.done() and not self.task.get_loop().is_closed():
            return None
        self.due = time.monotonic() + SWEEP_SECONDS
        self.task = asyncio.get_running_loop().create_task(self._work(now, again))
        return self.task

    async def finish(self, seconds: float) -> None:
        """Let the sweep that is under way come to its end, for so long at most, and no other follow."""
        self._closing = True
        self._put_off()
        task = self.task
        if task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([task], timeout=seconds)
            if not self._alone:  # where a statement can be cancelled
                task.cancel()
                await asyncio.wait([task])

    def forked(self) -> None:
        """In a child process: what was under way is the parent's."""
        self.task = self._later = None

    async def _work(self, now: float, again: bool) -> None:
        """Sweep, and go on for as long as there is anything to be deleted; `again`: a minute after that."""
        began, kinds = time.monotonic(), dict(self._due)
        before = self.swept
        while await self._round(now + (time.monotonic() - began)):
            if self._closing or self._alone:
                return
            await asyncio.sleep(SWEEP_SECONDS)
            kinds |= self._due
        self._put_off()
        if not (self._closing or self._alone) and (not again or self.swept > before):
            loop, at = asyncio.get_running_loop(), HOLD_SECONDS + SWEEP_SECONDS
            now += time.monotonic() - began + at
            self._later = loop.call_later(at, self._once_more, kinds, now)

    def _once_more(self, kinds: dict[str, None], now: float) -> None:
        """Look whether something can be deleted by now, since it has ended for a minute."""
        self._due |= kinds
        self._begin(now, again=True)

    def _put_off(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None

    async def _round(self, now: float) -> bool:
        """Sweep the kinds that are due: whether any of them is not done with."""
        rows = LOOKED_AT * self._commits
        most = max(SWEEP_STATES, REMOVED * self._made + int(REMOVED_BESIDE * self._commits))
        self._commits = self._made = 0
        kinds, self._due = list(self._due), {}
        for kind in kinds:
            try:
                if await self._of_kind(kind, rows, most, now):
                    self._due[kind] = None
            except ERRORS:  # which takes nothing from what was written
                self.failed += 1
                return False
        return bool(self._due)

    async def _of_kind(self, kind: str, rows: int, most: int, now: float) -> bool:
        """Sweep a kind, up to so many states: whether there were some, and may be more."""
        sweeper = self._kinds.setdefault(kind, Sweeper())
        found, whole = 0, False
        for _ in range(0, max(rows, 2 * SWEEP_STATES), SWEEP_STATES):
            piece = await self._sweep(kind, sweeper, now, min(most, SWEEP_STATES))
            self.swept += piece.removed
            found += piece.found
            most -= piece.removed
            if most <= 0 or (piece.ended and whole):
                break
            whole = whole or piece.ended  # and now from the first row on
        return found > 0


__all__ = ["SWEEP_COMMITS", "SWEEP_SECONDS", "Sweeps"]
