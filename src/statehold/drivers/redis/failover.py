"""What was acknowledged, and whether a new master still has it.

Replication is asynchronous: a replica that becomes master may lack the newest commits, though they
were acknowledged. So the newest acknowledged revisions are remembered, and compared with what stands
as soon as another master may be answering.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from statehold.commits import Commit, Key, Revision
from statehold.driver import Written

NEWEST = 1000
"""How many keys are remembered."""


class Acknowledged:
    """The newest revision of each of the keys that this process has written last.

    `checked` and `lost` count commits: those that were looked for on a new master, and those that
    it did not have. A state that another process erased meanwhile counts as lost.
    """

    def __init__(self) -> None:
        self.checked = self.lost = 0
        self._newest: dict[Key, tuple[Revision, float]] = {}
        self._taken: dict[Key, tuple[Revision, float]] = {}  # and not yet compared

    def note(self, commit: Commit, written: Written, *, doubtful: bool) -> None:
        """A commit was acknowledged. `doubtful`: by a master that has not been compared yet."""
        if written.repeated:
            return
        newest = self._newest
        before = newest.pop(commit.key, None)
        if before is None and self._taken:
            # What is being read of this state has this commit in it, which must not hide a loss.
            before = self._taken.pop(commit.key, None)
            doubtful = True
        if doubtful and before is not None:
            number = written.revision.number  # of an erasure, what it erased
            self._compare(before[0], written.revision, number - (not commit.erase))
        if commit.erase:
            return
        if len(newest) >= NEWEST:
            newest.pop(next(iter(newest)), None)  # another thread may have been quicker
        until = float("inf") if commit.ttl is None else time.monotonic() + commit.ttl * 0.9
        if commit.max_age is not None:
            until = 0.0  # it may be over at any time
        newest[commit.key] = written.revision, until

    def remembered(self) -> list[Key]:
        """Those whose newest revision is remembered."""
        return list(self._newest)

    def meet(self, found: Mapping[Key, Revision | None]) -> None:
        """Count what a master lacks to which nothing was committed yet."""
        now = time.monotonic()
        for key, stands in found.items():
            acknowledged, until = self._newest.pop(key, (None, 0.0))
            if acknowledged is None:
                continue
            if stands is not None:
                self._compare(acknowledged, stands, stands.number)
            elif now < until:
                self._compare(acknowledged, None, 0)

    def take(self) -> Mapping[Key, tuple[Revision, float]]:
        """What is to be compared: with each revision, until when its state surely lives."""
        taken, self._newest = self._newest, {}
        self._taken |= taken
        return taken

    def put_back(self, taken: Mapping[Key, tuple[Revision, float]]) -> None:
        """They could not be compared."""
        back = {key: self._taken.pop(key) for key in taken if key in self._taken}
        self._newest = {**back, **self._newest}

    def compare(
        self, taken: Mapping[Key, tuple[Revision, float]], found: Sequence[Revision | None]
    ) -> None:
        """Count what is missing from the revisions that were found."""
        now = time.monotonic()
        for (key, (acknowledged, until)), stands in zip(taken.items(), found, strict=True):
            if self._taken.pop(key, None) is None:
                continue  # somebody has committed to it meanwhile, and it was compared then
            if stands is not None:
                self._compare(acknowledged, stands, stands.number)
            elif now < until:
                self._compare(acknowledged, None, 0)

    def _compare(self, acknowledged: Revision, stands: Revision | None, number: int) -> None:
        self.checked += 1
        if stands is None or stands.incarnation != acknowledged.incarnation:
            number = 0
        self.lost += max(0, acknowledged.number - number)
