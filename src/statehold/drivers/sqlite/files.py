"""Opening the file: what it is, how SQLite is to treat it, and who may use a connection."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
from pathlib import Path
from weakref import WeakSet

from statehold.drivers.sqlite import schema
from statehold.drivers.sqlite.errors import ERRORS, translated
from statehold.errors import Closed, ConfigError, ReadOnly, Unavailable

LOG_PAGES = 4096
"""How long the log grows before its pages are moved into the file: 4 MB."""

CACHE_KIB = 16 * 1024
SPARE_READERS = 8


class File:
    """The connections to one file: one that writes, used under a lock, and some that only read.

    A process that was forked off gets connections of its own: one must not be carried over a fork.
    """

    def __init__(
        self, path: str | os.PathLike[str], synchronous: str, busy_timeout_ms: int
    ) -> None:
        # Absolute, since connections are opened later too, and the process may change its folder.
        self.path: str = os.path.abspath(os.fspath(path))  # noqa: PTH100  resolve() would follow links
        self._synchronous = synchronous
        self._busy_timeout_s = busy_timeout_ms / 1000
        self._writer: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._borrowed: sqlite3.Cursor | None = None  # the same, while it is used for reading
        self._readers: list[sqlite3.Connection] = []
        self._uri = ""
        self._identity = (0, 0)
        self.read_only = False
        self.closed = False
        self.lock = threading.Lock()
        _files.add(self)

    def cursor(self) -> sqlite3.Cursor:
        """The writing connection's cursor, opened if need be. The lock must be held."""
        if self._cursor is None:
            if self.closed:
                raise Closed(f"{self.path}: the store was closed")
            try:
                self._writer = self._open()
            except ERRORS as error:
                raise translated(error, self.path) from error
            found = os.stat(self.path)  # noqa: PTH116  likewise
            self._identity = (found.st_dev, found.st_ino)
            self._cursor = self._writer.cursor()
        return self._cursor

    def present(self) -> None:
        """Raise `Unavailable` unless the path still leads to the file that was opened.

        Otherwise commits would go on into a file that nobody finds any more.
        """
        try:
            found = os.stat(self.path)  # noqa: PTH116  half the time of Path.stat
        except OSError as error:
            raise Unavailable(f"{self.path}: the file was removed while in use") from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise Unavailable(f"{self.path}: another file was put in its place while in use")

    def reader(self) -> sqlite3.Cursor:
        """A cursor to read from, to be given back with `done`.

        The writing connection's if it is idle, for its pages are cached; else one of its own.
        """
        if self.lock.acquire(blocking=False):
            try:
                self._borrowed = self.cursor()
            except BaseException:
                self.lock.release()
                raise
            return self._borrowed
        if not self._uri:  # someone is opening the file
            with self.lock:
                self.cursor()
        if self.closed:
            raise Closed(f"{self.path}: the store was closed")
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._connect(self._uri)
        return connection.cursor()

    def done(self, cursor: sqlite3.Cursor) -> None:
        """Give back what `reader` gave."""
        if cursor is self._borrowed:
            self._borrowed = None
            self.lock.release()
        elif self.closed or len(self._readers) >= SPARE_READERS or stuck(cursor):
            cursor.connection.close()
        else:
            self._readers.append(cursor.connection)

    def recover(self, cursor: sqlite3.Cursor) -> None:
        """After a failed roll-back: give the writing connection up, so that another is opened."""
        if cursor is self._cursor and stuck(cursor):
            self._writer = self._cursor = None
            with contextlib.suppress(sqlite3.Error):
                cursor.connection.close()

    def close(self) -> None:
        """Let go of the file, its log moved into it and removed if no one else uses it."""
        with self.lock:
            self.closed = True
            while self._readers:
                self._readers.pop().close()
            writer, self._writer, self._cursor = self._writer, None, None
            if writer is None:
                return
            if not self.read_only:
                # If another process is using the log, it stays, for whoever closes last.
                with contextlib.suppress(sqlite3.Error):
                    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            writer.close()

    def _connect(self, uri: str) -> sqlite3.Connection:
        return sqlite3.connect(
            uri,
            uri=True,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )

    def _open(self) -> sqlite3.Connection:
        path = Path(self.path)
        if not path.parent.is_dir():
            raise ConfigError(
                f"{self.path}: there is no folder {path.parent}", field="path", found=self.path
            )
        if path.is_dir():
            raise ConfigError(f"{self.path} is a folder", field="path", found=self.path)
        try:
            with path.open("rb") as file:
                head = file.read(100)
        except FileNotFoundError:
            head = b""
        except OSError as error:
            raise Unavailable(f"{self.path}: it cannot be opened ({error})") from error
        known = schema.check_header(head, self.path)
        uri = path.as_uri()
        try:
            writer = self._writable(uri)
        except sqlite3.OperationalError as error:
            if not known or (error.sqlite_errorcode & 0xFF) not in _NOT_WRITABLE:
                raise
            writer = self._readable(uri, error)
        else:
            self._uri = uri + "?mode=rw"
        return writer

    def _writable(self, uri: str) -> sqlite3.Connection:
        conn = self._connect(uri)
        try:
            schema.prepare(conn, self.path)
            self._write_ahead(conn)
            conn.execute(f"PRAGMA synchronous = {self._synchronous}")
            conn.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
            conn.execute(f"PRAGMA journal_size_limit = {LOG_PAGES * schema.PAGE_SIZE_BYTES}")
            conn.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            conn.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten
        except BaseException:
            conn.close()
            raise
        return conn

    def _write_ahead(self, conn: sqlite3.Connection) -> None:
        """Have the file written by way of a log, which it keeps to from then on.

        Of several who are the first at a file SQLite refuses some at once, and lets others wait for
        each other. So nobody waits for long; whoever is refused lets go, and tries again.
        """
        until = time.monotonic() + self._busy_timeout_s
        conn.execute("PRAGMA busy_timeout = 20")
        while True:
            try:
                conn.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > until:
                    raise
                time.sleep(random.random() * 0.02)  # noqa: S311  jitter
            else:
                break
        conn.execute(f"PRAGMA busy_timeout = {round(self._busy_timeout_s * 1000)}")

    def _readable(self, uri: str, refused: sqlite3.OperationalError) -> sqlite3.Connection:
        """A connection that can only read, where nothing can be written.

        SQLite needs the files beside a store to read it, and makes them when they are not there. On
        a file system mounted for reading nobody can have made any: there the file stands still.
        """
        mounted_for_reading = os.statvfs(self.path).f_flag & os.ST_RDONLY
        still = mounted_for_reading and not Path(self.path + "-wal").exists()
        self._uri = uri + ("?mode=ro&immutable=1" if still else "?mode=ro")
        conn = self._connect(self._uri)
        try:
            (version,) = conn.execute("PRAGMA user_version").fetchone()
            conn.execute("SELECT 1 FROM state LIMIT 1").fetchone()
        except sqlite3.Error:
            conn.close()
            raise refused from None
        if version != schema.VERSION:
            conn.close()
            raise ReadOnly(f"{self.path}: it has an older layout, and cannot be written")
        self.read_only = True
        return conn

    def forget(self) -> None:
        """In a process just forked off: leave the parent's connections alone, for good."""
        _abandoned.extend(filter(None, (self._writer, *self._readers)))
        self._writer = self._cursor = self._borrowed = None
        self._readers = []
        self.lock = threading.Lock()


def stuck(cursor: sqlite3.Cursor) -> bool:
    """Whether a transaction could not be ended. Closing the connection ends it."""
    return cursor.connection.in_transaction


_NOT_WRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_files: WeakSet[File] = WeakSet()
_abandoned: list[sqlite3.Connection] = []  # closing one would release locks or touch the log


def _forget_all() -> None:
    for file in list(_files):
        file.forget()


os.register_at_fork(after_in_child=_forget_all)
