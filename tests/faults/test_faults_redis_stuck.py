"""A first sending that the network still holds when it is sent again, and delivers afterwards."""

import asyncio
import contextlib
import socket
import struct
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, State


class Visit(State, ttl=timedelta(hours=1)):
    clicks = Counter()


class Stuck:
    """A relay: what its first connection sends can be held, its client reset, and all delivered later."""

    def __init__(self, port):
        self.target = port
        self.held = None
        self.first = None
        self.tasks = set()
        self.writers = []
        self.has_held = asyncio.Event()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self.server.wait_closed()

    async def accept(self, reader, writer):
        there, to = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers += [writer, to]
        if self.first is None:
            self.first = writer, to
        mine = self.first[0] is writer
        for source, sink, held in ((reader, to, mine), (there, writer, False)):
            task = asyncio.create_task(self.pump(source, sink, held))
            self.tasks.add(task)

    async def pump(self, source, sink, may_hold):
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if may_hold and self.held is not None:
                    self.held += data
                    self.has_held.set()
                else:
                    sink.write(data)

    def hold(self):
        self.held = b""

    def reset_client(self):
        """The client sees a reset; the server sees nothing."""
        sock = self.first[0].get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.first[0].transport.abort()

    def deliver(self):
        self.first[1].write(self.held)


async def played(server, others):
    async with Stuck(server.port) as relay:
        url = f"redis://127.0.0.1:{relay.port}"
        async with AsyncStore.open(url) as store, AsyncStore.open(server.url) as beside:
            visits, theirs = store.collection(Visit), beside.collection(Visit)
            await visits.get("a")
            relay.hold()
            call = asyncio.create_task(visits.apply("a", Visit.clicks.add(1_000_000)))
            await relay.has_held.wait()
            relay.reset_client()
            await call
            await asyncio.gather(*(theirs.apply("a", Visit.clicks.add(1)) for _ in range(others)))
            if others > 100:  # and its life has ended, too
                await theirs.delete("a")
                await theirs.apply("a", Visit.clicks.add(7))
            relay.deliver()
            await asyncio.sleep(0.2)
            return (await theirs.get("a")).clicks


@pytest.mark.parametrize("others", [10, 3000])
def test_what_is_delivered_late_is_not_applied_again(statehold_redis, others):
    """However many others came between, and though the state was deleted and made anew."""
    statehold_redis.flush()
    clicks = asyncio.run(played(statehold_redis, others))
    assert clicks == (7 if others > 100 else 1_000_000 + others)
