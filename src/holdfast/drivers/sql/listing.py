"""The keys of a kind, or of a subject in it, page by page in the order of their ids."""

from __future__ import annotations

import base64
import binascii
import zlib

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.driver import Page
from holdfast.drivers.sql.dialects import Dialect
from holdfast.drivers.sql.tables import Tables
from holdfast.errors import Invalid


async def scan(
    connection: AsyncConnection,
    dialect: Dialect,
    tables: Tables,
    tenant: str,
    subject: str | None,
    cursor: str | None,
    limit: int,
    now: float,
) -> Page:
    """The next page; see `Driver.scan`."""
    what = zlib.crc32(repr((tenant, tables.kind, subject)).encode("utf-8", "surrogatepass"))
    main = tables.main
    statement = select(main.c.id).where(
        main.c.tenant == tenant,
        or_(main.c.expires_at.is_(None), main.c.expires_at > dialect.moment(now)),
    )
    if subject is not None:
        statement = statement.where(main.c.subject == subject)
    if cursor is not None:
        statement = statement.where(main.c.id > _after(cursor, what))
    rows = await connection.execute(statement.order_by(main.c.id).limit(limit))
    keys = tuple((tenant, tables.kind, row.id) for row in rows)
    return Page(keys, _cursor(keys[-1][2], what) if len(keys) == limit else None)


def _cursor(after: str, what: int) -> str:
    return f"{what:08x}{base64.urlsafe_b64encode(after.encode()).decode()}"


def _after(cursor: str, what: int) -> str:
    try:
        if int(cursor[:8], 16) == what:
            return base64.b64decode(cursor[8:], b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        pass
    raise Invalid("cursor: not one of this listing's", field="cursor", found=cursor[:40])
