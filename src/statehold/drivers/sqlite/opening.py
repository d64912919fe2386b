"""What a file is, before it is opened, and how it is to be written from then on."""

from __future__ import annotations

import sqlite3
import stat
import time
from pathlib import Path

from statehold.clock import pause
from statehold.drivers.sqlite import schema
from statehold.errors import ConfigError, Unavailable
from statehold.sqlitefiles.connection import Connection, header


def looked_at(name: str, *, again: bool) -> bool:
    """True if the file is a store, False if it is empty or none; it is not touched.

    `again`: it was there before. Raises `ConfigError`, `NotAStore`, `Unavailable` and SQLite's errors.
    """
    path = Path(name)
    if not path.parent.is_dir():
        raise ConfigError(f"{name}: there is no folder {path.parent}", field="path", found=name)
    try:
        found = path.stat()
    except FileNotFoundError:
        if again:
            raise Unavailable(f"{name}: the file was removed while in use") from None
        return False
    if stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{name} is a folder", field="path", found=name)
    if found.st_nlink > 1:
        raise ConfigError(
            f"{name}: the file has {found.st_nlink} names (hard links), and SQLite keeps"
            " a log for each; leave it one, and let others be symbolic links",
            field="path",
            found=name,
        )
    if not found.st_size:
        return False
    try:
        if found.st_size < schema.HEADER_BYTES:
            raise schema.no_database(name)
        application, version = header(name)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
            raise schema.no_database(name) from error
        raise
    schema.check_header(application, version, name)
    return True


def write_ahead(conn: Connection, seconds: float) -> None:
    """Have the file written by way of a log, which it keeps to from then on.

    Of several who are the first at a file SQLite refuses some at once, and lets others wait for
    each other. So nobody waits for long; whoever is refused lets go, and tries again.
    """
    until = time.monotonic() + seconds
    conn.wait_up_to(0.02)
    while True:
        try:
            conn.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > until:
                raise
            time.sleep(pause(0, 0.02, 0.02))
        else:
            break
    conn.wait_up_to(seconds)
