"""A million states in memory: `python -m bench.scale_memory`, or with `--sizes 10000 100000`.

Everything is told by processor time, so that other programs on the machine do not count, and worst calls
without Python's garbage collector, which has rows of its own. Beside each figure that has one stands
what a dict does that is written by hand, without a lock, a schema or copies.
"""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from typing import Any

from bench.contender import TTL, message
from bench.contenders_own import Chat
from bench.measure import maybe, number, progress
from statehold import AsyncStore, ManualClock
from statehold.drivers.memory import MemoryDriver

SIZES = (10_000, 100_000, 1_000_000)
QUICK = (1_000, 10_000)
CALLS = 20_000
PAGES = 100
PAGE = 500
BESIDE = 100
"""States that are born and states that die, between two pages."""
PERSON = 10_000
"""States of one subject."""

Figures = dict[str, float]
ROWS = {
    "fill": "a birth, µs",
    "fill_gc": "of it the collector's, µs",
    "objects": "objects that the collector walks, each state",
    "collect": "a full collection, ms",
    "apply": "apply, p50 µs",
    "apply_dict": "  dict by hand",
    "get": "get, p50 µs",
    "get_dict": "  dict by hand",
    "first": "the first page of 500, ms",
    "page": "a page of 500 beside births and deaths, p50 ms",
    "page_worst": "  worst",
    "page_dict": "  dict and sorted list by hand, p50",
    "find": f"a page of 500 of a subject's {PERSON:,}, p50 ms",
    "find_worst": "  worst",
    "newest": "  newest first, p50",
    "spent": "worst call with the budget spent, all renewed, ms",
    "over": "  how far over the budget, %",
}


async def measured(size: int) -> Figures:
    """What each of `ROWS` takes with so many states."""
    rng = random.Random(size)
    clock, driver = ManualClock(), MemoryDriver(max_bytes=1 << 40)
    store = AsyncStore(driver, clock=clock)
    chats, one = store.collection(Chat), message(0)
    ids = [f"{rng.getrandbits(96):024x}" for _ in range(size)]
    out: Figures = {}

    def edits() -> tuple[Any, Any]:
        return Chat.history.append(one), Chat.turns.add(1)

    gc.collect()
    before, pauses = len(gc.get_objects()), _Pauses()
    gc.callbacks.append(pauses)
    began = time.thread_time_ns()
    for id in ids:
        await chats.apply(id, *edits())
    out["fill"] = (time.thread_time_ns() - began) / size / 1e3
    gc.callbacks.remove(pauses)
    out["fill_gc"] = pauses.total / size / 1e3
    gc.collect()
    began = time.thread_time_ns()
    gc.collect()
    out["collect"] = (time.thread_time_ns() - began) / 1e6
    out["objects"] = (len(gc.get_objects()) - before) / size
    by_hand: dict[str, Any] = {id: [[one], 1, clock.now() + TTL] for id in ids}
    gc.freeze()
    gc.disable()
    try:
        some = [str(rng.choice(ids)) for _ in range(CALLS)]
        out["apply"] = _p50(await _took(lambda its: chats.apply(its, *edits()), some)) / 1e3
        out["get"] = _p50(await _took(chats.get, some)) / 1e3

        def append(id: str) -> None:
            state = by_hand[id]
            state[0] = [*state[0], one][-20:]
            state[1] += 1
            state[2] = clock.now() + TTL

        out["apply_dict"] = _p50(await _took(append, some)) / 1e3
        out["get_dict"] = _p50(await _took(by_hand.get, some)) / 1e3
        out |= await _pages(chats, ids, rng, edits)
        out |= _pages_by_hand(ids, rng)
        out |= await _subject(chats, min(PERSON, size), edits)
        out |= await _spent(driver, chats, ids, clock, edits)
    finally:
        gc.enable()
        gc.unfreeze()
        await store.close()
    return out


class _Pauses:
    """How long the garbage collector took."""

    def __init__(self) -> None:
        self.total = self._began = 0

    def __call__(self, phase: str, info: dict[str, int]) -> None:  # noqa: ARG002  gc's signature
        now = time.thread_time_ns()
        if phase == "start":
            self._began = now
        else:
            self.total += now - self._began


