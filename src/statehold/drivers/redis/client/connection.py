"""One connection: bytes out in batches, replies in, each to the request that waits for it.

Requests leave in the order in which they come and are answered in that order. The first request of a
connection that nobody uses is written at once; whatever else the tasks of this tick send is
gathered and leaves when there are sixteen, or when all tasks have had their turn. Once that was more
than one request, the next one is gathered too: many tasks are at work, and more will follow.

A connection makes no decisions. Its `ConnectionUser` hears of error replies and of the end of the connection, and
gets back the requests that were not answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import hiredis
import msgspec

from statehold.drivers.redis.client.contract import Command
from statehold.drivers.redis.client.errors import ErrorReply, in_doubt
from statehold.errors import Unavailable

PAUSE_BYTES = 1 << 20
"""Bytes that the operating system has not taken yet, beyond which requests are held back."""
READ_BYTES = 1 << 16
GROUP = 16
"""Requests of as many tasks are written without waiting for the end of the tick."""

_MISSING: Any = object()
_AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing sends a reset, and drops what has not been sent."""
pack: Callable[[Command], bytes] = cast("Any", hiredis).pack_command
"""A command as bytes."""
_ASKING = pack((b"ASKING",))


class Request(msgspec.Struct, eq=False):
    """A command on its way. Whoever cancels the future leaves the reply to be dropped."""

    future: asyncio.Future[Any]
    data: bytes
    deadline: float
    """By the clock of the event loop."""
    repeatable: bool
    """Whether it may be sent again although it may have been executed."""
    slot: int = 0
    writes: bool = False
    """Whether replicas are to confirm it, on a connection that asks them."""
    confirmed: asyncio.Future[int] | None = None
    """How many did, for all the writes that left with it."""
    refusal: ErrorReply | None = None
    """Why a server did not execute it, if it is being sent again for that."""
    tries: int = 0
    """How often that happened."""
    doubtful: bool = False
    """Whether it may have been executed already."""
    hops: int = 0
    """How often in a row it was sent to another server."""
    alone: bool = False
    """Whether it is all that its caller sends."""
    stamped: bool = False
    """Whether its last argument says until when it may be executed (`contract.STAMP`)."""
    sent: float = 0.0
    """When it was sent first, as far as it may have been executed, by the clock of the event loop …"""
    since: float = 0.0
    """… and by that of the server, at the latest, as it was known when the connection was lost."""

    def fail(self, error: Exception) -> None:
        """The caller gets this error, unless it went away.

        What may have been executed never fails with an error that says that nothing was written.
        """
        if not self.future.done():
            self.future.set_exception(in_doubt(error) if self.doubtful else error)


class Auxiliary(Request):
    """A command that serves another one; it is never sent again, and its failure hurts nobody."""

    def fail(self, error: Exception) -> None:  # noqa: ARG002  whoever it serves has an error of his own
        """Answered with 0: nothing was confirmed."""
        if not self.future.done():
            self.future.set_result(0)


class Ending(Auxiliary):
    """What ends a lost connection at the server."""

    def fail(self, error: Exception) -> None:  # noqa: ARG002
        """Answered with None: the server may not have heard of it."""
        if not self.future.done():
            self.future.set_result(None)


class ConnectionUser(Protocol):
    """Who uses a connection."""

    def refused(self, connection: Connection, request: Request, reply: ErrorReply) -> None:
        """The server answered a request with an error."""

    def lost(
        self, connection: Connection, sent: Sequence[Request], unsent: Sequence[Request], why: str
    ) -> None:
        """The connection has ended. `sent` may have been executed, `unsent` were never written."""

    def pushed(self, connection: Connection, news: Any) -> None:
        """The server said something that nobody asked for."""
        connection.drop(f"it said something that nobody asked for: {str(news)[:80]!r}")


class Tally:
    """What all connections of a driver count."""

    def __init__(self) -> None:
        self.connections = 0
        self.reconnects = 0
        self.round_trips = 0
        self.commands = 0
        self.repeated = 0
        self.redirects = 0
        self.failovers = 0
        self.unconfirmed = 0


