"""The client from whichever event loop it is called: each has its own topology, and ends it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from statehold.drivers.redis.client.address import Options, Target
from statehold.drivers.redis.client.connection import Request, pack
from statehold.drivers.redis.client.contract import Client, Command, Newcomer, Script
from statehold.drivers.redis.client.errors import NOT_DONE, in_doubt
from statehold.drivers.redis.client.link import Link
from statehold.drivers.redis.client.topology import ClientState, MakeTopology, Topology
from statehold.errors import (
    Busy,
    Closed,
    ConfigError,
    Invalid,
    StateholdError,
    Timeout,
)
from statehold.perloop import PerLoop


class LoopClients(Client):
    """The servers of a target, from whichever event loop they are called."""

    def __init__(
        self, target: Target, options: Options, scripts: Sequence[Script], make: MakeTopology
    ) -> None:
        if options.wait_replicas and options.wait_timeout >= options.timeout:
            raise ConfigError(
                "redis: wait_timeout must be shorter than timeout", field="wait_timeout"
            )
        self._shared = ClientState(target, options, scripts)
        self._make = make
        self._timeout = options.timeout
        self._wanted = options.wait_replicas
        self._writing = {script.sha for script in scripts if script.writes}
        self._topologies = PerLoop(self._made, self._ended, self._left, self._forked)
        # One attribute, so that two threads never see the loop of one and the servers of the other.
        self._latest: tuple[asyncio.AbstractEventLoop | None, Topology | None] = (None, None)
        self._closed = False
        self.clustered = target.mode == "cluster"

    @property
    def generation(self) -> int:
        return self._shared.generation

    def before_newcomers(self, look: Newcomer) -> None:
        self._shared.look = look

    def ahead(self) -> float | None:
        links = [link for topology in self._topologies for link in topology.links()]
        known = [link.ahead for link in links if math.isfinite(link.ahead)]
        return min(known, default=None)

    async def call(
        self, slot: int, command: Command, *, repeatable: bool, stamped: bool = False
    ) -> Any:
        loop = asyncio.get_running_loop()
        latest, topology = self._latest
        if topology is None or loop is not latest:
            topology = self._enter(loop)
        future: asyncio.Future[Any] = loop.create_future()
        request = Request(future, _packed(command), loop.time() + self._timeout, repeatable, slot)
        request.alone = True
        request.stamped = stamped
        if self._wanted:
            request.writes = command[1] in self._writing
            topology.put(request)
            return await self._confirmed(request)
        topology.put(request)
        return await future

    async def call_many(
        self,
        commands: Sequence[tuple[int, Command]],
        *,
        repeatable: bool,
        stamped: bool = False,
    ) -> list[Any]:
        loop = asyncio.get_running_loop()
        latest, topology = self._latest
        if topology is None or loop is not latest:
            topology = self._enter(loop)
        until = loop.time() + self._timeout
        requests = [
            Request(
                loop.create_future(),
                _packed(command),
                until,
                repeatable,
                slot,
                bool(self._wanted) and command[1] in self._writing,
                stamped=stamped,
            )
            for slot, command in commands
        ]
        try:
            for at, request in enumerate(requests):
                try:
                    topology.put(request)
                except Busy as error:
                    await self._in_waves(topology, requests, at, error)
                    break
                except StateholdError as error:
                    request.fail(error)
            return await self._settled(requests)
        except asyncio.CancelledError:
            for request in requests:
                request.future.cancel()
            raise

    async def _in_waves(
        self, topology: Topology, requests: list[Request], at: int, error: Busy
    ) -> None:
        """Put those from `at` on, as those before them are answered; once one fails, no more."""
        done = 0
        while at < len(requests):
            waiting = [request for request in requests[done:at] if not request.future.done()]
            failed = any(
                request.future.cancelled() or request.future.exception() is not None
                for request in requests[done:at]
                if request.future.done()
            )
            if failed or not waiting:
                for request in requests[at:]:
                    request.fail(error)
                return
            await asyncio.wait([waiting[len(waiting) // 2].future])
            done = requests.index(waiting[0], done)
            until = asyncio.get_running_loop().time() + self._timeout
            try:
                for request in requests[at:]:
                    request.deadline = until
                    topology.put(request)
                    at += 1
            except Busy as busy:
                error = busy
            except StateholdError as other:
                requests[at].fail(other)
                at += 1

    async def _settled(self, requests: list[Request]) -> list[Any]:
        replies: list[Any] = []
        first: StateholdError | None = None
        doubtful = False  # whether any of them may have been executed, though it failed
        for request in requests:
            try:
                replies.append(await (self._confirmed(request) if self._wanted else request.future))
            except StateholdError as error:
                first = first or error
                doubtful = doubtful or request.doubtful or not isinstance(error, NOT_DONE)
        if first is None:
            return replies
        if replies or doubtful:
            raise in_doubt(
                first,
                f"{len(replies)} of the {len(requests)} commands of its call were executed, and of the "
                + ("others it is not known" if doubtful else "others none"),
            )
        raise first

    async def _confirmed(self, request: Request) -> Any:
        reply = await request.future
        if request.confirmed is not None:
            found = await asyncio.shield(request.confirmed)
            if found < self._wanted:
                self._shared.tally.unconfirmed += 1
                raise Timeout(
                    f"redis: it stands on the master, but {found} instead of {self._wanted}"
                    f" replicas confirmed it within {self._shared.options.wait_timeout:g} s",
                    expected=self._wanted,
                    found=found,
                )
        return reply

    async def ask_all(self, command: Command) -> list[tuple[str, Any]]:
        loop = asyncio.get_running_loop()
        topology = self._enter(loop)
        until = loop.time() + self._timeout
        links = await topology.masters(until)
        replies = await self._ask(links, command, until)
        return [(str(link.address), reply) for link, reply in zip(links, replies, strict=True)]

    async def ask_master(self, number: int, command: Command) -> Any:
        loop = asyncio.get_running_loop()
        topology = self._enter(loop)
        until = loop.time() + self._timeout
        links = (await topology.masters(until))[number : number + 1]
        return (await self._ask(links, command, until))[0] if links else None

    async def _ask(self, links: Sequence[Link], command: Command, until: float) -> list[Any]:
        loop = asyncio.get_running_loop()
        requests = [Request(loop.create_future(), _packed(command), until, True) for _ in links]
        for link, request in zip(links, requests, strict=True):
            link.put(request)
        return await self._settled(requests)

    async def close(self) -> None:
        self._closed = True
        self._latest = (None, None)
        await self._topologies.close()

    def stats(self) -> dict[str, int | float]:
        tally = self._shared.tally
        return {
            "connections_total": tally.connections,
            "reconnects_total": tally.reconnects,
            "round_trips_total": tally.round_trips,
            "commands_total": tally.commands,
            "repeated_total": tally.repeated,
            "redirects_total": tally.redirects,
            "failovers_total": tally.failovers,
            "unconfirmed_total": tally.unconfirmed,
            "pending": sum(
                link.pending for topology in self._topologies for link in topology.links()
            ),
        }

    # ------------------------------------------------------------------------------ event loops

    def _enter(self, loop: asyncio.AbstractEventLoop) -> Topology:
        """The servers for this event loop, which is running; made when it comes for the first time."""
        if self._closed:
            raise Closed("the store is closed")
        topology = self._topologies.here
        self._latest = (loop, topology)
        return topology

    def _made(self) -> Topology:
        return self._make(self._shared, self._shared.handshaker(asyncio.get_running_loop()))

    async def _ended(self, topology: Topology) -> None:
        self._left(topology)
        await topology.close()

    def _left(self, topology: Topology) -> None:
        if self._latest[1] is topology:
            self._latest = (None, None)

    def _forked(self) -> None:
        """In a process just forked off: the parent's connections are no longer in use here."""
        self._latest = (None, None)


def _packed(command: Command) -> bytes:
    try:
        return pack(command)
    except UnicodeError as error:
        raise Invalid(f"redis: a name cannot be encoded ({error})") from error
