"""Concurrent commits passed down together.

Each event loop has a queue. What its tasks put there is passed down as one batch a tick later, when
every task that was ready has had its turn; with `in_thread`, when the batch before has been written.

An event loop must not stand still because somebody else has a lock. What a driver cannot do without
waiting goes to the queue's thread, in which it may wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

from statehold.clock import AMBIENT
from statehold.commits import Commit, Key, Want
from statehold.driver import (
    Cells,
    CommitsTogether,
    Driver,
    InstallsLives,
    Layout,
    Outcome,
    Page,
    Scan,
    Swept,
    WaitingDriver,
    WholeLife,
    WouldWait,
)
from statehold.engine import run_now
from statehold.errors import Closed, StateholdError
from statehold.middleware.calls import (
    Answer,
    Call,
    for_each,
    had_to_wait,
    latest,
    made,
    next_batch,
    settle,
    waited,
    wanted,
)
from statehold.middleware.wrapper import Wrapper

_Loop: TypeAlias = asyncio.AbstractEventLoop
_Call: TypeAlias = Call["asyncio.Future[list[Outcome]]"]
R = TypeVar("R")

ROUNDS = 8
"""How often it is waited for the driver before what is to be done is left to wait there itself."""


class Coalesce(Wrapper):
    """Groups the commits that tasks make at the same time; everything else passes through.

    At most `max_batch` commits go down together, unless one call brings more; their `now` is the
    latest of the callers'. With `in_thread` the driver, which must not suspend, commits in a thread
    while the next batch gathers. Otherwise, with a driver that does not suspend, a commit is made
    at once as long as the one before it met no other. What a `WaitingDriver` would have to wait for
    is done in a thread in any case. Unless it `owns` the driver, `close` leaves that open.

    What comes later from the same event loop is done later, also where commits stand together. A
    cancelled caller's commits are not made any more, unless the driver is at them already, or suspends:
    then they are applied or not, as those of any call that is cut short. Who had to wait for the thread or
    for others is served by the time after that: its `now` and the seconds waited. An error of a batch
    reaches each of its callers; what concerns one commit only is its outcome.
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
        loop = asyncio.get_running_loop()
        queue = self._queue(loop)
        if queue.calm and queue.alone(loop):
            together = cast("CommitsTogether", self.inner).commit_together
            more = {} if self._waiting is None else {"wait": False}
            try:
                return await together(commits, now, **more)
            except WouldWait:
                pass
        return await queue.add(loop, commits, now, together=True)

    async def lives(self, keys: Sequence[Key], now: float) -> list[WholeLife | None]:
        return await self._call(cast("InstallsLives", self.inner).lives, (keys,), now)

    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        if self._closed:
            raise Closed("the store is closed")
        loop = asyncio.get_running_loop()
        await self._queue(loop).add(loop, (), now)  # what came before is done before
        install = cast("InstallsLives", self.inner).install
        if self._threaded:
            return await self._in_thread(lambda waited: install(lives, now + waited))
        return await self._call(install, (lives,), now)

    def _queue(self, loop: _Loop) -> _Queue:
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = self._new_queue()
        return queue

    def _new_queue(self) -> _Queue:
        return _Queue(self.inner, self._max_batch, self._threaded)

    async def _call(self, call: Callable[..., Coroutine[Any, Any, R]], given: Any, now: float) -> R:
        """What the driver's call answers, from a thread where it would have to wait."""
        if self._waiting is None:
            return await call(*given, now)
        try:
            return await call(*given, now, wait=False)
        except WouldWait:
            return await self._in_thread(lambda waited: call(*given, now + waited))

    async def _in_thread(self, call: Callable[[float], Coroutine[Any, Any, R]]) -> R:
        """What a call answers that is made in the thread, and told for how long it had to wait."""
        if self._closed:
            raise Closed("the store is closed")
        loop = asyncio.get_running_loop()
        return await self._queue(loop).in_thread(loop, call)

    async def open(self, layout: Layout) -> None:
        if self._waiting is None:
            await self.inner.open(layout)
        else:  # one after the other, so that tasks which came before others go on before them
            await self._in_thread(lambda _: self.inner.open(layout))

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        if self._waiting is None:
            return await self.inner.read(keys, want, now)
        try:
            return await self._waiting.read(keys, want, now, wait=False)
        except WouldWait:
            pass
        if self._closed:
            raise Closed("the store is closed")
        loop = asyncio.get_running_loop()
        return await self._queue(loop).reading(
            loop, lambda waited: self.inner.read(keys, want, now + waited)
        )

    async def scan(self, asked: Scan, now: float) -> Page:
        return await self._call(self.inner.scan, (asked,), now)

    async def sweep(self, now: float, after: str = "") -> Swept:
        if self._waiting is None:
            return await self.inner.sweep(now, after)
        # In the thread that writes, between batches, also where nothing has to be waited for.
        return await self._in_thread(lambda waited: self.inner.sweep(now + waited, after))

    async def check(self, now: float) -> None:
        await self._call(self.inner.check, (), now)

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
        left = max(0.0, timeout - (loop.time() - began))
        if self._waiting is None:
            return await self.inner.drain(left)
        return await self._queue(loop).in_thread(loop, lambda _: self.inner.drain(left))

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
                await queue.in_thread(loop, lambda _: self.inner.close())
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
        self._at_once = {"wait": False} if isinstance(driver, WaitingDriver) else {}
        self._max_batch = max_batch
        self._threaded = in_thread
        self._thread = ThreadPoolExecutor(1, "statehold-writer")  # which starts when it is needed
        # Nobody who commits is to wait for a large state to be read.
        self._reader = ThreadPoolExecutor(1, "statehold-reader")
        self._reads: set[asyncio.Future[Any]] = set()
        self._ahead = 0  # calls that the thread was given, and that are not known to be over
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
        loop.call_soon(self._pass_down, loop)
        self._due = True
        return True

    def add(
        self, loop: _Loop, commits: Sequence[Commit], now: float, *, together: bool = False
    ) -> asyncio.Future[list[Outcome]]:
        future: asyncio.Future[list[Outcome]] = loop.create_future()
        since = AMBIENT.monotonic() if self._ahead else 0.0
        self._waiting.append((future, commits, now, together, since))
        if not self._due:
            loop.call_soon(self._pass_down, loop)
            self._due = True
        return future

    async def drain(self, loop: _Loop) -> None:
        with contextlib.suppress(StateholdError):  # which is for those who asked for something
            await self.add(loop, (), 0.0)  # calls are answered in order
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._ahead:  # and those of the thread too
            await self.in_thread(loop, _nothing)
        while self._reads:
            await asyncio.wait(self._reads)

    def close(self) -> None:
        """The thread ends when it has done what it was given."""
        self._thread.shutdown(wait=False)
        self._reader.shutdown(wait=False)

    def in_thread(
        self, loop: _Loop, call: Callable[[float], Coroutine[Any, Any, R]]
    ) -> asyncio.Future[R]:
        """What the call answers, made after what the thread was given before."""
        since = AMBIENT.monotonic() if self._ahead else 0.0

        def work() -> R:
            return run_now(call(waited(since)))

        try:
            job = self._thread.submit(work)
        except RuntimeError as error:  # shut down
            raise Closed("the store is closed") from error
        self._ahead += 1

        def over(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._over)

        job.add_done_callback(over)  # first, so that who gets the answer finds it over
        return asyncio.wrap_future(job, loop=loop)

    def reading(
        self, loop: _Loop, call: Callable[[float], Coroutine[Any, Any, R]]
    ) -> asyncio.Future[R]:
        """What a call answers that only reads, in a thread of its own."""
        since = AMBIENT.monotonic()
        try:
            read = asyncio.wrap_future(
                self._reader.submit(lambda: run_now(call(waited(since)))), loop=loop
            )
        except RuntimeError as error:  # shut down
            raise Closed("the store is closed") from error
        self._reads.add(read)
        read.add_done_callback(self._reads.discard)
        return read

    def _over(self) -> None:
        self._ahead -= 1

    def _take(self) -> list[_Call]:
        """What goes down next."""
        calls, self._waiting = next_batch(self._waiting, self._max_batch)
        return calls

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
                    answers = run_now(made(self._driver, calls, self._at_once))
                except WouldWait:
                    self.calm = False
                    self._hand_over(loop, calls)
                    return
                settle(calls, answers)
        self._due = bool(self._waiting)
        if self._due:
            loop.call_soon(self._pass_down, loop)

    async def _in_task(self, calls: list[_Call]) -> None:
        settle(calls, await made(self._driver, calls, {}))

    def _hand_over(self, loop: _Loop, calls: list[_Call]) -> None:
        if self._ahead:
            calls = had_to_wait(calls)
        self._ahead += 1
        try:
            self._thread.submit(self._write, loop, calls)
        except RuntimeError:  # it was shut down, and nobody else may write
            self._written(loop, calls, for_each(len(calls), Closed("the store is closed")))

    def _write(self, loop: _Loop, calls: list[_Call]) -> None:
        calls, answers = self._made(calls)
        with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits any more
            loop.call_soon_threadsafe(self._written, loop, calls, answers)

    def _made(self, calls: list[_Call]) -> tuple[list[_Call], list[Answer]]:
        """The calls that were still wanted when it was their turn, and what became of them.

        To wait in the midst of a commit would be to make it though nobody wants it any more. So
        nothing is what is waited with.
        """
        calls = wanted(calls)
        for _ in range(ROUNDS if self._at_once else 0):
            try:
                return calls, run_now(made(self._driver, calls, self._at_once))
            except WouldWait:
                calls = had_to_wait(calls)
            try:
                run_now(self._driver.commit((), latest(calls)))
            except BaseException as error:  # noqa: BLE001  each caller is told
                return calls, for_each(len(calls), error)
            calls = wanted(calls)
        return calls, run_now(made(self._driver, calls, {}))

    def _written(self, loop: _Loop, calls: list[_Call], answers: list[Answer]) -> None:
        self._ahead -= 1
        settle(calls, answers)
        self._due = bool(self._waiting)
        if self._due:
            self._pass_down(loop)


async def _nothing(_: float) -> None:
    """What was given to the thread before is done."""
