"""The six changes on plain dicts and lists, and whether two states of that kind are the same.

It shares no code with the fold that drivers use: `Model` goes by it, and laws compare the two. Arrays are
tuples of floats here.
"""

from __future__ import annotations

import math
import struct
from typing import Any, TypeAlias

from statehold.changes import Accumulate, Add, Append, Change, Drop, Put, Splice

Fields: TypeAlias = dict[str, Any]


class Numbered(list[bytes]):
    """A list's items; `first` is the position of its first."""

    first: int = 1

    def cut(self, begin: int, end: int) -> Numbered:
        """Some of its items."""
        some = Numbered(self[begin:end])
        some.first = self.first + begin
        return some


class No(Exception):
    """A change that cannot be applied."""


def apply_all(fields: Fields, changes: tuple[Change, ...]) -> tuple[str, str] | None:
    """Apply them in order; the field and the reason if one cannot be."""
    try:
        for change in changes:
            apply(fields, change)
    except No as no:
        field, reason = no.args
        return field, reason
    return None


def apply(fields: Fields, change: Change) -> None:
    """One change, done to plain dicts and lists. Raises `No(field, reason)`."""
    name = change.field
    if isinstance(change, Append):
        if change.items:
            fields[name] = _joined(fields.get(name, Numbered()), change.items, change.keep)
    elif isinstance(change, Splice):
        _splice(fields, change)
    elif isinstance(change, Drop) and isinstance(fields.get(name), Numbered):
        if change.entry is None:
            fields[name] = fields[name].cut(len(fields[name]), len(fields[name]))
    elif isinstance(change, Drop):
        left: dict[str, Any] = fields.pop(name, {})
        if change.entry is not None and len(left) > (change.entry in left):
            fields[name] = {k: v for k, v in left.items() if k != change.entry}
    else:
        _set(fields.setdefault(name, {}), change)


def _joined(items: Numbered, more: tuple[bytes, ...], keep: int) -> Numbered:
    """With more at its end, and the oldest beyond the bound gone."""
    new = Numbered([*items, *more])
    new.first = items.first
    return new.cut(max(0, len(new) - keep), len(new))


def _splice(fields: Fields, change: Splice) -> None:
    name = change.field
    items = fields.get(name) or Numbered()
    if isinstance(items, dict):
        raise No(name, "type")
    items = fields.get(name, Numbered())
    size = len(items)
    if change.at:
        if not items.first <= change.at < items.first + size:
            raise No(name, "gone")
        place = change.at - items.first
        if change.same is not None and [*change.same] != items[place : place + 1]:
            raise No(name, "changed")
        new = items.cut(0, size)
        new[place] = change.items[0]
    else:
        same = change.same or ()
        if [*same] != items[max(0, size - len(same)) :]:
            raise No(name, "changed")
        new = items.cut(0, max(0, size - change.take))
        if change.items:
            new = _joined(new, change.items, change.keep)
    fields[name] = new


def _set(entries: dict[str, Any], change: Put | Add | Accumulate) -> None:
    old = entries.get(change.entry)
    if isinstance(change, Put):
        new: Any = old if change.if_absent and old is not None else change.value
    elif isinstance(change, Add):
        new = _add(change.field, old, change.amount)
    else:
        new = _accumulate(change.field, old, change)
    entries[change.entry] = new
    while change.bound is not None and old is None and len(entries) > change.bound:
        if not change.drop_lowest or change.bound < 1:
            raise No(change.field, "bound")
        lowest = min(entries)
        del entries[lowest]
        if lowest == change.entry:
            break  # the first to go was the new one


def _add(name: str, old: Any, amount: float) -> Any:
    if isinstance(old, bytes | tuple):
        raise No(name, "type")
    if not math.isfinite(amount):
        raise No(name, "range")
    new = amount if old is None else old + amount
    fits = -(2**63) <= new < 2**63 if isinstance(new, int) else math.isfinite(new)
    if not fits:
        raise No(name, "range")
    return new


def _accumulate(name: str, old: Any, change: Accumulate) -> Any:
    amounts = floats(change.array)
    if old is None:
        old = (0.0,) * len(amounts)
    if not is_a(old, tuple):
        raise No(name, "type")
    if len(old) != len(amounts):
        raise No(name, "shape")
    new = tuple(a + b for a, b in zip(old, amounts, strict=True))
    if not all(map(math.isfinite, new)):
        raise No(name, "range")
    return new


def floats(array: bytes) -> tuple[float, ...]:
    """The numbers of a little-endian float64 array."""
    return struct.unpack(f"<{len(array) // 8}d", array)


def array(*numbers: float) -> bytes:
    """Numbers as a little-endian float64 array."""
    return struct.pack(f"<{len(numbers)}d", *numbers)


def is_a(value: Any, kind: type) -> bool:
    """Whether it is exactly of that type (said so that checkers do not narrow what is Any)."""
    return type(value) is kind


def agree(expected: Any, actual: Any) -> bool:
    """Whether what a driver says of a field, or of one value in it, is what is expected."""
    if is_a(expected, dict):
        return (
            is_a(actual, dict)
            and set(actual) == set(expected)
            and all(agree(value, actual[name]) for name, value in expected.items())
        )
    if isinstance(expected, Numbered):
        if is_a(actual, dict):
            return False
        return expected.first == actual.first and bool(expected == list(actual))
    if is_a(expected, tuple):
        found = floats(actual) if is_a(actual, bytes) else ()
        return len(found) == len(expected) and all(map(close, expected, found))
    if is_a(expected, float):
        return is_a(actual, float) and close(expected, actual)
    return is_a(expected, actual.__class__) and bool(expected == actual)


def close(a: float, b: float) -> bool:
    """Whether two floats are the same but for the last bits (some stores compute in decimals)."""
    return math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)
