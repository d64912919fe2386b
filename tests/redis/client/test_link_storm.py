"""Everything at once: what holds for each fault holds for any sequence of them."""

import asyncio
import random
import time

from statehold.errors import StateholdError
from statehold.testing.proxy import Proxy
from statehold.testing.servers import RedisServer
from tests.redis.client.linking import counted, once, opened

TIMEOUT = 0.8
SECONDS = 5.0


async def fault(draw, server, proxy):
    """One of the things that happen."""
    match draw.randrange(6):
        case 0:
            proxy.reset()
        case 1:
            proxy.stall(keep=draw.random() < 0.5)
            await asyncio.sleep(draw.uniform(0.05, 1.0))
            proxy.resume()
        case 2:
            await asyncio.to_thread(server.cli, "SCRIPT", "FLUSH")
        case 3:
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(draw.uniform(0, 0.3))
            await asyncio.to_thread(server.restart)
        case 4:
            server.pause()
            await asyncio.sleep(draw.uniform(0.05, 1.0))
            server.resume()
        case 5:
            await asyncio.to_thread(server.cli, "CLIENT", "KILL", "TYPE", "normal")


async def caller(servers, name, draw, done, acknowledged):
    """Op ids counted one by one, alone, in pairs, or given up early; the longest that one took."""
    longest, at = 0.0, 0
    while not done.is_set():
        at += 1
        start, command = time.monotonic(), once(f"{name}-{at}")
        try:
            match draw.randrange(10):
                case 0 | 1 | 2:
                    await servers.call_many([command, command], repeatable=True)
                case 3:
                    call = servers.call(*command, repeatable=True)
                    await asyncio.wait_for(call, draw.uniform(0.0, 0.01))
                case _:
                    await servers.call(*command, repeatable=True)
            acknowledged.add(f"{name}-{at}")
        except (StateholdError, TimeoutError):
            pass
        longest = max(longest, time.monotonic() - start)
    return longest


def test_64_callers_in_a_storm():
    """Nothing acknowledged is lost, nothing is applied twice, nobody waits longer than was said."""

    async def main():
        draw, done, acknowledged = random.Random(7), asyncio.Event(), set()
        url = proxy.through(server.url)
        async with opened(url, timeout=TIMEOUT, connect_timeout=0.3) as servers:
            callers = [
                asyncio.create_task(caller(servers, at, draw, done, acknowledged))
                for at in range(64)
            ]
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                await asyncio.sleep(draw.uniform(0.02, 0.2))
                await fault(draw, server, proxy)
            done.set()
            longest = max(await asyncio.gather(*callers))
            # What was cut off on its way may still be executed.
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.restart)
            async with opened(url) as patient:
                stored = await patient.call(0, ("SMEMBERS", "{t}:ops"), repeatable=True)
                number = int(await patient.call(*counted(), repeatable=True))
            assert not acknowledged - {op.decode() for op in stored}
            assert number == len(stored) > 0
            # Two seconds are for a machine that has other things to do.
            assert longest < TIMEOUT + 2.0
            assert servers.stats()["pending"] == 0

    with RedisServer.start(appendonly=True) as server, Proxy(server.port) as proxy:
        asyncio.run(main())
