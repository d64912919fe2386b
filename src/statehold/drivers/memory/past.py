"""What is remembered of op ids, and of lives that have ended."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from statehold.commits import HOLD_SECONDS, Commit, Key, Revision, digest_of
from statehold.drivers.memory.slots import Slot
from statehold.folding import NO_FENCE, Applied, Fence

K = TypeVar("K")

ERASURE_BYTES = 500
"""Roughly what it takes to remember an erasure."""

FENCE_BYTES = 500
"""Roughly what it takes to remember an epoch."""

END_BYTES = 300
"""Roughly what it takes to remember that a life has ended."""


class Ended:
    """What is left of all lives that have ended."""

    def __init__(self) -> None:
        self.erasures: dict[tuple[Key, str], tuple[Applied, float]] = {}
        """By key and op id, in their order, and until when each is kept."""
        self.ends: dict[Key, tuple[float, float]] = {}
        """Of those that had op ids, in their order: the newest commit's time, and until when that is kept."""
        self.horizon = -math.inf
        """No other of them had a commit after this time."""
        self.fences: dict[Key, Fence] = {}
        self._due: list[tuple[float, Key]] = []  # heap: when each of them is to be looked at

    def erase(self, commit: Commit, stood: Revision, now: float) -> int:
        """Have an erasure remembered. Returns by how many bytes there is more."""
        erasures = self.erasures
        before = len(erasures)
        for at in _over(erasures, now):
            del erasures[at]
        done = Applied(stood, commit.intent, erased=True)
        erasures[commit.key, commit.op] = done, now + HOLD_SECONDS
        return ERASURE_BYTES * (len(erasures) - before)

    def end(self, key: Key, last: float, at: float) -> int:
        """Have it remembered that a life has ended at that time, whose newest commit was at `last`.

        Returns by how many bytes there is more.
        """
        ends = self.ends
        before = len(ends)
        for other in _over(ends, at):
            self.horizon = max(self.horizon, ends.pop(other)[0])
        ends[key] = max(last, ends.pop(key, (last, 0.0))[0]), at + HOLD_SECONDS
        return END_BYTES * (len(ends) - before)

    def ended(self, key: Key) -> float:
        """No earlier life of this key has had an op id after this time."""
        end = self.ends.get(key)
        return self.horizon if end is None else max(self.horizon, end[0])

    def fence(self, key: Key) -> Fence:
        """What is remembered of a key's epochs."""
        return self.fences.get(key, NO_FENCE)

    def remember(self, key: Key, fence: Fence, now: float) -> int:
        """Have a fence remembered. Returns by how many bytes there is more."""
        fences, due = self.fences, self._due
        before = len(fences)
        if key not in fences:
            heapq.heappush(due, (fence.until, key))
        fences[key] = fence
        for _ in range(2):  # whoever adds one takes out two that are over, or puts them off
            if due[0][0] > now:
                break
            _, other = heapq.heappop(due)
            if fences[other].until > now:
                heapq.heappush(due, (fences[other].until, other))
            else:
                del fences[other]
        return FENCE_BYTES * (len(fences) - before)

    def nbytes(self) -> int:
        """Roughly what all that takes. What an interrupt has left of the fences is put in order."""
        self._due = [(fence.until, key) for key, fence in self.fences.items()]
        heapq.heapify(self._due)
        held = ERASURE_BYTES * len(self.erasures) + FENCE_BYTES * len(self.fences)
        return held + END_BYTES * len(self.ends)


def _over(kept: Mapping[K, tuple[object, float]], now: float) -> list[K]:
    """Of what is kept until a time, in its order, up to two that are over: whoever adds one takes them out."""
    oldest = list(itertools.islice(kept.items(), 2))
    return [each for each, (_, until) in oldest if until <= now]


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
        if slot is None or slot.ops is None:
            return None
        if op not in slot.ops:
            op = digest_of(op) if slot.digests else ""
            if op not in slot.ops:
                return None
        number, intent, _ = slot.ops[op]
        return Applied(Revision(slot.cells.revision.incarnation, number), intent)

    def forgot(self) -> float:
        return -math.inf if self.slot is None else self.slot.forgot

    def ended(self) -> float:
        return self.past.ended(self.key)

    def fence(self) -> Fence:
        return self.past.fence(self.key)
