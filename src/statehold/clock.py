"""Injected time and chance. Where states are folded and kept, nothing else asks the machine for them.

A store has a `Clock`, by which states expire. What has no store at hand, and how long things take, goes
by `AMBIENT`, which a simulation replaces as a whole (`testing.simulated`). Drivers that wait for servers or
for files of other processes do so in the machine's own time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, Protocol


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
        """The time that was set."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Move time forward at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move time forward (or, with a negative number, back)."""
        self._now += seconds


def _fraction() -> float:
    import random  # slow to import, and seldom needed

    return random.random()  # noqa: S311  no secret


class Ambient:
    """The machine's chance and its time that passes, for the whole process."""

    __slots__ = ("entropy", "fraction", "monotonic", "perf_counter")

    entropy: Callable[[int], bytes]
    """So many random bytes: of incarnations, op ids, keys, nonces."""
    fraction: Callable[[], float]
    """A random number from 0 up to 1, for pauses."""
    monotonic: Callable[[], float]
    """Seconds that never go back."""
    perf_counter: Callable[[], float]
    """Seconds that never go back, as exactly as can be had."""

    def __init__(self) -> None:
        self.restore()

    def restore(self) -> None:
        """It is the machine's."""
        self.entropy = os.urandom
        self.fraction = _fraction
        self.monotonic = time.monotonic
        self.perf_counter = time.perf_counter


AMBIENT: Final = Ambient()


def pause(tries: int, first: float, longest: float, *, least: float = 0.0) -> float:
    """Seconds to wait before another try, random, so that who failed together does not return together.

    They are up to `first` where `tries` is 0, twice as many with each further one, and never more than
    `longest`. `least`, from 0 to 1, is the part of them that is waited in any case.
    """
    most = min(longest, first * 2.0 ** min(tries, 64))
    return most * (least + (1.0 - least) * AMBIENT.fraction())


class Skew:
    """By how many seconds the clock of a store is ahead of its callers', as far as is known.

    An answer carries the store's time at some moment between sending and receiving, which leaves
    an interval for the skew; what was known before is moved only as far as it is outside of that.
    """

    EVERY: Final = 1.0
    """Seconds between two looks."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.due = 0.0
        """By the monotonic clock: when to look again."""
        self._known = False

    def learn(self, store: float, sent: float, took: float, until: float) -> None:
        """An answer said `store`; it was sent at `sent` by the caller's clock, and took so long."""
        most = store - sent
        least = most - took
        if self._known:
            self.seconds = min(max(self.seconds, least), most)
        else:
            self.seconds = (least + most) / 2
            self._known = True
        self.due = until + self.EVERY
