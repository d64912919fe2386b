"""Fields of many entries: `Map`, `SetOf`, `Steps` and `Tally`."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSet
from datetime import date
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    cast,
)
from uuid import UUID

import msgspec

from statehold.changes import Add, Drop, Is, Put, Scalar, said_of
from statehold.codec import MAX_ENTRY_BYTES, NameCodec, Undecodable, as_json
from statehold.errors import SchemaError
from statehold.fields.base import (
    NUMBER_BYTES,
    VALUE_BYTES,
    Edit,
    Edits,
    Field,
    Operation,
    Snapshot,
    bound,
    decoded,
    flag,
    positive,
)
from statehold.fields.scalar import misfit, number, number_schema, summable
from statehold.formats import type_name

if TYPE_CHECKING:
    from typing_extensions import TypeForm

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")
View = TypeVar("View", covariant=True)

Past: TypeAlias = Literal["refuse", "drop_lowest"]
"""What becomes of a new key past `keep`. "refuse": nothing, it is `TooLarge`. "drop_lowest": the key
that comes first in the order of names is dropped, which may be the new one."""

IN_ORDER: Final = (str, date, UUID)
"""Types of keys whose names are in the order of the keys, so that the lowest is the one expected."""


class _Entries(Field[View], Generic[View, K]):
    """What the fields of many entries share: named entries, at most `keep` of them."""

    keyed: ClassVar = True

    def __init__(
        self, names: Any, *, keep: int, max_bytes: int, past: Past = "refuse", **options: Any
    ) -> None:
        super().__init__(**options)
        self._names_type = names
        self.keep = keep
        self.max_bytes = max_bytes
        self._past = past
        self._dropping = past == "drop_lowest"

    def check(self) -> None:
        super().check()
        bound(self.keep)
        positive(self.max_bytes, "max_bytes")
        past, names = self._past, self._names_type
        if past not in ("refuse", "drop_lowest"):
            raise SchemaError(
                f'past must be "refuse" or "drop_lowest", not {past!r:.40}', found=past
            )
        if self._dropping and self.by_ttl:
            raise SchemaError("keep=BY_TTL has no bound past which the lowest could be dropped")
        if self._dropping and names not in IN_ORDER:
            raise SchemaError(
                f'past="drop_lowest" needs keys that are str, date or UUID, not {type_name(names)}: '
                "the names of others are not in their order, as 10 is before 9 in text; use str",
                expected=IN_ORDER,
                found=names,
            )

    def ready(self) -> None:
        self._names = NameCodec(self._names_type, self.name)

    def entry_bytes(self) -> int:
        return MAX_ENTRY_BYTES + self.max_bytes + self.mark_bytes

    def read_entries(self, state: Snapshot) -> Iterator[tuple[K, str, Scalar]]:
        """(key, entry, raw value) of all entries whose names can be read."""
        for entry, raw in state._cell_entries(self.stored).items():
            key = self.read_name(state, entry, raw)
            if key is not None:
                yield key[0], entry, raw

    def read_name(self, state: Snapshot, entry: str, raw: Scalar) -> tuple[K] | None:
        try:
            return (self._names.decode(entry),)
        except Undecodable as error:
            state._corrupt(self.name, entry, raw, str(error))
            return None

    def entry_of(self, key: K) -> str:
        return self._names.encode(key)

    def key_from_json(self, value: Any) -> K:
        key: K = self._names.from_json(value)
        return key

    def drop(self, key: K) -> Edit:
        """The entry is gone, if it was there."""
        return self.drops(self._names.encode(key))

    def lacks(self, key: K) -> Is:
        """The condition (`where=`) that there is no such entry."""
        return self.condition(self._names.encode(key), None)

    def clear(self) -> Edit:
        """Every entry is gone."""
        return self.drops()

    def _drop_all(self, keys: Any) -> Edit:
        self.refuse_unless(isinstance(keys, list), "drop takes a list of keys", keys)
        edits = [self.drop(self._names.from_json(key)) for key in keys]
        return _together(edits)

    def _pairs(self, payload: Any, what: str) -> Iterator[tuple[Any, Any]]:
        self.refuse_unless(isinstance(payload, dict), f"{what} takes an object", payload)
        for key, value in payload.items():
            yield self._names.from_json(key), value

    def _removals(self) -> dict[str, Operation]:
        names = {"type": "array", "items": self.key_schema()}
        return {"drop": Operation(self._drop_all, names), "clear": flag(self, self.clear)}

    def key_schema(self) -> dict[str, Any]:
        """See `Field.key_schema`."""
        return {"type": "string"} if self._names.plain else {}


class Map(_Entries["MapView[K, V]", K], Generic[K, V]):
    """A mapping; each entry's last write wins. A new key past `keep` is refused as `TooLarge`.

    With `past="drop_lowest"` the lowest key is dropped instead, in the order of the keys as text.
    A new key that is lower than all the others is not kept itself.
    """

    field: ClassVar = "map"
    makes: ClassVar = frozenset({Put, Drop})

    def __init__(
        self,
        keys: TypeForm[K],
        values: TypeForm[V],
        *,
        keep: int,
        max_bytes: int = VALUE_BYTES,
        past: Past = "refuse",
        **options: Any,
    ) -> None:
        super().__init__(keys, keep=keep, max_bytes=max_bytes, past=past, **options)
        self._values_type = values

    def ready(self) -> None:
        super().ready()
        self._codec = self.codec(self._values_type)

    def view(self, state: Snapshot) -> MapView[K, V]:
        return MapView(self, state)

    def put(self, key: K, value: V, *, if_absent: bool = False) -> Put:
        """The entry has this value; with `if_absent`, unless it has one already."""
        entry = self._names.encode(key)
        data = self._codec.encode(value)
        return Put(self.stored, entry, data, if_absent, self.keep, self._dropping)

    def holds(self, key: K, value: V) -> Is:
        """The condition (`where=`) that the entry has this value."""
        return self.condition(self._names.encode(key), self._codec.encode(value))

    def update(self, values: Mapping[K, V], *, if_absent: bool = False) -> Edits:
        """Each of the entries has its value."""
        return Edits.of(
            [self.put(key, value, if_absent=if_absent) for key, value in values.items()]
        )

    def decode(self, state: Snapshot, entry: str, raw: Scalar) -> tuple[V] | None:
        return decoded(state, self, entry, raw, self._codec.decode)

    def values(self) -> object:
        return self._values_type

    def to_json(self, state: Snapshot) -> Any:
        return {
            entry: as_json(raw)
            for _key, entry, raw in self.read_entries(state)
            if self.decode(state, entry, raw) is not None
        }

    def json_schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self._codec.schema()}

    def operations(self) -> dict[str, Operation]:
        def puts(if_absent: bool) -> Operation:
            return Operation(
                lambda payload: self.update(
                    {
                        key: self._codec.from_json(value)
                        for key, value in self._pairs(payload, "put")
                    },
                    if_absent=if_absent,
                ),
                self.json_schema(),
            )

        return {"put": puts(False), "put_if_absent": puts(True), **self._removals()}


class MapView(MutableMapping[K, V]):
    """A map as read, with this state's own changes; what is set or deleted is recorded.

    An entry that cannot be decoded counts in `len`, and can be deleted; else it is as if absent.
    """

    __slots__ = ("_field", "_state")

    def __init__(self, field: Map[K, V], state: Snapshot) -> None:
        self._field = field
        self._state = state

    def __getitem__(self, key: K) -> V:
        try:
            entry = self._field._names.encode(key)
        except ValueError as error:
            raise KeyError(key) from error
        raw = self._state._cell_entries(self._field.stored).get(entry)
        found = None if raw is None else self._field.decode(self._state, entry, raw)
        if found is None:
            raise KeyError(key)
        return found[0]

    def __setitem__(self, key: K, value: V) -> None:
        self._state._record(self._field.put(key, value))

    def __delitem__(self, key: K) -> None:
        entry = self._field._names.encode(key)
        if entry not in self._state._cell_entries(self._field.stored):
            raise KeyError(key)
        self._state._record(self._field.drop(key))

    def __contains__(self, key: object) -> bool:
        try:
            self[key]  # type: ignore[index]  # pyright: ignore[reportArgumentType]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[K]:
        return iter(
            [
                key
                for key, entry, raw in self._field.read_entries(self._state)
                if self._field.decode(self._state, entry, raw) is not None
            ]
        )

    def __len__(self) -> int:
        return len(self._state._cell_entries(self._field.stored))

    def __or__(self, values: Mapping[K, V]) -> dict[K, V]:
        return {**self, **values}

    def __ior__(self, values: Mapping[K, V]) -> Self:
        self.update(values)
        return self

    def clear(self) -> None:
        self._state._record(self._field.clear())

    def __repr__(self) -> str:
        return repr(dict(self))


class Steps(Map[str, V]):
    """The results of a job's steps by name: the first result that is put for a step stands.

    None is ever dropped to make room: a step whose result is gone would be done again.

    After `state.steps["pay"] = result`, or `apply(…, Job.steps.put("pay", result),
    returning=[Job.steps])`, what stands may be another worker's result.
    """

    field: ClassVar = "steps"
    first_wins: ClassVar = True

    def __init__(
        self, type_: TypeForm[V], *, keep: int = 64, max_bytes: int = VALUE_BYTES, **options: Any
    ) -> None:
        super().__init__(str, type_, keep=keep, max_bytes=max_bytes, **options)
        self._dropped = "past" in options

    def check(self) -> None:
        super().check()
        if self._dropped:
            raise SchemaError("steps are not dropped: one whose result is gone would be done again")

    def put(self, key: str, value: V, *, if_absent: bool = True) -> Put:
        """The step has this result unless it has one already."""
        return super().put(key, value, if_absent=if_absent)

    def update(self, values: Mapping[str, V], *, if_absent: bool = True) -> Edits:
        return super().update(values, if_absent=if_absent)

    def operations(self) -> dict[str, Operation]:
        operations = super().operations()
        operations["put"] = operations.pop("put_if_absent")
        return operations


class SetOf(_Entries["SetView[T]", T], Generic[T]):
    """A set. A new member past `keep` is refused as `TooLarge`.

    With `past="drop_lowest"` the lowest member is dropped instead, as for `Map`.
    """

    field: ClassVar = "set"
    makes: ClassVar = frozenset({Put, Drop})
    raw: ClassVar = True

    def __init__(
        self, members: TypeForm[T], *, keep: int, past: Past = "refuse", **options: Any
    ) -> None:
        super().__init__(members, keep=keep, max_bytes=1, past=past, **options)

    def view(self, state: Snapshot) -> SetView[T]:
        return SetView(self, state)

    def values(self) -> object:
        return int  # each member's is 1

    def add(self, *members: T) -> Edits:
        """All of them are in the set."""
        entries = [self._names.encode(member) for member in members]
        return Edits.of(
            [Put(self.stored, e, b"1", False, self.keep, self._dropping) for e in entries]
        )

    def holds(self, member: T) -> Is:
        """The condition (`where=`) that it is in the set."""
        return self.condition(self._names.encode(member), b"1")

    def discard(self, *members: T) -> Edits:
        """None of them is in the set."""
        return _together([self.drop(member) for member in members])

    def to_json(self, state: Snapshot) -> Any:
        if self._names.plain:
            return [entry for _, entry, _ in self.read_entries(state)]
        return [msgspec.Raw(entry.encode()) for _, entry, _ in self.read_entries(state)]

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.key_schema()}

    def operations(self) -> dict[str, Operation]:
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
    """A set as read, with this state's own changes; what is added or discarded is recorded."""

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
        self._state._record(self._field.add(value))

    def discard(self, value: T) -> None:
        self._state._record(self._field.discard(value))

    def clear(self) -> None:
        self._state._record(self._field.clear())

    def __repr__(self) -> str:
        return repr(set(self))


