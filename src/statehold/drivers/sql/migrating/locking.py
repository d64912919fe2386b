"""One migration at a time: replicas that start together wait for each other."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from statehold.drivers.sql.errors import sqlstate
from statehold.errors import Busy

_LOCK: Final = 0x7374617465686F6C
"""The number of the advisory lock: "statehol"."""

_NOT_GOT: Final = "55P03"
"""What PostgreSQL says of a lock that it did not get in time."""


@contextmanager
def locked(connection: Connection, patience: float = 30.0) -> Generator[None]:
    """Nobody else migrates the same database meanwhile; waits at most `patience` seconds.

    To be entered within a transaction: PostgreSQL lets go at its end, MariaDB and MySQL when the
    block is left. SQLite's own lock suffices, where the transaction was begun IMMEDIATE.

    Raises:
        Busy: somebody else was at it for that long.
    """
    name = connection.dialect.name
    if name == "postgresql":
        _wait_postgresql(connection, patience)
        yield
    elif name in ("mysql", "mariadb"):
        lock = {"name": f"statehold migrate {connection.engine.url.database}"[:64]}
        got = connection.execute(
            text("SELECT GET_LOCK(:name, :patience)"), {**lock, "patience": patience}
        )
        answer = got.scalar()
        if answer is None:
            raise Busy("the server ended the wait for another migration (max_statement_time?)")
        if answer != 1:
            raise _busy(patience)
        try:
            yield
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), lock)
    else:
        yield


def _wait_postgresql(connection: Connection, patience: float) -> None:
    """Waits within one statement, whose time is bounded by a timeout for locks."""
    before = connection.execute(text("SELECT current_setting('lock_timeout')")).scalar()
    limit = text("SELECT set_config('lock_timeout', :limit, true)")
    connection.execute(limit, {"limit": f"{round(patience * 1000)}ms"})
    try:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    except DBAPIError as error:
        if sqlstate(error) == _NOT_GOT:
            raise _busy(patience) from error
        raise
    connection.execute(limit, {"limit": before})


def _busy(patience: float) -> Busy:
    return Busy(f"another migration has been under way for more than {patience:g} s")
