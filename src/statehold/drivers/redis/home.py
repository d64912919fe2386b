"""What a link asks of those who know where the servers are."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from statehold.drivers.redis.dial import Met
from statehold.drivers.redis.trouble import ErrorReply
from statehold.drivers.redis.wire import Call

if TYPE_CHECKING:
    from statehold.drivers.redis.link import Link

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5


def pause(tries: int) -> float:
    """Seconds to wait after so many failures: growing to half a second, and never in step."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


class Home(ABC):
    """The servers to which a link belongs: they know where things are."""

    mode: int = 0
    """Whether the servers are nodes of a cluster (1), for stamps."""

    @abstractmethod
    async def find(self, link: Link) -> Met:
        """A connection to the server that the link should reach now."""

    @abstractmethod
    def redirected(self, link: Link, call: Call, reply: ErrorReply, *, asking: bool) -> None:
        """The server says that another one has what the call needs."""

    @abstractmethod
    def again(self, link: Link, calls: list[Call]) -> None:
        """Send what was set aside."""

    @abstractmethod
    def adrift(self, link: Link) -> None:
        """The server of the link is lost, out of reach or not ready; another may have its place."""
