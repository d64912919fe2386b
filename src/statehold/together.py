"""Work that is done once for all who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from statehold.errors import StateholdError, own


class Together:
    """One task for each thing to be done, however many come for it while it is under way.

    It is cancelled with none of them: a caller whose time runs out would else leave the next one to
    begin anew. Each event loop has its own.
    """

    def __init__(self, under_way: set[asyncio.Future[Any]] | None = None) -> None:
        self._under_way = set[asyncio.Future[Any]]() if under_way is None else under_way
        self._tasks: dict[tuple[asyncio.AbstractEventLoop, Hashable], asyncio.Task[Any]] = {}

    async def do(self, what: Hashable, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """The result of the work. An error of ours is an object of its own for each caller."""
        at = (asyncio.get_running_loop(), what)
        task = self._tasks.get(at)
        if task is None:
            task = self._tasks[at] = asyncio.ensure_future(work())
            self._under_way.add(task)
            task.add_done_callback(lambda task: self._ended(at, task))
        try:
            return await asyncio.shield(task)
        except StateholdError as error:
            mine = own(error)
        raise mine

    def _ended(
        self, at: tuple[asyncio.AbstractEventLoop, Hashable], task: asyncio.Task[Any]
    ) -> None:
        self._tasks.pop(at, None)
        self._under_way.discard(task)
        heard(task)

    def clear(self) -> None:
        """In a child process: what was under way is the parent's."""
        self._tasks.clear()


def heard(task: asyncio.Future[Any]) -> None:
    """The task's error has been looked at, though everybody who would have been told may have gone."""
    if not task.cancelled():
        task.exception()
