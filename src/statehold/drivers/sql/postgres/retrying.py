"""Whether what failed on asyncpg's connections is tried again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from statehold.drivers.sql.moving import Moves
from statehold.drivers.sql.postgres.pool import FORGETFUL, LOST, READ_ONLY, sqlstate

LOST_CONNECTIONS: Final = 3
"""How often in one call a connection may be lost. Then the database is not there."""

UNDONE: Final = ("40001", "40P01", *FORGETFUL)
"""A deadlock and the like; or nothing was executed."""


class InTheAir(Exception):
    """A statement was sent, and the connection lost before its answer came. Internal."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Tries:
    """The tries of one call.

    `repeatable`: it may be done twice. `moved`: a server that used to take writes has refused one,
    and another has not been tried.
    """

    def __init__(self, moves: Moves, *, repeatable: bool, moved: bool) -> None:
        self._moves = moves
        self._repeatable = repeatable
        self._moved = moved
        self._losses = self._count = 0

    def check(self, error: Exception, sent: Sequence[bool]) -> None:
        """Raise the error, or `InTheAir`, unless the call is to be tried again."""
        if isinstance(error, LOST):
            if sent and not self._repeatable:
                raise InTheAir(error) from error
            self._losses += 1
            if self._losses > LOST_CONNECTIONS:
                raise error
        elif sqlstate(error) == READ_ONLY:
            if self._moved or not self._moves.is_news():
                self._moves.settle()
                raise error
            self._moved = True
        elif sqlstate(error) not in UNDONE:
            raise error

    async def pause(self) -> None:
        """Wait a little before the next one."""
        self._count += 1
        most = min(0.001 * 2**self._count, 0.1)
        await asyncio.sleep(random.random() * most)  # noqa: S311  jitter
