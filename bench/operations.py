"""Single operations of one client, in memory and on SQLite, and how they grow with the history."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench import contenders_agents as agents
from bench import contenders_caches as caches
from bench import contenders_langgraph as langgraph
from bench import contenders_own as own
from bench import contenders_raw as raw
from bench.contender import KEEP, Contender, message, split, works
from bench.measure import (
    Job,
    Samples,
    batch_us,
    fitting,
    interleave,
    median,
    number,
    p50_us,
    progress,
    ratios,
    spread,
)
from bench.part import Effort, Part, Table, Verdict

IN_MEMORY: list[type[Contender]] = [
    own.Memory,
    own.MemorySync,
    raw.Dict,
    caches.Cachetools,
    caches.CachetoolsEncoded,
    caches.Theine,
    caches.Cashews,
    raw.ScanAll,
    langgraph.LangGraphMemory,
    agents.AdkMemory,
]
ON_SQLITE: list[type[Contender]] = [
    own.SqliteNormal,
    own.SqliteFull,
    raw.SqliteNormal,
    raw.SqliteFull,
    agents.AgentsSqlite,
    langgraph.LangGraphSqlite,
    langgraph.LangGraphAsyncSqlite,
    agents.AdkDatabase,
]
STORED = (10, 100, 1_000, 10_000, 100_000)
OPERATIONS = ("append", "read", "set3", "get")
SESSIONS = 100
FEW = 20


async def started(stack: AsyncExitStack, cls: type[Contender]) -> Contender:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="statehold-bench-"))
    contender = cls(Path(folder))
    await contender.start()
    stack.push_async_callback(contender.close)
    return contender


def arguments(operation: str, count: int, sessions: int) -> list[tuple[Any, ...]]:
    ids = [f"session-{at}" for at in range(sessions)]
    if operation == "append":
        return [(ids[at % sessions], message(at)) for at in range(count)]
    if operation == "set3":
        return [(ids[at % sessions], "blue", at, at / 7) for at in range(count)]
    return [(ids[at % sessions],) for at in range(count)]


async def operation_samples(
    contenders: list[Contender],
    operation: str,
    rounds: int,
    *,
    ms: float,
    sessions: int = SESSIONS,
    single: bool = False,
) -> Samples:
    jobs: dict[str, Job] = {}
    for contender in contenders:
        call = getattr(contender, operation)
        if call is None:
            continue
        given = arguments(operation, 4_000, sessions)
        given = given[: await fitting(call, given, ms)]

        async def job(call: Any = call, given: Any = given) -> float:
            return await (p50_us if single else batch_us)(call, given)

        jobs[contender.name] = job
    return await interleave(jobs, rounds)


async def operations(
    classes: list[type[Contender]],
    rounds: int,
    *,
    ms: float,
    sessions: int = SESSIONS,
    single: bool = False,
) -> tuple[dict[str, Samples], Table, list[str]]:
    here, absent = split(classes)
    async with AsyncExitStack() as stack:
        contenders = [await started(stack, cls) for cls in here]
        for contender in contenders:
            await works(contender)
            progress(f"filling {contender.name}")
            for at in range(sessions):
                await contender.fill(f"session-{at}", KEEP)
        samples: dict[str, Samples] = {}
        for operation in OPERATIONS:
            progress(f"{operation}: {len(contenders)} contenders")
            samples[operation] = await operation_samples(
                contenders, operation, rounds, ms=ms, sessions=sessions, single=single
            )
    table = Table(["µs", "append + count", "read 20", "set 3", "get", "what it cannot do"])
    for contender in contenders:
        cells = [samples[op].get(contender.name) for op in OPERATIONS]
        figures = ["-" if cell is None else spread(cell) for cell in cells]
        table.rows.append([contender.name, *figures, contender.lacks])
    return samples, table, absent


def against(samples: Samples, ours: str, theirs: type[Contender]) -> float | None:
    """Ours / theirs, the median of the rounds' ratios; None if they are absent."""
    if theirs.name not in samples or ours not in samples:
        return None
    return median(ratios(samples, ours, theirs.name))


def at_most(target: str, ratio: float | None, limit: float, what: str = "") -> Verdict:
    if ratio is None:
        return Verdict(target, "the peer is absent", None)
    return Verdict(target, f"{number(ratio)}×{what}", ratio <= limit)


