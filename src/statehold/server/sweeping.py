"""Clearing away what has ended for as long as a store is served, also when nobody writes any more."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from statehold.clock import AMBIENT, pause
from statehold.errors import StateholdError
from statehold.store import AsyncStore

PIECE_S: Final = 0.001
"""How long it goes on at once: a piece, unless that takes even less."""
REST: Final = 9
"""How many times as long as a piece took it rests after it: a tenth of the time is its own."""
LEAST_REST_S: Final = 0.02

_log = logging.getLogger("statehold.server")


class Sweeping:
    """Rounds over everything that is stored, `interval` seconds apart, in small pieces."""

    def __init__(self, store: AsyncStore, interval: float) -> None:
        self._store = store
        self._interval = interval
        self.removed = self.failed = 0
        """States that were cleared away, and rounds that failed."""

    async def run(self) -> None:
        """Go on until it is cancelled. A store that cannot answer is asked again in the next round."""
        while True:
            # Several servers of one store had better not sweep it all at once.
            await asyncio.sleep(pause(0, self._interval, self._interval, least=0.5))
            try:
                await self._round()
            except StateholdError as error:
                self.failed += 1
                _log.warning("sweeping: %s", error)

    async def _round(self) -> None:
        after: str | None = ""
        while after is not None:
            began = AMBIENT.monotonic()
            swept = await self._store.sweep(PIECE_S, after=after)
            self.removed += swept.removed
            after = swept.after
            took = AMBIENT.monotonic() - began
            await asyncio.sleep(max(LEAST_REST_S, REST * took))
