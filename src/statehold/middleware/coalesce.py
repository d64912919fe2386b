"""Concurrent commits passed down together.

Each event loop has a queue. What its tasks put there is passed down as one batch a tick later, when
every task that was ready has had its turn; with `in_thread`, when the batch before has been written.

An event loop must not stand still because somebody else has a lock. What a driver cannot do without
waiting goes to the queue's thread, in which it may wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

from statehold.changes import Commit, Key, Want
from statehold.driver import (
    Cells,
    CommitsTogether,
    Driver,
    InstallsLives,
    Layout,
    Outcome,
    Page,
    Scan,
    WaitingDriver,
    WholeLife,
    WouldWait,
    told,
)
from statehold.engine import run_now
from statehold.errors import Closed, StateholdError, own
from statehold.middleware.wrapper import Wrapper

_Loop: TypeAlias = asyncio.AbstractEventLoop
_Call: TypeAlias = tuple["asyncio.Future[list[Outcome]]", Sequence[Commit], float]
_Answer: TypeAlias = list[Outcome] | BaseException
_Commit: TypeAlias = Callable[[Sequence[Commit], float], Awaitable[list[Outcome]]]
R = TypeVar("R")


class Coalesce(Wrapper):
    """Groups the commits that tasks make at the same time; everything else passes through.

    At most `max_batch` commits go down together, unless one call brings more; their `now` is the
    latest of the callers'. With `in_thread` the driver, which must not suspend, commits in a thread
    while the next batch gathers. Otherwise, with a driver that does not suspend, a commit is made
    at once as long as the one before it met no other. What a `WaitingDriver` would have to wait for
    is done in a thread in any case. Unless it `owns` the driver, `close` leaves that open.

    A cancelled caller's commits are applied or not, as those of any call that is cut short. An
    error of a batch reaches each of its callers; what concerns one commit only is its outcome.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        max_batch: int = 256,
        in_thread: bool = False,
        owns: bool = True,
    ) -> None:
        if in_thread and driver.suspends:
            raise ValueError("in_thread: a driver that suspends belongs to its event loop")
        super().__init__(driver)
        self.suspends = True
        self.gather = "no"
        self._max_batch = max_batch
        self._threaded = in_thread
        self._owns = owns
        self._waiting = driver if isinstance(driver, WaitingDriver) else None
        self._queues: WeakKeyDictionary[_Loop, _Queue] = WeakKeyDictionary()
        self._latest: tuple[_Loop | None, _Queue | None] = (None, None)
        self._closed = False

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        if self._closed:
            raise Closed("the store is closed")
        loop = asyncio.get_running_loop()
        latest, queue = self._latest
        if queue is None or latest is not loop:
            queue = self._queue(loop)
            self._latest = (loop, queue)
        if queue.calm and queue.alone(loop):
            if self._waiting is None:
                return await self.inner.commit(commits, now)
            try:
                return await self._waiting.commit(commits, now, wait=False)
            except WouldWait:
                pass
        return await queue.add(loop, commits, now)

    async def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        if self._closed:
            raise Closed("the store is closed")
        return await self._write(cast("CommitsTogether", self.inner).commit_together, commits, now)

    async def lives(self, keys: Sequence[Key], now: float) -> list[WholeLife | None]:
        return await self._call(cast("InstallsLives", self.inner).lives, keys, now)

    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        if self._closed:
            raise Closed("the store is closed")
        return await self._write(cast("InstallsLives", self.inner).install, lives, now)

    async def _write(
        self, call: Callable[..., Coroutine[Any, Any, R]], some: Sequence[Any], now: float
    ) -> R:
        """What a call answers that is not grouped, made where commits are."""
        if self._threaded:
            return await self._in_thread(partial(call, some, now))
        return await self._call(call, some, now)

    def _queue(self, loop: _Loop) -> _Queue:
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = self._new_queue()
        return queue

    def _new_queue(self) -> _Queue:
        return _Queue(self.inner, self._max_batch, self._threaded)

    async def _call(
        self, call: Callable[..., Coroutine[Any, Any, R]], *given: Any, **more: Any
    ) -> R:
        """What the driver's call answers, from a thread where it would have to wait."""
        if self._waiting is None:
            return await call(*given, **more)
        try:
            return await call(*given, **more, wait=False)
        except WouldWait:
            return await self._in_thread(partial(call, *given, **more))

    async def _in_thread(self, call: Callable[[], Coroutine[Any, Any, R]]) -> R:
        if self._closed:
            raise Closed("the store is closed")
        loop = asyncio.get_running_loop()
        return await self._queue(loop).in_thread(loop, call)

    async def open(self, layout: Layout) -> None:
        if self._waiting is None:
            await self.inner.open(layout)
        else:  # one after the other, so that tasks which came before others go on before them
            await self._in_thread(partial(self.inner.open, layout))

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        if self._waiting is None:
            return await self.inner.read(keys, want, now)
        try:
            return await self._waiting.read(keys, want, now, wait=False)
        except WouldWait:
            return await self._in_thread(partial(self.inner.read, keys, want, now))

    async def scan(self, asked: Scan, now: float) -> Page:
        return await self._call(self.inner.scan, asked, now)

    async def check(self, now: float) -> None:
        await self._call(self.inner.check, now)

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  it does not cancel anything
        """See `Driver.drain`. What tasks of other event loops have put here is not waited for."""
        self._closed = True
        self._latest = (None, None)
        loop = asyncio.get_running_loop()
        began = loop.time()
        queue = self._queues.get(loop)
        if queue is not None:
            work = asyncio.ensure_future(queue.drain(loop))
            if not (await asyncio.wait([work], timeout=timeout))[0]:
                return False
            work.result()
        if not self._owns:
            return True
        return await self.inner.drain(max(0.0, timeout - (loop.time() - began)))

    async def close(self) -> None:
        self._closed = True
        self._latest = (None, None)
        loop = asyncio.get_running_loop()
        queue = self._queues.pop(loop, None)
        if queue is not None:
            await queue.drain(loop)
        for other in list(self._queues.values()):
            other.close()
        queue = queue or self._new_queue()
        try:
            if not self._owns:
                pass
            elif self._waiting is not None:
                await queue.in_thread(loop, self.inner.close)
            else:
                await self.inner.close()
        finally:
            queue.close()

    def end(self) -> None:
        """Nothing is passed down any more, and what waits in a queue is `Closed`. At once."""
        self._closed = True
        self._latest = (None, None)
        for queue in list(self._queues.values()):
            queue.close()


