"""`bench`: what the configured backend does, measured from here."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import msgspec

from statehold import Counter, Log, State, StateholdError
from statehold.cli.exits import OK
from statehold.cli.reaching import config
from statehold.engine import new_op
from statehold.replay.report import Latencies
from statehold.store import AsyncCollection, AsyncStore

_ITEM = "x" * 200
_WRITERS = 64


class Measured(State, ttl=timedelta(minutes=10), kind="statehold_bench"):
    """What is written and read; should the end be missed, it expires by itself."""

    items = Log(str, keep=100)
    count = Counter()


def bench(given: Namespace) -> int:
    """Measure, tidy up and print."""
    found = config(given)

    async def run() -> dict[str, Any]:
        async with found.open() as store:
            return {"backend": found.shown_backend, **await _measure(store, given.seconds)}

    print(msgspec.json.encode(asyncio.run(run())).decode())
    return OK


async def _measure(store: AsyncStore, seconds: float) -> dict[str, Any]:
    states = store.collection(Measured)
    ids = [f"bench-{new_op()}-{number}" for number in range(_WRITERS)]

    async def append(id: str) -> None:
        await states.apply(id, Measured.items.append(_ITEM), Measured.count.add(1))

    async def read(id: str) -> None:
        await states.get(id, fields=["items"], tail=20)

    try:
        return {
            "append": await _paced(store, append, ids[:1], seconds),
            "read": await _paced(store, read, ids[:1], seconds),
            f"append_by_{_WRITERS}": await _paced(store, append, ids, seconds),
        }
    finally:
        await _tidy(states, ids)


async def _paced(
    store: AsyncStore, call: Callable[[str], Awaitable[None]], ids: list[str], seconds: float
) -> dict[str, float]:
    clock = store.clock.monotonic
    latencies = Latencies()
    start = clock()

    async def work(id: str) -> None:
        while (before := clock()) < start + seconds:
            await call(id)
            latencies.add(clock() - before)
            if len(ids) > 1:  # a backend that never suspends would not let the others have a turn
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for id in ids:
            group.create_task(work(id))
    return {
        "per_second": round(latencies.count / (clock() - start)),
        "p50_ms": round(latencies.quantile(0.5) * 1e3, 4),
        "p99_ms": round(latencies.quantile(0.99) * 1e3, 4),
    }


async def _tidy(states: AsyncCollection[Measured], ids: list[str]) -> None:
    with suppress(StateholdError):  # what stopped the measurement says more than this would
        for id in ids:
            await states.delete(id)
