"""A connection that goes through the `Proxy`: its two directions, and what befalls it."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal

# Seconds that an answer which is to be cut may go on.
LONGEST: Final = 1.0


class Cut:
    """Which exchanges are cut, and how many have been: `count`."""

    def __init__(
        self,
        what: Literal["request", "reply"],
        *,
        times: int | None,
        when: Callable[[bytes], bool] | None,
        after_bytes: int = 0,
        settle: float = 0.0,
    ) -> None:
        """Use `Proxy.cut_reply` or `Proxy.cut_request`."""
        self.what = what
        self.times = times
        self.when = when
        self.after_bytes = after_bytes
        self.settle = settle
        self.count = 0
        self.begun = 0

    def takes(self, request: bytes) -> bool:
        """Whether this request is to be cut."""
        return (self.times is None or self.begun < self.times) and (
            self.when is None or self.when(request)
        )


class Pipe:
    """One direction of a connection, and the bytes that are on their way."""

    def __init__(self, target: socket.socket) -> None:
        self.target = target
        self.waiting: deque[tuple[float, bytes]] = deque()  # when due, what; b"": the end
        self.is_blocked = False

    def put(self, due: float, data: bytes) -> None:
        """`data` leaves at `due`, and never before what was put earlier."""
        if self.waiting:
            due = max(due, self.waiting[-1][0])
        self.waiting.append((due, data))

    def flush(self, now: float) -> None:
        """What is due has left, as far as the target takes it. Raises OSError."""
        self.is_blocked = False
        while self.waiting and self.waiting[0][0] <= now:
            due, data = self.waiting.popleft()
            if not data:
                with suppress(OSError):  # the target may have closed as well
                    self.target.shutdown(socket.SHUT_WR)
                continue
            try:
                sent = self.target.send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self.waiting.appendleft((due, data[sent:]))
                self.is_blocked = True
                return


class Link:
    """One client's connection, and the one to the server that it stands for."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.up = Pipe(server)
        self.down = Pipe(client)
        self.ended: set[socket.socket] = set()
        self.is_asking = False  # the client spoke last
        self.request = bytearray()  # what it has said since the server spoke
        self.cut: Cut | None = None
        self.cut_at: float | None = None
        self.answered_at: float | None = None
        self.has_lost = False  # bytes were swallowed: what follows makes no sense

    def settle(self, now: float | None) -> None:
        """A reply that is to be cut goes on at `now`; None: it is over."""
        assert self.cut is not None
        if now is None:
            self.cut_at = 0.0
            return
        if self.answered_at is None:
            self.answered_at = now
        # A client that never stops talking is cut all the same.
        self.cut_at = min(now + self.cut.settle, self.answered_at + LONGEST)


def hang_up(end: socket.socket) -> None:
    """Close with a reset instead of a goodbye."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
