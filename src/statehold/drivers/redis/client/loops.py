"""The client from whichever event loop it is called: each has its own topology, and ends it."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from statehold.drivers.redis.client.address import Options, Target
from statehold.drivers.redis.client.connection import Call, pack
from statehold.drivers.redis.client.contract import Client, Command, Newcomer, Script
from statehold.drivers.redis.client.errors import NOT_DONE, in_doubt
from statehold.drivers.redis.client.topology import Made, Nodes, Shared
from statehold.errors import (
    Busy,
    Closed,
    ConfigError,
    Invalid,
    StateholdError,
    Timeout,
)


class Connected(Client):
    """The servers of a target, from whichever event loop they are called."""

    def __init__(
        self, target: Target, options: Options, scripts: Sequence[Script], made: Made
    ) -> None:
        if options.wait_replicas and options.wait_timeout >= options.timeout:
            raise ConfigError(
                "redis: wait_timeout must be shorter than timeout", field="wait_timeout"
            )
        self._shared = Shared(target, options, scripts)
        self._made = made
        self._timeout = options.timeout
        self._wanted = options.wait_replicas
        self._writing = {script.sha for script in scripts if script.writes}
        self._all: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[Nodes, AsyncGenerator[None, None]]
        ] = WeakKeyDictionary()
        self._entering = threading.Lock()
        # One attribute, so that two threads never see the loop of one and the servers of the other.
        self._latest: tuple[asyncio.AbstractEventLoop | None, Nodes | None] = (None, None)
        self._closed = False
        self.clustered = target.mode == "cluster"
        _all_connected.add(self)

    def leave_behind(self) -> None:
        """In a process just forked off: let go of the parent's connections, without a word."""
        _left_behind.extend(nodes for nodes, _ in self._all.values())
        self._all = WeakKeyDictionary()
        self._latest = (None, None)
        self._entering = threading.Lock()

    @property
    def generation(self) -> int:
        return self._shared.generation

    def before_newcomers(self, look: Newcomer) -> None:
        self._shared.look = look

    def ahead(self) -> float | None:
        links = [link for nodes, _ in list(self._all.values()) for link in nodes.links()]
        known = [link.ahead for link in links if math.isfinite(link.ahead)]
        return min(known, default=None)

    async def call(
        self, slot: int, command: Command, *, repeatable: bool, stamped: bool = False
    ) -> Any:
        loop = asyncio.get_running_loop()
        latest, nodes = self._latest
        if nodes is None or loop is not latest:
            nodes = await self._enter(loop)
        future: asyncio.Future[Any] = loop.create_future()
        call = Call(future, _packed(command), loop.time() + self._timeout, repeatable, slot)
        call.alone = True
        call.stamped = stamped
        if self._wanted:
            call.writes = command[1] in self._writing
            nodes.put(call)
            return await self._confirmed(call)
        nodes.put(call)
        return await future

    async def call_many(
        self,
        commands: Sequence[tuple[int, Command]],
        *,
        repeatable: bool,
        stamped: bool = False,
    ) -> list[Any]:
        loop = asyncio.get_running_loop()
        latest, nodes = self._latest
        if nodes is None or loop is not latest:
            nodes = await self._enter(loop)
        until = loop.time() + self._timeout
        calls = [
            Call(
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
            for at, call in enumerate(calls):
                try:
                    nodes.put(call)
                except Busy as error:
                    await self._in_waves(nodes, calls, at, error)
                    break
                except StateholdError as error:
                    call.fail(error)
            return await self._settled(calls)
        except asyncio.CancelledError:
            for call in calls:
                call.future.cancel()
            raise

    async def _in_waves(self, nodes: Nodes, calls: list[Call], at: int, error: Busy) -> None:
        """Put those from `at` on, as those before them are answered; once one fails, no more."""
        done = 0
        while at < len(calls):
            waiting = [call for call in calls[done:at] if not call.future.done()]
            failed = any(
                call.future.cancelled() or call.future.exception() is not None
                for call in calls[done:at]
                if call.future.done()
            )
            if failed or not waiting:
                for call in calls[at:]:
                    call.fail(error)
                return
            await asyncio.wait([waiting[len(waiting) // 2].future])
            done = calls.index(waiting[0], done)
            until = asyncio.get_running_loop().time() + self._timeout
            try:
                for call in calls[at:]:
                    call.deadline = until
                    nodes.put(call)
                    at += 1
            except Busy as busy:
                error = busy
            except StateholdError as other:
                calls[at].fail(other)
                at += 1

    async def _settled(self, calls: list[Call]) -> list[Any]:
        replies: list[Any] = []
        first: StateholdError | None = None
        doubtful = False  # whether any of them may have been executed, though it failed
        for call in calls:
            try:
                replies.append(await (self._confirmed(call) if self._wanted else call.future))
            except StateholdError as error:
                first = first or error
                doubtful = doubtful or call.doubtful or not isinstance(error, NOT_DONE)
        if first is None:
            return replies
        if replies or doubtful:
            raise in_doubt(
                first,
                f"{len(replies)} of the {len(calls)} commands of its call were executed, and of the "
                + ("others it is not known" if doubtful else "others none"),
            )
        raise first

    async def _confirmed(self, call: Call) -> Any:
        reply = await call.future
        if call.confirmed is not None:
            found = await asyncio.shield(call.confirmed)
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
        nodes = await self._enter(loop)
        until = loop.time() + self._timeout
        links = await nodes.masters(until)
        calls = [Call(loop.create_future(), _packed(command), until, True) for _ in links]
        for link, call in zip(links, calls, strict=True):
            link.put(call)
        replies = await self._settled(calls)
        return [(str(link.address), reply) for link, reply in zip(links, replies, strict=True)]

    async def close(self) -> None:
        self._closed = True
        self._latest = (None, None)
        here = asyncio.get_running_loop()
        for loop, (nodes, guard) in list(self._all.items()):
            del self._all[loop]
            if loop is here:
                await nodes.close()
                await guard.aclose()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(nodes.close(), loop))

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
                link.pending for nodes, _ in self._all.values() for link in nodes.links()
            ),
        }

    # ------------------------------------------------------------------------------ event loops

    async def _enter(self, loop: asyncio.AbstractEventLoop) -> Nodes:
        """The servers for this event loop, made when it comes for the first time."""
        if self._closed:
            raise Closed("the store is closed")
        with self._entering:
            entry = self._all.get(loop)
            if entry is None:
                for other in [other for other in self._all if other.is_closed()]:
                    del self._all[other]  # its connections hold on to it
                nodes = self._made(self._shared, self._shared.dialer(loop))
                entry = self._all[loop] = nodes, self._guard(nodes)
                begun = False
            else:
                begun = True
        if not begun:
            await anext(entry[1])
        self._latest = (loop, entry[0])
        return entry[0]

    async def _guard(self, nodes: Nodes) -> AsyncGenerator[None, None]:
        """A loop that comes to its end closes its generators, and so its connections."""
        try:
            yield
        finally:
            if self._latest[1] is nodes:
                self._latest = (None, None)
            await nodes.close()


_all_connected: WeakSet[Connected] = WeakSet()
_left_behind: list[Nodes] = []  # what would be collected would be closed


def _forked() -> None:
    for connected in list(_all_connected):
        connected.leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _packed(command: Command) -> bytes:
    try:
        return pack(command)
    except UnicodeError as error:
        raise Invalid(f"redis: a name cannot be encoded ({error})") from error
