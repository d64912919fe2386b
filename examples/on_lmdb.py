"""States in an LMDB folder, one row for each: the whole driver that *Write a driver* explains."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import threading
import time
from collections.abc import Generator, Sequence
from typing import Any, ClassVar
from urllib.parse import SplitResult, unquote

import lmdb
from msgspec import DecodeError, Struct, msgpack
from msgspec.structs import replace

from statehold import changes, driver, errors
from statehold.changes import ABSENT, HOLD_SECONDS, PRESENT, Commit, Items, Key, Revision, Want
from statehold.cursors import Listing
from statehold.driver import Cells, Feature, Layout, Outcome, Page, Written
from statehold.settings import Settings, boolean, duration, size

SETTINGS = Settings(
    "lmdb",
    {
        "max_bytes": (size, 1 << 30, "Maximum size of the file."),
        "flush": (boolean, False, "Whether a commit survives a power cut too."),
        "busy_timeout": (duration, 5.0, "Maximum time to wait for another writer; then `Busy`."),
    },
)
SWEPT = 16  # of the rows that are over, so many go with each call that writes
ENDED = b"ended"  # the key of when a life that has ended last had a commit


class Row(Struct, array_like=True):
    """A life of a state; or an erasure, which has nothing but its op id."""

    key: Key
    revision: Revision
    created: float
    updated: float = 0.0
    deadline: float | None = None
    epoch: int = 0
    subject: str | None = None
    cells: dict[str, bytes] = {}  # encoded one by one: a broken one leaves the others
    ops: dict[str, tuple[Revision, int, float]] = {}  # the newest: what it made, intent, time
    forgotten: float = -1.0  # the latest time of those that are no longer in `ops`
    erased: bool = False

    @property
    def place(self) -> bytes:
        return place_of(self.key, next(iter(self.ops)) if self.erased else None)

    def over(self, now: float) -> bool:
        return self.deadline is not None and now >= self.deadline


decode_row = msgpack.Decoder(Row).decode
decode_cell = msgpack.Decoder(dict[str, bytes | int | float] | list[bytes]).decode


def hashed(*names: str) -> bytes:
    """A name of any length as a part of one of LMDB's keys, which are short."""
    return hashlib.blake2b(msgpack.encode(names), digest_size=16).digest()


def place_of(key: Key, op: str | None = None) -> bytes:
    """Where a state is, or an erasure of it."""
    place = hashed(*key[:2]) + hashed(key[2])
    return b"s" + place if op is None else b"e" + place + hashed(op)


def renewed(row: Row, want: Want, now: float) -> Row:
    until = changes.deadline(row.created, now, *want.renew)
    return (
        replace(row, deadline=until) if changes.moves(until, row.deadline, want.renew[0]) else row
    )


def cells_of(row: Row, want: Want) -> Cells:
    fields: dict[str, changes.Cell] = {}
    corrupted: list[str] = []
    for name in row.cells if want.fields is None else row.cells.keys() & set(want.fields):
        try:
            cell = decode_cell(row.cells[name])
        except DecodeError:
            corrupted.append(name)
            continue
        tail = want.tail_of(name)
        if isinstance(cell, list):
            cell = Items(cell if tail is None else cell[max(0, len(cell) - tail) :])
        fields[name] = cell
    head = (row.created, row.updated, row.deadline, 0.0, row.epoch, row.subject)
    return Cells(row.revision, fields, *head, corrupted=tuple(corrupted))


@contextlib.contextmanager
def translated() -> Generator[None]:
    try:
        yield
    except lmdb.MapFullError as error:
        raise errors.Full("lmdb: max_bytes is used up; nothing was written") from error
    except (lmdb.CorruptedError, lmdb.InvalidError, DecodeError) as error:
        raise errors.Corrupted(f"lmdb: what is stored cannot be read ({error})") from error
    except (lmdb.Error, OSError) as error:
        raise errors.Unavailable(f"lmdb: {error}") from error


class Folder:
    """What a process has open of a folder, once: LMDB forbids to open it twice."""

    opened: ClassVar[dict[tuple[int, str], Folder]] = {}
    guard = threading.Lock()

    def __init__(self, path: str, max_bytes: int, *, flush: bool) -> None:
        self.env = lmdb.open(path, map_size=max_bytes, sync=flush, max_readers=1024)
        self.lock = os.open(f"{path}/writer", os.O_RDWR | os.O_CREAT)
        self.turn, self.users = threading.Lock(), 0

    def locked(self) -> bool:
        with contextlib.suppress(BlockingIOError, PermissionError):
            return fcntl.lockf(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB) is None
        return False


