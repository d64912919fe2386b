"""Whether a call is tried again that failed, and when: the same on either way to commit."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Final

from statehold.clock import pause
from statehold.drivers.sql.moving import Moves

LOST_CONNECTIONS: Final = 3
"""How often in one call a connection may be lost. Then the database is not there."""

FIRST_PAUSE: Final = 0.002
"""Seconds before a call is tried again, at most; twice as many before each further try …"""
LONGEST_PAUSE: Final = 0.1
"""… up to so many."""


class Cause(enum.Enum):
    """What an error means for the call that met it."""

    UNDONE = "a deadlock and the like, or nothing was executed"
    LOST = "the connection is gone, and with it the knowledge of what took effect"
    READ_ONLY = "the server takes no writes; another one may be at its address"
    OUTDATED = "the tables, or what goes with them, are not as they were when the kind was opened"
    OTHER = "it would fail again"


class Tries:
    """The tries of one call.

    `moved`: a server that used to take writes has refused one, and another has not been tried.
    """

    def __init__(self, moves: Moves, *, moved: bool = False) -> None:
        self._moves = moves
        self._moved = moved
        self._losses = self._count = 0

    def check(
        self, error: Exception, cause: Cause, may_repeat: Callable[[], bool] = lambda: True
    ) -> None:
        """Raise the error, unless the call is to be tried again.

        `may_repeat` is asked once a connection was lost: whether the call may be done twice, or was
        not done.
        """
        if cause is Cause.UNDONE:
            return
        if cause is Cause.LOST and self._losses < LOST_CONNECTIONS and may_repeat():
            self._losses += 1
            return
        if cause is Cause.READ_ONLY:
            if not self._moved and self._moves.is_news():
                self._moved = True
                return
            self._moves.settle()
        raise error

    async def pause(self) -> None:
        """Wait a little before the next one."""
        await asyncio.sleep(pause(self._count, FIRST_PAUSE, LONGEST_PAUSE))
        self._count += 1
