"""64 writers at once on SQLite, with the number of lost updates; and what a conversation takes on disk."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import asyncio
import inspect
import random
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import contenders_agents as agents
from bench import contenders_langgraph as langgraph
from bench import contenders_own as own
from bench import contenders_raw as raw
from bench.contender import Contender, message, split
from bench.measure import maybe, median, number, progress, ratios
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


@dataclass
class Race:
    """What became of the writers' appends."""

    seconds: float
    acknowledged: int
    refused: int
    lost: int

    @property
    def rate(self) -> float:
        return self.acknowledged / self.seconds


async def race(contender: Contender, ids: list[str], each: int, seconds: float) -> Race:
    """64 tasks append to these ids at random, `each` times or until the time is over."""
    before = {id: await _count(contender, id) for id in ids}
    acknowledged: Counter[str] = Counter()
    refused = 0
    call = contender.append
    waits = inspect.iscoroutinefunction(call)
    one = message(0)

    async def writer(number: int) -> None:
        nonlocal refused
        draw = random.Random(number)
        for id in draw.choices(ids, k=each):
            try:
                if waits:
                    await call(id, one)
                else:
                    call(id, one)
                    await asyncio.sleep(0)  # let the other writers have their turn
            except Exception:  # noqa: BLE001  a refusal is an answer; it is counted
                refused += 1
            else:
                acknowledged[id] += 1
            if time.perf_counter() > until:
                return

    start = time.perf_counter()
    until = start + seconds
    await asyncio.gather(*(writer(number) for number in range(WRITERS)))
    took = time.perf_counter() - start
    lost = 0
    for id, count in acknowledged.items():
        lost += max(0, count - (await _count(contender, id) - before[id]))
    return Race(took, acknowledged.total(), refused, lost)


async def _count(contender: Contender, id: str) -> int:
    return int(await maybe(contender.count(id)))


async def writers(effort: Effort) -> Part:
    """One session, then a thousand."""
    here, absent = split(CONTEST)
    rates: dict[int, dict[str, list[float]]] = {}
    table = Table(
        ["operations a second", "sessions", "median", "refused", "lost", "what it cannot do"]
    )
    lost_by_us = 0
    for count in (1, SESSIONS):
        ids = [f"session-{at}" for at in range(effort.of(count, min(count, 30)))]
        rates[count] = {cls.name: [] for cls in here}
        totals = {cls.name: [0, 0, 0] for cls in here}
        async with AsyncExitStack() as stack:
            contenders = [await started(stack, cls) for cls in here]
            for contender in contenders:
                progress(f"{count:,} sessions: filling {contender.name}")
                for id in ids:
                    await contender.fill(id, 1)
            for at in range(effort.of(5, 2)):
                progress(f"{count:,} sessions, round {at + 1}")
                for contender in contenders[at % 2 :] + contenders[: at % 2]:
                    found = await race(contender, ids, 100, effort.of(15, 5) / 10)
                    rates[count][contender.name].append(found.rate)
                    total = totals[contender.name]
                    total[0] += found.acknowledged
                    total[1] += found.refused
                    total[2] += found.lost
        for contender in contenders:
            done, refused, lost = totals[contender.name]
            if contender.name.startswith("holdfast"):
                lost_by_us += lost
            share = f"{lost:,} ({lost / done:.0%})" if done else "-"
            table.rows.append(
                [
                    contender.name,
                    f"{len(ids):,}",
                    number(median(rates[count][contender.name])),
                    f"{refused:,}",
                    share if lost else "0",
                    contender.lacks,
                ]
            )
    part = Part(
        "SQLite: 64 writers at once",
        "64 tasks of one event loop append messages, 100 each per round or until 1.5 s are over; rounds "
        "in turns. Lost updates are what was acknowledged less what the count (without one: the number "
        "of messages) says afterwards. The hand-written transaction is one commit at a time, inline.",
        [table],
        absent=absent,
    )
    part.verdicts += _against(rates)
    part.verdicts.append(Verdict("lost updates: 0", f"{lost_by_us:,}", lost_by_us == 0))
    return part


def _against(rates: dict[int, dict[str, list[float]]]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for count, by_hand, by_peer in ((SESSIONS, 4, 6), (1, 10, 15)):
        words = "1,000 sessions" if count > 1 else "one session"
        for peer, limit, what in (
            (raw.SqliteFull, by_hand, "one commit at a time"),
            (agents.AgentsSqlite, by_peer, "SQLiteSession"),
        ):
            target = f"SQLite FULL, 64 writers on {words}: at least {limit}× {what}"
            if peer.name not in rates[count]:
                verdicts.append(Verdict(target, "the peer is absent", None))
                continue
            ratio = median(ratios(rates[count], own.SqliteFull.name, peer.name))
            verdicts.append(Verdict(target, f"{number(ratio)}×", ratio >= limit))
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
        with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
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
