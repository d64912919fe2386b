"""Turns for an event loop's other tasks, between calls that never suspend."""

from __future__ import annotations

import sys
import threading
from typing import ClassVar, Final

from statehold.clock import AMBIENT

TURN_S: Final = 0.004
"""How long the calls of one event loop go on without any other task having had a turn."""
CALLS: Final = 32
"""How many calls are made between two looks at the time, at most: as many as take a quarter of that."""


class Turns:
    """Whether the event loop has turned since it was last asked, in each thread."""

    in_tasks: ClassVar = True
    """Whether the calls are made by tasks, where an event loop runs in their thread."""

    def __init__(self) -> None:
        self._seen = _Seen()

    async def take(self) -> int:
        """How many calls may be made, beside the one to come, before this is asked again.

        If a turn is due, every task that was ready has had one by then. A call that suspends gives
        one by itself, and none is due then.
        """
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the caller runs the coroutine without one: nobody waits for a turn
            return CALLS
        seen = self._seen
        now = AMBIENT.perf_counter()
        took = now - seen.asked
        if seen.waiting and now >= seen.due:
            await asyncio.sleep(0)
            seen.waiting = False  # even if it was for a turn of a loop that has ended
            now = AMBIENT.perf_counter()
        if not seen.waiting:
            seen.waiting = True
            seen.due = now + TURN_S
            loop.call_soon(self._turned)
        seen.asked = now
        each = 4 * took / (seen.calls + 1)
        seen.calls = min(CALLS, 2 * seen.calls + 1)
        if each * seen.calls > TURN_S:
            seen.calls = int(TURN_S / each)
        return seen.calls

    def _turned(self) -> None:
        self._seen.waiting = False


class _Seen(threading.local):
    """Of one thread: whether a turn is waited for, and when it is due; how often, and when last asked."""

    waiting = False
    due = asked = 0.0
    calls = 0


class NoTurns(Turns):
    """For synchronous callers: nobody could have a turn, whether or not an event loop runs in their thread."""

    in_tasks = False

    async def take(self) -> int:
        """How many calls may be made before this is asked again: all of them."""
        return sys.maxsize
