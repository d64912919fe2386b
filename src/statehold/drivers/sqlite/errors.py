"""SQLite's errors in the words of statehold."""

from __future__ import annotations

import sqlite3

from statehold.errors import (
    Busy,
    Corrupted,
    Full,
    Invalid,
    NotAStore,
    ReadOnly,
    StateholdError,
    TooLarge,
    Unavailable,
)

ERRORS = (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeError)
"""What a call of sqlite3 may raise, values that it cannot bind included."""

_LEAVES: dict[int, tuple[type[StateholdError], str]] = {
    sqlite3.SQLITE_BUSY: (Busy, "another writer held it for longer than the busy timeout"),
    sqlite3.SQLITE_LOCKED: (Busy, "another writer holds it"),
    sqlite3.SQLITE_FULL: (Full, "no room is left; nothing was written"),
    sqlite3.SQLITE_READONLY: (ReadOnly, "it may be read but not written"),
    sqlite3.SQLITE_PERM: (ReadOnly, "its permissions do not allow this"),
    sqlite3.SQLITE_CORRUPT: (Corrupted, "a part of it is damaged"),
    sqlite3.SQLITE_NOTADB: (NotAStore, "it is not a database"),
    sqlite3.SQLITE_TOOBIG: (TooLarge, "a value is larger than SQLite stores"),
}
# The shared-memory file of the log could not be made larger: in practice the disk is full.
_IOERR_SHMSIZE = sqlite3.SQLITE_IOERR | (19 << 8)


def is_damage(error: BaseException) -> bool:
    """Whether the error says that what is stored cannot be read."""
    code = _code(error)
    if code is None:  # sqlite3 says only in words that a TEXT is not UTF-8
        return isinstance(error, sqlite3.OperationalError) and "decode" in str(error)
    return (code & 0xFF) == sqlite3.SQLITE_CORRUPT


def is_busy(error: BaseException) -> bool:
    """Whether another connection is in the way, for a time."""
    code = _code(error)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def translated(error: BaseException, path: str) -> StateholdError:
    """SQLite's error as a leaf of `StateholdError` that names the file."""
    code = _code(error)
    if code == _IOERR_SHMSIZE:
        kind, meaning = _LEAVES[sqlite3.SQLITE_FULL]
    elif code is not None:
        kind, meaning = _LEAVES.get(code & 0xFF, (Unavailable, "it cannot be used"))
    elif is_damage(error):
        kind, meaning = _LEAVES[sqlite3.SQLITE_CORRUPT]
    elif isinstance(error, _CANNOT_BIND):
        kind, meaning = Invalid, "a name or value cannot be stored"
    else:
        kind, meaning = Unavailable, "it cannot be used"
    return kind(f"{path}: {meaning} ({error})")


_CANNOT_BIND = (
    OverflowError,
    UnicodeError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
)


def _code(error: BaseException) -> int | None:
    return getattr(error, "sqlite_errorcode", None)
