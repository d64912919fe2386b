"""What a change carries, as the commit function is given it: names escaped, values as their columns take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from statehold.changes import Accumulate, Add, Append, Change, Drop, Put, Splice
from statehold.drivers.sql.postgres.merge import NotForFunction
from statehold.drivers.sql.schema.tables import FieldStorage
from statehold.drivers.sql.schema.types import NATIVE, escaped
from statehold.drivers.sql.schema.values import (
    NULL,
    checked_json,
    checked_jsonb,
    to_column,
)

Encoded: TypeAlias = tuple[str | None, Any]
"""The entry, or None for all or for none; and the value, if the change has one."""


def _of_value(stored: FieldStorage, change: Change) -> Encoded:
    if isinstance(change, Drop):
        return change.entry, None
    if not isinstance(change, Put) or change.entry:
        raise NotForFunction
    if change.value == NULL and stored.column_type in NATIVE:
        return "", None
    value = to_column(stored, change.value)
    if isinstance(value, str) and "\0" in value:
        raise NotForFunction
    return "", value


def _of_number(stored: FieldStorage, change: Change) -> Encoded:
    if isinstance(change, Drop):
        return change.entry, None
    if not isinstance(change, Add) or change.entry:
        raise NotForFunction
    if stored.column_type == "float":
        return "", float(change.amount)
    if not isinstance(change.amount, int):
        raise NotForFunction
    return "", change.amount


def _of_object(stored: FieldStorage, change: Change) -> Encoded:
    if isinstance(change, Drop):
        return None if change.entry is None else escaped(change.entry), None
    if not isinstance(change, Put) or change.drop_lowest:
        raise NotForFunction
    value = checked_jsonb(stored.name, change.value)
    if "\\u0000" in value:
        raise NotForFunction
    return escaped(change.entry), value


_OF_LISTS: Final = (Append, Splice)


def _of_entries(stored: FieldStorage, change: Change) -> Encoded:
    if isinstance(change, Drop):
        return None if change.entry is None else escaped(change.entry), None
    if isinstance(change, _OF_LISTS):
        raise NotForFunction
    entry = escaped(change.entry)
    if change.drop_lowest and change.bound is not None and ("\\" in entry):
        raise NotForFunction  # the order of escaped names is not that of the names
    if isinstance(change, Add):
        if not stored.adds:
            raise NotForFunction
        return entry, change.amount
    if isinstance(change, Accumulate):
        if stored.column_type != "array":
            raise NotForFunction
        return entry, change.array
    if stored.counted:
        checked_json(stored.name, change.value)
    elif stored.column_type != "bytes" or change.if_absent:
        raise NotForFunction
    return entry, change.value


def _of_items(stored: FieldStorage, change: Change) -> Encoded:
    if isinstance(change, Append):
        return None, [to_column(stored, item) for item in change.items]
    if isinstance(change, Drop):
        return change.entry, None
    raise NotForFunction


ENCODED: Final[dict[str, Callable[[FieldStorage, Change], Encoded]]] = {
    "value": _of_value,
    "number": _of_number,
    "object": _of_object,
    "entries": _of_entries,
    "items": _of_items,
}
"""By a field's form, what gives the entry and the value of a change.

It raises `NotForFunction`, and `Invalid` for what no column holds.
"""