class Connection(asyncio.BufferedProtocol):
    """An open connection."""

    def __init__(
        self,
        user: ConnectionUser,
        loop: asyncio.AbstractEventLoop,
        tally: Tally,
        wait: bytes | None = None,
    ) -> None:
        self.waiting: deque[Request] = deque()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.held = 0
        """Bytes of the commands that wait."""
        self.broken: Exception | None = None
        """Why it ended, if not in good order."""
        self.user = user
        self._loop = loop
        self._tally = tally
        reader: Any = hiredis.Reader(replyError=ErrorReply, notEnoughData=_MISSING)
        self._feed: Callable[[bytearray, int, int], None] = reader.feed
        self._gets: Callable[[], Any] = reader.gets
        self._into = bytearray(READ_BYTES)
        # A view, since asyncio's TLS slices what it is given, and the slice of a bytearray is a copy.
        self._view = memoryview(self._into)
        self._out: list[bytes] = []  # what leaves at the end of this tick …
        self._gathered = 0  # … and how many of the newest in `waiting` that is
        self._ticking = False  # the end of the tick has been asked for
        self._calm = True  # one task at a time
        self._paused = False
        self._why = "it closed the connection"
        self._transport: asyncio.Transport | None = None
        self._wait = wait
        self._confirmed: asyncio.Future[int] | None = None  # for the writes of this tick

    @property
    def open(self) -> bool:
        """Whether the connection stands."""
        return self._transport is not None

    @property
    def socket(self) -> socket.socket | None:
        """For setting options."""
        return None if self._transport is None else self._transport.get_extra_info("socket")

    # --------------------------------------------------------------------------------------- sending

    def send(self, request: Request) -> None:
        """The request is on its way, at the latest at the end of this tick."""
        data = request.data
        waiting = self.waiting
        waiting.append(request)
        self.held += len(data)
        if self._ticking:
            self._out.append(data)
            self._gathered += 1
            if (
                request.alone
                and self._gathered >= GROUP
                and self._wait is None
                and not self._paused
            ):
                self._flush()  # the server works while the other tasks have their turn
        else:
            self._ticking = True
            self._loop.call_soon(self._tick)
            if self._calm and len(waiting) == 1 and self._wait is None and not self._paused:
                self._write(data)
            else:
                self._out.append(data)
                self._gathered = 1
        if self._wait is not None and request.writes:
            if self._confirmed is None:
                self._confirmed = self._loop.create_future()
            request.confirmed = self._confirmed

    def send_asking(self, request: Request) -> None:
        """Like `send`, for a slot that is still on its way to this server."""
        self.send(
            Auxiliary(self._loop.create_future(), _ASKING, request.deadline, repeatable=False)
        )
        self.send(request)

    def _tick(self) -> None:
        self._ticking = False
        count = self._gathered
        self._calm = count == 0 or (count == 1 and not self._calm)
        if count and not self._paused:
            self._flush()

    def _flush(self) -> None:
        if self._confirmed is not None and self._wait is not None:
            request = Auxiliary(
                self._confirmed, self._wait, self.waiting[-1].deadline, repeatable=False
            )
            self._confirmed = None
            self.waiting.append(request)
            self.held += len(self._wait)
            self._out.append(self._wait)
        out = self._out
        self._out = []
        self._gathered = 0
        self._write(out[0] if len(out) == 1 else b"".join(out))

    def _write(self, data: bytes) -> None:
        self._tally.round_trips += 1
        if self._transport is not None:
            self._transport.write(data)

    # ------------------------------------------------------------------------------------- receiving

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the event loop puts what it reads."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Answer each request whose reply is complete."""
        waiting, gets = self.waiting, self._gets
        held = count = 0
        try:
            self._feed(self._into, 0, nbytes)
            while self._transport is not None and (reply := gets()) is not _MISSING:
                if not waiting:
                    self.user.pushed(self, reply)
                    continue
                request = waiting.popleft()
                count += 1
                held += len(request.data)
                if reply.__class__ is ErrorReply:
                    self._refused(request, reply)
                    continue
                future = request.future
                if not future.done():
                    future.set_result(reply)
        except hiredis.ProtocolError as error:
            self.drop(f"what it says is not the Redis protocol ({error})")
            return
        self.held = max(0, self.held - held)  # it is 0 once the connection was dropped
        self._tally.commands += count

    def _refused(self, request: Request, reply: ErrorReply) -> None:
        try:
            self.user.refused(self, request, reply)
        except Exception as error:  # a fault of ours, but nobody should have to wait for it
            request.fail(Unavailable(f"redis: {error!r}"))
            raise

    # ------------------------------------------------------------------------------ beginning and end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(PAUSE_BYTES)

    def pause_writing(self) -> None:
        """The server reads too slowly; what is sent from now on is held back."""
        self._paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._paused = False
        if self._gathered and not self._ticking:
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what was not answered."""
        self.broken = exc
        if not self.ended.done():
            self.ended.set_result(None)
        self._end(self._why if exc is None else f"the connection broke ({exc})")

    def drop(self, why: str) -> None:
        """End the connection now, without waiting for anything."""
        self._why = why
        if self._transport is not None:
            if self.waiting and self.socket is not None:
                # What nobody waits for any more is not to be delivered later by the system.
                with contextlib.suppress(OSError):
                    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self._transport.abort()
        self._end(why)

    def _end(self, why: str) -> None:
        self._transport = None
        requests = list(self.waiting)
        self.waiting.clear()
        sent = len(requests) - self._gathered
        self._out, self._gathered, self.held, self._confirmed = [], 0, 0, None
        self.user.lost(self, requests[:sent], requests[sent:], why)
