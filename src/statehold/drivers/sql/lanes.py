"""Commits of several callers made into one call.

While a call is under way, what comes in waits, and leaves together in the next: one call at a time
in each lane makes larger calls, which cost less for each commit, and callers of one process do not
wait for each other's row locks. A call that takes long, say because another process holds a row, is
overtaken.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from statehold.commits import Commit
from statehold.driver import Outcome
from statehold.errors import Corrupted, Invalid, own

Answer: TypeAlias = Outcome | Commit
"""What became of a commit; or itself, perhaps with `since`, where it is to go another way."""

Answers: TypeAlias = list[Answer]
Send: TypeAlias = Callable[[Sequence[Commit], float, Sequence[float]], Awaitable[Sequence[Answer]]]
"""Sends commits: their `now`, and until when each may be applied, by the monotonic clock."""

Left: TypeAlias = Callable[[Sequence[Commit], "asyncio.Task[None] | None"], None]

_Waiter: TypeAlias = "tuple[asyncio.Future[Sequence[Answer]], Sequence[Commit], float, float]"

MOST_COMMITS: Final = 256
"""In one call, unless one caller brings more."""

OVERTAKEN_AFTER: Final = 0.02
"""Seconds that a call may keep others waiting."""


class Lane:
    """The commits of one kind in one event loop. `send` has a time limit of its own.

    `left` is told of commits whose caller was cancelled after they were sent, and of the task that
    they are under way in; None where that was the caller's own. What was not sent yet never is.

    A caller who finds nothing under way sends his commits himself. Where the call before was of
    several callers, more of them are expected, and it is put off until all have had their turn.
    """

    def __init__(
        self, send: Send, width: int, timeout: float, left: Left = lambda _commits, _task: None
    ) -> None:
        self._send = send
        self._left = left
        self._width = width
        self._timeout = timeout
        self._under_way = 0
        self._crowded = False
        self._due = False  # a call begins at the end of this turn of the event loop
        self._waiting: deque[_Waiter] = deque()
        self._limits: deque[tuple[float, asyncio.Future[Sequence[Answer]]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: dict[asyncio.Task[None], list[_Waiter]] = {}
        self._quiet: asyncio.Future[None] | None = None

    async def commit(self, commits: Sequence[Commit], now: float) -> Sequence[Answer]:
        """What became of each. Raises `TimeoutError` if it takes longer than the lane's timeout."""
        until = time.monotonic() + self._timeout
        if self._under_way == 0 and not self._crowded and not self._due:
            self._under_way = 1
            try:
                return await self._send(commits, now, [until] * len(commits))
            except asyncio.CancelledError:
                self._left(commits, None)
                raise
            finally:
                self._done()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[Answer]] = loop.create_future()
        self._waiting.append((future, commits, now, until))
        self._limits.append((loop.time() + self._timeout, future))
        if self._timer is None:
            self._timer = loop.call_later(OVERTAKEN_AFTER, self._look)
        if self._under_way == 0 and not self._due:
            self._due = True
            loop.call_soon(self._start)
        try:
            return await future
        except asyncio.CancelledError:
            for task, calls in self._tasks.items():
                if any(call[0] is future for call in calls):
                    self._left(commits, task)
            raise

    async def drain(self) -> None:
        """Wait for what is under way, and what waits for it."""
        if self._under_way or self._waiting:
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """From time to time, while there are callers: who has waited too long?"""
        loop = asyncio.get_running_loop()
        limits = self._limits
        while limits and (limits[0][1].done() or limits[0][0] <= loop.time()):
            future = limits.popleft()[1]
            if not future.done():
                future.set_exception(TimeoutError())
        if self._waiting and self._under_way < self._width:
            self._start()
        self._timer = loop.call_later(OVERTAKEN_AFTER, self._look) if limits else None

    def _done(self) -> None:
        self._under_way -= 1
        if self._under_way == 0:
            if self._waiting:
                self._start()
            elif self._quiet is not None and not self._quiet.done():
                self._quiet.set_result(None)

    def _start(self) -> None:
        self._due = False
        if not self._waiting:
            return
        calls = [self._waiting.popleft()]
        size = len(calls[0][1])
        while self._waiting and size + len(self._waiting[0][1]) <= MOST_COMMITS:
            calls.append(self._waiting.popleft())
            size += len(calls[-1][1])
        self._crowded = len(calls) > 1
        self._under_way += 1
        task = asyncio.get_running_loop().create_task(self._serve(calls))
        self._tasks[task] = calls
        task.add_done_callback(self._tasks.pop)

    async def _serve(self, calls: list[_Waiter]) -> None:
        try:
            await self._answer([call for call in calls if not call[0].done()])
        finally:
            self._done()

    async def _answer(self, calls: list[_Waiter]) -> None:
        if not calls:
            return  # their callers were cancelled
        commits = [commit for _, some, _, _ in calls for commit in some]
        untils = [until for _, some, _, until in calls for _ in some]
        try:
            answers = await self._send(commits, max(now for _, _, now, _ in calls), untils)
        except BaseException as error:  # noqa: BLE001  each caller is told
            if len(calls) > 1 and isinstance(error, Invalid | Corrupted):
                for call in calls:  # it concerns one of them only
                    await self._answer([call])
                return
            for future, *_ in calls:
                if not future.done():
                    future.set_exception(error if len(calls) == 1 else own(error))
            return
        start = 0
        for future, some, *_ in calls:
            if not future.done():
                future.set_result(answers[start : start + len(some)])
            start += len(some)
