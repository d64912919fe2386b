"""The rows of `fence`: what a key has seen of epochs, beside its state."""

from __future__ import annotations

from typing import Final

from statehold.commits import Key
from statehold.drivers.sqlite.reading import Execute
from statehold.folding import NO_FENCE, Fence, left_behind

FORGET_FENCES: Final = (
    "DELETE FROM fence WHERE (tenant, kind, key) IN"
    " (SELECT tenant, kind, key FROM fence WHERE until <= ?1 ORDER BY until LIMIT ?2)"
)
"""So many of those that need not be remembered any longer."""


def fence_of(execute: Execute, key: Key) -> Fence:
    """What is remembered of a key's epochs."""
    row = execute(
        "SELECT epoch, held, until, op FROM fence WHERE tenant = ? AND kind = ? AND key = ?", key
    ).fetchone()
    return NO_FENCE if row is None else Fence(*row)


def remember_fence(execute: Execute, key: Key, fence: Fence) -> None:
    """Have a fence remembered."""
    execute(
        "REPLACE INTO fence VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*key, fence.epoch, fence.held, fence.until, fence.op),
    )


def leave_fence(execute: Execute, key: Key, epoch: int, at: float) -> None:
    """A state that had seen this epoch is gone from then on."""
    if epoch:
        remember_fence(execute, key, left_behind(fence_of(execute, key), epoch, at))
