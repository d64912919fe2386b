"""`AsyncLease` and `Lease`: the right to be the only writer of a state, for a while.

A lease is an epoch that is claimed (see `Driver.commit`): the store gives it out to one at a time, for
so many seconds by its own clock, and it is higher than any before. Whoever holds it says it with each
write (`epoch=lease.epoch`). What someone writes who was stopped for longer than that is `Fenced` once
another holds it, whatever they believe themselves.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Coroutine
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from statehold.clock import ManualClock, pause
from statehold.commits import Commit
from statehold.driver import Driver, FencedOff, Outcome, Written, told
from statehold.engine import new_op, run_now
from statehold.errors import Closed, Fenced, Invalid, Leased, StateholdError, Unavailable
from statehold.schema import Lifetime
from statehold.settings import duration
from statehold.store.base import CollectionBase
from statehold.store.outcomes import error_of

if TYPE_CHECKING:
    import asyncio

FIRST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.25
"""Seconds between two tries to get what another holds, at most: at first, and in the end.

It may be given back at any time.
"""

RENEWALS: Final = 3
"""How often a lease is renewed in its time: two may fail."""

LONGEST_END: Final = 5.0
"""Seconds for which a cancelled caller waits until what it had claimed is given back."""


class AsyncLease:
    """`async with` it: held within the block, renewed meanwhile, given back at its end.

    It is for one holder at a time, in the process that has acquired it.
    """

    def __init__(
        self,
        collection: CollectionBase[Any],
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
        self._doubted = ""  # the op id of a claim of which nobody heard whether it was given
        self._epoch = 0
        self._until = -math.inf
        self._lost: StateholdError | None = None
        self._used: dict[str, object] = {}  # "by" whom, from `acquire` to `release`
        self._claiming: asyncio.Task[Outcome] | None = None
        self._process = 0
        self._task: asyncio.Task[None] | None = None
        self._ending = self._asleep = False

    @property
    def epoch(self) -> int:
        """What to say with each write: `epoch=lease.epoch`. Raises `Invalid` where none is held."""
        if not self._epoch:
            text = "the lease is not held: enter its block, or call `acquire`"
            raise Invalid(text, field="lease", found=self.id)
        return self._epoch

    @property
    def left(self) -> float:
        """For how many seconds it is surely held still; 0 if it may have run out or was lost."""
        if not self._epoch or self._lost is not None:
            return 0.0
        return max(0.0, self._until - self._clock.monotonic())

    @property
    def lost(self) -> bool:
        """Whether a renewal, or giving it back, has met another who holds it since."""
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
        try:
            if task is not None:
                import asyncio

                self._ending = True
                if self._asleep:  # a renewal is let end: it must not come after it was given back
                    task.cancel()
                await asyncio.wait([task])
        finally:
            await _to_its_end(self._give_back(), self._loop())
        if self._lost is not None and kind is None:
            raise self._lost

    async def acquire(self) -> None:
        """Claim it, having waited as long as was said. Raises `Leased` if another holds it still.

        Raises `Invalid` where it has been acquired and not been released. Cancelled, it gives back
        what it may have been given. Where the store does not answer it may have been given too, and is
        held for its `ttl`; this very object, acquired again, has it then.
        """
        me, asked, doubted = object(), False, ""
        try:
            # Whose it is can be told, wherever an interrupt comes.
            if self._used.setdefault("by", me) is not me:
                raise self._in_use()  # noqa: TRY301  an interrupt may come even here
            self._epoch, self._lost, self._op, self._claiming = 0, None, "", None
            doubted, self._doubted = self._doubted, ""
            self._process = os.getpid()
            asked = True
            await self._acquire(doubted or new_op())
            self._collection.store._leases.add(self)
        except BaseException as error:
            if self._used.get("by") is me:
                try:
                    if asked and isinstance(error, Unavailable):  # it may have been claimed
                        self._doubted = doubted or self._op
                    elif asked and not isinstance(error, StateholdError):  # likewise
                        await _to_its_end(self._unheard(), self._loop())
                finally:
                    self._used.clear()
            raise

    async def _acquire(self, op: str) -> None:
        await self._collection._ready()
        self._op = op
        monotonic = self._clock.monotonic
        began, tries = monotonic(), 0
        while True:
            sent = monotonic()
            outcome = await self._first_claim()
            if isinstance(outcome, Written):
                self._epoch, self._until = outcome.epoch, sent + self.ttl
                return
            if not isinstance(outcome, FencedOff):
                raise self._error(outcome)
            left = began + self._wait - monotonic()
            if left <= 0:
                raise self._leased(outcome)
            again = pause(tries, FIRST_PAUSE, LONGEST_PAUSE, least=0.5)
            await self._clock.sleep(min(again, left, outcome.left + 0.001))
            tries += 1

    async def _first_claim(self) -> Outcome:
        """Where tasks are cancelled, in one of its own: what is cancelled may yet take effect later."""
        loop = self._loop()
        if loop is None:
            return await self._claim(self.ttl, 0)
        import asyncio

        self._claiming = loop.create_task(self._claim(self.ttl, 0))
        return await asyncio.shield(self._claiming)

    def _loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop whose tasks call; None where the caller is synchronous, whatever its thread runs."""
        if not self._collection.store._turns.in_tasks:
            return None
        import asyncio

        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            return None

    async def _unheard(self) -> None:
        """What may have been claimed is given back. Where the store cannot answer it runs out."""
        self._epoch = 0
        self._collection.store._leases.discard(self)
        with contextlib.suppress(StateholdError):
            if self._claiming is not None:
                import asyncio

                await asyncio.wait([self._claiming])
                failed = self._claiming.exception()  # then it may have been claimed
                if failed is None and not isinstance(self._claiming.result(), Written):
                    return
            if self._op:
                await self._claim(0.0, 0)

    async def renew(self) -> None:
        """It is held for its whole `ttl` from now on. Raises `Fenced` if another has claimed it.

        One that has run out is renewed as long as nobody has: no other writer was there meanwhile.
        Raises `Invalid` where it is not held, also in a process forked off from the one that holds it.
        """
        epoch = self.epoch
        if self._process != os.getpid():
            text = "the lease is held by the process that this one was forked off from"
            raise Invalid(text, field="lease", found=self.id)
        sent = self._clock.monotonic()
        await self._collection._ready()
        outcome = await self._claim(self.ttl, epoch)
        if not isinstance(outcome, Written):
            self._lost = self._error(outcome)
            raise self._lost
        self._until = sent + self.ttl

    async def release(self) -> None:
        """Give it back. Raises `Fenced` if another has had it; it is not held in any case.

        A store that cannot answer is not waited for: then it runs out by itself. In a process
        forked off from the one that holds it nothing is given back.
        """
        await _to_its_end(self._give_back(), self._loop())
        if self._lost is not None:
            raise self._lost

    async def _give_back(self, driver: Driver | None = None) -> None:
        """It is not held any more; `_lost` says whether another has it. Asked of its store's driver."""
        epoch, self._epoch = self._epoch, 0
        if not epoch:
            return
        try:
            if self._lost is None and self._process == os.getpid():
                with contextlib.suppress(Unavailable, Closed):
                    outcome = await self._claim(0.0, epoch, driver)
                    if not isinstance(outcome, Written):
                        self._lost = self._error(outcome)
        except StateholdError:
            self._used.clear()
            raise
        except BaseException:  # cut short, so that it may be held still, and can be released again
            self._epoch = epoch
            raise
        self._used.clear()
        self._collection.store._leases.discard(self)

    async def _claim(self, seconds: float, epoch: int, driver: Driver | None = None) -> Outcome:
        collection = self._collection
        commit: Commit = collection._asking.claim(self.id, seconds, epoch, self._op)
        driver = driver or collection._driver
        try:
            return told(await driver.commit([commit], collection._now()))[0]
        except Unavailable as error:
            error.key = commit.key
            raise

    async def _renew_on(self) -> None:
        """Renew until it is lost. Where the store cannot do it, it is asked again in the next turn."""
        while not self._ending:
            self._asleep = True
            await self._clock.sleep(self.ttl / RENEWALS)
            self._asleep = False
            try:
                await self.renew()
            except StateholdError as error:
                if self._is_over(error):
                    return

    def _is_over(self, error: StateholdError) -> bool:
        """Whether renewing it has no use any more after this error of a renewal.

        It has while the store cannot answer, and while it lets nobody in: passwords and rights change.
        """
        return self.lost or isinstance(error, Closed | Invalid)

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

    def _in_use(self) -> Invalid:
        return Invalid(
            "the lease is in use: who is to hold it besides makes one of their own by `lease(…)`;"
            " what was lost is released before it is acquired anew",
            field="lease",
            found=self.id,
        )

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
    """`with` it: nobody else holds a lease of this state meanwhile; a thread of its own renews it.

    `collection.lease(id, ttl=…)` makes one, and `epoch` goes into each write. More: `AsyncLease`.
    """

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
        """For how many seconds it is held from its newest renewal on."""
        return self._core.ttl

    @property
    def epoch(self) -> int:
        """What to say with each write: `epoch=lease.epoch`. Raises `Invalid` where none is held.

        See `AsyncLease.epoch`.
        """
        return self._core.epoch

    @property
    def left(self) -> float:
        """For how many seconds it is surely held still; 0 if it may have run out or was lost.

        See `AsyncLease.left`.
        """
        return self._core.left

    @property
    def lost(self) -> bool:
        """Whether a renewal, or giving it back, has met another who holds it since.

        See `AsyncLease.lost`.
        """
        return self._core.lost

    def acquire(self) -> None:
        """Claim it, having waited as long as was said. Raises `Leased` if another holds it still.

        See `AsyncLease.acquire`.
        """
        run_now(self._core.acquire())

    def renew(self) -> None:
        """It is held for its whole `ttl` from now on. Raises `Fenced` if another has claimed it.

        See `AsyncLease.renew`.
        """
        run_now(self._core.renew())

    def release(self) -> None:
        """Give it back. Raises `Fenced` if another has had it; it is not held in any case.

        See `AsyncLease.release`.
        """
        run_now(self._core.release())

    def __enter__(self) -> Self:
        self.acquire()
        try:
            if self._core.renews and not isinstance(self._core._clock, ManualClock):
                self._over.clear()
                self._thread = threading.Thread(
                    target=self._renew_on, name=f"lease of {self.id:.40}", daemon=True
                )
                self._thread.start()
        except BaseException:  # the block is not entered, and so not left
            self._over.set()
            self.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        thread, self._thread = self._thread, None
        try:
            if thread is not None:
                self._over.set()
                thread.join()
        finally:
            try:
                self.release()
            except Fenced:
                if kind is None:
                    raise

    def _renew_on(self) -> None:
        while not self._over.wait(self.ttl / RENEWALS):
            try:
                self.renew()
            except StateholdError as error:
                if self._core._is_over(error):
                    return


_ending: set[asyncio.Task[Any]] = set()


async def _to_its_end(
    work: Coroutine[Any, Any, object], loop: asyncio.AbstractEventLoop | None
) -> None:
    """Do it, also where the caller is cancelled meanwhile: then it goes on in the background.

    A synchronous caller, who has no `loop`, is not cancelled.
    """
    if loop is None:
        await work
        return
    import asyncio

    task = loop.create_task(work)
    _ending.add(task)
    task.add_done_callback(_ended)
    try:
        await asyncio.wait([task], timeout=LONGEST_END)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=LONGEST_END)  # it may be the loop's end
        raise
    if task.done():
        task.result()


def _ended(task: asyncio.Task[Any]) -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()  # who was waiting for it has it; nobody else asks


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
