"""States in the memory of this process: for development, tests and the lowest latency.

A state's cells are replaced whole by each commit and never change once somebody has read them, so
reading copies nothing. Those of a large field share what did not change: see `layered`.

Nothing is ever scanned: see `buckets` for expiry and eviction.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from copy import copy
from functools import partial
from typing import TypeVar, cast
from urllib.parse import SplitResult

from msgspec.structs import replace

from statehold.changes import Items, Refusal, cell_nbytes, fold
from statehold.clock import AMBIENT
from statehold.commits import (
    ABSENT,
    EVERYTHING,
    About,
    Commit,
    Key,
    Revision,
    Want,
    about_after,
    deadline,
    is_digest,
    new_incarnation,
    subjects_of,
)
from statehold.cursors import Listing, beyond, foreign, newest_of
from statehold.driver import (
    Cells,
    Driver,
    Feature,
    Op,
    Outcome,
    Page,
    Scan,
    Swept,
    WholeLife,
    Written,
)
from statehold.drivers.memory.before import Before
from statehold.drivers.memory.buckets import Buckets, bucket_of
from statehold.drivers.memory.forking import fork_between_commits
from statehold.drivers.memory.layered import LARGE, Layered
from statehold.drivers.memory.listing import Listings
from statehold.drivers.memory.past import Ended, Remembered
from statehold.drivers.memory.slots import Slot
from statehold.errors import Busy, Closed, ConfigError, StateholdError
from statehold.folding import (
    Ends,
    admit,
    admit_life,
    all_stand,
    cells_within,
    claimed,
    cut,
    ended_at,
    fence_with,
    forgets,
    is_over,
    left_behind,
    looking,
    refused,
    revision_of,
    undone,
    whole,
    written,
)
from statehold.settings import Settings, size

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

MORE = "more"
"""Where a sweep goes on: with what is due next, which needs no place."""

LOOK_S = 0.001
"""Seconds between two looks at whether the calls of other threads are over."""

R = TypeVar("R")

SETTINGS = Settings(
    "memory",
    {
        "max_bytes": (
            size,
            1 << 30,
            "Maximum size of all states; past it the next to expire are evicted.",
        )
    },
)


_ABSENT = Cells(ABSENT, {}, 0.0, 0.0, None)


class MemoryDriver(Driver):
    """Keeps states in dictionaries. Safe for threads; gone when the process is."""

    features = frozenset(
        {
            Feature.EXPECT,
            Feature.EPOCH,
            Feature.SCAN,
            Feature.SUBJECT,
            Feature.RETURNING,
            Feature.ERASE_ONCE,
            Feature.CLAIM,
            Feature.TOGETHER,
            Feature.WHERE,
            Feature.WHOLE_LIVES,
        }
    )

    def __init__(self, *, max_bytes: int = SETTINGS.default("max_bytes")) -> None:
        if max_bytes < 1:
            raise ConfigError("max_bytes: must be at least 1", field="max_bytes", found=max_bytes)
        self._budget = self._most = max_bytes  # the latter is what holds just now
        self._queued: set[object] = set()  # calls that wait for the lock, or list
        self._busy = False  # whether the thread that has the lock is in the midst of a call
        self.renew_lock(whole=True)
        self._slots: dict[Key, Slot] = {}
        self._ids: Listings[tuple[str, str]] = Listings()
        self._subjects: Listings[tuple[str, str, str]] = Listings()
        self._buckets = Buckets()
        self._nbytes = 0
        self._past = Ended()
        self._before: Before | None = None  # what commits that stand together are changing
        self._left: list[list[object]] = []  # values of huge states that are gone, to be freed
        self._expired = self._evicted = 0
        self._closed = False
        fork_between_commits(self)

    def renew_lock(self, *, whole: bool) -> None:
        """In a process just forked off: nobody holds the lock. Unless all is whole, it is closed."""
        self.lock = threading.RLock()
        if self._busy or not whole:
            self._shut()
        self._busy = False
        self._queued.clear()  # of threads that did not come along

    def _in_turn(self, work: Callable[[float], R], now: float) -> R:
        """What `work` makes of the time, which is after what had to be waited for the lock.

        Others may have seen meanwhile what has ended.
        """
        since = AMBIENT.monotonic() if self._busy else 0.0
        call = object()
        try:
            self._queued.add(call)
            with self.lock:
                if self._busy:
                    raise _busy()
                try:
                    self._busy = True
                    if since:
                        now += AMBIENT.monotonic() - since
                    if now >= self._buckets.due:
                        self._sweep(now)
                    return work(now)
                except BaseException as error:
                    self._mend(error)
                    raise
                finally:
                    self._busy = False
        finally:
            self._queued.discard(call)

    # ------------------------------------------------------------------------------------- reading

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        if len(keys) == 1 and now < self._buckets.due and want is EVERYTHING:
            # No lock: a slot's cells are replaced whole.
            slot = self._slots.get(keys[0])
            if slot is not None:
                cells = slot.cells
                until = cells.deadline
                return [cells] if until is None or now < until else [None]
        if self._busy:  # by another thread
            return self._in_turn(partial(self._read_all, keys, want), now)
        with self.lock:
            if self._busy:
                raise _busy()
            try:
                self._busy = True
                if now >= self._buckets.due:
                    self._sweep(now)
                return [self._read(key, want, now) for key in keys]
            except BaseException as error:
                self._mend(error)
                raise
            finally:
                self._busy = False

    def _read_all(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        return [self._read(key, want, now) for key in keys]

    def _read(self, key: Key, want: Want, now: float) -> Cells | None:
        slot = self._slots.get(key)
        if slot is None:
            return None
        until = slot.cells.deadline
        if until is not None and now >= until:
            return None
        if want.renew is not None:
            self._renew(key, slot, deadline(slot.cells.created, now, *want.renew))
        return _shown(slot.cells, want)

    # ----------------------------------------------------------------------------------- committing

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        if self._busy:  # by another thread
            return self._in_turn(partial(self._commit_all, commits), now)
        # An interrupt cannot come between taking it and being bound to give it back.
        with self.lock:
            if self._busy:
                raise _busy()
            try:
                self._busy = True
                if now >= self._buckets.due:
                    self._sweep(now)
                if len(commits) == 1:
                    return [self._commit(commits[0], now)]
                return [self._commit(commit, now) for commit in commits]
            except BaseException as error:
                self._mend(error)
                raise
            finally:
                self._busy = False

    async def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        return self._in_turn(partial(self._commit_together, commits), now)

    def _commit_all(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        return [self._commit(commit, now) for commit in commits]

    def _commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        tried = [self._tried(commit, now) for commit in commits]
        if not all_stand(tried):
            return undone(tried)
        self._most = sys.maxsize  # none of them makes another give way
        self._before = Before(self._slots, self._past, commits)
        self._buckets.hold()  # who reads meanwhile waits for the lock
        outcomes = [self._commit(commit, now) for commit in commits]
        self._before = None
        self._buckets.let_go()
        self._most = self._budget
        if self._nbytes > self._most:
            self._evict(commits[-1].key, now)
        return outcomes

    def _tried(self, commit: Commit, now: float) -> Outcome:
        """What a commit would come to. Nothing is written."""
        slot = self._slots.get(commit.key)
        until = None if slot is None else slot.cells.deadline
        if slot is not None and until is not None and now >= until:
            # As it goes what it had seen is accounted for, which may bar the commit.
            self._expire(commit.key, slot)
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

    def _mend(self, error: BaseException) -> None:
        """After an interrupt (Ctrl-C, a time limit) at any point: each state is as before or after.

        All that is kept beside the states is made anew from them.
        """
        if isinstance(error, StateholdError):
            return
        if self._before is not None:
            self._before.put_back(self._slots, self._past)
            self._before = None
        self._most = self._budget
        slots, self._slots = self._slots, {}
        self._ids, self._subjects, self._buckets = Listings(), Listings(), Buckets()
        self._left = []
        if self._closed:
            self._buckets.due = -math.inf
        self._nbytes = self._past.nbytes()
        for key, slot in slots.items():
            slot.nbytes = state_bytes(key, slot.cells)
            self._slots[key] = slot
            self._nbytes += slot.nbytes
            self._buckets.put(key, slot)
        for key in sorted(slots):
            self._ids.add(key[:2], key[2])
            self._index(key, slots[key].cells.subject)

    def _commit(self, commit: Commit, now: float) -> Outcome:  # noqa: C901, PLR0912, PLR0915  see below
        """`folding.step`, written out for speed: what nothing bars needs no call but its changes'."""
        key = commit.key
        at = now
        slot = self._slots.get(key)
        cells = _ABSENT
        if slot is not None:
            cells = slot.cells
            if cells.deadline is not None and now >= cells.deadline:
                self._expire(key, slot)
                slot = None
                cells = _ABSENT
        if (
            commit.op
            or commit.expect is not None
            or commit.until is not None
            or commit.where
            or commit.epoch < cells.epoch
            or commit.revision is not None
            or commit.at is not None
            or commit.claim is not None
            or (slot is None and self._past.fences)
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
            slot = self._born(key, at)
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
            subject = self._about(key, subject, commit.subject)
        slot.nbytes += growth
        self._nbytes += growth
        for name in own:
            cell = fields.get(name)
            if isinstance(cell, dict) and len(cell) > LARGE and not isinstance(cell, Layered):
                fields[name] = Layered.of(cell)
        slot.cells = Cells(revision, fields, created, updated, until, 0.0, commit.epoch, subject)
        if new:
            self._slots[key] = slot  # not before it has cells: readers take no lock
            self._buckets.put(key, slot)
        elif until is not None and until < slot.bucket - 1:
            self._buckets.leave(key, slot)
            self._buckets.put(key, slot)
        if commit.op:
            slot.remember(commit, now)
        if self._nbytes > self._most:
            self._evict(key, now)
        if commit.returning is None:
            return Written(revision, None, False, updated, until)
        return Written(revision, _shown(slot.cells, commit.returning), False, updated, until)

    # ----------------------------------------------------------------------------------- whole lives

    async def lives(self, keys: Sequence[Key], now: float) -> list[WholeLife | None]:
        return self._in_turn(lambda now: [self._life(key, now) for key in keys], now)

    def _life(self, key: Key, now: float) -> WholeLife | None:
        cells = self._read(key, EVERYTHING, now)
        if cells is None:
            return None
        slot = self._slots[key]
        ops = [Op(op, *done) for op, done in (slot.ops or {}).items()]
        fields = {
            name: cell.flat() if isinstance(cell, Layered) else cell
            for name, cell in cells.fields.items()
        }
        cells = replace(cells, fields=fields)  # as plain as those of any driver
        return whole(key, cells, ops, slot.forgot, self._past.fence(key))

    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        return self._in_turn(lambda now: [self._install(life, now) for life in lives], now)

    def _install(self, life: WholeLife, now: float) -> Outcome:
        key, comes = life.key, life.cells
        old = self._slots.get(key)
        if old is not None and is_over(old.cells, now):
            self._expire(key, old)
            old = None
        head, fence = None if old is None else old.cells, self._past.fence(key)
        barred = admit_life(life, head, fence, now)
        if barred is not None:
            return barred
        slot = Slot(comes) if old is None else copy(old)
        slot.ops = {one.op: (one.number, one.intent, one.at) for one in life.ops} or None
        slot.digests = any(is_digest(one.op) for one in life.ops)
        slot.forgot = forgets(life, head, Remembered(self._past, key, old))
        slot.cells = replace(
            comes, fields=cells_within(life), skew=0.0, source="store", unchanged=False
        )
        slot.nbytes = state_bytes(key, slot.cells)
        if old is None:
            self._ids.add(key[:2], key[2])
        else:
            self._buckets.leave(key, old)
            self._unindex(key, old.cells.subject)
            self._nbytes -= old.nbytes
        held = fence_with(life, fence)
        if held != fence:
            self._nbytes += self._past.remember(key, held, now)
        self._nbytes += slot.nbytes
        if comes.subject is not None:
            self._about(key, None, comes.subject)
        self._slots[key] = slot  # in one step: whoever is interrupted before finds the old one
        self._buckets.put(key, slot)
        if self._nbytes > self._most:
            self._evict(key, now)
        return written(slot.cells)

    def _born(self, key: Key, at: float) -> Slot:
        slot = Slot(_ABSENT)
        ended = self._past.ended(key)
        if ended > at:  # it says so itself, or the clock was set back
            slot.forgot = ended
        slot.nbytes = STATE_BYTES + len(key[2])
        self._nbytes += slot.nbytes
        self._ids.add(key[:2], key[2])
        return slot

    def _barred(self, commit: Commit, slot: Slot | None, now: float) -> Outcome | None:
        """What a commit gets that is not to be applied; None if nothing bars it."""
        head = None if slot is None else slot.cells
        past = Remembered(self._past, commit.key, slot)
        look = looking({} if head is None else head.fields) if commit.where else None
        barred = admit(commit, head, past, now, look)
        want = commit.returning
        if want is None or commit.erase or slot is None or not isinstance(barred, Written):
            return barred
        return Written(barred.revision, _shown(slot.cells, want), True)

    def _erase(self, commit: Commit, slot: Slot | None, now: float) -> Written:
        stood = revision_of(None if slot is None else slot.cells)
        if slot is not None:
            self._remove(commit.key, slot, now)
        if commit.epoch:
            self._leave(commit.key, commit.epoch, now)
        if commit.op:
            self._nbytes += self._past.erase(commit, stood, now)
        return Written(stood)

    def _claim(self, commit: Commit, slot: Slot | None, now: float) -> Written:
        cells = None if slot is None else slot.cells
        fence = claimed(commit, cells, self._past.fence(commit.key), now)
        self._nbytes += self._past.remember(commit.key, fence, now)
        if slot is None or cells is None:
            return Written(ABSENT, epoch=fence.epoch)
        slot.cells = replace(cells, epoch=fence.epoch)
        want = commit.returning
        shown = None if want is None else _shown(slot.cells, want)
        return Written(cells.revision, shown, epoch=fence.epoch)

    def _leave(self, key: Key, epoch: int, at: float) -> None:
        """A state that had seen this epoch is gone from then on."""
        fence = left_behind(self._past.fence(key), epoch, at)
        self._nbytes += self._past.remember(key, fence, at)

    def _expire(self, key: Key, slot: Slot) -> None:
        self._remove(key, slot, ended_at(slot.cells))
        self._expired += 1

    def _remove(self, key: Key, slot: Slot, at: float) -> None:
        self._buckets.leave(key, slot)
        self._forget(key, slot, at)

    def _forget(self, key: Key, slot: Slot, at: float) -> None:
        """Remove a state that is in no bucket any more, and has ended at that time."""
        if slot.cells.epoch:
            self._leave(key, slot.cells.epoch, at)
        del self._slots[key]
        self._nbytes -= slot.nbytes
        if slot.nbytes > HUGE_BYTES and (values := _values(slot.cells)):
            if not self._left:
                self._buckets.hold()
            self._left += values
        if slot.ops or slot.forgot > -math.inf:  # else nobody could repeat what was done to it
            self._nbytes += self._past.end(key, slot.last(), at)
        self._unindex(key, slot.cells.subject)
        self._ids.remove(key[:2], key[2])

    def _about(self, key: Key, old: About | None, said: About) -> About | None:
        if said != old:
            self._unindex(key, old)
            self._index(key, said)
        return about_after(said)

    def _index(self, key: Key, about: About | None) -> None:
        for subject in subjects_of(about):
            self._subjects.add((key[0], key[1], subject), key[2])

    def _unindex(self, key: Key, about: About | None) -> None:
        for subject in subjects_of(about):
            self._subjects.remove((key[0], key[1], subject), key[2])

    # ------------------------------------------------------------------------------ expiry, eviction

    def _renew(self, key: Key, slot: Slot, until: float | None) -> None:
        slot.cells = replace(slot.cells, deadline=until)
        if until is not None and until < slot.bucket - 1:
            self._buckets.leave(key, slot)
            self._buckets.put(key, slot)

    def _sweep(self, now: float) -> None:
        if self._closed:
            raise Closed("the store is closed")
        if self._left:
            self._free()
        for _ in range(LOOKED_AT):
            if now < self._buckets.earliest:
                return
            found = self._buckets.next()
            if found is None:
                return
            key, slot = found
            until = slot.cells.deadline
            if until is not None and now >= until:
                self._forget(key, slot, ended_at(slot.cells))
                self._expired += 1
            else:
                self._buckets.put(key, slot)

    async def sweep(self, now: float, after: str = "") -> Swept:  # noqa: ARG002  time tells the place
        before = self._expired
        # Every call sweeps, and frees some of what huge states have left.
        more = self._in_turn(lambda _: bool(self._left) or self._buckets.earliest <= now, now)
        return Swept(self._expired - before, MORE if more else None)

    def _free(self) -> None:
        """Let go of some values of states that are gone; freeing them all at once takes long."""
        values = self._left[-1]
        del values[-FREED:]
        if not values:
            self._left.pop()
        if not self._left:
            self._buckets.let_go()

    def _evict(self, spared: Key, now: float) -> None:
        """Let go of what would expire soonest until the budget holds, but not of `spared`.

        A call looks at so many states at most; what is left to do is done by those that come next.
        Past the `SPARE` it does all that is left.
        """
        kept: Slot | None = None
        looks = LOOKED_AT
        while self._nbytes > self._budget:
            looks -= 1
            if looks < 0 and self._nbytes <= self._budget + self._budget // SPARE:
                break
            found = self._buckets.next()
            if found is None:
                break
            key, slot = found
            if key == spared:
                kept = slot
            elif bucket_of(slot) > slot.bucket:
                self._buckets.put(key, slot)  # renewed since it got here
            else:
                self._forget(key, slot, now)
                if is_over(slot.cells, now):
                    self._expired += 1
                else:
                    self._evicted += 1
        if kept is not None:
            self._buckets.put(spared, kept)

    # -------------------------------------------------------------------------------------- listing

    async def scan(self, asked: Scan, now: float) -> Page:
        listing = Listing(asked)
        after = None if asked.newest else _after(listing, asked.cursor)
        return self._in_turn(partial(self._page, asked, listing, after), now)

    def _page(self, asked: Scan, listing: Listing, after: str | None, now: float) -> Page:
        tenant, kind, prefix, limit = asked.tenant, asked.kind, asked.prefix, asked.limit
        if asked.newest:
            return newest_of(asked, self._updates(asked, now))
        low, high = (prefix if after is None else after), beyond(prefix)
        bounds = low, high, limit + 1
        if asked.subject is None:
            ids = self._ids.page((tenant, kind), *bounds, after=after is not None)
        else:
            about = (tenant, kind, asked.subject)
            ids = self._subjects.page(about, *bounds, after=after is not None)
        keys = [(tenant, kind, id) for id in ids[:limit]]
        slots = self._slots
        live = tuple(key for key in keys if not is_over(slots[key].cells, now))
        return Page(live, listing.cursor(ids[limit - 1].encode()) if len(ids) > limit else None)

    def _updates(self, asked: Scan, now: float) -> Generator[tuple[float, str]]:
        """When each state about a subject was updated, and its id."""
        tenant, kind, prefix = asked.tenant, asked.kind, asked.prefix
        slots = self._slots
        for id in self._subjects.all((tenant, kind, asked.subject or "")):
            if id.startswith(prefix):
                cells = slots[tenant, kind, id].cells
                if not is_over(cells, now):
                    yield cells.updated, id

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  it waits for other threads
        """See `Driver.drain`: calls of other threads are waited for, which take little time."""
        until = AMBIENT.monotonic() + timeout
        while self._busy or self._queued:
            if AMBIENT.monotonic() >= until:
                return False
            threading.Event().wait(LOOK_S)
        return True

    async def close(self) -> None:
        with self.lock:
            if self._busy:
                raise _busy()
            self._shut()
            self._slots.clear()
            self._buckets.clear()
            self._left.clear()
            self._ids.clear()
            self._subjects.clear()

    def _shut(self) -> None:
        self._closed = True
        self._buckets.due = -math.inf  # every call comes by `_sweep`

    def stats(self) -> Mapping[str, int | float]:
        return {
            "states": len(self._slots),
            "bytes": self._nbytes,
            "budget_bytes": self._budget,
            "expired_total": self._expired,
            "evicted_total": self._evicted,
        }


def _values(cells: Cells) -> list[list[object]]:
    """The values of the large fields, which whoever else has them keeps."""
    return [
        cell.held() if isinstance(cell, Layered) else list(cast("Items", cell))
        for cell in cells.fields.values()
        if len(cell) > FREED and cell.__class__ is not dict
    ]


def _shown(cells: Cells, want: Want) -> Cells:
    """The cells as far as they are wanted."""
    if cells.revision in want.unless:
        return replace(cells, fields={}, unchanged=True)
    if not want.cuts():
        return cells
    return replace(cells, fields=cut(cells.fields, want))


def state_bytes(key: Key, cells: Cells) -> int:
    """Roughly what a state takes."""
    return STATE_BYTES + len(key[2]) + sum(map(cell_nbytes, cells.fields.values()))


def _busy() -> Busy:
    """What a thread gets that would come in between its own call, whose lock it has already."""
    return Busy(
        "memory: called from a signal handler or finalizer in the midst of another call of the"
        " same thread; nothing was written"
    )


def _after(listing: Listing, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    try:
        return listing.place(cursor).decode()
    except UnicodeDecodeError:
        raise foreign(cursor) from None


def from_url(url: SplitResult, settings: Mapping[str, object]) -> MemoryDriver:
    """The driver for `memory://?max_bytes=256MiB`."""
    if url.netloc or url.path not in ("", "/"):
        raise ConfigError("memory:// takes no host and no path", field="url", found=url.geturl())
    return MemoryDriver(**SETTINGS.parse(settings))
