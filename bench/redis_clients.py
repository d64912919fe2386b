"""Which client the Redis driver stands on: the same script called through each of them.

It is the reason for the driver's own connection, kept so that it can be asked again.
"""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar
from urllib.parse import urlsplit

from bench.latency import timed
from bench.measure import Samples, interleave, median, number, progress, ratios
from bench.part import Effort, Part, Table, Verdict
from bench.servers import placed
from statehold.drivers.redis.client.address import Options
from statehold.drivers.redis.client.contract import Script
from statehold.drivers.redis.client.opening import open_client
from statehold.testing.servers.redis import RedisServer

TASKS = 64
TEXT = """#!lua
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -20, -1)
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
APPEND = Script.of("append", TEXT, writes=True)
KEY, ITEM, TTL_MS = "{bench}:list", "x" * 200, "3600000"


class Client:
    """Calls the script; ready after `start`."""

    name: ClassVar[str]
    package: ClassVar[str] = ""

    def __init__(self, server: RedisServer) -> None:
        self.server = server

    async def start(self, stack: AsyncExitStack) -> None:
        """Connected, and the script loaded."""

    async def call(self) -> Any:
        """The reply of the script: 1."""
        raise NotImplementedError


class Ours(Client):
    name = "the driver's own connection"

    async def start(self, stack: AsyncExitStack) -> None:
        self.servers = open_client(urlsplit(self.server.url), Options(), [APPEND])
        stack.push_async_callback(self.servers.close)

    async def call(self) -> Any:
        command = ("EVALSHA", APPEND.sha, 1, KEY, ITEM, TTL_MS)
        return await self.servers.call(0, command, repeatable=True)


class RedisPy(Client):
    name = "redis-py (asyncio, hiredis)"
    package = "redis"

    async def start(self, stack: AsyncExitStack) -> None:
        from redis.asyncio import Redis

        self.client = Redis.from_url(self.server.url)
        stack.push_async_callback(self.client.aclose)
        await self.client.script_load(TEXT)

    async def call(self) -> Any:
        return await self.client.evalsha(APPEND.sha, 1, KEY, ITEM, TTL_MS)


class Glide(Client):
    name = "valkey-glide"
    package = "valkey-glide"

    async def start(self, stack: AsyncExitStack) -> None:
        from glide import GlideClient, GlideClientConfiguration, NodeAddress
        from glide import Script as GlideScript

        address = NodeAddress(self.server.host, self.server.port)
        self.client = await GlideClient.create(GlideClientConfiguration([address]))
        stack.push_async_callback(self.client.close)
        self.script = GlideScript(TEXT)

    async def call(self) -> Any:
        return await self.client.invoke_script(self.script, keys=[KEY], args=[ITEM, TTL_MS])


class Coredis(Client):
    name = "coredis"
    package = "coredis"

    async def start(self, stack: AsyncExitStack) -> None:
        from coredis import Redis

        self.client = Redis(host=self.server.host, port=self.server.port)
        await stack.enter_async_context(self.client)
        await self.client.script_load(TEXT)

    async def call(self) -> Any:
        return await self.client.evalsha(APPEND.sha, keys=[KEY], args=[ITEM, TTL_MS])


CLIENTS: list[type[Client]] = [Ours, RedisPy, Glide, Coredis]


def installed(cls: type[Client]) -> str | None:
    """Its name with the version; None if it is not there."""
    try:
        return f"{cls.name} {version(cls.package)}" if cls.package else cls.name
    except PackageNotFoundError:
        return None


async def crowd(client: Client, calls: int) -> tuple[float, float]:
    """Calls a second of 64 tasks, and the processor time of one call in µs, of all our threads."""

    async def caller() -> None:
        for _ in range(calls // TASKS):
            await client.call()

    start, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(TASKS)))
    took, used = time.perf_counter() - start, time.process_time() - used
    made = calls // TASKS * TASKS
    return made / took, used / made * 1e6


async def clients(effort: Effort) -> Part:
    """One caller after the other, and 64 tasks at once."""
    names = {cls: installed(cls) for cls in CLIENTS}
    here = [cls for cls in CLIENTS if names[cls] is not None]
    table = Table(["", "one caller, p50 µs", "CPU µs", "64 tasks, calls/s", "CPU µs"])
    rates: Samples
    used: dict[str, list[float]] = {cls.name: [] for cls in here}
    with RedisServer.start() as server, placed(server.pid, "own cores"):
        async with AsyncExitStack() as stack:
            made: list[Client] = []
            for cls in here:
                client = cls(server)
                await client.start(stack)
                assert await client.call() == 1
                made.append(client)
            progress("one caller")
            calls: dict[str, tuple[Callable[..., Any], Sequence[tuple[Any, ...]]]] = {
                client.name: (client.call, [()] * 4_000) for client in made
            }
            alone = await timed(calls, effort.of(11, 3), ms=effort.of(60, 15), pid=server.pid)
            progress(f"{TASKS} tasks")

            async def rate(client: Client) -> float:
                found, cpu = await crowd(client, effort.of(3_200, 640))
                used[client.name].append(cpu)
                return found

            rates = await interleave(
                {client.name: (lambda client=client: rate(client)) for client in made},  # type: ignore[misc]
                effort.of(7, 3),
            )
    for cls in here:
        one = alone[cls.name]
        table.rows.append(
            [
                names[cls] or "",
                number(median(one.p50)),
                number(median(one.client)),
                number(median(rates[cls.name])),
                number(median(used[cls.name])),
            ]
        )
    part = Part(
        "Redis: the client",
        "One script that appends 200 bytes, trims to 20 and renews the expiry, called through several "
        "clients of one process over asyncio's own event loop, against one server; client and server on "
        "a core each. With one caller the processor time is that of the main thread, with 64 tasks that "
        "of all threads of the process. redis-py opens a connection for each task that waits; "
        "the others share one.",
        [table],
        absent=[cls.name for cls in CLIENTS if names[cls] is None],
    )
    target = (
        "the driver's own connection, 64 tasks: at least 2× the calls of the best client there is"
    )
    best = [cls.name for cls in here if cls is not Ours]
    if best:
        rival = max(best, key=lambda name: median(rates[name]))
        share = median(ratios(rates, Ours.name, rival))
        part.verdicts.append(Verdict(target, f"{number(share)}× {rival}", share >= 2))
    else:
        part.verdicts.append(Verdict(target, "the peers are absent", None))
    return part