class _Queue:
    """What the tasks of one event loop are waiting for. It must not hold on to the loop itself."""

    def __init__(self, driver: Driver, max_batch: int, in_thread: bool) -> None:
        self._driver = driver
        self._at_once: _Commit = driver.commit
        if isinstance(driver, WaitingDriver):
            self._at_once = partial(driver.commit, wait=False)
        self._max_batch = max_batch
        self._threaded = in_thread
        self._thread = ThreadPoolExecutor(1, "statehold-writer")  # which starts when it is needed
        self._waiting: list[_Call] = []
        self._due = False  # a tick has been asked for, or the thread is writing and will ask
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

    def close(self) -> None:
        """The thread ends when it has done what it was given."""
        self._thread.shutdown(wait=False)

    def in_thread(
        self, loop: _Loop, call: Callable[[], Coroutine[Any, Any, R]]
    ) -> asyncio.Future[R]:
        """What the call answers, made after what the thread was given before."""
        try:
            return loop.run_in_executor(self._thread, lambda: run_now(call()))
        except RuntimeError as error:  # shut down
            raise Closed("the store is closed") from error

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
        if self._threaded:
            self._hand_over(loop, calls)
            return
        if self._driver.suspends:
            task = loop.create_task(self._in_task(calls))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self.calm = len(calls) <= 1
            if calls:
                try:
                    answers = run_now(_answers(self._at_once, calls))
                except WouldWait:
                    self.calm = False
                    self._hand_over(loop, calls)
                    return
                _settle(calls, answers)
        self._due = bool(self._waiting)
        if self._due:
            loop.call_soon(self._pass_down, loop)

    async def _in_task(self, calls: list[_Call]) -> None:
        _settle(calls, await _answers(self._driver.commit, calls))

    def _hand_over(self, loop: _Loop, calls: list[_Call]) -> None:
        try:
            self._thread.submit(self._write, loop, calls)
        except RuntimeError:  # it was shut down, and nobody else may write
            closed = Closed("the store is closed")
            self._written(loop, calls, [closed for _ in calls])

    def _write(self, loop: _Loop, calls: list[_Call]) -> None:
        answers = run_now(_answers(self._driver.commit, calls))
        with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits any more
            loop.call_soon_threadsafe(self._written, loop, calls, answers)

    def _written(self, loop: _Loop, calls: list[_Call], answers: list[_Answer]) -> None:
        _settle(calls, answers)
        self._due = bool(self._waiting)
        if self._due:
            self._pass_down(loop)


async def _answers(commit: _Commit, calls: list[_Call]) -> list[_Answer]:
    """What became of each call, all made together. Raises `WouldWait` where nothing was done."""
    commits = [each for _, some, _ in calls for each in some]
    if not commits:
        return [[] for _ in calls]
    try:
        outcomes = iter(await commit(commits, max(now for _, _, now in calls)))
    except WouldWait:
        raise
    except BaseException as error:  # noqa: BLE001  each caller is told
        return [error if len(calls) == 1 else own(error) for _ in calls]
    return [_told([next(outcomes) for _ in some]) for _, some, _ in calls]


def _told(outcomes: list[Outcome]) -> _Answer:
    try:
        return told(outcomes)
    except StateholdError as error:
        return error


def _settle(calls: list[_Call], answers: list[_Answer]) -> None:
    for (future, _, _), answer in zip(calls, answers, strict=True):
        if future.done():
            continue  # its caller was cancelled
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
