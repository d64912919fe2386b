"""States in the memory of this process: for development, tests and the lowest latency.

Nothing is ever scanned. A state that expires sits in the *bucket* of the second in which its
deadline was when it got there; renewals do not move it. When a bucket comes due, a few of its keys
are looked at with each call: those renewed meanwhile go to their new bucket, the others go. The
same buckets, earliest first, say what to evict when the byte budget is spent: what would expire
soonest, which among states of one ttl is what was written longest ago.
"""

from __future__ import annotations

import heapq
import math
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import ClassVar
from urllib.parse import SplitResult

from holdfast.changes import (
    ABSENT,
    PRESENT,
    Cell,
    Commit,
    Draft,
    Items,
    Key,
    Refusal,
    Revision,
    Want,
    deadline,
    new_incarnation,
)
from holdfast.driver import (
    Cells,
    Conflicted,
    Driver,
    Feature,
    FencedOff,
    Outcome,
    Page,
    Refused,
    Written,
)
from holdfast.errors import Closed, ConfigError, Invalid
from holdfast.settings import Settings, size

STATE_BYTES = 900
"""Roughly what Python needs for a state beside its names and values (measured)."""

SWEPT_PER_CALL = 8
NEVER = math.inf
SETTINGS = Settings(
    "memory",
    {"max_bytes": (size, 1 << 30, "Byte budget; past it the states next to expire are evicted.")},
)


class _Slot:
    """A stored state."""

    __slots__ = (
        "bucket",
        "created",
        "deadline",
        "draft",
        "epoch",
        "incarnation",
        "number",
        "ops",
        "subject",
        "updated",
    )

    def __init__(self, now: float) -> None:
        self.incarnation = new_incarnation()
        self.number = 0
        self.created = now
        self.updated = now
        self.deadline = NEVER
        self.bucket = NEVER
        self.epoch = 0
        self.subject: str | None = None
        self.ops: dict[str, int] | None = None
        self.draft = Draft({}, sole=True)


