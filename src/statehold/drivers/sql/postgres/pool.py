"""Connections of asyncpg's own, some for each event loop."""

from __future__ import annotations

import asyncio
import importlib
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
from sqlalchemy import URL

from statehold.drivers.sql import connecting
from statehold.drivers.sql.deciding import postgresql_commit
from statehold.drivers.sql.moving import Moves, takes_writes
from statehold.drivers.sql.postgres.function import PLANNING
from statehold.drivers.sql.postgres.leftover import Leftover
from statehold.drivers.sql.retrying import Cause
from statehold.drivers.sql.settings import POOL_SHARE, limits
from statehold.errors import Busy, Closed
from statehold.perloop import PerLoop, hang_up

Result = TypeVar("Result")


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
    """The connections of one event loop, at most `size`, made when they are needed.

    The one that was used last is used next, so that its caches are warm. A connection on which
    anything went wrong but a statement is closed, as is one that is older than its `life`.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], size: int, life: float
    ) -> None:
        self._connect = connect
        self._size = size
        self._life = life
        self._idle: list[Made] = []
        self._made = 0
        self._waiting: deque[asyncio.Future[Made | None]] = deque()
        self.closed = False

    @property
    def in_use(self) -> int:
        """How many are taken."""
        return self._made - len(self._idle)

    def ready(self) -> bool:
        """Whether there is a connection that is not taken."""
        return bool(self._idle)

    def idle(self) -> Made | None:
        """A connection that is not taken, and now is."""
        return self._idle.pop() if self._idle and self._idle[-1].is_good() else None

    async def take(self) -> Made:
        """A connection, which must be given back."""
        while True:
            if self.closed:
                raise Closed("the store is closed")
            while self._idle:
                made = self._idle.pop()
                if made.is_good():
                    return made
                if made.writable and not made.connection.is_closed():
                    self.retire()  # those that were made before it are no better
                made.connection.terminate()
                self._made -= 1
            if self._made < self._size:
                return await self._make()
            waiter: asyncio.Future[Made | None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                given = await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._hand_on(waiter.result())
                raise
            if given is not None:
                return given

    async def _make(self) -> Made:
        self._made += 1
        try:
            connection = await self._connect()
            ends = time.monotonic() + self._life
            return Made(connection, ends, takes_writes(connection), connection.get_server_pid())
        except BaseException:
            self._lost()
            raise

    def give(self, made: Made) -> None:
        """Give a connection back."""
        if self.closed or made.connection.is_closed():
            self.drop(made)
        else:
            self._hand_on(made)

    def drop(self, made: Made) -> None:
        """Give a connection back that is not to be used again."""
        made.connection.terminate()
        self._lost()

    def retire(self) -> None:
        """End those that are idle: new ones may lead to another server."""
        idle, self._idle = self._idle, []
        self._made -= len(idle)
        for made in idle:
            made.connection.terminate()

    async def close(self) -> None:
        """Close those that are idle now, and the others when they are given back."""
        self.closed = True
        idle, self._idle = self._idle, []
        self._made -= len(idle)
        for made in idle:
            try:
                await made.connection.close(timeout=1)
            except FAILURES:
                made.connection.terminate()
        while self._waiting:
            self._hand_on(None)

    def abandon(self) -> None:
        """End connections whose event loop has been closed."""
        self.closed = True
        for made in self._idle:
            hang_up(getattr(made.connection, "_transport", None))
        self._idle.clear()

    def _lost(self) -> None:
        self._made -= 1
        self._hand_on(None)

    def _hand_on(self, made: Made | None) -> None:
        """To who has waited longest: a connection, or (None) the right to look again."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(made)
                return
        if made is not None:
            self._idle.append(made)


