"""A master that sentinels watch: they say where it is, and when that changes.

A master that was replaced may go on for many seconds, taking writes that it will lose: nobody can
tell from its connection. So every sentinel is listened to, and when one of them says that the
master has changed, the connection is given up. Before each connection the sentinels are asked, and
whoever they name must say itself that it is the master.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from statehold.drivers.redis.client.address import Address
from statehold.drivers.redis.client.connection import Connection, ConnectionUser, Request
from statehold.drivers.redis.client.handshake import Handshaken, Handshaker
from statehold.drivers.redis.client.pauses import pause
from statehold.drivers.redis.client.single import Single
from statehold.drivers.redis.client.topology import ClientState
from statehold.errors import ConfigError, StateholdError, Unavailable

LISTEN_AGAIN = 1.0
"""Seconds until a sentinel that was lost is tried again."""


class Sentinel(Single):
    """The master of a name."""

    def __init__(self, shared: ClientState, handshaker: Handshaker) -> None:
        super().__init__(shared, handshaker)
        self._sentinels = list(shared.target.addresses)
        self._listeners: list[SentinelListener] = []
        self._last: Address | None = None

    async def find_master(self) -> Address:
        target = self.shared.target
        asked, reply = await self.handshaker.ask_first(
            self._sentinels,
            target.sentinel_login,
            (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", target.master),
        )
        # One that was cut off from the others names yesterday's master: the next question goes to
        # another first, until what one says has proved right.
        self._sentinels.remove(asked)
        self._sentinels.append(asked)
        if reply is None:
            raise ConfigError(
                f"redis: the sentinel at {asked} knows no master {target.master!r}",
                field="url",
                found=target.master,
            )
        return Address(reply[0].decode(), int(reply[1]))

    def verify(self, address: Address, met: Handshaken) -> None:
        if met.role is None:
            raise ConfigError(
                f"redis at {address}: with sentinels the user must be allowed to ask for its ROLE"
            )
        if met.role != "master":
            raise Unavailable(f"redis at {address}: the sentinels name it, but it is a replica")
        self._sentinels.insert(0, self._sentinels.pop())
        if self._last not in (None, address):
            self.shared.tally.failovers += 1
        self._last = address
        if not self._listeners:
            self._listeners = [
                SentinelListener(self, each) for each in self.shared.target.addresses
            ]

    async def confirm(self) -> None:
        """Give up the connection if the sentinels name another master. Raises as `find` does."""
        self.master_named(await self.find_master())

    def master_named(self, address: Address) -> None:
        """A sentinel says that this is the master: a connection to another server is given up."""
        connection = self.link.connection
        if connection is not None and address != self._last:
            connection.drop("the sentinels name another master")

    async def close(self) -> None:
        for listener in self._listeners:
            await listener.close()
        await super().close()


class SentinelListener(ConnectionUser):
    """Hears from one sentinel that the master has changed, for as long as it is there."""

    def __init__(self, sentinel: Sentinel, address: Address) -> None:
        self._sentinel = sentinel
        self._address = address
        self._connection: Connection | None = None
        self._closed = False
        self._task = sentinel.handshaker.loop.create_task(
            self._listen(), name="statehold-redis-listen"
        )

    async def _listen(self) -> None:
        sentinel = self._sentinel
        tries = 0
        while True:
            try:
                if self._connection is None:
                    self._connection = await sentinel.handshaker.listen(
                        self._address, sentinel.shared.target.sentinel_login, "+switch-master", self
                    )
                await sentinel.confirm()  # what happened before may have gone unheard
            except StateholdError:  # no news; whoever needs the master asks for it
                await asyncio.sleep(LISTEN_AGAIN + pause(tries))
                tries += 1
            else:
                return

    def pushed(self, connection: Connection, news: Any) -> None:  # noqa: ARG002
        message: list[bytes] = news
        if message[0] == b"message":
            # Name of the master, its old host and port, its new host and port.
            words = message[2].decode(errors="replace").split(" ")
            if words[0] == self._sentinel.shared.target.master:
                self._sentinel.master_named(Address(words[-2], int(words[-1])))

    def refused(self, connection: Connection, request: Request, reply: Exception) -> None:
        """Nothing is asked here."""

    def lost(
        self,
        connection: Connection,
        sent: Sequence[Request],  # noqa: ARG002
        unsent: Sequence[Request],  # noqa: ARG002
        why: str,  # noqa: ARG002
    ) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        if not self._closed and self._task.done():
            self._task = self._sentinel.handshaker.loop.create_task(
                self._listen(), name="statehold-redis-listen"
            )

    async def close(self) -> None:
        """It hears no more."""
        self._closed = True
        self._task.cancel()
        await asyncio.wait([self._task])
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop("the store was closed")
            await connection.ended
