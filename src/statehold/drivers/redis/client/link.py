"""One server that is to be reached whatever happens to the connection.

A call is in one of three places: on the wire, in the outbox while there is no wire, or set aside
because the server said "not now". Whoever is there too long fails: one timer looks at the oldest.
An answer that is overdue condemns the wire, since the peer may be gone without a word; what may be
repeated moves back to the outbox, in the old order and before whatever came later, and a new wire
is made for as long as somebody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from statehold.drivers.redis.client.address import Address
from statehold.drivers.redis.client.clocks import LOOK_EVERY, MARGIN, ServerClock
from statehold.drivers.redis.client.connection import Aside, Call, Ending, Owner, Wire, pack
from statehold.drivers.redis.client.contract import STAMP
from statehold.drivers.redis.client.errors import ErrorReply, Remedy, remedy, time_in, translated
from statehold.drivers.redis.client.handshake import Dialer, Met, server_time
from statehold.drivers.redis.client.pauses import pause
from statehold.errors import Busy, Closed, StateholdError, Timeout, Unavailable

HELD_BYTES = 64 << 20
"""Bytes of commands that may wait at one connection."""
LASTING = 1.0
"""Seconds; a connection that was lost sooner makes the next attempt wait."""
LOADS = 3
"""How often the scripts are loaded for one call before the server is taken for broken."""


_TIME = pack((b"TIME",))
_stamp_of = struct.Struct(STAMP.format + "2s").pack
_STAMPED = STAMP.size + 2
"""The last argument of a command, and what ends it."""


class Home(ABC):
    """The servers to which a link belongs: they know where things are."""

    mode: int = 0
    """Whether the servers are nodes of a cluster (1), for stamps."""

    @abstractmethod
    async def find(self, link: Link) -> Met:
        """A connection to the server that the link should reach now."""

    @abstractmethod
    def redirected(self, link: Link, call: Call, reply: ErrorReply, *, asking: bool) -> None:
        """The server says that another one has what the call needs."""

    @abstractmethod
    def again(self, link: Link, calls: list[Call]) -> None:
        """Send what was set aside."""

    @abstractmethod
    def adrift(self, link: Link) -> None:
        """The server of the link is lost, out of reach or not ready; another may have its place."""


class Link(Owner):
    """The way to one server, from one event loop."""

    def __init__(self, home: Home, dialer: Dialer, address: Address, user: str | None) -> None:
        self.home = home
        self.address = address
        self.wire: Wire | None = None
        self.outbox: list[Call] = []
        self.closed = False
        self._dialer = dialer
        self._loop = dialer.loop
        self._tally = dialer.tally
        self._user = user
        self._options = dialer.options
        self._max_pending = dialer.options.max_pending
        # A password that is refused now may be accepted when its file has been written.
        self._may_change = bool(
            dialer.options.password_file or dialer.options.sentinel_password_file
        )
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._trouble: StateholdError | None = None  # why there is no wire
        self._outbox_bytes = 0
        self._aside: list[Call] = []
        self._aside_bytes = 0
        self._again: asyncio.TimerHandle | None = None
        self._leaving = False  # the server is no master any more
        self._loading = False
        self._since: float | None = None  # when the last connection was made
        self._met: Met | None = None  # the last connection …
        self._left: dict[
            int, float
        ] = {}  # … and when those before it were lost, with calls under way
        self._short = 0  # how many in a row did not last
        self._clock = ServerClock()
        self._timeout = dialer.options.timeout
        self._look_due = 0.0  # the deadline of the first call that makes us look at the clock again

    @property
    def ahead(self) -> float:
        """Seconds by which the server's clock is ahead of the monotonic one, at least."""
        return self._clock.ahead

    @property
    def pending(self) -> int:
        """How many commands wait."""
        on_wire = len(self.wire.waiting) if self.wire is not None else 0
        return on_wire + len(self.outbox) + len(self._aside)

    def put(self, call: Call) -> None:
        """The call's future will be resolved. Raises `Busy`, with nothing done, if too many wait."""
        wire = self.wire
        if wire is not None:
            if (
                len(wire.waiting) + len(self._aside) >= self._max_pending
                or wire.held + self._aside_bytes > HELD_BYTES
            ):
                raise self._busy()
            if call.stamped:
                call.sent = call.deadline - self._timeout
                until = (call.deadline + self._clock.ahead) * 1e6
                call.data = call.data[:-_STAMPED] + _stamp_of(until, 0.0, self.home.mode, b"\r\n")
                wire.send(call)
                if call.deadline > self._look_due:
                    self._look_at_clock(wire, call.deadline)
            else:
                wire.send(call)
        else:
            if self.closed:
                raise Closed("the store is closed")
            if len(self.outbox) + len(self._aside) >= self._max_pending or self._is_heavy():
                raise self._busy()
            self._outbox_bytes += len(call.data)
            self.outbox.append(call)
            self._connect()
        if self._timer is None:
            self._timer = self._loop.call_at(call.deadline, self._look)

    def put_asking(self, call: Call) -> None:
        """Like `put`, for a slot that is still on its way to this server."""
        if self.wire is not None:
            self._stamp(call, 2)
            self.wire.send_asking(call)
            self._watch_one(call)
        else:  # by then the slot may have arrived; if not, the server sends the call back
            self.put_back([call], first=False)

    def _is_heavy(self) -> bool:
        """Whether what waits is too much; the count errs upwards, and is then made right."""
        if self._outbox_bytes + self._aside_bytes > HELD_BYTES:
            self._outbox_bytes = sum(len(call.data) for call in self.outbox)
        return self._outbox_bytes + self._aside_bytes > HELD_BYTES

    def _busy(self) -> Busy:
        return Busy(
            f"redis at {self.address}: {self.pending} commands wait already; nothing was written",
            expected=self._max_pending,
        )

    # ------------------------------------------------------------------------------ the server's time

    def _stamp(self, call: Call, mode: int) -> None:
        """The call says until when it may be executed; and since when it may have been, if it may."""
        if not call.stamped:
            return
        ahead, since = self._clock.ahead, 0.0
        if call.doubtful:
            since = (min(call.since, call.sent + ahead) - MARGIN) * 1e6
        else:
            call.sent = self._loop.time()
        stamp = _stamp_of((call.deadline + ahead) * 1e6, since, mode, b"\r\n")
        call.data = call.data[:-_STAMPED] + stamp

    def _send(self, wire: Wire, call: Call) -> None:
        self._stamp(call, self.home.mode)
        wire.send(call)

    def _look_at_clock(self, wire: Wire, deadline: float) -> None:
        """Ask what time it is there, beside what is being sent anyway."""
        self._look_due = deadline + LOOK_EVERY
        sent = self._loop.time()
        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(lambda done: self._hear_time(done, sent))
        wire.send(Aside(future, _TIME, deadline, repeatable=False))

    def _hear_time(self, done: asyncio.Future[Any], sent: float) -> None:
        if not done.cancelled() and isinstance(reply := done.result(), list):
            self._clock.learn(server_time(reply), sent, self._loop.time())

    # ---------------------------------------------------------------------------------- the deadline

    def _look(self) -> None:
        """Fail what is overdue, and come back when the next call will be."""
        self._timer = None
        now = self._loop.time()
        wire = self.wire
        if wire is not None and wire.waiting and wire.waiting[0].deadline <= now:
            wire.drop(f"no answer within {self._options.timeout:g} s")
        late = [call for call in self.outbox if call.deadline <= now]
        if late:
            self.outbox = [call for call in self.outbox if call.deadline > now]
            for call in late:
                call.fail(self._unsent(call))
        self._watch()

    def _watch(self) -> None:
        """The timer is set to the earliest deadline, if any call waits."""
        if self._timer is not None:
            return
        deadlines = [call.deadline for call in self.outbox]
        if self.wire is not None and self.wire.waiting:
            deadlines.append(self.wire.waiting[0].deadline)
        if deadlines:
            self._timer = self._loop.call_at(min(deadlines), self._look)

    def _watch_one(self, call: Call) -> None:
        """A call that is sent again may be behind others that have more time."""
        wire = self.wire
        if wire is not None and wire.waiting[0].deadline > call.deadline:
            self._loop.call_at(call.deadline, self._late, call)
        self._watch()

    def _late(self, call: Call) -> None:
        if not call.future.done():
            if call not in self.outbox and call not in self._aside:
                call.doubtful = True  # it is on the wire, whatever was said of it before
            call.fail(self._unsent(call))

    def _unsent(self, call: Call) -> StateholdError:
        """Why a call has failed that waits to be sent, or sent again."""
        if call.refusal is not None:
            return translated(call.refusal, self.address, self._user)
        trouble = self._trouble
        if trouble is not None and call.doubtful:
            error = Timeout(f"{trouble}; whether it was executed is not known")
            error.__cause__ = trouble
            return error
        if trouble is None:
            return Timeout(
                f"redis at {self.address}: no connection within {self._options.timeout:g} s"
            )
        again = type(trouble)(str(trouble), field=trouble.field)
        again.__cause__ = trouble
        return again

    # -------------------------------------------------------------------------------- error replies

    def refused(self, wire: Wire, call: Call, reply: ErrorReply) -> None:
        """Do what helps, as long as there is time."""
        helps = remedy(reply)
        if call.future.done():
            return
        if isinstance(call, Ending):
            call.future.set_result(reply)  # the user may not, and will not be able to later
            return
        if (
            helps is Remedy.NONE
            or isinstance(call, Aside)
            or call.deadline <= self._loop.time()
            or (helps is Remedy.LOAD and call.tries >= LOADS)
        ):
            call.fail(translated(reply, self.address, self._user))
            return
        call.refusal = reply
        call.tries += 1
        self._tally.repeated += 1
        if helps is Remedy.LOAD:
            self._load(wire, call)
        elif helps is Remedy.LATE:  # there is time left here: one of the clocks was set
            self._clock.correct(time_in(reply), self._loop.time())
            self.set_aside(call)
        elif helps is Remedy.MOVED or helps is Remedy.ASK:
            self._tally.redirects += 1
            self.home.redirected(self, call, reply, asking=helps is Remedy.ASK)
        else:
            self._leaving = self._leaving or helps is Remedy.MASTER
            self.home.adrift(self)
            self.set_aside(call)

    def _load(self, wire: Wire, call: Call) -> None:
        """The scripts, and then the call."""
        if not self._loading:
            self._loading = True
            future = self._loop.create_future()
            for data in self._dialer.loads:
                future = self._loop.create_future()
                wire.send(Aside(future, data, call.deadline, repeatable=False))
            future.add_done_callback(self._loaded)
        self._send(wire, call)
        self._watch_one(call)

    def _loaded(self, _: object) -> None:
        self._loading = False

    def set_aside(self, call: Call) -> None:
        """The call is sent again after a pause, with whatever else is set aside until then."""
        self._aside.append(call)
        self._aside_bytes += len(call.data)
        if self._again is None:
            when = self._loop.time() + pause(call.tries - 1)
        elif self._again.when() > call.deadline:
            self._again.cancel()
            when = call.deadline
        else:
            return
        self._again = self._loop.call_at(min(when, call.deadline), self._resume)

    def _resume(self) -> None:
        self._again = None
        calls, self._aside = self._aside, []
        self._aside_bytes = 0
        if self._leaving:
            self._leaving = False
            if self.wire is not None:
                self.wire.drop("it is no master any more")
        now = self._loop.time()
        self.home.again(self, [call for call in calls if self._in_time(call, now)])

    def _in_time(self, call: Call, now: float) -> bool:
        if call.future.done():
            return False
        if call.deadline <= now:
            call.fail(self._unsent(call))
            return False
        return True

    def put_back(self, calls: Sequence[Call], *, first: bool = True) -> None:
        """What was accepted before goes on, usually before what still waits for a connection."""
        if self.wire is not None:
            for call in calls:
                self._send(self.wire, call)
                self._watch_one(call)
        else:
            at = 0 if first else len(self.outbox)
            self.outbox[at:at] = calls
            self._connect()
            self._watch()

    # ------------------------------------------------------------------------------- the connection

    def lost(self, wire: Wire, sent: Sequence[Call], unsent: Sequence[Call], why: str) -> None:
        """Keep what may be sent again; everybody else is told."""
        now = self._loop.time()
        if wire is self.wire:
            self.wire = None
            short = self._since is not None and now - self._since < LASTING
            self._short = self._short + 1 if short else 0
        self._trouble = Unavailable(f"redis at {self.address}: {why}")
        keep = [call for call in sent if self._may_repeat(call, now, why)]
        self._tally.repeated += len(keep)
        met, asked = self._met, any(not isinstance(call, Aside) for call in sent)
        if asked and met is not None and met.wire is wire and met.id is not None:
            self._left[met.id] = now  # also if nobody waits: who gave up may send it again
        keep += [call for call in unsent if self._goes_on(call, why)]
        self.outbox[:0] = keep
        self._outbox_bytes = sum(len(call.data) for call in self.outbox)
        if not self.closed:
            self.home.adrift(self)
            self._connect()
            self._watch()

    def _goes_on(self, call: Call, why: str) -> bool:
        """Whether a call outlives its connection; if not, its caller knows."""
        if isinstance(call, Aside):
            call.fail(Unavailable(why))
            return False
        if self.closed:
            call.fail(Closed("the store is closed"))
        return not call.future.done()

    def _may_repeat(self, call: Call, now: float, why: str) -> bool:
        """Likewise if it may have been executed."""
        if not call.doubtful:
            call.doubtful = True
            call.since = call.sent + self._clock.ahead
        if not self._goes_on(call, why):
            return False
        if call.deadline > now and call.repeatable:
            return True
        kind = Unavailable if call.deadline > now else Timeout
        call.fail(kind(f"redis at {self.address}: {why}; whether it was executed is not known"))
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
                    met = await self.home.find(self)
                except StateholdError as error:
                    self._trouble = error
                    if not (error.retryable or self._may_change):
                        self.fail_all(error)
                        return
                    self.home.adrift(self)
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
        self.outbox = [call for call in self.outbox if not call.future.done()]
        return bool(self.outbox)

    def _begin(self, met: Met) -> None:
        wire = met.wire
        if not wire.open:  # gone as soon as it was there
            self.home.adrift(self)
            self._loop.call_soon(self._connect)
            return
        wire.owner = self
        self.wire = wire
        self._trouble = None
        if self._since is not None:
            self._tally.reconnects += 1
        self._since = self._loop.time()
        self._clock = ServerClock()
        self._clock.learn(*met.time)
        self._look_due = self._since + self._timeout + LOOK_EVERY
        self._end_what_was_left(met)
        calls, self.outbox = self.outbox, []
        self._outbox_bytes = 0
        for call in calls:
            if not call.future.done():
                self._send(wire, call)
        self._watch()

    def _end_what_was_left(self, met: Met) -> None:
        """Before anything is sent again, the server ends the connections on which it was sent first.

        What the network may still deliver there, later than we send it again, is not executed then.
        Each is ended anew on every connection until the server has answered to that, or all that was
        sent there comes too late by its `STAMP`.
        """
        before, self._met = self._met, met
        if before is None or before.run_id is None or before.run_id != met.run_id:
            self._left.clear()  # another server, which calls its connections otherwise
        now = self._loop.time()
        deadline = now + self._timeout
        self._left = {id: lost for id, lost in self._left.items() if now < lost + 2 * self._timeout}
        for number in self._left:
            end = pack((b"CLIENT", b"KILL", b"ID", number))
            future = self._loop.create_future()
            future.add_done_callback(functools.partial(self._ended, number))
            met.wire.send(Ending(future, end, deadline, repeatable=False))

    def _ended(self, number: int, done: asyncio.Future[Any]) -> None:
        if not done.cancelled() and done.result() is not None:
            self._left.pop(number, None)

    def fail_all(self, error: StateholdError) -> None:
        """Everyone who waits for a connection or a pause gets this error."""
        calls = self.outbox + self._aside
        self.outbox, self._aside = [], []
        self._outbox_bytes = self._aside_bytes = 0
        for call in calls:
            each = type(error)(str(error), field=error.field)
            each.__cause__ = error.__cause__
            call.fail(each)

    # ---------------------------------------------------------------------------------------- end

    async def close(self) -> None:
        """Nothing is left of it. Whoever waits gets `Closed`."""
        self.closed = True
        for timer in (self._timer, self._again):
            if timer is not None:
                timer.cancel()
        self._timer = self._again = None
        connecting, wire = self._connecting, self.wire
        if connecting is not None:
            connecting.cancel()
        if wire is not None:
            wire.drop("the store was closed")
        self.fail_all(Closed("the store is closed"))
        if connecting is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await connecting
        if wire is not None:
            await wire.ended
