"""What the tests of the link share: scripts, and servers opened for a test."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any
from urllib.parse import urlsplit

from statehold.drivers.redis.client.address import Options
from statehold.drivers.redis.client.contract import Client, Script, slot_of
from statehold.drivers.redis.client.opening import open_client
from statehold.errors import StateholdError

ONCE = Script.of(
    "once",
    """#!lua
-- Counts an op id once, however often it comes.
if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then redis.call('INCR', KEYS[2]) return 1 end
return 0
""",
    writes=True,
)
PUSH = Script.of("push", "#!lua\nreturn redis.call('RPUSH', KEYS[1], unpack(ARGV))\n", writes=True)
LOOK = Script.of("look", "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])\n", writes=False)
SCRIPTS = [ONCE, PUSH, LOOK]

TICK = 0.25
"""The unit of time, in seconds, of the kit's cases: the server's own clock decides."""


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Client]:
    """The servers of a URL with three scripts, closed at the end."""
    servers = open_client(urlsplit(url), Options(**options), SCRIPTS)
    try:
        yield servers
    finally:
        await servers.close()


def once(op: str, tag: str = "t") -> tuple[int, tuple[Any, ...]]:
    """The slot and the command that counts an op id once."""
    ops, number = f"{{{tag}}}:ops", f"{{{tag}}}:number"
    return slot_of(tag.encode()), ("EVALSHA", ONCE.sha, 2, ops, number, op)


def push(item: str, tag: str = "t") -> tuple[int, tuple[Any, ...]]:
    """The slot and the command that appends an item."""
    return slot_of(tag.encode()), ("EVALSHA", PUSH.sha, 1, f"{{{tag}}}:list", item)


def counted(tag: str = "t") -> tuple[int, tuple[Any, ...]]:
    """The slot and the command that reads how many op ids were counted."""
    return slot_of(tag.encode()), ("EVALSHA_RO", LOOK.sha, 1, f"{{{tag}}}:number")


def looked_at(servers: Client) -> list[list[Any]]:
    """How many op ids each other master had counted when it was met, from now on."""
    found: list[list[Any]] = []

    async def look(ask, _serves):
        found.append(await ask([counted()[1]]))

    servers.before_newcomers(look)
    return found


async def settled(calls: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """What became of calls that were made at once: replies and errors."""
    return await asyncio.gather(*calls, return_exceptions=True)


async def until(condition, seconds=10.0):
    """Wait for something that is bound to happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def received(replica):
    """How far it has come in what its master writes, by its own account; -1 if it is no replica."""
    return int(replica.info("replication").get("slave_repl_offset", -1))


async def replicated(master, replicas):
    """Wait until the replicas have what the master has written until now."""
    written = int(master.info("replication")["master_repl_offset"])
    assert replicas
    await until(lambda: all(received(each) >= written for each in replicas))


async def writing(servers, done, acknowledged, name):
    """Count op ids, each until it is acknowledged, as a retry of the same commit would."""
    at = 0
    while not done.is_set():
        at += 1
        while True:
            with contextlib.suppress(StateholdError):
                await servers.call(*once(f"{name}-{at}"), repeatable=True)
                acknowledged.append(f"{name}-{at}")
                break
        await asyncio.sleep(0)
