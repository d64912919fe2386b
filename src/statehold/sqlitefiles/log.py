"""Emptying a file's write-ahead log after something was erased, so that it is not kept there."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from statehold.changes import Drop
from statehold.commits import Commit
from statehold.errors import ConfigError
from statehold.sqlitefiles.connection import Connection

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
    still to be deleted from the file is deleted first: `tidied` does a piece of that, and says whether
    there is more.
    """

    def __init__(self, path: str, tidied: Callable[[Connection], bool] | None = None) -> None:
        self._path = path
        self._tidied = tidied
        self._lock = threading.RLock()  # a signal handler may come in the midst of it
        self._asked = False
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    @property
    def pending(self) -> bool:
        """Whether it is still to be emptied."""
        return self._thread is not None

    def empty_soon(self) -> None:
        """Have it emptied, soon and in the background. Nothing once it is closed."""
        with self._lock:
            self._asked = True
            if self._thread is None and not self._closing.is_set():
                self._thread = thread = threading.Thread(
                    target=self._work, name="statehold-log", daemon=True
                )
                try:
                    thread.start()
                except BaseException:  # also an interrupt, before or after it has begun
                    if thread.ident is None:
                        self._thread = None
                    raise

    def empty_what_was_left(self) -> None:
        """Empty the log soon if it holds anything: a process that was killed may have erased that."""
        with contextlib.suppress(OSError):
            if os.stat(self._path + "-wal").st_size:  # noqa: PTH116  half the time of Path.stat
                self.empty_soon()

    def close(self) -> None:
        """The thread that empties the log has ended, whether it was done or not."""
        with self._lock:
            self._closing.set()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        with self._lock:  # an interrupt of who started it may have come before that was known
            self._thread = self._thread or threading.current_thread()
            if self._thread is not threading.current_thread():
                return
        pause = FIRST_PAUSE
        connection: Connection | None = None
        try:
            while not self._closing.wait(pause):
                self._asked = False
                try:
                    connection = connection or connect(self._path)
                    if self._tidied is not None and self._tidied(connection):
                        pause = BETWEEN
                        continue
                    done = emptied(connection)
                except (sqlite3.Error, OSError, ConfigError):
                    done = not os.path.exists(self._path)  # noqa: PTH110  it went with its log
                if done and connection is not None:
                    connection.close()  # while whoever closes the log still waits for this thread
                    connection = None
                with self._lock:
                    if done and not self._asked:
                        self._thread = None
                        return
                pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
        finally:
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
