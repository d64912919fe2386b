"""Concurrent commits passed down together.

Each event loop has a queue. What its tasks put there is passed down as one batch a tick later, when
every task that was ready has had its turn; with `in_thread`, when the batch before has been written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from statehold.changes import Commit, Key, Want
from statehold.driver import Cells, Driver, Layout, Outcome, Page
from statehold.engine import run_now
from statehold.errors import Closed, Corrupted, Invalid, own

_Loop: TypeAlias = asyncio.AbstractEventLoop
_Call: TypeAlias = tuple["asyncio.Future[list[Outcome]]", Sequence[Commit], float]
_Answer: TypeAlias = list[Outcome] | BaseException


class Coalesce(Driver):
    """Groups the commits that tasks make at the same time; everything else passes through.

    At most `max_batch` commits go down together, unless one call brings more; their `now` is the
    latest of the callers'. With `in_thread` the driver, which must not suspend, commits in a thread
    while the next batch gathers. Otherwise, with a driver that does not suspend, a commit is made
    at once as long as the one before it met no other.

    A cancelled caller's commits are applied or not, as those of any call that is cut short. An
    error of a batch reaches each of its callers, except that what is `Invalid` or `Corrupted`
    concerns one caller only: the batch is then committed call by call.
    """

    suspends = True

    def __init__(self, driver: Driver, *, max_batch: int = 256, in_thread: bool = False) -> None:
        if in_thread and driver.suspends:
            raise ValueError("in_thread: a driver that suspends belongs to its event loop")
        self._driver = driver
        self._max_batch = max_batch
        self._in_thread = in_thread
        self._queues: WeakKeyDictionary[_Loop, _Queue] = WeakKeyDictionary()
        self._latest: tuple[_Loop | None, _Queue | None] = (None, None)
        self._closed = False
        self.features = driver.features
        self.ambiguous = driver.ambiguous

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        if self._closed:
            raise Closed("the store is closed")
        loop = asyncio.get_running_loop()
        latest, queue = self._latest
        if queue is None or latest is not loop:
            queue = self._queues.get(loop)
            if queue is None:
                queue = self._queues[loop] = _Queue(self._driver, self._max_batch, self._in_thread)
            self._latest = (loop, queue)
        if queue.calm and queue.alone(loop):
            return await self._driver.commit(commits, now)
        return await queue.add(loop, commits, now)

    @property
    def skew(self) -> float:
        return self._driver.skew

    async def open(self, layout: Layout) -> None:
        await self._driver.open(layout)

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        return await self._driver.read(keys, want, now)

    async def scan(self, tenant: str, kind: str, **which: Any) -> Page:
        return await self._driver.scan(tenant, kind, **which)

    async def check(self, now: float) -> None:
        await self._driver.check(now)

    def stats(self) -> Mapping[str, int | float]:
        return self._driver.stats()

    async def close(self) -> None:
        self._closed = True
        loop = asyncio.get_running_loop()
        queue = self._queues.pop(loop, None)
        if queue is not None:
            await queue.drain(loop)
        await self._driver.close()


class _Queue:
    """What the tasks of one event loop are waiting for. It must not hold on to the loop itself."""

    def __init__(self, driver: Driver, max_batch: int, in_thread: bool) -> None:
        self._driver = driver
        self._max_batch = max_batch
        self._thread = ThreadPoolExecutor(1, "statehold-writer") if in_thread else None
        self._waiting: list[_Call] = []
        self._due = False  # a tick has been asked for, or the thread will go on by itself
        self._first: object = None  # the task that committed at once in this tick
        self._tasks: set[asyncio.Task[None]] = set()
        self.calm = not (in_thread or driver.suspends)

    def alone(self, loop: _Loop) -> bool:
        """Whether no other task has committed in this tick; what comes later in it is queued."""
        task = asyncio.current_task(loop)
        if self._due:
            return self._first is task and not self._waiting
        self._first = task
        self._due = True
        loop.call_soon(self._pass_down, loop)
        return True

    def add(
        self, loop: _Loop, commits: Sequence[Commit], now: float
    ) -> asyncio.Future[list[Outcome]]:
        future: asyncio.Future[list[Outcome]] = loop.create_future()
        self._waiting.append((future, commits, now))
        if not self._due:
            self._due = True
            loop.call_soon(self._pass_down, loop)
        return future

    async def drain(self, loop: _Loop) -> None:
        await self.add(loop, (), 0.0)  # calls are answered in order
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._thread is not None:
            self._thread.shutdown()

    def _take(self) -> list[_Call]:
        waiting, size = self._waiting, 0
        for count, (_, commits, _) in enumerate(waiting):
            size += len(commits)
            if size > self._max_batch and count:
                self._waiting = waiting[count:]
                return waiting[:count]
        self._waiting = []
        return waiting

    def _pass_down(self, loop: _Loop) -> None:
        self._first = None
        calls = self._take()
        if self._thread is not None:
            self._thread.submit(self._write, loop, calls)
            return
        self._due = bool(self._waiting)
        if self._due:
            loop.call_soon(self._pass_down, loop)
        if self._driver.suspends:
            task = loop.create_task(self._in_task(calls))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        self.calm = len(calls) <= 1
        if calls:
            _settle(calls, run_now(_answers(self._driver, calls)))

    async def _in_task(self, calls: list[_Call]) -> None:
        _settle(calls, await _answers(self._driver, calls))

    def _write(self, loop: _Loop, calls: list[_Call]) -> None:
        answers = run_now(_answers(self._driver, calls))
        with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits any more
            loop.call_soon_threadsafe(self._written, loop, calls, answers)

    def _written(self, loop: _Loop, calls: list[_Call], answers: list[_Answer]) -> None:
        _settle(calls, answers)
        self._due = bool(self._waiting)
        if self._due:
            self._pass_down(loop)


async def _answers(driver: Driver, calls: list[_Call]) -> list[_Answer]:
    commits = [commit for _, some, _ in calls for commit in some]
    if not commits:
        return [[] for _ in calls]
    try:
        outcomes = iter(await driver.commit(commits, max(now for _, _, now in calls)))
    except (Invalid, Corrupted) as error:
        if len(calls) == 1:
            return [error]
        return [answer for call in calls for answer in await _answers(driver, [call])]
    except BaseException as error:  # noqa: BLE001  each caller is told
        return [error if len(calls) == 1 else own(error) for _ in calls]
    return [[next(outcomes) for _ in some] for _, some, _ in calls]


def _settle(calls: list[_Call], answers: list[_Answer]) -> None:
    for (future, _, _), answer in zip(calls, answers, strict=True):
        if future.done():
            continue  # its caller was cancelled
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
