"""Lists of encoded items, as immutable versions to which a change is cheap.

Every item has a *position*: the first that is ever appended in a life of the state has position 1, the
next 2, whatever is trimmed or cleared meanwhile. Only what is taken back from the newest end gives its
positions back. A list knows that of its first item, and the others follow without gaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, overload

_bare = object.__new__


SHORT: Final = 64
"""A list of so many items is a tuple, which Python's collector does not walk for long."""


class Items(Sequence[bytes]):
    """An immutable list of encoded items to which appending is cheap.

    A short one is copied. Versions of a longer one share one growing buffer and differ in the window
    that they show of it, so appending to a long list copies nothing, and a reader's version never
    changes under it. What falls out of the window is let go by copying the window once a good part of
    the buffer is outside it.
    """

    __slots__ = ("_buffer", "_start", "_stop", "first", "nbytes")

    _buffer: tuple[bytes, ...] | list[bytes]
    first: int
    """The position of the first item; of an empty list, the one that the next item will have."""
    nbytes: int
    """The bytes of all items together."""

    def __init__(self, items: Iterable[bytes] = (), first: int = 1) -> None:
        buffer = tuple(items)
        size = len(buffer)
        self._buffer = buffer if size <= SHORT else list(buffer)
        self._start = 0
        self._stop = size
        self.first = first
        self.nbytes = sum(map(len, buffer))

    def appended(self, items: Sequence[bytes], keep: int) -> Items:
        """This list with `items` at its end, cut to the newest `keep`. Not safe for two threads."""
        buffer, start, stop = self._buffer, self._start, self._stop
        nbytes = self.nbytes
        first = self.first
        count = len(items)
        over = stop - start + count - keep
        nbytes += len(items[0]) if count == 1 else sum(map(len, items))
        if isinstance(buffer, tuple) and stop + count <= SHORT:
            added = items if isinstance(items, tuple) else tuple(items)
            if over == 1 and stop:  # the usual case, with one copy
                nbytes -= len(buffer[0])
                first += 1
                buffer = buffer[1:] + added
            else:
                buffer += added
                if over > 0:
                    nbytes -= sum(map(len, buffer[:over]))
                    first += over
                    buffer = buffer[over:]
            stop = len(buffer)
        else:
            if isinstance(buffer, tuple) or stop != len(buffer):  # another version has gone on here
                buffer = list(buffer[start:stop])
                start = 0
            if count == 1:
                buffer.append(items[0])
            else:
                buffer.extend(items)
            stop = len(buffer)
            if over > 0:
                nbytes -= len(buffer[start]) if over == 1 else sum(map(len, buffer[start:-keep]))
                first += over
                start += over
                if start > keep >> 3:
                    buffer = buffer[start:]
                    start = 0
                    stop = keep
        new: Items = _bare(Items)
        new._buffer = buffer
        new._start = start
        new._stop = stop
        new.first = first
        new.nbytes = nbytes
        return new

    def without_newest(self, count: int) -> Items:
        """This list without its newest `count` items, of which it has so many."""
        if len(self) <= PATCHES:
            return Items(self[: len(self) - count], self.first)
        return self._patched().without_newest(count)

    def with_item(self, position: int, item: bytes) -> Items:
        """This list with another item in that position, which it has."""
        if len(self) <= PATCHES:
            items = self[:]
            items[position - self.first] = item
            return Items(items, self.first)
        return self._patched().with_item(position, item)

    def _patched(self) -> Items:
        """The same items, so that what is changed other than by appending copies few of them."""
        return _Patched.of(self, self.first, len(self), {}, (), self.nbytes)

    def cleared(self) -> Items:
        """No items, and positions that go on."""
        return Items((), self.first + len(self))

    def window(self, skip: int, take: int) -> Items:
        """`take` items, without the first `skip`."""
        if take == len(self):
            return self
        return Items(self[skip : skip + take], self.first + skip)

    def tail(self, count: int) -> Items:
        """The newest `count` items."""
        size = len(self)
        return self if count >= size else self.window(size - count, count)

    def fork(self) -> Items:
        """The same items in a buffer of their own."""
        return Items(self, self.first)

    def __len__(self) -> int:
        return self._stop - self._start

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        size = self._stop - self._start
        if isinstance(index, slice):
            begin, end, step = index.indices(size)
            if step == 1:
                found = self._buffer[self._start + begin : self._start + max(begin, end)]
                return found if isinstance(found, list) else list(found)
            return [self._buffer[self._start + i] for i in range(begin, end, step)]
        if index < 0:
            index += size
        if not 0 <= index < size:
            raise IndexError(index)
        return self._buffer[self._start + index]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._buffer[self._start : self._stop])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Items) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Items({list(self)!r}, {self.first})"


