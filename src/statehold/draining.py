"""`Calls`: what a driver that suspends is asked at this time, so that it can come to an end in peace."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, cast

from statehold.errors import Closed

EVERY: Final = 0.005
"""Seconds between two looks at whether calls are over, which may be those of other event loops."""


class Calls:
    """The calls that are under way, whichever event loop or thread they come from."""

    def __init__(self) -> None:
        self._open: dict[object, int] = {}
        self._ending = False

    def begin(self) -> object:
        """A call begins. Raises `Closed` where none may any more."""
        if self._ending:
            raise Closed("the store takes nothing new: it is being closed")
        call = object()
        self._open[call] = _process  # a child process has none of its parent's
        return call

    def end(self, call: object) -> None:
        """It is over."""
        del self._open[call]

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  it does not cancel anything
        """None begins any more; whether all that were under way are over within so many seconds."""
        self._ending = True
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while _process in self._open.copy().values():
            left = until - loop.time()
            if left <= 0:
                return False
            await asyncio.sleep(min(EVERY, left))
        return True


_process = os.getpid()  # which a call of every commit would be asking the system for


def _forked() -> None:
    global _process  # noqa: PLW0603  as there is one process
    _process = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


M = TypeVar("M", bound=Callable[..., Coroutine[Any, Any, Any]])


def counted(method: M) -> M:
    """A call of a driver that its `_calls`, which are `Calls`, know of while it is under way."""

    @functools.wraps(method)
    async def call(self: Any, /, *given: Any, **named: Any) -> Any:
        calls: Calls = self._calls
        one = calls.begin()
        try:
            return await method(self, *given, **named)
        finally:
            calls.end(one)

    return cast("M", call)
