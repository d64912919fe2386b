"""What is too large for one statement (MariaDB and MySQL): its bytes are counted before it is sent.

Such a server ends the connection when a statement is larger than `max_allowed_packet`, which looks
like any other loss, and would be tried again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from statehold.changes import Cell, Refusal, Scalar
from statehold.drivers.sql.schema.tables import FieldStorage
from statehold.folding import Ends

REST: Final = 16_384
"""Bytes of a statement beside its values, at most: names, ids, the statement itself."""

_ESCAPED: Final = b"\0\n\r\x1a\"'\\"
"""What takes two bytes within a statement."""


def check(
    fields: Mapping[str, FieldStorage],
    touched: Iterable[str],
    cells: Mapping[str, Cell],
    packet: int,
) -> None:
    """Raises `Refusal` if a row that is to be written is too large."""
    row: dict[str, int] = {}
    for name in touched:
        cell = cells.get(name)
        entries = cell if isinstance(cell, dict) else {}
        if fields[name].table:
            items = (*cell.fresh, *cell.edits.values()) if isinstance(cell, Ends) else ()
            for value in (*entries.values(), *items):
                _check(name, _size(value, packet), packet)
        else:
            row[name] = sum(len(entry) + 8 + _size(one, packet) for entry, one in entries.items())
    if row:
        _check(max(row, key=row.__getitem__), sum(row.values()), packet)


def _size(value: Scalar, packet: int) -> int:
    """How many bytes of a statement it takes, exactly if they are many."""
    if not isinstance(value, bytes):
        return 32
    size = len(value)
    return size + sum(map(value.count, _ESCAPED)) if size > packet // 64 else 2 * size


def _check(field: str, size: int, packet: int) -> None:
    if size > packet - REST:
        limit = f"{packet - REST} bytes in one statement (max_allowed_packet)"
        raise Refusal(field, "budget", limit, f"{size} bytes")