class LmdbDriver(driver.WaitingDriver):
    features = frozenset(Feature)
    gather = "tick"

    def __init__(self, path: str, **settings: object) -> None:
        known = {name: SETTINGS.default(name) for name in SETTINGS.known} | SETTINGS.parse(settings)
        self._at, self._patience = (os.getpid(), os.path.realpath(path)), known["busy_timeout"]
        with translated(), Folder.guard:
            if self._at not in Folder.opened:
                made = Folder(self._at[1], known["max_bytes"], flush=known["flush"])
                Folder.opened[self._at] = made
            self._folder: Folder | None = Folder.opened[self._at]
            self._folder.users += 1

    async def open(self, layout: Layout, *, wait: bool = True) -> None:
        self._opened()

    def _opened(self) -> Folder:
        if self._folder is None or self._at[0] != os.getpid():
            raise errors.Closed("lmdb: closed, or opened before a fork: open it in this process")
        return self._folder

    async def close(self) -> None:
        with Folder.guard:
            folder, self._folder = self._folder, None
            if folder is None or self._at[0] != os.getpid():
                return
            folder.users -= 1
            if not folder.users:
                del Folder.opened[self._at]
                folder.env.close()
                os.close(folder.lock)

    @contextlib.contextmanager
    def _reading(self) -> Generator[Any]:
        with translated(), self._opened().env.begin() as txn:
            yield txn

    @contextlib.contextmanager
    def _writing(self, *, wait: bool) -> Generator[Any]:
        """A transaction that writes. LMDB by itself waits for other writers for ever."""
        folder, until = self._opened(), time.monotonic() + self._patience
        if not folder.turn.acquire(timeout=self._patience if wait else 0):
            raise self._busy(wait=wait)
        try:
            while not folder.locked():
                if not wait or time.monotonic() >= until:
                    raise self._busy(wait=wait)
                time.sleep(0.001)
            try:
                with translated(), folder.env.begin(write=True) as txn:
                    yield txn
            finally:
                fcntl.lockf(folder.lock, fcntl.LOCK_UN)
        finally:
            folder.turn.release()

    def _busy(self, *, wait: bool) -> Exception:
        told = f"lmdb: others were writing for {self._patience:g} s; nothing was written"
        return errors.Busy(told) if wait else driver.WouldWait()

    async def check(self, now: float, *, wait: bool = True) -> None:
        with self._reading():
            pass

    async def read(
        self, keys: Sequence[Key], want: Want, now: float, *, wait: bool = True
    ) -> list[Cells | None]:
        with self._reading() as txn:
            found = [self._row(txn, place_of(key)) for key in keys]
        rows = [None if row is None or row.over(now) else row for row in found]
        if want.renew is not None:
            late = [row for row in rows if row is not None and renewed(row, want, now) is not row]
            if late:
                with self._writing(wait=wait) as txn:
                    for row in late:
                        # A commit made meanwhile has renewed as it wished, or it is the next life.
                        stands = self._row(txn, row.place)
                        if stands is not None and stands.revision == row.revision:
                            self._save(txn, stands, renewed(stands, want, now))
                            row.deadline = renewed(stands, want, now).deadline
        return [None if row is None else cells_of(row, want) for row in rows]

    async def commit(
        self, commits: Sequence[Commit], now: float, *, wait: bool = True
    ) -> list[Outcome]:
        with self._writing(wait=wait) as txn:
            self._sweep(txn, now)
            return [self._commit(txn, commit, now) for commit in commits]

    def _commit(  # noqa: C901  the contract's last step
        self, txn: Any, commit: Commit, now: float
    ) -> Outcome:
        row = self._row(txn, place_of(commit.key))
        if row is not None and row.over(now):
            row = self._save(txn, row, None)
        outcome = self._barred(txn, commit, row, now)
        if outcome is not None:
            return outcome
        stood = ABSENT if row is None else row.revision
        if commit.erase:
            self._save(txn, row, None)
            if commit.op:
                ops = {commit.op: (stood, commit.intent, now)}
                until = now + HOLD_SECONDS
                self._save(txn, None, Row(commit.key, stood, now, now, until, ops=ops, erased=True))
            return Written(stood)
        old = row or Row(commit.key, Revision(changes.new_incarnation(), 0), now)
        touched = tuple({change.field for change in commit.changes})
        held = cells_of(old, Want(touched))
        broken = set(held.corrupted)
        for change in commit.changes:
            if change.field in broken and change != changes.Drop(change.field):
                return driver.Refused(change.field, "type", "what can be read", "something else")
            broken.discard(change.field)
        try:
            folded = changes.fold(held.fields, commit.changes)
        except changes.Refusal as no:
            return driver.Refused(no.field, no.reason, no.limit, no.found)
        cells = {name: cell for name, cell in old.cells.items() if name not in touched}
        for name, cell in folded.items():
            if cell:
                cells[name] = msgpack.encode(cell if isinstance(cell, dict) else list(cell))
        new = replace(
            old,
            revision=Revision(old.revision.incarnation, old.revision.number + 1),
            updated=now,
            deadline=changes.deadline(old.created, now, commit.ttl, commit.max_age),
            epoch=commit.epoch,
            subject=old.subject if commit.subject is None else commit.subject,
            cells=cells,
        )
        if commit.op:
            new.ops = {**old.ops, commit.op: (new.revision, commit.intent, now)}
            while len(new.ops) > commit.ops:
                new.forgotten = max(new.forgotten, new.ops.pop(next(iter(new.ops)))[2])
        self._save(txn, row, new)
        return Written(new.revision, commit.returning and cells_of(new, commit.returning))

    def _barred(  # noqa: C901, PLR0911  the contract's steps 2 to 6
        self, txn: Any, commit: Commit, row: Row | None, now: float
    ) -> Outcome | None:
        stood = ABSENT if row is None else row.revision
        erasure = self._row(txn, place_of(commit.key, commit.op)) if commit.op else None
        for known in (erasure, row):
            if known is not None and commit.op in known.ops:
                first, intent, _ = known.ops[commit.op]
                outcome = driver.recalled(commit, first, intent, erased=known.erased)
                if isinstance(outcome, Written) and commit.returning and row is not None:
                    return replace(outcome, returned=cells_of(row, commit.returning))
                return outcome
        if commit.op and commit.since is not None:
            forgotten = [-1.0] if row is None else [row.forgotten]
            if row is None or row.created >= commit.since:
                forgotten.append(struct.unpack(">d", txn.get(ENDED, bytes(8)))[0])
            if commit.erase:
                forgotten.append(now - HOLD_SECONDS)
            if max(forgotten) >= commit.since:
                return driver.Doubtful()
        if commit.until is not None and now > commit.until:
            return driver.Late()
        if row is not None and commit.epoch < row.epoch:
            return driver.FencedOff(row.epoch)
        if commit.expect is None or commit.expect == (PRESENT if row is not None else ABSENT):
            return None
        return None if commit.expect == stood != ABSENT else driver.Conflicted(stood)

    def _row(self, txn: Any, place: bytes) -> Row | None:
        found = txn.get(place)
        return None if found is None else decode_row(found)

    def _save(self, txn: Any, old: Row | None, new: Row | None) -> None:
        """Replace a row by another one, and all that leads to it."""
        for row, change in ((old, txn.delete), (new, lambda key: txn.put(key, b""))):
            if row is None:
                continue
            if row.deadline is not None:
                change(b"d" + struct.pack(">d", row.deadline) + row.place)
            if row.subject is not None:
                change(b"a" + hashed(*row.key[:2], row.subject) + row.place[17:])
        if new is not None:
            txn.put(new.place, msgpack.encode(new))
        elif old is not None:
            txn.delete(old.place)
            if not old.erased:
                ended = struct.unpack(">d", txn.get(ENDED, bytes(8)))[0]
                txn.put(ENDED, struct.pack(">d", max(ended, old.updated)))

    def _sweep(self, txn: Any, now: float) -> None:
        cursor = txn.cursor()
        due = []
        more = cursor.set_range(b"d")
        while more and cursor.key()[:1] == b"d" and len(due) < SWEPT:
            if struct.unpack(">d", cursor.key()[1:9])[0] > now:
                break
            due.append(cursor.key())
            more = cursor.next()
        for key in due:
            self._save(txn, self._row(txn, key[9:]), None)

    async def scan(
        self,
        tenant: str,
        kind: str,
        *,
        subject: str | None,
        cursor: str | None,
        limit: int,
        now: float,
        wait: bool = True,
    ) -> Page:
        listing, home = Listing(tenant, kind, subject), b"s" + hashed(tenant, kind)
        prefix = home if subject is None else b"a" + hashed(tenant, kind, subject)
        last = prefix if cursor is None else listing.place(cursor)
        keys: list[Key] = []
        with self._reading() as txn:
            place = txn.cursor()
            more = place.set_range(last if cursor is None else last + b"\0")
            while more and place.key().startswith(prefix):
                if len(keys) == limit:
                    return Page(tuple(keys), listing.cursor(last))
                last = place.key()
                row = self._row(txn, home + last[17:])
                if row is not None and not row.over(now):
                    keys.append(row.key)
                more = place.next()
        return Page(tuple(keys))


def from_url(url: SplitResult, settings: dict[str, object]) -> LmdbDriver:
    """The driver of `lmdb:///folder`, registered as an entry point."""
    if url.netloc or len(url.path) < 2:
        raise errors.ConfigError("lmdb: say lmdb:///folder", field="url")
    return LmdbDriver(unquote(url.path[1:]), **settings)
