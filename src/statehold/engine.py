"""Running the one core, written as `async def`, for the sync and the async API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from statehold.clock import AMBIENT, Clock, SystemClock

R = TypeVar("R")


def run_now(coroutine: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that never suspends, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("a driver that declares suspends=False has suspended")


class BlockingClock(SystemClock):
    """The machine's clock for callers without an event loop: its sleep blocks and never suspends."""

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds, having blocked the thread."""
        threading.Event().wait(seconds)


class WaitingClock:
    """A store's own clock, for callers without an event loop: what would suspend there is run by `run`."""

    def __init__(self, clock: Clock, run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self.clock = clock
        self.now = clock.now
        self.monotonic = clock.monotonic
        self._run = run

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds, by that clock."""
        self._run(self.clock.sleep(seconds))


def new_op() -> str:
    """An op id that no one else makes: 96 random bits."""
    return AMBIENT.entropy(12).hex()
