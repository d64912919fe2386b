"""The statements that list states, and the cursors of their pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from statehold.cursors import Listing, beyond, foreign
from statehold.driver import Scan

Listed: TypeAlias = tuple[str, int, float | None, float]
"""An id, the number of its row, its deadline, and when it was updated."""
_ROW: Final = "SELECT key, id, deadline, updated FROM state WHERE "
_ABOUT: Final = "SELECT key, id, deadline, updated FROM state INDEXED BY state_subject WHERE "
"""The same by subject."""
_AMONG_OTHERS: Final = (
    "SELECT key, state AS id, deadline, updated FROM about INDEXED BY about_subject CROSS JOIN"
    " (SELECT id AS number, deadline, updated FROM state) ON number = state WHERE "
)
"""The same of states that are about several, in the order of their index."""


def question(asked: Scan) -> tuple[str, list[Any], Callable[[Listed], str]]:
    """The statement that finds a page's rows, its values, and what makes a cursor of the last row.

    Raises `Invalid` for a foreign cursor.
    """
    listing = Listing(asked)
    where = "tenant = ? AND kind = ?"
    values: list[Any] = [asked.tenant, asked.kind]
    if asked.subject is not None:
        where += " AND subject = ?"
        values.append(asked.subject)
    if asked.prefix:
        where += " AND key >= ?"
        values.append(asked.prefix)
        end = beyond(asked.prefix)
        if end is not None:
            where += " AND key < ?"
            values.append(end)
    if asked.newest:
        return _newest(asked, where, values)
    if asked.cursor is not None:
        where += " AND key > ?"
        try:
            values.append(listing.place(asked.cursor).decode())
        except ValueError as error:
            raise foreign(asked.cursor) from error
    found = f"{_ROW}{where}"
    if asked.subject is not None:
        found = _either(where)
        values += values
    return (
        f"{found} ORDER BY key LIMIT ?",
        [*values, asked.limit],
        lambda row: listing.cursor(row[0].encode()),
    )


def _either(where: str) -> str:
    """The states about the subject alone, and those that are about others too; the values come twice."""
    return f"{_ABOUT}{where} UNION ALL {_AMONG_OTHERS}{where}"


def _newest(
    asked: Scan, where: str, values: list[Any]
) -> tuple[str, list[Any], Callable[[Listed], str]]:
    """The statement, its values and what makes cursors, of a subject's states newest first: all are sorted."""
    listing = Listing(asked)
    if asked.cursor is not None:
        updated, id = listing.place_at(asked.cursor)
        where += " AND (updated < ? OR updated = ? AND +key > ?)"
        values += (updated, updated, id)
    values += [*values, asked.limit]
    statement = f"{_either(where)} ORDER BY updated DESC, key LIMIT ?"
    return statement, values, lambda row: listing.cursor_at(row[3], row[0])
