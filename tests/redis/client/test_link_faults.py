"""Connections that break, servers that die, stall, forget, refuse: nothing lost, nothing twice."""

import asyncio
import time

import pytest

from statehold.errors import Busy, Closed, Full, ReadOnly, Timeout, Unavailable
from statehold.testing.proxy import Proxy
from statehold.testing.servers import RedisServer
from tests.redis.client.linking import counted, looked_at, once, opened, push, settled, until

AT_ONCE = {"repl-diskless-sync-delay": 0}


def test_a_server_killed_and_started_again_is_found_again():
    """The scripts are gone with it; calls made meanwhile wait for it; nothing is lost or doubled."""

    async def main():
        async with opened(server.url, timeout=5.0) as servers:
            looks = looked_at(servers)
            assert await servers.call(*once("a"), repeatable=True) == 1
            assert looks == []
            server.kill()
            calls = [
                asyncio.create_task(servers.call(*once(str(at)), repeatable=True))
                for at in range(50)
            ]
            await asyncio.sleep(0.05)
            await asyncio.to_thread(server.restart)
            assert await asyncio.gather(*calls) == [1] * 50
            assert await servers.call(*counted(), repeatable=True) == b"51"
            assert looks == [[b"1"]], "another server, as it was before anything was sent to it"
            assert servers.stats()["reconnects_total"] == 1

    with RedisServer.start(appendonly=True) as server:
        asyncio.run(main())


def test_a_server_that_is_not_there_is_unavailable_within_the_bound():
    async def main():
        async with opened(server.url, timeout=0.3) as servers:
            for _ in range(2):
                start = time.monotonic()
                found = await settled([servers.call(*once("a"), repeatable=True)] * 1)
                assert type(found[0]) is Unavailable
                assert str(server.port) in str(found[0])
                assert 0.25 < time.monotonic() - start < 2.0
            with pytest.raises(Unavailable):
                await servers.ask_all(("PING",))

    with RedisServer.start() as server:
        server.kill()
        asyncio.run(main())


def test_a_server_that_stalls_costs_no_more_than_the_timeout():
    """What was sent before is executed when it goes on, and counted once; later calls succeed."""

    async def main():
        async with opened(server.url, timeout=1.0, connect_timeout=0.5) as servers:
            assert await servers.call(*once("a"), repeatable=True) == 1
            server.pause()
            start = time.monotonic()
            found = await settled(
                [servers.call(*once(f"stalled {at}"), repeatable=True) for at in range(20)]
            )
            assert {type(one) for one in found} == {Timeout}
            assert time.monotonic() - start < 5.0  # twenty of them
            found = await settled([servers.call(*once("later"), repeatable=True)])
            assert isinstance(found[0], Unavailable)
            assert time.monotonic() - start < 10.0
            server.resume()
            found = [
                await servers.call(*once(f"stalled {at}"), repeatable=True) for at in range(20)
            ]
            assert found == [0] * 20
            await servers.call(*once("later"), repeatable=True)
            assert await servers.call(*counted(), repeatable=True) == b"22"

    with RedisServer.start() as server:
        asyncio.run(main())


def test_resets_among_many_calls_neither_lose_nor_double_any(redis):
    """Each call either succeeds, once, or raises."""

    async def main():
        with Proxy(redis.port) as proxy:
            async with opened(proxy.through(redis.url), timeout=5.0) as servers:

                async def caller(name):
                    made = 0
                    while servers.stats()["reconnects_total"] < 5:
                        await servers.call(*once(f"{name}-{made}"), repeatable=True)
                        made += 1
                    return made

                callers = asyncio.gather(*(caller(at) for at in range(200)))
                while not callers.done():
                    await asyncio.sleep(0.02)
                    proxy.reset()
                made = sum(await callers)
                assert await servers.call(*counted(), repeatable=True) == b"%d" % made

    asyncio.run(main())


def test_without_leave_to_repeat_a_broken_connection_is_an_error(redis):
    """Nobody knows whether it was executed; what was never sent is sent all the same."""

    async def main():
        with Proxy(redis.port) as proxy:
            async with opened(proxy.through(redis.url), timeout=5.0) as servers:
                await servers.call(*push("0"), repeatable=False)
                calls = [
                    asyncio.create_task(servers.call(*push(str(at)), repeatable=False))
                    for at in range(1, 201)
                ]
                await asyncio.sleep(0)
                await asyncio.to_thread(proxy.reset)
                found = await asyncio.gather(*calls, return_exceptions=True)
                done = [one for one in found if isinstance(one, int)]
                assert {type(one) for one in found} <= {int, Unavailable}
                length = await servers.call(0, ("LLEN", "{t}:list"), repeatable=True)
                assert len(done) + 1 <= length <= 201
                stored = await servers.call(0, ("LRANGE", "{t}:list", 0, -1), repeatable=True)
                assert len(set(stored)) == len(stored)

    asyncio.run(main())


