"""Deleting a state with everything that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from statehold.drivers.sqlite.reading import Execute, Shape
from statehold.drivers.sqlite.schema import FIELD_BITS, FIELD_MASK, PLACE_BITS, PLACE_MASK

FORGET_ERASURES: Final = (
    "DELETE FROM erased WHERE id IN"
    " (SELECT id FROM (SELECT id, until FROM erased ORDER BY id LIMIT ?2) WHERE until <= ?1)"
)
"""Of the oldest erasures, so many, those that need not be remembered any longer."""


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


def erase_state(execute: Execute, state: int, shape: Shape, subject: object) -> None:
    """Delete a state and every row that belongs to it; of its op ids, the newest one's time stays.

    `subject` is what its row says, or whom it is about.
    """
    execute(
        "UPDATE ended SET at = max(at, (SELECT updated FROM state WHERE id = ?1),"
        " ifnull((SELECT max(at) FROM op WHERE state = ?1), 0))",
        (state,),
    )
    erase_rows(execute, state, shape, subject)


def erase_rows(execute: Execute, state: int, shape: Shape, subject: object) -> None:
    """Delete every row of a state, whose life has not ended."""
    if isinstance(subject, bytes | tuple):
        unlist(execute, state)
    erase_lists(
        execute, [held[0] for held in shape.values() if isinstance(held, tuple) and held[0]]
    )
    first = state << FIELD_BITS
    execute("DELETE FROM cell WHERE slot BETWEEN ? AND ?", (first, first | FIELD_MASK))
    execute("DELETE FROM op WHERE state = ?", (state,))
    execute("DELETE FROM state WHERE id = ?", (state,))
