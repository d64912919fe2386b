"""Which fields may lie otherwise where they are, which columns may change their type, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from alembic.operations.ops import (
    AddColumnOp,
    AlterColumnOp,
    DropColumnOp,
    ExecuteSQLOp,
    MigrateOperation,
)
from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, or_, select, update

from statehold.drivers.sql.schema.tables import FieldStorage, Tables

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


def losing(tables: Tables, recorded: Mapping[str, FieldStorage]) -> dict[str, str]:
    """Fields that are to lie otherwise under the name that they have: why not, and what to do."""
    out: dict[str, str] = {}
    for name, now in tables.own.items():
        was = recorded.get(name)
        if was is None or was == now:
            continue
        same = (was.form, was.column, was.table, was.adds) == (
            now.form,
            now.column,
            now.table,
            now.adds,
        )
        if not (same and (was.column_type, now.column_type) in SAFE_VALUES):
            out[name] = (
                f"{tables.kind}.{name} holds {_nature(was)} and is to hold {_nature(now)}, which "
                f"may lose values: {instead(name, now)}"
            )
    return out


def _nature(stored: FieldStorage) -> str:
    lies = {"value": "", "number": "a sum of", "object": "a map of", "entries": "entries of"}
    return f"{lies.get(stored.form, 'a list of')} {stored.described}".strip()


def instead(name: str, now: FieldStorage) -> str:
    """What to do where a field cannot become what it is to be under the name that it has."""
    base, _, version = name.partition("@")
    if now.form in ("number", "entries") or now.column_type in ("bytes", "vector", "array"):
        return "give the new meaning a field of another name"
    number = int(version or 1)
    return (
        f"declare it with version={number + 1} and an upcast from {number}, so that both are kept "
        f"side by side, or give it a name other than {base!r}"
    )


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
