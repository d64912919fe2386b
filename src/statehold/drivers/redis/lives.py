"""Whole lives: the replies as lives, and lives as commands. whole.lua and install.lua tell the format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from statehold.changes import Items, Scalar
from statehold.commits import Key, digest_of
from statehold.driver import Op, WholeLife
from statehold.drivers.redis.cells import cells_of
from statehold.drivers.redis.client import UNSTAMPED, Command
from statehold.drivers.redis.commands import Arguments, many_ops, number_text, op_id
from statehold.drivers.redis.keys import stored_field
from statehold.drivers.redis.lua.scripts import INSTALL
from statehold.drivers.redis.values import epoch_in, packed_about, stored
from statehold.folding import NO_FENCE, Fence, whole

MARK_BYTES: Final = 2
RECORD_BYTES: Final = 26
LARGE: Final = 128
"""Entries of a field, beyond which it has a hash of its own; see commit.lua."""
LEAST_ROOM: Final = 17
"""For how many op ids there is room as the first one comes; see commit.lua."""


def life_of(key: Key, reply: list[Any], now: float) -> WholeLife:
    """The life in a reply. Raises `Corrupted`."""
    cells, ops, claim = reply
    found = cells_of(cells, now)
    meta: bytes = cells[1][1]
    forgot = int.from_bytes(meta[50:56], "little") / 1000
    had, size = (int.from_bytes(meta[a:b], "little") for a, b in ((56, 59), (60, 63)))
    known = [_op(ops, size, (had - back) % size) for back in range(min(had, size), 0, -1)]
    remembered = [one for one in known if one is not None]
    if had > size or len(remembered) < len(known):
        forgot = max(forgot, remembered[0].at if remembered else math.inf)
    fence = NO_FENCE
    if claim is not None and int.from_bytes(claim[:8]) == epoch_in(meta):
        held = int.from_bytes(claim[8:15], "little") / 1e6
        fence = Fence(found.epoch, held, op=_told(claim[22:35]))
    return whole(key, found, remembered, forgot or -math.inf, fence)


def _op(ops: bytes, size: int, slot: int) -> Op | None:
    """The op id in that place; None where another's hand has taken it."""
    at = size * MARK_BYTES + slot * RECORD_BYTES
    record = ops[at : at + RECORD_BYTES]
    if len(record) < RECORD_BYTES:
        return None
    op = ops[slot * MARK_BYTES : (slot + 1) * MARK_BYTES] + record[:11]
    number, time = (int.from_bytes(record[a:b], "little") for a, b in ((15, 20), (20, 26)))
    return Op(_told(op), number, int.from_bytes(record[11:15]), time / 1000)


def _told(op: bytes) -> str:
    """An op id from how it is stored: one that a store has made, or the digest of another."""
    if not op:
        return ""
    digest = op[:12].hex()
    return digest if op[12:] == b"=" else digest_of(f"blake2b:{digest}")


def install_of(life: WholeLife, state: bytes) -> Command:
    """The command that installs a life at the state whose key this is. Raises UnicodeError, `Invalid`."""
    cells = life.cells
    keys: Arguments = [state, state + b":.ops"]
    fields: Arguments = []
    lists: Arguments = []
    large: Arguments = []
    hashes: Arguments = []
    for name, cell in cells.fields.items():
        field = stored_field[name]
        if isinstance(cell, Items):
            _write_list(field, cell, state, keys, fields, lists)
        elif len(cell) - ("" in cell) > LARGE:
            large.append(b"%b:%b" % (state, field))
            _write_large(field, cell, fields, hashes)
        else:
            _write(field, cell, fields)
    keys += large
    room = max(LEAST_ROOM, many_ops(len(life.ops)))
    return (
        "EVALSHA",
        INSTALL.sha,
        len(keys),
        *keys,
        cells.revision.incarnation.to_bytes(8, "little"),
        cells.revision.number,
        _micros(cells.created),
        _micros(cells.updated),
        0 if cells.deadline is None else _micros(cells.deadline),
        cells.epoch.to_bytes(8),
        _millis(life.forgotten),
        _op_ids(life, room),
        len(life.ops),
        room if life.ops else 0,
        "" if life.held == -math.inf else max(1, _micros(life.held)),
        op_id(life.claim, 0)[:13],
        packed_about(cells.subject or ""),
        int(cells.subject is not None),
        len(fields),
        len(large),
        *fields,
        *lists,
        *hashes,
        UNSTAMPED,
    )


def _write_list(
    field: bytes, cell: Items, state: bytes, keys: Arguments, fields: Arguments, lists: Arguments
) -> None:
    """A list, and what the hash says of it."""
    count, first = len(cell), cell.first
    if count:
        keys.append(b"%b:%b" % (state, field))
        lists += (count, *cell)
        fields += (b":" + field, count if first == 1 else f"{count} {first}")
    elif first > 1:
        fields += (b".:" + field, first)


def _write(field: bytes, cell: Mapping[str, Scalar], fields: Arguments) -> None:
    """What a cell is in the hash."""
    for entry, value in cell.items():
        fields += (b"%b:%b" % (field, entry.encode()) if entry else field, _stored(value))
    named = len(cell) - ("" in cell)
    if named:
        fields += (b"#" + field, named)


def _write_large(
    field: bytes, cell: Mapping[str, Scalar], fields: Arguments, hashes: Arguments
) -> None:
    """The hash of a large field, and what that of the state says of it."""
    entries: Arguments = []
    for entry, value in cell.items():
        if entry:
            entries += (entry.encode(), _stored(value))
        else:
            fields += (field, _stored(value))
    fields += (b"#:" + field, len(entries) // 2)
    hashes += (len(entries), *entries)


def _stored(value: Scalar) -> bytes | str:
    return stored(value) if isinstance(value, bytes) else number_text(value)


def _op_ids(life: WholeLife, room: int) -> bytes:
    """The op ids as life.lua describes them."""
    marks: list[bytes] = []
    records: list[bytes] = []
    for one in life.ops:
        op = op_id(one.op, one.intent)
        marks.append(op[:2])
        number, time = one.number.to_bytes(5, "little"), _millis(one.at).to_bytes(6, "little")
        records.append(op[2:] + number + time)
    left = room - len(marks)
    unused = bytes(MARK_BYTES * left), bytes(RECORD_BYTES * left)
    return b"".join((*marks, unused[0], *records, unused[1]))


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _millis(seconds: float) -> int:
    """Milliseconds since the epoch, not earlier; 0 where there is no such time."""
    return 0 if seconds <= 0 else min(-(-_micros(min(seconds, 1e11)) // 1000), (1 << 48) - 1)
