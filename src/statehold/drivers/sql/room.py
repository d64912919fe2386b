"""Whether the server has connections left for other processes, as far as this one has heard.

A server takes a limited number of connections, and tells nobody but whom it refuses. So a process that has
more than one looks now and then how many are taken, and gives some up where few are left; and one that is
refused goes on with what it has. A process that has none waits, and finds room soon.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from statehold.clock import pause

SHORT_SECONDS: Final = 10.0
"""For so long, at most, no further connection is made after few were left, or none; half as long at least."""

LOOK_SECONDS: Final = 2.0
"""Seconds between two looks."""

MOST_TAKEN: Final = 0.9
"""Which part of the server's connections may be taken before those that have several give some up."""

IDLE_SECONDS: Final = 30.0
"""After so long without use, twice as long at most, a connection is closed. PostgreSQL's last one stays."""

TAKEN: Final = (
    # What other users' sessions do is hidden, but not that they are connected to a database.
    "SELECT count(datid)::float8 / (current_setting('max_connections')::integer"
    " - current_setting('superuser_reserved_connections')::integer"
    " - COALESCE(current_setting('reserved_connections', TRUE)::integer, 0)) FROM pg_stat_activity"
)
"""Which part of PostgreSQL's connections is taken."""


class Room:
    """What one driver knows. `heard` are called as soon as the server is short of connections."""

    def __init__(self) -> None:
        self._until = 0.0
        self.due = 0.0
        """By the monotonic clock: when to look again."""
        self.heard: list[Callable[[], None]] = []

    def is_short(self) -> bool:
        """Whether the server had few connections left a while ago, or none."""
        return self._until > 0.0 and time.monotonic() < self._until

    def refuses(self) -> None:
        """The server has refused a connection, since it has none left."""
        self._until = time.monotonic() + pause(0, SHORT_SECONDS, SHORT_SECONDS, least=0.5)
        for hear in self.heard:
            hear()

    def learn(self, taken: float) -> bool:
        """Which part of the server's connections is taken. Returns whether that leaves it short."""
        if taken > MOST_TAKEN:
            self.refuses()
            return True
        return False
