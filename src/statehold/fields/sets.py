"""A field that is a set: `SetOf`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import msgspec

from statehold.changes import Drop, Put
from statehold.commits import Is
from statehold.fields.base import Edit, Edits, Operation, Snapshot
from statehold.fields.entries import EntriesField, Past, together

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")


class SetOf(EntriesField["SetView[T]", T], Generic[T]):
    """A set of members.

    Reads as a `SetView`; adding and discarding by many writers merge member by member.

    `members` is their type (text, whole numbers, dates, UUIDs and others that are text in JSON).
    There are at most `keep`; a new member past that is refused as `TooLarge`. With
    `past="drop_lowest"` the lowest member is dropped instead, in the order of the members as text;
    a new one that is lower than all the others is not kept itself.
    """

    field: ClassVar = "set"
    makes: ClassVar = frozenset({Put, Drop})
    raw: ClassVar = True

    def __init__(
        self, members: TypeForm[T], *, keep: int, past: Past = "refuse", **options: Any
    ) -> None:
        super().__init__(members, keep=keep, max_bytes=1, past=past, **options)

    def view(self, state: Snapshot) -> SetView[T]:
        """The field as a `SetView` of this state."""
        return SetView(self, state)

    def values(self) -> object:
        """The Python type of what is stored for each member: an int, which is 1."""
        return int  # each member's is 1

    def add(self, *members: T) -> Edits:
        """All of these members are in the set; those that were stay.

        An edit for `apply`. Raises `Invalid` for a member that is not of the declared type; the
        commit raises `TooLarge` for a new one past `keep`, unless the lowest is dropped.
        """
        entries = [self._names.encode(member) for member in members]
        return Edits.of(
            [Put(self.stored, e, b"1", False, self.keep, self._dropping) for e in entries]
        )

    def holds(self, member: T) -> Is:
        """The condition (`where=`) that this member is in the set.

        Where it is not, the commit is a `Conflict` and nothing is written.
        """
        return self.condition(self._names.encode(member), b"1")

    def discard(self, *members: T) -> Edits:
        """None of these members is in the set, whether they were or not. An edit for `apply`."""
        return together([self.drop(member) for member in members])

    def to_json(self, state: Snapshot) -> Any:
        """The members that can be read, as a list."""
        if self._names.plain:
            return [entry for _, entry, _ in self.read_entries(state)]
        return [msgspec.Raw(entry.encode()) for _, entry, _ in self.read_entries(state)]

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of a list of members."""
        return {"type": "array", "items": self.key_schema()}

    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON: add, discard, clear."""

        def add(payload: Any) -> Edit:
            self.refuse_unless(isinstance(payload, list), "add takes a list", payload)
            return self.add(*(self._names.from_json(member) for member in payload))

        removals = self._removals()
        return {
            "add": Operation(add, self.json_schema()),
            "discard": removals["drop"],
            "clear": removals["clear"],
        }


class SetView(MutableSet[T]):
    """A set as read, with this state's own changes.

    What is added or discarded is recorded, and written at the commit.

    A `MutableSet`: `in`, `add`, `discard`, `remove`, `|=`, iteration; `&` and `|` make a `set` of
    their own. What is recorded is each member, so that two writers who add different ones both have
    theirs.
    """

    __slots__ = ("_field", "_state")

    def __init__(self, field: SetOf[T], state: Snapshot) -> None:
        self._field = field
        self._state = state

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> Any:  # what & and | make is a set of its own
        return set(it)

    def __contains__(self, member: object) -> bool:
        try:
            entry = self._field._names.encode(member)
        except ValueError:
            return False
        return entry in self._state._cell_entries(self._field.stored)

    def __iter__(self) -> Iterator[T]:
        return iter([member for member, _, _ in self._field.read_entries(self._state)])

    def __len__(self) -> int:
        return len(self._state._cell_entries(self._field.stored))

    def add(self, value: T) -> None:
        """Record that this member is in the set.

        Raises `Invalid` if it is not of the declared type, `TooLarge` past the field's `keep`.
        """
        self._state._record(self._field.add(value))

    def discard(self, value: T) -> None:
        """Record that this member is not in the set, whether it was or not."""
        self._state._record(self._field.discard(value))

    def clear(self) -> None:
        """Record that the set is empty, of members that others add before the commit as well."""
        self._state._record(self._field.clear())

    def __repr__(self) -> str:
        return repr(set(self))
