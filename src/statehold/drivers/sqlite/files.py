"""Opening the file: what it is, how SQLite is to treat it, and who may use a connection."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import threading
import time
from pathlib import Path
from typing import cast
from weakref import WeakSet

from statehold.driver import WouldWait
from statehold.drivers.sqlite import schema
from statehold.drivers.sqlite.errors import ERRORS, translated
from statehold.errors import Busy, Closed, ConfigError, ReadOnly, Unavailable
from statehold.sqlitefiles.connection import Connection, Inode, forked, header
from statehold.sqlitefiles.log import Log

LOG_PAGES = 4096
"""How long the log grows before its pages are moved into the file: 4 MB."""

CACHE_KIB = 16 * 1024
SPARE_READERS = 8

PROMPT_S = 0.001
"""Seconds that a call which is not to wait waits for other threads: they are mostly quick."""
NOTICED_S = 0.1
"""Seconds of waiting for other threads that count as waiting for another process."""


class Turn:
    """Taking the writing connection and giving it back; an interrupt cannot come between."""

    __slots__ = ("_file", "_wait")

    def __init__(self, file: File, wait: bool) -> None:
        self._file = file
        self._wait = wait

    def __enter__(self) -> sqlite3.Cursor:
        return self._file.acquire(wait=self._wait)

    def __exit__(self, *_: object) -> None:
        self._file.release()


class File:
    """The connections to one file: one that writes, used under a lock, and some that only read.

    They are of no use in a process that was forked off meanwhile, and it is told so.
    """

    def __init__(
        self, path: str | os.PathLike[str], synchronous: str, busy_timeout_ms: int
    ) -> None:
        # Absolute, since connections are opened later too, and the process may change its folder.
        self.path: str = os.path.abspath(os.fspath(path))  # noqa: PTH100  resolve() would follow links
        self._synchronous = synchronous
        self._busy_timeout_s = busy_timeout_ms / 1000
        self._writer: Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._borrowed: sqlite3.Cursor | None = None  # the same, while it is used for reading
        self._waiting: bool | None = None  # how patient it is: as for `wait`, or otherwise
        self._readers: list[Connection] = []
        self._uri = ""
        self._inode: Inode | None = None
        self._forked = False
        self.read_only = False
        self.closed = False
        self.lock = threading.Lock()
        self._owner = 0  # the thread that has it
        self._turns = {wait: Turn(self, wait) for wait in (False, True)}
        self.log = Log(self.path)
        _files.add(self)

    def open(self, *, wait: bool) -> None:
        """Open it, if it is not yet. Raises what `acquire` does."""
        if self._cursor is None or self.closed:
            with self.turn(wait=wait):
                pass

    def release(self) -> None:
        """Others may use the writing connection."""
        self._owner = 0
        self.lock.release()

    def turn(self, *, wait: bool) -> Turn:
        """`with` it: the writing connection's cursor, and no other thread's until the end."""
        return self._turns[wait]

    def acquire(self, *, wait: bool) -> sqlite3.Cursor:
        """The writing connection's cursor, opened if need be; `lock` is held, and to be released.

        With `wait` this waits for other threads, and its statements wait for other processes until
        the busy timeout has passed since the call, so that those who wait for one another do not
        wait one time-out each. Without it raises `WouldWait`.
        """
        me = threading.get_ident()
        if self._owner == me and self.lock.locked():
            raise Busy(
                f"{self.path}: called from a signal handler or finalizer in the midst of another"
                " call of the same thread; nothing was written"
            )
        patience = None
        # In one line it is taken and known to be: an interrupt comes before or after.
        try:
            self._owner = me if self.lock.acquire(False) else self._owner
            if self._owner != me:
                patience = self._wait_for_threads(wait=wait)
                self._owner = me
            cursor = self._cursor
            if cursor is None or patience is not None or self._waiting is not wait:
                cursor = self._made_ready(wait=wait, patience=patience)
            return cursor  # noqa: TRY300  an interrupt may come even here
        except BaseException:
            if self._owner == me:
                self.release()
            raise

    def _wait_for_threads(self, *, wait: bool) -> float | None:
        """Have the lock. Returns how long to wait for other processes, if that is less than usual."""
        began = time.monotonic()
        if not self.lock.acquire(timeout=-1 if wait else PROMPT_S):
            raise WouldWait
        waited = time.monotonic() - began
        return max(0.0, self._busy_timeout_s - waited) if wait and waited > NOTICED_S else None

    def _made_ready(self, *, wait: bool, patience: float | None = None) -> sqlite3.Cursor:
        """The cursor, its statements being as patient as this or, if None, as `wait` says."""
        if self._writer is None or self._cursor is None:
            if self.closed:
                raise Closed(f"{self.path}: the store was closed")
            if self._forked:
                raise forked(self.path)
            if not wait:
                raise WouldWait
            self._writer = self._open()
            self._cursor = self._writer.cursor()
        if patience is None:
            patience = self._busy_timeout_s if wait else 0.0
            self._waiting = wait
        else:
            self._waiting = None
        self._writer.wait_up_to(patience)
        return self._cursor

    def present(self) -> None:
        """Raise `Unavailable` unless the path still leads to the file that was opened.

        Otherwise commits would go on into a file that nobody finds any more.
        """
        try:
            found = os.stat(self.path)  # noqa: PTH116  half the time of Path.stat
        except OSError as error:
            raise Unavailable(f"{self.path}: the file was removed while in use") from error
        if (found.st_dev, found.st_ino) != self._inode:
            raise Unavailable(f"{self.path}: another file was put in its place while in use")

    def reader(self, *, wait: bool) -> sqlite3.Cursor:
        """A cursor to read from, to be given back with `done`.

        The writing connection's if it is idle, for its pages are cached; else one of its own.
        Raises `WouldWait` as `acquire` does.
        """
        if self.lock.acquire(blocking=False):
            self._owner = threading.get_ident()
            cursor = self._cursor
            if cursor is None or self._waiting is not wait:
                try:
                    cursor = self._made_ready(wait=wait)
                except BaseException:
                    self.release()
                    raise
            self._borrowed = cursor
            return cursor
        if not self._uri:  # someone is opening the file
            self.open(wait=wait)
        if self.closed:
            raise Closed(f"{self.path}: the store was closed")
        if self._forked:
            raise forked(self.path)
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._connect(self._uri)
        connection.wait_up_to(self._busy_timeout_s if wait else 0.0)
        return connection.cursor()

    def done(self, cursor: sqlite3.Cursor) -> None:
        """Give back what `reader` gave."""
        if cursor is self._borrowed:
            self._borrowed = None
            self.release()
            return
        connection = cast("Connection", cursor.connection)
        if len(self._readers) >= SPARE_READERS or stuck(cursor):
            connection.close()
        else:
            self._readers.append(connection)
        if self.closed:  # and perhaps only just
            self._close_readers()

    def recover(self, cursor: sqlite3.Cursor) -> None:
        """After a failed roll-back: give the writing connection up, so that another is opened."""
        if cursor is self._cursor and stuck(cursor):
            self._writer = self._cursor = None
            with contextlib.suppress(sqlite3.Error):
                cursor.connection.close()

    def close(self) -> None:
        """Let go of the file, its log moved into it and removed if no one else uses it."""
        self.closed = True  # from now on nobody begins
        self.log.close()
        with self.lock:
            self._close_readers()
            writer, self._writer, self._cursor = self._writer, None, None
            if writer is None:
                return
            if not self.read_only:
                # If another process is using the log, it stays, for whoever closes last.
                with contextlib.suppress(sqlite3.Error):
                    writer.wait_up_to(self._busy_timeout_s)
                    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            writer.close()

    def _close_readers(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._readers.pop().close()

    def _connect(self, uri: str) -> Connection:
        return Connection(
            uri,
            self._busy_timeout_s,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )

    def _open(self) -> Connection:
        try:
            known = self._looked_at()
            writer = self._opened(known=known)
        except ERRORS as error:
            raise translated(error, self.path) from error
        if self._inode not in (None, writer.inode):
            writer.close()
            raise Unavailable(f"{self.path}: another file was put in its place while in use")
        self._inode = writer.inode
        if not self.read_only:
            self.log.empty_what_was_left()
        return writer

    def _looked_at(self) -> bool:
        """True if the file is a store, False if it is empty or none; it is not touched."""
        path = Path(self.path)
        if not path.parent.is_dir():
            raise ConfigError(
                f"{self.path}: there is no folder {path.parent}", field="path", found=self.path
            )
        try:
            found = path.stat()
        except FileNotFoundError:
            if self._inode is not None:
                raise Unavailable(f"{self.path}: the file was removed while in use") from None
            return False
        if stat.S_ISDIR(found.st_mode):
            raise ConfigError(f"{self.path} is a folder", field="path", found=self.path)
        if found.st_nlink > 1:
            raise ConfigError(
                f"{self.path}: the file has {found.st_nlink} names (hard links), and SQLite keeps"
                " a log for each; leave it one, and let others be symbolic links",
                field="path",
                found=self.path,
            )
        if not found.st_size:
            return False
        try:
            if found.st_size < schema.HEADER_BYTES:
                raise schema.no_database(self.path)
            application, version = header(self.path)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
                raise schema.no_database(self.path) from error
            raise
        schema.check_header(application, version, self.path)
        return True

    def _opened(self, *, known: bool) -> Connection:
        uri = Path(self.path).as_uri()
        try:
            writer = self._writable(uri)
        except sqlite3.OperationalError as error:
            if not known or (error.sqlite_errorcode & 0xFF) not in _NOT_WRITABLE:
                raise
            return self._readable(uri, error)
        self._uri = uri + "?mode=rw"
        return writer

    def _writable(self, uri: str) -> Connection:
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

    def _write_ahead(self, conn: Connection) -> None:
        """Have the file written by way of a log, which it keeps to from then on.

        Of several who are the first at a file SQLite refuses some at once, and lets others wait for
        each other. So nobody waits for long; whoever is refused lets go, and tries again.
        """
        until = time.monotonic() + self._busy_timeout_s
        conn.wait_up_to(0.02)
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
        conn.wait_up_to(self._busy_timeout_s)

    def _readable(self, uri: str, refused: sqlite3.OperationalError) -> Connection:
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
        self._forked = self._writer is not None
        self._writer = self._cursor = self._borrowed = None
        self._readers = []
        self.lock = threading.Lock()
        self.log = Log(self.path)


def stuck(cursor: sqlite3.Cursor) -> bool:
    """Whether a transaction could not be ended. Closing the connection ends it."""
    return cursor.connection.in_transaction


_NOT_WRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_files: WeakSet[File] = WeakSet()


def _forget_all() -> None:
    for file in list(_files):
        file.forget()


os.register_at_fork(after_in_child=_forget_all)