PATCHES: Final = 256
"""So many items are copied rather than left where they are; and so many patches are kept at most."""


class _Patched(Items):
    """A long list of which a few items are others than in the list below it.

    It has `held` of the items of `below` from position `first` on, but for those in `edits`, by
    position; and then those in `top`. Once there are many of either, they are copied into one list.
    """

    __slots__ = ("_below", "_edits", "_held", "_top")

    _below: Items
    _edits: Mapping[int, bytes]
    _held: int
    _top: tuple[bytes, ...]

    @classmethod
    def of(
        cls,
        below: Items,
        first: int,
        held: int,
        edits: Mapping[int, bytes],
        top: tuple[bytes, ...],
        nbytes: int,
    ) -> Items:
        """The list, in one piece where that is due."""
        new: _Patched = _bare(cls)
        new._below = below
        new.first = first
        new._held = held
        new._edits = edits
        new._top = top
        new.nbytes = nbytes
        if len(edits) > PATCHES or len(top) > PATCHES or held <= PATCHES:
            return new.fork()
        return new

    def appended(self, items: Sequence[bytes], keep: int) -> Items:
        first, held, top = self.first, self._held, (*self._top, *items)
        nbytes = self.nbytes + sum(map(len, items))
        over = held + len(top) - keep
        if over > 0:
            nbytes -= sum(map(len, self[:over])) if over <= len(self) else self.nbytes
            if over > held:
                nbytes -= sum(map(len, items[: max(0, over - len(self))]))
                return Items(top[over - held :], first + over)
            first += over
            held -= over
        return self.of(self._below, first, held, self._edits, top, nbytes)

    def without_newest(self, count: int) -> Items:
        size = len(self)
        nbytes = self.nbytes - sum(map(len, self[size - count :]))
        of_top = min(count, len(self._top))
        top = self._top[: len(self._top) - of_top]
        held = self._held - (count - of_top)
        edits = self._edits
        if edits and count > of_top:
            edits = {at: item for at, item in edits.items() if at < self.first + held}
        return self.of(self._below, self.first, held, edits, top, nbytes)

    def with_item(self, position: int, item: bytes) -> Items:
        at = position - self.first
        nbytes = self.nbytes + len(item) - len(self[at])
        edits, top = self._edits, self._top
        if at < self._held:
            edits = {**edits, position: item}
        else:
            at -= self._held
            top = (*top[:at], item, *top[at + 1 :])
        return self.of(self._below, self.first, self._held, edits, top, nbytes)

    def __len__(self) -> int:
        return self._held + len(self._top)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        size, held, skipped = len(self), self._held, self.first - self._below.first
        if isinstance(index, int):
            at = index + size if index < 0 else index
            if not 0 <= at < size:
                raise IndexError(index)
            if at >= held:
                return self._top[at - held]
            found = self._edits.get(self.first + at)
            return self._below[skipped + at] if found is None else found
        begin, end, step = index.indices(size)
        if step != 1:
            return list(self)[index]
        items = self._below[skipped + begin : skipped + min(end, held)]
        last, begins = self.first + min(end, held), self.first + begin
        edits = self._edits
        for at in edits if len(edits) < len(items) else range(begins, begins + len(items)):
            if begins <= at < last and at in edits:
                items[at - begins] = edits[at]
        return items + list(self._top[max(0, begin - held) : max(0, end - held)])

    def __iter__(self) -> Iterator[bytes]:
        return iter(self[:])


def packed(items: Items) -> list[bytes | int]:
    """A list as one to be encoded: its first position before its items, where that is not 1."""
    return [items.first, *items] if items.first != 1 else list(items)


def unpacked(found: Sequence[bytes | int]) -> Items:
    """The list that was packed. Raises ValueError."""
    first = found[0] if found and isinstance(found[0], int) else None
    items = [one for one in found if isinstance(one, bytes)]
    if len(items) != len(found) - (first is not None):
        raise ValueError("a number where an item should be")
    return Items(items, 1 if first is None else first)
