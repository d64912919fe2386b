"""The keys of a kind, or of a subject in it, page by page in the order of their ids."""

from __future__ import annotations

from collections.abc import Generator

from sqlalchemy import Column, ColumnElement, Text, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.cursors import Listing, beyond, foreign
from statehold.driver import Page, Scan
from statehold.drivers.sql.dialects import Dialect
from statehold.drivers.sql.tables import Tables
from statehold.drivers.sql.types import escaped


async def scan(
    connection: AsyncConnection,
    dialect: Dialect,
    tables: Tables,
    asked: Scan,
    now: float,
) -> Page:
    """The next page; see `Driver.scan`."""
    listing = Listing(asked)
    main = tables.main
    statement = select(main.c.id).where(
        main.c.tenant == asked.tenant,
        or_(main.c.expires_at.is_(None), main.c.expires_at > dialect.moment(now)),
    )
    if asked.subject is not None:
        statement = statement.where(main.c.subject == asked.subject)
    if asked.prefix:
        statement = statement.where(*_begins(main.c.id, asked.prefix, dialect))
    if asked.cursor is not None:
        statement = statement.where(main.c.id > _after(asked.cursor, listing))
    rows = await connection.execute(statement.order_by(main.c.id).limit(asked.limit))
    keys = tuple((asked.tenant, asked.kind, row.id) for row in rows)
    return Page(keys, listing.cursor(keys[-1][2].encode()) if len(keys) == asked.limit else None)


def _begins(name: Column[str], prefix: str, dialect: Dialect) -> Generator[ColumnElement[bool]]:
    """The conditions on a name that begins like this, as a range of the index.

    Where names are stored escaped, the range is one of what is stored.
    """
    stored, type_ = prefix, name.type
    if dialect.name == "postgresql":
        stored, type_ = escaped(prefix), Text()
    yield name >= literal(stored, type_)
    end = beyond(stored)
    if end is not None:
        yield name < literal(end, type_)


def _after(cursor: str, listing: Listing) -> str:
    try:
        return listing.place(cursor).decode()
    except UnicodeDecodeError as error:
        raise foreign(cursor) from error
