"""The pools of one driver, one for each event loop, and a piece of work on one of their connections."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import URL

from statehold.drivers.sql import connecting
from statehold.drivers.sql.deciding import postgresql_commit
from statehold.drivers.sql.moving import Moves
from statehold.drivers.sql.postgres.function import PLANNING
from statehold.drivers.sql.postgres.homes import Homes
from statehold.drivers.sql.postgres.leftover import Leftover
from statehold.drivers.sql.postgres.pool import (
    FAILURES,
    FORGETFUL,
    LOST,
    READ_ONLY,
    Connection,
    Made,
    Places,
    Pool,
    ServerError,
    asyncpg,
    sqlstate,
)
from statehold.drivers.sql.room import TAKEN, Room
from statehold.drivers.sql.settings import POOL_SHARE, limits
from statehold.errors import Busy, StateholdError, Unavailable
from statehold.perloop import PerLoop

Result = TypeVar("Result")

STATEMENTS: Final = 256
"""So many a connection keeps prepared: some of each kind that it serves (`Homes`)."""


class Pools:
    """The pools of one driver. `run` does a piece of work on a connection."""

    def __init__(self, url: URL, settings: dict[str, Any], room: Room) -> None:
        self._url = url
        self._settings = settings
        self.room = room
        self._size = max(1, settings["pool_size"] - settings["pool_size"] // 3)
        self._timeout: float = settings["timeout"]
        self._pooled = settings["pooler"] == "transaction"
        self.homes = Homes(self._size)
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
        life = self._settings["max_connection_life"]
        return Pool(self._connected, self._size, life, self.room)

    def in_use(self) -> int:
        """How many connections are taken."""
        return sum(pool.in_use for pool in self._pools)

    async def run(
        self,
        work: Callable[[Connection], Awaitable[Result]],
        sent: list[bool],
        until: float = math.inf,
        kind: str = "",
    ) -> Result:
        """The work's result, for a kind or (empty) any. Raises `Busy` when no connection comes free in time.

        `sent` gets an element when there is a connection, and the work begins. Where that is a
        transaction, it is not committed after `until`, by the database's clock.
        """
        pool = self.here()
        made = await _within(pool, self._timeout * POOL_SHARE, self.homes.of(kind))
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
        kind: str = "",
        *,
        wait: bool = False,
    ) -> list[Sequence[Any]] | None:
        """The rows, in the usual case: a connection is idle, and no pooler wants a transaction.

        None if not. With `wait` a connection is waited for, and `Busy` raised where none comes free in time;
        None then also says that none could be made.
        """
        if self._pooled:
            return None
        pool, places = self.here(), self.homes.of(kind)
        made = pool.idle(places)
        if made is None:
            if not wait:
                return None
            began = time.monotonic()
            try:
                made = await _within(pool, self._timeout * POOL_SHARE, places)
            except StateholdError:  # some of which are OSErrors
                raise
            except FAILURES:  # none could be made, so nothing was sent: `run` tries again
                return None
            timeout -= time.monotonic() - began
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

    async def look_for_room(self, timeout: float) -> None:  # noqa: ASYNC109  it is asyncpg's
        """See how many connections the server has left, and give some up where these are few.

        Behind a pooler the server's are not the ones that are wanted.
        """
        rows = await self.at_once(TAKEN, (), timeout)
        if rows and self.room.learn(rows[0][0]):
            self.here().shrink()

    async def close(self) -> None:
        """Close every connection, those of other event loops as far as they still run."""
        await self._pools.close()

    async def _connected(self) -> Connection:
        url = self._url
        options = {"host": url.host} | connecting.arguments(self._settings, dict(PLANNING))
        if not self._pooled:
            options |= {
                "statement_cache_size": STATEMENTS,
                "max_cached_statement_lifetime": 0,
                "max_cacheable_statement_size": 0,
            }
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


async def _within(pool: Pool, seconds: float, places: Places) -> Made:
    """A connection, in the usual case without a timer."""
    if pool.ready(places):
        return await pool.take(places)
    try:
        async with asyncio.timeout(seconds):
            return await pool.take(places)
    except TimeoutError as error:
        if pool.refusal is not None:
            raise Unavailable(f"the server makes no connection ({pool.refusal})") from pool.refusal
        raise Busy("no connection of the pool came free within the timeout") from error
