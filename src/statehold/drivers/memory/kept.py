"""The states, and all that is kept beside them: how many bytes, which ids, when each is to be looked at.

Nothing is ever scanned: see `buckets` for expiry and eviction. Whoever calls has the driver's lock.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import cast

from msgspec.structs import replace

from statehold.changes import Items, cell_nbytes
from statehold.commits import ABSENT, About, Key, about_after, subjects_of
from statehold.cursors import Listing, beyond, newest_of
from statehold.driver import Cells, Page, Scan
from statehold.drivers.memory.before import Before
from statehold.drivers.memory.buckets import Buckets, bucket_of
from statehold.drivers.memory.layered import Layered
from statehold.drivers.memory.listing import Listings
from statehold.drivers.memory.past import Ended
from statehold.drivers.memory.slots import Slot
from statehold.errors import Closed
from statehold.folding import ended_at, is_over, left_behind

STATE_BYTES = 900
"""Roughly what Python needs for a state beside its names and values."""

HUGE_BYTES = 1 << 20
"""What a state of more bytes has left when it is gone is freed by the calls that come after."""

FREED = 2048
"""How many values a call frees of that."""

LOOKED_AT = 64
"""How many states a call looks at, at most, for what has expired, and as many for what is to be evicted."""

SPARE = 16
"""Which part of the budget may be exceeded until calls that look at so many have made room."""

NOTHING = Cells(ABSENT, {}, 0.0, 0.0, None)
"""What a state has that is not there."""


class Kept:
    """What there is, within a budget of bytes: how it comes, is looked up, and goes."""

    def __init__(self, budget: int) -> None:
        self.budget = self.most = budget  # the latter is what holds just now
        self.slots: dict[Key, Slot] = {}
        self.ids: Listings[tuple[str, str]] = Listings()
        self.subjects: Listings[tuple[str, str, str]] = Listings()
        self.buckets = Buckets()
        self.nbytes: int = 0
        self.past = Ended()
        self.before: Before | None = None  # what commits that stand together are changing
        self.left: list[list[object]] = []  # values of huge states that are gone, to be freed
        self.expired = self.evicted = 0
        self.closed = False
        self.torn = False  # whether an interrupt came while that of another was mended

    def shut(self) -> None:
        """From now on every call comes by `sweep`, which refuses it."""
        self.closed = True
        self.buckets.due = -math.inf

    def clear(self) -> None:
        """Nothing is there any more."""
        self.slots.clear()
        self.buckets.clear()
        self.left.clear()
        self.ids.clear()
        self.subjects.clear()

    def mend(self) -> None:
        """After an interrupt (Ctrl-C, a time limit) at any point: each state is as before or after.

        All that is kept beside the states is made anew from them; by the next call, if this is interrupted, too.
        """
        self.torn = True
        self.buckets.due = -math.inf  # so that every call comes by `sweep`
        if self.before is not None:
            self.before.put_back(self.slots, self.past)
            self.before = None
        self.most = self.budget
        self.left = []
        self.ids, self.subjects = Listings(), Listings()
        buckets, nbytes = Buckets(), self.past.nbytes()
        for key in sorted(self.slots):
            slot = self.slots[key]
            slot.nbytes = state_bytes(key, slot.cells)
            nbytes += slot.nbytes
            buckets.put(key, slot)
            self.ids.add(key[:2], key[2])
            self.index(key, slot.cells.subject)
        self.nbytes, self.buckets = nbytes, buckets
        if self.closed:
            self.shut()
        self.torn = False

    # ------------------------------------------------------------------------------ coming, going

    def born(self, key: Key, at: float) -> Slot:
        """A state that begins, which is not to be found before it has cells."""
        slot = Slot(NOTHING)
        ended = self.past.ended(key)
        if ended > at:  # it says so itself, or the clock was set back
            slot.forgot = ended
        slot.nbytes = STATE_BYTES + len(key[2])
        self.nbytes += slot.nbytes
        self.ids.add(key[:2], key[2])
        return slot

    def leave(self, key: Key, epoch: int, at: float) -> None:
        """A state that had seen this epoch is gone from then on."""
        fence = left_behind(self.past.fence(key), epoch, at)
        self.nbytes += self.past.remember(key, fence, at)

    def expire(self, key: Key, slot: Slot) -> None:
        self.remove(key, slot, ended_at(slot.cells))
        self.expired += 1

    def remove(self, key: Key, slot: Slot, at: float) -> None:
        self.buckets.leave(key, slot)
        self.forget(key, slot, at)

    def forget(self, key: Key, slot: Slot, at: float) -> None:
        """Remove a state that is in no bucket any more, and has ended at that time."""
        if slot.cells.epoch:
            self.leave(key, slot.cells.epoch, at)
        del self.slots[key]
        self.nbytes -= slot.nbytes
        if slot.nbytes > HUGE_BYTES and (values := _values(slot.cells)):
            if not self.left:
                self.buckets.hold()
            self.left += values
        if slot.ops or slot.forgot > -math.inf:  # else nobody could repeat what was done to it
            self.nbytes += self.past.end(key, slot.last(), at)
        self.unindex(key, slot.cells.subject)
        self.ids.remove(key[:2], key[2])

    def about(self, key: Key, old: About | None, said: About) -> About | None:
        if said != old:
            self.unindex(key, old)
            self.index(key, said)
        return about_after(said)

    def index(self, key: Key, about: About | None) -> None:
        for subject in subjects_of(about):
            self.subjects.add((key[0], key[1], subject), key[2])

    def unindex(self, key: Key, about: About | None) -> None:
        for subject in subjects_of(about):
            self.subjects.remove((key[0], key[1], subject), key[2])

    # ------------------------------------------------------------------------------ expiry, eviction

    def renew(self, key: Key, slot: Slot, until: float | None) -> None:
        slot.cells = replace(slot.cells, deadline=until)
        if until is not None and until < slot.bucket - 1:
            self.buckets.leave(key, slot)
            self.buckets.put(key, slot)

    def sweep(self, now: float) -> None:
        if self.closed:
            raise Closed("the store is closed")
        if self.torn:
            self.mend()
        if self.left:
            self.free()
        for _ in range(LOOKED_AT):
            if now < self.buckets.earliest:
                return
            found = self.buckets.next()
            if found is None:
                return
            key, slot = found
            until = slot.cells.deadline
            if until is not None and now >= until:
                self.forget(key, slot, ended_at(slot.cells))
                self.expired += 1
            else:
                self.buckets.put(key, slot)

    def free(self) -> None:
        """Let go of some values of states that are gone; freeing them all at once takes long."""
        values = self.left[-1]
        del values[-FREED:]
        if not values:
            self.left.pop()
        if not self.left:
            self.buckets.let_go()

    def evict(self, spared: Key, now: float) -> None:
        """Let go of what would expire soonest until the budget holds, but not of `spared`.

        A call looks at so many states at most; what is left to do is done by those that come next.
        Past the `SPARE` it does all that is left.
        """
        kept: Slot | None = None
        looks = LOOKED_AT
        while self.nbytes > self.budget:
            looks -= 1
            if looks < 0 and self.nbytes <= self.budget + self.budget // SPARE:
                break
            found = self.buckets.next()
            if found is None:
                break
            key, slot = found
            if key == spared:
                kept = slot
            elif bucket_of(slot) > slot.bucket:
                self.buckets.put(key, slot)  # renewed since it got here
            else:
                self.forget(key, slot, now)
                if is_over(slot.cells, now):
                    self.expired += 1
                else:
                    self.evicted += 1
        if kept is not None:
            self.buckets.put(spared, kept)

    # -------------------------------------------------------------------------------------- listing

    def page(self, asked: Scan, listing: Listing, after: str | None, now: float) -> Page:
        tenant, kind, prefix, limit = asked.tenant, asked.kind, asked.prefix, asked.limit
        if asked.newest:
            return newest_of(asked, self._updates(asked, now))
        low, high = (prefix if after is None else after), beyond(prefix)
        bounds = low, high, limit + 1
        if asked.subject is None:
            ids = self.ids.page((tenant, kind), *bounds, after=after is not None)
        else:
            about = (tenant, kind, asked.subject)
            ids = self.subjects.page(about, *bounds, after=after is not None)
        keys = [(tenant, kind, id) for id in ids[:limit]]
        slots = self.slots
        live = tuple(key for key in keys if not is_over(slots[key].cells, now))
        return Page(live, listing.cursor(ids[limit - 1].encode()) if len(ids) > limit else None)

    def _updates(self, asked: Scan, now: float) -> Generator[tuple[float, str]]:
        """When each state about a subject was updated, and its id."""
        tenant, kind, prefix = asked.tenant, asked.kind, asked.prefix
        slots = self.slots
        for id in self.subjects.all((tenant, kind, asked.subject or "")):
            if id.startswith(prefix):
                cells = slots[tenant, kind, id].cells
                if not is_over(cells, now):
                    yield cells.updated, id


def _values(cells: Cells) -> list[list[object]]:
    """The values of the large fields, which whoever else has them keeps."""
    return [
        cell.held() if isinstance(cell, Layered) else list(cast("Items", cell))
        for cell in cells.fields.values()
        if len(cell) > FREED and cell.__class__ is not dict
    ]


def state_bytes(key: Key, cells: Cells) -> int:
    """Roughly what a state takes."""
    return STATE_BYTES + len(key[2]) + sum(map(cell_nbytes, cells.fields.values()))
