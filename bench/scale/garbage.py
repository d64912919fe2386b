"""What is stored against what lives, while every commit makes a state that soon ends; and what sweeps leave."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.measure import number, progress
from bench.part import Effort, Part, Plot, Table, Verdict
from bench.scale.places import KINDS, PLACES, Place, edits, everywhere, opened, unheld

AT_ONCE = (1, 64, 1_024)
ITEMS = (1, 20, 100)
LIVES = 10
"""For how many times their life states are made."""
HOUR = 3600.0


async def garbage(effort: Effort, places: Sequence[str] = PLACES) -> Part:
    at_once, items = (AT_ONCE, ITEMS) if not effort.quick else ((64,), (1, 20))
    lives = effort.of(LIVES, 6)
    table = Table(
        ["stored / living", "at once", "items", "worst", "last", "living", "dead after sweeps"]
    )
    plot = Plot(
        "garbage",
        f"Stored for each that lives, at worst, after {lives} lives",
        "at once × items of each commit",
        "stored / living",
        labels=[f"{n:,}×{m}" for n in at_once for m in items],
        limit=2.5,
        logarithmic=False,
    )
    part = Part(
        "Garbage",
        "Each commit makes a state. In memory and on SQLite, whose clock is moved by hand, they live for as long as it "
        "takes to make a thousand, or twice as many as come at once; on Redis for 2 s, on PostgreSQL, which "
        f"sweeps once a second, for 4. It goes on for {lives} lives, and the worst is of what is found at the end "
        "of each from the third on. Then nobody writes, all end, and `store.sweep` goes round twice. Of Redis "
        "the members of its indexes are counted, since its keys end by themselves. The minute for which "
        "PostgreSQL keeps what has ended is left out.",
        [table],
        plots=[plot],
    )

    async def measure(name: str) -> None:
        worst, dead = 0.0, 0
        for n in at_once:
            for m in items:
                progress(f"{name}: {n:,} at once, {m} items")
                async with opened(name, moves=True) as place:
                    ttl = KINDS[name].ttl * (0.25 if effort.quick else 1) or HOUR
                    shares, living = await _made(place, n, m, ttl, lives)
                    left = await _left(place, ttl)
                worst, dead = max(worst, *shares), dead + left
                plot.lines.setdefault(name, []).append((len(plot.lines[name]), max(shares)))
                cells = number(max(shares)), number(shares[-1]), f"{living:,}", f"{left:,}"
                table.rows.append([name, f"{n:,}", f"{m}", *cells])
        target = f"{name}: stored / living after {lives} lives: at most 2.5"
        part.verdicts.append(Verdict(target, number(worst), worst <= 2.5))
        target = f"{name}: dead after sweeps, when writers have stopped: 0"
        part.verdicts.append(Verdict(target, f"{dead:,}", not dead))

    with unheld():
        return await everywhere(part, places, measure)


async def _made(
    place: Place, at_once: int, items: int, ttl: float, lives: int
) -> tuple[list[float], int]:
    """What is stored for each that lives, at the end of each life; and how many live at last."""
    step = ttl * at_once / max(1_000, 2 * at_once) if place.clock else 0.0
    chats, given, shares, made = place.chats, edits(items), list[float](), list[float]()
    began, living = place.now(), 0
    for life in range(1, lives + 1):
        while place.now() < began + life * ttl:
            first = len(made)
            calls = (chats.apply(f"{first + at}", *given, ttl=ttl) for at in range(at_once))
            await asyncio.gather(*calls)
            made += [place.now()] * at_once
            await place.passes(step)
        if life > 2:
            since = place.now() - ttl
            living = sum(at > since for at in made)
            shares.append(place.count() / max(1, living))
    return shares, living


async def _left(place: Place, ttl: float) -> int:
    """What is stored after all has ended and was swept; what somebody else had locked, with the second round."""
    for wait in (1.2 * ttl, 0.5):
        await place.passes(wait)
        after: str | None = ""
        while after is not None:
            after = (await place.store.sweep(after=after)).after
    return place.count()
