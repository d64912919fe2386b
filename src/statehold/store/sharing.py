"""A store's other API: a second store over the same driver, for callers of other threads."""

from __future__ import annotations

from statehold.backends import gathering
from statehold.clock import Clock
from statehold.driver import Driver
from statehold.engine import BlockingClock
from statehold.middleware.bridge import Blocking, Borrowed, Distant
from statehold.middleware.coalesce import Coalesce
from statehold.portal import Guest, Portal
from statehold.store.aio import AsyncStore
from statehold.store.sync import Store


class Sharing:
    """Makes stores that share with `owner` its driver, its kinds and what it knows of op ids.

    Where the driver, without what gathers commits over it, never suspends, they call it in place;
    else in the event loop of the `host`. None of them closes it.
    """

    def __init__(
        self, owner: AsyncStore, driver: Driver, clock: Clock, host: Guest | Portal | None
    ) -> None:
        self._owner = owner
        self._driver = driver
        self._clock = clock
        self._host = host
        while isinstance(driver, Coalesce):
            driver = driver.inner
        self._in_place = None if driver.suspends else driver

    def blocking(self) -> Store:
        """For synchronous callers."""
        store = Store.__new__(Store)
        store._driver, store._portal, store._sharing = self._driver, None, self
        host = self._host
        if host is None:
            store._begin(Borrowed(self._driver), self._clock, None)
        elif self._in_place is not None and isinstance(host, Guest):
            driver = Blocking(self._in_place, host.run_here, _nothing)
            store._begin(driver, self._clock, host.run)
        else:
            store._begin(Blocking(self._driver, host.run, _nothing), self._clock, host.run)
        self._share(store._async)
        return store

    def asynchronous(self) -> AsyncStore:
        """For the tasks of any event loop."""
        driver = self._in_place or self._driver
        if self._in_place is None and self._host is not None:
            driver = gathering(Distant(driver, self._host.call))
        elif driver.gather == "no":
            driver = Borrowed(driver)
        else:
            driver = gathering(driver, owns=False)
        clock = None if isinstance(self._clock, BlockingClock) else self._clock
        store = AsyncStore(driver, clock=clock)
        self._share(store)
        return store

    @staticmethod
    def end(driver: Driver) -> None:
        """Nothing is gathered any more over a driver that was handed out here."""
        if isinstance(driver, Coalesce):
            driver.end()

    def _share(self, store: AsyncStore) -> None:
        owner = self._owner
        store._kinds, store._opened, store._doubts = owner._kinds, owner._opened, owner._doubts
        store._sharing = self
        owner._sharers.add(store)


def _nothing() -> None:
    """The driver stays open."""
