"""Which columns may change their type where they are, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

from alembic.operations.ops import (
    AddColumnOp,
    AlterColumnOp,
    DropColumnOp,
    ExecuteSQLOp,
    MigrateOperation,
)
from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, or_, select, update

SAFE_VALUES: Final = frozenset({("int", "float"), ("bytes", "vector")})
"""What a field may hold and come to hold, as `FieldStorage.column_type` says it."""

_INTS: Final = {"smallint", "int", "integer", "bigint"}
_FLOATS: Final = {"double", "double precision"}
_WIDER: Final = {
    ("smallint", "bigint"),
    ("int", "bigint"),
    ("integer", "bigint"),
    ("real", "double precision"),
    ("float", "double"),
    ("tinytext", "longtext"),
    ("text", "longtext"),
    ("mediumtext", "longtext"),
    ("tinyblob", "longblob"),
    ("blob", "longblob"),
    ("mediumblob", "longblob"),
}
_LENGTH = re.compile(r"(varbinary|character varying|varchar)\((\d+)\)")
_EXACT: Final = 2**53


def change(have: str, want: str) -> Literal["float", "vector", "wider", "refused"]:
    """What it is for a column to go from one type to another (in the catalogue's words)."""
    old, new = have.partition(" collate ")[0], want.partition(" collate ")[0]
    if old in _INTS and new in _FLOATS:
        return "float"
    if old == "bytea" and new.startswith("vector("):
        return "vector"
    if old == new or (old, new) in _WIDER:
        return "wider"
    was, now = _LENGTH.fullmatch(old), _LENGTH.fullmatch(new)
    if was and ((now and was[1] == now[1] and int(was[2]) < int(now[2])) or new == "text"):
        return "wider"
    return "refused"


def too_long(connection: Connection, table: Table, column: str) -> bool:
    """Whether the column has whole numbers that a float cannot hold."""
    there: Any = Table(table.name, MetaData(), Column(column, BigInteger), schema=table.schema)
    value = there.c[column]
    query = select(1).select_from(there).where(or_(value > _EXACT, value < -_EXACT)).limit(1)
    return connection.execute(query).first() is not None


def alteration(dialect: str, table: Table, column: Column[Any]) -> Iterable[MigrateOperation]:
    """The operations that give a column its type.

    SQLite cannot alter a column. Its table is not copied for that, which would start its numbers
    afresh and lose its triggers, but the column is.
    """
    if dialect != "sqlite":
        yield AlterColumnOp(
            table.name,
            column.name,
            schema=table.schema,
            modify_type=column.type,
            existing_nullable=column.nullable,
        )
        return
    name = f"{column.name}__new"
    yield AddColumnOp(table.name, Column(name, column.type))
    there = Table(
        table.name, MetaData(), Column(name, column.type), Column(column.name, BigInteger)
    )
    yield ExecuteSQLOp(update(there).values({name: there.c[column.name]}))
    yield DropColumnOp(table.name, column.name)
    yield AlterColumnOp(table.name, name, modify_name=column.name)
