"""A small field beside a large one, and what reading or deleting a large state does to everybody else."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from bench.contender import message
from bench.measure import interleave, maybe, median, number, p50_us, progress, ratios
from bench.part import Effort, Part, Table, Verdict
from bench.scale.places import PLACES, Place, everywhere, opened
from bench.scale.tasks import Lag
from statehold import AsyncStore, Counter, Log, Map, State, Tally

WORDS = 100_000
LINES = 20_000
LINE = "x" * 1_000


class Large(State, ttl=timedelta(days=1), kind="bench_large", limit_bytes="1GiB"):
    """What may be large beside what is small."""

    lines = Log(str, keep=100_000, max_bytes=2_000)
    words = Tally(str, keep=1_000_000)
    filters = Map(str, str, keep=64)
    turns = Counter()


Call = Callable[[Any, str], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "get a counter": lambda large, its: large.get(its, fields=["turns"]),
    "get a map of one entry": lambda large, its: large.get(its, fields=["filters"]),
    "add to the counter": lambda large, its: large.apply(its, Large.turns.add(1)),
    "add to the tally": lambda large, its: large.apply(its, Large.words.add("w0")),
    "put the entry": lambda large, its: large.apply(its, Large.filters.put("a", "b")),
    "its end moves": lambda large, its: large.touch(
        its, ttl=20_000 + time.monotonic() % 1 * 60_000
    ),
}


async def neighbours(effort: Effort, places: Sequence[str] = PLACES) -> Part:
    words, lines = effort.of(WORDS, 10_000), effort.of(LINES, 2_000)
    part = Part(
        "Large states",
        f"The large state has a tally of {words:,} entries and a log of {lines:,} × 1 KB. A small field of it against the same in a small "
        "state, in turns. By hand it is one of 100 messages that is read and appended to. Then how late "
        "the event loop of the same process comes to what is due while the large state is read, or deleted.",
        [
            Table(["µs, p50", "call", "small", "beside the large", "ratio", "by hand"]),
            Table(["ms", "call", "takes", "loop lag, worst"]),
        ],
    )

    async def measure(name: str) -> None:
        async with opened(name, hand=True) as place:
            progress(f"{name}: filling the large state")
            await _filled(place.store, "small", 1, 1)
            await _filled(place.store, "large", words, lines)
            ratio = await _beside(part.tables[0], place, effort)
            late = await _large(part.tables[1], place, effort.of(7, 2))
        target = f"{name}: a small field beside {words:,} entries: at most 2× that of a small state"
        part.verdicts.append(Verdict(target, f"{number(ratio)}×", ratio <= 2))
        for what, lag in late.items():
            target = f"{name}: while a large state is {what}, the event loop is at most 20 ms late"
            part.verdicts.append(Verdict(target, f"{number(lag)} ms", lag <= 20))

    return await everywhere(part, places, measure)


async def _filled(store: AsyncStore, id: str, words: int, lines: int) -> None:
    large = store.collection(Large)
    await large.apply(id, Large.filters.put("a", "b"), Large.turns.add(1))
    for first in range(0, words, 5_000):
        last = min(words, first + 5_000)
        await large.apply(id, *(Large.words.add(f"w{n}") for n in range(first, last)))
    for first in range(0, lines, 1_000):
        await large.apply(id, Large.lines.extend([LINE] * min(1_000, lines - first)))


async def _beside(table: Table, place: Place, effort: Effort) -> float:
    """The highest ratio."""
    large, hand, one, worst = place.store.collection(Large), place.hand, message(0), 0.0
    if hand:
        await hand.fill("hand", 100)
    given = [()] * effort.of(300, 50)
    for what, call in CALLS.items():

        async def of(id: str, call: Call = call) -> float:
            async def once() -> None:
                await call(large, id)

            return await p50_us(once, given, 1.0)

        async def by_hand(reads: bool = what.startswith("get")) -> float:
            async def once() -> None:
                await maybe(hand.get("hand") if reads else hand.append("hand", one))

            return await p50_us(once, given, 1.0)

        jobs: dict[str, Any] = {
            "small": lambda of=of: of("small"),
            "large": lambda of=of: of("large"),
        }
        samples = await interleave(jobs | ({"hand": by_hand} if hand else {}), effort.of(7, 2))
        ratio = median(ratios(samples, "large", "small"))
        worst = max(worst, ratio)
        figures = [number(median(samples[who])) for who in ("small", "large")]
        baseline = number(median(samples["hand"])) if hand else "-"
        table.rows.append([place.name, what, *figures, f"{number(ratio)}×", baseline])
    return worst


async def _large(table: Table, place: Place, times: int) -> dict[str, float]:
    """How late the event loop is at worst, the median of the reads; and of one deletion."""
    large = place.store.collection(Large)
    late: dict[str, list[float]] = {"read": [], "deleted": []}
    took: dict[str, list[float]] = {"read": [], "deleted": []}
    for what in [*["read"] * times, "deleted"]:
        async with Lag() as lag:
            began = time.perf_counter()
            await (large.get("large") if what == "read" else large.delete("large"))
            took[what].append((time.perf_counter() - began) * 1e3)
        late[what].append(lag.worst)
    for what, lags in late.items():
        figures = number(median(took[what])), number(median(lags))
        table.rows.append([place.name, f"it is {what}", *figures])
    return {what: median(ms) for what, ms in late.items()}