async def memory(effort: Effort) -> Part:
    """Append, read, set and get in memory."""
    samples, table, absent = await operations(
        IN_MEMORY, effort.of(41, 5), ms=6, sessions=effort.of(SESSIONS, FEW)
    )
    part = Part(
        "Memory: one client",
        "Over 100 sessions of 20 messages. Messages "
        "are frozen objects made beforehand. statehold checks and encodes each message, so that what is "
        "stored is what was typed and cannot be changed from outside; “values encoded” is "
        "cachetools with the same promise.",
        [table],
        absent=absent,
    )
    ours = own.Memory.name
    for operation, words in (("get", "typed get"), ("append", "append with a count")):
        found = samples[operation]
        part.verdicts += [
            at_most(
                f"memory, {words}: at most 1/3 of cashews' {'get' if operation == 'get' else 'get and set'}",
                against(found, ours, caches.Cashews),
                1 / 3,
            ),
            at_most(
                f"memory, {words}: faster than cachetools behind a lock, values encoded",
                against(found, ours, caches.CachetoolsEncoded),
                1,
            ),
            at_most(
                f"memory, {words}: faster than cachetools behind a lock, objects shared",
                against(found, ours, caches.Cachetools),
                1,
            ),
        ]
    return part


async def sqlite(effort: Effort) -> Part:
    """The same on SQLite."""
    samples, table, absent = await operations(
        ON_SQLITE, effort.of(15, 3), ms=effort.of(60, 20), sessions=effort.of(FEW, 4), single=True
    )
    part = Part(
        "SQLite: one client",
        "The same work on a file in the temporary folder; p50 of single calls in a round, the median "
        "of the rounds. The peers run with the settings that they come with: in WAL mode "
        "`synchronous=FULL` (SQLiteSession, LangGraph), a rollback journal (ADK).",
        [table],
        absent=absent,
    )
    append, ours = samples["append"], own.SqliteNormal.name
    part.verdicts.append(
        at_most(
            "SQLite NORMAL, append with a count: p50 at most 2× the transaction by hand",
            against(append, ours, raw.SqliteNormal),
            2,
        )
    )
    target = "SQLite NORMAL, the same: at least 6× faster than SQLiteSession"
    share = against(append, ours, agents.AgentsSqlite)
    full = against(append, own.SqliteFull.name, agents.AgentsSqlite)
    if share is None or full is None:
        part.verdicts.append(Verdict(target, "the peer is absent", None))
    else:
        measured = f"{number(1 / share)}× (its commits wait for the disk; ours with FULL: {number(1 / full)}×)"
        part.verdicts.append(Verdict(target, measured, 1 / share >= 6))
    return part


LONG: list[type[Contender]] = [
    own.LongMemory,
    raw.LongDict,
    caches.Cashews,
    own.LongSqlite,
    raw.LongSqlite,
    agents.AgentsSqlite,
    langgraph.LangGraphSqlite,
    agents.AdkDatabase,
]
LONG_KEEP = 200_000
TOO_SLOW_US = 50_000


async def growth(effort: Effort) -> Part:
    """Append at ever longer histories."""
    here, absent = split(LONG)
    figures: dict[str, dict[int, list[float]]] = {cls.name: {} for cls in here}
    stopped: dict[str, str] = {}
    for stored in STORED[: effort.of(5, 2)]:
        progress(f"{stored:,} messages stored")
        async with AsyncExitStack() as stack:
            jobs: dict[str, Job] = {}
            for cls in here:
                if cls.name in stopped:
                    continue
                if cls is agents.AdkDatabase and stored > 1_000:
                    stopped[cls.name] = "stopped: filling takes minutes"
                    continue
                contender = await started(stack, cls)
                contender.keep = LONG_KEEP
                await contender.fill("long", stored)
                given = [("long", message(stored + at)) for at in range(400)]
                given = given[: await fitting(contender.append, given, effort.of(50, 20))]

                async def job(call: Any = contender.append, given: Any = given) -> float:
                    return await p50_us(call, given)

                jobs[cls.name] = job
            for name, values in (await interleave(jobs, effort.of(9, 3))).items():
                figures[name][stored] = values
                if median(values) > TOO_SLOW_US:
                    stopped[name] = "stopped: over 50 ms"
    sizes = STORED[: effort.of(5, 2)]
    table = Table(["µs, p50", *(f"{size:,}" for size in sizes), "last / first"])
    for name, row in figures.items():
        cells = [
            number(median(row[size])) if size in row else stopped.get(name, "-") for size in sizes
        ]
        grown = median(row[max(row)]) / median(row[min(row)])
        table.rows.append([name, *cells, f"{number(grown)}× at {max(row):,}"])
    part = Part(
        "Append to long histories",
        "One session with a bound of 200,000 messages, which already holds so many; p50 of single "
        "appends. Contenders without a bound keep everything anyway; LangGraph's history is one value. "
        "A contender stops where an append takes more than 50 ms or filling takes minutes.",
        [table],
        absent=absent,
    )
    ours = figures[own.LongSqlite.name]
    smallest, largest = min(ours), max(ours)
    flat = median([b / a for a, b in zip(ours[smallest], ours[largest], strict=True)])
    part.verdicts.append(
        Verdict(
            f"SQLite NORMAL, append: flat within 1.3× from {smallest:,} to 100,000 stored messages",
            f"{number(flat)}× at {largest:,}",
            flat <= 1.3 if largest == STORED[-1] else None,
        )
    )
    return part
