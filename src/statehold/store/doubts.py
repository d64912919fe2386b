"""Which op ids of the callers' own may have been applied, though nobody was told so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from statehold.changes import Commit, Key
from statehold.errors import Busy, ConfigError, Full, Invalid, ReadOnly

MARGIN: Final = 1.0
"""Seconds by which a time of ours may be ahead of the clock that decides."""

NOT_SENT: Final = (Busy, Full, ReadOnly, ConfigError, Invalid)
"""Errors that say that nothing was written."""

MOST: Final = 10_000
"""How many are kept at the most; the oldest give way."""


class Doubts:
    """The op ids whose calls failed without it being known if they took effect, and since when.

    Who sends one again through the same store need not say that it is a repetition.
    """

    def __init__(self) -> None:
        self._since: dict[tuple[Key, str], float] = {}

    def since(self, key: Key, op: str) -> float | None:
        """When it was first sent, by the clock that decides expiry; None if nothing is in doubt."""
        return self._since.get((key, op)) if self._since else None

    def note(self, commits: Iterable[Commit], began: float) -> None:
        """These may have been applied, at that time or later."""
        for commit in commits:
            self._since.setdefault((commit.key, commit.op), began)
        while len(self._since) > MOST:
            self._since.pop(next(iter(self._since)), None)

    def settle(self, commit: Commit) -> None:
        """What became of it is known."""
        self._since.pop((commit.key, commit.op), None)
