"""What may have been executed never ends in an error that says that nothing was written."""

import asyncio
import contextlib

import pytest

from statehold.errors import NOTHING_WRITTEN, Busy, Closed, ConfigError, Full, Unavailable
from statehold.testing.proxy import Proxy
from statehold.testing.servers import RedisServer
from tests.redis.client.linking import counted, once, opened, push, until

SCRIPT = b"EVALSHA"


@contextlib.asynccontextmanager
async def executed(proxy, call):
    """A call that the server has executed, its answer lost, and no way to the server yet."""
    with proxy.cut_reply(when=lambda sent: SCRIPT in sent) as cut:
        proxy.refuse()
        task = asyncio.create_task(call)
        await until(lambda: cut.count)
        yield task


def test_a_password_that_was_set_meanwhile():
    async def main():
        with Proxy(server.port) as proxy:
            async with opened(proxy.through(server.url)) as servers:
                await servers.call(*once("a"), repeatable=True)
                async with executed(proxy, servers.call(*once("b"), repeatable=True)) as task:
                    server.cli("CONFIG", "SET", "requirepass", "pw")
                    proxy.accept()
                    with pytest.raises(Unavailable, match="executed is not known") as caught:
                        await task
                assert not isinstance(caught.value, NOTHING_WRITTEN)
                assert isinstance(caught.value.__cause__, ConfigError)
                with pytest.raises(ConfigError):  # this one was never sent
                    await servers.call(*once("c"), repeatable=True)
            async with opened(server.url.replace("//", "//:pw@")) as servers:
                assert await servers.call(*counted(), repeatable=True) == b"2"

    with RedisServer.start() as server:
        asyncio.run(main())


def test_closed_with_calls_on_the_wire_and_after_an_answer_was_lost(redis):
    async def main():
        with Proxy(redis.port) as proxy:
            async with opened(proxy.through(redis.url)) as servers:
                await servers.call(*once("a"), repeatable=True)
                proxy.latency(1.0)
                task = asyncio.create_task(servers.call(*once("b"), repeatable=True))
                await until(lambda: redis.cli("GET", "{t}:number") == "2")
                await servers.close()
                with pytest.raises(Closed, match="whether it was executed is not known"):
                    await task
            proxy.latency(0)
            async with opened(proxy.through(redis.url)) as servers:
                await servers.call(*once("c"), repeatable=True)
                async with executed(proxy, servers.call(*once("d"), repeatable=True)) as task:
                    never = asyncio.create_task(servers.call(*once("e"), repeatable=True))
                    await asyncio.sleep(0)
                    await servers.close()
                    with pytest.raises(Closed, match="whether it was executed is not known"):
                        await task
                    with pytest.raises(Closed) as caught:
                        await never
                    assert "not known" not in str(caught.value)
        assert redis.cli("GET", "{t}:number") == "4"

    asyncio.run(main())


def test_refused_once_and_executed_afterwards():
    """What was said of the first sending says nothing of the second, whose answer is overdue."""

    async def main():
        with Proxy(server.port) as proxy:
            async with opened(proxy.through(server.url), timeout=2.0) as servers:
                await servers.call(*once("a"), repeatable=True)
                endless = asyncio.create_task(
                    asyncio.to_thread(server.cli, "EVAL", "while true do end", 0, timeout=20)
                )
                await asyncio.sleep(0.2)
                task = asyncio.create_task(servers.call(*once("b"), repeatable=True))
                topology = next(iter(servers._topologies))
                await until(lambda: topology.link._delayed.requests)
                call = topology.link._delayed.requests[0]
                call.deadline += 1.0
                topology.link._delayed.cancel()
                server.cli("SCRIPT", "KILL")
                await asyncio.wait([endless])
                endless.exception()
                # It is sent again behind one that blocks and has more time, and its answer is late.
                more = asyncio.create_task(servers.call(0, ("BLPOP", "none", 1), repeatable=False))
                await until(lambda: topology.link.connection.waiting)
                topology.link.connection.waiting[0].deadline += 5.0
                proxy.latency(8.0)
                topology.link._resume()
                with pytest.raises(Unavailable, match="not known") as caught:
                    await task
                assert not isinstance(caught.value, NOTHING_WRITTEN)
                assert isinstance(caught.value.__cause__, Busy)
                more.cancel()

    with RedisServer.start(config={"busy-reply-threshold": 50}) as server:
        asyncio.run(main())


def test_one_node_is_full_and_another_lost_its_answer(statehold_redis_cluster):
    """The call as a whole is in doubt, whichever command comes first."""
    cluster = statehold_redis_cluster
    cluster.flush()
    full = cluster.master_of("{t}")
    tags = [f"t{at}" for at in range(60)]
    other = next(tag for tag in tags if cluster.master_of(f"{{{tag}}}") is not full)
    stalls = cluster.master_of(f"{{{other}}}")

    async def main():
        async with opened(cluster.url, timeout=1.0) as servers:
            blocking = push("x", other)[0], ("BLPOP", f"{{{other}}}:none", 3)
            for commands in ([once("a"), blocking], [blocking, once("a")]):
                with pytest.raises(Unavailable, match="not known") as caught:
                    await servers.call_many(commands, repeatable=True)
                assert not isinstance(caught.value, NOTHING_WRITTEN)
            stalls.cli("CONFIG", "SET", "maxmemory", 1)
            with pytest.raises(Full):  # nowhere was anything written
                await servers.call_many([once("a"), once("a", other)], repeatable=True)

    full.cli("CONFIG", "SET", "maxmemory", 1)
    try:
        asyncio.run(main())
    finally:
        for each in (full, stalls):
            each.cli("CONFIG", "SET", "maxmemory", 0)