class Tally(_Entries["TallyView[K]", K], Generic[K]):
    """A number for each key, added up over all writers. A new key past `keep` is refused.

    Ints stay exact to 64 bits as long as only ints are added; `Tally(str, float, keep=…)` takes
    fractions. With `past="drop_lowest"` the lowest key is dropped instead, as for `Map`: in the
    order of the keys, not of the numbers, which would depend on the order of the writers.
    """

    field: ClassVar = "tally"
    makes: ClassVar = frozenset({Add, Drop})
    raw: ClassVar = True

    def __init__(
        self,
        keys: TypeForm[K],
        number: type[int | float] = int,
        *,
        keep: int,
        past: Past = "refuse",
        **options: Any,
    ) -> None:
        super().__init__(keys, keep=keep, max_bytes=NUMBER_BYTES, past=past, **options)
        self.number = number

    def check(self) -> None:
        super().check()
        if self.number not in (int, float):
            raise SchemaError(f"a tally counts in int or float, not {self.number!r}")

    def view(self, state: Snapshot) -> TallyView[K]:
        return TallyView(self, state)

    def add(self, key: K, amount: float = 1) -> Add:
        """The key's number is larger by `amount`."""
        amount = number(self.name, amount, self.number)
        return Add(self.stored, self._names.encode(key), amount, self.keep, self._dropping)

    def holds(self, key: K, value: float) -> Is:
        """The condition (`where=`) that the key counts this many."""
        amount = number(self.name, value, self.number)
        return self.condition(self._names.encode(key), amount, absent=amount == 0)

    def at_least(self, key: K, value: float) -> Is:
        """The condition (`where=`) that the key counts this many or more."""
        amount = number(self.name, value, self.number)
        return self.condition(self._names.encode(key), amount, absent=amount <= 0, least=True)

    def update(self, amounts: Mapping[K, float]) -> Edits:
        """Each key's number is larger by its amount."""
        return Edits.of([self.add(key, amount) for key, amount in amounts.items()])

    def values(self) -> object:
        return self.number

    def read_number(self, state: Snapshot, entry: str, raw: Scalar) -> int | float | None:
        wrong = misfit(raw, self.number)
        if wrong is None:
            return cast("int | float", raw)
        state._corrupt(self.name, entry, raw, wrong)
        return None

    def to_json(self, state: Snapshot) -> Any:
        return {
            entry: raw
            for _, entry, raw in self.read_entries(state)
            if self.read_number(state, entry, raw) is not None
        }

    def json_schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": number_schema(self.number)}

    def operations(self) -> dict[str, Operation]:
        def add(payload: Any) -> Edit:
            return self.update(dict(self._pairs(payload, "add")))

        return {"add": Operation(add, self.json_schema()), **self._removals()}


