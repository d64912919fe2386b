"""`Trial`: writers at work while a store's server is killed, cut off, paused, filled or replaced.

```python
trial = Trial(lambda: AsyncStore.open(url, timeout=1.0))
async with trial:
    await trial.progress()
    server.kill()
    server.restart()
    await trial.recovered(within=2.0)
print(await trial.verify())
```

Theory of operation: every write is one commit that appends an item to a log, adds 1 to a counter
and puts its number under its writer's name in a map, so each state is a record of which commits
made it, and in which order. Nothing is deleted and nothing is cut, so the commit with revision
number n is the n-th item. A writer has one write on its way at a time and goes from state to state;
a write that failed is sent again, with the same op id, until it is acknowledged. What was
acknowledged, and what is there in the end, must then agree to the last item.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter as Count
from collections.abc import Callable
from typing import Final, Self, TypeAlias

import msgspec

from statehold.commits import Revision
from statehold.errors import Busy, Full, ReadOnly, StateholdError, Timeout, Unavailable
from statehold.fields import Counter, Log, Map
from statehold.state import State
from statehold.store import AsyncCollection, AsyncStore

Open: TypeAlias = Callable[[], AsyncStore]

MOST_ITEMS: Final = 100_000
"""In one state; a trial that writes more cannot be verified."""

NOT_WRITTEN: Final = (Busy, Full, ReadOnly)
"""Errors that promise that nothing was written."""

DOCUMENTED: Final = (Unavailable, Timeout, *NOT_WRITTEN)
"""What a store raises while its server is in trouble: exactly these, and nothing else."""


class Ledger(State, ttl=3600, kind="statehold_trial", ops=4096):
    """What the writers of a trial write to."""

    items = Log(str, keep=MOST_ITEMS, max_bytes=64)
    count = Counter()
    latest = Map(str, int, keep=1_000, max_bytes=32)


class Write(msgspec.Struct, eq=False):
    """One write, and what became of it."""

    writer: int
    number: int
    state: int
    revision: Revision | None = None
    """With which it was acknowledged."""
    at: float = 0.0
    """And when, in seconds since the beginning."""
    error: type[Exception] | None = None
    """What it was answered with last, if it was not."""

    @property
    def item(self) -> str:
        """What it appends, and its op id."""
        return f"{self.writer} {self.number}"


class Report(msgspec.Struct, frozen=True):
    """What a trial has found. Times are seconds."""

    acknowledged: int
    unknown: int
    """Writes that were never acknowledged …"""
    unknown_written: int
    """… and how many of them are there."""
    lost: int
    """Acknowledged, and not there …"""
    lost_span: float
    """… and the time within which they had all been acknowledged."""
    errors: dict[str, int]
    """How often each error came, by its name."""
    slowest: float
    """The longest call."""
    recovery: float
    """From healing until every writer had been acknowledged; the longest of several."""
    silence: float
    """After the first healing, the longest time in which no writer was acknowledged."""
    stats: dict[str, int | float]
    """Of the drivers, added up, when the writers had ended."""


class Trial:
    """Writers that write until the block ends, and then the proof that all is as they were told."""

    def __init__(
        self,
        *opens: Open,
        writers: int = 64,
        states: int = 8,
        repeats: bool = True,
        patience: float = 20.0,
        pause: float = 0.002,
        bound: float | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            opens: What opens a store: one for each client, among whom the writers are divided.
            writers: How many there are.
            states: How many states they write to.
            repeats: Whether a write that failed is sent again with its op id. If not, what became
                of it stays unknown, and the writer goes on with its next one.
            patience: Seconds for which a write is sent again, for which `progress` waits, and within
                which the store must answer at the beginning and in the end.
            pause: Seconds between two writes of a writer.
            bound: The longest that a call may take; None: any time.
        """
        self._opens = opens
        self.name = secrets.token_hex(4)
        """What the ids of its states begin with."""
        self._count = writers
        self._states = states
        self._repeats = repeats
        self._patience = patience
        self._pause = pause
        self._bound = bound
        self._began = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False
        self._healed_at: float | None = None
        self._last = self._silence = self._slowest = self._recovery = 0.0
        self.stores: list[AsyncStore] = []
        """The clients, while the block is open."""
        self.writes: list[Write] = []
        """Every write, in the order in which they were first sent."""
        self.acknowledged = [0] * writers
        """How many writes of each writer have been acknowledged so far."""
        self.errors: list[tuple[float, type[Exception]]] = []
        """Each error that a call raised, and when, in seconds since the beginning."""
        self.stats: dict[str, int | float] = {}
        """Of the drivers, added up, once the writers have ended."""

    async def __aenter__(self) -> Self:
        self.stores = [open_() for open_ in self._opens]
        ledgers = [store.collection(Ledger) for store in self.stores]
        try:
            for each in ledgers:
                # Which makes the store ready for what it is to hold.
                await self._patiently(each, self._id(0))
        except BaseException:
            for store in self.stores:
                await store.close()
            raise
        self._began = time.monotonic()
        self._tasks = [
            asyncio.create_task(self._work(writer, ledgers[writer % len(ledgers)]))
            for writer in range(self._count)
        ]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ending = True
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for store in self.stores:
            for name, value in store.driver.stats().items():
                self.stats[name] = self.stats.get(name, 0) + value
            await store.close()
        if kind is None:
            for error in ended:
                if error is not None:
                    raise error

    # -------------------------------------------------------------------------- while they write

    async def progress(self, rounds: int = 1, *, within: float | None = None) -> None:
        """So many more writes of every writer have been acknowledged.

        Raises:
            AssertionError: they were not `within` these seconds (None: the patience).
        """
        wanted = [count + rounds for count in self.acknowledged]
        await self._until(
            lambda: all(map(int.__ge__, self.acknowledged, wanted)),
            self._patience if within is None else within,
            f"every writer to have {rounds} more writes acknowledged",
        )

    async def failing(self, *kinds: type[Exception]) -> None:
        """One more call has failed, with one of these errors if any are named.

        Raises:
            AssertionError: none has within the patience.
        """
        seen = len(self.errors)
        await self._until(
            lambda: any(kind in kinds or not kinds for _, kind in self.errors[seen:]),
            self._patience,
            f"a call to fail with {' or '.join(kind.__name__ for kind in kinds) or 'any error'}",
        )

    async def recovered(self, *, within: float) -> float:
        """The server is well from now on. Returns after how many seconds every writer knew.

        Raises:
            AssertionError: some writer had no write acknowledged `within` these seconds.
        """
        start = time.monotonic()
        if self._healed_at is None:
            self._healed_at = self._last = start
        await self.progress(within=within)
        took = time.monotonic() - start
        self._recovery = max(self._recovery, took)
        return took

    async def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            for task in self._tasks:
                if task.done():
                    task.result()  # raises what ended it
            assert time.monotonic() < end, (
                f"waited {seconds:g} s for {what}; the last errors: {self.errors[-3:]}"
            )
            await asyncio.sleep(0.005)

    # ------------------------------------------------------------------------------- the writers

    async def _work(self, writer: int, ledgers: AsyncCollection[Ledger]) -> None:
        number = 0
        while not self._ending:
            write = Write(writer, number, (writer + number) % self._states)
            self.writes.append(write)
            await self._see_through(write, ledgers)
            number += 1
            await asyncio.sleep(self._pause)

    async def _see_through(self, write: Write, ledgers: AsyncCollection[Ledger]) -> None:
        end = time.monotonic() + self._patience
        while True:
            start = time.monotonic()
            try:
                write.revision = await ledgers.apply(
                    self._id(write.state),
                    Ledger.items.append(write.item),
                    Ledger.count.add(1),
                    Ledger.latest.put(str(write.writer), write.number),
                    op=write.item,
                )
            except StateholdError as error:
                write.error = type(error)
                self.errors.append((time.monotonic() - self._began, type(error)))
                if type(error) not in DOCUMENTED:
                    raise AssertionError(f"a write was answered with {error!r}") from error
            self._slowest = max(self._slowest, time.monotonic() - start)
            if write.revision is not None:
                break
            if not self._repeats:
                await asyncio.sleep(0.01)
                return
            assert time.monotonic() < end, (
                f"{write.item!r} was not acknowledged for {self._patience:g} s, last {write.error}"
            )
            await asyncio.sleep(random.uniform(0.005, 0.05))
        now = time.monotonic()
        if self._healed_at is not None:
            self._silence = max(self._silence, now - self._last)
        self._last = now
        write.at = now - self._began
        self.acknowledged[write.writer] += 1

    def _id(self, state: int) -> str:
        return f"{self.name}-{state}"

    async def _patiently(self, ledgers: AsyncCollection[Ledger], id: str) -> Ledger:
        """A ledger, asked for until there is an answer or the patience ends: time is for the writers."""
        end = time.monotonic() + self._patience
        while True:
            try:
                return await ledgers.get(id)
            except DOCUMENTED:
                if time.monotonic() >= end:
                    raise
            await asyncio.sleep(0.05)

    # ------------------------------------------------------------------------------- in the end

    async def verify(self, *, may_lose: bool = False) -> Report:
        """Every state agrees with what the writers were told, after the block has ended.

        Every acknowledged write is there once, at the place that its revision says; a write that
        was never acknowledged is there at most once, and not at all if the error said that nothing
        was written; counter, map and log of a state tell of the same commits; each writer's writes
        are in its order. No call took longer than the bound.

        Args:
            may_lose: For failovers with asynchronous replication: what is not there any more is
                counted, and all else has to hold.

        Raises:
            AssertionError: they do not agree.
        """
        async with self._opens[0]() as store:
            ledgers = store.collection(Ledger)
            found = [
                await self._patiently(ledgers, self._id(state)) for state in range(self._states)
            ]
        lost: list[Write] = []
        unknown_written = 0
        for state, ledger in enumerate(found):
            writes = [write for write in self.writes if write.state == state]
            gone, uncertain = check(writes, ledger, may_lose=may_lose)
            lost += gone
            unknown_written += uncertain
        times = [write.at for write in lost]
        acknowledged = sum(self.acknowledged)
        report = Report(
            acknowledged,
            len(self.writes) - acknowledged,
            unknown_written,
            len(lost),
            max(times, default=0.0) - min(times, default=0.0),
            dict(Count(kind.__name__ for _, kind in self.errors)),
            self._slowest,
            self._recovery,
            self._silence,
            self.stats,
        )
        assert acknowledged, "nothing was acknowledged, so nothing is proved"
        assert self._bound is None or self._slowest <= self._bound, (
            f"a call took {self._slowest:.2f} s; the bound is {self._bound:g}"
        )
        return report


