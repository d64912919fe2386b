"""The databases' errors in the words of statehold."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from sqlalchemy import exc

from statehold.drivers.sql import tls
from statehold.drivers.sql.retrying import Cause
from statehold.errors import (
    Busy,
    ConfigError,
    Corrupted,
    Full,
    Invalid,
    NotAStore,
    ReadOnly,
    StateholdError,
    Timeout,
    TooLarge,
    Unavailable,
)

ERRORS: Final = (
    exc.StatementError,
    exc.TimeoutError,
    exc.DisconnectionError,
    exc.ResourceClosedError,
    exc.PendingRollbackError,
    OSError,
    asyncio.TimeoutError,
)
"""What a call may raise that is to be translated. A StateholdError that is an OSError is left be.
SQLAlchemy's other errors say that the program is wrong, not the database."""

MEND: Final = "run: statehold migrate --plan, then --apply"

_Leaf = tuple[type[StateholdError], str]

_POOLER: Final[_Leaf] = (
    ConfigError,
    "there is a pooler before it: say pooler=transaction, and let it pool no statements",
)

# By SQLSTATE, the longest beginning that is listed (PostgreSQL).
_STATES: Final[dict[str, _Leaf]] = {
    "08": (Unavailable, "the connection failed"),
    "22": (Invalid, "a value cannot be held by its column"),
    "23": (Unavailable, "a row was made by another writer at the same time"),
    "25006": (ReadOnly, "it may be read but not written"),
    "25P03": (Timeout, "a transaction was idle for too long"),
    "28": (ConfigError, "the login was refused"),
    "3D000": (ConfigError, "database not found"),
    "3F000": (ConfigError, f"schema not found; {MEND}"),
    "40": (Busy, "other writers were in the way"),
    "42501": (ReadOnly, "the user may not do this"),
    "42": (ConfigError, f"the tables are not as they should be; {MEND}"),
    "53100": (Full, "its disk is full"),
    "53300": (Unavailable, "the server has no connections left"),
    "53": (Unavailable, "the server has no memory left"),
    "55P03": (Busy, "another writer held the state for longer than the timeout"),
    "57014": (Timeout, "a statement took longer than the timeout"),
    "57": (Unavailable, "the server is starting, stopping or not to be interrupted"),
    "58030": (Unavailable, "the server cannot read or write its files"),
    "XX001": (Corrupted, "a part of the database is damaged"),
    "XX002": (Corrupted, "an index of the database is damaged"),
}

# By number (MariaDB and MySQL).
_NUMBERS: Final[dict[int, _Leaf]] = {
    1040: (Unavailable, "the server has no connections left"),
    1203: (Unavailable, "the server has no connections left for this user"),
    1226: (Unavailable, "the server has no connections left for this user"),
    1044: (ConfigError, "the user may not use this database"),
    1045: (ConfigError, "the login was refused"),
    1049: (ConfigError, "database not found"),
    1054: (ConfigError, f"the tables are not as they should be; {MEND}"),
    1146: (ConfigError, f"a table is missing; {MEND}"),
    1142: (ReadOnly, "the user may not do this"),
    1205: (Busy, "another writer held the state for longer than the timeout"),
    1213: (Busy, "other writers were in the way"),
    1020: (Busy, "other writers were in the way"),
    1684: (Busy, "a table is being made or changed"),
    1021: (Full, "its disk is full"),
    1114: (Full, "a table is full"),
    1264: (Invalid, "a value cannot be held by its column"),
    1153: (TooLarge, "a statement is larger than max_allowed_packet"),
    1290: (ReadOnly, "it may be read but not written"),
    1792: (ReadOnly, "it may be read but not written"),
    1836: (ReadOnly, "it may be read but not written"),
    1366: (Invalid, "a value cannot be held by its column"),
    1406: (Invalid, "a value is too long for its column"),
    1969: (Timeout, "a statement took longer than the timeout"),
    3024: (Timeout, "a statement took longer than the timeout"),
    3140: (Invalid, "a value cannot be held by its column"),
    4025: (Invalid, "a value cannot be held by its column"),
}

# By the beginning of the name of its error code (SQLite).
_NAMES: Final[dict[str, _Leaf]] = {
    "SQLITE_BUSY": (Busy, "another writer held it for longer than the timeout"),
    "SQLITE_LOCKED": (Busy, "another writer holds it"),
    "SQLITE_FULL": (Full, "no room is left"),
    "SQLITE_IOERR_SHMSIZE": (Full, "no room is left"),
    "SQLITE_READONLY": (ReadOnly, "it may be read but not written"),
    "SQLITE_PERM": (ReadOnly, "its permissions do not allow this"),
    "SQLITE_CORRUPT": (Corrupted, "a part of it is damaged"),
    "SQLITE_NOTADB": (NotAStore, "it is not a database"),
    "SQLITE_CANTOPEN": (ConfigError, "folder not found, or the file cannot be opened"),
    "SQLITE_ERROR": (ConfigError, f"the tables are not as they should be; {MEND}"),
}


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's five letters, or "" if there are none."""
    found = getattr(getattr(error, "orig", None), "sqlstate", None)
    return found if isinstance(found, str) else ""


