"""Fields of floats: `Vector`, and `DecayedMean` that forgets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast

import msgspec

from statehold.changes import Accumulate, Change, Drop, Put, Scalar
from statehold.codec import to_floats
from statehold.driver import FieldLayout
from statehold.errors import Invalid, SchemaError
from statehold.fields.base import Edit, Edits, Field, Operation, Snapshot, flag, positive
from statehold.fields.scalar import number
from statehold.fields.slices import NAME_BYTES, Slices, slice_of
from statehold.settings import duration

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats32: TypeAlias = npt.NDArray[np.float32]
    Floats64: TypeAlias = npt.NDArray[np.float64]

SPAN: int = 64
"""Half-lives in an epoch of `DecayedMean`: weights stay below 2**64 and two epochs are enough."""

FLOAT32_MAX = 3.4028234e38
"""The largest float32, rounded down."""

LEEWAY = 60.0
"""By how many seconds the time of an update may be ahead of the clock."""


class Vector(Field["Floats32 | None"]):
    """An array of `dim` float32, the last one written.

    Reads as shape (dim,), not writable, or None.

    `state.field = array` records a new one, `state.field = None` that there is none. With
    `searchable`, a backend that can search by likeness keeps it as a vector of its own (see
    docs/sql.md); in all others that changes nothing.
    """

    field: ClassVar = "vector"
    makes: ClassVar = frozenset({Put, Drop})
    raw: ClassVar = True

    def __init__(self, dim: int, *, searchable: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.dim = dim
        self.searchable = searchable

    def check(self) -> None:
        """Raise `SchemaError` unless `dim` and `searchable` as declared can be."""
        super().check()
        self.max_bytes = 4 * positive(self.dim, "dim")
        yes_or_no(self.searchable, "searchable")

    def layout(self) -> FieldLayout:
        """What a driver may know of the field; its `dim` where it is searchable."""
        asked = self.dim if self.searchable else None
        return msgspec.structs.replace(super().layout(), dim=asked)

    def view(self, state: Snapshot) -> Floats32 | None:
        """The array of this state, not writable; None if there is none."""
        import numpy as np

        raw = state._cell_entries(self.stored).get("")
        if raw is None:
            return None
        if not isinstance(raw, bytes) or len(raw) != self.max_bytes:
            state._corrupt(self.name, "", raw, f"not {self.dim} float32")
            return None
        return np.frombuffer(raw, "<f4")

    def __set__(self, obj: Snapshot, value: npt.ArrayLike | None) -> None:
        obj._record(self.drop() if value is None else self.put(value))

    def put(self, value: npt.ArrayLike) -> Put:
        """The vector is this one, whoever wrote another before.

        An edit for `apply`. Raises `Invalid` for another shape than (dim,), or numbers that are not
        finite as float32.
        """
        return Put(self.stored, "", to_floats(value, self.dim, self.name, "<f4").tobytes())

    def drop(self) -> Edit:
        """There is no vector: it reads as None. An edit for `apply`."""
        return Drop(self.stored)

    def to_json(self, state: Snapshot) -> Any:
        """The vector as a list of numbers; None if there is none."""
        vector = self.view(state)
        return None if vector is None else vector.tolist()

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of a list of `dim` numbers, or null."""
        return {"anyOf": [vector_schema(self.dim), {"type": "null"}]}

    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON: put, drop."""

        def put(value: Any) -> Edit:
            return self.put(json_numbers(self, value))

        return {"put": Operation(put, vector_schema(self.dim)), "drop": flag(self, self.drop)}


class DecayedMean(Field["Decayed"]):
    """The mean of vectors in which each counts half as much for every `half_life` of its age.

    Reads as a `Decayed`.

    `dim` is the vectors' length, `half_life` a `timedelta` or seconds.

    Forward decay (Cormode, Shkapenyuk, Srivastava, Xu: "Forward Decay", ICDE 2009): a vector seen
    at time t is added with weight 2**((t - L) / half_life), where L is the start of its epoch, so
    that nothing stored has to be aged and concurrent updates add up exactly in any order. An epoch
    lasts 64 half-lives; the two newest are kept, and what is older weighs less than 2**-64 of what
    began the newest.

    A release may change the half-life: each vector goes on counting by that of the release which
    added it, in epochs of their own. There is room for those of two releases.
    """

    field: ClassVar = "decayed_mean"
    makes: ClassVar = frozenset({Accumulate, Drop})
    raw: ClassVar = True

    def __init__(self, dim: int, half_life: timedelta | float, **options: Any) -> None:
        super().__init__(**options)
        self.dim = dim
        self._half_life = half_life

    def check(self) -> None:
        """Raise `SchemaError` unless `dim` and `half_life` as declared can be."""
        super().check()
        positive(self.dim, "dim")
        try:
            self.half_life = duration(self._half_life)
        except ValueError as error:
            raise SchemaError(f"half_life: {error}") from error
        self.epoch = SPAN * self.half_life
        self.keep = 4
        self.max_bytes = 8 * (self.dim + 1)
        self._slices = Slices(self.epoch, self.epoch)

    def entry_bytes(self) -> int:
        """The maximum size of one epoch, its name included, in bytes."""
        return NAME_BYTES + self.max_bytes

    def view(self, state: Snapshot) -> Decayed:
        """The field as a `Decayed` of this state."""
        return Decayed(self, state)

    def add(self, vector: npt.ArrayLike, *, weight: float = 1.0, at: float | None = None) -> Edits:
        """The vector counts, as seen `at` (epoch seconds; None: the time of the commit).

        An edit for `apply`. However late it comes, it weighs what its age makes it weigh, times
        `weight`. Raises `Invalid` for another shape than (dim,), what is not finite, a weight that
        is not over 0; when it is committed, for a time more than a minute ahead of the clock.
        """
        array = to_floats(vector, self.dim, self.name, "<f8")
        weight = number(self.name, weight, float)
        self.refuse_unless(weight > 0, "weight must be over 0", weight)
        at = check_time(self, at)
        said = [("mean", self.stored, array.tobytes(), weight, at)]
        return Edits(lambda now: [self._added(array, weight, not_ahead(self, at, now))], said)

    def _added(self, array: npt.NDArray[Any], weight: float, at: float) -> Change:
        import numpy as np

        scaled = np.empty(self.dim + 1, "<f8")
        weight *= 2.0 ** ((at - at // self.epoch * self.epoch) / self.half_life)
        with np.errstate(over="ignore"):
            np.multiply(array, weight, out=scaled[:-1])
        scaled[-1] = weight
        self.refuse_unless(bool(np.isfinite(scaled).all()), "too large to be weighted")
        name = self._slices.name(at)
        return Accumulate(self.stored, name, scaled.tobytes(), self.keep, drop_lowest=True)

    def drop(self) -> Edit:
        """Nothing was seen: the mean is None, the weight 0. An edit for `apply`."""
        return Drop(self.stored)

    def sums(self, state: Snapshot, at: float) -> tuple[Floats64, float] | None:
        """Weighted sum and weight of all that is kept, and the power of 2 to this time's from them."""
        ages: dict[float, tuple[float, Floats64]] = {}  # half-life → (start of newest epoch, sums)
        for entry, raw in sorted(state._cell_entries(self.stored).items(), reverse=True):
            parsed = self._parsed(state, entry, raw)
            if parsed is None:
                continue
            half_life, start, array = parsed
            newest, total = ages.get(half_life, (start, None))
            if total is not None:
                array = total + array * 2.0 ** ((start - newest) / half_life)
            ages[half_life] = newest, array
        found = [((start - at) / half_life, array) for half_life, (start, array) in ages.items()]
        if not found:
            return None
        largest = max(exponent for exponent, _ in found)
        sums, *others = (array * 2.0 ** (exponent - largest) for exponent, array in found)
        for other in others:
            sums += other
        return sums, largest

    def _parsed(
        self, state: Snapshot, entry: str, raw: Scalar
    ) -> tuple[float, float, Floats64] | None:
        import numpy as np

        epoch = slice_of(entry)
        if epoch is None or not isinstance(raw, bytes) or len(raw) != self.max_bytes:
            state._corrupt(self.name, entry, raw, f"not {self.dim + 1} float64 of an epoch")
            return None
        return epoch.length / SPAN, epoch.start, np.frombuffer(raw, "<f8").astype(np.float64)

    def to_json(self, state: Snapshot) -> Any:
        """Mean and weight as seen from now, as an object."""
        view = self.view(state)
        mean = view.mean
        weight = min(view.weight(), sys.float_info.max)  # JSON knows no infinity
        return {"mean": None if mean is None else mean.tolist(), "weight": weight}

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of an object of mean and weight."""
        mean = {"anyOf": [vector_schema(self.dim), {"type": "null"}]}
        return {"type": "object", "properties": {"mean": mean, "weight": {"type": "number"}}}

    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON: add, drop."""
        schema = {
            "type": "object",
            "required": ["vector"],
            "additionalProperties": False,
            "properties": {
                "vector": vector_schema(self.dim),
                "weight": {"type": "number", "exclusiveMinimum": 0},
                "at": {"type": "number", "minimum": 0},
            },
        }

        def add(vector: Any, **options: Any) -> Edit:
            return self.add(json_numbers(self, vector), **options)

        either = {"anyOf": [vector_schema(self.dim), schema]}
        return {
            "add": Operation(lambda value: timed(self, value, "vector", add), either),
            "drop": flag(self, self.drop),
        }


