"""Sweeping: what indexes list that no longer lives is taken out, some hundreds of members at a time.

The indexes are found by going through all keys of each master in turn (SCAN), since nobody knows all
tenants and kinds. Each piece says in `after` how far it has come: the master, SCAN's own cursor, and in
what that gave the index and its member.
"""

from __future__ import annotations

import base64
from typing import Final

import msgspec

from statehold.cursors import foreign
from statehold.driver import Swept
from statehold.drivers.redis.client import UNSTAMPED, Client, Command, slot_of
from statehold.drivers.redis.lua.scripts import SWEEP

MOST: Final = 500
"""How many members a piece looks at, or a few more."""
AT_ONCE: Final = 16
"""How many indexes are looked at at once."""
FEW: Final = 8
"""How many members of each, then; if there are more, what is left is looked at by itself."""
KEYS: Final = 200
"""About how many keys SCAN goes through in one call."""
SCANS: Final = 8
"""How many calls of SCAN a piece makes."""


class _Place(msgspec.Struct, array_like=True):
    """Where a piece goes on."""

    master: int = 0
    cursor: bytes | None = b"0"
    """SCAN's; None when it has been through all keys of this master."""
    indexes: list[bytes] = []
    """What SCAN has given and was not looked at yet. To ask it again would be less than this: what it gives
    at the same cursor is another thing once keys have come or gone."""
    member: bytes = b""
    """The member of the first of them after which it goes on."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Place).decode


async def piece_of(client: Client, after: str) -> Swept:
    """Look at some more. Raises `Invalid` for what is not from here."""
    piece = _Piece(client, _place(after))
    scans = 0
    while piece.left > 0:
        if piece.place.indexes:
            await piece.look()
        elif scans == SCANS:
            break
        elif await piece.find():
            scans += 1
        else:
            return Swept(piece.removed, None)
    return Swept(piece.removed, base64.urlsafe_b64encode(_encode(piece.place)).decode())


class _Piece:
    """One piece of a round."""

    def __init__(self, client: Client, place: _Place) -> None:
        self.place = place
        self.left = MOST
        self.removed = 0
        self._client = client

    async def find(self) -> bool:
        """Find more indexes, maybe none; False if there are no masters any more."""
        place = self.place
        if place.cursor is None:
            place.master, place.cursor = place.master + 1, b"0"
        reply = await self._client.ask_master(
            place.master, ("SCAN", place.cursor, "MATCH", "sh:{*}.[ik]*", "COUNT", KEYS)
        )
        if reply is None:
            return False
        place.cursor = None if reply[0] == b"0" else reply[0]
        place.indexes = list(reply[1])
        return True

    async def look(self) -> None:
        """Look at some members of the first of the indexes, or at the few of some of them."""
        place = self.place
        if place.member or len(place.indexes) == 1:
            (last,) = await self._sweep(place.indexes[:1], self.left)
            if last is None:
                del place.indexes[0]
            place.member = last or b""
            return
        some = place.indexes[:AT_ONCE]
        lasts = await self._sweep(some, FEW)
        more = [index for index, last in zip(some, lasts, strict=True) if last is not None]
        place.member = next((last for last in lasts if last is not None), b"")
        place.indexes = more + place.indexes[AT_ONCE:]

    async def _sweep(self, indexes: list[bytes], most: int) -> list[bytes | None]:
        """Look at so many members of each; the last ones where there are more."""
        commands = [_sweeping(index, self.place.member, most) for index in indexes]
        replies = await self._client.call_many(commands, repeatable=True, stamped=True)
        self.removed += sum(gone for gone, _, _ in replies)
        self.left -= sum(max(1, looked) for _, looked, _ in replies)
        return [last for _, _, last in replies]


def _sweeping(index: bytes, after: bytes, most: int) -> tuple[int, Command]:
    tag = index[index.index(b"{") + 1 : index.index(b"}")]
    return slot_of(tag), ("EVALSHA", SWEEP.sha, 1, index, after, most, UNSTAMPED)


def _place(after: str) -> _Place:
    if not after:
        return _Place()
    try:
        return _decode(base64.urlsafe_b64decode(after))
    except (ValueError, msgspec.DecodeError):
        raise foreign(after) from None
