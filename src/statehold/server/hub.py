"""Who is waiting for which state, and what was changed lately, in this process."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from statehold.commits import Revision
from statehold.server.problems import Problem

Key: TypeAlias = tuple[str, str, str]

RECENT: Final = 256
"""How many of the states changed last are known."""


class Hub:
    """Wakes those who watch a state when it is changed through this process."""

    def __init__(self, max_watchers: int) -> None:
        self.max_watchers = max_watchers
        self.watchers = 0
        self.closed = False
        self._waiting: dict[Key, set[asyncio.Event]] = {}
        self._recent: OrderedDict[Key, tuple[Revision, float]] = OrderedDict()

    @contextmanager
    def watch(self, key: Key) -> Generator[asyncio.Event]:
        """An event that is set when the state may have changed. Raises `Problem` if there are many."""
        if self.watchers >= self.max_watchers or self.closed:
            raise Problem("too_many_watchers", f"at most {self.max_watchers} watches at one time")
        event = asyncio.Event()
        self.watchers += 1
        self._waiting.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            self.watchers -= 1
            waiting = self._waiting[key]
            waiting.discard(event)
            if not waiting:
                del self._waiting[key]

    def changed(self, key: Key, revision: Revision, now: float) -> None:
        """The state was changed."""
        self._recent[key] = (revision, now)
        self._recent.move_to_end(key)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        self._wake(key)

    def deleted(self, key: Key) -> None:
        """The state was deleted."""
        self._recent.pop(key, None)
        self._wake(key)

    def _wake(self, key: Key) -> None:
        for event in self._waiting.get(key, ()):
            event.set()

    def recent(self, tenant: str) -> list[dict[str, Any]]:
        """The states of a tenant changed last, the latest first."""
        return [
            {"kind": key[1], "id": key[2], "revision": str(revision), "changed": at}
            for key, (revision, at) in reversed(self._recent.items())
            if key[0] == tenant
        ]

    def close(self) -> None:
        """Every watch ends."""
        self.closed = True
        for events in self._waiting.values():
            for event in events:
                event.set()