class Decayed:
    """A decayed mean as read, with this state's own changes, seen from now by the store's clock."""

    __slots__ = ("_field", "_state")

    def __init__(self, field: DecayedMean, state: Snapshot) -> None:
        self._field = field
        self._state = state

    @property
    def mean(self) -> Floats64 | None:
        """The weighted mean, float64 of shape (dim,); None if nothing was seen."""
        found = self._field.sums(self._state, self._state._now())
        return None if found is None else found[0][:-1] / found[0][-1]

    def weight(self, at: float | None = None) -> float:
        """How much what was seen weighs at this time (epoch seconds; None: now); 0.0 if nothing was.

        A vector that was just added weighs 1, or the `weight` it was given, and half of that a
        half-life later.
        """
        found = self._field.sums(self._state, self._state._now() if at is None else at)
        if found is None:
            return 0.0
        sums, exponent = found
        return float(sums[-1] * 2.0 ** max(exponent, -2000.0)) if exponent < 1000 else float("inf")

    def add(self, vector: npt.ArrayLike, *, weight: float = 1.0, at: float | None = None) -> None:
        """Record that the vector was seen `at` (epoch seconds; None: the time of the commit).

        Raises `Invalid` for another shape than (dim,), what is not finite, a weight that is not
        over 0, a time more than a minute ahead of the clock.
        """
        self._state._record(self._field.add(vector, weight=weight, at=at))

    def drop(self) -> None:
        """Record that nothing was seen: the mean is None, the weight 0."""
        self._state._record(self._field.drop())

    def __repr__(self) -> str:
        return f"Decayed(mean={self.mean!r})"