class TallyView(Mapping[K, float]):
    """A tally as read, with this state's own changes. A key never added to counts 0."""

    __slots__ = ("_field", "_state")

    def __init__(self, field: Tally[K], state: Snapshot) -> None:
        self._field = field
        self._state = state

    def __getitem__(self, key: K) -> float:
        entry = self._field._names.encode(key)
        return self._field.read_number(self._state, entry, self._stored(entry)) or 0

    def _stored(self, entry: str) -> Scalar:
        return self._state._cell_entries(self._field.stored).get(entry, 0)

    def __contains__(self, key: object) -> bool:
        try:
            entry = self._field._names.encode(key)
        except ValueError:
            return False
        return entry in self._state._cell_entries(self._field.stored)

    def __iter__(self) -> Iterator[K]:
        return iter([key for key, _, _ in self._field.read_entries(self._state)])

    def __len__(self) -> int:
        return len(self._state._cell_entries(self._field.stored))

    def add(self, key: K, amount: float = 1) -> None:
        """Record that the key's number is larger by `amount`."""
        add = self._field.add(key, amount)
        summable(self._field, self._stored(add.entry), self._field.number)
        self._state._record(add)

    def update(self, amounts: Mapping[K, float]) -> None:
        """Record an addition for each key."""
        for key in amounts:
            summable(self._field, self._stored(self._field._names.encode(key)), self._field.number)
        self._state._record(self._field.update(amounts))

    def drop(self, key: K) -> None:
        """Record that the key counts 0 again."""
        self._state._record(self._field.drop(key))

    def clear(self) -> None:
        """Record that all keys count 0 again."""
        self._state._record(self._field.clear())

    def most_common(self, count: int | None = None) -> list[tuple[K, float]]:
        """The keys with the largest numbers first; all of them, or `count`."""
        pairs = list(self.items())
        if count is None:
            return sorted(pairs, key=lambda pair: pair[1], reverse=True)
        return heapq.nlargest(count, pairs, key=lambda pair: pair[1])

    def __repr__(self) -> str:
        return repr(dict(self))


def _together(edits: Iterable[Edit]) -> Edits:
    kept = list(edits)

    def at(now: float) -> Iterator[Any]:
        for edit in kept:
            if isinstance(edit, Edits):
                yield from edit.at(now)
            else:
                yield edit

    said: list[object] | None = []
    for edit in kept:
        of_one = edit.said if isinstance(edit, Edits) else [said_of(edit)]
        said = None if said is None or of_one is None else [*said, *of_one]
    return Edits(at, said)
