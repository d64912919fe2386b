"""Turns for an event loop's other tasks, between calls that never suspend."""

from __future__ import annotations

import sys
import threading
from typing import ClassVar, Final

from statehold.clock import AMBIENT

TURN_S: Final = 0.004
"""How long the calls of one event loop go on without any other task having had a turn."""
CALLS: Final = 32
"""How many calls are made between two looks at the time."""


class Turns:
    """Whether the event loop has turned since it was last asked, in each thread."""

    in_tasks: ClassVar = True
    """Whether the calls are made by tasks, where an event loop runs in their thread."""

    def __init__(self) -> None:
        self._seen = threading.local()

    async def take(self) -> int:
        """How many calls may be made before this is asked again.

        If a turn is due, every task that was ready has had one by then. A call that suspends gives
        one by itself, and none is due then.
        """
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the caller runs the coroutine without one: nobody waits for a turn
            return CALLS
        seen = self._seen
        waiting = getattr(seen, "waiting", False)
        if waiting and AMBIENT.perf_counter() >= seen.due:
            await asyncio.sleep(0)
            waiting = False  # even if it was for a turn of a loop that has ended
        if not waiting:
            seen.waiting = True
            seen.due = AMBIENT.perf_counter() + TURN_S
            loop.call_soon(self._turned)
        return CALLS

    def _turned(self) -> None:
        self._seen.waiting = False


class NoTurns(Turns):
    """For synchronous callers: nobody could have a turn, whether or not an event loop runs in their thread."""

    in_tasks = False

    async def take(self) -> int:
        """How many calls may be made before this is asked again: all of them."""
        return sys.maxsize
