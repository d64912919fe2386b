"""Sending the lines: many keys at once, the lines of one key one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from statehold.client.base import Access, Applied
from statehold.clock import Clock, SystemClock
from statehold.commits import ABSENT, Key, Revision
from statehold.engine import new_op
from statehold.errors import (
    Conflict,
    Corrupted,
    Fenced,
    Invalid,
    Reused,
    StateholdError,
    TooLarge,
    Unavailable,
    Unsupported,
)
from statehold.replay.lines import Bad, Line, Source
from statehold.replay.report import Counts, Latencies, Rejects, Summary

R = TypeVar("R")

NEVER: Final = Revision(1, 0)
"""A revision that no state ever has: commits count from 1."""

JOBS: Final = 256
"""Commits under way at once."""

WINDOW: Final = 8192
"""Lines read ahead, so that there are enough keys to work on."""

PATIENCE: Final = 15.0
"""Seconds for which an unavailable store is asked again."""

UNKNOWN: Final = "unknown"
"""Where lines are counted that are of no kind."""

_REFUSALS = (Invalid, TooLarge, Conflict, Fenced, Corrupted, Unsupported)


class Replay:
    """One run of a file against a store or a server.

    `first` is the line to begin with.
    """

    def __init__(
        self,
        source: Source,
        access: Access,
        rejects: Rejects,
        *,
        first: int = 1,
        jobs: int = JOBS,
        window: int = WINDOW,
        patience: float = PATIENCE,
        clock: Clock | None = None,
        on_reject: Callable[[int, StateholdError], None] = lambda _number, _error: None,
    ) -> None:
        self.source = source
        self.access = access
        self.rejects = rejects
        self.first = first
        self.size = 0
        """Lines of the file, known once it has been surveyed."""
        self.done = 0
        """Lines whose fate is known."""
        self.by_kind: dict[str, Counts] = {}
        self.latencies = Latencies()
        self.long: dict[Key, int] = {}
        """Of the keys for which op ids are not enough, the newest line that is remembered, or 0."""
        self.outgrown = 0
        """Keys with more lines than their kind is known to remember op ids."""
        self._next = first
        self._patience = patience
        self._clock = clock or SystemClock()
        self._on_reject = on_reject
        self._window = asyncio.Semaphore(window)
        self._jobs = jobs
        self._idle = jobs
        self._pending: dict[int, None] = {}  # numbers of the lines under way, in order
        self._queues: dict[Key, deque[Line]] = {}
        self._waiting: deque[Key] = deque()  # keys that nobody works on yet

    @property
    def next_line(self) -> int:
        """The first line whose fate is not known: where to go on after `run` was cut short."""
        return next(iter(self._pending), self._next)

    async def run(self) -> Summary:
        """Every line is applied, known already, or refused. Raises what stops it, see `next_line`."""
        start = self._clock.monotonic()
        try:
            await self._survey()
            async with asyncio.TaskGroup() as group:
                await self._feed(group)
        except* StateholdError as stopped:
            raise stopped.exceptions[0] from None
        total = Counts()
        for counts in self.by_kind.values():
            total.lines += counts.lines
            total.applied += counts.applied
            total.repeated += counts.repeated
            total.skipped += counts.skipped
            total.rejected += counts.rejected
        seconds = self._clock.monotonic() - start
        resumed = sum(1 for line in self.long.values() if line)
        return Summary(total, self.by_kind, seconds, self.latencies, resumed)

    # ---------------------------------------------------------------------- keys with a long history

    async def _survey(self) -> None:
        lines: dict[Key, int] = {}
        deleted: set[Key] = set()
        for key, delete in self.source.named():
            lines[key] = lines.get(key, 0) + 1
            if delete:
                deleted.add(key)
        self.size = sum(lines.values())
        # Where it cannot be known how many are remembered, no more than one is counted on.
        ops = {
            kind: await self._attempt(partial(self.access.ops, kind))
            for kind in {key[1] for key in lines}
        }
        long = [key for key, count in lines.items() if key in deleted or count > (ops[key[1]] or 1)]
        self.outgrown = sum(1 for key in long if lines[key] > (ops[key[1]] or lines[key]))
        if long:
            histories = iter(self.source.ops_of(long).items())

            async def ask() -> None:
                for key, history in histories:
                    self.long[key] = await self._newest(key, history)

            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._jobs, len(long))):
                    group.create_task(ask())

    async def _newest(self, key: Key, history: list[tuple[int, str, int]]) -> int:
        """The newest of these lines that the state remembers; 0 if it remembers none."""
        for number, op, epoch in reversed(history):
            commit = partial(self.access.commit, key, {}, op=op, expect=NEVER, epoch=epoch)
            try:
                await self._attempt(commit)
            except Conflict as conflict:
                if conflict.found == ABSENT:
                    break
            except Reused:
                return (
                    number  # it stands for what the line says, and not for nothing, as asked here
                )
            except _REFUSALS:
                continue
            else:
                return number
        return 0

    # ------------------------------------------------------------------------------------- the lines

    async def _feed(self, group: asyncio.TaskGroup) -> None:
        for line in self.source.lines():
            if line.number < self.first:
                continue
            self._next = line.number
            if isinstance(line, Bad):
                self._reject(UNKNOWN, line.number, line.raw, line.error)
            elif line.number <= self.long.get(line.key, 0):
                self._count(line.key[1]).skipped += 1
            else:
                await self._window.acquire()
                self._pending[line.number] = None
                if line.key in self._queues:
                    self._queues[line.key].append(line)
                else:
                    self._queues[line.key] = deque([line])
                    self._waiting.append(line.key)
                    if self._idle:
                        self._idle -= 1
                        group.create_task(self._work())
            self._next = line.number + 1

    async def _work(self) -> None:
        while self._waiting:
            key = self._waiting.popleft()
            queue = self._queues[key]
            while queue:
                line = queue.popleft()
                await self._send(line)
                del self._pending[line.number]
                self._window.release()
                # A backend that never suspends would let no other have a turn, and get no groups.
                await asyncio.sleep(0)
            del self._queues[key]
        self._idle += 1

    async def _send(self, line: Line) -> None:
        start = self._clock.monotonic()
        try:
            # A deletion is one of this run, sent again by it alone: what the run before has deleted,
            # and this one has made again, is to be deleted again.
            op = new_op() if line.delete else line.op
            applied = await self._attempt(partial(self._commit, line, op))
        except _REFUSALS as error:
            kind = UNKNOWN if error.field == "kind" else line.key[1]
            self._reject(kind, line.number, line.raw, error)
            return
        counts = self._count(line.key[1])
        if applied.repeated:
            counts.repeated += 1
        else:
            counts.applied += 1
        self.latencies.add(self._clock.monotonic() - start)

    async def _commit(self, line: Line, op: str) -> Applied:
        if line.delete:
            await self.access.delete(line.key, op=op, expect=line.expect, epoch=line.epoch)
            return Applied(ABSENT)
        return await self.access.commit(
            line.key,
            line.changes,
            op=op,
            expect=line.expect,
            epoch=line.epoch,
            subject=line.subject,
        )

    async def _attempt(self, call: Callable[[], Awaitable[R]]) -> R:
        pause, until = 0.05, self._clock.monotonic() + self._patience
        while True:
            try:
                return await call()
            except Unavailable as error:
                if not error.retryable or self._clock.monotonic() + pause > until:
                    raise
            await self._clock.sleep(pause)
            pause = min(2 * pause, 2.0)

    # ------------------------------------------------------------------------------------ the counts

    def _count(self, kind: str) -> Counts:
        self.done += 1
        counts = self.by_kind.setdefault(kind, Counts())
        counts.lines += 1
        return counts

    def _reject(self, kind: str, number: int, raw: bytes, error: StateholdError) -> None:
        self._count(kind).rejected += 1
        self.rejects.add(number, raw, error)
        self._on_reject(number, error)
