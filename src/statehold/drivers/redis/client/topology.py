"""Where the servers are: what each topology tells the client, and what those of all event loops share."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from statehold.drivers.redis.client.address import Options, Target
from statehold.drivers.redis.client.connection import Call, Tally, pack
from statehold.drivers.redis.client.contract import Command, Newcomer, Script
from statehold.drivers.redis.client.handshake import Dialer, Met
from statehold.drivers.redis.client.link import Home, Link
from statehold.errors import Timeout


class Shared:
    """What the event loops have in common."""

    def __init__(self, target: Target, options: Options, scripts: Sequence[Script]) -> None:
        self.target = target
        self.options = options
        self.scripts = tuple(scripts)
        self.tally = Tally()
        self.generation = 0
        self.run_id: str | None = None
        self.look: Newcomer | None = None

    async def greet(self, met: Met, serves: Callable[[int], bool] = lambda _: True) -> None:
        """Another master than before: whoever wants to look at it does so before all others."""
        if self.look is None:
            return

        async def ask(commands: Sequence[Command]) -> list[Any]:
            loop = asyncio.get_running_loop()
            calls = [
                Call(loop.create_future(), pack(command), 0.0, repeatable=False)
                for command in commands
            ]
            for call in calls:
                met.wire.send(call)
            async with asyncio.timeout(self.options.connect_timeout):
                return await asyncio.gather(
                    *(call.future for call in calls), return_exceptions=True
                )

        try:
            await self.look(ask, serves)
        except BaseException as error:
            met.wire.drop("it did not tell what it has")
            if isinstance(error, TimeoutError):
                raise Timeout("redis: another master did not tell in time what it has") from error
            raise

    def dialer(self, loop: asyncio.AbstractEventLoop) -> Dialer:
        """What opens connections for this loop."""
        return Dialer(loop, self.target.tls, self.options, self.scripts, self.tally)


class Nodes(Home):
    """The servers, for the tasks of one event loop."""

    put: Callable[[Call], None]
    """The call is on its way to the server that has its slot. Raises `Busy`."""

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


Made: TypeAlias = Callable[[Shared, Dialer], Nodes]
"""What makes the nodes of a topology, for the tasks of one event loop."""
