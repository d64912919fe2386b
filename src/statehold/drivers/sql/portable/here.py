"""One event loop's engine, and who of its callers has a connection when."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any
from weakref import WeakSet

from sqlalchemy import event, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import greenlet_spawn

from statehold.clock import pause
from statehold.drivers.sql.errors import none_left
from statehold.drivers.sql.retrying import LONGEST_PAUSE
from statehold.drivers.sql.room import IDLE_SECONDS, Room
from statehold.errors import Busy, StateholdError
from statehold.perloop import hang_up


class Here:
    """The engine of one event loop, and the connections that it has made.

    At most `size` callers have one at a time, and fewer for a while if the server makes no further one.
    Where it makes none at all, it is asked again until `patience` seconds are over. Connections that nobody
    uses are closed after a while, at once while the server is short; not where they cost a server nothing
    (`lasting`).
    """

    def __init__(
        self, engine: AsyncEngine, size: int, patience: float, room: Room, *, lasting: bool
    ) -> None:
        self.engine = engine
        self.made: WeakSet[Any] = WeakSet()
        self._size = self._most = size
        self._patience = patience
        self._room = room
        self._lasting = lasting
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._used = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        event.listen(engine.sync_engine, "connect", self._note)

    def _note(self, connection: Any, _record: object) -> None:
        self.made.add(connection.driver_connection)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncGenerator[AsyncConnection, None]:
        """One that is not taken, or a new one. Raises `Busy` if none comes free in time."""
        until = asyncio.get_running_loop().time() + self._patience
        await self._enter(until)
        try:
            async with contextlib.AsyncExitStack() as stack:
                connection = await self._connected(until)
                stack.push_async_exit(connection)
                yield connection
        finally:
            self._leave()

    async def _connected(self, until: float) -> AsyncConnection:
        while True:
            try:
                return await self._made()
            except exc.DBAPIError as error:
                if not none_left(error):
                    raise
                self._room.refuses()
                if self._taken > 1:
                    self._taken -= 1
                    self._most = max(1, self._taken)
                    try:
                        await self._enter(until)
                    except BaseException:
                        self._taken += 1  # as `connection` will leave
                        raise
                elif asyncio.get_running_loop().time() >= until:
                    raise
                else:
                    await asyncio.sleep(pause(0, LONGEST_PAUSE, LONGEST_PAUSE))

    async def _made(self) -> AsyncConnection:
        """The engine's. What is raised as it sets up one that is lost meanwhile comes from below SQLAlchemy."""
        try:
            return await self.engine.connect()
        except (exc.SQLAlchemyError, OSError, StateholdError):
            raise
        except Exception as error:
            raise exc.DBAPIError("", None, error, connection_invalidated=True) from error

    # ------------------------------------------------------------------------------------- the gate

    def _allowed(self) -> int:
        """How many may be taken now."""
        if self._most < self._size and not self._room.is_short():
            self._most = self._size
        return self._most

    async def _enter(self, until: float) -> None:
        while self._taken >= self._allowed():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                async with asyncio.timeout_at(until):
                    await waiter
            except BaseException as error:
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                if isinstance(error, TimeoutError):
                    words = "no connection of the pool came free within the timeout"
                    raise Busy(f"{self.engine.url!r}: {words}") from error
                raise
        self._taken += 1

    def _leave(self) -> None:
        self._taken -= 1
        if self._waiting:
            self._wake()
        elif not self._taken and not self._lasting:
            self._used = asyncio.get_running_loop().time()
            if self._room.is_short():
                self.close_idle()
            elif self._timer is None:
                self._watch(IDLE_SECONDS)

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    # ------------------------------------------------------------------------------ idle connections

    def _watch(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        left = self._used + IDLE_SECONDS - asyncio.get_running_loop().time()
        if self._taken:
            return
        if left > 0.0:
            self._watch(left)
        else:
            self.close_idle()

    def close_idle(self) -> None:
        """Close all connections, unless one of them is taken."""
        pool = self.engine.pool
        if self._taken or self._lasting or not isinstance(pool, AsyncAdaptedQueuePool):
            return
        if pool.checkedin() and not pool.checkedout():
            self.engine.sync_engine.dispose(close=False)  # it has another pool from here on
            task = asyncio.get_running_loop().create_task(_closed(pool))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def end(self) -> None:
        """Close every connection in good order."""
        if self._timer is not None:
            self._timer.cancel()
        if self._closing:
            await asyncio.wait(self._closing)
        await self.engine.dispose()

    def abandon(self) -> None:
        """End what is left when the event loop has been closed: connections, SQLite's threads."""
        self.engine.sync_engine.dispose(close=False)
        for connection in self.made:
            if hasattr(connection, "stop"):
                # Where there is no event loop it asks none to be told of the end.
                stopping = threading.Thread(target=connection.stop)
                stopping.start()
                stopping.join()
            else:
                hang_up(getattr(connection, "_transport", None))


async def _closed(pool: AsyncAdaptedQueuePool) -> None:
    await greenlet_spawn(pool.dispose)
