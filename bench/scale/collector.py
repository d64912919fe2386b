"""Python's garbage collector among a million states in memory, and the worst call once the budget is spent."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.contender import message
from bench.expiry import Pauses
from bench.measure import maybe, number, progress
from bench.part import Effort, Part, Table, Verdict
from bench.scale.by_hand import Dict
from bench.scale.places import Place, edits, id_of, opened
from bench.scale.population import QUICK, SIZES

CALLS = 20_000
DAY = 86_400.0
ROWS = {
    "made": "a state is made, µs",
    "garbage": "  of which the collector takes",
    "objects": "objects that it walks, each state",
    "full": "a full collection, ms",
    "frozen": "  after `gc.freeze()`",
    "spent": "the worst call with the budget spent, ms",
    "over": "  how far over the budget, %",
}

Figures = dict[str, float]


async def collector(effort: Effort) -> Part:
    sizes = QUICK if effort.quick else SIZES
    found: list[Figures] = []
    for size in sizes:
        progress(f"{size:,} states in memory")
        async with opened("memory", moves=True) as place:
            chats = place.chats
            ours = await _filled(size, lambda its, chats=chats: chats.apply(its, *edits()))
            gc.freeze()
            gc.disable()
            try:
                ours |= await _spent(place, size)
            finally:
                gc.enable()
                gc.unfreeze()
        found.append(ours)
    hand, one = Dict(Path()), message(0)
    await hand.start()
    bare = await _filled(sizes[-1], lambda its: hand.append(its, one))
    table = Table(["", *(f"{size:,}" for size in sizes), f"dict by hand, {sizes[-1]:,}"])
    for name, words in ROWS.items():
        baseline = number(bare[name], 3) if name in bare else "-"
        table.rows.append([words, *(number(each[name], 3) for each in found), baseline])
    worst = found[-1]["spent"]
    return Part(
        "Memory: Python's garbage collector, and a spent budget",
        "By processor time. While states are made the collector runs when it wants. With the budget spent each new "
        "state takes the place of another, after all were renewed at half of their life; that is without "
        "the collector.",
        [table],
        [
            Verdict(
                f"memory, the budget spent: worst call at {sizes[-1]:,} at most 5 ms",
                f"{number(worst)} ms",
                worst <= 5,
            )
        ],
    )


def _ms(call: Callable[[], object]) -> float:
    began = time.thread_time_ns()
    call()
    return (time.thread_time_ns() - began) / 1e6


async def _filled(size: int, make: Callable[[str], Any]) -> Figures:
    """What it takes to make so many, and what the collector then takes."""
    ids = [id_of(at) for at in range(size)]
    gc.collect()
    gc.freeze()  # what was there before
    pauses = Pauses()
    gc.callbacks.append(pauses)
    began = time.thread_time_ns()
    for id in ids:
        await maybe(make(id))
    took = time.thread_time_ns() - began
    gc.callbacks.remove(pauses)
    gc.collect()
    full, objects = _ms(gc.collect), len(gc.get_objects())
    gc.freeze()
    frozen = _ms(gc.collect)
    gc.unfreeze()
    return {
        "made": took / size / 1e3,
        "garbage": pauses.total / size / 1e3,
        "objects": objects / size,
        "full": full,
        "frozen": frozen,
    }


async def _spent(place: Place, size: int) -> Figures:
    chats: Any = place.chats
    driver: Any = place.store.driver
    assert place.clock is not None
    place.clock.advance(DAY / 2)
    for at in range(size):
        await chats.touch(id_of(at))
        if not at % max(1, size // 100):
            place.clock.advance(1)
    budget = driver._states.budget = driver._states.most = driver._states.nbytes
    over, worst = 0, 0
    for at in range(CALLS):
        began = time.thread_time_ns()
        await chats.apply(f"new {at}", *edits())
        worst = max(worst, time.thread_time_ns() - began)
        over = max(over, driver._states.nbytes - budget)
    return {"spent": worst / 1e6, "over": 100 * over / budget}
