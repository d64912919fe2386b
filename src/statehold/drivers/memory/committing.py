"""What commits, reads and whole lives do to the states. Whoever calls has the driver's lock."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from copy import copy

from msgspec.structs import replace

from statehold.changes import Items, Refusal, fold
from statehold.commits import (
    ABSENT,
    EVERYTHING,
    Commit,
    Key,
    Revision,
    Want,
    deadline,
    is_digest,
    new_incarnation,
)
from statehold.driver import Cells, Op, Outcome, WholeLife, Written
from statehold.drivers.memory.before import Before
from statehold.drivers.memory.kept import NOTHING, Kept, state_bytes
from statehold.drivers.memory.layered import LARGE, Layered
from statehold.drivers.memory.past import Remembered
from statehold.drivers.memory.slots import Slot
from statehold.folding import (
    Ends,
    admit,
    admit_life,
    all_stand,
    cells_within,
    claimed,
    cut,
    fence_with,
    forgets,
    is_over,
    looking,
    refused,
    revision_of,
    undone,
    whole,
    written,
)


class States(Kept):
    """What there is, as commits change it."""

    def read(self, key: Key, want: Want, now: float) -> Cells | None:
        slot = self.slots.get(key)
        if slot is None:
            return None
        until = slot.cells.deadline
        if until is not None and now >= until:
            return None
        if want.renew is not None:
            self.renew(key, slot, deadline(slot.cells.created, now, *want.renew))
        return _shown(slot.cells, want)

    def commit(self, commit: Commit, now: float) -> Outcome:  # noqa: C901, PLR0912, PLR0915  see below
        """`folding.step`, written out for speed: what nothing bars needs no call but its changes'."""
        key = commit.key
        at = now
        slot = self.slots.get(key)
        cells = NOTHING
        if slot is not None:
            cells = slot.cells
            if cells.deadline is not None and now >= cells.deadline:
                self.expire(key, slot)
                slot = None
                cells = NOTHING
        if (
            commit.op
            or commit.expect is not None
            or commit.until is not None
            or commit.where
            or commit.epoch < cells.epoch
            or commit.revision is not None
            or commit.at is not None
            or commit.claim is not None
            or (slot is None and self.past.fences)
        ):
            barred = self._barred(commit, slot, now)
            if barred is not None:
                return barred
            if commit.claim is not None:
                return self._claim(commit, slot, now)
            if commit.at is not None:
                at = commit.at
        if commit.erase:
            return self._erase(commit, slot, now)

        fields = cells.fields.copy()
        own: list[str] = []
        growth = 0
        try:
            for change in commit.changes:
                growth += change.into(fields, own)
        except Refusal as refusal:
            return refused(refusal)

        new = slot is None
        if slot is None:
            slot = self.born(key, at)
            created = updated = at
            revision = commit.revision or Revision(new_incarnation(), 1)
        else:
            created, updated, revision = cells.created, cells.updated, cells.revision
            updated = at if at > updated else updated  # noqa: FURB136  max() is a call
            revision = Revision(revision.incarnation, revision.number + 1)
        ttl = commit.ttl
        if commit.max_age is None:
            until = None if ttl is None else at + ttl
        else:
            until = deadline(created, at, ttl, commit.max_age)
        subject = cells.subject
        if commit.subject is not None:
            subject = self.about(key, subject, commit.subject)
        slot.nbytes += growth
        self.nbytes += growth
        for name in own:
            cell = fields.get(name)
            if isinstance(cell, dict) and len(cell) > LARGE and not isinstance(cell, Layered):
                fields[name] = Layered.of(cell)
        slot.cells = Cells(revision, fields, created, updated, until, 0.0, commit.epoch, subject)
        if new:
            self.slots[key] = slot  # not before it has cells: readers take no lock
            self.buckets.put(key, slot)
        elif until is not None and until < slot.bucket - 1:
            self.buckets.leave(key, slot)
            self.buckets.put(key, slot)
        if commit.op:
            slot.remember(commit, now)
        if self.nbytes > self.most:
            self.evict(key, now)
        if commit.returning is None:
            return Written(revision, None, False, updated, until)
        return Written(revision, _shown(slot.cells, commit.returning), False, updated, until)

    def _barred(self, commit: Commit, slot: Slot | None, now: float) -> Outcome | None:
        """What a commit gets that is not to be applied; None if nothing bars it."""
        head = None if slot is None else slot.cells
        past = Remembered(self.past, commit.key, slot)
        look = looking({} if head is None else head.fields) if commit.where else None
        barred = admit(commit, head, past, now, look)
        want = commit.returning
        if want is None or commit.erase or slot is None or not isinstance(barred, Written):
            return barred
        return Written(barred.revision, _shown(slot.cells, want), True)

    def _erase(self, commit: Commit, slot: Slot | None, now: float) -> Written:
        stood = revision_of(None if slot is None else slot.cells)
        if slot is not None:
            self.remove(commit.key, slot, now)
        if commit.epoch:
            self.leave(commit.key, commit.epoch, now)
        if commit.op:
            self.nbytes += self.past.erase(commit, stood, now)
        return Written(stood)

    def _claim(self, commit: Commit, slot: Slot | None, now: float) -> Written:
        cells = None if slot is None else slot.cells
        fence = claimed(commit, cells, self.past.fence(commit.key), now)
        self.nbytes += self.past.remember(commit.key, fence, now)
        if slot is None or cells is None:
            return Written(ABSENT, epoch=fence.epoch)
        slot.cells = replace(cells, epoch=fence.epoch)
        want = commit.returning
        shown = None if want is None else _shown(slot.cells, want)
        return Written(cells.revision, shown, epoch=fence.epoch)

    # ------------------------------------------------------------------------------------- together

    def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        tried = [self._tried(commit, now) for commit in commits]
        if not all_stand(tried):
            return undone(tried)
        self.most = sys.maxsize  # none of them makes another give way
        self.before = Before(self.slots, self.past, commits)
        self.buckets.hold()  # who reads meanwhile waits for the lock
        outcomes = [self.commit(commit, now) for commit in commits]
        self.before = None
        self.buckets.let_go()
        self.most = self.budget
        if self.nbytes > self.most:
            self.evict(commits[-1].key, now)
        return outcomes

    def _tried(self, commit: Commit, now: float) -> Outcome:
        """What a commit would come to. Nothing is written."""
        slot = self.slots.get(commit.key)
        until = None if slot is None else slot.cells.deadline
        if slot is not None and until is not None and now >= until:
            # As it goes what it had seen is accounted for, which may bar the commit.
            self.expire(commit.key, slot)
            slot = None
        barred = self._barred(commit, slot, now)
        if barred is not None or commit.erase:
            return barred or Written(revision_of(None if slot is None else slot.cells))
        cells = {} if slot is None else slot.cells.fields
        try:
            # Of a list its ends will do, and the list itself would go on from here.
            fold(
                {
                    name: Ends.of(cell) if isinstance(cell, Items) else cell
                    for name, cell in cells.items()
                },
                commit.changes,
            )
        except Refusal as refusal:
            return refused(refusal)
        return Written(ABSENT)

    # ----------------------------------------------------------------------------------- whole lives

    def life(self, key: Key, now: float) -> WholeLife | None:
        cells = self.read(key, EVERYTHING, now)
        if cells is None:
            return None
        slot = self.slots[key]
        ops = [Op(op, *done) for op, done in (slot.ops or {}).items()]
        fields = {
            name: cell.flat() if isinstance(cell, Layered) else cell
            for name, cell in cells.fields.items()
        }
        cells = replace(cells, fields=fields)  # as plain as those of any driver
        return whole(key, cells, ops, slot.forgot, self.past.fence(key))

    def install(self, life: WholeLife, now: float) -> Outcome:
        key, comes = life.key, life.cells
        old = self.slots.get(key)
        if old is not None and is_over(old.cells, now):
            self.expire(key, old)
            old = None
        head, fence = None if old is None else old.cells, self.past.fence(key)
        barred = admit_life(life, head, fence, now)
        if barred is not None:
            return barred
        slot = Slot(comes) if old is None else copy(old)
        slot.ops = {one.op: (one.number, one.intent, one.at) for one in life.ops} or None
        slot.digests = any(is_digest(one.op) for one in life.ops)
        slot.forgot = forgets(life, head, Remembered(self.past, key, old))
        slot.cells = replace(
            comes, fields=cells_within(life), skew=0.0, source="store", unchanged=False
        )
        slot.nbytes = state_bytes(key, slot.cells)
        if old is None:
            self.ids.add(key[:2], key[2])
        else:
            self.buckets.leave(key, old)
            self.unindex(key, old.cells.subject)
            self.nbytes -= old.nbytes
        held = fence_with(life, fence)
        if held != fence:
            self.nbytes += self.past.remember(key, held, now)
        self.nbytes += slot.nbytes
        if comes.subject is not None:
            self.about(key, None, comes.subject)
        self.slots[key] = slot  # in one step: whoever is interrupted before finds the old one
        self.buckets.put(key, slot)
        if self.nbytes > self.most:
            self.evict(key, now)
        return written(slot.cells)


def _shown(cells: Cells, want: Want) -> Cells:
    """The cells as far as they are wanted."""
    if cells.revision in want.unless:
        return replace(cells, fields={}, unchanged=True)
    if not want.cuts():
        return cells
    return replace(cells, fields=cut(cells.fields, want))
