"""Calls that write to one key, in the order in which they came.

Callers need no order: whoever waits for his answer comes after it. But who has gone, being cancelled,
may come back, and what he had asked for before must not take effect after what he asks for then: a
state would be there again that he has deleted, and was told so. So what comes later on a key waits for
what is under way on it, as far as a caller may have gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TypeVar

from statehold.commits import Key

Result = TypeVar("Result")


class Turns:
    """What is under way, by key. Each event loop waits for what is its own."""

    def __init__(self) -> None:
        self._under_way: dict[Key, set[asyncio.Future[None]]] = {}

    def __bool__(self) -> bool:
        """Whether there is anything that somebody might have to wait for."""
        return bool(self._under_way)

    def hold(self, keys: Collection[Key], call: asyncio.Future[None]) -> None:
        """Have these keys wait for a call."""
        self._enter(keys, call)
        call.add_done_callback(partial(self._leave, keys))

    async def wait(self, keys: Collection[Key]) -> None:
        """Return when what is under way on these keys now is over."""
        before = self._before(keys)
        if before:
            await asyncio.wait(before)

    async def take(self, keys: Collection[Key], work: Callable[[], Awaitable[Result]]) -> Result:
        """The result of the work, done once what came before it is over."""
        before = self._before(keys)
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enter(keys, mine)
        try:
            if before:
                await asyncio.wait(before)
            return await work()
        finally:
            self._leave(keys, mine)
            mine.cancel()

    def clear(self) -> None:
        """In a child process: what was under way is the parent's."""
        self._under_way.clear()

    def _before(self, keys: Collection[Key]) -> set[asyncio.Future[None]]:
        under_way = self._under_way
        found = {call for key in keys if key in under_way for call in under_way[key]}
        if not found:
            return found
        loop = asyncio.get_running_loop()
        return {call for call in found if call.get_loop() is loop}

    def _enter(self, keys: Collection[Key], call: asyncio.Future[None]) -> None:
        for key in keys:
            self._under_way.setdefault(key, set()).add(call)

    def _leave(self, keys: Collection[Key], call: asyncio.Future[None]) -> None:
        for key in keys:
            calls = self._under_way.get(key)
            if calls is not None:
                calls.discard(call)
                if not calls:
                    del self._under_way[key]
