"""Which op ids of the callers' own may have been applied, though nobody was told so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from statehold.clock import AMBIENT
from statehold.commits import Commit, Key
from statehold.driver import Driver

MARGIN: Final = 1.0
"""Seconds by which a time of ours may be ahead of the clock that decides."""

MOST: Final = 100_000
"""The maximum of op ids that are kept. Beyond it every op id is one that may have been applied since
the oldest that gave way."""


class Doubts:
    """The op ids whose calls failed without it being known if they took effect, and since when.

    Who sends one again through the same store need not say that it is a repetition.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._since: dict[tuple[Key, str], float] = {}  # by the monotonic clock, which is never set
        self._gone: float | None = None

    def since(self, key: Key, op: str, now: float) -> float | None:
        """When it was first sent, by the clock that decides expiry; None if nothing is in doubt.

        `now` is what that clock is thought to show.
        """
        began = self._since.get((key, op), self._gone) if self._since else None
        if began is None:
            return None
        elapsed = now - (AMBIENT.monotonic() - began)
        known = self._driver.earliest(began)
        return (elapsed if known is None else min(known, elapsed)) - MARGIN

    def note(self, commits: Iterable[Commit], began: float) -> None:
        """These may have been applied, at that time of the monotonic clock or later."""
        for commit in commits:
            self._since.setdefault((commit.key, commit.op), began)
        while len(self._since) > MOST:
            try:
                oldest = next(iter(self._since))
            except RuntimeError:  # another thread has just changed it
                continue
            gone = self._since.pop(oldest, began)
            self._gone = gone if self._gone is None else min(self._gone, gone)

    def settle(self, commit: Commit) -> None:
        """What became of it is known."""
        self._since.pop((commit.key, commit.op), None)
