"""What a command tells the server of time: until when it may be executed, and since when it may have been."""

from __future__ import annotations

import struct

from statehold.drivers.redis.client.clocks import MARGIN
from statehold.drivers.redis.client.connection import Request
from statehold.drivers.redis.client.contract import STAMP

STAMPED = STAMP.size + 2
"""Bytes at the end of a command: the stamp, and what ends every argument."""
stamp_of = struct.Struct(STAMP.format + "2s").pack
"""These bytes, of the times (microseconds), the mode and `ENDS`."""
ENDS = b"\r\n"


def stamp(request: Request, ahead: float, mode: int, now: float) -> None:
    """A stamped request says until when it may be executed; and since when it may have been, if it may.

    The server's clock is `ahead` of the one by which it is `now` and that deadlines go by, in seconds.
    """
    if not request.stamped:
        return
    since = 0.0
    if request.doubtful:
        since = (min(request.since, request.sent + ahead) - MARGIN) * 1e6
    else:
        request.sent = now
    told = stamp_of((request.deadline + ahead) * 1e6, since, mode, ENDS)
    request.data = request.data[:-STAMPED] + told
