"""Fields that map keys to values: `Map`, and `Steps` in which the first value stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from statehold.changes import Drop, Put, Scalar
from statehold.codec import as_json
from statehold.commits import Is
from statehold.errors import SchemaError
from statehold.fields.base import VALUE_BYTES, Edits, Operation, Snapshot, decoded
from statehold.fields.entries import EntriesField, Past

if TYPE_CHECKING:
    from typing_extensions import TypeForm

K = TypeVar("K")
V = TypeVar("V")


class Map(EntriesField["MapView[K, V]", K], Generic[K, V]):
    """A mapping of keys to values; each entry's last write wins. Reads as a `MapView`.

    `keys` is the type of the keys (text, whole numbers, dates, UUIDs and others that are text in
    JSON), `values` that of the values. There are at most `keep` entries; each value takes at most
    `max_bytes` bytes encoded (default 64 KiB). A new key past `keep` is refused as `TooLarge`. With
    `past="drop_lowest"` the lowest key is dropped instead, in the order of the keys as text; a new
    key that is lower than all the others is not kept itself.
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
        """Make what encodes the keys and the values."""
        super().ready()
        self._codec = self.codec(self._values_type)

    def view(self, state: Snapshot) -> MapView[K, V]:
        """The field as a `MapView` of this state."""
        return MapView(self, state)

    def put(self, key: K, value: V, *, if_absent: bool = False) -> Put:
        """The key has this value; with `if_absent`, unless it has one already.

        An edit for `apply`. Raises `Invalid` for a key or a value that is not of the declared type,
        `TooLarge` for a value over `max_bytes`; the commit raises `TooLarge` for a new key past
        `keep`, unless the lowest is dropped.
        """
        entry = self._names.encode(key)
        data = self._codec.encode(value)
        return Put(self.stored, entry, data, if_absent, self.keep, self._dropping)

    def holds(self, key: K, value: V) -> Is:
        """The condition (`where=`) that the key has this value.

        Where it does not hold, the commit is a `Conflict` and nothing is written. Values are
        compared as they are stored, so 1 and 1.0 differ. Raises `Invalid` for a key or a value that
        is not of the declared type.
        """
        return self.condition(self._names.encode(key), self._codec.encode(value))

    def update(self, values: Mapping[K, V], *, if_absent: bool = False) -> Edits:
        """Each of these keys has its value, in one commit; keys that are not named keep theirs.

        An edit for `apply`. With `if_absent`, only the keys without a value get one. Raises
        `Invalid` for the first key or value that is not of the declared type, `TooLarge` for the first
        value over `max_bytes`, and then makes no edit; the commit raises `TooLarge` for a new key past
        `keep`, unless the lowest is dropped, and then writes nothing.
        """
        return Edits.of(
            [self.put(key, value, if_absent=if_absent) for key, value in values.items()]
        )

    def decode(self, state: Snapshot, entry: str, raw: Scalar) -> tuple[V] | None:
        """The value of this entry in a tuple; None if it cannot be read, noted as corrupted on the state."""
        return decoded(state, self, entry, raw, self._codec.decode)

    def values(self) -> object:
        """The Python type of the values."""
        return self._values_type

    def to_json(self, state: Snapshot) -> Any:
        """The entries that can be read, as an object."""
        return {
            entry: as_json(raw)
            for _key, entry, raw in self.read_entries(state)
            if self.decode(state, entry, raw) is not None
        }

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of an object of such values."""
        return {"type": "object", "additionalProperties": self._codec.schema()}

    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON: put, put_if_absent, drop, clear."""

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
    """A map as read, with this state's own changes.

    What is set or deleted is recorded, and written at the commit.

    A `MutableMapping`: `view[key]`, `del view[key]`, `get`, `update`, `|=`, `pop`, iteration. What
    is recorded is each entry, so that two writers who set different keys both have theirs. An entry
    that cannot be decoded counts in `len`, and can be deleted; else it is as if absent, and
    `meta.corrupted` has it.
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
        """Record that every entry is gone, those that others write before the commit included."""
        self._state._record(self._field.clear())

    def __repr__(self) -> str:
        return repr(dict(self))


class Steps(Map[str, V]):
    """The results of a job's steps by name: the first result that is put for a step stands.

    At most `keep` steps (default 64), each result of at most `max_bytes` bytes encoded (default 64
    KiB). A new step past `keep` is refused as `TooLarge`; none is ever dropped to make room, for a
    step whose result is gone would be done again.

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
        """Raise `SchemaError` unless types and bounds as declared can be; steps take no `past`."""
        super().check()
        if self._dropped:
            raise SchemaError("steps are not dropped: one whose result is gone would be done again")

    def put(self, key: str, value: V, *, if_absent: bool = True) -> Put:
        """The step has this result, unless it has one already and `if_absent` is true.

        An edit for `apply`. Raises `Invalid` for a result that is not of the declared type,
        `TooLarge` for one over `max_bytes`; the commit raises `TooLarge` for a new step past
        `keep`.
        """
        return super().put(key, value, if_absent=if_absent)

    def update(self, values: Mapping[str, V], *, if_absent: bool = True) -> Edits:
        """Each of these steps has its result, unless it has one already and `if_absent` is true.

        An edit for `apply`. Raises `Invalid` for the first result that is not of the declared type,
        `TooLarge` for the first one over `max_bytes`, and then makes no edit; the commit raises
        `TooLarge` for a new step past `keep`, and then writes nothing.
        """
        return super().update(values, if_absent=if_absent)

    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON: put (if absent), drop, clear."""
        operations = super().operations()
        operations["put"] = operations.pop("put_if_absent")
        return operations
