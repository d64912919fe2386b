"""`python -m bench.ablation`: what each clever part is worth: the same work with and without it, in turns.

Whoever keeps a part that costs lines sees here what it earns; whoever has a better idea adds a line. Each
row is the driver with one thing changed, on a store and states of its own; a ratio is to the first row of
the same round, above 1 where the change makes it slower. Client and server have a core each.
"""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest.mock import PropertyMock, patch
from urllib.parse import urlsplit

from bench.crowd import TASKS, Tally, crowd
from bench.measure import median, progress
from bench.part import Table
from bench.servers import placed
from statehold import AsyncStore, Counter, Log, State
from statehold.backends import gathering
from statehold.drivers.redis.client import connection
from statehold.drivers.sql import from_url
from statehold.drivers.sql.postgres import executor
from statehold.testing.servers import PostgresServer, RedisServer

SESSIONS = 1_000
MESSAGE = "x" * 200


class Chat(State, ttl=timedelta(hours=1)):
    """What is written: a message, and a count."""

    history = Log(str, keep=20)
    turns = Counter()


Change = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Variant:
    """The driver with one thing changed while it is opened and used."""

    name: str
    change: Change = nullcontext
    tiers: Collection[str] | None = None


@contextmanager
def at_end_of_tick() -> Iterator[None]:
    """Redis: whatever a tick brings leaves in its end, also where only one task is about."""
    with ExitStack() as stack:
        stack.enter_context(groups_of(1 << 30)())
        never = PropertyMock(return_value=False)
        stack.enter_context(patch.object(connection.Connection, "_calm", never, create=True))
        yield


def groups_of(requests: int) -> Change:
    return lambda: patch.object(connection, "GROUP", requests)


def lanes(count: int) -> Change:
    return lambda: patch.object(executor, "LANES", count)


REDIS = [
    Variant("as it is"),
    Variant("no groups of sixteen", groups_of(1 << 30)),
    Variant("everything at the end of the tick", at_end_of_tick),
]
POSTGRESQL = [
    Variant("as it is"),
    Variant("one lane instead of two", lanes(1)),
    Variant("no single statement", tiers=("function",)),
    Variant("no function, no merging", tiers=("single",)),
    Variant("portable alone", tiers=()),
]
FIGURES = "one task, µs", "64 tasks, 1,000 states, µs", "64 tasks, one state, µs", "its CPU, µs"


async def measured(store: AsyncStore, change: Change, seconds: float) -> list[float]:
    """Of one commit in µs: alone; of 64 tasks on a thousand states, and on one; and the CPU of that."""
    chats = store.collection(Chat)

    async def call(id: str) -> None:
        await chats.apply(id, Chat.history.append(MESSAGE), Chat.turns.add(1))

    with change():
        for at in range(20):
            await call(f"warm-{at}")
        alone: list[float] = []
        until = time.perf_counter() + seconds
        while (start := time.perf_counter()) < until:
            await call("alone")
            alone.append((time.perf_counter() - start) * 1e6)
        found = [median(alone)]
        for ids in ([f"session-{at}" for at in range(SESSIONS)], ["session-0"]):
            tally, began, ran = Tally(), time.perf_counter(), time.process_time()
            await crowd(call, ids, seconds, tally)
            took, ran = time.perf_counter() - began, time.process_time() - ran
            assert not tally.refused, f"{tally.refused} commits were refused"
            found.append(took * 1e6 / tally.acknowledged.total())
        found.append(ran * 1e6 / tally.acknowledged.total())
        return found


async def compare(
    variants: list[Variant], opened: Callable[[Variant], AsyncStore], rounds: int, seconds: float
) -> Table:
    """A row for each variant, the first one's figures in µs and the others' as ratios to it."""
    found: dict[str, list[list[float]]] = {variant.name: [] for variant in variants}
    async with AsyncExitStack() as stack:
        stores: list[tuple[Variant, AsyncStore]] = []
        for variant in variants:
            with variant.change():
                stores.append((variant, await stack.enter_async_context(opened(variant))))
        for at in range(rounds + 1):  # the first one fills
            progress(f"round {at}")
            for variant, store in stores if at % 2 else stores[::-1]:
                figures = await measured(store, variant.change, seconds)
                if at:
                    found[variant.name].append(figures)
    first = found[variants[0].name]
    table = Table(["", *FIGURES])
    table.rows.append(
        [variants[0].name, *(f"{median(each):.1f}" for each in zip(*first, strict=True))]
    )
    for variant in variants[1:]:
        row = [variant.name]
        for place in range(len(FIGURES)):
            ratios = sorted(
                theirs[place] / ours[place]
                for theirs, ours in zip(found[variant.name], first, strict=True)
            )
            row.append(f"{median(ratios):.2f}× ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        table.rows.append(row)
    return table


async def redis(rounds: int, seconds: float) -> Table:
    with RedisServer.start() as server, placed(server.pid, "own cores"):
        urls: dict[str, str] = {v.name: f"{server.url}/{at}" for at, v in enumerate(REDIS)}
        return await compare(REDIS, lambda v: AsyncStore.open(urls[v.name]), rounds, seconds)


async def postgresql(rounds: int, seconds: float) -> Table:
    with PostgresServer.start() as server, placed(server.pid, "own cores"):

        def opened(variant: Variant) -> AsyncStore:
            settings: dict[str, Any] = {}
            url = urlsplit(server.new_database())
            return AsyncStore(gathering(from_url(url, settings, tiers=variant.tiers)))

        return await compare(POSTGRESQL, opened, rounds, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ablation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how many turns each takes")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="of each of three parts of a turn"
    )
    parser.add_argument("--only", choices=("redis", "postgresql"), help="one of them")
    given = parser.parse_args()
    for name, run in (("redis", redis), ("postgresql", postgresql)):
        if given.only in (None, name):
            print(f"{name}: {TASKS} tasks …")
            table = asyncio.run(run(given.rounds, given.seconds))
            for row in (table.columns, ["---"] * len(table.columns), *table.rows):
                print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
