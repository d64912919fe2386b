"""One server that is to be reached whatever happens to the connection.

A request is in one of three places: on the wire, in the outbox while there is no connection, or delayed
because the server said "not now". Whoever is there too long fails: one timer looks at the oldest.
An answer that is overdue condemns the connection, since the peer may be gone without a word; what may be
repeated moves back to the outbox, in the old order and before whatever came later, and a new
connection is made for as long as somebody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from statehold.drivers.redis.client.address import Address
from statehold.drivers.redis.client.clocks import LOOK_EVERY, ServerClock
from statehold.drivers.redis.client.connection import (
    Auxiliary,
    Connection,
    ConnectionUser,
    Ending,
    Request,
    pack,
)
from statehold.drivers.redis.client.errors import ErrorReply, Remedy, remedy, time_in, translated
from statehold.drivers.redis.client.handshake import Handshaken, Handshaker, server_time
from statehold.drivers.redis.client.leftover import Leftover
from statehold.drivers.redis.client.pauses import pause
from statehold.drivers.redis.client.stamps import ENDS, STAMPED, stamp, stamp_of
from statehold.drivers.redis.client.waiting import Delayed, Outbox
from statehold.errors import Busy, Closed, StateholdError, Timeout, Unavailable

HELD_BYTES = 64 << 20
"""Bytes of commands that may wait at one connection."""
LASTING = 1.0
"""Seconds; a connection that was lost sooner makes the next attempt wait."""
LOADS = 3
"""How often the scripts are loaded for one request before the server is taken for broken."""


_TIME = pack((b"TIME",))


class LinkUser(ABC):
    """The servers to which a link belongs: they know where things are."""

    mode: int = 0
    """Whether the servers are nodes of a cluster (1), for stamps."""

    @abstractmethod
    async def find(self, link: Link) -> Handshaken:
        """A connection to the server that the link should reach now."""

    @abstractmethod
    def redirected(self, link: Link, request: Request, reply: ErrorReply, *, asking: bool) -> None:
        """The server says that another one has what the request needs."""

    @abstractmethod
    def resend(self, link: Link, requests: list[Request]) -> None:
        """Send what was delayed."""

    @abstractmethod
    def may_have_moved(self, link: Link) -> None:
        """The server of the link is lost, out of reach or not ready; another may have its place."""


class Link(ConnectionUser):
    """The way to one server, from one event loop."""

    def __init__(
        self, topology: LinkUser, handshaker: Handshaker, address: Address, username: str | None
    ) -> None:
        self.topology = topology
        self.address = address
        self.connection: Connection | None = None
        self.outbox = Outbox()
        self.closed = False
        self._handshaker = handshaker
        self._loop = handshaker.loop
        self._tally = handshaker.tally
        self._username = username
        self._options = handshaker.options
        self._max_pending = handshaker.options.max_pending
        # A password that is refused now may be accepted when its file has been written.
        self._may_change = bool(
            handshaker.options.password_file or handshaker.options.sentinel_password_file
        )
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._trouble: StateholdError | None = None  # why there is no connection
        self._delayed = Delayed(handshaker.loop, self._resume)
        self._leaving = False  # the server is no master any more
        self._loading = False
        self._since: float | None = None  # when the last connection was made
        self._left = Leftover(handshaker.loop, handshaker.options.timeout)
        self._short = 0  # how many in a row did not last
        self._clock = ServerClock()
        self._timeout = handshaker.options.timeout
        # The deadline of the first request that makes us look at the clock again.
        self._look_due = 0.0

    @property
    def ahead(self) -> float:
        """Seconds by which the server's clock is ahead of the monotonic one, at least."""
        return self._clock.ahead

    @property
    def pending(self) -> int:
        """How many commands wait."""
        on_wire = len(self.connection.waiting) if self.connection is not None else 0
        return on_wire + len(self.outbox) + len(self._delayed.requests)

    def put(self, request: Request) -> None:
        """The request's future will be resolved. Raises `Busy`, with nothing done, if too many wait."""
        connection, delayed = self.connection, self._delayed
        if connection is not None:
            if (
                len(connection.waiting) + len(delayed.requests) >= self._max_pending
                or connection.held + delayed.bytes > HELD_BYTES
            ):
                raise self._busy()
            if request.stamped:
                request.sent = request.deadline - self._timeout
                until = (request.deadline + self._clock.ahead) * 1e6
                request.data = request.data[:-STAMPED] + stamp_of(
                    until, 0.0, self.topology.mode, ENDS
                )
                connection.send(request)
                if request.deadline > self._look_due:
                    self._look_at_clock(connection, request.deadline)
            else:
                connection.send(request)
        else:
            if self.closed:
                raise Closed("the store is closed")
            if (
                len(self.outbox) + len(delayed.requests) >= self._max_pending
                or self.outbox.bytes + delayed.bytes > HELD_BYTES
            ):
                raise self._busy()
            self.outbox.add(request)
            self._connect()
        if self._timer is None:
            self._timer = self._loop.call_at(request.deadline, self._look)

    def put_asking(self, request: Request) -> None:
        """Like `put`, for a slot that is still on its way to this server."""
        if self.connection is not None:
            stamp(request, self._clock.ahead, 2, self._loop.time())
            self.connection.send_asking(request)
            self._watch_one(request)
        else:  # by then the slot may have arrived; if not, the server sends the request back
            self.put_back([request], first=False)

    def _busy(self) -> Busy:
        return Busy(
            f"redis at {self.address}: {self.pending} commands wait already; nothing was written",
            expected=self._max_pending,
        )

    # ------------------------------------------------------------------------------ the server's time

    def _send(self, connection: Connection, request: Request) -> None:
        stamp(request, self._clock.ahead, self.topology.mode, self._loop.time())
        connection.send(request)

    def _look_at_clock(self, connection: Connection, deadline: float) -> None:
        """Ask what time it is there, beside what is being sent anyway."""
        self._look_due = deadline + LOOK_EVERY
        sent = self._loop.time()
        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(lambda done: self._hear_time(done, sent))
        connection.send(Auxiliary(future, _TIME, deadline, repeatable=False))

    def _hear_time(self, done: asyncio.Future[Any], sent: float) -> None:
        if not done.cancelled() and isinstance(reply := done.result(), list):
            self._clock.learn(server_time(reply), sent, self._loop.time())

    # ---------------------------------------------------------------------------------- the deadline

    def _look(self) -> None:
        """Fail what is overdue, and come back when the next request will be."""
        self._timer = None
        now = self._loop.time()
        connection = self.connection
        if connection is not None and connection.waiting and connection.waiting[0].deadline <= now:
            connection.drop(f"no answer within {self._options.timeout:g} s")
        for request in self.outbox.take_late(now):
            request.fail(self._unsent(request))
        self._watch()

    def _watch(self) -> None:
        """The timer is set to the earliest deadline, if any request waits."""
        if self._timer is not None:
            return
        deadlines = [request.deadline for request in self.outbox]
        if self.connection is not None and self.connection.waiting:
            deadlines.append(self.connection.waiting[0].deadline)
        if deadlines:
            self._timer = self._loop.call_at(min(deadlines), self._look)

    def _watch_one(self, request: Request) -> None:
        """A request that is sent again may be behind others that have more time."""
        connection = self.connection
        if connection is not None and connection.waiting[0].deadline > request.deadline:
            self._loop.call_at(request.deadline, self._late, request)
        self._watch()

    def _late(self, request: Request) -> None:
        if not request.future.done():
            if request not in self.outbox and request not in self._delayed.requests:
                request.doubtful = True  # it is on the wire, whatever was said of it before
            request.fail(self._unsent(request))

    def _unsent(self, request: Request) -> StateholdError:
        """Why a request has failed that waits to be sent, or sent again."""
        if request.refusal is not None:
            return translated(request.refusal, self.address, self._username)
        trouble = self._trouble
        if trouble is not None and request.doubtful:
            error = Timeout(f"{trouble}; whether it was executed is not known")
            error.__cause__ = trouble
            return error
        if trouble is None:
            return Timeout(
                f"redis at {self.address}: no connection within {self._options.timeout:g} s"
            )
        same = type(trouble)(str(trouble), field=trouble.field)
        same.__cause__ = trouble
        return same

    # -------------------------------------------------------------------------------- error replies

    def refused(self, connection: Connection, request: Request, reply: ErrorReply) -> None:
        """Do what helps, as long as there is time."""
        helps = remedy(reply)
        if request.future.done():
            return
        if isinstance(request, Ending):
            request.future.set_result(reply)  # the user may not, and will not be able to later
            return
        if (
            helps is Remedy.NONE
            or isinstance(request, Auxiliary)
            or request.deadline <= self._loop.time()
            or (helps is Remedy.LOAD and request.tries >= LOADS)
        ):
            request.fail(translated(reply, self.address, self._username))
            return
        request.refusal = reply
        request.tries += 1
        self._tally.repeated += 1
        if helps is Remedy.LOAD:
            self._load(connection, request)
        elif helps is Remedy.LATE:  # there is time left here: one of the clocks was set
            self._clock.correct(time_in(reply), self._loop.time())
            self.delay(request)
        elif helps is Remedy.MOVED or helps is Remedy.ASK:
            self._tally.redirects += 1
            self.topology.redirected(self, request, reply, asking=helps is Remedy.ASK)
        else:
            self._leaving = self._leaving or helps is Remedy.MASTER
            self.topology.may_have_moved(self)
            self.delay(request)

    def _load(self, connection: Connection, request: Request) -> None:
        """The scripts, and then the request."""
        if not self._loading:
            self._loading = True
            future = self._loop.create_future()
            for data in self._handshaker.loads:
                future = self._loop.create_future()
                connection.send(Auxiliary(future, data, request.deadline, repeatable=False))
            future.add_done_callback(self._loaded)
        self._send(connection, request)
        self._watch_one(request)

    def _loaded(self, _: object) -> None:
        self._loading = False

    def delay(self, request: Request) -> None:
        """The request is sent again after a pause, with whatever else is delayed until then."""
        self._delayed.add(request)

    def _resume(self) -> None:
        requests = self._delayed.take()
        if self._leaving:
            self._leaving = False
            if self.connection is not None:
                self.connection.drop("it is no master any more")
        now = self._loop.time()
        self.topology.resend(self, [request for request in requests if self._in_time(request, now)])

    def _in_time(self, request: Request, now: float) -> bool:
        if request.future.done():
            return False
        if request.deadline <= now:
            request.fail(self._unsent(request))
            return False
        return True

    def put_back(self, requests: Sequence[Request], *, first: bool = True) -> None:
        """What was accepted before goes on, usually before what still waits for a connection."""
        if self.connection is not None:
            for request in requests:
                self._send(self.connection, request)
                self._watch_one(request)
        else:
            self.outbox.put_back(requests, first=first)
            self._connect()
            self._watch()

    # ------------------------------------------------------------------------------- the connection

    def lost(
        self, connection: Connection, sent: Sequence[Request], unsent: Sequence[Request], why: str
    ) -> None:
        """Keep what may be sent again; everybody else is told."""
        now = self._loop.time()
        if connection is self.connection:
            self.connection = None
            short = self._since is not None and now - self._since < LASTING
            self._short = self._short + 1 if short else 0
        self._trouble = Unavailable(f"redis at {self.address}: {why}")
        keep = [request for request in sent if self._may_repeat(request, now, why)]
        self._tally.repeated += len(keep)
        if any(not isinstance(request, Auxiliary) for request in sent):
            self._left.note(connection, now)  # also if nobody waits: who gave up may send it again
        keep += [request for request in unsent if self._settle_or_keep(request, why)]
        self.outbox.put_back(keep)
        if not self.closed:
            self.topology.may_have_moved(self)
            self._connect()
            self._watch()

    def _settle_or_keep(self, request: Request, why: str) -> bool:
        """Whether a request outlives its connection; if not, its caller knows."""
        if isinstance(request, Auxiliary):
            request.fail(Unavailable(why))
            return False
        if self.closed:
            request.fail(Closed("the store is closed"))
        return not request.future.done()

    def _may_repeat(self, request: Request, now: float, why: str) -> bool:
        """Whether a request that may have been executed is sent again; if not, its caller knows."""
        if not request.doubtful:
            request.doubtful = True
            request.since = request.sent + self._clock.ahead
        if not self._settle_or_keep(request, why):
            return False
        if request.deadline > now and request.repeatable:
            return True
        kind = Unavailable if request.deadline > now else Timeout
        request.fail(kind(f"redis at {self.address}: {why}; whether it was executed is not known"))
        return False

    def _connect(self) -> None:
        if self._connecting is None and self.outbox and not self.closed:
            self._connecting = self._loop.create_task(self._reach(), name="statehold-redis-connect")

    async def _reach(self) -> None:
        """Connect, or go on trying as long as somebody waits."""
        tries = 0
        try:
            if self._short:
                await asyncio.sleep(pause(self._short - 1))
            while self._someone_waits():
                try:
                    met = await self.topology.find(self)
                except StateholdError as error:
                    self._trouble = error
                    if not (error.retryable or self._may_change):
                        self.fail_all(error)
                        return
                    self.topology.may_have_moved(self)
                else:
                    self._begin(met)
                    return
                await asyncio.sleep(pause(tries))
                tries += 1
        except Exception as error:  # a fault of ours, but nobody should have to wait for it
            self.fail_all(Unavailable(f"redis at {self.address}: {error!r}"))
            raise
        finally:
            self._connecting = None

    def _someone_waits(self) -> bool:
        self.outbox.drop_settled()
        return bool(self.outbox)

    def _begin(self, met: Handshaken) -> None:
        connection = met.connection
        if not connection.open:  # gone as soon as it was there
            self.topology.may_have_moved(self)
            self._loop.call_soon(self._connect)
            return
        connection.user = self
        self.connection = connection
        self._trouble = None
        if self._since is not None:
            self._tally.reconnects += 1
        self._since = self._loop.time()
        self._clock = ServerClock()
        self._clock.learn(*met.time)
        self._look_due = self._since + self._timeout + LOOK_EVERY
        self._left.end_by(met)
        for request in self.outbox.take():
            if not request.future.done():
                self._send(connection, request)
        self._watch()

    def fail_all(self, error: StateholdError) -> None:
        """Everyone who waits for a connection or a pause gets this error."""
        for request in self.outbox.take() + self._delayed.take():
            each = type(error)(str(error), field=error.field)
            each.__cause__ = error.__cause__
            request.fail(each)

    # ---------------------------------------------------------------------------------------- end

    async def close(self) -> None:
        """Nothing is left of it. Whoever waits gets `Closed`."""
        self.closed = True
        self._delayed.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        connecting, connection = self._connecting, self.connection
        if connecting is not None:
            connecting.cancel()
        if connection is not None:
            connection.drop("the store was closed")
        self.fail_all(Closed("the store is closed"))
        if connecting is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await connecting
        if connection is not None:
            await connection.ended