def yes_or_no(value: object, what: str) -> bool:
    """A bool. Raises `SchemaError` for what is merely true, as the word "false" is."""
    if not isinstance(value, bool):
        raise SchemaError(f"{what} must be True or False, not {value!r}", found=value)
    return value


def vector_schema(dim: int) -> dict[str, Any]:
    """The JSON schema of a vector."""
    number = {"type": "number", "minimum": -FLOAT32_MAX, "maximum": FLOAT32_MAX}
    return {"type": "array", "items": number, "minItems": dim, "maxItems": dim}


def json_numbers(field: Field[Any], value: Any) -> list[float]:
    """The list of numbers that JSON data holds. Raises `Invalid`."""
    numbers = cast("list[float]", value)
    listed = type(value) is list and all(type(number) in (int, float) for number in numbers)
    field.refuse_unless(listed, "takes a list of numbers", numbers)
    return numbers


def check_time(field: Field[Any], at: float | None) -> float | None:
    """The time of an update in epoch seconds, or None for that of the commit. Raises `Invalid`."""
    if at is None:
        return None
    at = float(number(field.name, at, float))
    field.refuse_unless(at >= 0, f"time {at} is before 1970", at)
    return at


def not_ahead(field: Field[Any], at: float | None, now: float) -> float:
    """The time of an update, which is not yet to come. Raises `Invalid`.

    One update from the future would outweigh, or push out, all that come before that time.
    """
    if at is None:
        return now
    field.refuse_unless(at <= now + LEEWAY, f"time {at} is {at - now:.0f} s in the future", at)
    return at


def timed(field: Field[Any], payload: Any, first: str, add: Callable[..., Edit]) -> Edit:
    """An edit from `{first: …, "weight": …, "at": …}` or from the bare first."""
    is_object = isinstance(payload, dict)
    given: dict[str, Any] = cast("dict[str, Any]", payload) if is_object else {first: payload}
    wrong = set(given) - {first, "weight", "at"}
    field.refuse_unless(not wrong, f"add knows no {', '.join(sorted(wrong))}", payload)
    field.refuse_unless(first in given, f"add needs {first}", payload)
    options = {name: value for name, value in given.items() if name != first}
    field.refuse_unless(None not in options.values(), "null is no number", payload)
    try:
        return add(given[first], **options)
    except TypeError as error:
        raise Invalid(f"{field.name}: {error}", field=field.name) from None