def check(
    writes: list[Write], ledger: Ledger, *, may_lose: bool = False
) -> tuple[list[Write], int]:
    """Which acknowledged writes a state has lost, and how many it has that no one knew of.

    Raises AssertionError unless it is as `Trial.verify` says.
    """
    items = list(ledger.items)
    assert len(items) < MOST_ITEMS, "too many writes for one state: the oldest were cut"
    places = {item: place for place, item in enumerate(items, 1)}
    twice = len(items) - len(places)
    assert not twice, f"{twice} writes are there twice, such as {Count(items).most_common(1)}"
    sent = {write.item: write for write in writes}
    assert places.keys() <= sent.keys(), f"nobody wrote {places.keys() - sent.keys()}"
    acknowledged = [(write, write.revision) for write in writes if write.revision is not None]
    lost = [write for write, _ in acknowledged if write.item not in places]
    assert may_lose or not lost, (
        f"{len(lost)} acknowledged writes are lost, such as {[write.item for write in lost[:3]]}"
    )
    unknown = [write for write in writes if write.revision is None]
    for write in unknown:
        assert write.error not in NOT_WRITTEN or write.item not in places, (
            f"{write.item!r} was answered with {write.error}, and is there"
        )
    # The three fields tell of the same commits, in the same order.
    assert ledger.count == len(items), f"the counter says {ledger.count}, the log {len(items)}"
    assert not items or ledger.meta.revision.number == len(items), "there are commits of nobody"
    newest: dict[int, int] = {}
    last: dict[str, int] = {}
    for item in items:
        write = sent[item]
        last[str(write.writer)] = write.number
        if write.revision is None:
            continue  # it may have been executed long after it was sent
        assert write.number > newest.get(write.writer, -1), f"{item!r} is out of order"
        newest[write.writer] = write.number
    assert dict(ledger.latest) == last, "the map and the log disagree"
    for write, revision in acknowledged:
        assert places.get(write.item) in {revision.number, None}, (
            f"{write.item!r} was acknowledged as {revision}, and is number {places[write.item]}"
        )
    return lost, sum(write.item in places for write in unknown)
