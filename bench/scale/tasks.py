"""Many tasks of one event loop at once, and how late it comes to what is due meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from bench.measure import maybe, median, number, quantile


class Lag:
    """How late the event loop comes to what is due each millisecond, in milliseconds."""

    def __init__(self) -> None:
        self.ms: list[float] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.002)  # what was late is seen
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            self.ms.append((time.perf_counter() - due) * 1e3)

    @property
    def p99(self) -> float:
        return quantile(self.ms, 0.99)

    @property
    def worst(self) -> float:
        return quantile(self.ms, 1)


@dataclass
class Crowd:
    """What became of so many tasks that called one after the other."""

    done: list[int]
    seconds: float = 0.0
    ms: list[float] = field(default_factory=list)
    lag: Lag = field(default_factory=Lag)

    @property
    def rate(self) -> float:
        """Calls a second."""
        return sum(self.done) / self.seconds

    @property
    def figures(self) -> list[float]:
        """The rate; p50, p99 and worst of a call; the loop's lag, p99."""
        return [self.rate, *(quantile(self.ms, part) for part in (0.5, 0.99, 1)), self.lag.p99]


CELLS = ["a second", "p50 ms", "p99 ms", "worst ms", "loop lag p99 ms"]
"""What `Crowd.figures` are."""


def cells(crowds: Sequence[Crowd]) -> list[str]:
    """Their figures, each the median of all of these."""
    columns = zip(*(each.figures for each in crowds), strict=True)
    return [number(median(column)) for column in columns]


async def crowd(call: Callable[[int, int], Any], tasks: int, seconds: float) -> Crowd:
    """So many tasks call with their own number and that of the call, for so long; each then lets others go on."""
    clock = time.perf_counter
    found = Crowd([0] * tasks)

    async def task(at: int) -> None:
        while (began := clock()) < until:
            await maybe(call(at, found.done[at]))
            found.ms.append((clock() - began) * 1e3)
            found.done[at] += 1
            await asyncio.sleep(0)

    async with found.lag:
        began = clock()
        until = began + seconds
        await asyncio.gather(*map(task, range(tasks)))
        found.seconds = clock() - began
    return found
