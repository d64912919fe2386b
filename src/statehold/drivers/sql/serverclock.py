"""The database's clock, as a process knows it that only asks now and then."""

from __future__ import annotations

from typing import Final

DRIFT: Final = 1e-3
"""By how much of what has passed the clocks may have parted since they were compared."""

EVERY: Final = 1.0
"""Seconds between two looks."""


class ServerClock:
    """How far the database's clock is ahead of this machine's monotonic one, and how surely.

    The monotonic clock is never set, so that only a step of the database's own clock makes this
    wrong; that is put right by the next look.
    """

    def __init__(self) -> None:
        self._known = False
        self._least = self._most = 0.0
        self._at = 0.0
        self.due = 0.0
        """By the monotonic clock: when to look again."""

    def learn(self, said: float, sent: float, received: float) -> None:
        """The database said what time it is, between two instants of the monotonic clock."""
        least, most = said - received, said - sent
        if self._known:
            drift = max(0.0, received - self._at) * DRIFT
            low, high = max(least, self._least - drift), min(most, self._most + drift)
            if low <= high:  # else one of the clocks was set
                least, most = low, high
        self._known = True
        self._least, self._most, self._at = least, most, received
        self.due = received + EVERY

    def earliest(self, monotonic: float) -> float | None:
        """What the database's clock shows at that instant, at the least; None if it is not known."""
        if not self._known:
            return None
        return monotonic + self._least - abs(monotonic - self._at) * DRIFT
