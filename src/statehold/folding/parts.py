"""Cells of which only a part is loaded, and what of a state's cells is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from statehold.changes import Cell, Items, PartlyLoaded, Scalar
from statehold.commits import Want

_bare = object.__new__
_dict: Any = dict
_get, _set, _delete, _len = _dict.get, _dict.__setitem__, _dict.__delitem__, _dict.__len__


def cut(fields: Mapping[str, Cell], want: Want) -> dict[str, Cell]:
    """What is wanted of these cells."""
    out: dict[str, Cell] = {}
    for name in fields if want.fields is None else want.fields:
        cell = fields.get(name)
        if cell is None:
            continue
        if isinstance(cell, Items):
            cell = cell.window(*want.window_of(name, cell.first, len(cell)))
        elif want.entries is not None and name in want.entries:
            cell = {entry: cell[entry] for entry in want.entries[name] if entry in cell}
            if not cell:
                continue  # an empty cell is the same as none
        out[name] = cell
    return out


class Part(PartlyLoaded):
    """Some entries of a field, and `others` more; `changed` is what was set, None for what was deleted.

    All that changes will look at has been loaded, unless a subclass looks the others up.
    """

    __slots__ = ("changed", "others")

    changed: dict[str, Scalar | None]
    others: int

    @classmethod
    def of(cls, entries: Mapping[str, Scalar], others: int) -> Part:
        """These entries, and so many others."""
        made = cls(entries)
        made.others = others
        made.changed = {}
        return made

    def look_up(self, entry: str) -> Scalar | None:  # noqa: ARG002  it is loaded or is not there
        """The value of an entry that is not loaded; None if there is no such entry."""
        return None

    def lowest_other(self) -> str | None:
        """The lowest of all names, but for those that are None in `changed`; None if it is loaded."""
        return None

    def get(self, entry: str, default: Any = None, /) -> Any:
        """The value, looked up if it is not loaded; the default if there is no such entry."""
        found = _get(self, entry)
        if found is None and self.others and entry not in self.changed:
            found = self.look_up(entry)
            if found is not None:
                _set(self, entry, found)
                self.others -= 1
        return default if found is None else found

    def __contains__(self, entry: object) -> bool:
        return isinstance(entry, str) and self.get(entry) is not None

    def __setitem__(self, entry: str, value: Scalar) -> None:
        _set(self, entry, value)
        self.changed[entry] = value

    def __delitem__(self, entry: str) -> None:
        _delete(self, entry)
        self.changed[entry] = None

    def __len__(self) -> int:
        count: int = _len(self)
        return count + self.others

    def lowest(self) -> str:
        """The name of the lowest entry of all, which is loaded then."""
        loaded = min(self, default=None)
        other = self.lowest_other() if self.others else None
        if other is None or (loaded is not None and loaded < other):
            assert loaded is not None  # noqa: S101  nobody asks where there is none
            return loaded
        self.get(other)
        return other

    def copy(self) -> Part:
        """One that can be changed by itself."""
        made = self.of(self, self.others)
        made.changed = self.changed.copy()
        return made


def _nowhere(position: int) -> bytes:
    raise LookupError(f"the item in position {position} is not loaded")


class Ends(Items):
    """A list of which only the ends are known, which is all that an append needs.

    Its items are those over the position `floor` up to `end`; `fresh` are the newest of them, that are
    not saved yet, and `keep` is the bound of the last append (0: there was none). Of those that are
    saved, up to the position `saved`, those over `left` are gone; and those in `edits` are to be
    replaced, by position. What else a `Splice` asks for, `look_up` gives: the item that is saved in a
    position which the list has.
    """

    __slots__ = ("_base", "_spliced", "end", "fresh", "keep")

    nbytes = 0  # of what is not here nothing is known

    def __init__(
        self,
        end: int = 0,
        floor: int = 0,
        fresh: tuple[bytes, ...] = (),
        keep: int = 0,
        look_up: Callable[[int], bytes] = _nowhere,
    ) -> None:
        self.end = end
        self.first = floor + 1
        self.fresh = fresh
        self.keep = keep
        self._base = end - len(fresh), look_up
        self._spliced: tuple[int, dict[int, bytes]] | None = None

    @classmethod
    def of(cls, items: Items) -> Ends:
        """The ends of a list that is here. Whoever folds them leaves the list itself alone."""
        first = items.first
        return cls(first + len(items) - 1, first - 1, look_up=lambda at: items[at - first])

    @property
    def is_spliced(self) -> bool:
        """Whether anything of what is saved is gone from the newest end, or replaced."""
        return self._spliced is not None

    @property
    def floor(self) -> int:
        """The position before the first."""
        return self.first - 1

    @property
    def saved(self) -> int:
        """The newest position that is saved."""
        return self._base[0]

    @property
    def left(self) -> int:
        """The newest one of those that is not gone."""
        return self._base[0] if self._spliced is None else self._spliced[0]

    @property
    def edits(self) -> dict[int, bytes]:
        """What replaces saved items, by position."""
        return {} if self._spliced is None else self._spliced[1]

    def __len__(self) -> int:
        return self.end - self.first + 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._item(at) for at in range(len(self))[index]]
        return self._item(index if index >= 0 else len(self) + index)

    def _item(self, index: int) -> bytes:
        position = self.first + index
        if position > self.left:
            return self.fresh[position - self.end - 1]
        found = self.edits.get(position)
        return self._base[1](position) if found is None else found

    def __iter__(self) -> Iterator[bytes]:
        return iter(self[:])

    def _copy(self) -> Ends:
        new: Ends = _bare(Ends)  # as `Items` does it
        new.end = self.end
        new.first = self.first
        new.fresh = self.fresh
        new.keep = self.keep
        new._base = self._base
        new._spliced = self._spliced
        return new

    def appended(self, items: Sequence[bytes], keep: int) -> Ends:
        """With the items at its end, and the oldest gone."""
        end = self.end + len(items)
        first = end - keep + 1
        first = first if first > self.first else self.first  # noqa: FURB136  max() is a call
        fresh = (*self.fresh, *items) if self.fresh else tuple(items)
        if len(fresh) > end - first + 1:
            fresh = fresh[first - end - 1 :]
        new: Ends = _bare(Ends)
        new.end = end
        new.first = first
        new.fresh = fresh
        new.keep = keep
        new._base = self._base
        new._spliced = self._spliced
        return new

    def without_newest(self, count: int) -> Ends:
        """Without so many of them."""
        new = self._copy()
        new.end = self.end - count
        new.fresh = self.fresh[: max(0, len(self.fresh) - count)]
        left = min(self.left, new.end)
        kept = {at: item for at, item in self.edits.items() if at <= left}
        new._spliced = left, kept  # noqa: SLF001  its own class
        return new

    def with_item(self, position: int, item: bytes) -> Ends:
        """With another one in that position."""
        new = self._copy()
        if position > self.left:
            at = position - self.end - 1 + len(self.fresh)
            new.fresh = (*self.fresh[:at], item, *self.fresh[at + 1 :])
        else:
            edits = {**self.edits, position: item}
            new._spliced = self.left, edits  # noqa: SLF001  its own class
        return new

    def cleared(self) -> Ends:
        """Without any."""
        new = self._copy()
        new.first = self.end + 1
        new.fresh = ()
        return new
