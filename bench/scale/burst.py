"""Half a million states end at once while 64 writers go on with a thousand that live."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

from bench.contender import message
from bench.measure import number, progress, quantile
from bench.part import Effort, Part, Plot, Table, Verdict
from bench.scale.places import PLACES, Place, edits, everywhere, fill, id_of, opened, unheld
from bench.scale.tasks import CELLS, cells, crowd

STATES = 500_000
LIVE = [f"live {at}" for at in range(1_000)]
WRITERS = 64


async def burst(effort: Effort, places: Sequence[str] = PLACES) -> Part:
    states, before, during = effort.of(STATES, 10_000), effort.of(8, 1), effort.of(15, 2)
    labels = ["p99, before", "p99, while", "worst, before", "worst, while"]
    title = f"Calls around the end of {states:,} states"
    part = Part(
        f"A burst: {states:,} states end at once",
        f"{WRITERS} tasks write to {len(LIVE):,} states that live, for {before} s, and for {during} s from the instant at "
        "which the others end. They share a process, with Python's garbage collector on; what was there when "
        "they began is frozen. The minute for which PostgreSQL keeps what has ended is left out. By hand "
        "nothing ends.",
        [Table(["", *CELLS, "stored afterwards"])],
        plots=[Plot("burst", title, "", "ms", labels=labels, limit=50)],
    )

    async def measure(name: str) -> None:
        async with opened(name, moves=True, hand=True) as place:
            await fill(place.chats, LIVE)
            progress(f"{name}: filling {states:,}")
            end = await _filled(place, states, before)
            gc.collect()
            gc.freeze()
            try:
                await _measured(part, place, end, before, during)
            finally:
                gc.unfreeze()

    with unheld():
        return await everywhere(part, places, measure)


async def _filled(place: Place, states: int, before: float) -> float:
    """There are so many more states, which all end at the time that is returned."""
    ids = [id_of(at) for at in range(states)]
    some = ids[: states // 20]
    began = place.now()
    await fill(place.chats, some, lambda: 80_000)
    each = (place.now() - began) / len(some)  # nothing where the clock is moved by hand
    end = place.now() + 1.6 * each * states + before + 3
    await fill(place.chats, ids, lambda: max(0.001, end - place.now()))
    return end


async def _measured(part: Part, place: Place, end: float, before: float, during: float) -> None:
    async def apply(id: str) -> None:
        await place.chats.apply(id, *edits())

    calm = await crowd(_on(LIVE, apply), WRITERS, before)
    late = place.now() > end
    await place.passes(end - place.now())
    busy = await crowd(_on(LIVE, apply), WRITERS, during)
    rows = part.tables[0].rows
    rows.append([f"{place.name}, before", *cells([calm]), "-"])
    rows.append([f"{place.name}, while", *cells([busy]), f"{place.count():,}"])
    if place.hand:
        one = message(0)
        hand = await crowd(_on(LIVE, lambda its: place.hand.append(its, one)), WRITERS, before / 2)
        rows.append([f"{place.hand.name}, nothing ends", *cells([hand]), "-"])
    figures = [quantile(each.ms, share) for share in (0.99, 1) for each in (calm, busy)]
    part.plots[0].lines[place.name] = list(enumerate(figures))
    worst, ratio, lag = figures[-1], busy.rate / calm.rate, calm.lag.p99
    of = f"{place.name}, while they end"
    part.verdicts += [
        Verdict(f"{of}: worst call at most 50 ms", f"{number(worst)} ms", _told(worst <= 50, late)),
        Verdict(f"{of}: at least 0.6× the rate", f"{number(ratio)}×", _told(ratio >= 0.6, late)),
        Verdict(
            f"{place.name}, {WRITERS} writers: p99 of the event loop's lag at most 10 ms",
            f"{number(lag)} ms",
            lag <= 10,
        ),
    ]


def _on(ids: Sequence[str], call: Any) -> Any:
    """Each task calls with one after the other."""
    return lambda task, at: call(ids[(31 * task + 7 * at) % len(ids)])


def _told(reached: bool, late: bool) -> bool | None:
    """Filling took longer than was thought: they had ended before."""
    return None if late else reached