def test_a_reply_cut_off_after_execution_is_asked_for_again(redis):
    async def main():
        with Proxy(redis.port) as proxy:
            async with opened(proxy.through(redis.url)) as servers:
                assert await servers.call(*once("a"), repeatable=True) == 1
                with proxy.cut_reply(when=lambda request: b"EVALSHA" in request):
                    assert await servers.call(*once("b"), repeatable=True) == 0  # already counted
                with (
                    proxy.cut_reply(when=lambda request: b"EVALSHA" in request),
                    pytest.raises(Unavailable, match="whether it was executed is not known"),
                ):
                    await servers.call(*once("c"), repeatable=False)
                with proxy.cut_request(when=lambda request: b"EVALSHA" in request):
                    assert await servers.call(*once("d"), repeatable=True) == 1
                assert await servers.call(*counted(), repeatable=True) == b"4"
                assert servers.stats()["repeated_total"] == 2

    asyncio.run(main())


def test_what_is_sent_again_keeps_its_order(redis):
    async def main():
        with Proxy(redis.port) as proxy:
            async with opened(proxy.through(redis.url)) as servers:
                await servers.call(0, ("PING",), repeatable=True)
                commands = [push(str(at)) for at in range(100)]
                with proxy.cut_request(when=lambda request: b"EVALSHA" in request):
                    many = servers.call_many(commands, repeatable=True)
                    assert await many == list(range(1, 101))
                found = await servers.call(0, ("LRANGE", "{t}:list", 0, -1), repeatable=True)
                assert found == [b"%d" % at for at in range(100)]

    asyncio.run(main())


def test_a_connection_gone_without_a_word_is_given_up(redis):
    """Half open: the peer neither answers nor ends it."""

    async def main():
        with Proxy(redis.port) as proxy:
            async with opened(proxy.through(redis.url), timeout=1.0) as servers:
                await servers.call(*once("a"), repeatable=True)
                proxy.stall()
                start = time.monotonic()
                found = await settled(
                    [servers.call(*once(str(at)), repeatable=True) for at in range(5)]
                )
                assert {type(one) for one in found} == {Timeout}
                assert time.monotonic() - start < 4.0
                proxy.resume()
                assert await servers.call(*once("b"), repeatable=True) == 1

    asyncio.run(main())


