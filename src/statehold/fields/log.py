"""Fields that are lists: `Log`, and `Turns` whose items are whole turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast, overload

import msgspec
from msgspec.structs import replace

from statehold.changes import Append, Drop, Is, Items, Splice
from statehold.codec import Codec, Undecodable, as_json
from statehold.errors import TooLarge
from statehold.fields.base import (
    VALUE_BYTES,
    Edit,
    Field,
    Operation,
    Snapshot,
    decoded,
    flag,
    positive,
)

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")
View = TypeVar("View", covariant=True)


MOST = 2**53
"""What no position and no count is beyond."""

NUMBER = {"type": "integer", "minimum": 1, "maximum": MOST}

REDACTED = b"null"
"""What is left of an item that was redacted."""


class _List(Field[View]):
    """What the fields that are lists share: the newest `keep` items of at most `max_bytes` each."""

    makes: ClassVar = frozenset({Append, Drop, Splice})

    nullable: bool = False
    """Whether what is left of a redacted item may be a value, such as None."""

    def __init__(self, keep: int, max_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self.keep = positive(keep, "keep")
        self.max_bytes = positive(max_bytes, "max_bytes")

    def clear(self) -> Edit:
        """The list is empty."""
        return self.drops()

    def pop(self, count: int = 1) -> Splice:
        """The newest `count` are gone, whatever they are, or all if there are fewer.

        What is appended next has their positions. To know what went, pop on a state that was read.
        """
        self._check_position(count, "count")
        return Splice(self.stored, self.keep, take=count)

    def redact(self, position: int) -> Splice:
        """What was in that position is gone. The position stays, and the others keep theirs.

        It reads as if it were not there; as None where the values may be None.
        """
        self._check_position(position)
        return Splice(self.stored, self.keep, at=position, items=(REDACTED,))

    def _check_position(self, number: Any, what: str = "position") -> None:
        whole = isinstance(number, int) and not isinstance(number, bool)
        right = whole and 1 <= number <= MOST
        self.refuse_unless(right, f"{what} must be a whole number from 1 to {MOST}", number)

    def _list_operations(self) -> dict[str, Operation]:
        number = NUMBER
        return {
            "clear": flag(self, self.clear),
            "pop": Operation(self.pop, number),
            "redact": Operation(self.redact, number),
        }

    def is_empty(self) -> Is:
        """The condition (`where=`) that there is no item."""
        return self.condition(None, None)

    def to_json(self, state: Snapshot) -> Any:
        return [as_json(raw) for raw in self.readable(state)]

    def readable(self, state: Snapshot) -> Iterator[bytes]:
        for at, raw in enumerate(state._cell_items(self.stored)):
            if self.shown(state, at, raw) is not None:
                yield raw

    def shown(self, state: Snapshot, at: int, raw: bytes) -> tuple[Any] | None:
        """The value in a tuple; None if it was redacted, or cannot be decoded, which is noted."""
        if raw == REDACTED and not self.nullable:
            return None
        return decoded(state, self, at, raw, self.decode)

    def decode(self, raw: Any) -> Any:
        raise NotImplementedError


class Log(_List["LogView[T]"], Generic[T]):
    """A list in the order of commits that keeps the newest `keep` items."""

    field: ClassVar = "log"

    def __init__(
        self, type_: TypeForm[T], *, keep: int, max_bytes: int = VALUE_BYTES, **options: Any
    ) -> None:
        super().__init__(keep, max_bytes, **options)
        self.type = type_

    def ready(self) -> None:
        self._codec = self.codec(self.type)
        self._encode = self._codec.encode
        try:
            self._codec.decode(REDACTED)
        except Undecodable:
            self.nullable = False
        else:
            self.nullable = True

    def decode(self, raw: Any) -> Any:
        return self._codec.decode(raw)

    def view(self, state: Snapshot) -> LogView[T]:
        return LogView(self, state)

    def append(self, *items: T) -> Append:
        """The items are at the end, in this order; the oldest beyond `keep` are gone."""
        if len(items) == 1:
            return Append(self.stored, (self._encode(items[0]),), self.keep)
        return Append(self.stored, tuple([self._encode(item) for item in items]), self.keep)

    def ends_with(self, item: T) -> Is:
        """The condition (`where=`) that this is the newest item."""
        return self.condition(None, self._encode(item))

    def extend(self, items: Iterable[T]) -> Append:
        """Like `append`, from an iterable."""
        return self.append(*items)

    def replace(self, old: Iterable[T], new: Iterable[T]) -> Splice:
        """The newest items, which are `old`, are `new`. Raises `Conflict` where they are others.

        Nothing old and something new appends it; something old and nothing new takes it away.
        """
        same = tuple([self._encode(item) for item in old])
        items = tuple([self._encode(item) for item in new])
        return Splice(self.stored, self.keep, take=len(same), items=items, same=same)

    def edit(self, position: int, item: T) -> Splice:
        """Another item in that position. Raises `Conflict` where the list has none."""
        self._check_position(position)
        return Splice(self.stored, self.keep, at=position, items=(self._encode(item),))

    def values(self) -> object:
        return self.type

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self._codec.schema()}

    def operations(self) -> dict[str, Operation]:
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


class LogView(Sequence[T]):
    """A list as read, with this state's own changes. Items are decoded when they are reached.

    An item that cannot be decoded is left out of iteration and slices, and raises `IndexError`
    when asked for alone; `meta.corrupted` has it.
    """

    __slots__ = ("_field", "_state")

    def __init__(self, field: Log[T], state: Snapshot) -> None:
        self._field = field
        self._state = state

    def _items(self) -> Items:
        return self._state._cell_items(self._field.stored)

    def __len__(self) -> int:
        return len(self._items())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        items = self._items()
        if isinstance(index, slice):
            return list(self._decoded(items[index], range(*index.indices(len(items)))))
        at = index if index >= 0 else index + len(items)
        found = self._field.shown(self._state, at, items[index])
        if found is None:
            raise IndexError(index)
        return cast("T", found[0])

    def __iter__(self) -> Iterator[T]:
        items = self._items()
        return iter(list(self._decoded(items, range(len(items)))))

    def __reversed__(self) -> Iterator[T]:
        return reversed(list(self))

    def _decoded(self, raws: Iterable[bytes], places: range) -> Iterator[T]:
        for at, raw in zip(places, raws, strict=True):
            found = self._field.shown(self._state, at, raw)
            if found is not None:
                yield found[0]

    @property
    def first(self) -> int:
        """The position of the first item here; of an empty list, the one that the next will have.

        Positions count from 1 what was ever appended in this life, so `log[i]` is in the position
        `log.first + i`, in this list and in any other that was read.
        """
        return self._items().first

    @property
    def positions(self) -> list[int]:
        """The positions of the items that iteration gives, which leaves out what was redacted."""
        items = self._items()
        shown = self._field.shown
        return [
            items.first + at
            for at, raw in enumerate(items)
            if shown(self._state, at, raw) is not None
        ]

    def append(self, *items: T) -> None:
        """Record the items at the end."""
        self._state._record(self._field.append(*items))

    def pop(self) -> T:
        """Record that the newest item is gone, and return it. Raises `IndexError` if there is none.

        The commit raises `Conflict` where it is not the newest any more, so nobody else gets it.
        """
        item = self[-1]
        self.take(1)
        return item

    def take(self, count: int) -> list[T]:
        """Record that the newest `count` items are gone, and return them; see `pop`."""
        items = self[len(self) - count :] if count < len(self) else list(self)
        raws = tuple(self._items()[max(0, len(self) - count) :])
        field = self._field
        self._state._record(Splice(field.stored, field.keep, take=len(raws), same=raws))
        return items

    def edit(self, position: int, item: T) -> None:
        """Record another item in that position, whose item is still the one that was read."""
        raws, edit = self._items(), self._field.edit(position, item)
        at = position - raws.first
        if 0 <= at < len(raws):
            edit = replace(edit, same=(raws[at],))
        self._state._record(edit)

    def redact(self, position: int) -> None:
        """Record that what was in that position is gone, and the position stays."""
        self._state._record(self._field.redact(position))

    def extend(self, items: Iterable[T]) -> None:
        """Record the items at the end."""
        self._state._record(self._field.append(*items))

    def __add__(self, items: Iterable[T]) -> list[T]:
        return [*self, *items]

    def __iadd__(self, items: Iterable[T]) -> Self:
        self.extend(items)
        return self

    def clear(self) -> None:
        """Record that the list is empty."""
        self._state._record(self._field.clear())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, list | tuple | LogView):
            return list(self) == list(cast("Sequence[object]", other))
        return NotImplemented

    def __hash__(self) -> int:
        raise TypeError(f"unhashable type: {type(self).__name__}")

    def __repr__(self) -> str:
        return repr(list(self))


class Turns(_List["TurnsView[T]"], Generic[T]):
    """A conversation kept by whole turns, so that its bound never leaves half of one behind.

    A turn is one or more messages that belong together: a question with its answer, a tool's call
    with its result. `keep` counts turns; `max_bytes` is of one turn. Reads as one flat sequence.
    """

    field: ClassVar = "turns"

    def __init__(
        self, type_: TypeForm[T], *, keep: int, max_bytes: int = VALUE_BYTES, **options: Any
    ) -> None:
        super().__init__(keep, max_bytes, **options)
        self.type = type_

    def ready(self) -> None:
        self._codec = Codec(self.type, self.name, self.max_bytes)
        self._split = msgspec.json.Decoder(list[msgspec.Raw]).decode

    def view(self, state: Snapshot) -> TurnsView[T]:
        return TurnsView(self, state)

    def append(self, *messages: T) -> Append:
        """The messages are at the end, as one turn; the oldest turns beyond `keep` are gone."""
        self.refuse_unless(bool(messages), "a turn has at least one message")
        turn = b"[" + b",".join([self._codec.encode(message) for message in messages]) + b"]"
        if len(turn) > self.max_bytes:
            raise TooLarge(
                f"{self.name}: a turn of {len(turn)} bytes, at most {self.max_bytes} allowed",
                field=self.name,
                expected=self.max_bytes,
                found=len(turn),
            )
        return Append(self.stored, (turn,), self.keep)

    def decode(self, raw: Any) -> tuple[T, ...]:
        """The messages of one stored turn."""
        try:
            parts = self._split(raw)
        except msgspec.DecodeError as error:
            raise Undecodable(str(error)) from error
        return tuple([self._codec.decode(part) for part in parts])

    def upcasted(self, value: Any, version: int) -> Any:
        """The turn with each of its messages as one of this version."""
        return [super(Turns, self).upcasted(message, version) for message in value]

    def values(self) -> object:
        return self.type

    def to_json(self, state: Snapshot) -> Any:
        return [message for raw in self.readable(state) for message in self._split(raw)]

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self._codec.schema()}

    def operations(self) -> dict[str, Operation]:
        def append(payload: Any) -> Edit:
            self.refuse_unless(
                isinstance(payload, list), "append takes one turn: a list of messages", payload
            )
            return self.append(*(self._codec.from_json(item) for item in payload))

        return {
            "append": Operation(append, {**self.json_schema(), "minItems": 1}),
            **self._list_operations(),
        }


class TurnsView(Sequence[T]):
    """The messages of all turns in order, with this state's own; `turns` has them grouped."""

    __slots__ = ("_field", "_state")

    def __init__(self, field: Turns[T], state: Snapshot) -> None:
        self._field = field
        self._state = state

    @property
    def turns(self) -> list[tuple[T, ...]]:
        """The messages turn by turn; a turn that cannot be decoded is left out whole."""
        items = enumerate(self._state._cell_items(self._field.stored))
        found = (self._field.shown(self._state, at, raw) for at, raw in items)
        return [turn[0] for turn in found if turn is not None]

    def _flat(self) -> list[T]:
        return [message for turn in self.turns for message in turn]

    def __len__(self) -> int:
        return len(self._flat())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self._flat()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._flat())

    @property
    def first(self) -> int:
        """The position of the first turn here; see `LogView.first`."""
        return self._state._cell_items(self._field.stored).first

    def pop(self) -> tuple[T, ...]:
        """Record that the newest turn is gone, and return it; see `LogView.pop`."""
        items, field = self._state._cell_items(self._field.stored), self._field
        found = field.shown(self._state, len(items) - 1, items[-1])
        if found is None:
            raise IndexError("the newest turn cannot be read")
        self._state._record(Splice(field.stored, field.keep, take=1, same=(items[-1],)))
        return cast("tuple[T, ...]", found[0])

    def redact(self, position: int) -> None:
        """Record that the turn in that position is gone, and the position stays."""
        self._state._record(self._field.redact(position))

    def append(self, *messages: T) -> None:
        """Record the messages at the end, as one turn."""
        self._state._record(self._field.append(*messages))

    def clear(self) -> None:
        """Record that there are no turns."""
        self._state._record(self._field.clear())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, list | tuple | TurnsView):
            return list(self) == list(cast("Sequence[object]", other))
        return NotImplemented

    def __hash__(self) -> int:
        raise TypeError(f"unhashable type: {type(self).__name__}")

    def __repr__(self) -> str:
        return repr(self.turns)
