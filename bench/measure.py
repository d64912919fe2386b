"""Timing: contenders take turns, round by round, and ratios are taken within a round.

A machine that others use too runs at changing speeds for seconds at a time. Contenders that follow
each other closely meet the same speed, so a ratio within one round means something where two
averages do not. Garbage collection is on, as in a service. What was there when the rounds began is
frozen out of it (`gc.freeze()`), as services do after they started, and before each timed block
everything else is collected, so that nobody pays for another's garbage.
"""

from __future__ import annotations

import gc
import inspect
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Job = Callable[[], Awaitable[float]]
Samples = dict[str, list[float]]
CHUNK = 25


def progress(text: str) -> None:
    print(f"  {text}", flush=True)


async def interleave(jobs: dict[str, Job], rounds: int) -> Samples:
    """One figure of each job per round; each round starts with the next job."""
    samples: Samples = {name: [] for name in jobs}
    names = list(jobs)
    gc.freeze()
    try:
        for at in range(rounds):
            shift = at % len(names)
            for name in names[shift:] + names[:shift]:
                gc.collect()
                samples[name].append(await jobs[name]())
    finally:
        gc.unfreeze()
    return samples


async def batch_us(call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> float:
    """Microseconds of one call: the mean over 25 in a row, and of these means the median.

    Single calls are too short for the clock; whole batches are long enough to be interrupted.
    """
    clock = time.perf_counter_ns
    waits = inspect.iscoroutinefunction(call)
    means: list[float] = []
    for first in range(0, len(arguments), CHUNK):
        chunk = arguments[first : first + CHUNK]
        if waits:
            start = clock()
            for given in chunk:
                await call(*given)
        else:
            start = clock()
            for given in chunk:
                call(*given)
        means.append((clock() - start) / len(chunk) / 1e3)
    return statistics.median(means)


async def p50_us(
    call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], seconds: float = math.inf
) -> float:
    """The median of single calls, in microseconds; fewer than asked for once the time is spent."""
    clock = time.perf_counter_ns
    waits = inspect.iscoroutinefunction(call)
    took: list[int] = []
    until = clock() + seconds * 1e9
    for given in arguments:
        start = clock()
        if waits:
            await call(*given)
        else:
            call(*given)
        end = clock()
        took.append(end - start)
        if end > until:
            break
    return statistics.median(took) / 1e3


async def fitting(call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], ms: float) -> int:
    """How many calls take about this long (a trial of a few tells), at most as many as given."""
    each = min([await batch_us(call, arguments[at : at + 2]) for at in (0, 2, 4)])
    return max(4, min(len(arguments), int(ms * 1e3 / each)))


async def maybe(result: Any) -> Any:
    """The result, awaited if it must be."""
    return await result if inspect.isawaitable(result) else result


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def quantile(values: Sequence[float], part: float) -> float:
    """The value that such a part of them reaches at most: 0.99 is p99, 1 the worst."""
    return sorted(values)[int(part * (len(values) - 1))] if values else math.nan


def ratios(samples: Samples, above: str, below: str) -> list[float]:
    """above / below, round by round."""
    return [a / b for a, b in zip(samples[above], samples[below], strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """ "median (lowest to highest)"."""
    return (
        f"{number(median(values), digits)} ({number(min(values), digits)} to "
        f"{number(max(values), digits)})"
    )


def number(value: float, digits: int = 2) -> str:
    """Readable: three significant digits or so, thousands separated."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else digits}f}"
