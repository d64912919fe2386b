"""One run: look, plan, and carry out, with the database locked against other migrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
import sqlalchemy
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from statehold.drivers.sql.errors import ERRORS, translated
from statehold.drivers.sql.migrating import applying, searching
from statehold.drivers.sql.migrating.locking import locked
from statehold.drivers.sql.migrating.opening import placed
from statehold.drivers.sql.migrating.planning import plan
from statehold.drivers.sql.migrating.steps import Plan
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.tables import Tables
from statehold.errors import ConfigError


class Request(msgspec.Struct, frozen=True):
    """What is to be migrated, and how."""

    tables: Sequence[Tables]
    """Of each kind, without `extra`."""
    dialect: Dialect
    shown_url: str
    """What the database is called in errors, without its password."""
    drop: bool = False
    rename: Mapping[str, Mapping[str, str]] = {}
    """By kind: the fields that were renamed, the old stored name to the new."""


class Migration(msgspec.Struct, frozen=True):
    """What there is to do, or was done."""

    plans: list[Plan]
    dialect: sqlalchemy.Dialect
    """As the database says that it is."""


Work: TypeAlias = Callable[[Connection], Migration]


async def look(engine: AsyncEngine, request: Request) -> Migration:
    """What there is to do. Nothing is changed."""

    def work(connection: Connection) -> Migration:
        plans = _plans(connection, request, _settled(connection, request))
        return Migration(plans, connection.dialect)

    if not _nowhere(engine):
        return await _within(engine, request, work, "BEGIN")
    nowhere = create_async_engine("sqlite+aiosqlite://")  # SQLite would make the file
    try:
        return await _within(nowhere, request, work, "BEGIN")
    finally:
        await nowhere.dispose()


def _nowhere(engine: AsyncEngine) -> bool:
    database = engine.url.database
    return engine.dialect.name == "sqlite" and not (database and Path(database).exists())


async def carry_out(engine: AsyncEngine, request: Request) -> Migration:
    """Do what there is to do: in one transaction on PostgreSQL and SQLite.

    MariaDB ends a transaction with each table that is changed; what was interrupted there goes on
    where it stopped when it is run again.

    Raises:
        ConfigError: something cannot be done without losing data; nothing was.
        Busy: another migration, or a long transaction on a table, was in the way.
        ReadOnly: the user may not do this.
    """

    def work(connection: Connection) -> Migration:
        with locked(connection):
            settled = _settled(connection, request)
            plans = _plans(connection, request, settled)
            refuse(plans)
            applying.limits(connection)
            applying.apply(connection, plans)
            for tables in settled:
                applying.verify(connection, searching.settled(connection, tables))
            return Migration(plans, connection.dialect)

    return await _within(engine, request, work, "BEGIN IMMEDIATE")


def refuse(plans: Sequence[Plan]) -> None:
    """Raise `ConfigError` if something of the plans cannot be done."""
    refused = [words for made in plans for words in made.refused]
    if refused:
        raise ConfigError("; ".join(refused), field="kinds", found=refused)


def _settled(connection: Connection, request: Request) -> list[Tables]:
    return [searching.settled(connection, placed(connection, one)) for one in request.tables]


def _plans(connection: Connection, request: Request, settled: Sequence[Tables]) -> list[Plan]:
    return [
        plan(
            connection,
            request.dialect,
            tables,
            drop=request.drop,
            rename=request.rename.get(tables.kind),
            first=tables is settled[0],
        )
        for tables in settled
    ]


async def _within(engine: AsyncEngine, request: Request, work: Work, begin: str) -> Migration:
    try:
        async with engine.connect() as connection:
            await connection.execution_options(statehold_begin=begin)
            async with connection.begin():
                return await connection.run_sync(work)
    except ERRORS as error:
        raise translated(error, request.shown_url) from error
