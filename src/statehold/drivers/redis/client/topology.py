"""Where the servers are: what each topology tells the client, and what those of all event loops share."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from statehold.drivers.redis.client.address import Options, Target
from statehold.drivers.redis.client.connection import Request, Tally, pack
from statehold.drivers.redis.client.contract import Command, Newcomer, Script
from statehold.drivers.redis.client.handshake import Handshaken, Handshaker
from statehold.drivers.redis.client.link import Link, LinkUser
from statehold.errors import Timeout


class ClientState:
    """What the event loops have in common."""

    def __init__(self, target: Target, options: Options, scripts: Sequence[Script]) -> None:
        self.target = target
        self.options = options
        self.scripts = tuple(scripts)
        self.tally = Tally()
        self.generation = 0
        self.run_id: str | None = None
        self.look: Newcomer | None = None

    async def greet(self, met: Handshaken, serves: Callable[[int], bool] = lambda _: True) -> None:
        """Another master than before: whoever wants to look at it does so before all others."""
        if self.look is None:
            return

        async def ask(commands: Sequence[Command]) -> list[Any]:
            loop = asyncio.get_running_loop()
            requests = [
                Request(loop.create_future(), pack(command), 0.0, repeatable=False)
                for command in commands
            ]
            for request in requests:
                met.connection.send(request)
            async with asyncio.timeout(self.options.connect_timeout):
                return await asyncio.gather(
                    *(request.future for request in requests), return_exceptions=True
                )

        try:
            await self.look(ask, serves)
        except BaseException as error:
            met.connection.drop("it did not tell what it has")
            if isinstance(error, TimeoutError):
                raise Timeout("redis: another master did not tell in time what it has") from error
            raise

    def handshaker(self, loop: asyncio.AbstractEventLoop) -> Handshaker:
        """What opens connections for this loop."""
        return Handshaker(loop, self.target.tls, self.options, self.scripts, self.tally)


class Topology(LinkUser):
    """The servers, for the tasks of one event loop."""

    put: Callable[[Request], None]
    """The request is on its way to the server that has its slot. Raises `Busy`."""

    @abstractmethod
    async def masters(self, deadline: float) -> list[Link]:
        """The link of each master."""

    @abstractmethod
    def links(self) -> list[Link]:
        """Every link there is."""

    async def close(self) -> None:
        """Close every link."""
        for link in self.links():
            await link.close()


MakeTopology: TypeAlias = Callable[[ClientState, Handshaker], Topology]
"""What makes a topology for the tasks of one event loop."""
