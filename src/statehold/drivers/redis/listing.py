"""Scans: pages that continue across the buckets of a kind."""

from __future__ import annotations

from typing import Any

from statehold.cursors import Listing, foreign, newest_of
from statehold.driver import Page, Scan
from statehold.drivers.redis.client import UNSTAMPED, Client, Command
from statehold.drivers.redis.keys import BUCKETS, Bucket, Keys, escaped, id_of
from statehold.drivers.redis.lua.scripts import SCAN

MOST = 1000
"""How many states of a bucket one call of the script looks at where all are needed."""

LOOKS = 4
"""A page is ended, full or not, when so many times as many states were asked for as it may have."""


async def page_of(client: Client, keys: Keys, scan: Scan) -> Page:
    """The next page. Raises `Invalid` for a foreign cursor, UnicodeError for names that are none."""
    if scan.newest:
        return newest_of(scan, await _updates(client, keys, scan))
    listing = Listing(scan)
    bucket, after = (0, b"") if scan.cursor is None else _place(scan.cursor, listing)
    begins = escaped(scan.prefix).encode()
    limit = scan.limit
    found: list[bytes] = []
    # A subject has few states, and so has what many begin with if the prefix is a long one.
    few = scan.cursor is None and (scan.subject is not None or begins != b"")
    asked, most = (BUCKETS, limit // BUCKETS + 8) if few else (1, limit)
    seen = ended = 0  # states in the buckets that were gone through whole, and how many these are
    whole = not after
    looked = 0
    while bucket < BUCKETS:
        commands: list[tuple[int, Command]] = []
        for number in range(bucket, min(bucket + asked, BUCKETS)):
            place = keys.bucket(scan.tenant, scan.kind, number)
            start = (after, 1) if number == bucket and after else (begins, 0)
            commands.append(_asking(scan, place, start, most))
        for reply in await client.call_many(commands, repeatable=True, stamped=True):
            ids, last = _merged(reply)
            seen += len(ids) if whole else 0
            room = limit - len(found)
            if len(ids) > room:
                ids = ids[:room]
                last = ids[-1]
            found += ids
            if last is not None:
                looked += most
                if len(found) == limit or looked >= LOOKS * max(limit, MOST):
                    return _page(scan, found, listing.cursor(bytes((bucket,)) + last))
                after = last
                break  # the bucket goes on, and the others have to wait
            bucket, after, ended, whole = bucket + 1, b"", ended + whole, True
            if len(found) == limit and bucket < BUCKETS:
                return _page(scan, found, listing.cursor(bytes((bucket,))))
        most = limit - len(found)
        asked = 1 if after or not ended else -(-most * ended // seen) if seen else BUCKETS
    return _page(scan, found, None)


def _asking(scan: Scan, place: Bucket, start: tuple[bytes, int], most: int) -> tuple[int, Command]:
    """The script for one bucket, from there on, and its slot."""
    member: bytes = b"i"
    whose = b""
    if scan.subject is not None:
        whose = scan.subject.encode()
        member = b"s%d:%b" % (len(whose), whose)
    begins = escaped(scan.prefix).encode()
    arguments: Command = (member, *start, most, whose, begins, int(scan.newest), UNSTAMPED)
    return place.slot, ("EVALSHA_RO", SCAN.sha, 2, place.index, place.kept, *arguments)


async def _updates(client: Client, keys: Keys, scan: Scan) -> list[tuple[float, str]]:
    """When each of a subject's states was updated, and its id."""
    buckets = [keys.bucket(scan.tenant, scan.kind, number) for number in range(BUCKETS)]
    starts = dict.fromkeys(range(BUCKETS), (escaped(scan.prefix).encode(), 0))
    found: dict[bytes, int] = {}
    while starts:
        commands = [_asking(scan, buckets[n], start, MOST) for n, start in starts.items()]
        replies = await client.call_many(commands, repeatable=True, stamped=True)
        asked, starts = starts, {}
        for number, reply in zip(asked, replies, strict=True):
            ending, more_ending, kept, more_kept = reply
            for each in (
                *ending,
                *kept,
            ):  # one that has just moved from one to the other is in both
                found[each[7:]] = int.from_bytes(each[:7], "little")
            stops = [stop for stop in (more_ending, more_kept) if stop is not None]
            if stops:
                starts[number] = (min(stops), 1)
    return [(updated / 1e6, id_of(id)) for id, updated in found.items()]


def _merged(reply: list[Any]) -> tuple[list[bytes], bytes | None]:
    """The ids of both indexes in order, and where to go on after; None at the end."""
    ending, more_ending, kept, more_kept = reply
    ids = sorted({*ending, *kept})  # one that has just moved from one to the other is in one
    stops = [stop for stop in (more_ending, more_kept) if stop is not None]
    if not stops:
        return ids, None
    last = min(stops)
    return [id for id in ids if id <= last], last


def _page(scan: Scan, found: list[bytes], cursor: str | None) -> Page:
    return Page(tuple((scan.tenant, scan.kind, id_of(id)) for id in found), cursor)


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