def test_an_idle_connection_that_the_server_closes_is_replaced_before_use(redis):
    async def main():
        async with opened(redis.url) as servers:
            await servers.call(*once("a"), repeatable=False)
            await asyncio.to_thread(redis.cli, "CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(0.05)
            assert await servers.call(*once("b"), repeatable=False) == 1
            assert servers.stats()["repeated_total"] == 0

    asyncio.run(main())


def test_forgotten_scripts_are_loaded_once_and_every_call_is_repeated(redis):
    async def main():
        async with opened(redis.url) as servers:
            await servers.call(*once("a"), repeatable=False)
            redis.cli("SCRIPT", "FLUSH")
            trips = servers.stats()["round_trips_total"]
            commands = [push(str(at)) for at in range(100)]
            assert await servers.call_many(commands, repeatable=False) == list(range(1, 101))
            found = await servers.call(0, ("LRANGE", "{t}:list", 0, -1), repeatable=True)
            assert found == [b"%d" % at for at in range(100)]
            assert servers.stats()["round_trips_total"] - trips <= 5
            redis.cli("SCRIPT", "FLUSH")
            assert await servers.call(*counted(), repeatable=False) == b"1"

    asyncio.run(main())


def test_scripts_that_a_server_keeps_forgetting_are_an_error():
    async def main():
        async with opened(server.url) as servers:
            await servers.call(*once("a"), repeatable=True)
            unknown = (0, ("EVALSHA", "0" * 40, 0))
            with pytest.raises(Unavailable, match="NOSCRIPT"):
                await servers.call(*unknown, repeatable=True)
            assert await servers.call(*once("b"), repeatable=True) == 1

    with RedisServer.start() as server:
        asyncio.run(main())


def test_a_server_that_is_loading_is_waited_for():
    async def main():
        async with opened(server.url, timeout=10.0) as servers:
            await servers.call(*once("a"), repeatable=True)
            for at in range(2):
                commands = [once(f"{at}-{n}") for n in range(1000)]
                await servers.call_many(commands, repeatable=True)
            server.kill()
            restarting = asyncio.create_task(asyncio.to_thread(server.restart))
            loading = False
            async with opened(server.url, timeout=0.2) as hasty:
                while not restarting.done():
                    [found] = await settled([hasty.call(*counted(), repeatable=True)])
                    loading = loading or "still reading its data" in str(found)
            assert loading
            assert await servers.call(*counted(), repeatable=True) == b"2001"
            await restarting

    slow = {"key-load-delay": 100, "appendonly": "yes", "appendfsync": "no"}
    with RedisServer.start(config=slow) as server:
        asyncio.run(main())


def test_a_replica_is_read_only():
    """A master that becomes a replica is waited for, in case it comes back."""

    async def main():
        async with opened(replica.url, timeout=1.5) as servers:
            assert await servers.call(*once("a"), repeatable=True) == 1
            replica.cli("REPLICAOF", "127.0.0.1", master.port)
            await until(lambda: replica.info("replication")["master_link_status"] == "up")
            for _ in range(5):
                [found] = await settled([servers.call(*once("b"), repeatable=True)])
                if type(found) is not Timeout:  # its time is over while it is asked once more
                    break
            assert type(found) is ReadOnly
            assert "replica" in str(found)
            assert await servers.call(*counted(), repeatable=True) is None  # the master has no data
        async with opened(replica.url, timeout=5.0) as servers:
            calls = [
                asyncio.create_task(servers.call(*once(str(at)), repeatable=False))
                for at in range(20)
            ]
            await asyncio.sleep(0.1)
            replica.cli("REPLICAOF", "NO", "ONE")
            assert await asyncio.gather(*calls) == [1] * 20

    with RedisServer.start(config=AT_ONCE) as master, RedisServer.start() as replica:
        asyncio.run(main())


def test_out_of_memory_is_full_and_nothing_is_written():
    async def main():
        async with opened(server.url) as servers:
            await servers.call(*once("a"), repeatable=True)
            server.cli("CONFIG", "SET", "maxmemory", 1)
            with pytest.raises(Full, match="maxmemory"):
                await servers.call(*once("b"), repeatable=True)
            assert await servers.call(*counted(), repeatable=True) == b"1"
            server.cli("CONFIG", "SET", "maxmemory", 0)
            assert await servers.call(*once("b"), repeatable=True) == 1

    with RedisServer.start() as server:
        asyncio.run(main())


def test_a_script_of_somebody_else_that_blocks_the_server():
    """Busy when it lasts; and when it ends, what waited is executed."""

    async def main():
        async with opened(server.url, timeout=1.5) as hasty, opened(server.url, timeout=20) as calm:
            await hasty.call(*once("a"), repeatable=True)
            await calm.call(*once("b"), repeatable=True)
            endless = asyncio.create_task(
                asyncio.to_thread(server.cli, "EVAL", "while true do end", 0, timeout=20)
            )
            try:
                await asyncio.sleep(0.2)
                with pytest.raises(Busy, match="script"):
                    await hasty.call(*once("c"), repeatable=True)
                waiting = asyncio.create_task(calm.call(*once("d"), repeatable=False))
                await asyncio.sleep(0.05)
            finally:
                server.cli("SCRIPT", "KILL")
            assert await waiting == 1
            await asyncio.wait([endless])
            assert "ERR" in str(endless.exception())

    with RedisServer.start(config={"busy-reply-threshold": 50}) as server:
        asyncio.run(main())


def test_a_server_that_takes_no_more_clients_is_unavailable_until_it_does():
    async def main():
        async with (
            opened(server.url, timeout=1.0) as first,
            opened(server.url, timeout=1.0) as more,
        ):
            await first.call(*once("a"), repeatable=True)
            with pytest.raises(Unavailable, match=str(server.port)):
                await more.call(*once("b"), repeatable=True)
            await first.close()
            assert await more.call(*once("b"), repeatable=True) == 1

    with RedisServer.start() as server:
        server.cli("CONFIG", "SET", "maxclients", 1)
        asyncio.run(main())


def test_closing_while_connecting_leaves_nothing_behind():
    async def main():
        async with opened(server.url) as servers:
            calls = [
                asyncio.create_task(servers.call(*once(str(at)), repeatable=True))
                for at in range(5)
            ]
            await asyncio.sleep(0.05)
            await servers.close()
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(one) for one in found} == {Closed}

    with RedisServer.start() as server:
        server.pause()
        asyncio.run(main())
        server.resume()


