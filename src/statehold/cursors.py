"""Cursors of listings, for drivers: where a page ended, and which listing it was a page of."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Final

from statehold.errors import Invalid

_MARK: Final = 8


class Listing:
    """What `Driver.scan` goes through: the keys of a kind, or of a subject in it."""

    def __init__(self, tenant: str, kind: str, subject: str | None) -> None:
        asked = repr((tenant, kind, subject)).encode("utf-8", "surrogatepass")
        self._mark = f"{zlib.crc32(asked):0{_MARK}x}"

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


def foreign(cursor: str) -> Invalid:
    """The error of a cursor that no page of the listing had."""
    return Invalid("cursor: not one of this listing's", field="cursor", found=cursor[:40])