class MemoryDriver(Driver):
    """Keeps states in dictionaries. Safe for threads; gone when the process is."""

    features: ClassVar = frozenset(
        {Feature.EXPECT, Feature.EPOCH, Feature.SCAN, Feature.SUBJECT, Feature.RETURNING}
    )

    def __init__(self, *, max_bytes: int = SETTINGS.default("max_bytes")) -> None:
        if max_bytes < 1:
            raise ConfigError("max_bytes: must be at least 1", field="max_bytes", found=max_bytes)
        self._budget = max_bytes
        self._lock = threading.Lock()
        self._slots: dict[Key, _Slot] = {}
        self._subjects: dict[tuple[str, str, str], dict[Key, None]] = {}
        self._buckets: dict[float, list[Key]] = {}
        self._order: list[float] = []  # heap of the buckets' numbers
        self._due = NEVER
        self._listings: dict[tuple[str, str], _Listing] = {}
        self._nbytes = 0
        self._expired = self._evicted = 0
        self._closed = False

    # ------------------------------------------------------------------------------------- reading

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        with self._lock:
            if now >= self._due:
                self._sweep(now)
            if len(keys) == 1:
                return [self._read(keys[0], want, now)]
            return [self._read(key, want, now) for key in keys]

    def _read(self, key: Key, want: Want, now: float) -> Cells | None:
        slot = self._slots.get(key)
        if slot is None or now >= slot.deadline:
            return None
        if want.renew is not None:
            self._renew(key, slot, deadline(slot.created, now, *want.renew))
        return self._cells(slot, want, now)

    def _cells(self, slot: _Slot, want: Want, now: float) -> Cells:
        draft = slot.draft
        fields: dict[str, Cell]
        if want.fields is None and want.tail is None:
            fields = draft.cells.copy()
            draft.owned.clear()
        else:
            fields = self._some(draft, want)
        until = slot.deadline
        return Cells(
            Revision(slot.incarnation, slot.number),
            fields,
            slot.created,
            slot.updated,
            None if until is NEVER else until,
            now,
            slot.epoch,
            slot.subject,
        )

    def _some(self, draft: Draft, want: Want) -> dict[str, Cell]:
        fields: dict[str, Cell] = {}
        for name in draft.cells if want.fields is None else want.fields:
            cell = draft.cells.get(name)
            if isinstance(cell, Items):
                tail = want.tail_of(name)
                fields[name] = cell if tail is None else cell.tail(tail)
            elif cell is not None:
                fields[name] = cell
                if name in draft.owned:
                    draft.owned.remove(name)
        return fields

    # ----------------------------------------------------------------------------------- committing

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        with self._lock:
            if now >= self._due:
                self._sweep(now)
            if len(commits) == 1:
                return [self._commit(commits[0], now)]
            return [self._commit(commit, now) for commit in commits]

    def _commit(  # noqa: C901, PLR0911, PLR0912  the contract's steps, without the cost of calls
        self, commit: Commit, now: float
    ) -> Outcome:
        key = commit.key
        slot = self._slots.get(key)
        if slot is not None and now >= slot.deadline:
            self._remove(key, slot)
            self._expired += 1
            slot = None
        if slot is not None:
            if commit.op and slot.ops is not None and commit.op in slot.ops:
                first = Revision(slot.incarnation, slot.ops[commit.op])
                return Written(first, self._returned(commit, slot, now), repeated=True)
            if commit.epoch < slot.epoch:
                return FencedOff(slot.epoch)
        expect = commit.expect
        if expect is not None:
            stands = ABSENT if slot is None else Revision(slot.incarnation, slot.number)
            if (stands == ABSENT) if expect == PRESENT else (stands != expect):
                return Conflicted(stands)
        if commit.erase:
            if slot is None:
                return Written(ABSENT)
            self._remove(key, slot)
            return Written(Revision(slot.incarnation, slot.number))
        new = slot is None
        if slot is None:
            slot = _Slot(now)
        draft = slot.draft
        before = draft.nbytes
        draft.begin()
        try:
            for change in commit.changes:
                change.into(draft)
        except Refusal as refusal:
            draft.undo()
            return Refused(refusal.field, refusal.reason, refusal.limit, refusal.found)
        slot.number += 1
        slot.updated = now
        slot.epoch = commit.epoch
        if commit.op:
            self._remember(slot, commit)
        if new:
            self._slots[key] = slot
            self._nbytes += STATE_BYTES + len(key[2])
            listing = self._listings.get(key[:2])
            if listing is not None:
                listing.added.append(key[2])
        ttl = commit.ttl
        if commit.max_age is None:
            until = None if ttl is None else now + ttl
        else:
            until = deadline(slot.created, now, ttl, commit.max_age)
        self._renew(key, slot, until, new=new)
        if commit.subject is not None:
            self._index(key, slot, commit.subject)
        self._nbytes += draft.nbytes - before
        if self._nbytes > self._budget:
            self._evict(key, now)
        revision = Revision(slot.incarnation, slot.number)
        if commit.returning is None:
            return Written(revision)
        return Written(revision, self._cells(slot, commit.returning, now))

    def _returned(self, commit: Commit, slot: _Slot, now: float) -> Cells | None:
        return None if commit.returning is None else self._cells(slot, commit.returning, now)

    def _remove(self, key: Key, slot: _Slot) -> None:
        del self._slots[key]
        self._nbytes -= STATE_BYTES + len(key[2]) + slot.draft.nbytes
        self._unindex(key, slot)
        listing = self._listings.get(key[:2])
        if listing is not None:
            listing.removed += 1

    def _remember(self, slot: _Slot, commit: Commit) -> None:
        if slot.ops is None:
            slot.ops = {}
        slot.ops[commit.op] = slot.number
        if len(slot.ops) > commit.ops:
            del slot.ops[next(iter(slot.ops))]

    def _index(self, key: Key, slot: _Slot, subject: str) -> None:
        self._unindex(key, slot)
        slot.subject = subject
        self._subjects.setdefault((key[0], key[1], subject), {})[key] = None

    def _unindex(self, key: Key, slot: _Slot) -> None:
        if slot.subject is not None:
            index = (key[0], key[1], slot.subject)
            keys = self._subjects[index]
            del keys[key]
            if not keys:
                del self._subjects[index]

    # ------------------------------------------------------------------------------ expiry, eviction

    def _renew(
        self,
        key: Key,
        slot: _Slot,
        until: float | None,
        *,
        new: bool = False,
    ) -> None:
        slot.deadline = until = NEVER if until is None else until
        if new or until < slot.bucket - 1:
            self._put_in_bucket(key, slot)

    def _put_in_bucket(self, key: Key, slot: _Slot) -> None:
        number = slot.bucket = NEVER if slot.deadline is NEVER else math.floor(slot.deadline) + 1
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = [key]
            heapq.heappush(self._order, number)
            self._due = self._order[0]
        else:
            bucket.append(key)

    def _next(self) -> tuple[Key, _Slot] | None:
        """Take a state out of the earliest bucket, or nothing if that key is no longer in it."""
        number = self._order[0]
        bucket = self._buckets[number]
        key = bucket.pop()
        if not bucket:
            del self._buckets[heapq.heappop(self._order)]
            self._due = self._order[0] if self._order else NEVER
        slot = self._slots.get(key)
        return None if slot is None or slot.bucket != number else (key, slot)

    def _sweep(self, now: float) -> None:
        if self._closed:
            raise Closed("the store is closed")
        for _ in range(SWEPT_PER_CALL):
            if now < self._due:
                return
            found = self._next()
            if found is None:
                continue
            key, slot = found
            if now >= slot.deadline:
                self._remove(key, slot)
                self._expired += 1
            else:
                self._put_in_bucket(key, slot)

    def _evict(self, spared: Key, now: float) -> None:
        """Let go of what would expire soonest until the budget holds, but not of `spared`."""
        kept: _Slot | None = None
        while self._nbytes > self._budget and self._order:
            found = self._next()
            if found is None:
                continue
            key, slot = found
            if key == spared:
                kept = slot
            elif slot.deadline is not NEVER and slot.deadline >= slot.bucket:
                self._put_in_bucket(key, slot)  # renewed since it got here
            else:
                self._remove(key, slot)
                if now >= slot.deadline:
                    self._expired += 1
                else:
                    self._evicted += 1
        if kept is not None:
            self._put_in_bucket(spared, kept)

    # -------------------------------------------------------------------------------------- listing

    async def scan(
        self,
        tenant: str,
        kind: str,
        *,
        subject: str | None,
        cursor: str | None,
        limit: int,
        now: float,
    ) -> Page:
        after = _after(cursor)
        with self._lock:
            if self._closed:
                raise Closed("the store is closed")
            if subject is not None:
                ids = sorted(key[2] for key in self._subjects.get((tenant, kind, subject), ()))
            else:
                listing = self._listings.get((tenant, kind))
                if listing is None:
                    listing = self._listings[tenant, kind] = _Listing()
                    listing.added = [key[2] for key in self._slots if key[:2] == (tenant, kind)]
                ids = listing.ids(self._slots, tenant, kind)
            start = 0 if after is None else bisect_right(ids, after)
            page = ids[start : start + limit]
            more = start + limit < len(ids)
            keys = [(tenant, kind, name) for name in page]
            live = tuple(
                key
                for key in keys
                if (slot := self._slots.get(key)) is not None and now < slot.deadline
            )
        return Page(live, "+" + page[-1] if more else None)

    async def close(self) -> None:
        with self._lock:
            self._closed = True
            self._due = -math.inf  # every call comes by `_sweep`
            self._slots.clear()
            self._buckets.clear()
            self._order.clear()
            self._subjects.clear()
            self._listings.clear()

    def stats(self) -> Mapping[str, int | float]:
        return {
            "states": len(self._slots),
            "bytes": self._nbytes,
            "budget_bytes": self._budget,
            "expired_total": self._expired,
            "evicted_total": self._evicted,
        }


