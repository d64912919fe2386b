"""States in the memory of this process: for development, tests and the lowest latency.

A state's cells are replaced whole by each commit and never change once somebody has read them, so
reading copies nothing. Those of a large field share what did not change: see `layered`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import SplitResult

from statehold.clock import AMBIENT
from statehold.commits import EVERYTHING, Commit, Key, Want
from statehold.cursors import Listing, foreign
from statehold.driver import Cells, Driver, Feature, Outcome, Page, Scan, Swept, WholeLife
from statehold.drivers.memory.committing import States
from statehold.drivers.memory.forking import fork_between_commits
from statehold.errors import Busy, ConfigError, StateholdError
from statehold.settings import Settings, size

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
        self._states = States(max_bytes)
        self._queued: set[object] = set()  # calls that wait for the lock, or list
        self._busy = False  # whether the thread that has the lock is in the midst of a call
        self.renew_lock(whole=True)
        fork_between_commits(self)

    def renew_lock(self, *, whole: bool) -> None:
        """In a process just forked off: nobody holds the lock. Unless all is whole, it is closed."""
        self.lock = threading.RLock()
        if self._busy or not whole:
            self._states.shut()
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
                    if now >= self._states.buckets.due:
                        self._states.sweep(now)
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
        states = self._states
        if len(keys) == 1 and now < states.buckets.due and want is EVERYTHING:
            # No lock: a slot's cells are replaced whole.
            slot = states.slots.get(keys[0])
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
                if now >= states.buckets.due:
                    states.sweep(now)
                return [states.read(key, want, now) for key in keys]
            except BaseException as error:
                self._mend(error)
                raise
            finally:
                self._busy = False

    def _read_all(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        return [self._states.read(key, want, now) for key in keys]

    # ----------------------------------------------------------------------------------- committing

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        states = self._states
        if self._busy:  # by another thread
            return self._in_turn(partial(self._commit_all, commits), now)
        # An interrupt cannot come between taking it and being bound to give it back.
        with self.lock:
            if self._busy:
                raise _busy()
            try:
                self._busy = True
                if now >= states.buckets.due:
                    states.sweep(now)
                if len(commits) == 1:
                    return [states.commit(commits[0], now)]
                return [states.commit(commit, now) for commit in commits]
            except BaseException as error:
                self._mend(error)
                raise
            finally:
                self._busy = False

    async def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        return self._in_turn(partial(self._states.commit_together, commits), now)

    def _commit_all(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        return [self._states.commit(commit, now) for commit in commits]

    # ----------------------------------------------------------------------------------- whole lives

    async def lives(self, keys: Sequence[Key], now: float) -> list[WholeLife | None]:
        return self._in_turn(lambda now: [self._states.life(key, now) for key in keys], now)

    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        return self._in_turn(lambda now: [self._states.install(life, now) for life in lives], now)

    # ------------------------------------------------------------------------------ expiry, eviction

    async def sweep(self, now: float, after: str = "") -> Swept:  # noqa: ARG002  time tells the place
        states = self._states
        before = states.expired
        # Every call sweeps, and frees some of what huge states have left.
        more = self._in_turn(lambda _: bool(states.left) or states.buckets.earliest <= now, now)
        return Swept(states.expired - before, MORE if more else None)

    # -------------------------------------------------------------------------------------- listing

    async def scan(self, asked: Scan, now: float) -> Page:
        listing = Listing(asked)
        after = None if asked.newest else _after(listing, asked.cursor)
        return self._in_turn(partial(self._states.page, asked, listing, after), now)

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
            self._states.shut()
            self._states.clear()

    def stats(self) -> Mapping[str, int | float]:
        states = self._states
        return {
            "states": len(states.slots),
            "bytes": states.nbytes,
            "budget_bytes": states.budget,
            "expired_total": states.expired,
            "evicted_total": states.evicted,
        }

    def _mend(self, error: BaseException) -> None:
        """After an interrupt (Ctrl-C, a time limit): each state is as before or after."""
        if not isinstance(error, StateholdError):
            self._states.mend()


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
