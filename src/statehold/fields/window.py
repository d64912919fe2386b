"""A field that looks back over a span of time: `Window`."""

from __future__ import annotations

from datetime import timedelta
from struct import Struct
from typing import Any, ClassVar

from statehold.changes import Accumulate, Change, Drop
from statehold.errors import SchemaError
from statehold.fields.base import Edit, Edits, Field, Operation, Snapshot, flag, positive
from statehold.fields.scalar import number
from statehold.fields.slices import NAME_BYTES, Slices, moment, slice_of
from statehold.fields.vector import check_time, not_ahead, timed
from statehold.settings import duration

_PAIR = Struct("<dd")

SPARE = 128
"""Buckets that a state has room for, at least, beside those of the release that writes."""


class Window(Field["WindowView"]):
    """Count and sum of amounts over the last `span`, kept in `buckets` slices of time.

    Reads as a `WindowView`.

    `span` is a `timedelta` or seconds; `buckets` is 60 by default, each of at least 1 ms. Reads
    agree with the exact sliding window to the width of one bucket (`span / buckets`): what is
    younger than the span always counts; what is older by more than a bucket never does.

    A release may change both. What an older one wrote stays in the buckets of its time and counts
    as long as it kept it; side by side they count each other's. Beside its own buckets a state has
    room for as many of another release, and for at least `SPARE`.
    """

    field: ClassVar = "window"
    makes: ClassVar = frozenset({Accumulate, Drop})
    raw: ClassVar = True
    max_bytes = 16

    def __init__(self, span: timedelta | float, *, buckets: int = 60, **options: Any) -> None:
        super().__init__(**options)
        self.buckets = buckets
        self._span = span

    def check(self) -> None:
        """Raise `SchemaError` unless span and buckets as declared can be."""
        super().check()
        try:
            self.span = duration(self._span)
        except ValueError as error:
            raise SchemaError(f"span: {error}") from error
        buckets = positive(self.buckets, "buckets")
        self.width = self.span / buckets
        if self.width < 0.001:
            raise SchemaError(f"span / buckets must be at least 1 ms, not {self.width} s")
        self.keep = buckets + 1 + max(buckets + 1, SPARE)
        self._slices = Slices(self.width, self.span)

    def entry_bytes(self) -> int:
        """The maximum size of one bucket, its name included, in bytes."""
        return NAME_BYTES + self.max_bytes

    def view(self, state: Snapshot) -> WindowView:
        """The field as a `WindowView` of this state."""
        return WindowView(self, state)

    def add(self, amount: float = 1.0, *, at: float | None = None) -> Edits:
        """The amount counts from `at` (epoch seconds; None: the time of the commit) for a span.

        An edit for `apply`. Raises `Invalid` for what is not a finite number; when it is committed,
        for a time that is older than the span by then, since it would not count, or more than a
        minute ahead of the clock.
        """
        amount = number(self.name, amount, float)
        at = check_time(self, at)
        said = [("window", self.stored, amount, at)]
        return Edits(lambda now: [self._added(amount, self._within(at, now))], said)

    def _within(self, at: float | None, now: float) -> float:
        """The time of an amount. One from before the span would be acknowledged, and not count."""
        at = not_ahead(self, at, now)
        self.refuse_unless(
            at > now - self.span, f"time {at} is {now - at:.0f} s ago, beyond {self.span:g} s", at
        )
        return at

    def _added(self, amount: float, at: float) -> Change:
        array = _PAIR.pack(1.0, amount)
        return Accumulate(self.stored, self._slices.name(at), array, self.keep, drop_lowest=True)

    def drop(self) -> Edit:
        """Nothing was added: count and sum are 0. An edit for `apply`."""
        return Drop(self.stored)

    def totals(self, state: Snapshot, at: float) -> tuple[int, float]:
        """(count, sum) over the span up to `at`, rounded out to whole buckets."""
        reach = at - self.span
        over = moment(at)
        bounds: dict[float, tuple[float, float]] = {}  # of the buckets' numbers, by their width
        count = total = 0.0
        for entry, raw in state._cell_entries(self.stored).items():
            if entry < over:
                continue  # it has left the window that it was added to
            bucket = slice_of(entry)
            if bucket is None or not isinstance(raw, bytes) or len(raw) != 16:
                state._corrupt(self.name, entry, raw, "not a bucket")
                continue
            width = bucket.length
            found = bounds.get(width)
            if found is None:
                found = bounds[width] = reach // width, at // width
            if found[0] <= bucket.number <= found[1]:
                pair = _PAIR.unpack(raw)
                count += pair[0]
                total += pair[1]
        return int(count), total

    def to_json(self, state: Snapshot) -> Any:
        """Count and sum as seen from now, as an object."""
        count, total = self.totals(state, state._now())
        return {"count": count, "sum": total}

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of an object of count and sum."""
        properties = {"count": {"type": "integer"}, "sum": {"type": "number"}}
        return {"type": "object", "properties": properties}

    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON: add, drop."""
        amount = {"type": "number"}
        properties = {"amount": amount, "at": {"type": "number", "minimum": 0}}
        full = {
            "type": "object",
            "required": ["amount"],
            "additionalProperties": False,
            "properties": properties,
        }
        return {
            "add": Operation(
                lambda value: timed(self, value, "amount", self.add), {"anyOf": [amount, full]}
            ),
            "drop": flag(self, self.drop),
        }


class WindowView:
    """A window as read, with this state's own changes, seen from now by the store's clock."""

    __slots__ = ("_field", "_state")

    def __init__(self, field: Window, state: Snapshot) -> None:
        self._field = field
        self._state = state

    @property
    def count(self) -> int:
        """How many amounts were added within the span."""
        return self.at(self._state._now())[0]

    @property
    def sum(self) -> float:
        """What the amounts that were added within the span add up to."""
        return self.at(self._state._now())[1]

    @property
    def mean(self) -> float:
        """The mean of the amounts that were added within the span; 0 if there are none."""
        count, total = self.at(self._state._now())
        return total / count if count else 0.0

    def at(self, time: float) -> tuple[int, float]:
        """(count, sum) as seen from another time, epoch seconds.

        From a time before the newest amount, what was older may be gone already.
        """
        return self._field.totals(self._state, time)

    def add(self, amount: float = 1.0, *, at: float | None = None) -> None:
        """Record that the amount counts from `at` (epoch seconds; None: now) for a span.

        Raises `Invalid` for what is not a finite number, a time beyond the span or more than a
        minute ahead of the clock.
        """
        self._state._record(self._field.add(amount, at=at))

    def drop(self) -> None:
        """Record that nothing was added: count and sum are 0."""
        self._state._record(self._field.drop())

    def __repr__(self) -> str:
        count, total = self.at(self._state._now())
        return f"WindowView(count={count}, sum={total})"
