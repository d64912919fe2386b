"""When states are due: to expire, or to be evicted.

A state that expires sits in the *bucket* of the second in which its deadline was when it got there;
renewals do not move it. When a bucket comes due, some of its keys are looked at with each call: those
renewed meanwhile go to their new bucket, the others go. The same buckets, earliest first, say what to
evict when the byte budget is spent: what would expire soonest, which among states of one ttl is what
was written longest ago.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict

from statehold.commits import Key
from statehold.drivers.memory.slots import Slot

NEVER = math.inf


def bucket_of(slot: Slot) -> float:
    """The number of the bucket that a state with its deadline is put into."""
    until = slot.cells.deadline
    return NEVER if until is None else math.floor(until) + 1


class Buckets:
    """States by the second in which they are to be looked at."""

    def __init__(self) -> None:
        self.due = NEVER
        """When the earliest is."""
        self._held = 0
        self._numbered: dict[float, dict[Key, Slot]] = {}
        self._order: list[float] = []  # heap of their numbers

    @property
    def earliest(self) -> float:
        """When the earliest state is due; `due` may be sooner."""
        return self._order[0] if self._order else NEVER

    def __len__(self) -> int:
        return len(self._numbered)

    def states(self) -> int:
        """How many states there are in all."""
        return sum(map(len, self._numbered.values()))

    def put(self, key: Key, slot: Slot) -> None:
        """Have a state looked at when its deadline is over."""
        number = slot.bucket = bucket_of(slot)
        bucket = self._numbered.get(number)
        if bucket is None:
            bucket = self._numbered[number] = OrderedDict() if number == NEVER else {}
            heapq.heappush(self._order, number)
            if len(self._order) > 2 * len(self._numbered) + 1024:
                self._order = list(self._numbered)  # without those of emptied buckets
                heapq.heapify(self._order)
            self._set_due()
        bucket[key] = slot

    def leave(self, key: Key, slot: Slot) -> None:
        """It need not be looked at any more."""
        bucket = self._numbered[slot.bucket]
        del bucket[key]
        if not bucket:
            self._drop(slot.bucket)

    def next(self) -> tuple[Key, Slot] | None:
        """A state of the earliest bucket, taken out of it; None if there is no bucket.

        Of those that never expire it is the oldest.
        """
        if not self._order:
            return None
        number = self._order[0]
        bucket = self._numbered[number]
        found = bucket.popitem(last=False) if isinstance(bucket, OrderedDict) else bucket.popitem()
        if not bucket:
            self._drop(number)
        return found

    def clear(self) -> None:
        """There are no states any more. `due` stays as it is."""
        self._numbered.clear()
        self._order.clear()

    def _drop(self, number: float) -> None:
        del self._numbered[number]
        while self._order and self._order[0] not in self._numbered:
            heapq.heappop(self._order)
        self._set_due()

    def hold(self) -> None:
        """Something is due at any time, so that nobody reads without the lock, until `let_go`.

        Held more than once it is to be let go as often.
        """
        self._held += 1
        self._set_due()

    def let_go(self) -> None:
        """`due` is as it was."""
        self._held -= 1
        self._set_due()

    def _set_due(self) -> None:
        if self._held:
            self.due = -NEVER
        else:
            self.due = self.earliest
