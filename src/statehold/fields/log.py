"""A field that is a list: `Log`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast, overload

from statehold.changes import Append, Splice
from statehold.codec import Undecodable
from statehold.commits import Is
from statehold.fields.base import VALUE_BYTES, Edit, Operation, Snapshot, decoded
from statehold.fields.lists import NUMBER, REDACTED, ListField, ListView

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")


class Log(ListField["LogView[T]"], Generic[T]):
    """A list in the order of commits that keeps the newest `keep` items. Reads as a `LogView`.

    `type_` is the type of the items; each takes at most `max_bytes` bytes encoded (default 64 KiB).
    The oldest items beyond `keep` are dropped; nothing is refused for their number.
    """

    field: ClassVar = "log"

    def __init__(
        self, type_: TypeForm[T], *, keep: int, max_bytes: int = VALUE_BYTES, **options: Any
    ) -> None:
        super().__init__(keep, max_bytes, **options)
        self.type = type_

    def ready(self) -> None:
        """Make what encodes the items."""
        self._codec = self.codec(self.type)
        self._encode = self._codec.encode
        try:
            self._codec.decode(REDACTED)
        except Undecodable:
            self.nullable = False
        else:
            self.nullable = True

    def decode(self, raw: Any) -> Any:
        """The value of one stored item. Raises `Undecodable`."""
        return self._codec.decode(raw)

    def view(self, state: Snapshot) -> LogView[T]:
        """The field as a `LogView` of this state."""
        return LogView(self, state)

    def append(self, *items: T) -> Append:
        """The items are at the end, in this order; the oldest beyond `keep` are gone.

        An edit for `apply`: many writers' items all stand, in the order of their commits. Raises
        `Invalid` for an item that is not of the declared type, `TooLarge` for one over `max_bytes`.
        """
        if len(items) == 1:
            return Append(self.stored, (self._encode(items[0]),), self.keep)
        return Append(self.stored, tuple([self._encode(item) for item in items]), self.keep)

    def ends_with(self, item: T) -> Is:
        """The condition (`where=`) that this is the newest item, and nothing redacted comes after it.

        Where it does not hold, the commit is a `Conflict` and nothing is written.
        """
        return self.condition(None, self._encode(item))

    def extend(self, items: Iterable[T]) -> Append:
        """The items of this iterable are at the end, in its order.

        An edit for `apply`: many writers' items all stand, in the order of their commits. Raises
        `Invalid` for an item that is not of the declared type, `TooLarge` for one over `max_bytes`.
        """
        return self.append(*items)

    def replace(self, old: Iterable[T], new: Iterable[T]) -> Splice:
        """The newest items, which are `old`, are `new`.

        An edit for `apply`; the commit raises `Conflict` where the list ends with others. Nothing
        old and something new appends it; something old and nothing new takes it away. Raises
        `Invalid` for an item that is not of the declared type, `TooLarge` for one over `max_bytes`.
        """
        same = tuple([self._encode(item) for item in old])
        items = tuple([self._encode(item) for item in new])
        return Splice(self.stored, self.keep, take=len(same), items=items, same=same)

    def edit(self, position: int, item: T) -> Splice:
        """Another item is in that position, be it redacted; the others keep theirs.

        An edit for `apply`; the commit raises `Conflict` where the list has no such position.
        Positions count from 1 what was ever appended in this life. Raises `Invalid` for an item that
        is not of the declared type, `TooLarge` for one over `max_bytes`.
        """
        self._check_position(position)
        return Splice(self.stored, self.keep, at=position, items=(self._encode(item),))

    def values(self) -> object:
        """The Python type of the items."""
        return self.type

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of a list of items."""
        return {"type": "array", "items": self._codec.schema()}

    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON: append, clear, pop, redact, replace, edit."""

        def listed(payload: Any, name: str) -> list[T]:
            self.refuse_unless(isinstance(payload, list), f"{name} takes a list", payload)
            return [self._codec.from_json(item) for item in payload]

        def replace(payload: Any) -> Edit:
            old, new = self._members(payload, "old", "new")
            return self.replace(listed(old, "old"), listed(new, "new"))

        def edit(payload: Any) -> Edit:
            position, item = self._members(payload, "position", "item")
            return self.edit(position, self._codec.from_json(item))

        items, number = self.json_schema(), NUMBER
        return {
            "append": Operation(lambda payload: self.append(*listed(payload, "append")), items),
            **self._list_operations(),
            "replace": Operation(replace, _object_of(old=items, new=items)),
            "edit": Operation(edit, _object_of(position=number, item=self._codec.schema())),
        }

    def _members(self, payload: Any, *names: str) -> list[Any]:
        given: Any = payload
        whole = isinstance(payload, dict) and set(given) == set(names)
        self.refuse_unless(whole, f"takes an object of {' and '.join(names)}", given)
        return [given[name] for name in names]


def _object_of(**members: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


class LogView(ListView[T, "Log[T]"]):
    """A log as read, with this state's own changes: a `Sequence`.

    Items are decoded when they are reached.

    What was redacted is not in it: not counted, not reached by an index, not iterated over. An item
    that cannot be decoded counts, is left out of iteration and slices, and raises `IndexError` when
    asked for alone; `meta.corrupted` has it.
    """

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._places())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return list(self._decoded(self._slice(index)))
        place = self._place(index)
        found = self._field.shown(self._state, place, self._items()[place])
        if found is None:
            raise IndexError(index)
        return cast("T", found[0])

    def _place(self, index: int) -> int:
        """Where the item of this index is among all. Raises IndexError."""
        items = self._items()
        near = items[: index + 1] if index >= 0 else items[index:]
        if REDACTED in near:  # else all before it, or after it, are shown
            return self._places()[index]
        return range(len(items))[index]

    def _slice(self, index: slice) -> Sequence[int]:
        """Where the items of this slice are among all."""
        items, start = self._items(), index.start
        newest = index.stop is index.step is None is not start and start < 0
        if newest and REDACTED not in items[start:]:
            return range(len(items))[index]
        return self._places()[index]

    if not TYPE_CHECKING:  # to whom it has none, as a `Sequence`

        def __setitem__(self, index: int, item: T) -> None:
            raise TypeError(
                f"{self._field.name}[{index!r}] = … is not possible: {self._field.name}.edit(position, item) puts"
                " another item into a position, and those are in .positions"
            )

        def __delitem__(self, index: int) -> None:
            raise TypeError(
                f"del {self._field.name}[{index!r}] is not possible: {self._field.name}.redact(position) takes"
                " the item of a position away, pop() and take(count) the newest; .positions has those"
            )

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._decoded(self._places())))

    def __reversed__(self) -> Iterator[T]:
        return reversed(list(self))

    def _decoded(self, places: Sequence[int]) -> Iterator[T]:
        """What is in these places, none of which is that of a redacted item."""
        items = self._items()
        every = places == range(len(items))
        raws = items if every else [items[place] for place in places]
        state, field = self._state, self._field
        decode = field.decode
        for place, raw in zip(places, raws, strict=True):
            found = decoded(state, field, place, raw, decode)
            if found is not None:
                yield found[0]

    def append(self, *items: T) -> None:
        """Record that these items are at the end, in this order.

        What others append before the commit comes before them. Raises `Invalid` for an item that is
        not of the declared type, `TooLarge` for one over `max_bytes`.
        """
        self._state._record(self._field.append(*items))

    def pop(self) -> T:
        """Record that the newest item is gone, and return it. Raises `IndexError` if there is none.

        The commit raises `Conflict` where it is not the newest any more, so nobody else gets it.
        What was redacted after the item goes too, and gives its position back as the item does.
        """
        item = self[-1]
        self.take(1)
        return item

    def take(self, count: int) -> list[T]:
        """Record that the newest `count` items are gone, or all, and return them, oldest first.

        The commit raises `Conflict` where they are not the newest any more, so nobody else gets
        them. An item that cannot be decoded goes, and is left out of what is returned. Raises
        `Invalid` unless `count` is a whole number of at least 1.
        """
        self._field._check_position(count, "count")
        places = self._places()
        places = places[max(0, len(places) - count) :]
        items = list(self._decoded(places))
        self._taken(places[0] if places else self.last + 1 - self.first)
        return items

    def edit(self, position: int, item: T) -> None:
        """Record that another item is in that position.

        The commit raises `Conflict` where the position has not the item that was read any more, or
        there is none. Positions count from 1 what was ever appended in this life. Raises `Invalid` for
        an item that is not of the declared type, `TooLarge` for one over `max_bytes`.
        """
        self._changed(self._field.edit(position, item), position)

    def extend(self, items: Iterable[T]) -> None:
        """Record that the items of this iterable are at the end, in its order.

        What others append before the commit comes before them. Raises `Invalid` for an item that is
        not of the declared type, `TooLarge` for one over `max_bytes`.
        """
        self._state._record(self._field.append(*items))

    def __add__(self, items: Iterable[T]) -> list[T]:
        return [*self, *items]

    def __iadd__(self, items: Iterable[T]) -> Self:
        self.extend(items)
        return self

    def __repr__(self) -> str:
        return repr(list(self))
