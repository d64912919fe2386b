"""States as they were before commits that stand together, to be put back after an interrupt."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from statehold.commits import Commit, Key
from statehold.drivers.memory.past import Ended
from statehold.drivers.memory.slots import Slot


class Before:
    """What each state of some commits was. None of it is changed in place."""

    def __init__(self, slots: dict[Key, Slot], past: Ended, commits: Sequence[Commit]) -> None:
        self._slots = {commit.key: _copied(slots.get(commit.key)) for commit in commits}
        self._erasures = [
            (commit.key, commit.op)
            for commit in commits
            if commit.erase and (commit.key, commit.op) not in past.erasures
        ]
        self._fences = {commit.key: past.fences.get(commit.key) for commit in commits}
        self._ends = {commit.key: past.ends.get(commit.key) for commit in commits}

    def put_back(self, slots: dict[Key, Slot], past: Ended) -> None:
        """The states are those again. What else is kept of them is to be made anew."""
        for key, slot in self._slots.items():
            slots.pop(key, None)
            if slot is not None:
                slots[key] = slot
        for erasure in self._erasures:
            past.erasures.pop(erasure, None)
        for key, fence in self._fences.items():
            past.fences.pop(key, None)
            if fence is not None:
                past.fences[key] = fence
        for key, end in self._ends.items():
            past.ends.pop(key, None)
            if end is not None:
                past.ends[key] = end


def _copied(slot: Slot | None) -> Slot | None:
    if slot is None:
        return None
    made = copy(slot)
    made.ops = None if slot.ops is None else slot.ops.copy()
    return made
