"""The commits of one key merged, so that each key is written once by a call of the commit function.

A delta is what several commits do to one field: pure, of changes whose values are encoded already
(`encoding`). Its law: who plays the delta gets what those get who fold one change after the other. What
cannot be merged exactly raises `NextCall`: the commit, and all that follow on its key, wait for the next call.
What the function does not do at all raises `NotForFunction`: they go to the portable executor.
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
    add_arrays,
)

SET: Final = 1
"""Modes of a `Value` or `Number`: it becomes the argument, whatever it was."""
SET_IF_ABSENT: Final = 2
SET_NULL: Final = 3
"""It becomes a JSON null where the column is of a native type."""


class NextCall(Exception):
    """It must not go into the same call. Internal."""


class NotForFunction(Exception):
    """The commit function does not do this. Internal."""


class Delta(Protocol):
    """What the commits of one key do to one field, merged so far."""

    def take(self, change: Change, entry: str | None, value: Any) -> None:
        """Merge one more change, of which `encoding` made this entry and value.

        Raises `NextCall` and `NotForFunction`, after which the delta is of no use.
        """
        ...

    def copy(self) -> Delta:
        """One that can be changed by itself."""
        ...


class Value:
    """A register or vector. The value of a JSON null is None where the column is of a native type."""

    def __init__(self) -> None:
        self.mode = 0
        self.value: Any = None

    def take(self, change: Change, entry: str | None, value: Any) -> None:
        """See `Delta.take`."""
        if isinstance(change, Drop):
            if not entry:
                self.mode, self.value = SET, None
            return
        mode = SET
        if isinstance(change, Put) and change.if_absent:
            if self.mode != 0 and (self.mode != SET or self.value is not None):
                return  # one stands
            mode = SET if self.mode == SET else SET_IF_ABSENT
        if value is None:
            if mode == SET_IF_ABSENT:
                raise NotForFunction
            mode = SET_NULL
        self.mode, self.value = mode, value

    def copy(self) -> Value:
        """See `Delta.copy`."""
        return _twin(self)


class Number:
    """A counter."""

    def __init__(self) -> None:
        self.mode = 0
        self.amount: float | None = None

    def take(self, change: Change, entry: str | None, value: Any) -> None:
        """See `Delta.take`."""
        if isinstance(change, Drop):
            if not entry:
                self.mode, self.amount = SET, None
            return
        self.amount = check_number(value if self.amount is None else summed(self.amount, value))

    def copy(self) -> Number:
        """See `Delta.copy`."""
        return _twin(self)


class Object:
    """A map, set or steps in one JSON column."""

    def __init__(self) -> None:
        self.clear = False
        self.drops: set[str] = set()
        self.puts: dict[str, str] = {}
        self.firsts: dict[str, str] = {}
        self.bound: Any = UNBOUND
        self.slack = 0

    def take(self, change: Change, entry: str | None, value: Any) -> None:
        """See `Delta.take`."""
        if isinstance(change, Put) and entry is not None:
            self.bound = same_bound(self.bound, change.bound)
            if not change.if_absent:
                self.firsts.pop(entry, None)
                self.puts[entry] = value
            elif entry not in self.puts and entry not in self.firsts:
                absent = self.clear or entry in self.drops
                (self.puts if absent else self.firsts)[entry] = value
            return
        if self.puts or self.firsts:
            self.slack = slack_of_drop(self.slack, self.bound, entry, self.puts, self.firsts)
        if entry is None:
            self.clear = True
        else:
            self.drops.add(entry)

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
        """See `Delta.copy`."""
        new = _twin(self)
        new.drops, new.puts, new.firsts = set(self.drops), dict(self.puts), dict(self.firsts)
        return new


_MAKING: Final = (Put, Add, Accumulate)
"""Changes that may make an entry."""


class Entries:
    """Entries with a table of their own: numbers, arrays, bytes, JSON."""

    def __init__(self) -> None:
        self.clear = False
        self.drops: set[str] = set()
        self.numbers: dict[str, float] = {}
        self.raws: dict[str, bytes] = {}
        self.firsts: dict[str, bytes] = {}
        self.bound: Any = UNBOUND
        self.slack = 0

    def take(self, change: Change, entry: str | None, value: Any) -> None:
        """See `Delta.take`."""
        if entry is None or not isinstance(change, _MAKING):
            self._drop(entry)
            return
        self._take_bound(change)
        if isinstance(change, Add):
            if entry in self.raws:
                raise NotForFunction
            old = self.numbers.get(entry)
            self.numbers[entry] = check_number(value if old is None else summed(old, value))
            return
        if entry in self.numbers:
            raise NotForFunction
        if isinstance(change, Accumulate):
            self.raws[entry] = add_arrays(change.field, self.raws.get(entry), value)
        elif not change.if_absent:
            self.firsts.pop(entry, None)
            self.raws[entry] = value
        elif entry not in self.raws and entry not in self.firsts:
            absent = self.clear or entry in self.drops
            (self.raws if absent else self.firsts)[entry] = value

    def _drop(self, entry: str | None) -> None:
        if self.numbers or self.raws or self.firsts:
            if isinstance(self.bound, int) and self.bound < 0:
                raise NextCall
            made = (self.numbers, self.raws, self.firsts)
            self.slack = slack_of_drop(self.slack, self.bound, entry, *made)
        if entry is None:
            self.clear = True
        else:
            self.drops.add(entry)

    def _take_bound(self, change: Put | Add | Accumulate) -> None:
        bound = change.bound
        if change.drop_lowest and bound is not None:
            if self.slack:
                raise NextCall
            bound = -bound
        self.bound = same_bound(self.bound, bound)

    def copy(self) -> Entries:
        """See `Delta.copy`."""
        new = _twin(self)
        new.drops, new.numbers, new.raws = set(self.drops), dict(self.numbers), dict(self.raws)
        new.firsts = dict(self.firsts)
        return new


class Tail:
    """A list: the items to append, and how many of the old ones stay."""

    def __init__(self) -> None:
        self.appended = 0
        self.items: list[Any] = []
        self.stay: int | None = None

    def take(self, change: Change, entry: str | None, value: Any) -> None:
        """See `Delta.take`."""
        if isinstance(change, Append):
            items = self.items
            items.extend(value)
            self.appended += len(value)
            room = change.keep - len(items)
            if not value:
                return
            if room < 0:
                del items[:-room]
            self.stay = max(0, room if self.stay is None else min(room, self.stay))
        elif entry is None:
            self.items, self.stay = [], 0

    def copy(self) -> Tail:
        """See `Delta.copy`."""
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

DELTAS: Final[dict[str, Callable[[], Delta]]] = {
    "value": Value,
    "number": Number,
    "object": Object,
    "entries": Entries,
    "items": Tail,
}


def same_bound(old: Any, bound: int | None) -> int | None:
    """The bound of both. Raises `NextCall` if they differ."""
    if old is not UNBOUND and old != bound:
        raise NextCall
    return bound


def slack_of_drop(slack: int, bound: Any, entry: str | None, *made: Mapping[str, object]) -> int:
    """By how much a field was fuller than at the end, once an entry is dropped after others were made.

    The function drops first, and checks the bound at the end: it is given a bound that much lower,
    which must be 1 or more, since to it a bound below says that the lowest entries give way.
    Raises `NextCall` where that would not do.
    """
    if entry is None or any(entry in some for some in made):
        raise NextCall
    if isinstance(bound, int) and slack + 1 >= bound:
        raise NextCall
    return slack + 1


def summed(old: float, amount: float) -> float:
    """The sum of amounts, if a total cannot leave its range on the way to it. Raises `NextCall`."""
    if type(old) is not type(amount) or (old < 0) != (amount < 0):
        raise NextCall
    return old + amount


def check_number(total: float) -> float:
    """The amount, if a column can hold it. Raises `NotForFunction`."""
    if isinstance(total, int):
        if not INT64_MIN <= total <= INT64_MAX:
            raise NotForFunction
    elif not math.isfinite(total):
        raise NotForFunction
    return total
