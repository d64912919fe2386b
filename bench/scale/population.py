"""What a single state and a page take as the states become a million."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from bench.contender import message
from bench.measure import (
    Job,
    Samples,
    interleave,
    maybe,
    median,
    number,
    p50_us,
    progress,
    ratios,
)
from bench.part import Effort, Part, Plot, Table, Verdict
from bench.scale.places import PLACES, Place, edits, everywhere, fill, id_of, opened

SIZES = (10_000, 100_000, 1_000_000)
QUICK = (1_000, 10_000)
PAGE = 500
BESIDE = 100
"""States that are born, and as many that are deleted, between two pages."""
PERSON = 10_000
"""States of one subject."""
ANN = {"subject": "ann"}
PAGES: dict[str, dict[str, Any]] = {
    "scan": {},
    "of a prefix": {"prefix": "a"},
    "of a subject's": ANN,
    "newest first": {**ANN, "newest": True},
}
*BY_ID, NEWEST = PAGES
SINGLE = "apply", "get"


async def population(effort: Effort, places: Sequence[str] = PLACES) -> Part:
    sizes = QUICK if effort.quick else SIZES
    columns = ["p50", *(f"{size:,}" for size in sizes), "last / first", "by hand, last"]
    part = Part(
        "Populations",
        f"All sizes are there at once and take turns, round by round. Ids are drawn at random. Between two pages of "
        f"{PAGE} come {BESIDE} births and as many deletions; {min(PERSON, sizes[-1]):,} of the states are one subject's. By hand a page is one "
        "range of an index (of a sorted list), without asking whether what it lists lives.",
        [Table(columns, about="µs"), Table(columns, about=f"ms, a page of {PAGE}")],
        plots=[
            Plot("single", "A single state, p50", "states", "µs"),
            Plot("pages", f"A page of {PAGE}, the slowest order, p50", "states", "ms", limit=10),
        ],
    )

    async def measure(name: str) -> None:
        async with AsyncExitStack() as stack:
            jobs: dict[str, Job] = {}
            for size in sizes:
                progress(f"{name}: {size:,} states")
                last = size == sizes[-1]
                place = await stack.enter_async_context(opened(name, hand=last))
                jobs |= await _jobs(place, size, effort)
            _tell(part, name, sizes, await interleave(jobs, effort.of(5, 2)))

    return await everywhere(part, places, measure)


async def _jobs(place: Place, size: int, effort: Effort) -> dict[str, Job]:
    ids = [id_of(at) for at in range(size)]
    every = max(1, size // PERSON)
    await fill(place.chats, [id for at, id in enumerate(ids) if at % every])
    await fill(place.chats, ids[::every], **ANN)
    chats, hand, draw = place.chats, place.hand, random.Random(size)

    def single(call: Any, *more: Any) -> Job:
        async def job() -> float:
            given = [(draw.choice(ids), *more) for _ in range(effort.of(2_000, 200))]
            return await p50_us(call, given, effort.of(4, 1) / 10)

        return job

    async def apply(id: str) -> None:
        await chats.apply(id, *edits())

    jobs = {f"apply {size}": single(apply), f"get {size}": single(chats.get)}
    listed = {name: _Listing(place, about).page for name, about in PAGES.items()}
    jobs |= {f"{name} {size}": job for name, job in listed.items()}
    if hand:
        await maybe(hand.fill_all(ids))
        jobs["by hand apply"] = single(hand.append, message(0))
        jobs["by hand get"] = single(hand.get)
        jobs["by hand scan"] = _ByHand(hand).page
    return jobs


class _Listing:
    """A listing that goes on page by page, while states are born and die."""

    def __init__(self, place: Place, about: dict[str, Any]) -> None:
        self.chats, self.about = place.chats, about
        self.cursor: str | None = None
        self.born: list[str] = []

    async def page(self) -> float:
        """Milliseconds of the next full page, the median of three."""
        took: list[float] = []
        while len(took) < 3:
            for first in range(0, len(self.born), BESIDE):
                some = self.born[first : first + BESIDE]
                await asyncio.gather(*(self.chats.delete(id) for id in some))
            self.born = [id_of(random.getrandbits(40)) for _ in range(BESIDE)]
            await fill(self.chats, self.born, **ANN)
            began = time.perf_counter()
            ids, self.cursor = await self.chats.scan_page(
                limit=PAGE, cursor=self.cursor, **self.about
            )
            if len(ids) == PAGE:
                took.append((time.perf_counter() - began) * 1e3)
        return median(took)


class _ByHand:
    """Likewise by hand; who is born stays."""

    def __init__(self, hand: Any) -> None:
        self.hand, self.last = hand, ""

    async def page(self) -> float:
        took: list[float] = []
        for _ in range(3):
            born = {id_of(random.getrandbits(40)) for _ in range(BESIDE)}
            await maybe(self.hand.fill_all([f"c{id}" for id in born]))
            began = time.perf_counter()
            ids = await maybe(self.hand.page(self.last, PAGE))
            took.append((time.perf_counter() - began) * 1e3)
            self.last = ids[-1] if len(ids) == PAGE else ""
        return median(took)


def _tell(part: Part, name: str, sizes: Sequence[int], samples: Samples) -> None:
    first, last = sizes[0], sizes[-1]
    grown: dict[str, float] = {}
    for table, plot, whats in zip(part.tables, part.plots, (SINGLE, tuple(PAGES)), strict=True):
        for what in whats:
            cells = [number(median(samples[f"{what} {size}"])) for size in sizes]
            grown[what] = median(ratios(samples, f"{what} {last}", f"{what} {first}"))
            hand = samples.get(f"by hand {what}")
            baseline = number(median(hand), 3) if hand else "-"
            table.rows.append([f"{name}, {what}", *cells, f"{number(grown[what])}×", baseline])
        for line, shown in (
            [(what, [what]) for what in whats] if plot.limit is None else [("", whats)]
        ):
            worst = [max(median(samples[f"{what} {n}"]) for what in shown) for n in sizes]
            plot.lines[f"{name}, {line}".removesuffix(", ")] = list(zip(sizes, worst, strict=True))
    ratio = max(grown[what] for what in SINGLE)
    part.verdicts.append(
        Verdict(
            f"{name}: p50 of a single state at {last:,}: at most 1.5× that at {first:,}",
            f"{number(ratio)}×",
            ratio <= 1.5,
        )
    )
    for words, whats in (("by ids", BY_ID), (NEWEST, [NEWEST])):
        slowest = max(median(samples[f"{what} {last}"]) for what in whats)
        target = (
            f"{name}: a page of {PAGE} at {last:,}, {words}, births beside it: p50 at most 10 ms"
        )
        part.verdicts.append(Verdict(target, f"{number(slowest)} ms", slowest <= 10))