async def _took(call: Callable[..., Any], given: Sequence[Any]) -> list[int]:
    """The ns of each call."""
    clock, took = time.thread_time_ns, [0] * len(given)
    for at, one in enumerate(given):
        start = clock()
        await maybe(call(one))
        took[at] = clock() - start
    return took


def _p50(took: list[int]) -> float:
    return sorted(took)[len(took) // 2]


Edits = Callable[[], tuple[Any, Any]]


async def _pages(chats: Any, ids: list[str], rng: random.Random, edits: Edits) -> Figures:
    start = time.thread_time_ns()
    _, cursor = await chats.scan_page(limit=PAGE)
    first = time.thread_time_ns() - start
    took: list[int] = []
    for _ in range(PAGES):
        for _ in range(BESIDE):
            born, at = f"{rng.getrandbits(96):024x}", rng.randrange(len(ids))
            await chats.apply(born, *edits())
            await chats.delete(ids[at])
            ids[at] = born
        start = time.thread_time_ns()
        page, cursor = await chats.scan_page(limit=PAGE, cursor=cursor)
        took.append(time.thread_time_ns() - start)
        assert page or cursor is None, "a page of what lives"
    return {"first": first / 1e6, "page": _p50(took) / 1e6, "page_worst": max(took) / 1e6}


def _pages_by_hand(ids: list[str], rng: random.Random) -> Figures:
    ordered, took, last = sorted(ids), [], ""
    for _ in range(PAGES):
        for _ in range(BESIDE):
            insort(ordered, f"{rng.getrandbits(96):024x}")
        start = time.thread_time_ns()
        at = bisect_left(ordered, last)
        last = ordered[at : at + PAGE][-1] if at + PAGE < len(ordered) else ""
        took.append(time.thread_time_ns() - start)
    return {"page_dict": _p50(took) / 1e6}


async def _subject(chats: Any, states: int, edits: Edits) -> Figures:
    for at in range(states):
        await chats.apply(f"run {(at * 7919) % states}", *edits(), subject="ann")
    out: Figures = {}
    for name, newest in (("find", False), ("newest", True)):
        took, cursor = [], None
        for _ in range(max(2, states // PAGE)):
            await chats.apply(f"run {len(took)} more", *edits(), subject="ann")
            start = time.thread_time_ns()
            _, cursor = await chats.scan_page(
                limit=PAGE, cursor=cursor, subject="ann", newest=newest
            )
            took.append(time.thread_time_ns() - start)
        out[name] = _p50(took) / 1e6
        out[f"{name}_worst"] = max(took) / 1e6
    return out


async def _spent(
    driver: MemoryDriver, chats: Any, ids: list[str], clock: ManualClock, edits: Edits
) -> Figures:
    clock.advance(TTL / 2)
    for at, id in enumerate(ids):  # at half of their life all are renewed
        await chats.touch(id)
        if not at % max(1, len(ids) // 100):
            clock.advance(1)
    budget = driver._budget = driver._most = driver._nbytes
    over, took = 0, []
    for at in range(CALLS):
        start = time.thread_time_ns()
        await chats.apply(f"new {at}", *edits())
        took.append(time.thread_time_ns() - start)
        over = max(over, driver._nbytes - budget)
    return {"spent": max(took) / 1e6, "over": 100 * over / budget}


def main(given: Sequence[str] | None = None) -> list[Figures]:
    parser = argparse.ArgumentParser(prog="python -m bench.scale_memory", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", help="how many states")
    parser.add_argument("--quick", action="store_true", help="try it; no figures to rely on")
    asked = parser.parse_args(given)
    sizes: Sequence[int] = asked.sizes or (QUICK if asked.quick else SIZES)
    found: list[Figures] = []
    for size in sizes:
        progress(f"{size:,} states in memory")
        found.append(asyncio.run(measured(size)))
    print("\n| " + " | ".join(["", *(f"{size:,}" for size in sizes), "last / first"]) + " |")
    print("|" + " --- |" * (len(sizes) + 2))
    for name, words in ROWS.items():
        values = [figures[name] for figures in found]
        grown = f"{number(values[-1] / values[0])}×" if values[0] else "-"
        print("| " + " | ".join([words, *(number(v, 3) for v in values), grown]) + " |")
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
