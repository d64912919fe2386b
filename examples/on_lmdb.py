"""States in an LMDB folder, one row for each: the whole driver that *Write a driver* explains."""

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Generator, Iterator
from itertools import islice, takewhile
from pathlib import Path
from struct import pack as packed
from typing import Any, ClassVar
from urllib.parse import SplitResult, unquote
from weakref import WeakValueDictionary

import lmdb
from msgspec import msgpack

from statehold import driver, errors, folding
from statehold.commits import Key, subjects_of
from statehold.cursors import Listing, newest_of, page_of
from statehold.settings import Settings, boolean, duration, size

KNOWN = {
    "max_bytes": (size, 1 << 30, "Maximum size of the file."),
    "flush": (boolean, False, "Whether a commit survives a power cut too."),
    "busy_timeout": (duration, 5.0, "Maximum time to wait for another writer."),
}
decode_row = msgpack.Decoder(tuple[Key, bytes]).decode


def hashed(*names: str) -> bytes:
    """Names of any length as a part of one of LMDB's keys, which are short."""
    return hashlib.blake2b(msgpack.encode(names), digest_size=16).digest()


def place_of(key: Key) -> bytes:
    """Where a state is: a kind's lie together, and in it those whose ids begin alike."""
    return b"s" + hashed(*key[:2]) + key[2].encode()[:400] + hashed(key[2])


def indexed(key: Key, life: folding.Life) -> Generator[bytes]:
    """What leads to a row: its subjects, and when it is needed no more."""
    place, until = place_of(key), life.needed()
    for subject in subjects_of(life.head.subject) if life.head is not None else ():
        yield b"a" + hashed(*key[:2], subject) + place[17:]
    if until is not None:
        yield b"d" + packed(">d", max(until, 0.0)) + place


def following(txn: Any, start: bytes, prefix: bytes) -> Iterator[bytes]:
    """The keys from there on that begin with the prefix."""
    cursor = txn.cursor()
    places = cursor.iternext(values=False) if cursor.set_range(start) else ()
    return takewhile(lambda place: place.startswith(prefix), places)


def listed(txn: Any, asked: driver.Scan, now: float) -> Iterator[tuple[bytes, str, float]]:
    """The states of a listing that are left: where each is, its id, when it was updated."""
    kind = (asked.tenant, asked.kind)
    begins = b"s" + hashed(*kind) if asked.subject is None else b"a" + hashed(*kind, asked.subject)
    begins = start = begins + asked.prefix.encode()[:400]
    if asked.cursor is not None and not asked.newest:
        start = Listing(asked).place(asked.cursor) + b"\0"
    for place in following(txn, start, begins):
        key, record = decode_row(txn.get(b"s" + hashed(*kind) + place[17:]))
        head = folding.unpack(record).at(now).head
        if head is not None and key[2].startswith(asked.prefix):
            yield place, key[2], head.updated


def load(txn: Any, key: Key) -> folding.Life:
    """What is there of a state, and what is remembered of it."""
    found, over = txn.get(place_of(key)), float(txn.get(b"last", b"-inf"))
    return folding.Life(over=over) if found is None else folding.unpack(decode_row(found)[1])


def save(txn: Any, key: Key, old: folding.Life, new: folding.Life | None) -> None:
    """Replace what is there of a state, and what leads to it; None: it is needed no more."""
    for place in indexed(key, old):
        txn.delete(place)
    if new is None or new.needed() == float("-inf"):
        txn.delete(place_of(key))
        txn.put(b"last", repr(max(old.last(), float(txn.get(b"last", b"-inf")))).encode())
        return
    txn.put(place_of(key), msgpack.encode((key, folding.pack(new))))
    for place in indexed(key, new):
        txn.put(place, b"")


def sweep(txn: Any, now: float) -> int:
    """Let go of a few rows that nobody needs any more; of how many."""
    places = [at for at in islice(following(txn, b"d", b"d"), 16) if at < b"d" + packed(">d", now)]
    for key, record in [decode_row(txn.get(place[9:])) for place in places]:
        save(txn, key, folding.unpack(record), None)
    return len(places)


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
    features = frozenset(driver.Feature) - {driver.Feature.WHOLE_LIVES}
    gather = "tick"
    opened: ClassVar[WeakValueDictionary[tuple[int, Path], Any]] = WeakValueDictionary()
    opening = threading.Lock()

    def __init__(self, path: str, **settings: object) -> None:
        self._known = known = Settings("lmdb", KNOWN).complete(settings)
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
        env, until = self._opened(), time.monotonic() + self._known["busy_timeout"]
        with translated(), (self._at[1] / "writer").open("wb") as lock:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
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
                for at, key in enumerate(keys):
                    lives[at] = (old := load(txn, key).at(now)).renewed(want, now)
                    save(txn, key, old, lives[at])
        return [life.cells(want) for life in lives]

    async def commit(self, commits, now, *, wait=True):
        with self._writing(wait=wait) as txn:
            sweep(txn, now)
            outcomes = []
            for commit in commits:
                old = load(txn, commit.key)
                new, outcome = folding.step(old, commit, now)
                save(txn, commit.key, old, new)
                outcomes.append(outcome)
            return outcomes

    async def commit_together(self, commits, now, *, wait=True):
        with self._writing(wait=wait) as txn:
            olds = [load(txn, commit.key) for commit in commits]
            lives, outcomes = folding.step_together(olds, commits, now)
            for commit, before, after in zip(commits, olds, lives, strict=True):
                save(txn, commit.key, before, after)
        return outcomes

    async def sweep(self, now, after="", *, wait=True):
        with self._writing(wait=wait) as txn:
            return driver.Swept(gone := sweep(txn, now), "on" if gone else None)

    async def scan(self, asked, now, *, wait=True):
        with translated(), self._opened().begin() as txn:
            if asked.newest:
                return newest_of(asked, ((at, id) for _, id, at in listed(txn, asked, now)))
            return page_of(asked, ((place, id) for place, id, _ in listed(txn, asked, now)))


def from_url(url: SplitResult, settings: dict[str, object]) -> LmdbDriver:
    if url.netloc or len(url.path) < 2:
        raise errors.ConfigError("lmdb: say lmdb:///folder", field="url")
    return LmdbDriver(unquote(url.path[1:]), **settings)
