"""Running the one core, written as `async def`, for the sync and the async API."""

from __future__ import annotations

import os
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from statehold.clock import SystemClock
from statehold.errors import Closed

if TYPE_CHECKING:
    import asyncio

R = TypeVar("R")


def run_now(coroutine: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that never suspends, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("a driver that declares suspends=False has suspended")


class Portal:
    """A thread with an event loop, through which synchronous callers reach drivers that suspend."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.closed = False

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The result of the coroutine, run in the portal's loop. Starts the thread if need be."""
        import asyncio

        with self._lock:
            if self.closed or threading.current_thread() is self._thread:
                coroutine.close()
                if self.closed:
                    raise Closed("the store is closed")
                raise RuntimeError(
                    "a function run by `transact` cannot call its own store synchronously"
                )
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="statehold-portal", daemon=True
                )
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """The thread has ended, and so has what it had begun. Closing twice is fine."""
        import asyncio

        with self._lock:
            self.closed = True
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class BlockingClock(SystemClock):
    """The machine's clock for callers without an event loop: its sleep blocks and never suspends."""

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds, having blocked the thread."""
        threading.Event().wait(seconds)


def new_op() -> str:
    """An op id that no one else makes: 96 random bits."""
    return os.urandom(12).hex()
