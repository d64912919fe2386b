"""A cluster: each slot has its master, and the map of them changes while one works.

The map is learned when the first request needs it, and again when something contradicts it: a node
that says MOVED (whose word is taken at once for its slot), a master that is out of reach or not
ready. Requests whose slot nobody is known to serve wait at `_unowned`, a link without a server whose
attempts to connect are attempts to learn the map.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Container, Iterable
from typing import Any

from statehold.drivers.redis.client.address import Address
from statehold.drivers.redis.client.connection import Request
from statehold.drivers.redis.client.contract import SLOTS
from statehold.drivers.redis.client.errors import ErrorReply, redirect
from statehold.drivers.redis.client.handshake import Handshaken, Handshaker
from statehold.drivers.redis.client.link import Link
from statehold.drivers.redis.client.pauses import pause
from statehold.drivers.redis.client.topology import ClientState, Topology
from statehold.errors import Closed, StateholdError, Unavailable

LEARN_EVERY = 0.05
"""Seconds at least between two questions for the map."""
HOPS = 5
"""Redirections that a request follows at once; then it waits, for the nodes to agree."""


class Cluster(Topology):
    """The masters of a cluster, each with a connection as soon as it is needed."""

    mode = 1

    def __init__(self, shared: ClientState, handshaker: Handshaker) -> None:
        self._shared = shared
        self._handshaker = handshaker
        self._loop = handshaker.loop
        self._login = shared.target.login
        self._links: dict[Address, Link] = {}
        self._unowned = self._link_to(Address("the cluster", 0))
        self._links.clear()
        self._owners = [self._unowned] * SLOTS
        self._replicas: dict[Address, set[Address]] = {}
        self._run_ids: dict[Address, str | None] = {}
        self._learning: asyncio.Task[None] | None = None
        self._known = False
        self._closed = False
        self.put = self._put

    def _put(self, request: Request) -> None:
        self._owners[request.slot].put(request)

    def links(self) -> list[Link]:
        return [*self._links.values(), self._unowned]

    async def masters(self, deadline: float) -> list[Link]:
        while True:
            try:
                if not self._known:
                    await self._learn()
                break
            except StateholdError as error:
                if not error.retryable or self._loop.time() + 0.1 > deadline:
                    raise
            await asyncio.sleep(pause(3))
        return list(dict.fromkeys(link for link in self._owners if link is not self._unowned))

    def _link_to(self, address: Address) -> Link:
        link = self._links.get(address)
        if link is None:
            link = Link(self, self._handshaker, address, self._login.username)
            self._links[address] = link
        return link

    # ------------------------------------------------------------------------------ for links

    async def find(self, link: Link) -> Handshaken:
        if link is self._unowned:
            await self._learn()
            raise Unavailable("redis: no node of the cluster serves the slot of this key")
        met = await self._handshaker.open(link.address, self._login)
        before = self._run_ids.get(link.address)
        if before is None or before != met.run_id:
            await self._shared.greet(met, lambda slot: self._owners[slot] is link)
        self._run_ids[link.address] = met.run_id
        return met

    def redirected(self, link: Link, request: Request, reply: ErrorReply, *, asking: bool) -> None:
        found = redirect(reply)
        request.hops += 1
        if found is None or request.hops > HOPS:
            request.hops = 0
            self.may_have_moved(link)
            link.delay(request)
            return
        slot, host, port = found
        there = self._link_to(Address(host or link.address.host, port))
        if asking:
            there.put_asking(request)
            return
        if self._owners[slot] is not there:
            self._owners[slot] = there
            self._shared.generation += 1
            self.may_have_moved(link)
        there.put_back([request], first=False)

    def resend(self, link: Link, requests: list[Request]) -> None:  # noqa: ARG002  by slot, not by link
        places: dict[Link, list[Request]] = {}
        for request in requests:
            places.setdefault(self._owners[request.slot], []).append(request)
        for there, some in places.items():
            there.put_back(some)

    def may_have_moved(self, link: Link) -> None:
        if link is not self._unowned and self._learning is None and not self._closed:
            self._learning = self._loop.create_task(self._relearn(), name="statehold-redis-map")

    # ---------------------------------------------------------------------------------- the map

    async def _relearn(self) -> None:
        try:
            await self._learn()
            await asyncio.sleep(LEARN_EVERY)
        except StateholdError:
            await asyncio.sleep(pause(2))  # whoever needs the map will see to it that it is learned
        finally:
            self._learning = None

    async def _learn(self) -> None:
        """Ask any node for the map, and go by it."""
        seeds = self._shared.target.addresses
        known = [*self._links, *(replica for some in self._replicas.values() for replica in some)]
        random.shuffle(known)
        # One that is connected is likely to be well.
        known.sort(key=lambda address: not self._is_connected(address))
        asked, reply = await self._handshaker.ask_first(
            list(dict.fromkeys((*known, *seeds))), self._login, (b"CLUSTER", b"SLOTS")
        )
        await self._adopt(_read_map(reply, asked))

    def _is_connected(self, address: Address) -> bool:
        link = self._links.get(address)
        return link is not None and link.connection is not None

    async def _adopt(self, ranges: list[tuple[int, int, Address, set[Address]]]) -> None:
        if self._closed:
            raise Closed("the store is closed")
        if not ranges:
            raise Unavailable("redis: the cluster serves no slots yet")
        owners = [self._unowned] * SLOTS
        replicas: dict[Address, set[Address]] = {}
        for first, last, master, some in ranges:
            owners[first : last + 1] = [self._link_to(master)] * (last + 1 - first)
            replicas.setdefault(master, set()).update(some)
        if self._known:
            moved = {
                (old.address, new.address)
                for old, new in zip(self._owners, owners, strict=True)
                if old is not new and self._unowned not in (old, new)
            }
            self._shared.generation += bool(moved)
            self._shared.tally.failovers += self._taken_over(moved, replicas)
        self._known = True
        self._owners, self._replicas = owners, replicas
        self._reassign_outboxes()
        await self._forget(set(owners))

    def _taken_over(self, moved: set[tuple[Address, Address]], masters: Container[Address]) -> int:
        """How many masters have another in their place, rather than that slots were moved.

        A map names the replicas that the node which was asked has heard from, in a new cluster or
        after a pause not all of them: then it is one that was no master, for one that is none now.
        """
        return sum(
            new in self._replicas.get(old, ()) or (new not in self._replicas and old not in masters)
            for old, new in moved
        )

    def _reassign_outboxes(self) -> None:
        """What waits for a connection goes to whoever has its slot now."""
        for link in self.links():
            if link.connection is not None or not link.outbox:
                continue
            self.resend(link, link.outbox.take())

    async def _forget(self, owners: Iterable[Link]) -> None:
        idle = [link for link in self._links.values() if link not in owners and not link.pending]
        for link in idle:
            del self._links[link.address]
        for link in idle:
            await link.close()

    async def close(self) -> None:
        self._closed = True
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait([self._learning])
        await super().close()


def _read_map(reply: Any, asked: Address) -> list[tuple[int, int, Address, set[Address]]]:
    """First and last slot, master and replicas of each range in a reply to CLUSTER SLOTS."""
    ranges: list[tuple[int, int, Address, set[Address]]] = []
    for first, last, *nodes in reply:
        master, *others = [_address(node, asked) for node in nodes]
        ranges.append((first, last, master, set(others)))
    return ranges


def _address(node: Any, asked: Address) -> Address:
    host = "" if node[0] is None else node[0].decode()
    # Nothing means the host that was asked; a node that does not know its own name says "?".
    return Address(asked.host if host in ("", "?") else host, int(node[1]))
