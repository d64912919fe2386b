"""Values as they are stored, readable in redis-cli: numbers as text, bytes as they are.

Bytes that could be taken for a number, since they begin with a digit or a minus, or that begin with
a space, are stored with one space before them.
"""

from __future__ import annotations

import struct

from statehold.changes import Scalar
from statehold.commits import About, Revision

META_BYTES = 64
"""Bytes of the field "." of a state's hash, as life.lua describes it."""

_MARKED = frozenset(b"0123456789- ")


def stored(value: bytes) -> bytes:
    """Bytes as they are stored."""
    return b" " + value if value and value[0] in _MARKED else value


def loaded(value: bytes) -> Scalar:
    """What was stored. Raises ValueError for what cannot have been."""
    if not value:
        return value
    first = value[0]
    if first == 32:
        return value[1:]
    if 48 <= first <= 57 or first == 45:
        try:
            return int(value)
        except ValueError:
            return float(value)
    return value


_SEVERAL = b"\xff"


def packed_about(about: About) -> str | bytes:
    """Whom a state is about as life.lua describes it."""
    if isinstance(about, str):
        return about
    each = (subject.encode() for subject in about)
    return _SEVERAL + b"".join(b"%d:%b" % (len(one), one) for one in each)


def about_in(value: bytes) -> About:
    """Whom a state is about. Raises ValueError for what cannot have been stored."""
    if not value.startswith(_SEVERAL):
        return value.decode()
    found: list[str] = []
    at = 1
    while at < len(value):
        colon = value.index(b":", at)
        end = colon + 1 + int(value[at:colon])
        found.append(value[colon + 1 : end].decode())
        at = end
    return tuple(found)


_revision = struct.Struct("<QIB").unpack_from


def revision_of(meta: bytes) -> Revision:
    """The revision in the field "."."""
    incarnation, low, high = _revision(meta)
    return Revision(incarnation, low | high << 32)


_made = struct.Struct("<QIB7x7sd").unpack_from


def made_in(meta: bytes) -> tuple[Revision, float, float | None]:
    """What the newest commit made: the revision, when, and the deadline; as the functions below."""
    incarnation, low, high, updated, deadline = _made(meta)
    return (
        Revision(incarnation, low | high << 32),
        int.from_bytes(updated, "little") / 1e6,
        deadline / 1e6 if deadline else None,
    )


_deadline = struct.Struct("<27xd").unpack_from


def times_of(meta: bytes) -> tuple[float, float, float | None]:
    """When it was created, when the newest commit was made, and its deadline, epoch seconds."""
    return int.from_bytes(meta[13:20], "little") / 1e6, updated_in(meta), deadline_in(meta)


def deadline_in(meta: bytes) -> float | None:
    """The deadline of the field ".", epoch seconds; None for never."""
    (deadline,) = _deadline(meta)
    return deadline / 1e6 if deadline else None


def updated_in(meta: bytes) -> float:
    """When the commit of the field "." was made, epoch seconds."""
    return int.from_bytes(meta[20:27], "little") / 1e6


def epoch_in(meta: bytes) -> int:
    """The epoch in the field "."."""
    return int.from_bytes(meta[42:50], "big")
