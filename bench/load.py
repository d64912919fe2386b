"""64 writers at once on SQLite, with the number of lost updates; and what a conversation takes on disk."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import asyncio
import inspect
import os
import random
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from bench import contenders_agents as agents
from bench import contenders_langgraph as langgraph
from bench import contenders_own as own
from bench import contenders_raw as raw
from bench.contender import Contender, message, split
from bench.crowd import Tally, at_least, lost, verify
from bench.measure import maybe, median, number, progress, spread
from bench.operations import LONG_KEEP, started
from bench.part import Effort, Part, Table, Verdict

WRITERS = 64
SESSIONS = 1_000
CONTEST: list[type[Contender]] = [
    own.SqliteNormal,
    own.SqliteFull,
    raw.SqliteNormal,
    raw.SqliteFull,
    agents.AgentsSqlite,
    langgraph.LangGraphAsyncSqlite,
    agents.AdkDatabase,
]


async def race(contender: Contender, ids: list[str], seconds: float, tally: Tally) -> None:
    """64 tasks append to these ids at random, 100 times each or until the time is over."""
    call = contender.append
    waits = inspect.iscoroutinefunction(call)
    one = message(0)
    done = 0

    async def writer(number: int) -> None:
        nonlocal done
        draw = random.Random(number)
        for id in draw.choices(ids, k=100):
            try:
                if waits:
                    await call(id, one)
                else:
                    call(id, one)
                    await asyncio.sleep(0)  # let the other writers have their turn
            except Exception:  # noqa: BLE001  a refusal is an answer; it is counted
                tally.refused += 1
            else:
                tally.acknowledged[id] += 1
                done += 1
            if time.perf_counter() > until:
                return

    start = time.perf_counter()
    until = start + seconds
    await asyncio.gather(*(writer(number) for number in range(WRITERS)))
    tally.rates.append(done / (time.perf_counter() - start))


def sync_ms(folder: Path) -> float:
    """How long the disk takes to keep 4 KB: the median of 25."""
    took: list[float] = []
    with (folder / "sync").open("wb") as file:
        for _ in range(25):
            file.write(bytes(4096))
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - start) * 1e3)
    return median(took)


async def writers(effort: Effort) -> Part:
    """One session, then a thousand."""
    here, absent = split(CONTEST)
    table = Table(
        ["operations a second", "sessions", "median", "refused", "lost", "what it cannot do"]
    )
    rates: dict[int, dict[str, list[float]]] = {}
    syncs: list[float] = []
    lost_by_us = 0
    for count in (1, SESSIONS):
        ids = [f"session-{at}" for at in range(effort.of(count, min(count, 30)))]
        tallies = await _races(here, ids, effort, syncs)
        rates[count] = {cls.name: tallies[cls].rates for cls in here}
        for cls, tally in tallies.items():
            if cls in (own.SqliteNormal, own.SqliteFull):
                lost_by_us += tally.lost
            row = [cls.name, f"{len(ids):,}", spread(tally.rates, 1), f"{tally.refused:,}"]
            table.rows.append([*row, lost(tally), cls.lacks])
    part = Part(
        "SQLite: 64 writers at once",
        "64 tasks of one event loop append messages, 100 each per round or until half a second is over; "
        "rounds in turns. Lost updates are what was acknowledged less what the count (without one: the "
        "number of messages) says when it is read back. The hand-written transaction is one commit at a "
        "time, inline. With FULL it is the disk that is measured: to keep 4 KB took it "
        f"{spread(syncs)} ms, in between the rounds.",
        [table],
        absent=absent,
    )
    part.verdicts += _against(rates)
    part.verdicts.append(Verdict("lost updates: 0", f"{lost_by_us:,}", lost_by_us == 0))
    return part


async def _races(
    here: list[type[Contender]], ids: list[str], effort: Effort, syncs: list[float]
) -> dict[type[Contender], Tally]:
    tallies = {cls: Tally() for cls in here}
    async with AsyncExitStack() as stack:
        contenders = {cls: await started(stack, cls) for cls in here}
        for cls, contender in contenders.items():
            progress(f"{len(ids):,} sessions: filling {cls.name}")
            for id in ids:
                await contender.fill(id, 1)
        for at in range(effort.of(11, 2)):
            progress(f"{len(ids):,} sessions, round {at + 1}")
            syncs.append(sync_ms(contenders[own.SqliteFull].folder))
            for cls in here if at % 2 else here[::-1]:
                await race(contenders[cls], ids, 0.5, tallies[cls])
        for cls, contender in contenders.items():
            await verify(contender, tallies[cls])
    return tallies


def _against(rates: dict[int, dict[str, list[float]]]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for count, by_hand, by_peer in ((SESSIONS, 4, 6), (1, 10, 15)):
        words = "1,000 sessions" if count > 1 else "one session"
        for peer, limit, what in (
            (raw.SqliteFull, by_hand, "one commit at a time"),
            (agents.AgentsSqlite, by_peer, "SQLiteSession"),
        ):
            target = f"SQLite FULL, 64 writers on {words}: at least {limit}× {what}"
            ours = own.SqliteFull.name
            verdicts.append(at_least(target, rates[count], ours, peer.name, limit))
    return verdicts


TURNS = 400
TURN_BYTES = 2_048
STORED: list[type[Contender]] = [
    own.LongSqlite,
    raw.LongSqlite,
    agents.AgentsSqlite,
    langgraph.LangGraphSqlite,
    agents.AdkDatabase,
]


def _bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


async def disk(effort: Effort) -> Part:
    """Bytes of all files after 400 turns of 2 KB, once closed."""
    here, absent = split(STORED)
    turns = effort.of(TURNS, 40)
    table = Table(["after closing", "KB", "× the raw bytes"])
    ours = 0.0
    for cls in here:
        progress(cls.name)
        with tempfile.TemporaryDirectory(prefix="statehold-bench-") as folder:
            contender = cls(Path(folder))
            contender.keep = LONG_KEEP
            await contender.start()
            for at in range(turns):
                await maybe(contender.append("session", message(at, TURN_BYTES)))
            last = list(await maybe(contender.read("session")))[-1]
            if last != message(turns - 1, TURN_BYTES).content:
                raise AssertionError(f"{cls.name} has lost the last turn")
            await contender.close()
            size = _bytes_of(Path(folder))
        share = size / (turns * TURN_BYTES)
        ours = share if cls is own.LongSqlite else ours
        table.rows.append([cls.name, number(size / 1024), f"{number(share)}×"])
    return Part(
        "Bytes on disk",
        f"One conversation of {turns} turns of {TURN_BYTES:,} bytes, one append each, all of them kept.",
        [table],
        [
            Verdict(
                f"storage of {turns} turns of 2 KB: at most 1.3× the raw bytes",
                f"{number(ours)}×",
                ours <= 1.3,
            )
        ],
        absent,
    )
