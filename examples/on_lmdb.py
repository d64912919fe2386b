"""States in an LMDB folder, one row for each: the whole driver that *Write a driver* explains."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from struct import pack as packed
from typing import IO, Any, ClassVar
from urllib.parse import SplitResult, unquote
from weakref import WeakValueDictionary

import lmdb
from msgspec import msgpack

from statehold import driver, errors, folding
from statehold.changes import Key
from statehold.cursors import Listing
from statehold.driver import Feature, Page
from statehold.settings import Settings, boolean, duration, size

SETTINGS = Settings(
    "lmdb",
    {
        "max_bytes": (size, 1 << 30, "Maximum size of the file."),
        "flush": (boolean, False, "Whether a commit survives a power cut too."),
        "busy_timeout": (duration, 5.0, "Maximum time to wait for another writer."),
    },
)
LAST = b"last"  # the key of when a row that is gone last had a commit
decode_row = msgpack.Decoder(tuple[Key, bytes]).decode


def hashed(*names: str) -> bytes:
    """Names of any length as a part of one of LMDB's keys, which are short."""
    return hashlib.blake2b(msgpack.encode(names), digest_size=16).digest()


def place_of(key: Key) -> bytes:
    """Where a state is: its tenant and kind, then its id, so that a kind can be listed."""
    return b"s" + hashed(*key[:2]) + hashed(key[2])


def indexed(key: Key, life: folding.Life) -> Generator[bytes]:
    """What leads to a row: its subject, and when it is needed no more."""
    place, until = place_of(key), life.needed()
    if life.head is not None and life.head.subject is not None:
        yield b"a" + hashed(*key[:2], life.head.subject) + place[17:]
    if until is not None:
        yield b"d" + packed(">d", max(until, 0.0)) + place


def following(txn: Any, start: bytes, prefix: bytes) -> Iterator[bytes]:
    """The keys from there on that begin with the prefix."""
    cursor = txn.cursor()
    places = cursor.iternext(values=False) if cursor.set_range(start) else ()
    return itertools.takewhile(lambda place: place.startswith(prefix), places)


def load(txn: Any, key: Key) -> folding.Life:
    """What is there of a state, and what is remembered of it."""
    found = txn.get(place_of(key))
    if found is None:
        return folding.Life(over=float(txn.get(LAST, b"-inf")))
    return folding.unpack(decode_row(found)[1])


def save(txn: Any, key: Key, old: folding.Life, new: folding.Life | None) -> None:
    """Replace what is there of a state, and what leads to it; None: it is needed no more."""
    for place in indexed(key, old):
        txn.delete(place)
    if new is None or new.needed() == float("-inf"):
        txn.delete(place_of(key))
        txn.put(LAST, repr(max(old.last(), float(txn.get(LAST, b"-inf")))).encode())
        return
    txn.put(place_of(key), msgpack.encode((key, folding.pack(new))))
    for place in indexed(key, new):
        txn.put(place, b"")


def sweep(txn: Any, now: float) -> None:
    """Let go of a few rows that nobody needs any more."""
    for place in list(itertools.islice(following(txn, b"d", b"d"), 16)):
        if place < b"d" + packed(">d", now):
            key, record = decode_row(txn.get(place[9:]))
            save(txn, key, folding.unpack(record), None)


def locked(lock: IO[bytes]) -> bool:
    """Whether it is ours now."""
    with contextlib.suppress(BlockingIOError):
        return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB) is None
    return False


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


class LmdbDriver(driver.WaitingDriver):
    features = frozenset(Feature)
    gather = "tick"
    opened: ClassVar[WeakValueDictionary[tuple[int, Path], Any]] = WeakValueDictionary()
    opening = threading.Lock()

    def __init__(self, path: str, **settings: object) -> None:
        known = SETTINGS.complete(settings)
        self._patience = known["busy_timeout"]
        self._at = at = (os.getpid(), Path(path).resolve())
        how = {"map_size": known["max_bytes"], "sync": known["flush"], "max_readers": 1024}
        with translated(), self.opening:  # once in a process: LMDB forbids more
            self._env = self.opened.get(at) or lmdb.open(path, **how)
            self.opened[at] = self._env

    async def open(self, layout, *, wait=True):
        self._opened()

    async def close(self):
        self._env = None

    def _opened(self) -> Any:
        if self._env is None or self._at[0] != os.getpid():
            raise errors.Closed("lmdb: closed, or opened before a fork: open it in this process")
        return self._env

    @contextlib.contextmanager
    def _writing(self, *, wait: bool) -> Generator[Any]:
        """A transaction that writes. LMDB by itself waits for other writers for ever."""
        env, until = self._opened(), time.monotonic() + self._patience
        with translated(), (self._at[1] / "writer").open("wb") as lock:
            while not locked(lock):
                if not wait:
                    raise driver.WouldWait
                if time.monotonic() >= until:
                    raise errors.Busy("lmdb: others were writing all the time; nothing was written")
                time.sleep(0.001)
            try:
                with env.begin(write=True) as txn:
                    yield txn
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)  # a child that was forked meanwhile has it too

    async def read(self, keys, want, now, *, wait=True):
        with translated(), self._opened().begin() as txn:
            lives = [load(txn, key).at(now) for key in keys]
        if any(life.renewed(want, now) is not life for life in lives):
            with self._writing(wait=wait) as txn:
                olds = [load(txn, key).at(now) for key in keys]
                lives = [old.renewed(want, now) for old in olds]
                for key, old, new in zip(keys, olds, lives, strict=True):
                    save(txn, key, old, new)
        return [life.cells(want) for life in lives]

    async def commit(self, commits, now, *, wait=True):
        with self._writing(wait=wait) as txn:
            sweep(txn, now)
            outcomes = []
            for commit in commits:
                old = load(txn, commit.key)
                new, outcome = folding.step(old, commit, now)
                if new is not old:
                    save(txn, commit.key, old, new)
                outcomes.append(outcome)
            return outcomes

    async def commit_together(self, commits, now, *, wait=True):
        with self._writing(wait=wait) as txn:
            sweep(txn, now)
            olds = [load(txn, commit.key) for commit in commits]
            lives, outcomes = folding.step_together(olds, commits, now)
            for commit, old, new in zip(commits, olds, lives, strict=True):
                if new is not old:
                    save(txn, commit.key, old, new)
            return outcomes

    async def scan(self, tenant, kind, *, subject, cursor, limit, now, wait=True):
        listing, home = Listing(tenant, kind, subject), b"s" + hashed(tenant, kind)
        prefix = home if subject is None else b"a" + hashed(tenant, kind, subject)
        last, keys = prefix if cursor is None else listing.place(cursor), []
        with translated(), self._opened().begin() as txn:
            for place in following(txn, last if cursor is None else last + b"\0", prefix):
                if len(keys) == limit:
                    return Page(tuple(keys), listing.cursor(last))
                last, (key, record) = place, decode_row(txn.get(home + place[17:]))
                if folding.unpack(record).at(now).head is not None:
                    keys.append(key)
        return Page(tuple(keys))


def from_url(url: SplitResult, settings: dict[str, object]) -> LmdbDriver:
    """The driver of `lmdb:///folder`, registered as an entry point."""
    if url.netloc or len(url.path) < 2:
        raise errors.ConfigError("lmdb: say lmdb:///folder", field="url")
    return LmdbDriver(unquote(url.path[1:]), **settings)
