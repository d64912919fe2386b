"""The keys of a kind, or of a subject in it, page by page in the order of their ids."""

from __future__ import annotations

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.cursors import Listing, foreign
from statehold.driver import Page
from statehold.drivers.sql.dialects import Dialect
from statehold.drivers.sql.tables import Tables


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
    listing = Listing(tenant, tables.kind, subject)
    main = tables.main
    statement = select(main.c.id).where(
        main.c.tenant == tenant,
        or_(main.c.expires_at.is_(None), main.c.expires_at > dialect.moment(now)),
    )
    if subject is not None:
        statement = statement.where(main.c.subject == subject)
    if cursor is not None:
        statement = statement.where(main.c.id > _after(cursor, listing))
    rows = await connection.execute(statement.order_by(main.c.id).limit(limit))
    keys = tuple((tenant, tables.kind, row.id) for row in rows)
    return Page(keys, listing.cursor(keys[-1][2].encode()) if len(keys) == limit else None)


def _after(cursor: str, listing: Listing) -> str:
    try:
        return listing.place(cursor).decode()
    except UnicodeDecodeError as error:
        raise foreign(cursor) from error
