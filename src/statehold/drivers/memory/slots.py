"""A stored state, and what of it is changed in place."""

from __future__ import annotations

import math

from statehold.changes import Entries, Scalar
from statehold.commits import Commit
from statehold.driver import Cells
from statehold.folding import remember


class Private(dict[str, Scalar]):
    """The entries of a large field that no reader has: changed in place, and taken back by `undo`."""

    __slots__ = ("_log",)

    def __init__(self, entries: Entries) -> None:
        super().__init__(entries)
        self._log: list[tuple[str, Scalar | None]] = []

    def __setitem__(self, entry: str, value: Scalar) -> None:
        self._log.append((entry, self.get(entry)))
        super().__setitem__(entry, value)

    def __delitem__(self, entry: str) -> None:
        self._log.append((entry, self[entry]))
        super().__delitem__(entry)

    def begin(self) -> None:
        self._log.clear()

    def undo(self) -> None:
        for entry, old in reversed(self._log):
            if old is None:
                super().pop(entry, None)
            else:
                super().__setitem__(entry, old)
        self._log.clear()


class Slot:
    """A stored state: its cells, replaced whole by each commit, and what only the store needs."""

    __slots__ = ("bucket", "cells", "digests", "forgot", "nbytes", "ops", "private")

    cells: Cells

    def __init__(self) -> None:
        self.bucket = math.inf
        self.nbytes = 0
        self.ops: dict[str, tuple[int, int, float]] | None = None
        """The op ids that are remembered: number of the commit, its intent, its time."""
        self.digests = False
        """Whether some of them are told by their digest, since they come from elsewhere."""
        self.forgot = -math.inf
        """The time of the newest commit of this life whose op id was forgotten."""
        self.private: tuple[str, ...] = ()
        """Fields whose entries are `Private`."""

    def last(self) -> float:
        """No commit came after this time."""
        updated = self.cells.updated
        return max(updated, self.ops[next(reversed(self.ops))][2]) if self.ops else updated

    def remember(self, commit: Commit, now: float) -> None:
        """Have the op id of the newest commit remembered, and the oldest forgotten."""
        if self.ops is None:
            self.ops = {}
        cells = self.cells
        time = cells.updated if cells.updated > now else now  # noqa: FURB136  max() is a call
        done = (cells.revision.number, commit.intent, time)
        gone = remember(self.ops, commit.op, done, commit.ops)
        if gone is not None:
            self.forgot = max(self.forgot, gone[2])
