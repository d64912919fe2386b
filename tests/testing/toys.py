"""A correct toy driver in a few lines, to be proved by the kit, and to be broken in `broken.py`."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from statehold.changes import Cell, Items, Refusal, fold
from statehold.commits import (
    ABSENT,
    PRESENT,
    Commit,
    Key,
    Revision,
    Want,
    about_after,
    deadline,
    digest_of,
    is_so,
    new_incarnation,
    part_of,
    required,
    subjects_of,
)
from statehold.cursors import Listing, newest_of
from statehold.driver import (
    Cells,
    Conflicted,
    Doubtful,
    Driver,
    Feature,
    Late,
    Op,
    Outcome,
    Page,
    Refused,
    Scan,
    WholeLife,
    Written,
)
from statehold.errors import Closed, Unavailable
from statehold.folding import (
    NO_FENCE,
    Applied,
    Fence,
    admit_life,
    all_stand,
    cells_within,
    claimed,
    ended_at,
    fence_with,
    fenced,
    left_behind,
    recalled,
    undone,
    whole,
    written,
)


class Stored(msgspec.Struct):
    """A stored state: what a reader gets."""

    cells: Cells


class Done(msgspec.Struct):
    """What an op id stood for, and the revision that it made or erased."""

    revision: Revision
    intent: int
    erased: bool
    at: float


class ToyDriver(Driver):
    """A dict of states, replaced whole under one lock."""

    features = frozenset(Feature) - {Feature.SHARED, Feature.DURABLE}

    def __init__(self) -> None:
        self.states: dict[Key, Stored] = {}
        self.applied: dict[tuple[Key, str], Done] = {}  # all of them, for ever: so none is in doubt
        self.fences: dict[Key, Fence] = {}
        self.forgot: dict[Key, float] = {}  # elsewhere, before it came here
        self.lock = threading.Lock()
        self.closed = False
        self.down = False

    @contextmanager
    def outage(self) -> Iterator[None]:
        self.down = True
        yield
        self.down = False

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        with self.opened():
            return [self.look(key, want, now) for key in keys]

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        with self.opened():
            return [self.step(commit, now) for commit in commits]

    async def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        with self.opened():
            before = self.states.copy(), self.applied.copy(), self.fences.copy()
            outcomes = [self.step(commit, now) for commit in commits]
            if all_stand(outcomes):
                return outcomes
            self.states, self.applied, self.fences = before
            return undone(outcomes)

    async def lives(self, keys: Sequence[Key], now: float) -> list[WholeLife | None]:
        with self.opened():
            return [self.whole(key, now) for key in keys]

    def whole(self, key: Key, now: float) -> WholeLife | None:
        state = self.alive(key, now)
        if state is None:
            return None
        incarnation = state.cells.revision.incarnation
        ops = [
            Op(op, done.revision.number, done.intent, done.at)
            for (its, op), done in self.applied.items()
            if its == key and done.revision.incarnation == incarnation and not done.erased
        ]
        forgot = self.forgot.get(key, -math.inf)
        return whole(key, msgspec.structs.replace(state.cells), ops, forgot, self.fence(key, now))

    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        with self.opened():
            return [self.put(life, now) for life in lives]

    def put(self, life: WholeLife, now: float) -> Outcome:
        key, state, fence = life.key, self.alive(life.key, now), self.fence(life.key, now)
        barred = admit_life(life, state and state.cells, fence, now)
        if barred is not None:
            return barred
        cells = msgspec.structs.replace(life.cells, fields=cells_within(life))
        self.states[key], self.fences[key] = Stored(cells), fence_with(life, fence)
        self.forgot[key] = life.forgotten
        for one in life.ops:
            revision = Revision(cells.revision.incarnation, one.number)
            self.applied[key, one.op] = Done(revision, one.intent, False, one.at)
        return written(cells)

    async def scan(self, asked: Scan, now: float) -> Page:
        if asked.newest:
            with self.opened():
                living = [key for key in self.states if self.listed(key, asked, now)]
                times = [(self.states[key].cells.updated, key[2]) for key in living]
            return newest_of(asked, times)
        listing, limit = Listing(asked), asked.limit
        after = None if asked.cursor is None else listing.place(asked.cursor).decode()
        with self.opened():
            found = sorted(key for key in self.states if self.listed(key, asked, now))
        found = [key for key in found if after is None or key[2] > after]
        more = len(found) > limit
        end = listing.cursor(found[limit - 1][2].encode()) if more else None
        return Page(tuple(found[:limit]), end)

    async def close(self) -> None:
        self.closed = True

    def opened(self) -> Any:
        if self.closed:
            raise Closed("the toy was closed")
        if self.down:
            raise Unavailable("the toy is down")
        return self.lock

    def alive(self, key: Key, now: float) -> Stored | None:
        state = self.states.get(key)
        expired = state and state.cells.deadline is not None and now >= state.cells.deadline
        return None if expired else state

    def listed(self, key: Key, asked: Scan, now: float) -> bool:
        state = self.alive(key, now)
        return (
            state is not None
            and key[:2] == (asked.tenant, asked.kind)
            and key[2].startswith(asked.prefix)
            and (asked.subject is None or asked.subject in subjects_of(state.cells.subject))
        )

    def look(self, key: Key, want: Want, now: float) -> Cells | None:
        state = self.alive(key, now)
        if state is None:
            return None
        cells = state.cells
        if want.renew is not None:
            cells.deadline = deadline(cells.created, now, *want.renew)
        if cells.revision in want.unless:
            return msgspec.structs.replace(cells, fields={}, unchanged=True)
        return msgspec.structs.replace(cells, fields=self.cut(cells, want))

    def cut(self, cells: Cells, want: Want) -> dict[str, Cell]:
        fields: dict[str, Cell] = {}
        for name, cell in cells.fields.items():
            if want.fields is None or name in want.fields:
                fields[name] = cell
                some = want.entries_of(name)
                if isinstance(cell, Items):
                    fields[name] = cell.window(*want.window_of(name, cell.first, len(cell)))
                elif some is not None:
                    fields[name] = {entry: cell[entry] for entry in some if entry in cell}
        return fields

    def step(self, commit: Commit, now: float) -> Outcome:  # noqa: C901, PLR0911, PLR0912  the contract's steps
        key = commit.key
        state = self.alive(key, now)
        stands = state.cells.revision if state else ABSENT
        before = self.known(commit)
        if before is not None and commit.claim is None:
            known = recalled(commit, Applied(before.revision, before.intent, before.erased))
            if isinstance(known, Written):
                known = msgspec.structs.replace(known, returned=self.returned(commit, now))
            return known
        if commit.since is not None and state and self.forgot.get(key, -math.inf) >= commit.since:
            return Doubtful()
        if commit.until is not None and now > commit.until:
            return Late()
        cells, fence = state and state.cells, self.fence(key, now)
        barred = fenced(commit, cells, fence, now)
        if barred is not None:
            return barred
        expect = required(commit)
        if expect is not None and (state is None if expect == PRESENT else expect != stands):
            return Conflicted(stands)
        for condition in commit.where:
            cell = state.cells.fields.get(condition.field) if state else None
            if not is_so(condition, part_of(cell, condition.entry)):
                return Conflicted(stands, condition.field)
        made = now if commit.at is None else commit.at
        created = state.cells.created if state else made
        until = deadline(created, made, commit.ttl, commit.max_age)
        if commit.at is not None and until is not None and until <= now and not commit.erase:
            return Late()
        if commit.claim is not None:
            fence = self.fences[key] = claimed(commit, cells, fence, now)
            if cells:
                cells.epoch = fence.epoch
            else:
                self.states.pop(key, None)  # what it had seen is accounted for
            return Written(stands, self.returned(commit, now), epoch=fence.epoch)
        self.fences[key] = fence
        if commit.erase:
            self.fences[key] = left_behind(fence, commit.epoch, now)
            self.states.pop(key, None)
            self.remember(commit, stands, now)
            return Written(stands)
        try:
            fields = self.folded(state.cells.fields if state else {}, commit)
        except Refusal as no:
            return Refused(no.field, no.reason, no.limit, no.found)
        old = state.cells if state else None
        revision = commit.revision or Revision(
            stands.incarnation or new_incarnation(), stands.number + 1
        )
        subject = old and old.subject if commit.subject is None else about_after(commit.subject)
        cells = Cells(revision, fields, created, made, until, 0.0, commit.epoch, subject)
        self.states[key] = Stored(cells)
        self.remember(commit, revision, max(now, made))
        return Written(revision, self.returned(commit, -math.inf), False, made, until)

    def known(self, commit: Commit) -> Done | None:
        key, op = commit.key, commit.op
        return self.applied.get((key, op)) or self.applied.get((key, digest_of(op)))

    def remember(self, commit: Commit, revision: Revision, at: float) -> None:
        if commit.op:
            self.applied[commit.key, commit.op] = Done(revision, commit.intent, commit.erase, at)

    def fence(self, key: Key, now: float) -> Fence:
        fence, state = self.fences.get(key, NO_FENCE), self.states.get(key)
        if state is not None and not self.alive(key, now):
            fence = left_behind(fence, state.cells.epoch, ended_at(state.cells))
        return fence

    def folded(self, fields: Any, commit: Commit) -> dict[str, Cell]:
        return fold(fields, commit.changes)

    def returned(self, commit: Commit, now: float) -> Cells | None:
        return self.look(commit.key, commit.returning, now) if commit.returning else None
