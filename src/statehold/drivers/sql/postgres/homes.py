"""Which connections of a pool serve a kind.

A process of PostgreSQL keeps the plans of all that it has executed: with the functions, most of a megabyte for
each kind. So where there are many kinds, each has connections of its own choosing, and no connection serves many
more than its share. Where there are few, every connection serves all.
"""

from __future__ import annotations

from typing import Final

KINDS: Final = 24
"""So many kinds may every connection serve."""


class Homes:
    """The places of one driver's connections, 0 to `size` - 1, and who has them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._numbers: dict[str, int] = {}
        self._places: dict[str, frozenset[int]] = {}

    def add(self, kind: str) -> None:
        """One more kind, if it is new."""
        self._numbers.setdefault(kind, len(self._numbers))
        self._places.clear()

    def of(self, kind: str) -> frozenset[int] | None:
        """The places of the connections that serve a kind; None for all."""
        numbers = self._numbers
        if len(numbers) <= KINDS:
            return None
        places = self._places.get(kind)
        if places is None:
            first, copies = numbers.get(kind, 0), max(1, self._size * KINDS // len(numbers))
            places = frozenset((first + n) % self._size for n in range(copies))
            self._places[kind] = places
        return places
