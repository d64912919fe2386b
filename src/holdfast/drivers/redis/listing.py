"""Scans: pages that continue across the buckets of a kind."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any

from holdfast.driver import Page
from holdfast.drivers.redis.names import BUCKETS, Names, escaped, id_of
from holdfast.drivers.redis.scripts import SCAN
from holdfast.drivers.redis.servers import Command, Servers
from holdfast.errors import Invalid

FIRST_BUCKETS = 4
"""How many buckets a page asks at first; four times as many each time it is not full."""


async def page_of(
    servers: Servers,
    names: Names,
    tenant: str,
    kind: str,
    subject: str | None,
    cursor: str | None,
    limit: int,
) -> Page:
    """The next page. Raises `Invalid` for a foreign cursor, UnicodeError for names that are none."""
    what = zlib.crc32(repr((tenant, kind, subject)).encode())
    bucket, after = (0, b"") if cursor is None else _place(cursor, what)
    prefix: bytes = b"i"
    more: tuple[bytes, ...] = ()
    if subject is not None:
        named = subject.encode()
        prefix, more = b"s%d:%b" % (len(named), named), (named,)
    buckets = names.buckets(tenant, kind)
    found: list[bytes] = []
    asked = FIRST_BUCKETS if subject is None else BUCKETS  # a subject has few states
    while bucket < BUCKETS:
        left = limit - len(found)
        commands: list[tuple[int, Command]] = []
        for number in range(bucket, min(bucket + asked, BUCKETS)):
            place = buckets[number]
            start = (after, 1) if number == bucket and after else (b"", 0)
            arguments: Command = (prefix, *start, left, *more)
            keys = (place.index, place.kept)
            commands.append((place.slot, ("EVALSHA_RO", SCAN.sha, 2, *keys, *arguments)))
        for reply in await servers.call_many(commands, repeatable=True):
            ids, last = _merged(reply)
            room = limit - len(found)
            if len(ids) > room:
                ids = ids[:room]
                last = ids[-1] if ids else after
            found += ids
            if last is not None:
                return _page(tenant, kind, found, _cursor(bucket, last, what))
            bucket, after = bucket + 1, b""
            if len(found) == limit and bucket < BUCKETS:
                return _page(tenant, kind, found, _cursor(bucket, b"", what))
        asked *= 4
    return _page(tenant, kind, found, None)


def _merged(reply: list[Any]) -> tuple[list[bytes], bytes | None]:
    """The ids of both indexes in order, and where to go on after; None at the end."""
    ending, more_ending, kept, more_kept = reply
    ids = sorted({*ending, *kept})  # one that has just moved from one to the other is in one
    stops = [stop for stop in (more_ending, more_kept) if stop is not None]
    if not stops:
        return ids, None
    last = min(stops)
    return [id for id in ids if id <= last], last


def _page(tenant: str, kind: str, found: list[bytes], cursor: str | None) -> Page:
    return Page(tuple((tenant, kind, id_of(id)) for id in found), cursor)


def _cursor(bucket: int, after: bytes, what: int) -> str:
    return f"{what:08x}{bucket:02x}{base64.urlsafe_b64encode(after).decode()}"


def _place(cursor: str, what: int) -> tuple[int, bytes]:
    try:
        if int(cursor[:8], 16) == what:
            bucket = int(cursor[8:10], 16)
            after = base64.b64decode(cursor[10:], b"-_", validate=True)
            if 0 <= bucket < BUCKETS and escaped(id_of(after)).encode() == after:
                return bucket, after
    except (ValueError, binascii.Error):
        pass
    raise Invalid("cursor: not one of this listing's", field="cursor", found=cursor[:40])
