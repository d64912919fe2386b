"""What time it is at a server, by the monotonic clock here, however wrong the clocks of both are."""

from __future__ import annotations

import math

LOOK_EVERY = 1.0
"""Seconds between two looks at a server's clock."""
MARGIN = 0.1
"""Seconds by which what is said of the past is put back: clocks are also moved a little at a time."""


class ServerClock:
    """By how many seconds a server's clock is ahead of this loop's monotonic one, at least.

    An answer tells the server's time at some moment between sending and receiving, so it bounds the
    difference from both sides; several together bound it more closely, until one contradicts what
    was known: then somebody has set the clock, and only the newest counts.
    """

    __slots__ = ("_most", "ahead")

    def __init__(self) -> None:
        self.ahead = -math.inf
        self._most = math.inf

    def learn(self, server: float, sent: float, received: float) -> None:
        """The server said `server`, between `sent` and `received` by the monotonic clock here."""
        least, most = server - received, server - sent
        if most < self.ahead or least > self._most:
            self.ahead, self._most = least, most
        else:
            self.ahead, self._most = max(self.ahead, least), min(self._most, most)

    def correct(self, server: float, received: float) -> None:
        """What was known has proved wrong: it says `server`, at the latest when that was received."""
        self.ahead, self._most = server - received, math.inf
