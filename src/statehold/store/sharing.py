"""A store's other API: what a second store over the same driver needs, for callers of other threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from statehold.backends import gathering
from statehold.clock import Clock
from statehold.driver import Driver
from statehold.engine import BlockingClock
from statehold.middleware.bridge import Blocking, Borrowed, Distant
from statehold.middleware.coalesce import Coalesce
from statehold.middleware.following import Following
from statehold.portal import Guest, Portal
from statehold.store.opened import Opened

if TYPE_CHECKING:
    from statehold.middleware.bridge import Run


class Sharing:
    """Makes drivers for stores that share with `owner` its driver, its kinds and what it knows of op ids.

    Where the driver, without what gathers commits over it, never suspends, they call it in place;
    else in the event loop of the `host`. None of them closes it.
    """

    def __init__(
        self, owner: Opened, driver: Driver, clock: Clock, host: Guest | Portal | None
    ) -> None:
        self.owner = owner
        self.driver = driver
        self._clock = clock
        self._host = host
        while isinstance(driver, Coalesce | Following):
            driver = driver.inner
        self._in_place = None if driver.suspends else driver

    def for_threads(self) -> tuple[Driver, Clock, Run | None]:
        """Driver and clock for synchronous callers, and what runs coroutines for the clock."""
        host = self._host
        if host is None:
            return Borrowed(self.driver), self._clock, None
        if self._in_place is not None and isinstance(host, Guest):
            return Blocking(self._in_place, host.run_here, _nothing), self._clock, host.run
        return Blocking(self.driver, host.run, _nothing), self._clock, host.run

    def for_tasks(self) -> tuple[Driver, Clock | None]:
        """Driver and clock for the tasks of any event loop."""
        driver = self._in_place or self.driver
        if self._in_place is None and self._host is not None:
            driver = gathering(Distant(driver, self._host.call))
        elif driver.gather == "no":
            driver = Borrowed(driver)
        else:
            driver = gathering(driver, owns=False)
        return driver, None if isinstance(self._clock, BlockingClock) else self._clock

    @staticmethod
    def end(driver: Driver) -> None:
        """Nothing is gathered any more over a driver that was handed out here."""
        if isinstance(driver, Coalesce):
            driver.end()


def _nothing() -> None:
    """The driver stays open."""
