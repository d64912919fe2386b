"""statehold against itself: the sync and the async API, the import, the example service."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path

from bench import contenders_own as own
from bench.contender import KEEP, Contender, works
from bench.measure import median, number, progress, spread
from bench.operations import OPERATIONS, SESSIONS, operation_samples, started
from bench.part import Effort, Part, Table, Verdict

SRC = Path(__file__).parents[1] / "src"


async def faces(effort: Effort) -> Part:
    """What the sync API costs over the async one, in memory."""
    table = Table(["µs", "async", "sync", "sync over async"])
    extra: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        both: list[Contender] = [await started(stack, cls) for cls in (own.Memory, own.MemorySync)]
        for contender in both:
            await works(contender)
            for at in range(SESSIONS):
                await contender.fill(f"session-{at}", KEEP)
        for operation in OPERATIONS:
            progress(operation)
            samples = await operation_samples(both, operation, effort.of(81, 9), ms=6)
            one, two = samples[own.Memory.name], samples[own.MemorySync.name]
            extra[operation] = median([b - a for a, b in zip(one, two, strict=True)])
            table.rows.append([operation, spread(one), spread(two), f"{extra[operation]:+.2f}"])
    worst = max(extra, key=extra.__getitem__)
    return Part(
        "The sync API over memory",
        "Batches in turns; the differences are taken within a round.",
        [table],
        [
            Verdict(
                "sync API over memory: at most 0.5 µs more than the async one",
                f"{extra['get']:+.2f} µs get, {extra['append']:+.2f} µs append,"
                f" at most {extra[worst]:+.2f} µs ({worst})",
                extra[worst] <= 0.5,
            )
        ],
    )


async def imports(effort: Effort) -> Part:
    """`import statehold` over a bare interpreter."""
    found: dict[str, list[tuple[float, float]]] = {"pass": [], "import statehold": []}
    with tempfile.TemporaryDirectory(prefix="statehold-bench-") as cache:
        environment = {
            **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPYCACHEPREFIX": cache,  # compiled once, as an installed package is
            "PYTHONPATH": str(SRC),
        }

        def run(code: str) -> tuple[float, float]:
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)
            wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            return wall * 1e3, cpu * 1e3

        run("import statehold")
        for _ in range(effort.of(60, 8)):
            for code, samples in found.items():
                samples.append(await asyncio.to_thread(run, code))
    table = Table(["ms", "bare", "import statehold", "difference"])
    over: list[float] = []
    for at, what in enumerate(("wall", "processor time")):
        bare, whole = ([sample[at] for sample in samples] for samples in found.values())
        over = [b - a for a, b in zip(bare, whole, strict=True)]
        table.rows.append([what, spread(bare), spread(whole), spread(over)])
    return Part(
        "Import",
        "A new process each, in turns; bytecode compiled beforehand. The target is judged by processor "
        "time, which other programs on the machine disturb less.",
        [table],
        [
            Verdict(
                "import statehold: at most 60 ms over a bare interpreter",
                f"{number(median(over))} ms",
                median(over) <= 60,
            )
        ],
    )


async def http(effort: Effort) -> Part:
    """The example service, by `bench.http`."""
    title = "HTTP: FastAPI appending one message"
    target = "the example service: at least 75 % of the same server's empty route"
    try:
        module = import_module("bench.http")
        rows = await asyncio.to_thread(
            module.measure, rounds=effort.of(7, 2), seconds=effort.of(20, 5) / 10
        )
    except ImportError as error:
        return Part(
            title, f"Not measured: {error}.", verdicts=[Verdict(target, "not measured", None)]
        )
    except OSError as error:
        return Part(title, f"It failed: {error}.", verdicts=[Verdict(target, "failed", None)])
    table = Table(["route", "requests a second", "share of empty", "server CPU µs", "share by CPU"])
    for row in rows:
        rate = (row["requests_per_second"], row["lowest"], row["highest"])
        table.rows.append(
            [
                row["route"],
                f"{rate[0]:,.0f} ({rate[1]:,.0f} to {rate[2]:,.0f})",
                f"{row['share_of_empty']:.0%}",
                number(row["server_cpu_us"]),
                f"{row['share_by_cpu']:.0%}",
            ]
        )
    share = next(row["share_of_empty"] for row in rows if row["route"] == "append")
    return Part(
        title,
        " ".join((module.__doc__ or "").split()),
        [table],
        [Verdict(target, f"{share:.0%}", share >= 0.75)],
    )
