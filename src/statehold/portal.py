"""The way of synchronous callers to drivers that suspend: an event loop in a thread of its own.

A call is a task of that loop, and a thread that waits for it. Three things may happen to the loop
while somebody waits, and each ends the waiting. The portal is closed: calls under way are cancelled,
what they leave behind is awaited, and each caller is told `Closed`. The process forks: the child has
neither the thread nor the loop, so it leaves them behind and begins anew, without a word to the
servers at the other end of the parent's connections. The thread fails: every caller is told so.
"""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakSet, finalize

from statehold.engine import run_now
from statehold.errors import Closed, StateholdError, Unavailable, WrongThread

R = TypeVar("R")

TICK: Final = 0.5
"""Seconds between two looks at whether somebody else's event loop has been closed."""

_ENDED: Final = "the event loop of the store has ended"

GRACE: Final = 5.0
"""Seconds that a cancelled task may take to end before the loop ends without it."""


class Portal:
    """Runs coroutines for synchronous callers of any thread, in one event loop.

    The loop begins with the first call. `last` is run in it at the end, when no call is under way.
    """

    def __init__(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        self._last = last
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._finalizer: finalize[..., Portal] | None = None
        self.closed = False
        _portals.add(self)

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The result of the coroutine, run in the portal's loop. Starts the thread if need be.

        Raises `Closed` if the portal is closed, before or meanwhile. If waiting is interrupted, the
        coroutine is cancelled.
        """
        call = _Call(coroutine)
        try:
            self._begin(call)
            found: R = call.result()
        except BaseException:  # also KeyboardInterrupt, at any point
            call.abandon()
            raise
        return found

    async def call(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The result of the coroutine, for a task of another event loop, which goes on meanwhile."""
        return await _awaited(coroutine, self._begin)

    def _begin(self, call: _Call) -> None:
        with self._lock:
            if self.closed or sys.is_finalizing():  # when the thread stands still
                raise Closed("the store is closed")
            thread = self._running()
            if thread.is_here():
                raise WrongThread("a driver cannot call its own store synchronously")
            thread.begin(call)

    def close(self) -> None:
        """No call is under way, `last` was run, and the thread has ended. Closing twice is fine.

        Called from within a call it returns at once, and the end comes when that call returns.
        Raises what `last` raised.
        """
        with self._lock:
            thread = self._thread
            if thread is None and not self.closed:
                thread = self._running()  # for `last`, which wants an event loop
            self.closed = True
            if thread is not None:
                thread.stop()
        if thread is not None and not thread.is_here():
            thread.join()

    def _running(self) -> LoopThread:
        thread = self._thread
        if thread is None or thread.has_ended:
            thread = self._thread = LoopThread(self._last)
            # For who lets go of a store without closing it.
            self._finalizer = finalize(self, thread.stop)
            self._finalizer.atexit = False
        return thread

    def begin_anew(self) -> None:
        """In a process just forked off: the parent's thread is left behind."""
        self._lock = threading.Lock()
        thread, self._thread = self._thread, None
        if self._finalizer is not None:
            self._finalizer.detach()
        if thread is not None:
            thread.leave_behind()


class Guest:
    """Runs coroutines in the event loop that is running here, for callers of other threads.

    The loop is somebody else's. It is not for them to end it, nor do they know when it will: who
    waits when it is closed is told `Closed`.
    """

    def __init__(self) -> None:
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise WrongThread(
                "an asynchronous store is shared from within the event loop that it is used in"
            ) from error
        self._process = os.getpid()

    def check(self) -> None:
        """Raise `WrongThread` in the loop's own thread."""
        if asyncio._get_running_loop() is self.loop:  # noqa: SLF001  documented; the other raises
            raise WrongThread(
                "a synchronous call in the thread of the store's own event loop would wait for"
                " itself: await the asynchronous store there, or call from another thread"
                " (asyncio.to_thread)"
            )

    def run_here(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The result of a coroutine that never suspends. The rule is the same as for others."""
        try:
            self.check()
        except WrongThread:
            coroutine.close()
            raise
        return run_now(coroutine)

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The result of the coroutine, run in the loop. Raises `WrongThread`, or `Closed`."""
        call = _Call(coroutine)
        try:
            self.check()
            self._begin(call)
            while not call.wait(TICK):
                if self.loop.is_closed():
                    call.lose()
            found: R = call.result()
        except CancelledError as error:  # as the loop ends it cancels all of its tasks
            raise Closed(_ENDED) from error
        except BaseException:  # also KeyboardInterrupt, at any point
            call.abandon()
            raise
        return found

    async def call(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The result of the coroutine, for a task of any event loop; in the loop itself it is awaited in place."""
        if asyncio.get_running_loop() is self.loop:
            return await coroutine
        try:
            return await _awaited(coroutine, self._begin, self.loop.is_closed)
        except CancelledError as error:
            raise Closed(_ENDED) from error

    def _begin(self, call: _Call) -> None:
        if self._process != os.getpid():
            raise Closed("the event loop of the store is in the process that forked this one")
        call.thread = self
        try:
            self.loop.call_soon_threadsafe(call.begin)
        except RuntimeError as error:
            call.thread = None
            raise Closed(_ENDED) from error

    def ended(self, call: _Call) -> None:
        """The call was answered."""

    def soon(self, do: Callable[[], object]) -> None:
        """Have this done in the loop, if it is still there."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(do)


class LoopThread:
    """An event loop in a thread of its own, from now until it is stopped."""

    def __init__(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        self._last = last
        self._calls: set[_Call] = set()
        self._stopping = self._over = False
        self._trouble: BaseException | None = None
        self.loop = _Loop()
        self._thread = threading.Thread(target=self._serve, name="statehold-portal", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self.loop.close()
            raise Unavailable(f"no thread for the store's event loop: {error}") from error

    @property
    def has_ended(self) -> bool:
        """Whether it takes no more calls."""
        return self.loop.is_closed()

    def is_here(self) -> bool:
        """Whether this is the thread itself."""
        return threading.current_thread() is self._thread

    def begin(self, call: _Call) -> None:
        """The call will be answered. Raises `Closed` if the loop has ended."""
        self._calls.add(call)  # first: from now on the end of the loop answers it, if nothing else
        call.thread = self
        try:
            self.loop.call_soon_threadsafe(call.begin)
        except RuntimeError as error:
            call.thread = None
            self._calls.discard(call)
            raise Closed("the store is closed") from error

    def ended(self, call: _Call) -> None:
        """The call was answered."""
        self._calls.discard(call)

    def soon(self, do: Callable[[], object]) -> None:
        """Have this done in the loop, if it is still there."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(do)

    def stop(self) -> None:
        """The loop ends as soon as it can. Stopping twice is fine."""
        if not (self._stopping or self.loop.left_behind):
            self._stopping = True
            self.soon(self._end)

    def join(self) -> None:
        """Wait for the end. Raises, once, what went wrong in it."""
        self._thread.join()
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble

    def leave_behind(self) -> None:
        """In a process just forked off: let go, for good."""
        self.loop.leave_behind()
        for call in list(self._calls):  # of a signal handler that forks, and returns in the child
            call.fail(Closed("the process was forked during the call"))
        _left_behind.append(self)  # what would be collected would be ended, and might say so

    # ----------------------------------------------------------------------------- in the thread

    def _serve(self) -> None:
        loop = self.loop
        why: BaseException | None = None
        try:
            while not self._over:
                with suppress(KeyboardInterrupt, SystemExit):  # a caller's own, who is given it
                    loop.run_forever()
        except BaseException as error:  # noqa: BLE001  whoever waits is told
            self._trouble = why = error
        finally:
            loop.close()
            for call in list(self._calls):
                failure: StateholdError = Closed("the store was closed during the call")
                if why is not None:
                    failure = Unavailable(f"the store's event loop has failed: {why!r}")
                    failure.__cause__ = why
                call.fail(failure)

    def _end(self) -> None:
        def stop(task: asyncio.Task[None]) -> None:
            self._over = True
            self._trouble = self._trouble or task.exception()
            self.loop.stop()

        self.loop.create_task(self._wind_up()).add_done_callback(stop)

    async def _wind_up(self) -> None:
        """Nothing is under way any more."""
        for call in list(self._calls):
            call.close()
        await _ended(call.task for call in list(self._calls) if call.task is not None)
        if self._last is not None:
            try:
                await self._last()
            except Exception as error:  # noqa: BLE001  whoever closes is told
                self._trouble = error
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await _ended(rest)
        await _ended([self.loop.create_task(self.loop.shutdown_asyncgens())])


async def _ended(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Wait for the tasks, whatever becomes of them, but not for ever."""
    waited = {task for task in tasks if task is not None}
    if waited:
        done, _ = await asyncio.wait(waited, timeout=GRACE)
        for task in done:
            if not task.cancelled():
                task.exception()  # so that nobody complains that it was not looked at


async def _awaited(
    coroutine: Coroutine[Any, Any, R],
    begin: Callable[[_Call], None],
    over: Callable[[], bool] | None = None,
) -> R:
    """The result of a call, awaited in another event loop than the one that makes it.

    `over`, if there is one, says whether no answer can come any more.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop was closed, and nobody waits any more
            loop.call_soon_threadsafe(told.set)

    call = _Call(coroutine, tell)
    try:
        begin(call)
        if over is None:
            await told.wait()
        while not told.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), TICK)
            if over is not None and over():
                call.lose()
        found: R = call.result()
    except BaseException:
        call.abandon()
        raise
    return found


class _Host(Protocol):
    """Where a call runs."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def ended(self, call: _Call) -> None: ...

    def soon(self, do: Callable[[], object]) -> None: ...


class _Call:
    """A coroutine, and the thread that waits for it."""

    __slots__ = (
        "_answered",
        "_closing",
        "_coroutine",
        "_error",
        "_over",
        "_told",
        "_value",
        "task",
        "thread",
    )

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], told: Callable[[], None] | None = None
    ) -> None:
        self.thread: _Host | None = None
        """The one that runs it, from when it is asked to."""
        self._told = told
        self.task: asyncio.Task[Any] | None = None
        self._coroutine = coroutine
        self._answered = threading.Lock()
        self._answered.acquire()
        self._over = self._closing = False
        self._value: Any = None
        self._error: BaseException | None = None

    def wait(self, seconds: float) -> bool:
        """Whether there is an answer within so many seconds."""
        if self._answered.acquire(timeout=seconds):
            self._answered.release()
            return True
        return False

    def result(self) -> Any:
        """Wait for the result."""
        self._answered.acquire()
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # which holds on to this frame

    def abandon(self) -> None:
        """Nobody waits any more: the coroutine ends."""
        if self.thread is None:
            self._coroutine.close()
        elif not self._over:
            self.thread.soon(self._cancel)

    def lose(self) -> None:
        """The loop has been closed, and nothing will be answered from there any more."""
        if self.task is None:
            self._coroutine.close()
        self.fail(Closed(_ENDED))

    # ------------------------------------------------------------------------------- in the loop

    def begin(self) -> None:
        """The coroutine runs."""
        if self.thread is not None:
            self.task = self.thread.loop.create_task(self._coroutine)
            self.task.add_done_callback(self._end)

    def close(self) -> None:
        """It is to end, since the portal does."""
        self._closing = True
        self._cancel()

    def fail(self, error: BaseException) -> None:
        """The caller gets this error, unless there is an answer."""
        self._answer(None, error)

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
        elif self.thread is not None:  # it was not begun, and will not be
            self._coroutine.close()
            self.thread.ended(self)
            self.thread = None
            self.fail(Closed("the store was closed during the call"))

    def _end(self, task: asyncio.Task[Any]) -> None:
        if self.thread is not None:
            self.thread.ended(self)
        error = CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._answer(task.result(), None)
        elif self._closing and isinstance(error, CancelledError | Unavailable):
            closed = Closed("the store was closed during the call")
            closed.__cause__ = None if task.cancelled() else error
            self.fail(closed)
        else:
            self.fail(error)

    def _answer(self, value: Any, error: BaseException | None) -> None:
        if not self._over:
            self._over = True
            self._value, self._error = value, error
            self._answered.release()
            if self._told is not None:
                self._told()


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that a forked process can leave behind, as one that is closed."""

    def __init__(self) -> None:
        self.left_behind = False
        self._of = selectors.DefaultSelector()
        super().__init__(self._of)

    def leave_behind(self) -> None:
        """In a process just forked off: nothing done to its connections reaches the other end.

        Their objects are here, and whoever collects or closes one would say good-bye to the server
        in the parent's name, or have the parent's loop, whose interest in it is the same one of the
        operating system's, hear nothing of it any more. So the descriptors are made others'.
        """
        self.left_behind = True
        with socket.socket() as nowhere:
            for key in list((self._of.get_map() or {}).values()):
                os.dup2(nowhere.fileno(), key.fd, inheritable=False)
        if sys.platform == "linux" and isinstance(self._of, selectors.EpollSelector):
            with suppress(ValueError), select.epoll() as nobody:  # it was closed already
                os.dup2(nobody.fileno(), self._of.fileno(), inheritable=False)

    def is_closed(self) -> bool:
        return self.left_behind or super().is_closed()

    def is_running(self) -> bool:
        return not self.left_behind and super().is_running()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.left_behind:  # else a task that is not over when the child ends would be told
            super().call_exception_handler(context)


_portals: WeakSet[Portal] = WeakSet()
_left_behind: list[LoopThread] = []


def _forked() -> None:
    for portal in list(_portals):
        portal.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
