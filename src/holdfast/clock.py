"""Injected time. Nothing else in the package asks the system what time it is."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a store needs to know of time."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for measuring durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after about this many seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds."""
        import asyncio

        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that tests move by hand; it never sleeps for real."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        """The time that was set."""
        return self._now

    def monotonic(self) -> float:
        """The same time."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Move time forward at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move time forward (or, with a negative number, back)."""
        self._now += seconds
