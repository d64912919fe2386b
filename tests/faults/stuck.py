"""A network that holds what was sent, and delivers it after the client has given up."""

import asyncio
import contextlib
import socket
import struct


class Stuck:
    """A relay. What its clients send can be held, their side be reset, and all be delivered later."""

    def __init__(self, port):
        self.target = port
        self.holds = None  # whether to begin with these bytes; None: never
        self.held = {}  # what each connection has sent since
        self.through = []  # connections: the client's writer, and the server's
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in (one for both in self.through for one in both):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self.server.wait_closed()

    async def accept(self, reader, writer):
        there, to = await asyncio.open_connection("127.0.0.1", self.target)
        self.through.append((writer, to))
        for pump in (self.up(reader, writer, to), self.down(there, writer)):
            self.tasks.add(asyncio.create_task(pump))

    async def up(self, reader, writer, to):
        """To the server. A client that was reset is not told to it."""
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if writer in self.held or (self.holds is not None and self.holds(data)):
                    self.held.setdefault(writer, [to]).append(data)
                else:
                    to.write(data)
            if writer not in self.held:
                to.close()

    async def down(self, there, writer):
        with contextlib.suppress(OSError):
            while data := await there.read(1 << 16):
                writer.write(data)
            writer.close()

    def reset_clients(self):
        """Those whose bytes are held see a reset; the server sees nothing. Later ones get through."""
        self.holds = None
        for writer in [one for one in self.held if not one.is_closing()]:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def deliver(self):
        for to, *sent in self.held.values():
            to.write(b"".join(sent))


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  it is the relay that is watched
            await asyncio.sleep(0.001)
