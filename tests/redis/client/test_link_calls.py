"""Calls over a healthy connection: order, batches, bounds, cancellation, loops, bytes."""

import asyncio
import gc
import weakref
from urllib.parse import urlsplit

import pytest

from statehold.drivers.redis.client.address import Options
from statehold.drivers.redis.client.connection import GROUP
from statehold.drivers.redis.client.opening import open_client
from statehold.errors import Busy, Closed, Corrupted, Invalid, Unavailable
from statehold.testing.servers import RedisServer
from tests.redis.client.linking import SCRIPTS, counted, once, opened, push, settled

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture
def clean(statehold_redis: RedisServer) -> None:
    statehold_redis.flush()


@pytest.fixture
def url(statehold_redis: RedisServer) -> str:
    return statehold_redis.url


def test_a_call_is_answered(url):
    async def main():
        async with opened(url) as servers:
            assert await servers.call(*once("a"), repeatable=True) == 1
            assert await servers.call(*once("a"), repeatable=True) == 0
            assert await servers.call(*counted(), repeatable=True) == b"1"
            assert await servers.ask_all(("DBSIZE",)) == [(url.partition("//")[2], 2)]

    asyncio.run(main())


def test_what_one_tick_sends_leaves_in_order_and_in_few_writes(url):
    """The first call of a quiet connection at once, the others of the tick by sixteen."""

    async def main():
        async with opened(url) as servers:
            await servers.call(*push("first"), repeatable=True)
            before = servers.stats()["round_trips_total"]
            calls = [servers.call(*push(str(at)), repeatable=True) for at in range(500)]
            assert await asyncio.gather(*calls) == list(range(2, 502))
            assert servers.stats()["round_trips_total"] - before <= 2 + 500 / GROUP
            found = await servers.call(0, ("LRANGE", "{t}:list", 1, -1), repeatable=True)
            assert found == [b"%d" % at for at in range(500)]
            assert servers.stats()["pending"] == 0

    asyncio.run(main())


def test_call_many_answers_in_order_and_raises_when_all_are_settled(url):
    async def main():
        async with opened(url) as servers:
            commands = [push(str(at)) for at in range(10)]
            assert await servers.call_many(commands, repeatable=True) == list(range(1, 11))
            wrong = (0, ("INCR", "{t}:list"))
            with pytest.raises(Corrupted, match="another kind"):
                await servers.call_many([wrong, *commands], repeatable=True)
            assert await servers.call(0, ("LLEN", "{t}:list"), repeatable=True) == 20
            assert await servers.call_many([], repeatable=True) == []

    asyncio.run(main())


def test_more_commands_than_may_wait_go_out_in_waves(url):
    """A call of any size is answered, in order, however few may wait at once."""

    async def main():
        async with opened(url, max_pending=10) as servers:
            found = await servers.call_many([push(str(at)) for at in range(95)], repeatable=True)
            assert found == list(range(1, 96))
            items = await servers.call(0, ("LRANGE", "{t}:list", 0, -1), repeatable=True)
            assert items == [b"%d" % at for at in range(95)]
            assert servers.stats()["pending"] == 0
            wrong = (0, ("INCR", "{t}:list"))
            with pytest.raises(Corrupted):  # and no further wave follows one that failed
                await servers.call_many(
                    [wrong, *(push(str(at)) for at in range(95))], repeatable=True
                )
            length = await servers.call(0, ("LLEN", "{t}:list"), repeatable=True)
            assert 95 < length < 95 + 20

    asyncio.run(main())


def test_a_call_that_finds_no_room_at_all_is_busy(url):
    """Where nothing of its own is waited for, nothing of it was written."""

    async def main():
        async with opened(url, max_pending=10) as servers:
            await servers.call(*counted(), repeatable=True)
            blocks = [
                asyncio.create_task(servers.call(0, ("BLPOP", "nothing", 1), repeatable=True))
                for _ in range(7)
            ]
            await asyncio.sleep(0)
            many = asyncio.create_task(
                servers.call_many([push(str(at)) for at in range(3)], repeatable=True)
            )
            await asyncio.sleep(0)
            with pytest.raises(Busy):  # what waits is all others'
                await servers.call_many([push(str(at)) for at in range(20)], repeatable=True)
            for block in blocks:
                block.cancel()
            many.cancel()

    asyncio.run(main())


