"""Connections of asyncpg's own, some for each event loop."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import msgspec

from statehold.clock import pause
from statehold.drivers.sql.moving import takes_writes
from statehold.drivers.sql.retrying import LONGEST_PAUSE, Cause
from statehold.drivers.sql.room import IDLE_SECONDS, Room
from statehold.errors import Closed
from statehold.perloop import hang_up

Result = TypeVar("Result")
Places: TypeAlias = frozenset[int] | None
"""Of the connections that will do; None for all."""


asyncpg: Any = importlib.import_module("asyncpg")  # which has no types
ServerError: Final[type[Exception]] = asyncpg.PostgresError
"""What the server said; `sqlstate` and `detail` are of it."""
LOST: Final[tuple[type[Exception], ...]] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.AdminShutdownError,  # a restart, or pg_terminate_backend
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,  # the server had ended it, which is noticed as it is used again
    OSError,
)
"""The connection is gone, and with it the knowledge of what took effect."""
FAILURES: Final[tuple[type[Exception], ...]] = (*LOST, ServerError, TimeoutError)

LOOK_EVERY: Final = 0.2
"""Seconds for which a connection is taken for as good as it was."""

READ_ONLY: Final = "25006"
"""The server takes no writes."""

FORGETFUL: Final = ("26000", "0A000")
"""A prepared statement is not there any more, or not as it was. It was not executed."""


NONE_LEFT: Final = ("53300", "53200", "57P03")
"""The server makes no connection: it has too many, no memory for another, or takes none yet."""

NO_WRITES: Final = (READ_ONLY, "42501")
"""It may be read but not written, by anybody or by this user."""

UNDONE: Final = ("40001", "40P01", *FORGETFUL)
"""A deadlock and the like; or nothing was executed."""

OUTDATED: Final = ("42883", "42703", "42P01", "42804", "42846")
"""A function, column or table is gone: a migration has removed what only the database had. Or a
column has another type, which a migration gave it."""


def sqlstate(error: BaseException) -> str:
    """The five letters that say what is wrong."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else ""


def cause_of(error: Exception) -> Cause:
    """What an error of asyncpg's means for the call that met it."""
    if isinstance(error, LOST):
        return Cause.LOST
    state = sqlstate(error)
    if state == READ_ONLY:
        return Cause.READ_ONLY
    if state in UNDONE:
        return Cause.UNDONE
    return Cause.OUTDATED if state in OUTDATED else Cause.OTHER


class InTheAir(Exception):
    """A statement was sent, and the connection lost before its answer came. Internal."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Connection(Protocol):
    """What is used of asyncpg's connections."""

    async def fetch(
        self,
        query: str,
        *values: object,
        timeout: float | None = None,  # noqa: ASYNC109  asyncpg's own
    ) -> list[Sequence[Any]]:
        """The rows of a statement."""
        ...

    async def fetchval(self, query: str, *values: object) -> Any:
        """The first column of its first row."""
        ...

    def get_server_pid(self) -> int:
        """The process at the server that serves it."""
        ...

    async def execute(self, query: str) -> str:
        """Several statements in one round trip."""
        ...

    def is_closed(self) -> bool:
        """Whether it is gone."""
        ...

    def get_settings(self) -> Any:
        """What the server has said of itself, and says again when it changes."""
        ...

    def terminate(self) -> None:
        """End it without a word."""

    async def close(self, *, timeout: float) -> None:  # noqa: ASYNC109  asyncpg's own
        """End it in good order."""


class Made(msgspec.Struct, eq=False):
    """A connection, how long it is to be used, and whether its server took writes."""

    connection: Connection
    ends: float
    writable: bool
    pid: int
    """Of the process at the server that serves it."""
    place: int
    """Which of its pool's it is, as `Homes` counts them."""
    due: float = 0.0
    """When to look again."""

    def is_good(self) -> bool:
        """Whether it is to be used again: not if its server does not take writes any more."""
        if self.connection.is_closed():
            return False
        now = time.monotonic()
        if now < self.due:
            return True
        good = now < self.ends and (not self.writable or takes_writes(self.connection))
        if good:
            self.due = now + LOOK_EVERY
        return good