class Pools:
    """The pools of one driver. `run` does a piece of work on a connection."""

    def __init__(self, url: URL, settings: dict[str, Any]) -> None:
        self._url = url
        self._settings = settings
        self._size = max(1, settings["pool_size"] - settings["pool_size"] // 3)
        self._timeout: float = settings["timeout"]
        self._pooled = settings["pooler"] == "transaction"
        self._pools = PerLoop(self._make, Pool.close, Pool.abandon)
        self.moves = Moves()
        self.leftover = Leftover(self._timeout)
        limited = {**limits(self._timeout), **dict(PLANNING)}
        self._begin = "BEGIN; " + "; ".join(
            f"SET LOCAL {name} = '{value}'" for name, value in limited.items()
        )

    def here(self) -> Pool:
        """The pool of the running event loop."""
        return self._pools.here

    def _make(self) -> Pool:
        return Pool(self._connected, self._size, self._settings["max_connection_life"])

    def in_use(self) -> int:
        """How many connections are taken."""
        return sum(pool.in_use for pool in self._pools)

    async def run(
        self,
        work: Callable[[Connection], Awaitable[Result]],
        sent: list[bool],
        until: float = math.inf,
    ) -> Result:
        """The work's result. Raises `Busy` when no connection comes free in time.

        `sent` gets an element when there is a connection, and the work begins. Where that is a
        transaction, it is not committed after `until`, by the database's clock.
        """
        pool = self.here()
        made = await _within(pool, self._timeout * POOL_SHARE)
        connection = made.connection
        sent.append(True)
        try:
            if self._pooled:
                # Behind a pooler a statement that is prepared must be executed in the same
                # transaction: the next one may be on another connection of the pooler's.
                await connection.execute(self._begin)
                result = await work(connection)
                await connection.execute(postgresql_commit(until))
            else:
                result = await work(connection)
        except LOST:
            self._lost(pool, made)
            raise
        except ServerError as error:
            if self._pooled and not connection.is_closed():
                await _rolled_back(connection)
            self._after(pool, made, error)
            raise
        except BaseException:
            self._lost(pool, made)
            raise
        pool.give(made)
        return result

    async def at_once(
        self,
        statement: str,
        arguments: Sequence[Any],
        timeout: float,  # noqa: ASYNC109  it is asyncpg's, which costs less
    ) -> list[Sequence[Any]] | None:
        """The rows, in the usual case: a connection is idle, and no pooler wants a transaction.

        None if not.
        """
        pool = self.here()
        made = None if self._pooled else pool.idle()
        if made is None:
            return None
        try:
            rows = await made.connection.fetch(statement, *arguments, timeout=timeout)
        except ServerError as error:
            self._lost(pool, made) if isinstance(error, LOST) else self._after(pool, made, error)
            raise
        except BaseException:
            self._lost(pool, made)
            raise
        pool.give(made)
        return rows

    def _lost(self, pool: Pool, made: Made) -> None:
        """Give back a connection that was lost, or left, before its statement was answered."""
        if not self._pooled:
            self.leftover.add(made.pid)
        pool.drop(made)

    def _after(self, pool: Pool, made: Made, error: Exception) -> None:
        """Give back a connection on which a statement failed, if there is use for it."""
        state = sqlstate(error)
        moved = state == READ_ONLY and self.moves.is_news()
        if moved:
            pool.retire()
        if moved or state in FORGETFUL:
            pool.drop(made)
        else:
            pool.give(made)

    async def close(self) -> None:
        """Close every connection, those of other event loops as far as they still run."""
        await self._pools.close()

    async def _connected(self) -> Connection:
        url = self._url
        options = {"host": url.host} | connecting.arguments(self._settings, dict(PLANNING))
        if not self._pooled:
            options |= {"max_cached_statement_lifetime": 0, "max_cacheable_statement_size": 0}
        connection: Connection = await asyncpg.connect(
            port=url.port,
            user=url.username,
            password=url.password,
            database=url.database,
            **options,
        )
        return connection


async def _rolled_back(connection: Connection) -> None:
    """End the transaction, or the connection."""
    try:
        await connection.execute("ROLLBACK")
    except FAILURES:
        connection.terminate()
    except BaseException:
        connection.terminate()
        raise


async def _within(pool: Pool, seconds: float) -> Made:
    """A connection, in the usual case without a timer."""
    if pool.ready():
        return await pool.take()
    try:
        async with asyncio.timeout(seconds):
            return await pool.take()
    except TimeoutError as error:
        raise Busy("no connection of the pool came free within the timeout") from error
