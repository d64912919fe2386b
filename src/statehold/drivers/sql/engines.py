"""Connections: an engine for each event loop, each connection set up for its database."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import os
import random
import sqlite3
import ssl
import time
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import URL, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from statehold.drivers.sql.dialects import Dialect
from statehold.drivers.sql.settings import POOL_SHARE
from statehold.errors import ConfigError
from statehold.sqlitefiles.connection import Connection
from statehold.sqlitefiles.log import Log

CLOSING = 0.1
"""Seconds that a PostgreSQL which does not answer may take to close a connection."""


class Engines:
    """The engines of one driver. Connections belong to the event loop that made them."""

    def __init__(self, url: URL, dialect: Dialect, settings: dict[str, Any]) -> None:
        self._url = url
        self._dialect = dialect
        self._settings = settings
        self._engines: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncEngine] = (
            WeakKeyDictionary()
        )
        self.log: Log | None = None
        if dialect.name == "sqlite" and url.database:
            self.log = Log(os.path.abspath(url.database))  # noqa: PTH100  resolve() would follow links
        self.timeout: float = settings["timeout"]
        # On PostgreSQL the others are the fast path's.
        most = settings["pool_size"]
        self.size = max(1, most // 3) if dialect.name == "postgresql" else most

    @property
    def here(self) -> AsyncEngine:
        """The engine of the running event loop."""
        loop = asyncio.get_running_loop()
        engine = self._engines.get(loop)
        if engine is None:
            engine = self._engines[loop] = self._make()
        return engine

    def in_use(self) -> int:
        """How many connections are taken from the pools now."""
        pools = [engine.pool for engine in self._engines.values()]
        return sum(pool.checkedout() for pool in pools if isinstance(pool, AsyncAdaptedQueuePool))

    async def close(self) -> None:
        """Close every connection, those of other event loops as far as they still run."""
        if self.log is not None:
            await asyncio.to_thread(self.log.close)
        mine = asyncio.get_running_loop()
        while self._engines:
            loop, engine = self._engines.popitem()
            if loop is mine:
                await engine.dispose()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(engine.dispose(), loop))
            else:  # its connections died with it
                engine.sync_engine.dispose(close=False)

    # ---------------------------------------------------------------------------- transactions

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection, None]:
        """A transaction that sees what others commit while it waits for them."""
        async with self.here.connect() as connection:
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
        async with self.here.connect() as connection:
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
            wait = str(_milliseconds(self.timeout))
            await connection.execute(_LIMITS, {"wait": wait})

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
            # Each use is a transaction that has ended; to roll back what follows is a round trip.
            pool_reset_on_return=None if self._dialect.name == "mysql" else "rollback",
            hide_parameters=True,
            json_serializer=_as_it_is,
            json_deserializer=_as_it_is,
            connect_args=self._arguments(),
            **options,
        )
        if self._dialect.name == "sqlite":
            event.listen(engine.sync_engine, "connect", self._set_up_sqlite)
            event.listen(engine.sync_engine, "begin", _begin)
        elif self._dialect.name == "mysql":
            event.listen(engine.sync_engine, "connect", self._set_up_mysql)
        return engine

    def _arguments(self) -> dict[str, Any]:
        settings = self._settings
        if self._dialect.name == "sqlite":
            return {"timeout": self.timeout * 0.9, "factory": Connection}
        if self._dialect.name == "mysql":
            found: dict[str, Any] = {
                "connect_timeout": settings["connect_timeout"],
                "charset": "utf8mb4",
            }
            if settings["socket"]:
                found["unix_socket"] = settings["socket"]
            if settings["tls"] != "off":
                found["ssl"] = _context(verify=settings["tls"] == "verify")
            return found
        wait = str(_milliseconds(self.timeout))
        found = {
            "connection_class": _quickly_closed(),
            "timeout": settings["connect_timeout"],
            "ssl": {"off": False, "require": "require", "verify": "verify-full"}[settings["tls"]],
        }
        if settings["socket"]:
            found["host"] = settings["socket"]
        if settings["pooler"] == "transaction":
            # A prepared statement would stay on the server's side, where the next transaction, on
            # another connection, does not find it, or finds another's of the same name.
            found |= {
                "statement_cache_size": 0,
                "prepared_statement_cache_size": 0,
                "prepared_statement_name_func": lambda: f"statehold_{uuid.uuid4().hex}",
            }
        else:
            found["server_settings"] = {
                "application_name": "statehold",
                "lock_timeout": wait,
                "statement_timeout": wait,
                "jit": "off",
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

    def _set_up_mysql(self, connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        seconds = max(1, int(self.timeout * 0.9))  # so that it gives up first
        cursor.execute(
            f"SET SESSION innodb_lock_wait_timeout = {seconds}, time_zone = '+00:00',"
            " sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO'"
        )
        cursor.close()


_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
_LIMITS = text(
    "SELECT set_config('lock_timeout', :wait, true), set_config('statement_timeout', :wait, true)"
)


@functools.cache
def _quickly_closed() -> type:
    """A connection of asyncpg, which SQLAlchemy closes when a call is cancelled: in its time.

    It would give the server two seconds to answer, and the connection is closed because that does not.
    """
    asyncpg: Any = importlib.import_module("asyncpg")  # which has no types

    async def close(self: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  asyncpg's
        await asyncpg.Connection.close(self, timeout=min(timeout or CLOSING, CLOSING))

    return type("Connection", (asyncpg.Connection,), {"close": close, "__slots__": ()})


async def _pause(_connection: object) -> None:
    await asyncio.sleep(random.random() * 0.02)  # noqa: S311  jitter


def _begin(connection: Any) -> None:
    options = connection.get_execution_options()
    connection.exec_driver_sql(options.get("statehold_begin", "BEGIN"))


def _as_it_is(value: Any) -> Any:
    return value


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 900))  # a tenth less, so that the database gives up first


def _context(*, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
