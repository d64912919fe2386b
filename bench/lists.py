"""Changing a long list other than by appending, and reading a part of it: short against long."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from datetime import timedelta
from tempfile import TemporaryDirectory

from bench.measure import Job, interleave, median, number, p50_us, progress, ratios
from bench.part import Effort, Part, Table, Verdict
from statehold import AsyncStore, Log, State
from statehold.store import AsyncCollection
from statehold.testing.servers import Missing, PostgresServer, RedisServer

SHORT, LONG = 100, 100_000
TEXT = "x" * 100
TAKEN = 20


class Chat(State, ttl=timedelta(hours=1), kind="chat", limit_bytes="1GiB"):
    """A history without a bound that would be met."""

    log = Log(str, keep=200_000, max_bytes=200)


Call = Callable[[AsyncCollection[Chat], str, int], Awaitable[object]]


async def _range(chats: AsyncCollection[Chat], id: str, size: int) -> None:
    await chats.get(id, fields=["log"], after=size // 2, limit=TAKEN)


async def _edit(chats: AsyncCollection[Chat], id: str, size: int) -> None:
    await chats.apply(id, Chat.log.edit(size // 2, TEXT))


async def _pop(chats: AsyncCollection[Chat], id: str, size: int) -> None:  # noqa: ARG001  alike
    await chats.apply(id, Chat.log.pop())
    await chats.apply(id, Chat.log.append(TEXT))


CALLS: dict[str, Call] = {
    f"range of {TAKEN}": _range,
    "edit in the middle": _edit,
    "pop and append": _pop,
}


async def lists(effort: Effort) -> Part:
    """Range, edit and pop at a short and at a long list, on every backend."""
    long = effort.of(LONG, 5_000)
    part = Part(
        f"Lists: what is not an append, at {SHORT:,} and at {long:,} items",
        "Items of 100 bytes; one task; p50 of single calls in microseconds. The ratio is of both lengths within a round.",
    )
    table = Table(["µs, p50", "call", f"{SHORT:,}", f"{long:,}", "ratio"])
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        urls = {
            "memory": "memory://?max_bytes=4GiB",
            "SQLite": f"sqlite:///{folder}/state.db",
        }
        for name, server in (("Redis", RedisServer), ("PostgreSQL", PostgresServer)):
            try:
                urls[name] = stack.enter_context(server.start()).url
            except Missing as missing:
                part.absent.append(f"{name} ({missing})")
        for name, url in urls.items():
            progress(f"{name}: filling {SHORT:,} and {long:,}")
            for what, found in (await _measured(url, long, effort)).items():
                ratio = median(ratios(found, "long", "short"))
                cells = (number(median(found[size])) for size in ("short", "long"))
                table.rows.append([name, what, *cells, f"{number(ratio)}×"])
                target = f"{name}, {what} of {long:,}: flat within 1.3× from {SHORT:,}"
                part.verdicts.append(Verdict(target, f"{number(ratio)}×", ratio <= 1.3))
    part.tables.append(table)
    return part


async def _measured(url: str, long: int, effort: Effort) -> dict[str, dict[str, list[float]]]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(AsyncStore.open(url))
        chats = store.collection(Chat)
        sizes = {"short": SHORT, "long": long}
        for id, size in sizes.items():
            for begun in range(0, size, 5_000):
                await chats.apply(id, Chat.log.extend([TEXT] * min(5_000, size - begun)))
        found: dict[str, dict[str, list[float]]] = {}
        for what, call in CALLS.items():
            jobs: dict[str, Job] = {}
            for id, size in sizes.items():

                async def job(call: Call = call, id: str = id, size: int = size) -> float:
                    return await p50_us(call, [(chats, id, size)] * effort.of(200, 20), 1.0)

                jobs[id] = job
            found[what] = await interleave(jobs, effort.of(9, 3))
        return found