def test_more_than_max_pending_is_busy_and_nothing_is_written(url):
    async def main():
        async with opened(url, max_pending=10) as servers:
            found = await settled(
                [servers.call(*once(str(at)), repeatable=True) for at in range(30)]
            )
            assert [type(one) for one in found] == [int] * 10 + [Busy] * 20
            assert await servers.call(*counted(), repeatable=True) == b"10"  # connected by now
            found = await settled(
                [servers.call(*once(str(at)), repeatable=True) for at in range(30)]
            )
            assert [type(one) for one in found] == [int] * 10 + [Busy] * 20
            assert await servers.call(*counted(), repeatable=True) == b"10"
            await servers.call_many([once(f"m{at}") for at in range(11)], repeatable=True)
            assert await servers.call(*counted(), repeatable=True) == b"21"

    asyncio.run(main())


def test_commands_that_wait_are_bounded_in_bytes(url):
    async def main():
        big = "x" * (10 << 20)
        async with opened(url, timeout=10.0) as servers:
            await servers.call(*once("a"), repeatable=True)
            found = await settled(
                [servers.call(0, ("ECHO", big), repeatable=True) for _ in range(10)]
            )
            assert [type(one) for one in found] == [bytes] * 7 + [Busy] * 3
            assert await servers.call(*once("b"), repeatable=True) == 1

    asyncio.run(main())


def test_a_cancelled_call_leaves_the_connection_in_step(url):
    """Its reply must not reach the next caller."""

    async def main():
        async with opened(url) as servers:
            await servers.call(*once("a"), repeatable=True)
            connections = servers.stats()["connections_total"]
            for round in range(20):
                tasks = [
                    asyncio.create_task(servers.call(0, ("ECHO", f"{round}-{at}"), repeatable=True))
                    for at in range(20)
                ]
                await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
                found = await asyncio.gather(*tasks, return_exceptions=True)
                assert found[1::2] == [b"%d-%d" % (round, at) for at in range(1, 20, 2)]
                assert all(isinstance(one, asyncio.CancelledError) for one in found[::2])
            many = asyncio.create_task(
                servers.call_many([push(str(at)) for at in range(9)], repeatable=True)
            )
            await asyncio.sleep(0)
            many.cancel()
            await asyncio.wait([many])
            assert await servers.call(0, ("ECHO", "x"), repeatable=True) == b"x"
            assert servers.stats()["connections_total"] == connections
            assert servers.stats()["pending"] == 0

    asyncio.run(main())


def test_a_call_cancelled_while_connecting_is_never_sent(url):
    async def main():
        async with opened(url) as servers:
            task = asyncio.create_task(servers.call(*once("a"), repeatable=True))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert await servers.call(*counted(), repeatable=True) is None

    asyncio.run(main())


def test_each_event_loop_has_its_own_connection(url, recwarn):
    """And none of them is kept alive, nor its connection left open, once it has ended."""
    one = open_client(urlsplit(url), Options(), SCRIPTS)
    ended = []

    async def first():
        ended.append(weakref.ref(asyncio.get_running_loop()))
        assert await one.call(*once("a"), repeatable=True) == 1

    async def second():
        assert await one.call(*counted(), repeatable=True) == b"1"
        assert one.stats()["connections_total"] == 2
        gc.collect()
        assert ended[0]() is None
        clients = await one.call(0, ("CLIENT", "LIST", "TYPE", "normal"), repeatable=True)
        assert clients.count(b"name=statehold ") == 1
        await one.close()
        with pytest.raises(Closed):
            await one.call(*counted(), repeatable=True)

    asyncio.run(first())
    asyncio.run(second())
    assert not recwarn.list


def test_closing_ends_what_waits_and_may_be_repeated(url):
    async def main():
        async with opened(url) as servers:
            await servers.call(*once("a"), repeatable=True)
            waiting = asyncio.create_task(servers.call(0, ("BLPOP", "nothing", 5), repeatable=True))
            await asyncio.sleep(0.02)
            await servers.close()
            with pytest.raises(Closed):
                await waiting
            for call in (servers.call(*once("b"), repeatable=True), servers.ask_all(("PING",))):
                with pytest.raises(Closed):
                    await call

    asyncio.run(main())


