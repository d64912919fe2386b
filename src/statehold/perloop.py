"""What belongs to one event loop: made when it is first used there, ended with the loop.

Connections hold on to the loop that made them, so that a dictionary of loops, weak or not, would
never let go of one. A loop that comes to its end in good order closes its asynchronous generators;
one of those guards what was made for it. What belongs to a loop that was closed without that is
given up when another loop comes.

After a fork nothing of this is used in the child, since the connections are the parent's: it is
neither closed, which would end them for the parent too, nor let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, Final, Generic, TypeAlias, TypeVar
from weakref import WeakSet

from statehold.errors import Closed

Thing = TypeVar("Thing")
_Loop: TypeAlias = asyncio.AbstractEventLoop

_all: Final[WeakSet[PerLoop[Any]]] = WeakSet()
_inherited: Final[list[object]] = []
"""What the parent process goes on using."""


class PerLoop(Generic[Thing]):
    """A thing for each event loop.

    `make` makes it in the loop, `end` ends it there, and `abandon` gives it up from elsewhere, when
    its loop has been closed. `forked` is called in a child that was forked from a process that had
    made one.
    """

    def __init__(
        self,
        make: Callable[[], Thing],
        end: Callable[[Thing], Awaitable[None]],
        abandon: Callable[[Thing], None],
        forked: Callable[[], None] | None = None,
    ) -> None:
        self._make, self._end, self._abandon, self._forked = make, end, abandon, forked
        self._things: dict[_Loop, tuple[Thing, AsyncGenerator[None, None]]] = {}
        self._entering = threading.Lock()
        self._closed = False
        _all.add(self)

    @property
    def here(self) -> Thing:
        """The running event loop's."""
        loop = asyncio.get_running_loop()
        found = self._things.get(loop)
        return found[0] if found is not None else self._enter(loop)

    @property
    def found(self) -> Thing | None:
        """The running event loop's, if it was made."""
        found = self._things.get(asyncio.get_running_loop())
        return None if found is None else found[0]

    def _enter(self, loop: _Loop) -> Thing:
        with self._entering:
            if self._closed:
                raise Closed("the store is closed")
            for other in [other for other in self._things if other.is_closed()]:
                self._abandon(self._things.pop(other)[0])
            thing = self._make()
            guard = self._guard(loop, thing)
            self._things[loop] = (thing, guard)
        # Its first step, which does not suspend; with it the loop gets to know it.
        with contextlib.suppress(StopIteration):
            guard.__anext__().send(None)
        return thing

    async def _guard(self, loop: _Loop, thing: Thing) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._things.pop(loop, None)
            await self._end(thing)

    def __iter__(self) -> Iterator[Thing]:
        return iter([thing for thing, _ in list(self._things.values())])

    async def close(self) -> None:
        """End all of them, those of other event loops as far as they still run."""
        self._closed = True
        mine = asyncio.get_running_loop()
        while self._things:
            loop, (thing, guard) = self._things.popitem()
            if loop is mine:
                await guard.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(_closed(guard), loop)
                await asyncio.wrap_future(closing)
            else:
                self._abandon(thing)

    def _in_child(self) -> None:
        self._entering = threading.Lock()
        if self._things:
            _inherited.append(self._things)
            self._things = {}
            if self._forked is not None:
                self._forked()


async def _closed(guard: AsyncGenerator[None, None]) -> None:
    await guard.aclose()


async def nothing(_: object) -> None:
    """`end` for what has nothing to be ended."""


def let_go(_: object) -> None:
    """`abandon` for what has nothing to be given up."""


def hang_up(transport: Any) -> None:
    """End the connection of an event loop that has been closed, and cannot do it any more."""
    with contextlib.suppress(OSError, AttributeError, RuntimeError, TypeError):
        transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _after_fork() -> None:
    for one in list(_all):
        one._in_child()  # noqa: SLF001  this module's own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
