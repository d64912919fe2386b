"""A process is forked between two commits: the child has whole states, and no lock that stays shut.

The threads that hold a lock do not come along, and what they were about to finish stays half done.
So whoever forks waits for the commits under way, which take microseconds.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Final, Protocol
from weakref import WeakSet

PATIENCE: Final = 1.0
"""Seconds to wait for a lock. It takes longer where a signal handler forks in the midst of a commit
of its own thread."""


class Lockable(Protocol):
    """What keeps states under a lock."""

    @property
    def lock(self) -> threading.RLock:
        """What every commit holds."""
        ...

    def renew_lock(self, *, whole: bool) -> None:
        """Have a lock that nobody holds; unless the states are whole, be closed."""


class _Held(threading.local):
    def __init__(self) -> None:
        self.drivers: list[tuple[Lockable, bool]] = []


_drivers: WeakSet[Lockable] = WeakSet()
_held = _Held()


def fork_between_commits(driver: Lockable) -> None:
    """From now on nobody forks while a commit of the driver is under way."""
    _drivers.add(driver)


def _before() -> None:
    for driver in list(_drivers):
        # It is noted before: what an interrupt leaves locked is let go of nevertheless.
        _held.drivers.append((driver, False))
        _held.drivers[-1] = driver, driver.lock.acquire(timeout=PATIENCE)


def _in_parent() -> None:
    while _held.drivers:
        with suppress(RuntimeError):  # it is not this thread's: somebody else was long at it
            _held.drivers[-1][0].lock.release()
        _held.drivers.pop()


def _in_child() -> None:
    drivers, _held.drivers = _held.drivers, []
    for driver, locked in drivers:
        driver.renew_lock(whole=locked)


if hasattr(os, "register_at_fork"):
    # Whatever a signal handler raises in them ends them, and is only shown. So what lets go is there
    # twice: if the first is interrupted on the way in, the second does it.
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
    os.register_at_fork(after_in_parent=_in_parent)
