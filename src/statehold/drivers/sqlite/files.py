"""Opening the file: what it is, how SQLite is to treat it, and who may use a connection."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import get_ident
from typing import TypeVar, cast
from weakref import WeakSet

from statehold.clock import pause
from statehold.driver import WouldWait
from statehold.drivers.sqlite import schema, sweeping
from statehold.drivers.sqlite.errors import ERRORS, translated
from statehold.drivers.sqlite.opening import looked_at, write_ahead
from statehold.errors import Busy, Closed, ReadOnly, Unavailable
from statehold.sqlitefiles.checkpoints import LOG_PAGES, LONGEST_PAGES, Checkpoints
from statehold.sqlitefiles.connection import Connection, Inode, forked
from statehold.sqlitefiles.log import Log

R = TypeVar("R")
T = TypeVar("T")

CACHE_KIB = 16 * 1024
SPARE_READERS = 8

PATIENT_S = 0.002
"""Seconds that a thread waits for its turn before nobody may come in between any more."""
PROMPT_S = 0.001
"""Seconds that a call which is not to wait waits for other threads: they are mostly quick."""
NOTICED_S = 0.1
"""Seconds of waiting for other threads that count as waiting for another process."""
LEAST_S = 0.001
"""Seconds for which a call waits for another process at least, having waited for threads."""
FIRST_TRY_S, NEXT_TRIES_S = 0.002, 0.025
"""Seconds until another try while another process writes, at most: at first, and after a few."""
LOOK_S = 0.005
"""Seconds between two looks at whether calls are over."""


class File:
    """The connections to one file: one that writes, used by turns, and some that only read.

    They are of no use in a process that was forked off meanwhile, and it is told so.

    An interrupt (Ctrl-C, a time limit) may come after any call of a function. So a turn is taken and
    given back by `with` itself, which calls functions of C there and looks for none; and between what is
    noted of a turn and its end nothing is called.

    Threads that have to wait stand in line, and the first of them alone waits for the turn. To hand it on
    each time would cost a switch of threads for each call, so others may come in between, until the first has
    waited for `PATIENT_S`. Who may not wait for long comes first, and nobody in between.
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
        self._ready: sqlite3.Cursor | None = (
            None  # the same, if it is as patient as it mostly is: not
        )
        self._readers: list[Connection] = []
        self._uri = ""
        self._inode: Inode | None = None
        self._forked = False
        self.read_only = False
        self.closed = False
        self._begin_turns()
        self.log = Log(self.path, sweeping.tidy)
        self.checkpoints = Checkpoints(self.path)
        _files.add(self)

    def _begin_turns(self) -> None:
        """Nobody has the writing connection."""
        turn: SimpleQueue[object] = (
            SimpleQueue()
        )  # what is in it is the turn, and who took it has it
        turn.put(None)
        self._at_once = _taking(turn.get_nowait, turn.put)
        self._promptly = _taking(partial(turn.get, timeout=PROMPT_S), turn.put)
        self._in_turn = _taking(turn.get, turn.put)
        self._owner = 0  # the thread that has it, known to that thread
        self._under_way: set[object] = set()  # calls that wait, or read by another connection
        self._line: deque[_Waiting] = deque()

    def open(self, *, wait: bool) -> None:
        """Open it, if it is not yet. Raises what `use` does."""
        if self._cursor is None or self.closed:
            self.use(_nothing, wait=wait)

    def use(self, work: Callable[[sqlite3.Cursor, float], R], *, wait: bool) -> R:
        """What `work` makes of the writing connection's cursor, which is no one else's meanwhile.

        With `wait` this waits for other threads, and its statements wait for other processes until
        the busy timeout has passed since the call, so that those who wait for one another do not
        wait one time-out each. Without it raises `WouldWait`. It is tried without waiting first, so
        `work`, which raises `WouldWait` where another process is in the way, may be called twice. It
        is told since when it has been waited, by `time.monotonic`: 0.0 if that was not needed.
        """
        me = get_ident()
        if self._owner == me:
            raise self._nested()
        if self._line and self._is_long():
            if not wait:
                raise WouldWait
        else:
            try:
                return self._if_idle(work, me, 0.0)
            except Empty:
                pass
            except WouldWait:
                if not wait:
                    raise
        if wait and self._cursor is None:  # to be opened, which is not to count as waiting
            self._use_later(_nothing, me, wait=True)
            return self.use(work, wait=True)
        return self._use_later(work, me, wait=wait)

    def _if_idle(self, work: Callable[[sqlite3.Cursor, T], R], me: int, told: T) -> R:
        """What it makes of the writing connection's cursor. Raises `Empty` unless it is idle."""
        with self._at_once:
            try:
                self._owner = me
                return work(self._ready or self._made_ready(), told)
            except BaseException:
                self._ready = None  # so that it is looked at first
                raise
            finally:
                self._owner = 0

    def _use_later(self, work: Callable[[sqlite3.Cursor, float], R], me: int, *, wait: bool) -> R:
        call = _Waiting(PATIENT_S if wait else 0.0)
        try:
            self._under_way.add(call)
            if wait:
                self._line.append(call)
                self._stand_in_line(call)
            else:
                self._line.appendleft(call)
            with self._in_turn if wait else self._promptly:
                try:
                    self._owner = me
                    self._ready = None
                    if wait:
                        self._line.remove(call)
                        self._call_next()
                        return self._when_free(work, call.since)
                    return work(self._made_ready(), call.since)
                finally:
                    self._owner = 0
        except Empty:
            raise WouldWait from None
        finally:
            try:
                self._line.remove(call)  # first: an interrupt comes after a call of C, not before
            except ValueError:  # it has left already
                pass
            finally:
                self._under_way.discard(call)
            self._call_next()

    def _is_long(self) -> bool:
        """Whether somebody has waited for so long that nobody may come in between."""
        try:
            return time.monotonic() >= self._line[0].patient_until
        except IndexError:
            return False

    def _stand_in_line(self, call: _Waiting) -> None:
        """Wait until it is the first of those that wait for long."""
        while self._line[0] is not call:
            with suppress(Empty):  # whoever was to tell it may have been interrupted
                call.first.get(timeout=NOTICED_S)

    def _call_next(self) -> None:
        """Tell the first in the line that it is."""
        with suppress(IndexError):
            self._line[0].first.put(None)

    def _when_free(self, work: Callable[[sqlite3.Cursor, float], R], began: float) -> R:
        """What it makes of the cursor once no other process writes. Raises `Busy`.

        SQLite itself would try less and less often, at last each 0.1 s, and let newcomers go first. To
        try much more often keeps a machine busy with it on which many processes wait.
        """
        self._made_ready(opens=True)
        waited = time.monotonic() - began
        left = self._busy_timeout_s - (waited if waited > NOTICED_S else 0.0)
        until = time.monotonic() + max(left, LEAST_S)
        for tries in count():
            try:
                return work(self._made_ready(), began)
            except WouldWait as would:
                now = time.monotonic()
                if now >= until:
                    why = would.__cause__ or would  # what SQLite said
                    raise translated(why, self.path) from why
            time.sleep(min(until - now, pause(tries, FIRST_TRY_S, NEXT_TRIES_S, least=0.5)))
        raise AssertionError

    def read(self, work: Callable[[sqlite3.Cursor, bool], R], *, wait: bool) -> R:
        """What `work` makes of a cursor to read from, told whether it is to be short.

        It is the writing connection's if that is idle, for its pages are cached, and if `work` is short;
        else one of its own. Raises `WouldWait`, and calls `work`, as `use` does.
        """
        if not self._line:
            try:
                return self._if_idle(work, get_ident(), True)
            except Empty:
                pass
            except WouldWait:
                if not wait:
                    raise
        return self._read_apart(work, wait=wait)

    def _read_apart(self, work: Callable[[sqlite3.Cursor, bool], R], *, wait: bool) -> R:
        if not self._uri:  # it is to be opened, or someone is opening it
            self.open(wait=wait)
            return self.read(work, wait=wait)
        if self.closed:
            raise Closed(f"{self.path}: the store was closed")
        if self._forked:
            raise forked(self.path)
        connection: Connection | None = None
        call = object()
        try:
            self._under_way.add(call)
            connection = self._another()
            connection.wait_up_to(self._busy_timeout_s if wait else 0.0)
            return work(connection.cursor(), not wait)
        finally:
            self._under_way.discard(call)
            if connection is not None:
                self._put_by(connection)

    def _another(self) -> Connection:
        try:
            return self._readers.pop()
        except IndexError:
            pass
        try:
            return self._connect(self._uri)
        except ERRORS as error:
            raise translated(error, self.path) from error

    def _put_by(self, connection: Connection) -> None:
        if len(self._readers) >= SPARE_READERS or connection.in_transaction:
            connection.close()
        else:
            self._readers.append(connection)
        if self.closed:  # and perhaps only just
            self._close_readers()

    def _nested(self) -> Busy:
        return Busy(
            f"{self.path}: called from a signal handler or finalizer in the midst of another"
            " call of the same thread; nothing was written"
        )

    def _made_ready(self, *, opens: bool = False) -> sqlite3.Cursor:
        """The cursor, with no transaction; its statements do not wait. Raises `WouldWait` unless it `opens`."""
        if self._writer is None or self._cursor is None:
            if self.closed:
                raise Closed(f"{self.path}: the store was closed")
            if self._forked:
                raise forked(self.path)
            if not opens:
                raise WouldWait
            self._writer = self._open()
            self._cursor = self._writer.cursor()
        if self._writer.in_transaction:  # an interrupt came in the midst of its end
            self._writer.rollback()
        self._writer.wait_up_to(0.0)
        self._ready = self._cursor
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

    def recover(self, cursor: sqlite3.Cursor) -> None:
        """After a failed roll-back: give the writing connection up, so that another is opened."""
        if cursor is self._cursor and cursor.connection.in_transaction:
            self._writer = self._cursor = self._ready = None
            with suppress(sqlite3.Error):
                cursor.connection.close()

    def drained(self, timeout: float) -> bool:
        """Whether the calls of other threads that are under way are over within so many seconds."""
        until = time.monotonic() + timeout
        while True:
            with suppress(Empty), self._at_once:  # nobody is in the midst of a turn
                if not self._under_way:
                    return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(LOOK_S, left))

    def close(self) -> None:
        """Let go of the file, its log moved into it and removed if no one else uses it."""
        if self._owner == get_ident():
            raise self._nested()
        self.closed = True  # from now on nobody begins
        self.log.close()
        self.checkpoints.close()
        with self._in_turn:
            self._close_readers()
            writer, self._writer = self._writer, None
            self._cursor = self._ready = None
            if writer is None:
                return
            if not self.read_only:
                # If another process is using the log, it stays, for whoever closes last.
                with suppress(sqlite3.Error):
                    writer.wait_up_to(self._busy_timeout_s)
                    while sweeping.left(writer.cursor()):
                        sweeping.tidy(writer)
                    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            writer.close()

    def _close_readers(self) -> None:
        with suppress(IndexError):
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
            known = looked_at(self.path, again=self._inode is not None)
            writer = self._opened(known=known)
        except ERRORS as error:
            raise translated(error, self.path) from error
        if self._inode not in (None, writer.inode):
            writer.close()
            raise Unavailable(f"{self.path}: another file was put in its place while in use")
        self._inode = writer.inode
        if not self.read_only:
            self.log.empty_what_was_left()
            with suppress(sqlite3.Error):  # damaged, which is told where it is in the way
                if sweeping.left(writer.cursor()):
                    self.log.empty_soon()
        return writer

    def _opened(self, *, known: bool) -> Connection:
        uri = Path(self.path).as_uri()
        try:
            writer = self._writable(uri)
        except sqlite3.OperationalError as error:
            if (error.sqlite_errorcode & 0xFF) not in _NOT_WRITABLE:
                raise
            if known:
                return self._readable(uri, error)
            folder = os.path.dirname(self.path)  # noqa: PTH120
            if os.access(folder, os.W_OK):
                raise
            raise ReadOnly(f"{self.path}: there is no such file, and none may be made") from error
        self._uri = uri + "?mode=rw"
        return writer

    def _writable(self, uri: str) -> Connection:
        conn = self._connect(uri)
        try:
            schema.prepare(conn, self.path)
            write_ahead(conn, self._busy_timeout_s)
            conn.execute(f"PRAGMA synchronous = {self._synchronous}")
            conn.execute(f"PRAGMA wal_autocheckpoint = {LONGEST_PAGES}")
            conn.execute(f"PRAGMA journal_size_limit = {LOG_PAGES * schema.PAGE_SIZE_BYTES}")
            conn.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            conn.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten
        except BaseException:
            conn.close()
            raise
        return conn

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
        self._writer = self._cursor = self._ready = None
        self._readers = []
        self._begin_turns()
        self.log = Log(self.path, sweeping.tidy)
        self.checkpoints = Checkpoints(self.path)


class _Waiting:
    """A thread that stands in line for its turn."""

    def __init__(self, patience: float) -> None:
        self.since = time.monotonic()
        self.patient_until = self.since + patience
        self.first: SimpleQueue[None] = SimpleQueue()
        """Something is in it once it may be the first."""


def _taking(
    take: Callable[[], object], give_back: Callable[..., object]
) -> AbstractContextManager[object]:
    """`with` it: taken, and given back at the end. Both are functions of C; see `File`.

    What is given back is what `put` gets first of what `with` says of the end: None, or a class.
    """
    methods = {"__enter__": staticmethod(take), "__exit__": staticmethod(give_back)}
    return cast("AbstractContextManager[object]", type("Turn", (), methods)())


def _nothing(_cursor: sqlite3.Cursor, _since: float) -> None:
    """Opening alone."""


_NOT_WRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_files: WeakSet[File] = WeakSet()


def _forget_all() -> None:
    for file in list(_files):
        file.forget()


os.register_at_fork(after_in_child=_forget_all)
