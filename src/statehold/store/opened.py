"""What a store, its collections and its leases have in common: a driver in use, until it is closed."""

from __future__ import annotations

from collections.abc import MutableSet
from typing import Final, Protocol, Self
from weakref import WeakSet, WeakValueDictionary

from statehold.clock import AMBIENT, Clock, SystemClock
from statehold.driver import Driver, Layout, Swept
from statehold.errors import Closed, Invalid
from statehold.schema import Lifetime
from statehold.settings import duration
from statehold.store.doubts import Doubts
from statehold.store.turns import Turns

DRAIN_SECONDS: Final = 10.0
"""How long `drain` waits for calls that are under way, unless it is told."""
SWEEP_SECONDS: Final = 10.0
"""How long `sweep` goes on unless it is told."""


class Held(Protocol):
    """A lease that is held, to be given back before the store is closed."""

    async def _give_back(self, driver: Driver | None = None) -> None: ...


class Counted(Protocol):
    """A collection, which looks only now and then whether its store is open."""

    _open: bool
    _left: int


class Opened:
    """A driver in use: which kinds are open, what is in doubt, which leases are held; until closed.

    It makes no collections and knows none of their classes. `AsyncStore` is one, and each of its
    collections has it as `store`.
    """

    def __init__(self, driver: Driver, *, clock: Clock | None = None) -> None:
        self.driver: Driver = driver
        self.clock: Clock = clock or SystemClock()
        # Weak: there may be a tenant for each customer.
        self._collections: WeakValueDictionary[tuple[type, str], Counted] = WeakValueDictionary()
        self._kinds: dict[str, Layout] = {}
        self._opened: set[str] = set()
        self._doubts = Doubts(driver)
        self._closed = False
        self._released = False
        self._turns = Turns()
        self._sharers: WeakSet[Opened] = WeakSet()
        self._leases: MutableSet[Held] = WeakSet()

    async def check(self) -> None:
        """Raise `Unavailable` unless the store can answer now."""
        await self._ready()
        await self.driver.check(self.clock.now())

    async def _ready(self, layout: Layout | None = None) -> int:
        """Open the kind if it is not, and give others a turn. For how many calls that will do."""
        if self._closed:
            raise Closed("the store is closed")
        calls = await self._turns.take()
        if layout is not None and layout.kind not in self._opened:
            await self.driver.open(layout)
            self._opened.add(layout.kind)
        return calls

    async def sweep(self, timeout: Lifetime = SWEEP_SECONDS, *, after: str | None = None) -> Swept:  # noqa: ASYNC109
        """Clear away what has ended, of every kind and tenant; how many states, and where to go on.

        Expired states are absent at once, whether they are swept or not; this is about the room that they
        take. Commits sweep as much as they make, so it is needed only where few or none come any
        more. Others have their turn meanwhile: it goes in short pieces. After about `timeout` (a
        time span or seconds) it ends with `after`, from which another call goes on; None says that
        everything was looked at, and as an argument that it begins. Raises `Invalid` for a `timeout` that is not over 0.
        """
        seconds = _seconds(timeout)
        began = AMBIENT.monotonic()
        removed = 0
        while True:
            await self._ready()
            swept = await self.driver.sweep(self.clock.now(), after or "")
            removed += swept.removed
            if swept.after is None or AMBIENT.monotonic() - began >= seconds:
                return Swept(removed, swept.after)
            after = swept.after
            await self.clock.sleep(0)

    async def drain(self, timeout: Lifetime = DRAIN_SECONDS) -> bool:  # noqa: ASYNC109  a limit
        """Finish the calls that are under way; new ones are `Closed`. Whether that was done in time.

        Nothing is cancelled; to close the store is still to be done, and ends what is left. What takes
        several calls, as a session does, ends with `Closed` where its next call would come. Leases
        that are held are given back, so that others need not wait for them to run out. Raises
        `Invalid` unless `timeout` is a time span or a number of seconds, over 0.
        """
        seconds = _seconds(timeout)
        self._end_all()
        left = seconds
        began = AMBIENT.monotonic()
        for lease in [one for store in (self, *self._sharers) for one in store._leases]:
            if left > 0:
                await lease._give_back(self.driver)
                left = seconds - (AMBIENT.monotonic() - began)
        return await self.driver.drain(max(0.0, left))

    async def close(self) -> None:
        """Everything is released. Closing twice is fine; using it afterwards is `Closed`."""
        if not self._released:
            self._released = True
            self._end_all()
            for sharer in list(self._sharers):
                sharer._part()
            await self.driver.close()

    def _end_all(self) -> None:
        """Every call of this store, and of those that share with it, is `Closed` from now on."""
        self._end()
        for sharer in list(self._sharers):
            sharer._end()

    def _end(self) -> None:
        """Every call is `Closed` from now on."""
        self._closed = True
        for collection in list(self._collections.values()):
            collection._open, collection._left = False, 0

    def _join(self, owner: Opened) -> None:
        """The kinds that are open, and what is known of op ids, are the owner's, whose driver this one has."""
        self._kinds, self._opened, self._doubts = owner._kinds, owner._opened, owner._doubts
        owner._sharers.add(self)

    def _part(self) -> None:
        """The store that this one shares with has ended. Called before their driver is closed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _seconds(timeout: Lifetime) -> float:
    try:
        return duration(timeout)
    except ValueError as error:
        raise Invalid(f"timeout: {error}", field="timeout", found=timeout) from None
