"""Cursors of listings, for drivers: where a page ended, and which listing it was a page of."""

from __future__ import annotations

import base64
import binascii
import struct
import sys
import zlib
from collections.abc import Iterable
from heapq import nsmallest
from itertools import islice
from typing import Final

from statehold.driver import Page, Scan
from statehold.errors import Invalid

_MARK: Final = 8
_TIME: Final = struct.Struct("<d")


class Listing:
    """What `Driver.scan` goes through: all pages of what is asked for."""

    def __init__(self, asked: Scan) -> None:
        which = (asked.tenant, asked.kind, asked.subject, asked.prefix, asked.newest)
        said = repr(which).encode("utf-8", "surrogatepass")
        self._mark = f"{zlib.crc32(said):0{_MARK}x}"

    def cursor(self, place: bytes) -> str:
        """The cursor of a page that ended at this place, in the driver's own terms."""
        return self._mark + base64.urlsafe_b64encode(place).decode()

    def place(self, cursor: str) -> bytes:
        """Where to go on. Raises `Invalid` for the cursor of another listing, or for none."""
        if cursor.startswith(self._mark):
            try:
                return base64.b64decode(cursor[_MARK:], b"-_", validate=True)
            except (ValueError, binascii.Error):
                pass
        raise foreign(cursor)

    def cursor_at(self, updated: float, id: str) -> str:
        """The cursor of a page, newest first, that ended at this state."""
        return self.cursor(_TIME.pack(updated) + id.encode())

    def place_at(self, cursor: str) -> tuple[float, str]:
        """When the state was updated that a page ended at, and its id. Raises `Invalid`."""
        place = self.place(cursor)
        try:
            return _TIME.unpack_from(place)[0], place[_TIME.size :].decode()
        except (struct.error, UnicodeDecodeError):
            raise foreign(cursor) from None


def page_of(asked: Scan, found: Iterable[tuple[bytes, str]]) -> Page:
    """The page of a listing, of its states from where it goes on: the place of each, and its id.

    They are in the order of the listing, beginning after `Listing.place` of `asked.cursor`; one more
    than `asked.limit` is taken, to know whether there are more. The place is in the driver's own
    terms; where a page ends it is in the cursor.
    """
    page = list(islice(found, asked.limit + 1))
    more, page = len(page) > asked.limit, page[: asked.limit]
    keys = tuple((asked.tenant, asked.kind, id) for _, id in page)
    return Page(keys, Listing(asked).cursor(page[-1][0]) if more else None)


def newest_of(asked: Scan, found: Iterable[tuple[float, str]]) -> Page:
    """The page of a listing newest first, of when each of its states was updated and their ids.

    They are all of its states, in any order, whatever the cursor: this sorts them (of the same
    instant by id) and leaves out what earlier pages had. Raises `Invalid` for a foreign cursor.
    """
    listing = Listing(asked)
    ordered = ((-updated, id) for updated, id in found)
    if asked.cursor is not None:
        updated, id = listing.place_at(asked.cursor)
        after = (-updated, id)
        ordered = (each for each in ordered if each > after)
    page = nsmallest(asked.limit + 1, ordered)
    more, page = len(page) > asked.limit, page[: asked.limit]
    keys = tuple((asked.tenant, asked.kind, id) for _, id in page)
    return Page(keys, listing.cursor_at(-page[-1][0], page[-1][1]) if more else None)


def beyond(prefix: str) -> str | None:
    """The lowest text, by code points, above all that begin with the prefix; None if none is.

    That is the order of bytes in UTF-8 too, so these are the ids from `prefix` to below it.
    """
    kept = prefix.rstrip(chr(sys.maxunicode))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    if following == 0xD800:  # what follows is no text up to here
        following = 0xE000
    return kept[:-1] + chr(following)


def foreign(cursor: str) -> Invalid:
    """The error of a cursor that no page of the listing had."""
    return Invalid("cursor: not one of this listing's", field="cursor", found=cursor[:40])
