"""What a token remembers of the op ids of its session."""

from __future__ import annotations

import math

import msgspec

from statehold.commits import Commit, Revision
from statehold.drivers.token.record import Record, op_digest
from statehold.folding import NO_FENCE, Applied, Fence, remember

BEGUN = b""
"""In the place of an op id: the token was begun at that time, in microseconds, and not at `created`."""


class Remembered(msgspec.Struct):
    """See `folding.Past`. Erasures and lives that ended leave nothing behind that is carried along."""

    record: Record | None
    commit: Commit
    most: int
    """How many op ids a token remembers at most."""

    @property
    def keep(self) -> int:
        """How many are kept."""
        return min(self.commit.ops, self.most)

    def applied(self, op: str) -> Applied | None:
        record = self.record
        found = None if record is None else record.ops.get(op_digest(op))
        if record is None or found is None:
            return None
        return Applied(Revision(record.revision.incarnation, found[0]), found[1])

    def forgot(self) -> float:
        """A token keeps no times of its op ids, so one that keeps all that it may is in doubt."""
        ops = {} if self.record is None else self.record.ops
        full = self.record is not None and len(ops) >= self.keep
        if full or self.commit.erase:
            return math.inf
        return ops[BEGUN][0] / 1e6 if BEGUN in ops else -math.inf

    def ended(self) -> float:
        return math.inf

    def fence(self) -> Fence:
        return NO_FENCE

    def after(self, number: int, now: float) -> dict[bytes, tuple[int, int]]:
        """The op ids that are remembered when the commit has made this revision."""
        at, ops = self.commit.at, {} if self.record is None else self.record.ops
        if self.record is None and at is not None and at < now:
            ops = {BEGUN: (math.ceil(now * 1e6), 0)}
        if self.commit.op:
            ops = ops.copy()
            remember(ops, op_digest(self.commit.op), (number, self.commit.intent), self.keep)
        return ops
