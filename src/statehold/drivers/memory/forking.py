"""A process is forked between two commits: the child has whole states, and no lock that stays shut.

The threads that hold a lock do not come along, and what they were about to finish stays half done.
So whoever forks waits for the commits under way, which take microseconds.
"""

from __future__ import annotations

import os
import threading
from typing import Final, Protocol
from weakref import WeakSet

PATIENCE: Final = 1.0
"""Seconds to wait for a lock. It takes longer where a signal handler forks in the midst of a commit
of its own thread."""


class Lockable(Protocol):
    """What keeps states under a lock."""

    @property
    def lock(self) -> threading.Lock | threading.RLock:
        """What every commit holds."""
        ...

    def renew_lock(self, *, whole: bool) -> None:
        """Have a lock that nobody holds; unless the states are whole, be closed."""


class _Held(threading.local):
    drivers: tuple[tuple[Lockable, bool], ...] = ()


_drivers: WeakSet[Lockable] = WeakSet()
_held = _Held()


def fork_between_commits(driver: Lockable) -> None:
    """From now on nobody forks while a commit of the driver is under way."""
    _drivers.add(driver)


def _before() -> None:
    _held.drivers = tuple((one, one.lock.acquire(timeout=PATIENCE)) for one in list(_drivers))


def _in_parent() -> None:
    for driver, locked in _held.drivers:
        if locked:
            driver.lock.release()
    _held.drivers = ()


def _in_child() -> None:
    for driver, locked in _held.drivers:
        driver.renew_lock(whole=locked)
    _held.drivers = ()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
