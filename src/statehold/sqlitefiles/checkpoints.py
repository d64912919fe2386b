"""Moving a file's write-ahead log into it, in the background, before a commit would have to.

SQLite moves the log within the commit that makes it too long. That takes some tenths of a second at times,
and an event loop may be what waits for it. So a thread does it as soon as about `LOG_PAGES` were written,
while others go on writing, and then stops them for the few pages that came meanwhile, after which the log
begins anew. Where it cannot keep up, or somebody reads an older state of the file, SQLite still does it
within a commit once the log is `LONGEST_PAGES`.
"""

from __future__ import annotations

import sqlite3

from statehold.errors import ConfigError
from statehold.sqlitefiles.connection import Connection
from statehold.sqlitefiles.errands import Errand
from statehold.sqlitefiles.log import connect

LOG_PAGES = 4096
"""How long the log grows before its pages are moved into the file: 4 MB of pages of 1 KB."""
LONGEST_PAGES = 4 * LOG_PAGES
"""How long it is at most, unless somebody reads an older state of the file."""
FIRST_ROWS = LOG_PAGES // 16
"""How many rows are written before it is looked how many pages that makes."""
FEW_PAGES = LOG_PAGES // 16
"""How many are moved while others are stopped."""
PASSES = 8
"""How often it is tried to come down to so few."""
PAUSE_S = 0.1
"""Seconds until the next try, where somebody is in the way."""


class Checkpoints:
    """Has the log of a file moved into it, by a thread that ends when it is done."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows = 0
        self._due = FIRST_ROWS
        self._connection: Connection | None = None
        self._errand = Errand("statehold-checkpoint", self._work)

    def wrote(self, rows: int) -> None:
        """So many rows were written. They are counted roughly, since nothing but time hangs on it."""
        self._rows += rows
        if self._rows >= self._due and not self._errand.pending:
            self._errand.ask()

    def close(self) -> None:
        """The thread has ended, whether it was done or not."""
        self._errand.close()
        if self._connection is not None:
            self._connection.close()

    def _work(self) -> float | None:
        try:
            return None if self._done() else PAUSE_S
        except (sqlite3.Error, OSError, ConfigError):
            return None  # the commits tell what is wrong with the file, and do it themselves

    def _done(self) -> bool:
        """Whether the log begins anew, or need not yet."""
        connection = self._connection = self._connection or connect(self._path)
        rows, self._rows = self._rows, 0
        connection.execute("PRAGMA user_version").fetchall()  # without a look first there is no log
        ((_, pages, moved),) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        if rows and pages > 0:
            # Of what others write, and how large rows are, the log tells more than the rows counted.
            self._due = max(1, min(LOG_PAGES, rows * LOG_PAGES // pages))
        if pages < LOG_PAGES // 2:
            return True
        for _ in range(PASSES):
            if pages - moved <= FEW_PAGES:
                break
            before = moved
            ((_, pages, moved),) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            if moved == before:  # a reader is in the way
                return False
        ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        return not busy
