"""Emptying a file's write-ahead log after something was erased, so that it is not kept there."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from statehold.changes import Drop
from statehold.clock import AMBIENT
from statehold.commits import Commit
from statehold.errors import ConfigError
from statehold.sqlitefiles.connection import Connection
from statehold.sqlitefiles.errands import Errand

FIRST_PAUSE = 0.1
"""Seconds in which erasures gather before the log is emptied."""
LONGEST_PAUSE = 1.0
"""Seconds until the next try, at most, and between two times that it is emptied."""
WAIT = 0.02
"""Seconds that a try waits for readers; nobody can write meanwhile."""
BETWEEN = 0.005
"""Seconds in which others may write, between two pieces of what is to be done before."""


class Log:
    """The write-ahead log of a file, emptied on request by a thread that ends when it is done.

    While somebody reads an older state of the file, the log cannot be emptied; it is tried again. What is
    still to be deleted from the file is deleted, too, and the log emptied each second meanwhile and at the end:
    `tidied` does a piece of that, and says whether there is more.
    """

    def __init__(self, path: str, tidied: Callable[[Connection], bool] | None = None) -> None:
        self._path = path
        self._tidied = tidied
        self._pause = FIRST_PAUSE
        self._due = 0.0  # when it is emptied though there is more to be deleted
        self._connection: Connection | None = None
        self._errand = Errand("statehold-log", self._work, FIRST_PAUSE, LONGEST_PAUSE)

    @property
    def pending(self) -> bool:
        """Whether it is still to be emptied."""
        return self._errand.pending

    def empty_soon(self) -> None:
        """Have it emptied, soon and in the background. Nothing once it is closed."""
        self._errand.ask()

    def empty_what_was_left(self) -> None:
        """Empty the log soon if it holds anything: a process that was killed may have erased that."""
        with contextlib.suppress(OSError):
            if os.stat(self._path + "-wal").st_size:  # noqa: PTH116  half the time of Path.stat
                self.empty_soon()

    def close(self) -> None:
        """The thread that empties the log has ended, whether it was done or not."""
        self._errand.close()
        self._let_go()

    def _work(self) -> float | None:
        try:
            connection = self._connection = self._connection or connect(self._path)
            more = self._tidied is not None and self._tidied(connection)
            if more and AMBIENT.monotonic() < self._due:
                return BETWEEN
            done = emptied(connection)
            self._due = AMBIENT.monotonic() + LONGEST_PAUSE
        except (sqlite3.Error, OSError, ConfigError):
            more, done = False, not os.path.exists(self._path)  # noqa: PTH110  it went with its log
        if not done:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return self._pause
        self._pause = FIRST_PAUSE
        if more:
            return BETWEEN
        self._let_go()  # while whoever closes the log still waits for this thread
        return None

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def erases(commits: Iterable[Commit]) -> bool:
    """Whether something is to be gone after them, and nothing comes in its place."""
    for commit in commits:
        if commit.erase:
            return True
        for change in commit.changes:
            if change.__class__ is Drop:
                return True
    return False


def emptied(connection: sqlite3.Connection) -> bool:
    """Move what the log holds into the file, and empty it; False if somebody is in the way."""
    connection.execute("PRAGMA user_version").fetchall()  # without a look first there is no log
    connection.execute(
        "PRAGMA wal_checkpoint(PASSIVE)"
    ).fetchall()  # most of it, while others write
    ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return not busy


def connect(path: str) -> Connection:
    """A connection for work in the background, which waits for others only shortly."""
    return Connection(
        Path(path).as_uri() + "?mode=rw",
        WAIT,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
