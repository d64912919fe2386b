"""Connections that were lost with requests under way, ended at the server before those are sent again.

What the network may still deliver there, later than it is sent again, is not executed then. Each is
ended anew on every connection until the server has answered to that, or all that was sent there
comes too late by its `STAMP`.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from statehold.drivers.redis.client.connection import Connection, Ending, pack
from statehold.drivers.redis.client.handshake import Handshaken


class Leftover:
    """The connections to one server that were lost and that it may not have ended yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._loop = loop
        self._timeout = timeout
        self._newest: Handshaken | None = None
        self._lost: dict[int, float] = {}  # when, by what the server calls them

    def __len__(self) -> int:
        return len(self._lost)

    def note(self, connection: Connection, now: float) -> None:
        """This connection was lost with requests under way."""
        met = self._newest
        if met is not None and met.connection is connection and met.id is not None:
            self._lost[met.id] = now

    def end_by(self, met: Handshaken) -> None:
        """The server is asked, first of all on this connection, to end those before it."""
        before, self._newest = self._newest, met
        if before is None or before.run_id is None or before.run_id != met.run_id:
            self._lost.clear()  # another server, which calls its connections otherwise
        now = self._loop.time()
        deadline = now + self._timeout
        self._lost = {id: lost for id, lost in self._lost.items() if now < lost + 2 * self._timeout}
        for number in self._lost:
            end = pack((b"CLIENT", b"KILL", b"ID", number))
            future = self._loop.create_future()
            future.add_done_callback(functools.partial(self._ended, number))
            met.connection.send(Ending(future, end, deadline, repeatable=False))

    def _ended(self, number: int, done: asyncio.Future[Any]) -> None:
        if not done.cancelled() and done.result() is not None:
            self._lost.pop(number, None)
