"""Connections of the fast path: asyncpg's own, some for each event loop."""

from __future__ import annotations

import asyncio
import importlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import URL

from statehold.drivers.sql.function import PLANNING
from statehold.drivers.sql.settings import POOL_SHARE
from statehold.errors import Busy, Closed

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
_FAILURES: Final[tuple[type[Exception], ...]] = (*LOST, ServerError, TimeoutError)


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

    async def execute(self, query: str) -> str:
        """Several statements in one round trip."""
        ...

    def is_closed(self) -> bool:
        """Whether it is gone."""
        ...

    def terminate(self) -> None:
        """End it without a word."""

    async def close(self, *, timeout: float) -> None:  # noqa: ASYNC109  asyncpg's own
        """End it in good order."""


class Pool:
    """The connections of one event loop, at most `size`, made when they are needed.

    The one that was used last is used next, so that its caches are warm. A connection on which
    anything went wrong but a statement is closed.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._size = size
        self._idle: list[Connection] = []
        self._made = 0
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self.closed = False

    @property
    def in_use(self) -> int:
        """How many are taken."""
        return self._made - len(self._idle)

    def ready(self) -> bool:
        """Whether there is a connection that is not taken."""
        return bool(self._idle)

    def idle(self) -> Connection | None:
        """A connection that is not taken, and now is."""
        return self._idle.pop() if self._idle and not self._idle[-1].is_closed() else None

    async def take(self) -> Connection:
        """A connection, which must be given back."""
        while True:
            if self.closed:
                raise Closed("the store is closed")
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
                self._made -= 1
            if self._made < self._size:
                self._made += 1
                try:
                    return await self._connect()
                except BaseException:
                    self._lost()
                    raise
            waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                given = await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._hand_on(waiter.result())
                raise
            if given is not None:
                return given

    def give(self, connection: Connection) -> None:
        """Give a connection back."""
        if self.closed or connection.is_closed():
            self.drop(connection)
        else:
            self._hand_on(connection)

    def drop(self, connection: Connection) -> None:
        """Give a connection back that is not to be used again."""
        connection.terminate()
        self._lost()

    async def close(self) -> None:
        """Close those that are idle now, and the others when they are given back."""
        self.closed = True
        idle, self._idle = self._idle, []
        self._made -= len(idle)
        for connection in idle:
            try:
                await connection.close(timeout=1)
            except _FAILURES:
                connection.terminate()
        while self._waiting:
            self._hand_on(None)

    def forget(self) -> None:
        """Let go of connections whose event loop has ended."""
        self.closed = True
        self._idle.clear()

    def _lost(self) -> None:
        self._made -= 1
        self._hand_on(None)

    def _hand_on(self, connection: Connection | None) -> None:
        """To who has waited longest: a connection, or (None) the right to look again."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is not None:
            self._idle.append(connection)


class Pools:
    """The pools of one driver. `run` does a piece of work on a connection."""

    def __init__(self, url: URL, settings: dict[str, Any]) -> None:
        self._url = url
        self._settings = settings
        self._size = max(1, settings["pool_size"] - settings["pool_size"] // 3)
        self._timeout: float = settings["timeout"]
        self._pooled = settings["pooler"] == "transaction"
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()
        self._closed = False
        wait = str(max(1, round(self._timeout * 900)))  # a tenth less: the server gives up first
        self._limits = {"lock_timeout": wait, "statement_timeout": wait, **dict(PLANNING)}
        self._begin = "BEGIN; " + "; ".join(
            f"SET LOCAL {name} = '{value}'" for name, value in self._limits.items()
        )

    def here(self) -> Pool:
        """The pool of the running event loop."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            if self._closed:
                raise Closed("the store is closed")
            pool = self._pools[loop] = Pool(self._connected, self._size)
        return pool

    def in_use(self) -> int:
        """How many connections are taken."""
        return sum(pool.in_use for pool in list(self._pools.values()))

    async def run(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """The work's result. Raises `Busy` when no connection comes free in time."""
        pool = self.here()
        connection = await _within(pool, self._timeout * POOL_SHARE)
        try:
            if self._pooled:
                # Behind a pooler a statement that is prepared must be executed in the same
                # transaction: the next one may be on another connection of the pooler's.
                await connection.execute(self._begin)
                result = await work(connection)
                await connection.execute("COMMIT")
            else:
                result = await work(connection)
        except LOST:
            pool.drop(connection)
            raise
        except ServerError:
            if self._pooled and not connection.is_closed():
                await _rolled_back(connection)
            pool.give(connection)
            raise
        except BaseException:
            pool.drop(connection)
            raise
        pool.give(connection)
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
        connection = None if self._pooled else pool.idle()
        if connection is None:
            return None
        try:
            rows = await connection.fetch(statement, *arguments, timeout=timeout)
        except TimeoutError:  # it is an OSError, too
            pool.drop(connection)
            raise
        except ServerError as error:
            pool.drop(connection) if isinstance(error, LOST) else pool.give(connection)
            raise
        except BaseException:
            pool.drop(connection)
            raise
        pool.give(connection)
        return rows

    async def close(self) -> None:
        """Close every connection, those of other event loops as far as they still run."""
        self._closed = True
        mine = asyncio.get_running_loop()
        while self._pools:
            loop, pool = self._pools.popitem()
            if loop is mine:
                await pool.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(pool.close(), loop))
            else:
                pool.forget()

    async def _connected(self) -> Connection:
        settings, url = self._settings, self._url
        options: dict[str, Any] = {"statement_cache_size": 0}
        if not self._pooled:
            options = {
                "max_cached_statement_lifetime": 0,
                "max_cacheable_statement_size": 0,
                "server_settings": {"application_name": "statehold", **self._limits},
            }
        connection: Connection = await asyncpg.connect(
            host=settings["socket"] or url.host,
            port=url.port,
            user=url.username,
            password=url.password,
            database=url.database,
            timeout=settings["connect_timeout"],
            ssl={"off": False, "require": "require", "verify": "verify-full"}[settings["tls"]],
            **options,
        )
        return connection


async def _rolled_back(connection: Connection) -> None:
    """End the transaction, or the connection."""
    try:
        await connection.execute("ROLLBACK")
    except _FAILURES:
        connection.terminate()
    except BaseException:
        connection.terminate()
        raise


async def _within(pool: Pool, seconds: float) -> Connection:
    """A connection, in the usual case without a timer."""
    if pool.ready():
        return await pool.take()
    try:
        async with asyncio.timeout(seconds):
            return await pool.take()
    except TimeoutError as error:
        raise Busy("no connection of the pool came free within the timeout") from error
