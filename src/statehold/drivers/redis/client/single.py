"""One server, wherever it is."""

from __future__ import annotations

from statehold.drivers.redis.client.address import Address
from statehold.drivers.redis.client.connection import Request
from statehold.drivers.redis.client.errors import ErrorReply
from statehold.drivers.redis.client.handshake import Handshaken, Handshaker
from statehold.drivers.redis.client.link import Link
from statehold.drivers.redis.client.topology import ClientState, Topology
from statehold.errors import ConfigError, StateholdError


class Single(Topology):
    """One server."""

    def __init__(self, shared: ClientState, handshaker: Handshaker) -> None:
        self.shared = shared
        self.handshaker = handshaker
        self._address = shared.target.addresses[0]
        self.link = Link(self, handshaker, self._address, shared.target.login.username)
        self.put = self.link.put

    async def masters(self, deadline: float) -> list[Link]:  # noqa: ARG002
        return [self.link]

    def links(self) -> list[Link]:
        return [self.link]

    async def find(self, link: Link) -> Handshaken:
        address = await self.find_master()
        link.address = address
        target = self.shared.target
        met = await self.handshaker.open(address, target.login, target.db)
        try:
            self.verify(address, met)
        except StateholdError:
            met.connection.drop("it is not what was looked for")
            raise
        shared = self.shared
        if shared.run_id is not None and (met.run_id is None or met.run_id != shared.run_id):
            await shared.greet(met)
        shared.run_id = met.run_id
        return met

    async def find_master(self) -> Address:
        """Where the server is now."""
        return self._address

    def verify(self, address: Address, met: Handshaken) -> None:
        """Raise unless this is the server to talk to."""

    def redirected(self, link: Link, request: Request, reply: ErrorReply, *, asking: bool) -> None:  # noqa: ARG002
        request.fail(
            ConfigError(
                f"redis at {link.address}: it is a node of a cluster; say redis+cluster://"
                f" ({reply.text[:80]})",
                field="url",
            )
        )

    def resend(self, link: Link, requests: list[Request]) -> None:
        link.put_back(requests)

    def may_have_moved(self, link: Link) -> None:
        """There is nowhere else to go."""
