"""The ids of states in order: of those of a kind, and of those about a subject.

They lie in sorted *chunks*, so that whoever is born or dies moves a few hundred ids and not all, and a
page is found by bisection, however many there are. What is in one chunk is that list alone, as most
subjects' ids are. It is kept up by every birth and death, so that no listing has to sort anything.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Iterator
from itertools import chain, islice
from operator import itemgetter
from typing import Final, Generic, TypeAlias, TypeVar

CHUNK: Final = 512
"""How many ids a chunk has when it was split; it is split at twice as many."""

K = TypeVar("K", bound=Hashable)
_Chunk: TypeAlias = list[str]
_last = itemgetter(-1)


class _Chunks:
    """Sorted lists, none of them empty, of which each comes before the next."""

    __slots__ = ("lists",)

    def __init__(self, chunk: _Chunk) -> None:
        self.lists = [chunk]

    def add(self, id: str) -> None:
        lists = self.lists
        chunk = lists[-1]
        if id > chunk[-1]:  # as ids that count, or tell the time, always are
            at = len(lists) - 1
            chunk.append(id)
        else:
            at = bisect_left(lists, id, key=_last)
            chunk = lists[at]
            insort(chunk, id)
        if len(chunk) > 2 * CHUNK:
            lists.insert(at + 1, chunk[CHUNK:])
            del chunk[CHUNK:]

    def remove(self, id: str) -> None:
        lists = self.lists
        at = bisect_left(lists, id, key=_last)
        chunk = lists[at]
        del chunk[bisect_left(chunk, id)]
        if len(chunk) < CHUNK // 4 and len(lists) > 1:  # it joins another
            at = max(at, 1)
            lists[at - 1] += lists.pop(at)
            chunk = lists[at - 1]
            if len(chunk) > 2 * CHUNK:
                lists.insert(at, chunk[CHUNK:])
                del chunk[CHUNK:]

    def beginning(self, low: str, *, after: bool) -> Iterator[str]:
        lists = self.lists
        at = bisect_left(lists, low, key=_last)
        if at == len(lists):
            return iter(())
        rest = (lists[n] for n in range(at + 1, len(lists)))
        return chain(_from(lists[at], low, after=after), chain.from_iterable(rest))


class Listings(Generic[K]):
    """Sorted ids under each of some names."""

    def __init__(self) -> None:
        self._found: dict[K, _Chunk | _Chunks] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, name: K, id: str) -> None:
        """One more id, which is not there."""
        found = self._found.get(name)
        if found is None:
            self._found[name] = [id]
        elif isinstance(found, _Chunks):
            found.add(id)
        else:
            insort(found, id)
            if len(found) > CHUNK:
                self._found[name] = _Chunks(found)

    def remove(self, name: K, id: str) -> None:
        """One id less, which is there."""
        found = self._found[name]
        if isinstance(found, _Chunks):
            found.remove(id)
            if len(found.lists) == 1 and len(found.lists[0]) < CHUNK // 2:
                self._found[name] = found.lists[0]
        else:
            del found[bisect_left(found, id)]
            if not found:
                del self._found[name]

    def page(self, name: K, low: str, high: str | None, limit: int, *, after: bool) -> list[str]:
        """Up to `limit` ids from `low` on (or those after it), below `high`, in order."""
        found = self._found.get(name)
        if found is None:
            return []
        if isinstance(found, _Chunks):
            page = list(islice(found.beginning(low, after=after), limit))
        else:
            page = list(islice(_from(found, low, after=after), limit))
        return page if high is None else page[: bisect_left(page, high)]

    def all(self, name: K) -> Iterator[str]:
        """All ids, in order."""
        found = self._found.get(name, [])
        return chain.from_iterable(found.lists) if isinstance(found, _Chunks) else iter(found)

    def clear(self) -> None:
        """There are no ids any more."""
        self._found.clear()


def _from(chunk: _Chunk, low: str, *, after: bool) -> Iterator[str]:
    return islice(chunk, (bisect_right if after else bisect_left)(chunk, low), None)