class _Listing:
    """The ids of a kind in order, brought up to date only when someone asks."""

    __slots__ = ("_ids", "added", "removed")

    def __init__(self) -> None:
        self._ids: list[str] = []
        self.added: list[str] = []
        self.removed = 0

    def ids(self, slots: Mapping[Key, _Slot], tenant: str, kind: str) -> list[str]:
        if len(self.added) > 64 or self.removed > 64 + len(self._ids) // 2:
            self._ids += sorted(self.added)
            self._ids.sort()  # two sorted runs: one merge
            self._ids = [name for name in dict.fromkeys(self._ids) if (tenant, kind, name) in slots]
            self.removed = 0
        else:
            for name in self.added:
                at = bisect_left(self._ids, name)
                if at == len(self._ids) or self._ids[at] != name:
                    self._ids.insert(at, name)
        self.added = []
        return self._ids


def _after(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    if not cursor.startswith("+"):
        raise Invalid("cursor: not one of this store's", field="cursor", found=cursor[:40])
    return cursor[1:]


def from_url(url: SplitResult, settings: Mapping[str, object]) -> MemoryDriver:
    """The driver for `memory://?max_bytes=256MiB`."""
    if url.netloc or url.path not in ("", "/"):
        raise ConfigError("memory:// takes no host and no path", field="url", found=url.geturl())
    return MemoryDriver(**SETTINGS.parse(settings))
