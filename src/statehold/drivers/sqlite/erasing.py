"""Deleting a state with everything that belongs to it, a large one by and by.

A state of many rows only loses its name: nobody finds it any more, and its row says by its shape what
is left of it, and keeps its number and those of its lists from being given again. `clear` deletes that
piece by piece. So does a list that is dropped by itself: it becomes the only field of such a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from statehold.drivers.sqlite.reading import Execute, Shape, decode_shape, encode_shape
from statehold.drivers.sqlite.schema import FIELD_BITS, FIELD_MASK, PLACE_BITS, PLACE_MASK

AT_ONCE: Final = 1000
"""How many items and entries are deleted at once, at most."""

FORGET_ERASURES: Final = (
    "DELETE FROM erased WHERE id IN"
    " (SELECT id FROM (SELECT id, until FROM erased ORDER BY id LIMIT ?2) WHERE until <= ?1)"
)
"""Of the oldest erasures, so many, those that need not be remembered any longer."""

NAMELESS: Final = "SELECT id, shape FROM state WHERE tenant IS NULL LIMIT 1"
"""One of the large states of which something is left."""


def erase_lists(execute: Execute, lists: Iterable[int]) -> None:
    """Delete every row of these lists."""
    for number in lists:
        execute(
            "DELETE FROM item WHERE id BETWEEN ? AND ?",
            (number << PLACE_BITS, number << PLACE_BITS | PLACE_MASK),
        )


def unlist(execute: Execute, state: int) -> None:
    """Delete what lists a state that is about several."""
    execute("DELETE FROM about WHERE state = ?", (state,))


def erase_rows(execute: Execute, state: int, shape: Shape, subject: object) -> None:
    """Delete every row of a state; of a large one, its name.

    `subject` is what its row says, or whom it is about.
    """
    if isinstance(subject, bytes | tuple):
        unlist(execute, state)
    execute("DELETE FROM op WHERE state = ?", (state,))
    if held(shape) > AT_ONCE:
        execute(
            "UPDATE state SET tenant = NULL, kind = NULL, key = NULL, subject = NULL,"
            " incarnation = NULL, deadline = NULL WHERE id = ?",
            (state,),
        )
        return
    erase_lists(
        execute, [ring[0] for ring in shape.values() if isinstance(ring, tuple) and ring[0]]
    )
    first = state << FIELD_BITS
    execute("DELETE FROM cell WHERE slot BETWEEN ? AND ?", (first, first | FIELD_MASK))
    execute("DELETE FROM state WHERE id = ?", (state,))


def held(shape: Shape) -> int:
    """How many items and entries a state has."""
    return sum([each if isinstance(each, int) else each[2] for each in shape.values()])


def leave(execute: Execute, state: int, shape: Shape) -> None:
    """Leave it to `clear` to delete what a shape says, under the number of no other state."""
    execute("INSERT INTO state (id, shape) VALUES (?, ?)", (state, encode_shape(shape).decode()))


def clear(execute: Execute, rows: int) -> bool:
    """Delete so many rows of what is left of large states. Whether there may be more."""
    while rows > 0:
        found = execute(NAMELESS).fetchone()
        if found is None:
            return False
        rows -= _cleared(execute, found[0], decode_shape(found[1]), rows)
    return True


def _cleared(execute: Execute, state: int, shape: Shape, rows: int) -> int:
    """How many rows of one were deleted, so many at most, and one for its own."""
    left = rows
    for number, each in list(shape.items()):
        if isinstance(each, int):
            slot = state << FIELD_BITS | number
            deleted = execute(
                "DELETE FROM cell WHERE slot = ?1 AND entry IN"
                " (SELECT entry FROM cell WHERE slot = ?1 LIMIT ?2)",
                (slot, left),
            ).rowcount
        else:
            first = each[0] << PLACE_BITS
            deleted = execute(
                "DELETE FROM item WHERE id IN"
                " (SELECT id FROM item WHERE id BETWEEN ? AND ? LIMIT ?)",
                (first, first | PLACE_MASK, left),
            ).rowcount
        left -= deleted
        if left <= 0:
            execute(
                "UPDATE state SET shape = ? WHERE id = ?", (encode_shape(shape).decode(), state)
            )
            return rows
        del shape[number]
    execute("DELETE FROM state WHERE id = ?", (state,))
    return rows - left + 1
