"""`AsyncLease` and `Lease`: the right to be the only writer of a state, for a while.

A lease is an epoch that is claimed (see `Driver.commit`): the store gives it out to one at a time, for
so many seconds by its own clock, and it is higher than any before. Whoever holds it says it with each
write (`epoch=lease.epoch`). What someone writes who was stopped for longer than that is `Fenced` once
another holds it, whatever they believe themselves.
"""

from __future__ import annotations

import contextlib
import math
import threading
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from statehold.changes import Commit
from statehold.clock import ManualClock
from statehold.driver import FencedOff, Outcome, Written
from statehold.engine import new_op, run_now
from statehold.errors import Fenced, Invalid, Leased, StateholdError, Unavailable
from statehold.schema import Lifetime
from statehold.settings import duration
from statehold.store.outcomes import error_of

if TYPE_CHECKING:
    import asyncio

    from statehold.store.collection import AsyncCollection

LONGEST_PAUSE: Final = 0.25
"""Seconds between two tries to get what another holds, who may give it back at any time."""

RENEWALS: Final = 3
"""How often a lease is renewed in its time: two may fail."""


class AsyncLease:
    """`async with` it: held within the block, renewed meanwhile, given back at its end."""

    def __init__(
        self,
        collection: AsyncCollection[Any],
        id: str,
        ttl: Lifetime,
        wait: Lifetime,
        *,
        renews: bool,
    ) -> None:
        self.id = id
        self.ttl = _seconds(ttl)
        """For how many seconds it is held from its newest renewal on."""
        self.renews = renews
        self._wait = _checked_wait(wait)
        self._collection = collection
        self._clock = collection.store.clock
        self._op = ""
        self._epoch = 0
        self._until = -math.inf
        self._lost: StateholdError | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending = self._asleep = False

    @property
    def epoch(self) -> int:
        """What to say with each write: `epoch=lease.epoch`. Raises `Invalid` where none is held."""
        if not self._epoch:
            raise Invalid("the lease is not held: `async with` it", field="lease", found=self.id)
        return self._epoch

    @property
    def left(self) -> float:
        """For how many seconds it is surely held still; 0 if it may have run out or was lost."""
        if not self._epoch or self._lost is not None:
            return 0.0
        return max(0.0, self._until - self._clock.monotonic())

    @property
    def lost(self) -> bool:
        """Whether another is known to hold it now: what is written with this epoch is `Fenced`."""
        return self._lost is not None

    async def __aenter__(self) -> Self:
        await self.acquire()
        if self.renews and not isinstance(self._clock, ManualClock):
            import asyncio

            self._ending, self._asleep = False, True
            self._task = asyncio.get_running_loop().create_task(self._renew_on())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if task is not None:
            import asyncio

            self._ending = True
            if self._asleep:  # a renewal is let end: it must not come after it was given back
                task.cancel()
            await asyncio.wait([task])
        lost = await self.release()
        if lost is not None and kind is None:
            raise lost

    async def acquire(self) -> None:
        """Claim it, having waited as long as was said. Raises `Leased` if another holds it still."""
        self._epoch, self._lost = 0, None
        self._op = new_op()
        monotonic = self._clock.monotonic
        began, tries = monotonic(), 0
        while True:
            sent = monotonic()
            outcome = await self._claim(self.ttl, 0)
            if isinstance(outcome, Written):
                self._epoch, self._until = outcome.epoch, sent + self.ttl
                return
            if not isinstance(outcome, FencedOff):
                raise self._error(outcome)
            left = began + self._wait - monotonic()
            if left <= 0:
                raise self._leased(outcome)
            # Those who wait together do not ask together: their op ids differ.
            spread = 0.5 + int(self._op[:4], 16) / 0x20000
            pause = min(LONGEST_PAUSE, 0.005 * 2 ** min(tries, 10)) * spread
            await self._clock.sleep(min(pause, left, outcome.left + 0.001))
            tries += 1

    async def renew(self) -> None:
        """It is held for its whole `ttl` from now on. Raises `Fenced` if another has claimed it.

        One that has run out is renewed as long as nobody has: no other writer was there meanwhile.
        """
        sent = self._clock.monotonic()
        outcome = await self._claim(self.ttl, self.epoch)
        if not isinstance(outcome, Written):
            self._lost = self._error(outcome)
            raise self._lost
        self._until = sent + self.ttl

    async def release(self) -> StateholdError | None:
        """Give it back. Returns why it was lost, if another has it; it is not held in any case.

        A store that cannot answer is not waited for: then it runs out by itself.
        """
        epoch, self._epoch = self._epoch, 0
        if not epoch or self._lost is not None:
            return self._lost
        with contextlib.suppress(Unavailable):
            outcome = await self._claim(0.0, epoch)
            if not isinstance(outcome, Written):
                self._lost = self._error(outcome)
        return self._lost

    async def _claim(self, seconds: float, epoch: int) -> Outcome:
        collection = self._collection
        await collection._ready()
        commit: Commit = collection._asking.claim(self.id, seconds, epoch, self._op)
        return (await collection._send([commit]))[0]

    async def _renew_on(self) -> None:
        """Renew until it is lost. Where the store cannot answer it is asked again in the next turn."""
        while not self._ending:
            self._asleep = True
            await self._clock.sleep(self.ttl / RENEWALS)
            self._asleep = False
            try:
                await self.renew()
            except Unavailable:
                continue
            except StateholdError:
                return  # which `lost` says

    def _error(self, outcome: Outcome) -> StateholdError:
        key = self._collection._asking.key(self.id)
        if isinstance(outcome, FencedOff):
            return Fenced(
                f"{key[1]} {self.id!r:.80}: the lease was lost, epoch {outcome.epoch} has been"
                " claimed or written by another",
                key=key,
                found=outcome.epoch,
            )
        return error_of(self._collection.schema, key, outcome)

    def _leased(self, outcome: FencedOff) -> Leased:
        key = self._collection._asking.key(self.id)
        return Leased(
            f"{key[1]} {self.id!r:.80}: another holds the lease, epoch {outcome.epoch}, for"
            f" {outcome.left:.3g} s more unless it is renewed; wait longer than {self._wait:g} s, or try"
            " again",
            key=key,
            field="wait",
            expected=self._wait,
            found=outcome.epoch,
            left=outcome.left,
        )


