"""What the fields that are lists share: positions, and what was redacted in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar, cast

from msgspec.structs import replace

from statehold.changes import BEYOND, Append, Drop, Items, Splice
from statehold.codec import as_json
from statehold.commits import Is
from statehold.fields.base import Edit, Field, Operation, Snapshot, bound, decoded, flag, positive

T = TypeVar("T")
Listed = TypeVar("Listed", bound="ListField[Any]")
View = TypeVar("View", covariant=True)


NUMBER = {"type": "integer", "minimum": 1, "maximum": BEYOND}

REDACTED = b"null"
"""What is left of an item that was redacted."""


class ListField(Field[View]):
    """What the fields that are lists share: the newest `keep` items of at most `max_bytes` each."""

    makes: ClassVar = frozenset({Append, Drop, Splice})

    nullable: bool = False
    """Whether what is left of a redacted item may be a value, such as None."""

    def __init__(self, keep: int, max_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self.keep = keep
        self.max_bytes = max_bytes

    def check(self) -> None:
        """Raise `SchemaError` unless types and bounds as declared can be."""
        super().check()
        bound(self.keep)
        positive(self.max_bytes, "max_bytes")

    def clear(self) -> Edit:
        """The list is empty. An edit for `apply`.

        Positions go on: what is appended next has the one after the last that there was.
        """
        return self.drops()

    def pop(self, count: int = 1) -> Splice:
        """The newest `count` are gone, redacted ones included, or all if there are fewer.

        An edit for `apply`, which does not tell what went: for that, pop on a state that was read.
        What is appended next has the positions that became free. Raises `Invalid` unless `count` is
        a whole number of at least 1.
        """
        self._check_position(count, "count")
        return Splice(self.stored, self.keep, take=count)

    def redact(self, position: int) -> Splice:
        """What was in that position is gone. The position stays, and the others keep theirs.

        An edit for `apply`. Positions count from 1 what was ever appended in this life. It reads as
        if it were not there; as None where the values may be None. Redacting it once more changes
        nothing. The commit raises `Conflict` where the list has no such position.
        """
        self._check_position(position)
        return Splice(self.stored, self.keep, at=position, items=(REDACTED,))

    def _check_position(self, number: Any, what: str = "position") -> None:
        whole = isinstance(number, int) and not isinstance(number, bool)
        right = whole and 1 <= number <= BEYOND
        self.refuse_unless(right, f"{what} must be a whole number from 1 to {BEYOND}", number)

    def _list_operations(self) -> dict[str, Operation]:
        number = NUMBER
        return {
            "clear": flag(self, self.clear),
            "pop": Operation(self.pop, number),
            "redact": Operation(self.redact, number),
        }

    def is_empty(self) -> Is:
        """The condition (`where=`) that there is no item, and no position of a redacted one.

        Where it does not hold, the commit is a `Conflict` and nothing is written.
        """
        return self.condition(None, None)

    def to_json(self, state: Snapshot) -> Any:
        """The items that can be read, as a list."""
        return [as_json(raw) for raw in self.readable(state)]

    def readable(self, state: Snapshot) -> Iterator[bytes]:
        """The items that can be read and were not redacted, encoded."""
        for at, raw in enumerate(state._cell_items(self.stored)):
            if self.shown(state, at, raw) is not None:
                yield raw

    def shown(self, state: Snapshot, at: int, raw: bytes) -> tuple[Any] | None:
        """The value in a tuple; None if it was redacted, or cannot be decoded, which is noted."""
        if self.was_redacted(raw):
            return None
        return decoded(state, self, at, raw, self.decode)

    def was_redacted(self, raw: bytes) -> bool:
        """Whether this is what is left of a redacted item."""
        return raw == REDACTED and not self.nullable

    def decode(self, raw: Any) -> Any:
        """The value of one stored item. Raises `Undecodable`."""
        raise NotImplementedError


class ListView(Sequence[T], Generic[T, Listed]):
    """What the views of lists share.

    A redacted item is nowhere in the view; its position is left out.
    """

    __slots__ = ("_field", "_state")

    def __init__(self, field: Listed, state: Snapshot) -> None:
        self._field = field
        self._state = state

    def _items(self) -> Items:
        return self._state._cell_items(self._field.stored)

    def _places(self) -> Sequence[int]:
        """Where the items are that were not redacted, among all."""
        items = self._items()
        gone = self._field.was_redacted
        if gone(REDACTED) and REDACTED in items[:]:
            return [at for at, raw in enumerate(items) if not gone(raw)]
        return range(len(items))

    @property
    def first(self) -> int:
        """The position of the first item here, be it redacted; of an empty list that of the next one.

        Positions count from 1 what was ever appended in this life, whatever was trimmed since.
        """
        return self._items().first

    @property
    def last(self) -> int:
        """The position of the newest item here, be it redacted; `first - 1` of an empty list.

        Who follows the list asks for what comes `after` this position the next time.
        """
        items = self._items()
        return items.first + len(items) - 1

    @property
    def positions(self) -> list[int]:
        """The positions of what iteration gives; of `Turns` those of `turns`.

        What was redacted has none here, nor what cannot be decoded.
        """
        items = self._items()
        shown = self._field.shown
        return [
            items.first + at
            for at, raw in enumerate(items)
            if shown(self._state, at, raw) is not None
        ]

    def redact(self, position: int) -> None:
        """Record that what was in that position is gone; the position stays, and the others keep theirs.

        The commit raises `Conflict` where another item is in it than the one that was read, or the
        list has no such position.
        """
        self._changed(self._field.redact(position), position)

    def clear(self) -> None:
        """Record that the list is empty, of what others append before the commit as well."""
        self._state._record(self._field.clear())

    def _changed(self, edit: Splice, position: int) -> None:
        """Record a change of the item in that position, if it is the one that was read still."""
        raws = self._items()
        at = position - raws.first
        if 0 <= at < len(raws):
            edit = replace(edit, same=(raws[at],))
        self._state._record(edit)

    def _taken(self, place: int) -> None:
        """Record that the items from this place on are gone, if they are the newest ones still."""
        raws, field = tuple(self._items()[place:]), self._field
        self._state._record(Splice(field.stored, field.keep, take=len(raws), same=raws))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, list | tuple | type(self)):
            return list(self) == list(cast("Sequence[object]", other))
        return NotImplemented

    def __hash__(self) -> int:
        raise TypeError(f"unhashable type: {type(self).__name__}")
