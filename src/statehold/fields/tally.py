"""A field that is a number for each key: `Tally`."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from statehold.changes import Add, Drop, Scalar
from statehold.commits import Is
from statehold.errors import SchemaError
from statehold.fields.base import NUMBER_BYTES, Edit, Edits, Operation, Snapshot
from statehold.fields.entries import EntriesField, Past
from statehold.fields.scalar import misfit, number, number_schema, summable

if TYPE_CHECKING:
    from typing_extensions import TypeForm

K = TypeVar("K")


class Tally(EntriesField["TallyView[K]", K], Generic[K]):
    """A number for each key, added up over all writers.

    Reads as a `TallyView`; a key never added to counts 0.

    `keys` is the type of the keys. There are at most `keep`; a new key past that is refused as
    `TooLarge`. Ints stay exact to 64 bits as long as only ints are added; `Tally(str, float,
    keep=…)` takes fractions. With `past="drop_lowest"` the lowest key is dropped instead: in the
    order of the keys as text, not of the numbers, which would depend on the order of the writers.
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
        """Raise `SchemaError` unless numbers, keys and bounds as declared can be."""
        super().check()
        if self.number not in (int, float):
            raise SchemaError(f"a tally counts in int or float, not {self.number!r}")

    def view(self, state: Snapshot) -> TallyView[K]:
        """The field as a `TallyView` of this state."""
        return TallyView(self, state)

    def add(self, key: K, amount: float = 1) -> Add:
        """The key's number is larger by `amount` (smaller, if negative); that of a new key is `amount`.

        An edit for `apply`. Raises `Invalid` for what is not of the tally's type, infinite or
        beyond 64 bits; the commit raises `TooLarge` for a new key past `keep`, or where the sum
        would be beyond 64 bits.
        """
        amount = number(self.name, amount, self.number)
        return Add(self.stored, self._names.encode(key), amount, self.keep, self._dropping)

    def holds(self, key: K, value: float) -> Is:
        """The condition (`where=`) that the key counts this many; a key never added to counts 0.

        Where it does not, the commit is a `Conflict` and nothing is written.
        """
        amount = number(self.name, value, self.number)
        return self.condition(self._names.encode(key), amount, absent=amount == 0)

    def at_least(self, key: K, value: float) -> Is:
        """The condition (`where=`) that the key counts this many or more; a key never added to counts 0.

        Where it does not, the commit is a `Conflict` and nothing is written.
        """
        amount = number(self.name, value, self.number)
        return self.condition(self._names.encode(key), amount, absent=amount <= 0, least=True)

    def update(self, amounts: Mapping[K, float]) -> Edits:
        """Each of these keys counts more by its amount, in one commit.

        An edit for `apply`. Raises `Invalid` for the first amount that is not of the tally's type,
        infinite or beyond 64 bits; the commit raises `TooLarge` for a new key past `keep`, or where a
        sum would be beyond 64 bits, and then writes nothing.
        """
        return Edits.of([self.add(key, amount) for key, amount in amounts.items()])

    def values(self) -> object:
        """The Python type of the numbers."""
        return self.number

    def read_number(self, state: Snapshot, entry: str, raw: Scalar) -> int | float | None:
        """The number that is stored; None if it is none, noted as corrupted on the state."""
        wrong = misfit(raw, self.number)
        if wrong is None:
            return cast("int | float", raw)
        state._corrupt(self.name, entry, raw, wrong)
        return None

    def to_json(self, state: Snapshot) -> Any:
        """The numbers that can be read, as an object."""
        return {
            entry: raw
            for _, entry, raw in self.read_entries(state)
            if self.read_number(state, entry, raw) is not None
        }

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of an object of such numbers."""
        return {"type": "object", "additionalProperties": number_schema(self.number)}

    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON: add, drop, clear."""

        def add(payload: Any) -> Edit:
            return self.update(dict(self._pairs(payload, "add")))

        return {"add": Operation(add, self.json_schema()), **self._removals()}


class TallyView(Mapping[K, float]):
    """A tally as read, with this state's own changes: a `Mapping` of keys to numbers.

    A key never added to reads as 0, and is neither `in` it nor iterated over. What is added is
    recorded as an addition, so that no other writer's is lost.
    """

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
        """Record that the key's number is larger by `amount` (smaller, if negative).

        Raises `Invalid` for what is not of the tally's type, `TooLarge` for a new key past `keep`,
        `Corrupted` where what is stored is no such number.
        """
        add = self._field.add(key, amount)
        summable(self._field, self._stored(add.entry), self._field.number)
        self._state._record(add)

    def update(self, amounts: Mapping[K, float]) -> None:
        """Record an addition for each of these keys.

        Raises `Invalid` for what is not of the tally's type, `TooLarge` for a new key past `keep`,
        `Corrupted` where what is stored is no such number.
        """
        for key in amounts:
            summable(self._field, self._stored(self._field._names.encode(key)), self._field.number)
        self._state._record(self._field.update(amounts))

    def drop(self, key: K) -> None:
        """Record that the key counts 0 again, and is no key any more."""
        self._state._record(self._field.drop(key))

    def clear(self) -> None:
        """Record that all keys count 0 again, those that others add to before the commit included."""
        self._state._record(self._field.clear())

    def most_common(self, count: int | None = None) -> list[tuple[K, float]]:
        """(key, number) pairs, largest number first: `count` of them, or all (None)."""
        pairs = list(self.items())
        if count is None:
            return sorted(pairs, key=lambda pair: pair[1], reverse=True)
        return heapq.nlargest(count, pairs, key=lambda pair: pair[1])

    def __repr__(self) -> str:
        return repr(dict(self))
