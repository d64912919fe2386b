"""The rows of `gone`: when the newest commit came of lives that have ended, if they had op ids.

They are kept for `HOLD_SECONDS`, by a digest of the key: nothing that was erased is to be read there. What
is forgotten of them counts for every key from then on: the one time in `ended`.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Final

import msgspec

from statehold.commits import HOLD_SECONDS, Key
from statehold.drivers.sqlite.reading import Execute

_NOTE_ENDS: Final = (
    "UPDATE ended SET at = max(at, ifnull((SELECT max(last) FROM"
    " (SELECT last, until FROM gone ORDER BY id LIMIT ?2) WHERE until <= ?1), 0))"
)
_FORGET_ENDS: Final = (
    "DELETE FROM gone WHERE id IN"
    " (SELECT id FROM (SELECT id, until FROM gone ORDER BY id LIMIT ?2) WHERE until <= ?1)"
)


def remember_end(execute: Execute, key: Key, last: float, at: float) -> None:
    """A life has ended at that time, whose newest commit came at `last`."""
    execute(
        "INSERT INTO gone (name, last, until) VALUES (?, ?, ?) ON CONFLICT (name)"
        " DO UPDATE SET last = max(last, excluded.last), until = excluded.until",
        (_digest(key), last, at + HOLD_SECONDS),
    )


def newest_op(execute: Execute, state: int) -> float:
    """When the newest op id came that a stored state remembers."""
    (at,) = execute("SELECT max(at) FROM op WHERE state = ?", (state,)).fetchone()
    return at or 0.0


def end_of(execute: Execute, key: Key) -> float:
    """No earlier life of this key has had an op id after this time."""
    (at,) = execute(
        "SELECT max(at, ifnull((SELECT last FROM gone WHERE name = ?), 0)) FROM ended",
        (_digest(key),),
    ).fetchone()
    return float(at)


def forget_ends(cursor: sqlite3.Cursor, now: float, most: int) -> int:
    """Delete those of the oldest so many that need not be remembered any longer. How many these were."""
    cursor.execute(_NOTE_ENDS, (now, most))
    return cursor.execute(_FORGET_ENDS, (now, most)).rowcount


def _digest(key: Key) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(key), digest_size=16).digest()
