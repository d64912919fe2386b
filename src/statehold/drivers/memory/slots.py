"""A stored state."""

from __future__ import annotations

import math

import msgspec

from statehold.commits import Commit
from statehold.driver import Cells
from statehold.folding import remember


class Slot(msgspec.Struct, gc=False):
    """A stored state: its cells, replaced whole by each commit, and what only the store needs.

    Python's collector does not walk it. It may be in no cycle.
    """

    cells: Cells
    bucket: float = math.inf
    nbytes: int = 0
    ops: dict[str, tuple[int, int, float]] | None = None
    """The op ids that are remembered: number of the commit, its intent, its time."""
    digests: bool = False
    """Whether some of them are told by their digest, since they come from elsewhere."""
    forgot: float = -math.inf
    """The time of the newest commit of this life whose op id was forgotten."""

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
