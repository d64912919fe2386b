"""A round over all kinds of the database, piece by piece, also those that no class of this process has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.cursors import foreign
from statehold.driver import Layout, Swept
from statehold.drivers.sql.migrating import opening
from statehold.drivers.sql.portable.sweep import sweep
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.tables import Tables

_ANY_OPS: Final = 1


async def sweep_on(
    connection: AsyncConnection,
    dialect: Dialect,
    tables_of: Callable[[Layout], Tables],
    after: str,
    now: float,
) -> Swept:
    """Sweep the next rows of the round, within the transaction under way; see `Driver.sweep`.

    `after` is "" or what the piece before said: a row, a colon, and the kind that it is of.
    """
    row, colon, kind = after.partition(":")
    if after and not (colon and row.isdecimal()):
        raise foreign(after)
    tables, following = await connection.run_sync(_next, tables_of, kind)
    if tables is None:
        return Swept(0, None)
    first = int(row) if tables.kind == kind and row else 0
    piece = await sweep(connection, dialect, tables, first, now)
    if not piece.ended:
        return Swept(piece.removed, f"{piece.last}:{tables.kind}")
    return Swept(piece.removed, None if following is None else f"0:{following}")


def _next(
    connection: Connection, tables_of: Callable[[Layout], Tables], kind: str
) -> tuple[Tables | None, str | None]:
    """The tables of the first kind from this one on whose tables are there, and the kind after it."""
    tables = opening.placed(connection, tables_of(Layout("", (), _ANY_OPS)))
    found = opening.all_described(connection, tables, kind)
    if not found:
        return None, None
    (name, description), *others = found
    whole = Tables(
        Layout(name, (), _ANY_OPS),
        prefix=tables.prefix,
        schema=tables.schema,
        extra=description.fields,
        vectors=tables.vectors,
    )
    return whole, others[0][0] if others else None
