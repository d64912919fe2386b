"""One server, wherever it is."""

from __future__ import annotations

from statehold.drivers.redis.client.address import Address
from statehold.drivers.redis.client.connection import Call
from statehold.drivers.redis.client.errors import ErrorReply
from statehold.drivers.redis.client.handshake import Dialer, Met
from statehold.drivers.redis.client.link import Link
from statehold.drivers.redis.client.topology import Nodes, Shared
from statehold.errors import ConfigError, StateholdError


class Alone(Nodes):
    """One server."""

    def __init__(self, shared: Shared, dialer: Dialer) -> None:
        self.shared = shared
        self.dialer = dialer
        self._address = shared.target.addresses[0]
        self.link = Link(self, dialer, self._address, shared.target.login.username)
        self.put = self.link.put

    async def masters(self, deadline: float) -> list[Link]:  # noqa: ARG002
        return [self.link]

    def links(self) -> list[Link]:
        return [self.link]

    async def find(self, link: Link) -> Met:
        address = await self.whereabouts()
        link.address = address
        target = self.shared.target
        met = await self.dialer.open(address, target.login, target.db)
        try:
            self.welcome(address, met)
        except StateholdError:
            met.wire.drop("it is not what was looked for")
            raise
        shared = self.shared
        if shared.run_id is not None and (met.run_id is None or met.run_id != shared.run_id):
            await shared.greet(met)
        shared.run_id = met.run_id
        return met

    async def whereabouts(self) -> Address:
        """Where the server is now."""
        return self._address

    def welcome(self, address: Address, met: Met) -> None:
        """Raise unless this is the server to talk to."""

    def redirected(self, link: Link, call: Call, reply: ErrorReply, *, asking: bool) -> None:  # noqa: ARG002
        call.fail(
            ConfigError(
                f"redis at {link.address}: it is a node of a cluster; say redis+cluster://"
                f" ({reply.text[:80]})",
                field="url",
            )
        )

    def again(self, link: Link, calls: list[Call]) -> None:
        link.put_back(calls)

    def adrift(self, link: Link) -> None:
        """There is nowhere else to go."""
