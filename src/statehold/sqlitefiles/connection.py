"""Connections to SQLite files: which files this process has open, and which it was forked with.

Two rules of SQLite's are kept here, for breaking either loses commits that were acknowledged.

* Its locks on a file belong to the process, and the system drops all of them when the process
  closes *any* descriptor of the file. So no one may open such a file by itself, not even to look at
  its first bytes: only SQLite knows when a descriptor can be closed. `header` looks through it.
* It remembers in memory which locks the process has. A forked process inherits that memory, but not
  the locks: SQLite takes none for a file that the parent had open, and others move the log away
  under it. So such a file is refused in the child. Nor are the inherited connections ever closed
  there: to close one would let go of locks that it has not, or wait for a thread that did not come
  along.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from ctypes import py_object, pythonapi
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

from statehold.errors import ConfigError

Inode: TypeAlias = tuple[int, int]
"""A file whatever its name: its device, and its number there."""


class Connection(sqlite3.Connection):
    """A connection that is counted while it is open. Its `close` may be called from any thread.

    Raises `ConfigError` where this process was forked from one that had the same file open.
    """

    def __init__(self, database: str, timeout: float = 5.0, **options: Any) -> None:
        path = _path(database)
        with _lock:  # so that no fork comes between the opening and the counting
            super().__init__(database, timeout, **options)
            self.inode = inode(path)
            inherited = self.inode in _inherited
            if not inherited:
                _connections.add(self)
        self.patience = timeout
        """For how many seconds its statements wait for the locks of other connections."""
        if inherited:
            super().close()
            raise forked(path)

    def wait_up_to(self, seconds: float) -> None:
        """From now on its statements wait so long for the locks of other connections."""
        if seconds != self.patience:
            self.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}").close()
            self.patience = seconds

    def close(self) -> None:
        """Close it. Closing twice is fine."""
        super().close()
        _connections.discard(self)


def inode(path: str) -> Inode:
    """Which file this path leads to."""
    found = os.stat(path)  # noqa: PTH116  half the time of Path.stat
    return found.st_dev, found.st_ino


def header(path: str) -> tuple[int, int]:
    """The application id and the user version that a database says it has; nothing is touched.

    As if the file could not change, SQLite takes no lock, and looks for neither log nor journal.
    Raises `sqlite3.DatabaseError` for a file that is no database.
    """
    connection = Connection(Path(path).as_uri() + "?mode=ro&immutable=1", uri=True)
    try:
        # It would find the file damaged while another process makes it longer, first page first.
        connection.execute("PRAGMA writable_schema = ON")
        ((application,),) = connection.execute("PRAGMA application_id").fetchall()
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    finally:
        connection.close()
    return application, version


def forked(path: str) -> ConfigError:
    """The error for a file that was open when this process was forked."""
    return ConfigError(
        f"{path}: was open when this process was forked, and SQLite's locks do not come along;"
        " use the store after the fork only, or start processes by spawn or forkserver",
        field="path",
        found=path,
    )


def _path(database: str) -> str:
    return unquote(urlsplit(database).path) if database.startswith("file:") else database


_lock = threading.RLock()
_connections: WeakSet[Connection] = WeakSet()
_inherited: set[Inode] = set()


def _in_child() -> None:
    for connection in list(_connections):
        _inherited.add(connection.inode)
        pythonapi.Py_IncRef(py_object(connection))  # so that it is not closed at the end either
    _connections.clear()


# The lock's own functions, which no interrupt can end before they are done. In the child it is held by the
# one thread that came along, which forked.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release)
os.register_at_fork(after_in_child=_in_child)
os.register_at_fork(after_in_child=_lock.release)
