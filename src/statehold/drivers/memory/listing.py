"""The ids of states in order: of those of a kind, and of those about a subject.

They lie in *chunks*, each of which comes before the next, and is sorted only when somebody lists it. So who
is born or dies finds its chunk by bisection and is one entry of a dict there, and a page sorts some
hundred ids, however many there are. What is in one chunk is that dict alone, as most subjects' ids are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain
from typing import Final, Generic, TypeAlias, TypeVar

CHUNK: Final = 512
"""How many ids a chunk has when it was split; it is split at twice as many."""

K = TypeVar("K", bound=Hashable)
_Chunk: TypeAlias = dict[str, None]


class _Chunks:
    """Chunks in order, and the lowest id that each may have."""

    __slots__ = ("chunks", "lows")

    def __init__(self, chunk: _Chunk) -> None:
        self.lows = [""]
        self.chunks = [chunk]

    def add(self, id: str) -> None:
        at = bisect_right(self.lows, id) - 1
        chunk = self.chunks[at]
        chunk[id] = None
        if len(chunk) > 2 * CHUNK:
            self._split(at)

    def _split(self, at: int) -> None:
        ids = self.sorted(at)
        self.lows.insert(at + 1, ids[CHUNK])
        self.chunks.insert(at + 1, dict.fromkeys(ids[CHUNK:]))
        self.chunks[at] = dict.fromkeys(ids[:CHUNK])

    def remove(self, id: str) -> None:
        at = bisect_right(self.lows, id) - 1
        chunk = self.chunks[at]
        del chunk[id]
        if len(chunk) < CHUNK // 4 and len(self.chunks) > 1:  # it joins another
            at = max(at, 1)
            del self.lows[at]
            joined = self.chunks.pop(at)
            self.chunks[at - 1].update(joined)
            if len(self.chunks[at - 1]) > 2 * CHUNK:
                self._split(at - 1)

    def sorted(self, at: int) -> list[str]:
        """The ids of a chunk, which are in order from now on, so that it is sorted sooner again."""
        ids = sorted(self.chunks[at])
        self.chunks[at] = dict.fromkeys(ids)
        return ids

    def from_(self, low: str) -> Iterator[list[str]]:
        """Sorted ids of one chunk after the other, from that in which `low` would be."""
        return map(self.sorted, range(bisect_right(self.lows, low) - 1, len(self.chunks)))


class Listings(Generic[K]):
    """The ids under each of some names."""

    def __init__(self) -> None:
        self._found: dict[K, _Chunk | _Chunks] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, name: K, id: str) -> None:
        """One more id, which is not there."""
        found = self._found.get(name)
        if found is None:
            self._found[name] = {id: None}
        elif isinstance(found, _Chunks):
            found.add(id)
        else:
            found[id] = None
            if len(found) > 2 * CHUNK:
                self._found[name] = _Chunks(found)

    def remove(self, name: K, id: str) -> None:
        """One id less, which is there."""
        found = self._found[name]
        if isinstance(found, _Chunks):
            found.remove(id)
            if len(found.chunks) == 1:
                self._found[name] = found.chunks[0]
        else:
            del found[id]
            if not found:
                del self._found[name]

    def page(self, name: K, low: str, high: str | None, limit: int, *, after: bool) -> list[str]:
        """Up to `limit` ids from `low` on (or those after it), below `high`, in order."""
        found = self._found.get(name, {})
        chunks = found.from_(low) if isinstance(found, _Chunks) else iter((sorted(found),))
        page: list[str] = []
        for ids in chunks:
            begin = 0 if page else (bisect_right if after else bisect_left)(ids, low)
            page += ids[begin : begin + limit - len(page)]
            if len(page) == limit or (high is not None and page and page[-1] >= high):
                break
        return page if high is None else page[: bisect_left(page, high)]

    def all(self, name: K) -> Iterable[str]:
        """All ids, in any order."""
        found = self._found.get(name, {})
        return chain.from_iterable(found.chunks) if isinstance(found, _Chunks) else found

    def clear(self) -> None:
        """There are no ids any more."""
        self._found.clear()
