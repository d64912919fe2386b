"""A field that is a conversation: `Turns`, a list whose items are whole turns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, overload

import msgspec

from statehold.changes import Append
from statehold.codec import Codec, Undecodable
from statehold.errors import TooLarge
from statehold.fields.base import VALUE_BYTES, Edit, Operation, Snapshot
from statehold.fields.lists import ListField, ListView

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")


class Turns(ListField["TurnsView[T]"], Generic[T]):
    """A conversation kept by whole turns, so that the bound never leaves half of one behind.

    A turn is one or more messages that belong together: a question with its answer, a tool's call
    with its result. `type_` is the type of one message; `keep` counts turns, of which the oldest
    beyond it are dropped; one turn takes at most `max_bytes` bytes encoded (default 64 KiB). Reads
    as a `TurnsView`: one flat sequence of messages.
    """

    field: ClassVar = "turns"

    def __init__(
        self, type_: TypeForm[T], *, keep: int, max_bytes: int = VALUE_BYTES, **options: Any
    ) -> None:
        super().__init__(keep, max_bytes, **options)
        self.type = type_

    def ready(self) -> None:
        """Make what encodes the messages."""
        self._codec = Codec(self.type, self.name, self.max_bytes)
        self._split = msgspec.json.Decoder(list[msgspec.Raw]).decode

    def view(self, state: Snapshot) -> TurnsView[T]:
        """The field as a `TurnsView` of this state."""
        return TurnsView(self, state)

    def append(self, *messages: T) -> Append:
        """The messages are at the end, as one turn; the oldest turns beyond `keep` are gone.

        An edit for `apply`: many writers' turns all stand, in the order of their commits. Raises
        `Invalid` for no message at all or one that is not of the declared type, `TooLarge` for a
        turn over `max_bytes`.
        """
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
        """The Python type of the messages."""
        return self.type

    def to_json(self, state: Snapshot) -> Any:
        """The messages of the turns that can be read, as one list."""
        return [message for raw in self.readable(state) for message in self._split(raw)]

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of a list of messages."""
        return {"type": "array", "items": self._codec.schema()}

    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON: append, clear, pop, redact."""

        def append(payload: Any) -> Edit:
            self.refuse_unless(
                isinstance(payload, list), "append takes one turn: a list of messages", payload
            )
            return self.append(*(self._codec.from_json(item) for item in payload))

        return {
            "append": Operation(append, {**self.json_schema(), "minItems": 1}),
            **self._list_operations(),
        }


class TurnsView(ListView[T, "Turns[T]"]):
    """The messages of all turns in order, as a `Sequence`; `turns` has them grouped.

    `positions` are those of `turns`. A turn that was redacted, or cannot be decoded, is in none of
    them.
    """

    __slots__ = ()

    @property
    def turns(self) -> list[tuple[T, ...]]:
        """The messages turn by turn, oldest first; a turn that cannot be decoded is left out whole."""
        items = enumerate(self._items())
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

    def pop(self) -> tuple[T, ...]:
        """Record that the newest turn is gone, and return its messages.

        Raises `IndexError` if there is none to be read.

        The commit raises `Conflict` where it is not the newest any more, so nobody else gets it.
        """
        places = self._places()
        if not places:
            raise IndexError("there is no turn")
        found = self._field.shown(self._state, places[-1], self._items()[places[-1]])
        if found is None:
            raise IndexError("the newest turn cannot be read")
        self._taken(places[-1])
        return cast("tuple[T, ...]", found[0])

    def append(self, *messages: T) -> None:
        """Record that these messages are at the end, as one turn.

        What others append before the commit comes before it. Raises `Invalid` for no message at all
        or one that is not of the declared type, `TooLarge` for a turn over `max_bytes`.
        """
        self._state._record(self._field.append(*messages))

    def __repr__(self) -> str:
        return repr(self.turns)
