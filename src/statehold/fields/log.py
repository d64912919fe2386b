"""Fields that are lists: `Log`, and `Turns` whose items are whole turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast, overload

import msgspec

from statehold.changes import Append, Drop, Is, Items
from statehold.codec import Codec, Undecodable
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


class _List(Field[View]):
    """What the fields that are lists share: the newest `keep` items of at most `max_bytes` each."""

    makes: ClassVar = frozenset({Append, Drop})

    def __init__(self, keep: int, max_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self.keep = positive(keep, "keep")
        self.max_bytes = positive(max_bytes, "max_bytes")

    def clear(self) -> Edit:
        """The list is empty."""
        return self.drops()

    def is_empty(self) -> Is:
        """The condition (`where=`) that there is no item."""
        return self.condition(None, None)

    def to_json(self, state: Snapshot) -> Any:
        return [msgspec.Raw(raw) for raw in self.readable(state)]

    def readable(self, state: Snapshot) -> Iterator[bytes]:
        for at, raw in enumerate(state._cell_items(self.stored)):
            if decoded(state, self, at, raw, self.decode) is not None:
                yield raw

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
        self._codec = Codec(self.type, self.name, self.max_bytes)
        self._encode = self._codec.encode

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

    def values(self) -> object:
        return self.type

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self._codec.schema()}

    def operations(self) -> dict[str, Operation]:
        def append(payload: Any) -> Edit:
            self.refuse_unless(isinstance(payload, list), "append takes a list", payload)
            return self.append(*(self._codec.from_json(item) for item in payload))

        return {"append": Operation(append, self.json_schema()), "clear": flag(self, self.clear)}


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
        found = decoded(self._state, self._field, at, items[index], self._field.decode)
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
            found = decoded(self._state, self._field, at, raw, self._field.decode)
            if found is not None:
                yield found[0]

    def append(self, *items: T) -> None:
        """Record the items at the end."""
        self._state._record(self._field.append(*items))

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
            "clear": flag(self, self.clear),
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
        found = (
            decoded(self._state, self._field, at, raw, self._field.decode) for at, raw in items
        )
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
