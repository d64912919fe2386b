"""What the keys of a state are called in Redis, and the fields of its hash.

All keys of a state, and the index that lists it, share one hash tag, `{tenant:kind:bucket}`: one
script may touch them all, in a cluster too. A state's bucket is one of 64, by its id.
"""

from __future__ import annotations

import re
import zlib
from itertools import islice
from urllib.parse import unquote

import msgspec

from statehold.commits import Key
from statehold.drivers.redis.client import slot_of

BUCKETS = 64
_MOST_BUCKETS = 16_384
"""How many are kept at hand: all of 256 pairs of tenant and kind, or one of each of so many."""

_reserved = re.compile(r"[%:{}]").search
_ESCAPES = str.maketrans({mark: f"%{ord(mark):02X}" for mark in "%:{}"})


def escaped(name: str) -> str:
    """The name without `:`, `{` or `}`, in such a way that it can be told from any other."""
    return name.translate(_ESCAPES) if _reserved(name) else name


class Bucket(msgspec.Struct, frozen=True):
    """A sixty-fourth of a kind's states."""

    prefix: bytes
    """What the keys of its states begin with."""
    index: bytes
    """The key of the index of its states that end."""
    kept: bytes
    """The key of the index of those that never do."""
    slot: int


class Keys:
    """The keys of states."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, int], Bucket] = {}

    def bucket(self, tenant: str, kind: str, number: int) -> Bucket:
        """One of a kind's; made when it is first asked for."""
        made = self._made
        found = made.get((tenant, kind, number))
        if found is None:
            if len(made) >= _MOST_BUCKETS:  # the oldest, many at a time: that costs least for each
                for oldest in list(islice(made, _MOST_BUCKETS // 8)):
                    made.pop(oldest, None)  # another thread may have been quicker
            tag = f"{escaped(tenant)}:{escaped(kind)}:{number:02x}".encode()
            found = made[tenant, kind, number] = _bucket(tag)
        return found

    def state(self, key: Key) -> tuple[int, bytes]:
        """The slot of a state and the key of its hash. Raises UnicodeError."""
        tenant, kind, id = key
        number = zlib.crc32(id.encode()) & 63
        bucket = self._made.get((tenant, kind, number)) or self.bucket(tenant, kind, number)
        return bucket.slot, bucket.prefix + escaped(id).encode()


def _bucket(tag: bytes) -> Bucket:
    start = b"sh:{" + tag + b"}"
    return Bucket(start + b":", start + b".index", start + b".kept", slot_of(tag))


def id_of(member: bytes) -> str:
    """The id of a state from its part of a key."""
    return unquote(member.decode())


class StoredNames(dict[str, bytes]):
    """Field names as they are stored: without `:`, and not beginning with what marks the meta."""

    def __missing__(self, name: str) -> bytes:
        stored = escaped(name)
        if stored[:1] in (".", "#"):
            stored = f"%{ord(stored[0]):02X}{stored[1:]}"
        if not stored:
            stored = "%"  # which nothing else is escaped to
        if len(self) >= _MOST_FIELDS:
            self.clear()
        found = self[name] = stored.encode()
        return found


_MOST_FIELDS = 10_000
stored_field = StoredNames()
"""By name; made when first asked for."""


class FieldNames(dict[bytes, str]):
    """Field names from what is stored."""

    def __missing__(self, stored: bytes) -> str:
        if len(self) >= _MOST_FIELDS:
            self.clear()
        found = self[stored] = "" if stored == b"%" else unquote(stored.decode())
        return found


field_of = FieldNames()
"""By what is stored; raises UnicodeError."""
