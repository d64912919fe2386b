"""What a reader wants as an argument, and the replies as cells. cells.lua tells the format."""

from __future__ import annotations

from typing import Any

import msgspec

from statehold.changes import Cell, Items
from statehold.commits import About, Revision, Want
from statehold.driver import Cells
from statehold.drivers.redis.keys import field_of, stored_field
from statehold.drivers.redis.values import (
    META_BYTES,
    about_in,
    epoch_in,
    loaded,
    revision_of,
    times_of,
)
from statehold.errors import Corrupted

_encode = msgspec.msgpack.Encoder().encode


def wanted(want: Want) -> bytes:
    """What is wanted of a state, for a script; empty for everything. Raises UnicodeError."""
    if not want.cuts() and not want.unless:
        return b""
    told: dict[str, object] = {}
    if want.fields is not None:
        told["fields"] = [stored_field[name].decode() for name in want.fields]
    tail = want.tail
    if isinstance(tail, dict):
        told["tails"] = {stored_field[name].decode(): count for name, count in tail.items()}
    elif tail is not None:
        told["tail"] = tail
    if want.unless:
        told["unless"] = [
            f"{known.incarnation.to_bytes(8, 'little').hex()}{known.number.to_bytes(5, 'little').hex()}"
            for known in want.unless
            if 0 <= known.incarnation < 1 << 64 and 0 <= known.number < 1 << 40
        ]
    if want.entries is not None:
        told["entries"] = {
            stored_field[field].decode(): [_of_hash(stored_field[field].decode(), e) for e in some]
            for field, some in want.entries.items()
        }
    after = want.after
    if isinstance(after, dict):
        told["afters"] = {stored_field[name].decode(): at for name, at in after.items()}
    elif after is not None:
        told["after"] = after
    if want.limit is not None:
        told["limit"] = want.limit
    return _encode(told)


def _of_hash(field: str, entry: str) -> str:
    """What an entry is called in the hash of a state."""
    return f"{field}:{entry}" if entry else field


def cells_of(reply: list[Any], now: float) -> Cells:
    """The cells in a reply. Raises `Corrupted` if not even its "." can be read."""
    server_now = reply[0]
    meta: bytes = reply[1][1]
    if len(meta) != META_BYTES:
        raise Corrupted("the description of a stored state cannot be read")
    created, updated, deadline = times_of(meta)
    hash = _Hash()
    unchanged = len(reply) == 3
    try:
        hash.take(reply[1])
        for place in range(2, len(reply) - unchanged, 3):
            name, held = reply[place], reply[place + 1]
            if name[0] == 35:  # "#", of a field that has a hash of its own
                hash.take_large(name[2:], held)
            elif held is None:
                hash.corrupted.add(field_of[name[1:]])
            else:
                hash.fields[field_of[name[1:]]] = Items(held, reply[place + 2])
    except ValueError as error:  # a name that is no UTF-8, or a count that is no number
        raise Corrupted("a name in a stored state cannot be read") from error
    for field in hash.corrupted:
        hash.fields.pop(field, None)
    return Cells(
        revision_of(meta),
        hash.fields,
        created,
        updated,
        deadline,
        server_now / 1e6 - now,
        epoch_in(meta),
        hash.subject,
        corrupted=tuple(sorted(hash.corrupted)),
        unchanged=unchanged,
    )


def standing(reply: list[Any]) -> Revision | None:
    """The revision in a reply; None if it cannot be read."""
    meta: bytes = reply[1][1]
    return revision_of(meta) if len(meta) == META_BYTES else None


class _Hash:
    """What the hash of a state holds."""

    def __init__(self) -> None:
        self.fields: dict[str, Cell] = {}
        self.subject: About | None = None
        self.corrupted: set[str] = set()

    def take(self, held: list[bytes]) -> None:
        """Take over the fields and values in turn. Raises ValueError."""
        counts: list[tuple[str, int]] = []
        pairs = iter(held)
        for name, value in zip(pairs, pairs, strict=True):
            mark = name[0]
            if mark == 35 and name[1] != 58:  # "#", but not "#:", of which the hash comes by itself
                counts.append((field_of[name[1:]], int(value)))
            elif mark == 46:  # "."
                if name == b".subject":
                    self.subject = about_in(value)
                elif name[1:2] == b":":  # a list that is empty
                    self.fields.setdefault(field_of[name[2:]], Items((), int(value)))
            elif mark not in (35, 58):  # ":", a list, which comes by itself
                stored, _, entry = name.partition(b":")
                self._enter(field_of[stored], entry, value)
        for field, count in counts:
            entries = self.fields.get(field, ())
            if len(entries) - ("" in entries) != count:
                self.corrupted.add(field)

    def take_large(self, stored: bytes, held: list[bytes] | None) -> None:
        """Take over the entries and values of a field in turn; None if they are not all there."""
        field = field_of[stored]
        if held is None:
            self.corrupted.add(field)
            return
        pairs = iter(held)
        for entry, value in zip(pairs, pairs, strict=True):
            self._enter(field, entry, value)

    def _enter(self, field: str, entry: bytes, value: bytes) -> None:
        try:
            scalar, text = loaded(value), entry.decode()
        except ValueError:  # UnicodeError is one
            self.corrupted.add(field)
            return
        entries = self.fields.get(field)
        if isinstance(entries, dict):
            entries[text] = scalar
        else:
            self.fields[field] = {text: scalar}
