"""Whether the tables of the database are those of a class, and how they differ.

What the database has beyond that is no difference: columns of other versions of the class, indexes
and tables of the users' own. Only a column that must be filled in and that no one here knows of is
one, since no row could be written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec
from sqlalchemy import Column, Connection, Index, Table
from sqlalchemy.engine import Dialect

from statehold.drivers.sql.migrating.catalogue import FoundIndex, FoundTable, found, type_words
from statehold.errors import ConfigError

What: TypeAlias = Literal[
    "missing table", "missing column", "type", "required", "key", "missing index", "foreign"
]


class Difference(msgspec.Struct, frozen=True):
    """One thing in which a table is not as it should be, and that in words."""

    what: What
    table: str
    column: str
    """Or the index; empty where it is about the table."""
    words: str
    have: str = ""
    """The type that a column has."""


def differences(connection: Connection, wanted: Iterable[Table]) -> list[Difference]:
    """How the tables that there are differ from these, which are in one schema."""
    tables = list(wanted)
    schema = tables[0].schema if tables else None
    have = found(connection, [table.name for table in tables], schema)
    return compared(have, tables, connection.dialect)


def compared(
    have: Mapping[str, FoundTable], wanted: Iterable[Table], dialect: Dialect
) -> list[Difference]:
    """How what there is (see `catalogue.found`) differs from these tables."""
    out: list[Difference] = []
    for table in wanted:
        there = have.get(table.name)
        if there is None:
            out.append(
                Difference("missing table", table.name, "", f"table {table.name} is missing")
            )
        else:
            out += _table(there, table, dialect)
    return out


def _table(have: FoundTable, table: Table, dialect: Dialect) -> Iterable[Difference]:
    name = table.name
    lacking = [column.name for column in table.columns if _ours(column, have)]
    if lacking:
        yield Difference(
            "foreign", name, "", f"table {name} is of something else: it has no {lacking[0]}"
        )
        return
    for column in table.columns:
        there = have.columns.get(column.name)
        at = f"{name}.{column.name}"
        if there is None:
            yield Difference("missing column", name, column.name, f"column {at} is missing")
            continue
        want = type_words(column, dialect)
        if there.type != want:
            yield Difference(
                "type", name, column.name, f"column {at} is {there.type}, not {want}", there.type
            )
        if there.required and column.nullable:
            yield Difference("required", name, column.name, f"column {at} must not be NOT NULL")
    for extra, there in have.columns.items():
        if there.required and extra not in table.columns:
            words = f"column {name}.{extra} is NOT NULL, has no default and is not of this class"
            yield Difference("required", name, extra, words)
    yield from _keys(have, table)


def _keys(have: FoundTable, table: Table) -> Iterable[Difference]:
    name = table.name
    key = tuple(column.name for column in table.primary_key.columns)
    if not any(index.unique and set(index.columns) == set(key) for index in have.indexes):
        yield Difference("key", name, "", f"table {name} has no unique key ({', '.join(key)})")
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        columns = tuple(column.name for column in index.columns)
        if not any(_serves(there, columns, unique=bool(index.unique)) for there in have.indexes):
            yield Difference(
                "missing index", name, str(index.name), f"index {index.name} on {name} is missing"
            )


def _ours(column: Column[object], have: FoundTable) -> bool:
    """Whether a column is missing without which the table cannot have been made for a class."""
    return column.name not in have.columns and (column.primary_key or not column.nullable)


def _serves(there: FoundIndex, columns: tuple[str, ...], *, unique: bool) -> bool:
    if unique:
        return there.unique and set(there.columns) == set(columns)
    return there.columns[: len(columns)] == columns


def index_of(table: Table, name: str) -> Index:
    """The table's index of this name."""
    return next(index for index in table.indexes if index.name == name)


def mismatch(kind: str, found: Iterable[Difference], database: str) -> ConfigError:
    """The error for tables that are not as they should be; it names the command that mends them."""
    words = "; ".join(difference.words for difference in found)
    return ConfigError(
        f"{database}: the tables do not fit the class of {kind!r}: {words}. What can be done "
        f"about it says: statehold migrate --plan {kind}; to do it: statehold migrate --apply {kind}",
        field="kind",
        expected=kind,
        found=words,
    )
