"""What outlives a state of its epochs: so that whoever was deposed stays so, though it be gone."""

from __future__ import annotations

import math
from typing import Final, Protocol

import msgspec

from statehold.changes import INT64_MAX
from statehold.commits import HOLD_SECONDS, Commit, digest_of
from statehold.driver import FencedOff


class Fence(msgspec.Struct, frozen=True, gc=False):
    """The highest epoch that a key has seen, kept beside its state.

    While there is a state its head has that epoch, and this says who claimed it, if it is the same.
    """

    epoch: int = 0
    held: float = -math.inf
    """Until when whoever claimed this epoch holds it."""
    until: float = -math.inf
    """Until when it has to be remembered where there is no state."""
    op: str = ""
    """The op id of the claim by which the epoch was given out."""


NO_FENCE: Final = Fence()
"""No epoch was ever seen, or none that need be remembered."""


class Seeing(Protocol):
    """What has seen epochs: the head of a life."""

    @property
    def epoch(self) -> int:
        """The highest."""
        ...


def seen(head: Seeing | None, fence: Fence, now: float) -> int:
    """The highest epoch that counts: lower ones are fenced off."""
    if head is not None:
        return head.epoch
    return fence.epoch if now < fence.until else 0


def left_behind(fence: Fence, epoch: int, at: float) -> Fence:
    """The fence where a life that had seen `epoch` has ended at that time, or was erased with it."""
    if not epoch:
        return fence  # which was over when it began, unless the clock was set back since
    until = at + HOLD_SECONDS
    if epoch != fence.epoch:
        return Fence(epoch, until=until)
    return msgspec.structs.replace(fence, until=max(until, fence.until))


def fenced(commit: Commit, head: Seeing | None, fence: Fence, now: float) -> FencedOff | None:
    """What a commit gets whose epoch bars it; None if it does not."""
    known = seen(head, fence, now)
    if commit.claim is None or commit.epoch:
        return FencedOff(known) if commit.epoch < known else None
    if _repeats(commit, fence, known, now):
        return None
    if fence.epoch == known and now < fence.held:
        return FencedOff(known, fence.held - now)
    return FencedOff(known) if known >= INT64_MAX else None


def claimed(commit: Commit, head: Seeing | None, fence: Fence, now: float) -> Fence:
    """The fence after a claim that nothing bars. If there is a state, its head has that epoch too."""
    assert commit.claim is not None  # noqa: S101  it is one
    known = seen(head, fence, now)
    epoch, op = commit.epoch, commit.op
    if not epoch:
        # Never one that was given out before, even if that was forgotten meanwhile: nobody gives out so
        # many that they get ahead of the microseconds.
        new = min(max(known + 1, math.floor(now * 1e6)), INT64_MAX)
        epoch = known if _repeats(commit, fence, known, now) else new
    else:
        op = fence.op if epoch == fence.epoch else ""
    held = now + commit.claim
    return Fence(epoch, held, max(held + HOLD_SECONDS, fence.until), op)


def _repeats(commit: Commit, fence: Fence, known: int, now: float) -> bool:
    """Whether this very claim was given the epoch that is held."""
    same = commit.op != "" and fence.op in (commit.op, digest_of(commit.op))
    return same and fence.epoch == known and now < fence.held
