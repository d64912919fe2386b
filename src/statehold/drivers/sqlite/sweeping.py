"""Deleting what has ended, a few states at a time and in proportion to what is written.

A sweep goes round the states of the file without end, from one number to the next. `Sweeps` takes a part
of it with the commits that come: it looks at some states for each of them, and deletes as many as were
made since, and a share more. So what has ended goes as fast as other comes, and a million that end at once
take no commit longer than a hundred.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from statehold.clock import AMBIENT
from statehold.commits import HOLD_SECONDS
from statehold.driver import Swept
from statehold.drivers.sqlite.ends import forget_ends, newest_op, remember_end
from statehold.drivers.sqlite.erasing import (
    AT_ONCE,
    FORGET_ERASURES,
    NAMELESS,
    clear,
    erase_rows,
    held,
)
from statehold.drivers.sqlite.fences import FORGET_FENCES, leave_fence
from statehold.drivers.sqlite.reading import Row, decode_shape
from statehold.errors import Invalid

SWEEP_COMMITS: Final = 64
"""How many commits are between two looks for expired states, at least."""
LOOKS: Final = 2
"""How many states are looked at for each commit: the whole file twice while as many states are made."""
SHARE: Final = 1 / 4
"""How many states are deleted for each commit, beside as many as were made."""
ROWS: Final = 2
"""How many items and entries are deleted for each row that was written."""
PIECE: Final = 1000
"""How many states a sweep that was asked for looks at, and about how many rows it deletes, in one call."""
PAGES: Final = 512
"""How many free pages are given back at a time, and left to the file in any case."""


class Piece(NamedTuple):
    """What became of a part of a sweep."""

    removed: int
    last: int
    """The number of the state at which it ended."""
    over: bool
    """Whether there are no more states behind it."""


class Sweeps:
    """The part of the sweep that comes with the commits of one store."""

    def __init__(self) -> None:
        self._last: int | None = None
        # Commits that are to be swept for. Of stores that are opened for a few commits each every one
        # would begin anew, and none ever sweep: so each is some way on already, and begins at any place.
        self._owed = int(AMBIENT.fraction() * SWEEP_COMMITS)
        self._commits = self._births = self._written = 0

    def after(
        self, cursor: sqlite3.Cursor, now: float, commits: int, births: int, written: int
    ) -> int:
        """How many states were deleted after so many commits, states made and rows written."""
        self._owed += commits
        self._commits += commits
        self._births += births
        self._written += written
        if self._owed < SWEEP_COMMITS or not self._commits:
            return 0
        # Of the commits before its first nobody knows what they wrote: as much as the others, say.
        owed, each = self._owed, self._owed / self._commits
        states = int(self._births * each + owed * SHARE)
        rows = max(AT_ONCE, int(ROWS * self._written * each))
        self._owed = self._commits = self._births = self._written = 0
        forget(cursor, now, int(owed * (1 + SHARE)))
        if self._last is None:
            newest: int | None = cursor.execute("SELECT max(id) FROM state").fetchone()[0]
            self._last = int(AMBIENT.fraction() * (newest or 0))
        piece = sweep(cursor, self._last, now, looks=LOOKS * owed, states=states, rows=rows)
        self._last = 0 if piece.over else piece.last
        return piece.removed


def forget(cursor: sqlite3.Cursor, now: float, most: int) -> int:
    """Delete so many erasures, ends and fences, each, that need not be remembered any longer."""
    erasures = cursor.execute(FORGET_ERASURES, (now, most)).rowcount
    return max(
        erasures,
        forget_ends(cursor, now, most),
        cursor.execute(FORGET_FENCES, (now, most)).rowcount,
    )


def sweep(
    cursor: sqlite3.Cursor, after: int, now: float, *, looks: int, states: int, rows: int
) -> Piece:
    """Delete the expired ones among the next states: so many at most, with about so many rows."""
    execute = cursor.execute
    last, count = execute(
        "SELECT max(id), count(*) FROM (SELECT id FROM state WHERE id > ? ORDER BY id LIMIT ?)",
        (after, looks),
    ).fetchone()
    if not count:
        return Piece(0, after, over=True)
    expired: list[Row] = execute(
        "SELECT id, deadline, shape, subject, epoch, updated, ops, tenant, kind, key FROM state"
        " WHERE id > ? AND id <= ? AND deadline <= ? ORDER BY id LIMIT ?",
        (after, last, now, states + 1),
    ).fetchall()
    removed = 0
    for state, until, text, subject, epoch, updated, ops, *name in expired:
        if removed >= states or rows <= 0:
            return Piece(removed, state - 1, over=False)
        shape = decode_shape(text)
        key, ended = (name[0], name[1], name[2]), max(until, updated)
        if epoch and ended + HOLD_SECONDS > now:
            leave_fence(execute, key, epoch, ended)
        if ops:
            remember_end(execute, key, max(updated, newest_op(execute, state)), ended)
        erase_rows(execute, state, shape, subject)
        removed += 1
        rows -= min(held(shape), AT_ONCE)
    return Piece(removed, last, over=count < looks)


def asked_for(cursor: sqlite3.Cursor, after: str, now: float) -> Swept:
    """A piece of a whole round, see `Driver.sweep`: where states end, what is left is seen to."""
    try:
        begun = int(after or 0)
    except ValueError as error:
        raise Invalid("a sweep goes on where one of this backend ended", field="after") from error
    forgot = forget(cursor, now, PIECE)
    piece = sweep(cursor, begun, now, looks=PIECE, states=PIECE, rows=PIECE)
    more = tidied(cursor)
    over = piece.over and forgot < PIECE and not more
    return Swept(piece.removed, None if over else str(piece.last))


def tidied(cursor: sqlite3.Cursor) -> bool:
    """Delete a piece of what is left of large states, then give pages back. Whether more is to be done."""
    if clear(cursor.execute, AT_ONCE):
        return True
    if not spacious(cursor):
        return False
    # Each time one: Python goes only one step with a statement that has no rows.
    for _ in range(PAGES):
        cursor.execute("PRAGMA incremental_vacuum(1)")
    return True


def tidy(connection: sqlite3.Connection) -> bool:
    """A piece of what is to be deleted is, in a transaction of its own. Whether there is more."""
    cursor = connection.cursor()
    if not (left(cursor) or spacious(cursor)):
        return False  # and nobody was kept from writing
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.execute("BEGIN IMMEDIATE")
    try:
        more = tidied(cursor)
    except BaseException:
        cursor.execute("ROLLBACK")
        raise
    cursor.execute("COMMIT")
    return more


def spacious(cursor: sqlite3.Cursor) -> bool:
    """Whether more than half of a file is free that can give pages back."""
    ((free,),) = cursor.execute("PRAGMA freelist_count").fetchall()
    ((pages,),) = cursor.execute("PRAGMA page_count").fetchall()
    ((vacuum,),) = cursor.execute("PRAGMA auto_vacuum").fetchall()
    return bool(vacuum == INCREMENTAL and free > max(PAGES, pages // 2))


def left(cursor: sqlite3.Cursor) -> bool:
    """Whether something is left of a large state."""
    return cursor.execute(NAMELESS).fetchone() is not None


INCREMENTAL: Final = 2
"""What `PRAGMA auto_vacuum` says of a file that gives pages back on request."""
