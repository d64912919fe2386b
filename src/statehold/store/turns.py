"""Turns for an event loop's other tasks, between calls that never suspend."""

from __future__ import annotations

import sys
import threading
from time import perf_counter
from typing import Final

TURN_S: Final = 0.004
"""How long the calls of one event loop go on without any other task having had a turn."""
CALLS: Final = 32
"""How many calls are made between two looks at the time."""


class Turns:
    """When the next turn is due, in each thread, and so in each event loop."""

    def __init__(self) -> None:
        self._due = threading.local()

    async def take(self) -> int:
        """How many calls may be made before this is asked again.

        If a turn is due, every task that was ready has had one by then.
        """
        now = perf_counter()
        due = getattr(self._due, "at", None)
        if due is None:
            self._due.at = now + TURN_S
        elif now >= due:
            import asyncio

            await asyncio.sleep(0)
            self._due.at = perf_counter() + TURN_S
        return CALLS


class NoTurns(Turns):
    """Where there is no event loop, and nobody who could have a turn."""

    async def take(self) -> int:
        return sys.maxsize
