"""Connections: an engine for each event loop, each connection set up for its database."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import os
import sqlite3
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, event, exc, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from statehold.clock import pause
from statehold.drivers.sql import connecting, tls
from statehold.drivers.sql.deciding import commits_in_time
from statehold.drivers.sql.errors import forgetful, read_only
from statehold.drivers.sql.moving import Moves, takes_writes
from statehold.drivers.sql.portable.here import Here
from statehold.drivers.sql.room import Room
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.settings import POOL_SHARE, limits
from statehold.errors import ConfigError
from statehold.perloop import PerLoop
from statehold.sqlitefiles.connection import Connection, forked
from statehold.sqlitefiles.log import Log

CLOSING = 0.1
"""Seconds that a PostgreSQL which does not answer may take to close a connection."""


class Engines:
    """The engines of one driver. Connections belong to the event loop that made them.

    Of what the server refuses, some is taken for a lost connection, so that SQLAlchemy ends it, and
    all that were made before it: it takes no writes any more (`moves`), or has forgotten statements.
    """

    def __init__(
        self,
        url: URL,
        dialect: Dialect,
        settings: dict[str, Any],
        room: Room,
        tell: Callable[[], None],
    ) -> None:
        self._tell = tell  # who must know of a fork
        self._url = url
        self._dialect = dialect
        self._settings = settings
        self._room = room
        room.heard.append(self._close_idle)
        self._engines = PerLoop(self._made, Here.end, Here.abandon, self._forked)
        self.moves = Moves()
        self.log: Log | None = None
        if dialect.name == "sqlite" and url.database:
            self.log = Log(os.path.abspath(url.database))  # noqa: PTH100  resolve() would follow links
        self.timeout: float = settings["timeout"]
        self._was_forked = False
        # On PostgreSQL the others are `postgres.pool`'s.
        most = settings["pool_size"]
        self.size = max(1, most // 3) if dialect.name == "postgresql" else most

    @property
    def here(self) -> AsyncEngine:
        """The engine of the running event loop."""
        return self._here.engine

    @property
    def _here(self) -> Here:
        if self._was_forked:
            raise forked(self._url.database or "")
        return self._engines.here

    def _made(self) -> Here:
        patience = self.timeout * POOL_SHARE
        lasting = not self._dialect.own_clock
        return Here(self._make(), self.size, patience, self._room, lasting=lasting)

    def _close_idle(self) -> None:
        here = self._engines.found
        if here is not None:
            here.close_idle()

    def _forked(self) -> None:
        self._tell()
        self._was_forked = self._dialect.name == "sqlite"

    def in_use(self) -> int:
        """How many connections are taken from the pools now."""
        pools = [here.engine.pool for here in self._engines]
        return sum(pool.checkedout() for pool in pools if isinstance(pool, AsyncAdaptedQueuePool))

    async def close(self) -> None:
        """Close every connection, those of other event loops as far as they still run."""
        if self.log is not None:
            await asyncio.to_thread(self.log.close)
        await self._engines.close()

    # ---------------------------------------------------------------------------- transactions

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection, None]:
        """A transaction that sees what others commit while it waits for them."""
        async with self._here.connection() as connection:
            if not self._dialect.locks_rows:
                await connection.execution_options(statehold_begin="BEGIN IMMEDIATE")
            async with connection.begin():
                await self._limits(connection)
                yield connection

    @contextlib.asynccontextmanager
    async def reading(
        self, *, one_statement: bool = False
    ) -> AsyncGenerator[AsyncConnection, None]:
        """A transaction that sees the database as of one instant, and writes nothing."""
        async with self._here.connection() as connection:
            if not one_statement and self._dialect.name == "postgresql":
                await connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            async with connection.begin():
                if not one_statement and self._dialect.name == "mysql":
                    # Without SESSION it is for the next transaction, which begins with what follows.
                    await connection.execute(_SNAPSHOT)
                await self._limits(connection)
                yield connection

    async def _limits(self, connection: AsyncConnection) -> None:
        """Behind a pooler nothing can be set for a connection, so it is set for the transaction."""
        if self._settings["pooler"] == "transaction" and self._dialect.name == "postgresql":
            await connection.execute(_LIMITS, limits(self.timeout))

    # --------------------------------------------------------------------------------- engines

    def _make(self) -> AsyncEngine:
        options: dict[str, Any] = {}
        if self._dialect.name != "sqlite":
            options["isolation_level"] = "READ COMMITTED"
        elif not Path(self._url.database or "").parent.is_dir():
            raise ConfigError(f"{self._url.database}: folder not found", field="url")
        elif self.log is not None:
            self.log.empty_what_was_left()
        engine = create_async_engine(
            self._url,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=self.size,
            max_overflow=0,
            pool_timeout=self.timeout * POOL_SHARE,
            pool_use_lifo=True,
            pool_recycle=round(self._settings["max_connection_life"]),
            # Each use is a transaction that has ended; to roll back what follows is a round trip.
            pool_reset_on_return=None if self._dialect.name == "mysql" else "rollback",
            hide_parameters=True,
            json_serializer=_as_it_is,
            json_deserializer=_as_it_is,
            connect_args=self._arguments(),
            **options,
        )
        listened = engine.sync_engine
        if self._dialect.name == "sqlite":
            event.listen(listened, "connect", self._set_up_sqlite)
            event.listen(listened, "begin", _begin)
            return engine
        commits_in_time(listened.dialect)
        if self._dialect.name == "mysql":
            event.listen(listened, "connect", self._set_up_mysql)
            event.listen(listened, "checkout", _still_writable_mysql)
        else:
            event.listen(listened, "connect", _set_up_postgresql)
            event.listen(listened, "checkout", _still_writable_postgresql)
        event.listen(listened, "handle_error", self._on_error)
        return engine

    def _on_error(self, context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if error is not None and (forgetful(error) or (read_only(error) and self.moves.is_news())):
            context.is_disconnect = True

    def _arguments(self) -> dict[str, Any]:
        settings = self._settings
        if self._dialect.name == "sqlite":
            return {"timeout": self.timeout * 0.9, "factory": Connection}
        if self._dialect.name == "mysql":
            found: dict[str, Any] = {
                "connect_timeout": settings["connect_timeout"],
                "charset": "utf8mb4",
                # From the first statement on: SQLAlchemy looks at once how names are quoted.
                "init_command": "SET SESSION sql_mode ="
                " 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO'",
            }
            if settings["socket"]:
                found["unix_socket"] = settings["socket"]
            if settings["tls"] != "off":
                found["ssl"] = tls.context(settings)
            return found
        found = connecting.arguments(settings, {"jit": "off"})
        found["connection_class"] = _quickly_closed()
        if settings["pooler"] == "transaction":
            # SQLAlchemy prepares each statement: on the server's side the next transaction would not
            # find it, or find another's of the same name.
            found |= {
                "prepared_statement_cache_size": 0,
                "prepared_statement_name_func": lambda: f"statehold_{uuid.uuid4().hex}",
            }
        return found

    def _set_up_sqlite(self, connection: Any, _record: object) -> None:
        connection.isolation_level = None  # sqlite3 would begin transactions as it sees fit
        try:
            cursor = connection.cursor()
            self._write_ahead(connection, cursor)
            cursor.execute("PRAGMA synchronous = NORMAL")
            cursor.execute("PRAGMA secure_delete = ON")
            cursor.close()
        except BaseException:
            connection.close()  # SQLAlchemy would not wait for its thread
            raise

    def _write_ahead(self, connection: Any, cursor: Any) -> None:
        """Have the file written by way of a log, which it keeps to from then on.

        Of several who are the first at a file SQLite refuses some at once, and lets others wait for
        each other. So nobody waits for long; whoever is refused lets go, and tries again.
        """
        until = time.monotonic() + self.timeout * 0.9
        cursor.execute("PRAGMA busy_timeout = 20")
        while True:
            try:
                cursor.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > until:
                    raise
                connection.run_async(_pause)
            else:
                break
        cursor.execute(f"PRAGMA busy_timeout = {_milliseconds(self.timeout)}")

    def _set_up_mysql(self, connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        seconds = max(1, int(self.timeout * 0.9))  # so that it gives up first
        cursor.execute(
            f"SET SESSION innodb_lock_wait_timeout = {seconds}, time_zone = '+00:00'"
            # Only MariaDB has it, and reads this: see `settings.limits`.
            f" /*M!100300 , idle_transaction_timeout = {max(1, round(self.timeout))} */"
        )
        cursor.execute("SELECT @@global.read_only, @@max_allowed_packet")
        read_only, packet = cursor.fetchone()
        cursor.close()
        record.info[WRITABLE] = not read_only
        record.info[ASKED] = time.monotonic()
        record.info[PACKET] = int(packet)


ASKED: Final = "statehold asked"
WRITABLE: Final = "statehold writable"
"""Whether the server took writes when the connection was made. If it does not any more, another one
may be at its address; if it never did, it is read from as it is."""

PACKET: Final = "statehold packet"
"""Most bytes of one statement (MariaDB and MySQL)."""


def packet_of(connection: AsyncConnection) -> int | None:
    """How large a statement on this connection may be, if that is limited."""
    found: int | None = connection.info.get(PACKET)
    return found


ASK_EVERY: Final = 1.0
"""Seconds for which a connection is trusted to lead to a server that takes writes. Asking is a round
trip, of which a transaction has several."""


def _still_writable_mysql(connection: Any, record: Any, _proxy: object) -> None:
    now = time.monotonic()
    if not record.info.get(WRITABLE) or now - record.info[ASKED] < ASK_EVERY:
        return
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT @@global.read_only")
        (found,) = cursor.fetchone()
        cursor.close()
    except Exception as error:
        raise exc.InvalidatePoolError("the connection was lost") from error
    record.info[ASKED] = now
    if found:
        raise _moved()


def _set_up_postgresql(connection: Any, record: Any) -> None:
    record.info[WRITABLE] = takes_writes(connection.driver_connection)


def _still_writable_postgresql(connection: Any, record: Any, _proxy: object) -> None:
    if record.info.get(WRITABLE) and not takes_writes(connection.driver_connection):
        raise _moved()


def _moved() -> exc.InvalidatePoolError:
    """SQLAlchemy ends all connections for it that are idle, and makes a new one."""
    return exc.InvalidatePoolError("the server takes no writes any more")


_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
_LIMITS = text(
    "SELECT set_config('lock_timeout', :lock_timeout, true),"
    " set_config('statement_timeout', :statement_timeout, true),"
    " set_config('idle_in_transaction_session_timeout', :idle_in_transaction_session_timeout, true)"
)


@functools.cache
def _quickly_closed() -> type:
    """A connection of asyncpg, which SQLAlchemy closes when a call is cancelled: in its time.

    It would give the server two seconds to answer, and the connection is closed because that does not.
    """
    asyncpg: Any = importlib.import_module("asyncpg")  # which has no types

    async def close(self: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  asyncpg's
        try:
            await asyncpg.Connection.close(self, timeout=min(timeout or CLOSING, CLOSING))
        except TimeoutError:
            self.terminate()  # SQLAlchemy would write a traceback to the log

    return type("Connection", (asyncpg.Connection,), {"close": close, "__slots__": ()})


async def _pause(_connection: object) -> None:
    await asyncio.sleep(pause(0, 0.02, 0.02))


def _begin(connection: Any) -> None:
    options = connection.get_execution_options()
    connection.exec_driver_sql(options.get("statehold_begin", "BEGIN"))


def _as_it_is(value: Any) -> Any:
    return value


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 900))  # a tenth less, so that the database gives up first
