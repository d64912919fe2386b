"""What is remembered of op ids, and of lives that have ended."""

from __future__ import annotations

import itertools
import math

import msgspec

from statehold.changes import HOLD_SECONDS, Commit, Key, Revision
from statehold.drivers.memory.slots import Slot
from statehold.folding import Applied

ERASURE_BYTES = 500
"""Roughly what it takes to remember an erasure."""


class Ended:
    """What is left of all lives that have ended."""

    def __init__(self) -> None:
        self.erasures: dict[tuple[Key, str], tuple[Applied, float]] = {}
        """By key and op id, in their order, and until when each is kept."""
        self.ended = -math.inf
        """The time of the newest commit of any of them."""

    def erase(self, commit: Commit, stood: Revision, now: float) -> int:
        """Have an erasure remembered. Returns by how many bytes there is more."""
        erasures = self.erasures
        before = len(erasures)
        for at in list(
            itertools.islice(erasures, 2)
        ):  # whoever adds one takes out two that are over
            if erasures[at][1] > now:
                break
            del erasures[at]
        done = Applied(stood, commit.intent, erased=True)
        erasures[commit.key, commit.op] = done, now + HOLD_SECONDS
        return ERASURE_BYTES * (len(erasures) - before)


class Remembered(msgspec.Struct, gc=False):
    """What is remembered of one state; see `folding.Past`."""

    past: Ended
    key: Key
    slot: Slot | None

    def applied(self, op: str) -> Applied | None:
        erased = self.past.erasures.get((self.key, op))
        if erased is not None:
            return erased[0]
        slot = self.slot
        if slot is None or slot.ops is None or op not in slot.ops:
            return None
        number, intent, _ = slot.ops[op]
        return Applied(Revision(slot.cells.revision.incarnation, number), intent)

    def forgot(self) -> float:
        return -math.inf if self.slot is None else self.slot.forgot

    def ended(self) -> float:
        return self.past.ended
