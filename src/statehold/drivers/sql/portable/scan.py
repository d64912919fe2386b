"""The keys of a kind, or of a subject in it, page by page in the order of their ids."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Text, and_, literal, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.cursors import Listing, beyond, foreign
from statehold.driver import Page, Scan
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.tables import Tables
from statehold.drivers.sql.schema.types import escaped


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
    statement = select(main.c.id, main.c.updated_at).where(
        main.c.tenant == asked.tenant,
        or_(main.c.expires_at.is_(None), main.c.expires_at > dialect.moment(now)),
    )
    if asked.prefix:
        statement = statement.where(*_begins(main.c.id, asked.prefix, dialect))
    if asked.newest:
        return await _newest(connection, statement, tables, asked)
    if asked.cursor is not None:
        statement = statement.where(main.c.id > _after(asked.cursor, listing))
    if asked.subject is None:
        ordered = statement.order_by(main.c.id)
    else:
        found, name, _ = _of(tables, asked, statement.order_by(main.c.id).limit(asked.limit))
        ordered = found.order_by(name)
    rows = await connection.execute(ordered.limit(asked.limit))
    keys = tuple((asked.tenant, asked.kind, row.id) for row in rows)
    return Page(keys, listing.cursor(keys[-1][2].encode()) if len(keys) == asked.limit else None)


def _of(
    tables: Tables, asked: Scan, statement: Select[*tuple[Any, ...]]
) -> tuple[Select[*tuple[Any, ...]], ColumnElement[str], ColumnElement[float]]:
    """Of these states those about the subject: foremost of all, or among others. And the columns."""
    main, others = tables.main, tables.about
    foremost = statement.where(main.c.subject == asked.subject)
    among = statement.join(others, others.c.state == main.c.state).where(
        others.c.tenant == asked.tenant, others.c.subject == asked.subject
    )
    # Each is looked up, ordered and cut by itself, so that it goes by an index of its own.
    parts = (select(part.subquery()) for part in (foremost, among))
    either = union_all(*parts).subquery()
    return select(either), either.c.id, either.c.updated_at


async def _newest(
    connection: AsyncConnection, statement: Select[*tuple[Any, ...]], tables: Tables, asked: Scan
) -> Page:
    """The page of a subject's states, newest first: the database sorts all of them."""
    listing = Listing(asked)
    if asked.cursor is not None:
        updated, id = listing.place_at(asked.cursor)
        made = tables.main.c.updated_at
        same = and_(made == updated, tables.main.c.id > id)
        statement = statement.where(or_(made < updated, same))
    newest = statement.order_by(tables.main.c.updated_at.desc(), tables.main.c.id)
    found, name, at = _of(tables, asked, newest.limit(asked.limit))
    ordered = found.order_by(at.desc(), name)
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