def test_any_bytes_and_any_text_pass_through(url):
    async def main():
        async with opened(url) as servers:
            for value in (b"", b"\r\n$5\r\n", bytes(range(256)), "naïve 日本 🙂\0", b"\xff\xfe"):
                sent = value if isinstance(value, bytes) else value.encode()
                assert await servers.call(0, ("ECHO", value), repeatable=True) == sent
            with pytest.raises(Invalid):
                await servers.call(0, ("ECHO", "\ud800"), repeatable=True)
            assert await servers.call(0, ("ECHO", -(2**63)), repeatable=True) == b"%d" % -(2**63)

    asyncio.run(main())


def test_large_replies_do_not_mix_with_small_ones(url):
    async def main():
        big = bytes(range(256)) * (5 * 4096)
        async with opened(url) as servers:
            assert await servers.call(0, ("SET", "big", big), repeatable=True) == b"OK"
            commands = [(0, ("GET", "big")), (0, ("ECHO", "x"))] * 3
            assert await servers.call_many(commands, repeatable=True) == [big, b"x"] * 3

    asyncio.run(main())


def scripted(*answers):
    """A server that answers each chunk it receives with the next of these, the handshake included."""

    async def serve(reader, writer):
        try:
            for answer in answers:
                if not await reader.read(1 << 16):
                    break
                for part in answer:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.005)
            await reader.read()
        finally:
            writer.close()

    return serve


HELLO = [
    b"*2\r\n$10\r\n1700000000\r\n$1\r\n5\r\n+OK\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
    b"$12\r\nrun_id:abc\r\n\r\n:7\r\n" + b"$2\r\nok\r\n" * 3,
]


async def against(serve, then, **options):
    connections = []

    async def watched(reader, writer):
        connections.append(asyncio.current_task())
        await serve(reader, writer)

    server = await asyncio.start_server(watched, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with opened(f"redis://127.0.0.1:{port}", **options) as servers:
            await then(servers)
    await asyncio.wait_for(asyncio.gather(*connections, return_exceptions=True), 5)


def test_a_reply_that_comes_in_pieces_is_put_together():
    async def then(servers):
        found = await servers.call(0, ("GET", "a"), repeatable=False)
        assert found == [b"abc", [1, None]]

    parts = [b"*2", b"\r\n$3\r", b"\nab", b"c\r\n*2\r\n:", b"1\r\n$-1\r", b"\n"]
    asyncio.run(against(scripted(HELLO, parts), then))


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400\r\n\r\n", b"+A\r\n+B\r\n", b"$-5\r\nx"])
def test_what_is_not_the_protocol_ends_the_connection(nonsense):
    """A reply too many would otherwise be the next call's."""

    async def then(servers):
        for connection in (1, 2):
            [found] = await settled([servers.call(0, ("GET", "a"), repeatable=False)])
            assert found == b"A" or type(found) is Unavailable
            assert servers.stats()["connections_total"] == connection
            await asyncio.sleep(0.02)

    asyncio.run(against(scripted(HELLO, [nonsense]), then))


def test_threads_with_event_loops_of_their_own(url):
    """Each has its connection; none gets the other's replies."""
    servers = open_client(urlsplit(url), Options(), SCRIPTS)

    async def work(name):
        for at in range(300):
            text = f"{name}-{at}"
            assert await servers.call(0, ("ECHO", text), repeatable=True) == text.encode()

    async def main():
        await asyncio.gather(
            work("main"), *(asyncio.to_thread(asyncio.run, work(at)) for at in range(3))
        )
        assert servers.stats()["connections_total"] == 4
        await servers.close()

    asyncio.run(main())


def test_uvloop(url):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        async with opened(url) as servers:
            commands = [push(str(at)) for at in range(100)]
            assert await servers.call_many(commands, repeatable=True) == list(range(1, 101))
            big = "x" * 1_000_000
            assert await servers.call(0, ("ECHO", big), repeatable=True) == big.encode()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
