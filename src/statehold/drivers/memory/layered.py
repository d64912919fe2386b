"""The entries of a large field, as immutable versions to which a change is cheap."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from statehold.changes import Entries, PartlyLoaded, Scalar

LARGE: Final = 64
"""A field of more entries than this is not copied for each commit."""

_UNSAID: Final = object()


class Layered(PartlyLoaded):
    """All entries of a field: the few in `over`, and those of `below` that are not in it.

    Versions share what is below and nobody changes it, so a commit copies what is over alone, and a
    reader's version stays as it was. Both are copied into one once there is much in `over`: as often as
    makes both copies cheap, which is each √(8 n) changes of n entries. To go through all of them copies
    them first.
    """

    __slots__ = ("_below", "_over", "_size")

    _below: Entries
    _over: dict[str, Scalar | None]  # None: it is gone
    _size: int

    @classmethod
    def of(cls, entries: Entries) -> Layered:
        """These entries, which nobody changes from now on."""
        return cls._made(entries, {}, len(entries))

    @classmethod
    def _made(cls, below: Entries, over: dict[str, Scalar | None], size: int) -> Layered:
        new = cls()
        new._below = below
        new._over = over
        new._size = size
        return new

    def copy(self) -> Entries:
        """One that can be changed by itself."""
        over = self._over
        if self._size <= LARGE:
            return self.flat()
        if len(over) ** 2 > 8 * len(self._below):
            return self.of(self.flat())
        return self._made(self._below, over.copy(), self._size)

    def flat(self) -> Entries:
        """A dict of its own."""
        entries = self._below.copy()
        for entry, value in self._over.items():
            if value is None:
                entries.pop(entry, None)
            else:
                entries[entry] = value
        return entries

    def held(self) -> list[object]:
        """The values that it shares with other versions."""
        return list(self._below.values())

    def get(self, entry: str, default: Any = None, /) -> Any:
        """The value of an entry; the default if there is none."""
        found = self._over.get(entry, _UNSAID)
        if found is _UNSAID:
            return self._below.get(entry, default)
        return default if found is None else found

    def __getitem__(self, entry: str) -> Scalar:
        found: Scalar | None = self.get(entry)
        if found is None:
            raise KeyError(entry)
        return found

    def __contains__(self, entry: object) -> bool:
        return isinstance(entry, str) and self.get(entry) is not None

    def __setitem__(self, entry: str, value: Scalar) -> None:
        if self.get(entry) is None:
            self._size += 1
        self._over[entry] = value

    def __delitem__(self, entry: str) -> None:
        self[entry]
        self._size -= 1
        self._over[entry] = None

    def __len__(self) -> int:
        return self._size

    def lowest(self) -> str:
        """The name of the lowest entry. There is one."""
        over = self._over
        left = (entry for entry in self._below if entry not in over)
        return min(chain(left, (entry for entry, value in over.items() if value is not None)))

    def __iter__(self) -> Iterator[str]:
        return iter(self.flat())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self.flat())

    def keys(self) -> Any:
        """Of a copy."""
        return self.flat().keys()

    def values(self) -> Any:
        """Of a copy."""
        return self.flat().values()

    def items(self) -> Any:
        """Of a copy."""
        return self.flat().items()

    def __eq__(self, other: object) -> bool:
        return self.flat() == (other.flat() if isinstance(other, Layered) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.flat())

    def __reduce__(self) -> tuple[type[dict[str, Scalar]], tuple[Entries]]:
        return dict, (self.flat(),)

    def __copy__(self) -> Entries:
        return self.copy()

    def __deepcopy__(self, _memo: object) -> Entries:
        return self.flat()
