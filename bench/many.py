"""Many sessions in memory: reading as they become a million, and what they take."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import gc
import random
import tempfile
import tracemalloc
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench import contenders_agents as agents
from bench import contenders_caches as caches
from bench import contenders_langgraph as langgraph
from bench import contenders_own as own
from bench import contenders_raw as raw
from bench.contender import KEEP, Contender, message, split
from bench.measure import (
    Job,
    Samples,
    batch_us,
    fitting,
    interleave,
    maybe,
    median,
    number,
    progress,
    ratios,
)
from bench.operations import started
from bench.part import Effort, Part, Table, Verdict

SIZES = (1_000, 10_000, 100_000, 1_000_000)
MANY: list[type[Contender]] = [
    own.Memory,
    raw.Dict,
    caches.Cachetools,
    caches.Theine,
    caches.Cashews,
    raw.ScanAll,
]
HELD: list[type[Contender]] = [
    own.Memory,
    raw.Dict,
    caches.Cachetools,
    caches.CachetoolsEncoded,
    caches.Cashews,
    langgraph.LangGraphMemory,
    agents.AdkMemory,
]
BATCH = 3_000


async def sessions(effort: Effort) -> Part:
    """Typed get among 1,000 to 1,000,000 live sessions."""
    here, absent = split(MANY)
    sizes = SIZES[: effort.of(4, 2)]
    figures: dict[int, Samples] = {}
    async with AsyncExitStack() as stack:
        contenders = [await started(stack, cls) for cls in here]
        filled = 0
        for size in sizes:
            progress(f"{size:,} sessions")
            if size == SIZES[-1]:
                contenders = [c for c in contenders if not isinstance(c, raw.ScanAll)]
            gc.disable()
            for contender in contenders:
                await _fill(contender, filled, size)
            filled = size
            gc.enable()
            figures[size] = await interleave(
                {c.name: await _job(c, size) for c in contenders}, effort.of(15, 3)
            )
    table = Table(["get, µs", *(f"{size:,}" for size in sizes), "last / first", "last - first, µs"])
    for cls in here:
        row = [median(figures[n][cls.name]) if cls.name in figures[n] else None for n in sizes]
        known = [value for value in row if value is not None]
        grown = [f"{number(known[-1] / known[0])}×", number(known[-1] - known[0])]
        table.rows.append([cls.name, *("-" if v is None else number(v) for v in row), *grown])
    part = Part(
        "Memory: live sessions",
        "Sessions of one message; ids drawn at random, as new strings. The dict that "
        "scans all timestamps "
        "stops before a million.",
        [table],
        absent=absent,
    )
    part.verdicts.append(_no_faster(figures, sizes))
    for peer, limit, words in (
        (caches.Cashews, 1 / 3, "at most 1/3 of cashews' get"),
        (caches.Cachetools, 1.0, "faster than cachetools behind a lock"),
    ):
        target = f"memory, typed get: {words}, at every number of sessions"
        if peer.name not in figures[sizes[0]]:
            part.verdicts.append(Verdict(target, "the peer is absent", None))
            continue
        found = [median(ratios(figures[n], own.Memory.name, peer.name)) for n in sizes]
        plain = [median(ratios(figures[n], raw.Dict.name, peer.name)) for n in sizes]
        shown = f"{_each(found)} (a plain dict alone: {_each(plain)})"
        part.verdicts.append(Verdict(target, shown, max(found) <= limit))
    return part


def _each(values: list[float]) -> str:
    return ", ".join(f"{number(value)}×" for value in values)


def _no_faster(figures: dict[int, Samples], sizes: tuple[int, ...]) -> Verdict:
    def grown(name: str) -> float:
        pairs = zip(figures[sizes[0]][name], figures[sizes[-1]][name], strict=True)
        return median([last / first for first, last in pairs])

    ours, plain = grown(own.Memory.name), grown(raw.Dict.name)
    return Verdict(
        "memory, typed get: from 1k to 1M sessions it grows no faster than a plain dict",
        f"{number(ours)}× against {number(plain)}×"
        + ("" if sizes[-1] == SIZES[-1] else f" at {sizes[-1]:,}"),
        ours <= plain if sizes[-1] == SIZES[-1] else None,
    )


async def _fill(contender: Contender, first: int, last: int) -> None:
    one = message(0)
    if isinstance(contender, raw.ScanAll):
        contender.filling = True
    for at in range(first, last):
        await maybe(contender.append(f"session-{at}", one))
    if isinstance(contender, raw.ScanAll):
        contender.filling = False


async def _job(contender: Contender, size: int) -> Job:
    draw = random.Random(size)
    rounds = iter([[(f"session-{draw.randrange(size)}",) for _ in range(BATCH)] for _ in range(16)])
    count = await fitting(contender.get, next(rounds), 10)

    async def job() -> float:
        return await batch_us(contender.get, next(rounds)[:count])

    return job


async def held(effort: Effort) -> Part:
    """Bytes that Python holds for a session of 20 messages."""
    here, absent = split(HELD)
    count = effort.of(500, 50)
    table = Table(["bytes a session", "held", "× the messages' JSON"])
    raw_bytes = KEEP * 200
    ours = 0.0
    for cls in here:
        progress(cls.name)
        with tempfile.TemporaryDirectory(prefix="statehold-bench-") as folder:
            contender = cls(Path(folder))
            await contender.start()
            await _fill20(contender, 0, 3)
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            some = count // 10 if cls is agents.AdkMemory else count  # it is slow, and the same
            await _fill20(contender, 3, 3 + some)
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / some
            tracemalloc.stop()
            await contender.close()
        ours = each if cls is own.Memory else ours
        table.rows.append([cls.name, number(each), f"{number(each / raw_bytes)}×"])
    return Part(
        "Memory held by a session of 20 messages",
        "`tracemalloc` over the appending of 20 different messages of 200 bytes to each session, ids "
        "included, after a garbage collection. theine keeps part of its data where `tracemalloc` "
        "does not look and is left out.",
        [table],
        [
            Verdict(
                "memory held per 20-message session: at most 6 KB (6,144 bytes)",
                f"{number(ours)} bytes",
                ours <= 6_144,
            )
        ],
        absent,
    )


async def _fill20(contender: Contender, first: int, last: int) -> None:
    made: Any = None
    for at in range(first, last):
        for turn in range(KEEP):
            made = message(at * KEEP + turn)
            await maybe(contender.append(f"session-{at}", made))
