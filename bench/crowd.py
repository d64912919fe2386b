"""64 tasks of one event loop at once, on one session or on a thousand, and what became of their work."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.contender import Contender, message
from bench.measure import maybe, median, number, ratios
from bench.part import Verdict

TASKS = 64
EACH = 1_000
"""Most calls of a task in a round."""


@dataclass
class Tally:
    """What became of one contender's appends, over all rounds."""

    rates: list[float] = field(default_factory=list)
    acknowledged: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    lost: int = 0


async def crowd(
    call: Callable[[str], Awaitable[Any]], ids: Sequence[str], seconds: float, tally: Tally
) -> None:
    """Each task calls with ids drawn at random, until the time is over or it has called 1,000 times.

    The rate is of what was answered within the time: whoever then waits to have his turn, waits on.
    """
    draws = [random.Random(at).choices(ids, k=EACH) for at in range(TASKS)]
    clock = time.perf_counter
    done = [0] * TASKS

    async def task(at: int) -> None:
        for id in draws[at]:
            try:
                await call(id)
            except Exception:  # noqa: BLE001  a refusal is an answer; it is counted
                tally.refused += 1
            else:
                tally.acknowledged[id] += 1
                if clock() <= until:
                    done[at] += 1
            if clock() > until:
                return

    start = clock()
    until = start + seconds
    await asyncio.gather(*map(task, range(TASKS)))
    tally.rates.append(sum(done) / (min(clock(), until) - start))


async def appending(contender: Contender, ids: Sequence[str], seconds: float, tally: Tally) -> None:
    """The crowd appends."""
    one, append = message(0), contender.append
    await crowd(lambda each: append(each, one), ids, seconds, tally)


async def verify(contender: Contender, tally: Tally, before: int = 1) -> int:
    """What was acknowledged and is not there is lost; returns what is there and was not asked for.

    Refused calls may have been made all the same, so where there were any nothing is told.
    """
    doubled = 0
    for id, count in tally.acknowledged.items():
        missing = count + before - int(await maybe(contender.count(id)))
        tally.lost += max(0, missing)
        doubled += max(0, -missing)
    return 0 if tally.refused else doubled


async def exactly_once(contender: Contender, ids: Sequence[str], each: int) -> tuple[int, int]:
    """64 tasks append `each` messages that tell themselves apart. Returns how many are missing, and
    how many are there more than once."""
    wrote: dict[str, list[str]] = {id: [] for id in ids}

    async def task(at: int) -> None:
        for call in range(each):
            id = ids[(at * each + call) % len(ids)]
            new = message(at * 1_000_000 + call)
            await contender.append(id, new)
            wrote[id].append(new.content)

    await asyncio.gather(*map(task, range(TASKS)))
    missing = doubled = 0
    for id, contents in wrote.items():
        there = Counter(await contender.everything(id))  # type: ignore[attr-defined]
        missing += sum(1 for content in contents if not there[content])
        doubled += there.total() - len(there)
    return missing, doubled


async def filled(contender: Contender, ids: Sequence[str], count: int) -> None:
    """Every session has its messages; sixteen are filled at a time."""
    waiting = list(ids)
    random.Random(0).shuffle(waiting)

    async def some() -> None:
        while waiting:
            await contender.fill(waiting.pop(), count)

    await asyncio.gather(*(some() for _ in range(16)))


def lost(tally: Tally) -> str:
    """How many, and of how many."""
    if not tally.lost:
        return "0"
    share = tally.lost / (tally.acknowledged.total() or 1)
    return f"{tally.lost:,} ({share:.0%})"


def at_least(
    target: str, samples: dict[str, list[float]], above: str, below: str, limit: float
) -> Verdict:
    """above / below, the median of the rounds' ratios."""
    if above not in samples or below not in samples:
        return Verdict(target, "the peer is absent", None)
    ratio = median(ratios(samples, above, below))
    return Verdict(target, f"{number(ratio)}×", ratio >= limit)
