"""Fields of one value: `Register` and `Counter`."""

from __future__ import annotations

import copy
import math
import operator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, overload

from statehold.changes import INT64_MAX, INT64_MIN, Add, Drop, Put, Scalar
from statehold.codec import as_json
from statehold.commits import Is
from statehold.comparing import Number
from statehold.errors import Corrupted, Invalid, SchemaError
from statehold.fields.base import (
    NUMBER_BYTES,
    VALUE_BYTES,
    Edit,
    Edits,
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
N = TypeVar("N", int, float)

MANY = 2**62
"""Amounts nearer to 0 than this need no closer look."""

_ATOMS = (str, int, float, bool, bytes, type(None))


class Register(Field[T]):
    """One value of type `type_`, the last one written.

    Reads as the value (a new copy each time: what you do to it is not recorded) or `default`;
    `state.field = value` records a new one. It takes at most `max_bytes` bytes encoded (default 64
    KiB).
    """

    field: ClassVar = "register"
    makes: ClassVar = frozenset({Put, Drop})

    def __init__(
        self, type_: TypeForm[T], *, default: T, max_bytes: int = VALUE_BYTES, **options: Any
    ) -> None:
        super().__init__(**options)
        self.type = type_
        self.default = default
        self.max_bytes = max_bytes

    def check(self) -> None:
        """Raise `SchemaError` unless the bound as declared can be."""
        super().check()
        positive(self.max_bytes, "max_bytes")

    def ready(self) -> None:
        """Make what encodes the value. Raises `SchemaError` for a default of another type."""
        self._codec = self.codec(self.type)
        if self.default is not None:
            try:
                self._codec.encode(self.default)
            except ValueError as error:
                raise SchemaError(f"{self.name}: default: {error}", field=self.name) from error

    def view(self, state: Snapshot) -> T:
        """The value of this state, a new copy each time; the default if none can be read."""
        raw = state._cell_entries(self.stored).get("")
        if raw is not None:
            found = decoded(state, self, "", raw, self._codec.decode)
            if found is not None:
                return cast("T", found[0])
        default = self.default
        return default if isinstance(default, _ATOMS) else copy.deepcopy(default)

    def __set__(self, obj: Snapshot, value: T) -> None:
        obj._record(self.put(value))

    def put(self, value: T, *, if_absent: bool = False) -> Put:
        """The value is this one; with `if_absent`, unless there is one already.

        An edit for `apply`. Raises `Invalid` for a value that is not of the declared type,
        `TooLarge` for one over `max_bytes`.
        """
        return Put(self.stored, "", self._codec.encode(value), if_absent)

    def holds(self, value: T) -> Is:
        """The condition (`where=`) that the register reads as this value, which may be the default.

        Where it does not, the commit is a `Conflict` and nothing is written. Values are compared as
        they are stored, so 1 and 1.0 differ.
        """
        said, default = self._codec.encode(value), self.default
        unset = value is None if default is None else said == self._codec.encode(default)
        return self.condition("", said, absent=unset)

    def drop(self) -> Edit:
        """There is no value: it reads as the default again. An edit for `apply`."""
        return self.drops()

    def values(self) -> object:
        """The Python type of the value."""
        return self.type

    def to_json(self, state: Snapshot) -> Any:
        """The value as JSON; the default if there is none that can be read."""
        raw = state._cell_entries(self.stored).get("")
        if raw is not None and decoded(state, self, "", raw, self._codec.decode) is not None:
            return as_json(raw)
        if self.default is None:
            return None
        return as_json(self._codec.encode(self.default))

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the value, or null where that is the default."""
        schema = self._codec.schema()
        if self.default is None and schema:
            try:
                self._codec.encode(None)
            except Invalid:
                return {"anyOf": [schema, {"type": "null"}]}
        return schema

    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON: put, put_if_absent, drop."""
        read = self._codec.from_json
        return {
            "put": Operation(lambda value: self.put(read(value)), self._codec.schema()),
            "put_if_absent": Operation(
                lambda value: self.put(read(value), if_absent=True), self._codec.schema()
            ),
            "drop": flag(self, self.drop),
        }


class Count(Number, int):
    """An int that was read from a counter; `+=` on it is recorded as an addition."""

    __slots__ = ()

    def __iadd__(self, amount: int) -> Count:  # noqa: PYI034
        step = _step(amount, int)
        return self._odd(int(self) + amount, amount) if step is None else self._changed(step)

    def __isub__(self, amount: int) -> Count:  # noqa: PYI034
        step = _step(amount, int)
        return self._odd(int(self) - amount, amount) if step is None else self._changed(-step)

    def _changed(self, step: int) -> Count:
        return _Increased(int(self), step)

    def _odd(self, total: Any, amount: Any) -> Any:
        """The sum with what cannot be recorded: as for any int; the counter will refuse it."""
        return _Increased(int(self), amount) if _is_whole(amount) else total


class _Increased(Count):
    """A count on its way from `+=` to the state; what is added to it adds up."""

    base: int
    amount: int

    def __new__(cls, base: int, amount: int = 0) -> _Increased:  # noqa: PYI034
        new = int.__new__(cls, base + amount)
        new.base = base
        new.amount = amount
        return new

    def _changed(self, step: int) -> Count:
        return _Increased(self.base, self.amount + step)


class Amount(Number, float):
    """A float that was read from a counter; `+=` on it is recorded as an addition."""

    __slots__ = ()

    def __iadd__(self, amount: float) -> Amount:  # noqa: PYI034
        step = _step(amount, float)
        return self._odd(float(self) + amount, amount) if step is None else self._changed(step)

    def __isub__(self, amount: float) -> Amount:  # noqa: PYI034
        step = _step(amount, float)
        return self._odd(float(self) - amount, amount) if step is None else self._changed(-step)

    def _changed(self, step: float) -> Amount:
        return _Raised(float(self), step)

    def _odd(self, total: Any, amount: Any) -> Any:
        """The sum with what cannot be recorded: as for any float; the counter will refuse it."""
        return _Raised(float(self), amount) if _is_whole(amount) else total


class _Raised(Amount):
    """An amount on its way from `+=` to the state; what is added to it adds up."""

    base: float
    amount: float

    def __new__(cls, base: float, amount: float = 0.0) -> _Raised:  # noqa: PYI034
        new = float.__new__(cls, base + amount)
        new.base = base
        new.amount = amount
        return new

    def _changed(self, step: float) -> Amount:
        return _Raised(self.base, self.amount + step)


def _is_whole(amount: object) -> bool:
    return isinstance(amount, int) or type(amount).__name__ in {"bool", "bool_"}  # numpy's


def _step(amount: Any, kind: type[N]) -> N | None:
    """The amount, if it can be recorded."""
    try:
        return cast("N", number("", amount, kind))
    except Invalid:
        return None


class Counter(Field[Any], Generic[N]):
    """A number that additions of all writers add up to; 0 until then.

    `Counter()` is an int, exact to 64 bits; `Counter(float)` a float. `state.field += 1` records
    an addition; `state.field = 5` records that it is 5, whatever others add before the commit.
    """

    field: ClassVar = "counter"
    makes: ClassVar = frozenset({Add, Drop})
    raw: ClassVar = True
    max_bytes = NUMBER_BYTES

    @overload
    def __init__(self: Counter[int], number: type[int] = ..., **options: Any) -> None: ...
    @overload
    def __init__(self: Counter[float], number: type[float], **options: Any) -> None: ...
    def __init__(self, number: type[Any] = int, **options: Any) -> None:
        super().__init__(**options)
        self.number = number

    def check(self) -> None:
        """Raise `SchemaError` unless it counts in int or float."""
        super().check()
        if self.number not in (int, float):
            raise SchemaError(f"a counter is an int or a float, not {self.number!r}")

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def __get__(self, obj: None, owner: type[Any]) -> Counter[N]: ...
        @overload
        def __get__(self: Counter[int], obj: Snapshot, owner: type[Any]) -> Count: ...
        @overload
        def __get__(self: Counter[float], obj: Snapshot, owner: type[Any]) -> Amount: ...
        def __get__(self, obj: Any, owner: type[Any]) -> Any: ...

    def view(self, state: Snapshot) -> Any:
        """The number of this state, on which `+=` records an addition; 0 if none can be read."""
        return (Count if self.number is int else Amount)(self._value(state))

    def _value(self, state: Snapshot) -> int | float:
        raw = state._cell_entries(self.stored).get("", 0)
        wrong = misfit(raw, self.number)
        if wrong is None:
            return cast("int | float", raw)
        state._corrupt(self.name, "", raw, wrong)
        return 0

    def __set__(self, obj: Snapshot, value: N) -> None:
        if isinstance(value, _Increased | _Raised) and value.base == self._value(obj):
            amount: Any = value.amount
            summable(self, obj._cell_entries(self.stored).get("", 0), self.number)
            obj._record(self.add(amount))
        else:
            obj._record(self.set(value))

    def add(self, amount: N = 1) -> Add:
        """The number is larger by `amount` (smaller, if negative).

        An edit for `apply`: many writers' additions all count. Raises `Invalid` for what is not of
        the counter's type, infinite or beyond 64 bits; the commit raises `TooLarge` where the sum
        would be.
        """
        if amount.__class__ is not int or self.number is not int or not -MANY < amount < MANY:
            amount = number(self.name, amount, self.number)
        return Add(self.stored, "", amount)

    def set(self, value: N) -> Edits:
        """The number is this one, whatever it was.

        An edit for `apply`. Raises `Invalid` for what is not of the counter's type, infinite or beyond
        64 bits.
        """
        add = self.add(value)
        return Edits.of((Drop(self.stored), add))

    def holds(self, value: N) -> Is:
        """The condition (`where=`) that the counter is at this number.

        A counter never added to is at 0. Where the condition does not hold, the commit is a
        `Conflict` and nothing is written.
        """
        amount = self.add(value).amount
        return self.condition("", amount, absent=amount == 0)

    def at_least(self, value: N) -> Is:
        """The condition (`where=`) that the counter is at this number or a larger one.

        A counter never added to is at 0. Where the condition does not hold, the commit is a
        `Conflict` and nothing is written.
        """
        amount = self.add(value).amount
        return self.condition("", amount, absent=amount <= 0, least=True)

    def drop(self) -> Edit:
        """The number is 0 again. An edit for `apply`."""
        return Drop(self.stored)

    def values(self) -> object:
        """The Python type of the number."""
        return self.number

    def to_json(self, state: Snapshot) -> Any:
        """The number."""
        return self._value(state)

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the number."""
        return number_schema(self.number)

    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON: add, set, drop."""
        schema = number_schema(self.number)
        return {
            "add": Operation(lambda value: self.add(number(self.name, value, self.number)), schema),
            "set": Operation(lambda value: self.set(number(self.name, value, self.number)), schema),
            "drop": flag(self, self.drop),
        }


def misfit(raw: Scalar, kind: type[Any]) -> str | None:
    """Why a stored value is no number of this type; None if it is."""
    if isinstance(raw, bytes):
        return "not a number"
    return "a float where ints are declared" if kind is int and isinstance(raw, float) else None


def summable(field: Field[Any], raw: Scalar, kind: type[Any]) -> None:
    """Raise `Corrupted` unless amounts of this type can be added to what is stored."""
    wrong = misfit(raw, kind)
    if wrong is not None:
        raise Corrupted(
            f"{field.name}: {wrong}: nothing can be added until it is dropped or set",
            field=field.name,
            expected=kind.__name__,
            found=type(raw).__name__,
        )


def number(field: str, value: Any, kind: type[Any]) -> Any:
    """An amount that may be added. Raises `Invalid` for NaN, infinity, bool, beyond int64."""
    if value.__class__ is int:
        if INT64_MIN <= value <= INT64_MAX:
            return value if kind is int else float(value)
        raise Invalid(
            f"{field}: an int of {value.bit_length()} bits is beyond 64 bits",
            field=field,
            found=value,
        )
    if isinstance(value, bool):
        raise Invalid(f"{field}: a bool is no number here", field=field, found=value)
    try:
        if kind is float and hasattr(value, "__float__"):
            amount = float(value)
            if math.isfinite(amount):
                return amount
            raise Invalid(f"{field}: {amount} cannot be added", field=field, found=amount)
        if hasattr(value, "__index__"):  # numpy's integers
            return number(field, operator.index(value), kind)
    except (TypeError, OverflowError):
        pass  # an array, a number beyond the floats
    raise Invalid(
        f"{field}: {type(value).__name__} is not {'an int' if kind is int else 'a number'}",
        field=field,
        expected=kind,
        found=type(value),
    )


def number_schema(kind: type[Any]) -> dict[str, Any]:
    """The JSON schema of an amount."""
    if kind is int:
        return {"type": "integer", "minimum": INT64_MIN, "maximum": INT64_MAX}
    return {"type": "number"}
