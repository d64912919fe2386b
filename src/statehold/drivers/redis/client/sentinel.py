"""A master that sentinels watch: they say where it is, and when that changes.

A master that was replaced may go on for many seconds, taking writes that it will lose: nobody can
tell from its connection. So there is an ear at every sentinel, and when one of them says that the
master has changed, the connection is given up. Before each connection the sentinels are asked, and
whoever they name must say itself that it is the master.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from statehold.drivers.redis.client.address import Address
from statehold.drivers.redis.client.connection import Call, Owner, Wire
from statehold.drivers.redis.client.handshake import Dialer, Met
from statehold.drivers.redis.client.pauses import pause
from statehold.drivers.redis.client.single import Alone
from statehold.drivers.redis.client.topology import Shared
from statehold.errors import ConfigError, StateholdError, Unavailable

LISTEN_AGAIN = 1.0
"""Seconds until a sentinel that was lost is tried again."""


class Watched(Alone):
    """The master of a name."""

    def __init__(self, shared: Shared, dialer: Dialer) -> None:
        super().__init__(shared, dialer)
        self._sentinels = list(shared.target.addresses)
        self._ears: list[_Ear] = []
        self._last: Address | None = None

    async def whereabouts(self) -> Address:
        target = self.shared.target
        asked, reply = await self.dialer.ask_first(
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

    def welcome(self, address: Address, met: Met) -> None:
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
        if not self._ears:
            self._ears = [_Ear(self, each) for each in self.shared.target.addresses]

    async def confirm(self) -> None:
        """Give up the connection if the sentinels name another master. Raises as `find` does."""
        self.named(await self.whereabouts())

    def named(self, address: Address) -> None:
        """A sentinel says that this is the master: a connection to another server is given up."""
        wire = self.link.wire
        if wire is not None and address != self._last:
            wire.drop("the sentinels name another master")

    async def close(self) -> None:
        for ear in self._ears:
            await ear.close()
        await super().close()


class _Ear(Owner):
    """Hears from one sentinel that the master has changed, for as long as it is there."""

    def __init__(self, watched: Watched, address: Address) -> None:
        self._watched = watched
        self._address = address
        self._wire: Wire | None = None
        self._closed = False
        self._task = watched.dialer.loop.create_task(self._listen(), name="statehold-redis-listen")

    async def _listen(self) -> None:
        watched = self._watched
        tries = 0
        while True:
            try:
                if self._wire is None:
                    self._wire = await watched.dialer.listen(
                        self._address, watched.shared.target.sentinel_login, "+switch-master", self
                    )
                await watched.confirm()  # what happened before may have gone unheard
            except StateholdError:  # no news; whoever needs the master asks for it
                await asyncio.sleep(LISTEN_AGAIN + pause(tries))
                tries += 1
            else:
                return

    def told(self, wire: Wire, news: Any) -> None:  # noqa: ARG002
        message: list[bytes] = news
        if message[0] == b"message":
            # Name of the master, its old host and port, its new host and port.
            words = message[2].decode(errors="replace").split(" ")
            if words[0] == self._watched.shared.target.master:
                self._watched.named(Address(words[-2], int(words[-1])))

    def refused(self, wire: Wire, call: Call, reply: Exception) -> None:
        """Nothing is asked here."""

    def lost(self, wire: Wire, sent: Sequence[Call], unsent: Sequence[Call], why: str) -> None:  # noqa: ARG002
        if wire is not self._wire:
            return
        self._wire = None
        if not self._closed and self._task.done():
            self._task = self._watched.dialer.loop.create_task(
                self._listen(), name="statehold-redis-listen"
            )

    async def close(self) -> None:
        """It hears no more."""
        self._closed = True
        self._task.cancel()
        await asyncio.wait([self._task])
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.drop("the store was closed")
            await wire.ended
