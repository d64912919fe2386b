"""Connections that were lost with a statement under way, and their end at the server (PostgreSQL).

What the network holds of a lost connection may arrive when the commit has been sent again and
answered, when its op id has been forgotten, or when its state has been deleted. So before a commit
is sent again the server ends the sessions of such connections: what arrives there afterwards is not
executed. Only what is sent again waits for that.

A session is known by its process id, and by having begun before the connection was lost: a server
that was restarted gives the same numbers to others. Behind a pooler that gives a session for one
transaction nobody knows whose it is; there a commit is a transaction of several round trips, so that
what is held is a COMMIT, which holds the rows' locks, or comes to nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

LOOK_AGAIN: Final = 0.005
"""Seconds until the server is asked again whether a session has ended."""

END: Final = """\
SELECT pg_backend_pid(), count(pg_terminate_backend(a.pid)) FROM pg_stat_activity AS a
JOIN unnest($1::integer[], $2::float8[]) AS l(pid, ago) ON l.pid = a.pid
WHERE a.pid <> pg_backend_pid() AND a.datname = current_database() AND a.usename = session_user
AND a.application_name = 'statehold'
AND (a.backend_start < clock_timestamp() - make_interval(secs => l.ago)) IS NOT FALSE"""
"""Ends the sessions that are left. When a session began is NULL for who may not end it, either,
and is to be told so."""


class Leftover:
    """The server's process ids of connections that were lost, each with when that was."""

    def __init__(self, timeout: float) -> None:
        self._kept = 2 * timeout  # nothing of them is applied after their `until`, long before
        self._lost: dict[int, float] = {}

    def add(self, pid: int) -> None:
        """A connection to this process of the server's was lost."""
        now = time.monotonic()
        self._forget(now)
        self._lost[pid] = now

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._lost)

    async def end(self, connection: Any) -> bool:
        """Have the server end their sessions; returns when none is left, without a time limit.

        False if that cannot be told, since the server knows its sessions by other numbers.
        """
        self._forget(time.monotonic())
        some = list(self._lost.items())
        pids = [pid for pid, _ in some]
        while some:
            now = time.monotonic()
            own, left = (await connection.fetch(END, pids, [now - lost for _, lost in some]))[0]
            if own != connection.get_server_pid():
                return False
            if not left:
                break
            await asyncio.sleep(LOOK_AGAIN)
        for pid, lost in some:
            if self._lost.get(pid) == lost:  # else another one was lost meanwhile
                self._lost.pop(pid, None)
        return True

    def _forget(self, now: float) -> None:
        for pid, lost in list(self._lost.items()):
            if lost < now - self._kept:
                self._lost.pop(pid, None)


__all__ = ["Leftover"]