def number(error: BaseException) -> int:
    """MariaDB's number, or 0."""
    arguments: Any = getattr(getattr(error, "orig", None), "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


def rolled_back(error: BaseException) -> bool:
    """Whether the database itself undid the transaction, so that it may be tried again as it is."""
    return sqlstate(error) in {"40001", "40P01"} or number(error) in {1213, 1020, 1684}


def outdated(error: BaseException) -> bool:
    """Whether a table, column or function is not what it was when the kind was opened."""
    if isinstance(error, StateholdError):
        error = error.__cause__ or error
    if isinstance(error, exc.DBAPIError):
        if sqlstate(error) in _MISSING or number(error) in {1054, 1146}:
            return True
        return "no such column" in str(error.orig) or "no such table" in str(error.orig)
    return getattr(error, "sqlstate", None) in _MISSING


# The last two: a column has another type, which a migration gave it.
_MISSING: Final = frozenset({"42P01", "42703", "42883", "42804", "42846"})


def read_only(error: BaseException) -> bool:
    """Whether the server takes no writes."""
    return sqlstate(error) == "25006" or number(error) in {1290, 1792, 1836}


def forgetful(error: BaseException) -> bool:
    """Whether a prepared statement is not there any more, or not as it was: nothing was executed."""
    state = sqlstate(error)
    return state == "26000" or (state == "0A000" and "cached plan" in str(error))


def none_left(error: BaseException) -> bool:
    """Whether the server makes no connection, since it has too many, or takes none yet."""
    return sqlstate(error) in {"53300", "53200", "57P03"} or number(error) in {1040, 1203, 1226}


def lost(error: BaseException) -> bool:
    """Whether the connection is gone, and with it the knowledge of what took effect."""
    if isinstance(error, exc.TimeoutError | TimeoutError | StateholdError):
        return False
    if read_only(error) or forgetful(error) or _pooler(error) or tls.refusal(error):
        return False  # the connection was given up because of it
    state = sqlstate(error)  # the server has ended the session, and says so; or it was being made
    if state in {"57P01", "57P02"} or state.startswith("08"):
        return True
    if number(error) in {2002, 2003}:  # it could not be made
        return True
    return isinstance(error, OSError) or getattr(error, "connection_invalidated", False)


def cause_of(error: BaseException) -> Cause:
    """What one of `ERRORS` means for the call that met it."""
    if rolled_back(error) or forgetful(error):
        return Cause.UNDONE
    if read_only(error):
        return Cause.READ_ONLY
    if outdated(error):
        return Cause.OUTDATED
    return Cause.LOST if lost(error) else Cause.OTHER


def translated(error: BaseException, url: str) -> StateholdError:
    """The error to raise, `from error`. `url` names the database, without its password."""
    if isinstance(error, StateholdError):
        return error
    if isinstance(error, exc.TimeoutError):
        return Busy(f"{url}: no connection of the pool came free within the timeout")
    if isinstance(error, asyncio.TimeoutError):
        return Timeout(f"{url}: it did not answer in time; whether it wrote is not known")
    kind, about = _leaf(error)
    return kind(f"{url}: {about} ({_words(error)})")


def _pooler(error: BaseException) -> bool:
    """Whether a PgBouncer refuses what it cannot do in its mode."""
    said = str(getattr(error, "orig", None) or error)
    return "unsupported startup parameter" in said or "statement pooling mode" in said


def _leaf(error: BaseException) -> _Leaf:
    refused = tls.refusal(error)
    if refused is not None:
        return ConfigError, refused
    named = (_POOLER if _pooler(error) else None) or _by_code(error)
    if named is not None:
        return named
    if isinstance(error, exc.StatementError) and not isinstance(error, exc.DBAPIError):
        return Invalid, "a value cannot be sent to the database"
    if isinstance(error, exc.DataError):
        return Invalid, "a value cannot be held by its column"
    if isinstance(error, exc.ProgrammingError | exc.NotSupportedError):
        return ConfigError, "it does not take one of statehold's statements"
    return Unavailable, "it cannot answer"


def _by_code(error: BaseException) -> _Leaf | None:
    if number(error) in _NUMBERS:  # says more than the SQLSTATE that MariaDB sends as well
        return _NUMBERS[number(error)]
    state = sqlstate(error)
    for length in (5, 3, 2):
        if len(state) == 5 and state[:length] in _STATES:
            return _STATES[state[:length]]
    name: str = getattr(getattr(error, "orig", None), "sqlite_errorname", None) or ""
    return next((leaf for beginning, leaf in _NAMES.items() if name.startswith(beginning)), None)


def _words(error: BaseException) -> str:
    """What the database said, in one line; neither the statement nor its values."""
    said = getattr(error, "orig", None) or error
    lines = str(said).strip().splitlines() or [type(said).__name__]
    return lines[0][:200]
