"""The worst single operation while 100,000 states expire at once."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import contenders_caches as caches
from bench import contenders_own as own
from bench.contender import TTL, Contender, message, split
from bench.measure import maybe, median, number, progress
from bench.part import Effort, Part, Table, Verdict
from statehold import ManualClock

STATES = 100_000
LIVE = 1_000
CALLS = 30_000


@dataclass
class Pauses:
    """How long the garbage collector took, by the processor time of this thread."""

    total: int = 0
    longest: int = 0
    began: int = field(default=0)

    def __call__(self, phase: str, info: dict[str, int]) -> None:  # noqa: ARG002  gc's signature
        now = time.thread_time_ns()
        if phase == "start":
            self.began = now
        else:
            self.total += now - self.began
            self.longest = max(self.longest, now - self.began)


@dataclass
class Worst:
    """Milliseconds of processor time: the worst call, the longest pause for garbage, the rest."""

    call: float = 0.0
    garbage: float = 0.0
    without: float = 0.0

    def see(self, call_ns: int, garbage_ns: int) -> None:
        self.call = max(self.call, call_ns / 1e6)
        self.garbage = max(self.garbage, garbage_ns / 1e6)
        self.without = max(self.without, (call_ns - garbage_ns) / 1e6)


async def _traffic(contender: Contender, *, creating: bool) -> Worst:
    """Calls on live sessions, in between (with `creating`) one in four that makes a new one."""
    clock, worst, pauses, one = time.thread_time_ns, Worst(), Pauses(), message(0)
    gc.callbacks.append(pauses)
    try:
        for at in range(CALLS):
            if at % 4 == 3 and creating:
                call: Any = contender.append
                given: tuple[Any, ...] = (f"new-{at}", one)
            elif at % 2:
                call, given = contender.append, (f"live-{at % LIVE}", one)
            else:
                call, given = contender.get, (f"live-{at % LIVE}",)
            garbage, start = pauses.total, clock()
            result = call(*given)
            if asyncio.iscoroutine(result):
                await result
            worst.see(clock() - start, pauses.total - garbage)
    finally:
        gc.callbacks.remove(pauses)
    return worst


async def _with_clock(
    contender: Contender, advance: Callable[[float], None], states: int, *, creating: bool
) -> Worst:
    await contender.start()
    one = message(0)
    for at in range(states):
        await maybe(contender.append(f"session-{at}", one))
    advance(TTL / 2)
    for at in range(LIVE):
        await maybe(contender.append(f"live-{at}", one))
    gc.collect()
    advance(TTL / 2 + 2)
    worst = await _traffic(contender, creating=creating)
    await contender.close()
    return worst


async def _statehold(states: int, *, creating: bool) -> Worst:
    clock = ManualClock()
    contender = own.Memory(Path())
    contender.clock = clock
    return await _with_clock(contender, clock.advance, states, creating=creating)


async def _cachetools(states: int, *, creating: bool) -> Worst:
    clock = ManualClock()
    contender = caches.Cachetools(Path())
    contender.timer = clock.now  # type: ignore[method-assign]
    return await _with_clock(contender, clock.advance, states, creating=creating)


async def _cashews(states: int, *, creating: bool) -> Worst:  # noqa: ARG001  it stands still anyway
    """How long cashews' own sweep, once a second, keeps the event loop from anything else."""
    from cashews import Cache

    cache: Any = Cache()
    cache.setup("mem://", size=2_000_000, check_interval=0.5)
    await cache.init()
    until = time.time() + 3 + states / 50_000
    for at in range(states):
        await cache.set(f"session-{at}", [message(0)], expire=until - time.time())
    gc.collect()
    worst, pauses = Worst(), Pauses()
    gc.callbacks.append(pauses)
    while time.time() < until + 1.5:
        garbage, start = pauses.total, time.thread_time_ns()
        await asyncio.sleep(0)
        if time.time() > until:
            worst.see(time.thread_time_ns() - start, pauses.total - garbage)
    gc.callbacks.remove(pauses)
    await cache.close()
    return worst


async def expiry(effort: Effort) -> Part:
    """Worst calls, by processor time, so that other programs on the machine do not count."""
    states = effort.of(STATES, 10_000)
    contests: list[tuple[str, type[Contender], Any]] = [
        (own.Memory.name, own.Memory, _statehold),
        (caches.Cachetools.name, caches.Cachetools, _cachetools),
        ("cashews, its sweep", caches.Cashews, _cashews),
    ]
    here, absent = split([cls for _, cls, _ in contests])
    table = Table(
        [
            "ms of processor time",
            "traffic",
            "worst call",
            "longest garbage collection",
            "worst call without it",
        ]
    )
    ours: dict[bool, Worst] = {}
    for name, cls, run in contests:
        if cls not in here:
            continue
        for creating in (False, True):
            if run is _cashews and creating:
                continue
            progress(f"{name}{', with new sessions' if creating else ''}")
            found = [await run(states, creating=creating) for _ in range(effort.of(3, 1))]
            worst = Worst(
                *(
                    median([getattr(w, part) for w in found])
                    for part in ("call", "garbage", "without")
                )
            )
            if run is _statehold:
                ours[creating] = worst
            traffic = "any" if run is _cashews else "live and new" if creating else "live"
            table.rows.append(
                [
                    name,
                    traffic,
                    number(worst.call, 3),
                    number(worst.garbage, 3),
                    number(worst.without, 3),
                ]
            )
    target = f"memory, worst single operation while {states:,} states expire at once: at most 1 ms"
    return Part(
        "Expiry",
        f"{states:,} sessions expire in the same instant while {CALLS:,} calls are made on {LIVE:,} live "
        "ones; in the second kind of traffic every fourth call makes a new session. Python's garbage "
        "collector is on; what it takes is told apart, because it walks whatever was made since it "
        "last ran, whoever made it. Median of three runs of the worst.",
        [table],
        [
            Verdict(
                f"{target}; live sessions, garbage collection included",
                f"{number(ours[False].call, 3)} ms",
                ours[False].call <= 1,
            ),
            Verdict(
                f"{target}; with new sessions, without garbage collection",
                f"{number(ours[True].without, 3)} ms",
                ours[True].without <= 1,
            ),
            Verdict(
                f"{target}; with new sessions, garbage collection included",
                f"{number(ours[True].call, 3)} ms, of which {number(ours[True].garbage, 3)} ms collection",
                ours[True].call <= 1,
            ),
        ],
        absent,
    )
