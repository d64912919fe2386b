"""Commits of one batch made into the arguments of the commit function.

The commits of one key are merged, so that each key is written once. What cannot be merged exactly
raises `Later`: the commit, and all that follow on its key, wait for the next call. What the
function does not do at all raises `NotHere`: they go to the portable executor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import msgspec

from statehold.changes import (
    INT64_MAX,
    INT64_MIN,
    Accumulate,
    Add,
    Append,
    Change,
    Drop,
    Put,
    Splice,
    add_arrays,
)
from statehold.drivers.sql.postgres.fields import SET, SET_IF_ABSENT, SET_NULL
from statehold.drivers.sql.schema.tables import FieldStorage
from statehold.drivers.sql.schema.types import escaped
from statehold.drivers.sql.schema.values import NATIVE, NULL, checked_json, checked_jsonb, to_column


class Later(Exception):
    """It must not go into the same call. Internal."""


class NotHere(Exception):
    """The commit function does not do this. Internal."""


class Delta(Protocol):
    """What the commits of one key do to one field, merged so far."""

    def take(self, change: Change) -> None:
        """Merge one more change. Raises `Later` and `NotHere`, after which it is of no use."""
        ...

    def copy(self) -> Delta:
        """One that can be changed by itself."""
        ...


class Value:
    """A register or vector."""

    def __init__(self, stored: FieldStorage) -> None:
        self.stored = stored
        self.mode = 0
        self.value: Any = None

    def take(self, change: Change) -> None:
        if isinstance(change, Put) and not change.entry:
            if change.if_absent:
                if self.mode != 0 and (self.mode != SET or self.value is not None):
                    return  # one stands
                mode = SET if self.mode == SET else SET_IF_ABSENT
            else:
                mode = SET
            if change.value == NULL and self.stored.column_type in NATIVE:
                if mode == SET_IF_ABSENT:
                    raise NotHere
                self.mode, self.value = SET_NULL, None
            else:
                self.mode, self.value = mode, to_column(self.stored, change.value)
                if isinstance(self.value, str) and "\0" in self.value:
                    raise NotHere
        elif isinstance(change, Drop):
            if not change.entry:
                self.mode, self.value = SET, None
        else:
            raise NotHere

    def copy(self) -> Value:
        return _twin(self)


class Number:
    """A counter."""

    def __init__(self, stored: FieldStorage) -> None:
        self.kind: type[int | float] = int if stored.column_type == "int" else float
        self.mode = 0
        self.amount: float | None = None

    def take(self, change: Change) -> None:
        if isinstance(change, Add) and not change.entry:
            amount = change.amount
            if self.kind is float:
                amount = float(amount)
            elif not isinstance(amount, int):
                raise NotHere
            self.amount = amount if self.amount is None else summed(self.amount, amount)
            check_number(self.amount)
        elif isinstance(change, Drop):
            if not change.entry:
                self.mode, self.amount = SET, None
        else:
            raise NotHere

    def copy(self) -> Number:
        return _twin(self)


class Object:
    """A map, set or steps in one JSON column."""

    def __init__(self, stored: FieldStorage) -> None:
        self.name = stored.name
        self.clear = False
        self.drops: set[str] = set()
        self.puts: dict[str, str] = {}
        self.firsts: dict[str, str] = {}
        self.bound: Any = UNBOUND
        self.late = 0

    def take(self, change: Change) -> None:
        if isinstance(change, Put):
            if change.drop_lowest or "\\u0000" in (value := checked_jsonb(self.name, change.value)):
                raise NotHere
            self.bound = same_bound(self.bound, change.bound)
            entry = escaped(change.entry)
            if not change.if_absent:
                self.firsts.pop(entry, None)
                self.puts[entry] = value
            elif entry not in self.puts and entry not in self.firsts:
                absent = self.clear or entry in self.drops
                (self.puts if absent else self.firsts)[entry] = value
        elif isinstance(change, Drop):
            gone = None if change.entry is None else escaped(change.entry)
            if self.puts or self.firsts:
                self.late += late_drop(gone, self.puts, self.firsts)
            if gone is None:
                self.clear = True
            else:
                self.drops.add(gone)
        else:
            raise NotHere

    def put_text(self) -> str | None:
        """The entries to put as a JSON object."""
        return _object(self.puts) if self.puts else None

    def rare_text(self) -> str | None:
        """What else there is to do, as JSON; see `fields`."""
        parts: dict[str, str] = {}
        if self.clear:
            parts["c"] = "true"
        if self.drops:
            parts["d"] = _encode(sorted(self.drops)).decode()
        if self.firsts:
            parts["i"] = _object(self.firsts)
        return _object(parts) if parts else None

    def copy(self) -> Object:
        new = _twin(self)
        new.drops, new.puts, new.firsts = set(self.drops), dict(self.puts), dict(self.firsts)
        return new


class Entries:
    """Entries with a table of their own: numbers, arrays, bytes, JSON."""

    def __init__(self, stored: FieldStorage) -> None:
        self.stored = stored
        self.clear = False
        self.drops: set[str] = set()
        self.numbers: dict[str, float] = {}
        self.raws: dict[str, bytes] = {}
        self.firsts: dict[str, bytes] = {}
        self.bound: Any = UNBOUND
        self.late = 0

    def take(self, change: Change) -> None:
        if isinstance(change, Drop):
            self._drop(None if change.entry is None else escaped(change.entry))
            return
        if isinstance(change, Append | Splice):
            raise NotHere
        self._take_bound(change)
        entry = escaped(change.entry)
        if isinstance(change, Add):
            if not self.stored.adds or entry in self.raws:
                raise NotHere
            old = self.numbers.get(entry)
            total = change.amount if old is None else summed(old, change.amount)
            self.numbers[entry] = check_number(total)
            return
        if isinstance(change, Put):
            self._put(entry, change)
            return
        if self.stored.column_type != "array" or entry in self.numbers:
            raise NotHere
        self.raws[entry] = add_arrays(self.stored.name, self.raws.get(entry), change.array)

    def _put(self, entry: str, change: Put) -> None:
        if self.stored.counted:
            checked_json(self.stored.name, change.value)
            if not change.if_absent:
                self.firsts.pop(entry, None)
                self.raws[entry] = change.value
            elif entry not in self.raws and entry not in self.firsts:
                absent = self.clear or entry in self.drops
                (self.raws if absent else self.firsts)[entry] = change.value
        elif self.stored.column_type != "bytes" or entry in self.numbers or change.if_absent:
            raise NotHere
        else:
            self.raws[entry] = change.value

    def _drop(self, entry: str | None) -> None:
        if self.numbers or self.raws or self.firsts:
            if isinstance(self.bound, int) and self.bound < 0:
                raise Later
            self.late += late_drop(entry, self.numbers, self.raws, self.firsts)
        if entry is None:
            self.clear = True
        else:
            self.drops.add(entry)

    def _take_bound(self, change: Put | Add | Accumulate) -> None:
        bound = change.bound
        if change.drop_lowest and bound is not None:
            if "\\" in change.entry or "\0" in change.entry:
                raise NotHere  # the order of escaped names is not that of the names
            if self.late:
                raise Later
            bound = -bound
        self.bound = same_bound(self.bound, bound)

    def copy(self) -> Entries:
        new = _twin(self)
        new.drops, new.numbers, new.raws = set(self.drops), dict(self.numbers), dict(self.raws)
        new.firsts = dict(self.firsts)
        return new


class Tail:
    """A list: the items to append, and how many of the old ones stay."""

    def __init__(self, stored: FieldStorage) -> None:
        self.stored = stored
        self.appended = 0
        self.items: list[Any] = []
        self.stay: int | None = None

    def take(self, change: Change) -> None:
        if isinstance(change, Append):
            items = self.items
            items.extend(to_column(self.stored, item) for item in change.items)
            self.appended += len(change.items)
            room = change.keep - len(items)
            if not change.items:
                return
            if room < 0:
                del items[:-room]
            self.stay = max(0, room if self.stay is None else min(room, self.stay))
        elif isinstance(change, Drop):
            if change.entry is None:
                self.items, self.stay = [], 0
        else:
            raise NotHere

    def copy(self) -> Tail:
        new = _twin(self)
        new.items = list(self.items)
        return new


_encode = msgspec.json.Encoder().encode

Merged = TypeVar("Merged", Value, Number, Object, Entries, Tail)


def _twin(delta: Merged) -> Merged:
    """What `copy.copy` makes, in a fifth of its time."""
    made: Merged = object.__new__(type(delta))
    made.__dict__.update(delta.__dict__)
    return made


def _object(members: Mapping[str, str]) -> str:
    """A JSON object of values that are JSON text."""
    return (
        f"{{{','.join([f'{_encode(name).decode()}:{value}' for name, value in members.items()])}}}"
    )


UNBOUND: Final = object()
"""No change that has a bound was merged as yet."""

DELTAS: Final[dict[str, Callable[[FieldStorage], Delta]]] = {
    "value": Value,
    "number": Number,
    "object": Object,
    "entries": Entries,
    "items": Tail,
}


def same_bound(old: Any, bound: int | None) -> int | None:
    """The bound of both. Raises `Later` if they differ."""
    if old is not UNBOUND and old != bound:
        raise Later
    return bound


def late_drop(entry: str | None, *made: Mapping[str, object]) -> int:
    """By how much a field was fuller than at the end, when an entry is dropped after others were made.

    The function drops first, and checks the bound at the end: it is given a bound that much lower.
    Raises `Later` where that would not do.
    """
    if entry is None or any(entry in some for some in made):
        raise Later
    return 1


def summed(old: float, amount: float) -> float:
    """The sum of amounts, if a total cannot leave its range on the way to it. Raises `Later`."""
    if type(old) is not type(amount) or (old < 0) != (amount < 0):
        raise Later
    return old + amount


def check_number(total: float) -> float:
    """The amount, if a column can hold it. Raises `NotHere`."""
    if isinstance(total, int):
        if not INT64_MIN <= total <= INT64_MAX:
            raise NotHere
    elif not math.isfinite(total):
        raise NotHere
    return total
