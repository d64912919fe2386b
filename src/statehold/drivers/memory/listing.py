"""The ids of a kind in order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from statehold.commits import Key
from statehold.drivers.memory.slots import Slot


class Ordered:
    """The ids of a kind in order, brought up to date only when someone asks."""

    __slots__ = ("_ids", "added", "removed")

    def __init__(self) -> None:
        self._ids: list[str] = []
        self.added: list[str] = []
        self.removed = 0

    def ids(self, slots: Mapping[Key, Slot], tenant: str, kind: str) -> list[str]:
        if len(self.added) > 64 or self.removed > 64 + len(self._ids) // 2:
            self._ids += sorted(self.added)
            self._ids.sort()  # two sorted runs: one merge
            self._ids = [name for name in dict.fromkeys(self._ids) if (tenant, kind, name) in slots]
            self.removed = 0
        else:
            for name in self.added:
                at = bisect_left(self._ids, name)
                if at == len(self._ids) or self._ids[at] != name:
                    self._ids.insert(at, name)
        self.added = []
        return self._ids
