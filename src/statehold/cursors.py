"""Cursors of listings, for drivers: where a page ended, and which listing it was a page of."""

from __future__ import annotations

import base64
import binascii
import sys
import zlib
from typing import Final

from statehold.driver import Scan
from statehold.errors import Invalid

_MARK: Final = 8


class Listing:
    """What `Driver.scan` goes through: all pages of what is asked for."""

    def __init__(self, asked: Scan) -> None:
        which = (asked.tenant, asked.kind, asked.subject, asked.prefix)
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
