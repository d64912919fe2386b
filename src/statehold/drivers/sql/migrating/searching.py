"""Columns that become vectors of pgvector, with what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from alembic.operations.ops import ExecuteSQLOp, MigrateOperation
from sqlalchemy import Column, Connection, LargeBinary, MetaData, Table, func, select

from statehold.drivers.sql.migrating.opening import described, with_what_is_there
from statehold.drivers.sql.migrating.steps import Plan, Step
from statehold.drivers.sql.migrating.verbatim import verbatim
from statehold.drivers.sql.postgres.phrases import qualified, quoted
from statehold.drivers.sql.schema.tables import FieldStorage, Tables
from statehold.drivers.sql.schema.vectors import LACKS, MAKE, asked, there, to_be_had

# PostgreSQL casts no bytes to float4, so each is put together from sign, exponent and fraction, in
# float8, which holds every float4. What is not finite becomes NaN, which a vector refuses.
_READ: Final = """CREATE FUNCTION pg_temp.statehold_floats(raw bytea) RETURNS real[]
LANGUAGE sql IMMUTABLE STRICT AS $statehold$
  SELECT array_agg(
    (CASE WHEN b.bits >> 31 = 1 THEN -1 ELSE 1 END * CASE (b.bits >> 23) & 255
      WHEN 255 THEN 'NaN'::float8
      WHEN 0 THEN (b.bits & 8388607) * power(2::float8, -149)
      ELSE ((b.bits & 8388607) + 8388608) * power(2::float8, ((b.bits >> 23) & 255) - 150)
    END)::real ORDER BY b.n)
  FROM (
    SELECT n, get_byte(raw, 4 * n)::bigint | (get_byte(raw, 4 * n + 1)::bigint << 8)
      | (get_byte(raw, 4 * n + 2)::bigint << 16) | (get_byte(raw, 4 * n + 3)::bigint << 24)
    FROM generate_series(0, octet_length(raw) / 4 - 1) AS s(n)
  ) AS b(n, bits)
$statehold$"""


def stays(stored: FieldStorage) -> bool:
    """Whether a field that may lie in one of two ways goes on as it does."""
    return stored.column_type == "vector" or stored.form == "object" or stored.counted


def settled(connection: Connection, tables: Tables) -> Tables:
    """The tables that a migration is to make: vectors where they are asked for and can be had.

    One that is a vector already stays one, whether or not the class still asks for it: an older
    release beside a newer one does not. So does a map that is one object, or has a row for each entry.
    """
    found = described(connection, tables)
    listed = found.fields if found else ()
    own = [one for one in listed if one.name in tables.own and stays(one)]
    if not own and not any(field.field == "vector" for field in tables.layout.fields):
        return tables
    can = bool(asked(tables.layout)) and tables.vectors and to_be_had(connection, keep=False)
    return with_what_is_there(tables, own, vectors=can)


def steps(made: Plan, connection: Connection, tables: Tables) -> None:
    """Add the step that makes the extension, or say that it is not to be had."""
    fields = [tables.own[field.name] for field in asked(tables.layout)]
    if connection.dialect.name != "postgresql" or not fields:
        return
    if any(stored.column_type == "vector" for stored in fields):
        if not there(connection):
            made.steps.append(Step("extension vector is made", (ExecuteSQLOp(MAKE),)))
        return
    names = ", ".join(stored.name for stored in fields)
    made.notes.append(f"{names}: kept as bytes, since the database {LACKS}")


def unlike(connection: Connection, table: Table, column: str, dim: int) -> bool:
    """Whether there are bytes that are not so many float32."""
    lies: Any = Table(table.name, MetaData(), Column(column, LargeBinary), schema=table.schema)
    query = select(1).select_from(lies).where(func.octet_length(lies.c[column]) != 4 * dim)
    return connection.execute(query.limit(1)).first() is not None


def conversion(table: Table, column: Column[Any], want: str) -> Iterable[MigrateOperation]:
    """The operations that make vectors of a column's bytes, exactly."""
    name = quoted(column.name)
    yield ExecuteSQLOp(verbatim(_READ))
    yield ExecuteSQLOp(
        verbatim(
            f"ALTER TABLE {qualified(table.schema, table.name)} ALTER COLUMN {name}"
            f" TYPE {want} USING pg_temp.statehold_floats({name})::{want}"
        )
    )
    yield ExecuteSQLOp("DROP FUNCTION pg_temp.statehold_floats(bytea)")
