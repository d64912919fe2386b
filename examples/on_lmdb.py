"""States in an LMDB folder, one row for each: the whole driver that *Write a driver* explains."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import math
import os
import threading
import time
from collections.abc import Generator, Sequence
from struct import pack as packed
from typing import Any, ClassVar
from urllib.parse import SplitResult, unquote
from weakref import WeakValueDictionary, finalize

import lmdb
from msgspec import msgpack

from statehold import driver, errors, folding
from statehold.changes import Commit, Key, Want
from statehold.cursors import Listing
from statehold.driver import Cells, Feature, Layout, Outcome, Page
from statehold.folding import Life
from statehold.settings import Settings, boolean, duration, size

SETTINGS = Settings(
    "lmdb",
    {
        "max_bytes": (size, 1 << 30, "Maximum size of the file."),
        "flush": (boolean, False, "Whether a commit survives a power cut too."),
        "busy_timeout": (duration, 5.0, "Maximum time to wait for another writer."),
    },
)
SWEPT = 16  # of the rows that nobody needs any more, so many go with each call that writes
LAST = b"last"  # the key of when a row that is gone last had a commit
decode_row = msgpack.Decoder(tuple[Key, bytes]).decode


def hashed(*names: str) -> bytes:
    """Names of any length as a part of one of LMDB's keys, which are short."""
    return hashlib.blake2b(msgpack.encode(names), digest_size=16).digest()


def place_of(key: Key) -> bytes:
    """Where a state is: its tenant and kind, then its id, so that a kind can be listed."""
    return b"s" + hashed(*key[:2]) + hashed(key[2])


def indexed(key: Key, life: Life) -> Generator[bytes]:
    """What leads to a row: its subject, and when it is needed no more."""
    place, until = place_of(key), life.needed()
    if life.head is not None and life.head.subject is not None:
        yield b"a" + hashed(*key[:2], life.head.subject) + place[17:]
    if until is not None:
        yield b"d" + packed(">d", max(until, 0.0)) + place


def load(txn: Any, key: Key) -> Life:
    """What is there of a state, and what is remembered of it."""
    found = txn.get(place_of(key))
    if found is None:
        return Life(over=float(txn.get(LAST, b"-inf")))
    return folding.unpack(decode_row(found)[1])


def save(txn: Any, key: Key, old: Life, new: Life | None) -> None:
    """Replace what is there of a state, and what leads to it; None: it is needed no more."""
    for place in indexed(key, old):
        txn.delete(place)
    if new is None or new.needed() == -math.inf:
        txn.delete(place_of(key))
        txn.put(LAST, repr(max(old.last(), float(txn.get(LAST, b"-inf")))).encode())
        return
    txn.put(place_of(key), msgpack.encode((key, folding.pack(new))))
    for place in indexed(key, new):
        txn.put(place, b"")


def sweep(txn: Any, now: float) -> None:
    """Let go of some of what nobody needs any more."""
    due = txn.cursor()
    due.set_range(b"d")
    for place in list(itertools.islice(due.iternext(values=False), SWEPT)):
        if not b"d" <= place < b"d" + packed(">d", now):
            return
        key, record = decode_row(txn.get(place[9:]))
        save(txn, key, folding.unpack(record), None)


@contextlib.contextmanager
def translated() -> Generator[None]:
    try:
        yield
    except lmdb.MapFullError as error:
        raise errors.Full("lmdb: max_bytes is used up; nothing was written") from error
    except (lmdb.CorruptedError, lmdb.InvalidError) as error:
        raise errors.Corrupted(f"lmdb: what is stored cannot be read ({error})") from error
    except (lmdb.Error, OSError) as error:
        raise errors.Unavailable(f"lmdb: {error}") from error


class Folder:
    """What a process has open of a folder, once: LMDB forbids to open it twice."""

    opened: ClassVar[WeakValueDictionary[tuple[int, str], Folder]] = WeakValueDictionary()
    guard = threading.Lock()

    def __init__(self, path: str, max_bytes: int, *, flush: bool) -> None:
        self.env = lmdb.open(path, map_size=max_bytes, sync=flush, max_readers=1024)
        self.lock = os.open(f"{path}/writer", os.O_RDWR | os.O_CREAT)
        self.turn = threading.Lock()
        finalize(self, os.close, self.lock)  # once the last of its drivers is closed

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
            self._folder = Folder.opened.get(self._at)
            if self._folder is None:
                self._folder = Folder(self._at[1], known["max_bytes"], flush=known["flush"])
                Folder.opened[self._at] = self._folder

    async def open(self, layout: Layout, *, wait: bool = True) -> None:
        self._opened()

    async def close(self) -> None:
        self._folder = None

    def _opened(self) -> Folder:
        if self._folder is None or self._at[0] != os.getpid():
            raise errors.Closed("lmdb: closed, or opened before a fork: open it in this process")
        return self._folder

    @contextlib.contextmanager
    def _reading(self) -> Generator[Any]:
        with translated(), self._opened().env.begin() as txn:
            yield txn

    @contextlib.contextmanager
    def _writing(self, *, wait: bool) -> Generator[Any]:
        """A transaction that writes. LMDB by itself waits for other writers for ever."""
        folder, until = self._opened(), time.monotonic() + self._patience
        mine = folder.turn.acquire(timeout=self._patience if wait else 0)
        try:
            while not mine or not folder.locked():
                if not wait:
                    raise driver.WouldWait
                if time.monotonic() >= until:
                    raise errors.Busy("lmdb: others were writing all the time; nothing was written")
                time.sleep(0.001)
            with translated(), folder.env.begin(write=True) as txn:
                yield txn
        finally:
            if mine:
                fcntl.lockf(folder.lock, fcntl.LOCK_UN)
                folder.turn.release()

    async def read(
        self, keys: Sequence[Key], want: Want, now: float, *, wait: bool = True
    ) -> list[Cells | None]:
        with self._reading() as txn:
            lives = [load(txn, key).at(now) for key in keys]
        if any(life.renewed(want, now) is not life for life in lives):
            with self._writing(wait=wait) as txn:
                for n, key in enumerate(keys):
                    stands = load(txn, key).at(now)
                    lives[n] = stands.renewed(want, now)
                    save(txn, key, stands, lives[n])
        return [life.cells(want) for life in lives]

    async def commit(
        self, commits: Sequence[Commit], now: float, *, wait: bool = True
    ) -> list[Outcome]:
        with self._writing(wait=wait) as txn:
            sweep(txn, now)
            outcomes: list[Outcome] = []
            for commit in commits:
                old = load(txn, commit.key)
                new, outcome = folding.step(old, commit, now)
                if new is not old:
                    save(txn, commit.key, old, new)
                outcomes.append(outcome)
            return outcomes

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
                key, record = decode_row(txn.get(home + last[17:]))
                if folding.unpack(record).at(now).head is not None:
                    keys.append(key)
                more = place.next()
        return Page(tuple(keys))


def from_url(url: SplitResult, settings: dict[str, object]) -> LmdbDriver:
    """The driver of `lmdb:///folder`, registered as an entry point."""
    if url.netloc or len(url.path) < 2:
        raise errors.ConfigError("lmdb: say lmdb:///folder", field="url")
    return LmdbDriver(unquote(url.path[1:]), **settings)
