"""Requests that wait for a connection, or for a pause to end: in order, and with how many bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from statehold.drivers.redis.client.connection import Request
from statehold.drivers.redis.client.pauses import pause


class Outbox:
    """What is sent, in this order, as soon as there is a connection."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self.bytes = 0
        """Of the commands in it."""

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def add(self, request: Request) -> None:
        """The request is the last one."""
        self._requests.append(request)
        self.bytes += len(request.data)

    def put_back(self, requests: Sequence[Request], *, first: bool = True) -> None:
        """Requests that were accepted before come before all others, or after them."""
        at = 0 if first else len(self._requests)
        self._requests[at:at] = requests
        self.bytes += sum(len(request.data) for request in requests)

    def take(self) -> list[Request]:
        """All of them, in order; none is left."""
        taken, self._requests = self._requests, []
        self.bytes = 0
        return taken

    def take_late(self, now: float) -> list[Request]:
        """Those whose deadline is over; the others stay."""
        late = [request for request in self._requests if request.deadline <= now]
        if late:
            self._keep(lambda request: request.deadline > now)
        return late

    def drop_settled(self) -> None:
        """Those stay for which somebody waits."""
        self._keep(lambda request: not request.future.done())

    def _keep(self, stays: Callable[[Request], bool]) -> None:
        self._requests = [request for request in self._requests if stays(request)]
        self.bytes = sum(len(request.data) for request in self._requests)


class Delayed:
    """What is sent again after a pause, all of it at once; `due` is called when the pause is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, due: Callable[[], None]) -> None:
        self.requests: list[Request] = []
        self.bytes = 0
        """Of their commands."""
        self._loop = loop
        self._due = due
        self._timer: asyncio.TimerHandle | None = None

    def add(self, request: Request) -> None:
        """The request waits with the others, but not beyond its deadline."""
        self.requests.append(request)
        self.bytes += len(request.data)
        if self._timer is None:
            when = self._loop.time() + pause(request.tries - 1)
        elif self._timer.when() > request.deadline:
            self._timer.cancel()
            when = request.deadline
        else:
            return
        self._timer = self._loop.call_at(min(when, request.deadline), self._end)

    def _end(self) -> None:
        self._timer = None
        self._due()

    def take(self) -> list[Request]:
        """All of them, in order; none is left."""
        taken, self.requests = self.requests, []
        self.bytes = 0
        return taken

    def cancel(self) -> None:
        """The pause has no end of its own any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
