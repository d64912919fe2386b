"""The keys of a kind, or of a subject in it, page by page in the order of their ids."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Table, Text, and_, literal, or_, select
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
    if asked.newest:
        return await _newest(connection, statement, main, asked)
    if asked.cursor is not None:
        statement = statement.where(main.c.id > _after(asked.cursor, listing))
    rows = await connection.execute(statement.order_by(main.c.id).limit(asked.limit))
    keys = tuple((asked.tenant, asked.kind, row.id) for row in rows)
    return Page(keys, listing.cursor(keys[-1][2].encode()) if len(keys) == asked.limit else None)


async def _newest(
    connection: AsyncConnection, statement: Select[Any], main: Table, asked: Scan
) -> Page:
    """The page of a subject's states, newest first: the database sorts all of them."""
    listing = Listing(asked)
    if asked.cursor is not None:
        updated, id = listing.place_at(asked.cursor)
        at = main.c.updated_at
        statement = statement.where(or_(at < updated, and_(at == updated, main.c.id > id)))
    ordered = statement.add_columns(main.c.updated_at).order_by(main.c.updated_at.desc(), main.c.id)
    rows = (await connection.execute(ordered.limit(asked.limit))).all()
    keys = tuple((asked.tenant, asked.kind, row.id) for row in rows)
    if len(keys) < asked.limit:
        return Page(keys)
    return Page(keys, listing.cursor_at(rows[-1].updated_at, rows[-1].id))


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
