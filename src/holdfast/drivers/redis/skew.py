"""By how much the servers' clock is ahead of the callers'."""

from __future__ import annotations

EVERY = 1.0
"""Seconds between two looks."""


class Skew:
    """What is known of it, in seconds.

    An answer carries the server's time at some moment between sending and receiving, which leaves
    an interval for the skew; what was known before is moved only as far as it is outside of that.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.due = 0.0
        """By the monotonic clock: when to look again."""
        self._known = False

    def learn(self, server: float, sent: float, took: float, until: float) -> None:
        """An answer said `server`; it was sent at `sent` by the caller's clock, and took so long."""
        most = server - sent
        least = most - took
        if self._known:
            self.seconds = min(max(self.seconds, least), most)
        else:
            self.seconds = (least + most) / 2
            self._known = True
        self.due = until + EVERY