def test_confirmation_by_replicas():
    """A write is acknowledged when as many replicas as asked for have it; reads do not wait."""

    async def main():
        async with opened(master.url, wait_replicas=1, wait_timeout=1.0) as servers:
            # A replica that is there may be sent nothing for a second yet.
            while isinstance(
                (await settled([servers.call(*once("0"), repeatable=True)]))[0], Timeout
            ):
                pass
            unconfirmed = servers.stats()["unconfirmed_total"]
            assert await servers.call(*once("a"), repeatable=True) == 1
            found = await servers.call_many([once(f"a{at}") for at in range(50)], repeatable=True)
            assert found == [1] * 50
            assert replica.cli("GET", "{t}:number") == "52"
            calls = [servers.call(*once(f"b{at}"), repeatable=True) for at in range(50)]
            before = servers.stats()["round_trips_total"]
            assert await asyncio.gather(*calls) == [1] * 50
            assert servers.stats()["round_trips_total"] == before + 1
            replica.pause()
            [found] = await settled([servers.call(*once("c"), repeatable=True)])
            assert type(found) is Timeout
            assert "it stands on the master" in str(found)
            assert await servers.call(*counted(), repeatable=True) == b"103"
            assert servers.stats()["unconfirmed_total"] == unconfirmed + 1
            replica.resume()
            await until(lambda: replica.cli("GET", "{t}:number") == "103")
            assert await servers.call(*once("c"), repeatable=True) == 0
            call = asyncio.create_task(servers.call(*once("d"), repeatable=False))
            await asyncio.sleep(0)
            master.kill()
            with pytest.raises(Unavailable, match="whether it was executed"):
                await call

    with RedisServer.start(config=AT_ONCE) as master, RedisServer.start() as replica:
        replica.cli("REPLICAOF", "127.0.0.1", master.port)
        asyncio.run(main())


def test_a_server_that_always_hangs_up_is_not_besieged(redis):
    """What may be repeated is repeated with pauses, and is `Unavailable` in the end."""

    async def main():
        with Proxy(redis.port) as proxy:
            async with opened(proxy.through(redis.url), timeout=1.5) as servers:
                with proxy.cut_request(times=None, when=lambda request: b"EVALSHA" in request):
                    [found] = await settled([servers.call(*once("a"), repeatable=True)])
                assert isinstance(found, Unavailable)
                assert servers.stats()["connections_total"] < 20
                assert await servers.call(*once("a"), repeatable=True) == 1

    asyncio.run(main())


def test_a_call_that_is_sent_again_keeps_its_deadline():
    """Also behind calls that have more time."""

    async def main():
        async with opened(server.url, timeout=3.0) as servers:
            await servers.call(*once("a"), repeatable=True)
            server.cli("SCRIPT", "FLUSH")
            server.pause()
            first = asyncio.create_task(servers.call(*once("b"), repeatable=True))
            await asyncio.sleep(2.0)
            more = asyncio.create_task(servers.call(0, ("BLPOP", "none", 5), repeatable=True))
            await asyncio.sleep(0.02)
            server.resume()  # NOSCRIPT, and the repeated call is behind the one that blocks
            [found] = await asyncio.gather(first, return_exceptions=True)
            assert isinstance(found, Unavailable)
            assert not more.done()
            await asyncio.wait([more])

    with RedisServer.start() as server:
        asyncio.run(main())


def test_what_waits_for_a_server_is_bounded_too():
    async def main():
        async with opened(server.url, timeout=0.5, max_pending=5000) as servers:
            start = time.monotonic()
            found = await settled(
                [servers.call(*once(str(at)), repeatable=True) for at in range(6000)]
            )
            assert sum(type(one) is Busy for one in found) == 1000
            assert sum(type(one) is Unavailable for one in found) == 5000
            assert time.monotonic() - start < 10.0

    with RedisServer.start() as server:
        server.kill()
        asyncio.run(main())


def test_a_server_that_reads_too_slowly_is_sent_no_more_than_it_takes():
    """What the system does not take is held back, stays in order, and leaves later."""

    async def main():
        async with opened(server.url, timeout=20.0) as servers:
            await servers.call(*push("first"), repeatable=True)
            server.pause()
            commands = [push(f"{at}-" + "x" * 300_000) for at in range(100)]
            many = asyncio.create_task(servers.call_many(commands, repeatable=False))
            await asyncio.sleep(0.1)
            more = asyncio.create_task(servers.call(*push("last"), repeatable=False))
            await asyncio.sleep(0.1)
            topology = next(iter(servers._topologies))
            assert topology.link.connection._paused
            assert topology.link.connection._gathered == 1
            server.resume()
            assert await many == list(range(2, 102))
            assert await more == 102

    with RedisServer.start() as server:
        asyncio.run(main())
