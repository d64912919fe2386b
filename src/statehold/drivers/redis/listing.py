"""Scans: pages that continue across the buckets of a kind."""

from __future__ import annotations

from typing import Any

from statehold.cursors import Listing, foreign
from statehold.driver import Page, Scan
from statehold.drivers.redis.names import BUCKETS, Names, escaped, id_of
from statehold.drivers.redis.scripts import SCAN
from statehold.drivers.redis.servers import UNSTAMPED, Command, Servers

FIRST_BUCKETS = 4
"""How many buckets a page asks at first; four times as many each time it is not full."""


async def page_of(servers: Servers, names: Names, scan: Scan) -> Page:
    """The next page. Raises `Invalid` for a foreign cursor, UnicodeError for names that are none."""
    listing = Listing(scan)
    bucket, after = (0, b"") if scan.cursor is None else _place(scan.cursor, listing)
    member: bytes = b"i"
    whose = b""
    if scan.subject is not None:
        whose = scan.subject.encode()
        member = b"s%d:%b" % (len(whose), whose)
    begins = escaped(scan.prefix).encode()
    tenant, kind, limit = scan.tenant, scan.kind, scan.limit
    buckets = names.buckets(tenant, kind)
    found: list[bytes] = []
    # A subject has few states, and so has what many begin with if the prefix is a long one.
    asked = FIRST_BUCKETS if scan.subject is None and not begins else BUCKETS
    while bucket < BUCKETS:
        left = limit - len(found)
        commands: list[tuple[int, Command]] = []
        for number in range(bucket, min(bucket + asked, BUCKETS)):
            place = buckets[number]
            start = (after, 1) if number == bucket and after else (begins, 0)
            arguments: Command = (member, *start, left, whose, begins, UNSTAMPED)
            keys = (place.index, place.kept)
            commands.append((place.slot, ("EVALSHA_RO", SCAN.sha, 2, *keys, *arguments)))
        for reply in await servers.call_many(commands, repeatable=True, stamped=True):
            ids, last = _merged(reply)
            room = limit - len(found)
            if len(ids) > room:
                ids = ids[:room]
                last = ids[-1] if ids else after
            found += ids
            if last is not None:
                return _page(tenant, kind, found, listing.cursor(bytes((bucket,)) + last))
            bucket, after = bucket + 1, b""
            if len(found) == limit and bucket < BUCKETS:
                return _page(tenant, kind, found, listing.cursor(bytes((bucket,))))
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


def _place(cursor: str, listing: Listing) -> tuple[int, bytes]:
    """The bucket, and the id in it that the page before ended with."""
    place = listing.place(cursor)
    bucket, after = int.from_bytes(place[:1]), place[1:]
    try:
        if place and bucket < BUCKETS and escaped(id_of(after)).encode() == after:
            return bucket, after
    except UnicodeError:
        pass
    raise foreign(cursor)
