"""One state that up to 4,096 tasks write to."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

from collections.abc import Sequence

from bench.contender import message
from bench.measure import median, number, progress
from bench.part import Effort, Part, Plot, Table, Verdict
from bench.scale.places import PLACES, Place, edits, everywhere, opened
from bench.scale.tasks import CELLS, Crowd, cells, crowd

WRITERS = (1, 8, 64, 512, 4_096)
FEW, MANY = 64, 4_096


async def hot(effort: Effort, places: Sequence[str] = PLACES) -> Part:
    rounds, seconds = effort.of(5, 2), effort.of(15, 8) / 10
    columns = ["", "writers", *CELLS, "fewest / most of a task", "by hand, a second"]
    part = Part(
        "One hot state",
        f"So many tasks append a message and add one, in turns of {seconds:g} s; medians of {rounds} rounds. By hand on PostgreSQL "
        "with a pool of 10.",
        [Table(columns)],
        plots=[Plot("hot", "One state, so many writers", "writers", "commits a second")],
    )

    async def measure(name: str) -> None:
        async with opened(name, hand=True) as place:
            found: dict[int, list[Crowd]] = {writers: [] for writers in WRITERS}
            hand: dict[int, list[float]] = {writers: [] for writers in WRITERS}
            for at in range(rounds):
                progress(f"{name}: round {at + 1}")
                for writers in WRITERS if at % 2 else WRITERS[::-1]:
                    found[writers].append(await _ours(place, writers, seconds))
                    if place.hand and writers <= FEW:
                        hand[writers].append(await _by_hand(place, writers, seconds))
            kept = (await place.chats.get("hot")).turns
        made = sum(sum(each.done) for crowds in found.values() for each in crowds)
        assert kept == made, f"{name} has {kept} of {made}"
        for writers, crowds in found.items():
            fair = f"{min(min(c.done) for c in crowds)} / {max(max(c.done) for c in crowds)}"
            bare = number(median(hand[writers])) if hand[writers] else "-"
            part.tables[0].rows.append([name, f"{writers:,}", *cells(crowds), fair, bare])
        rates = {writers: median([c.rate for c in crowds]) for writers, crowds in found.items()}
        part.plots[0].lines[name] = list(rates.items())
        pairs = zip(found[MANY], found[FEW], strict=True)
        ratio = median([many.rate / few.rate for many, few in pairs])
        target = f"{name}, one state: {MANY:,} writers: at least 0.6× the rate of {FEW}"
        part.verdicts.append(Verdict(target, f"{number(ratio)}×", ratio >= 0.6))

    return await everywhere(part, places, measure)


async def _ours(place: Place, writers: int, seconds: float) -> Crowd:
    chats = place.chats
    return await crowd(lambda _task, _at: chats.apply("hot", *edits()), writers, seconds)


async def _by_hand(place: Place, writers: int, seconds: float) -> float:
    one = message(0)
    call = place.hand.append
    return (await crowd(lambda _task, _at: call("hot", one), writers, seconds)).rate