class Pool:
    """The connections of one event loop, at most `size`, made one at a time when they are needed.

    The one that was used last is used next, so that its caches are warm, and the others are closed after a
    while. Who says which `places` will do gets no other, unless the server is short of connections. A connection on which anything went wrong but a statement is closed, as is one that is older than its
    `life`. Where the server makes no further one, those that there are must do for a while; where there
    is none at all, it is asked again, for as long as somebody waits.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], size: int, life: float, room: Room
    ) -> None:
        self._connect = connect
        self._size = self._most = size  # `_most` is fewer while the server is short
        self._life = life
        self._room = room
        self._idle: list[Made] = []
        self._spare = 0  # how many were idle all the time since the timer was set
        self._timer: asyncio.TimerHandle | None = None
        self._made = 0
        self._making = False
        self._free = set(range(size))  # places where no connection is
        self._waiting: deque[tuple[asyncio.Future[Made | None], Places]] = deque()
        self.refusal: Exception | None = None
        """Why there is no connection at all, if the server has none left."""
        self.closed = False

    @property
    def in_use(self) -> int:
        """How many are taken."""
        return self._made - len(self._idle)

    def ready(self, places: Places = None) -> bool:
        """Whether there is a connection that is not taken."""
        return self._at(places) is not None

    def idle(self, places: Places = None) -> Made | None:
        """A connection that is not taken, and now is."""
        at = self._at(places)
        return self._pop(at) if at is not None and self._idle[at].is_good() else None

    def _at(self, places: Places) -> int | None:
        """Where among the idle ones the one is that will do, and was used last."""
        idle = self._idle
        at = len(idle) - 1
        if places is not None and not self._is_short():
            while at >= 0 and idle[at].place not in places:
                at -= 1
        return at if at >= 0 else None

    def _is_short(self) -> bool:
        """Whether it must do with fewer than it has places: then any connection will do."""
        return self._most < self._size

    def _pop(self, at: int) -> Made:
        made = self._idle.pop(at)
        self._spare = min(self._spare, len(self._idle))
        return made

    async def take(self, places: Places = None) -> Made:
        """A connection, which must be given back."""
        while True:
            if self.closed:
                raise Closed("the store is closed")
            found = self._good(places)
            if found is None and self._may_make(places):
                found = await self._make(places)
                if found is None:
                    continue
            if found is not None:
                return found
            waiter: asyncio.Future[Made | None] = asyncio.get_running_loop().create_future()
            self._waiting.append((waiter, places))
            try:
                given = await waiter
            except asyncio.CancelledError:
                if waiter.cancelled():
                    self._waiting.remove((waiter, places))
                else:
                    self._hand_on(waiter.result())
                raise
            if given is not None:
                return given

    def _good(self, places: Places) -> Made | None:
        """One that is not taken and is to be used again, and now is taken."""
        while (at := self._at(places)) is not None:
            made = self._pop(at)
            if made.is_good():
                return made
            if made.writable and not made.connection.is_closed():
                self.retire()  # those that were made before it are no better
            self._terminate(made)
        return None

    def _terminate(self, made: Made) -> None:
        made.connection.terminate()
        self._made -= 1
        self._free.add(made.place)

    def _may_make(self, places: Places) -> bool:
        """Whether another connection would do, and may be made now."""
        if self._making or self._made >= self._allowed():
            return False
        return places is None or self._is_short() or not self._free.isdisjoint(places)

    def _allowed(self) -> int:
        """How many there may be now."""
        if self._most < self._size and not self._room.is_short():
            self._most = self._size
        return self._most

    async def _make(self, places: Places) -> Made | None:
        """A new one; None if the server has none left."""
        self._making = True
        self._made += 1
        place = min((self._free if places is None else self._free & places) or self._free)
        self._free.remove(place)
        try:
            connection = await self._connect()
            self.refusal = None
            ends, pid = time.monotonic() + self._life, connection.get_server_pid()
            return Made(connection, ends, takes_writes(connection), pid, place)
        except BaseException as error:
            self._made -= 1
            self._free.add(place)
            if not isinstance(error, ServerError) or sqlstate(error) not in NONE_LEFT:
                raise
            self._room.refuses()
            self._most = max(1, self._made)
            if not self._made:
                self.refusal = error
                await asyncio.sleep(pause(0, LONGEST_PAUSE, LONGEST_PAUSE))
            return None
        finally:
            self._making = False
            self._hand_on(None)

    def give(self, made: Made) -> None:
        """Give a connection back."""
        if self.closed or made.connection.is_closed() or self._made > self._allowed():
            self.drop(made)
        else:
            self._hand_on(made)

    def drop(self, made: Made) -> None:
        """Give a connection back that is not to be used again."""
        self._terminate(made)
        self._hand_on(None)

    def retire(self) -> None:
        """End those that are idle: new ones may lead to another server."""
        self._end(len(self._idle))

    def shrink(self) -> None:
        """Give up a third, as the server is short, and go on with one at least."""
        self._most = max(1, self._made * 2 // 3)
        self._end(self._made - self._most)

    def _end(self, most: int) -> None:
        """End so many of those that are idle, as far as there are, those first that were used last of all."""
        some, self._idle = self._idle[:most], self._idle[most:]
        self._spare = min(self._spare, len(self._idle))
        for made in some:
            self._terminate(made)

    def _close_spare(self) -> None:
        """End those that nobody has used since the timer was set, but for one."""
        self._timer = None
        self._end(min(self._spare, self._made - 1))
        self._watch()

    def _watch(self) -> None:
        if self._timer is None and len(self._idle) > 1:
            self._spare = len(self._idle)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(IDLE_SECONDS, self._close_spare)

    async def close(self) -> None:
        """Close those that are idle now, and the others when they are given back."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        idle, self._idle = self._idle, []
        self._made -= len(idle)
        for made in idle:
            try:
                await made.connection.close(timeout=1)
            except FAILURES:
                made.connection.terminate()
        waiting, self._waiting = self._waiting, deque()
        for waiter, _ in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def abandon(self) -> None:
        """End connections whose event loop has been closed."""
        self.closed = True
        for made in self._idle:
            hang_up(getattr(made.connection, "_transport", None))
        self._idle.clear()

    def _hand_on(self, made: Made | None) -> None:
        """To who has waited longest for it: a connection, or (None) the right to look again."""
        for at, (waiter, places) in enumerate(self._waiting):
            if not waiter.done() and self._will_do(made, places):
                del self._waiting[at]
                waiter.set_result(made)
                return
        if made is not None:
            self._idle.append(made)
            if self._timer is None:
                self._watch()
            if self._waiting:  # for others, of which there may be more than when they came
                self._hand_on(None)

    def _will_do(self, made: Made | None, places: Places) -> bool:
        """Whether it is for one who waits for these."""
        if made is None:
            return self._at(places) is not None or self._may_make(places)
        return places is None or made.place in places or self._is_short()