class Lease:
    """`with` it: see `AsyncLease`. It is renewed by a thread of its own."""

    def __init__(self, core: AsyncLease) -> None:
        self._core = core
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def id(self) -> str:
        """Of which state."""
        return self._core.id

    @property
    def ttl(self) -> float:
        """See `AsyncLease.ttl`."""
        return self._core.ttl

    @property
    def epoch(self) -> int:
        """See `AsyncLease.epoch`."""
        return self._core.epoch

    @property
    def left(self) -> float:
        """See `AsyncLease.left`."""
        return self._core.left

    @property
    def lost(self) -> bool:
        """See `AsyncLease.lost`."""
        return self._core.lost

    def acquire(self) -> None:
        """See `AsyncLease.acquire`."""
        run_now(self._core.acquire())

    def renew(self) -> None:
        """See `AsyncLease.renew`."""
        run_now(self._core.renew())

    def release(self) -> StateholdError | None:
        """See `AsyncLease.release`."""
        return run_now(self._core.release())

    def __enter__(self) -> Self:
        self.acquire()
        if self._core.renews and not isinstance(self._core._clock, ManualClock):
            self._over.clear()
            self._thread = threading.Thread(
                target=self._renew_on, name=f"lease of {self.id:.40}", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._over.set()
            thread.join()
        lost = self.release()
        if lost is not None and kind is None:
            raise lost

    def _renew_on(self) -> None:
        while not self._over.wait(self.ttl / RENEWALS):
            try:
                self.renew()
            except Unavailable:
                continue
            except StateholdError:
                return  # which `lost` says


def _seconds(ttl: Lifetime) -> float:
    try:
        return duration(ttl)
    except ValueError as error:
        raise Invalid(f"ttl: {error}", field="ttl", found=ttl) from None


def _checked_wait(wait: object) -> float:
    """In seconds. Raises `Invalid` unless it is a span or a number of them, infinity included."""
    if isinstance(wait, timedelta):
        wait = wait.total_seconds()
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not wait >= 0:
        raise Invalid(
            f"wait must be a span or seconds, 0 or more, not {wait!r:.40}", field="wait", found=wait
        )
    return float(wait)
