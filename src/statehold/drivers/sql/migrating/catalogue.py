"""What the database has of some tables: their columns, keys and indexes, in two quick queries.

SQLAlchemy's inspector and Alembic's comparison ask for much more, of all tables, and take many
times as long, which every replica would pay at its start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, bindparam, text
from sqlalchemy.engine import Dialect


class FoundColumn(msgspec.Struct, frozen=True):
    """A column of the database. `type` is in the words of `type_words`."""

    type: str
    required: bool
    """Whether a row cannot be written without saying what stands here."""


class FoundIndex(msgspec.Struct, frozen=True):
    """An index of the database; one that covers only some of the rows is never `unique`."""

    columns: tuple[str, ...]
    unique: bool
    name: str = ""


class FoundTable(msgspec.Struct):
    """A table of the database."""

    columns: dict[str, FoundColumn] = {}
    indexes: list[FoundIndex] = []


_POSTGRESQL = (
    """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), l.collname,
           a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    WHERE c.relname = ANY(:names) AND c.relkind IN ('r', 'p')
      AND CASE WHEN CAST(:schema AS text) IS NULL THEN pg_table_is_visible(c.oid)
               ELSE n.nspname = :schema END
    ORDER BY c.relname, a.attnum
    """,
    """
    SELECT c.relname, i.relname, x.indisunique AND x.indpred IS NULL, a.attname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_index x ON x.indrelid = c.oid AND x.indisvalid
    JOIN pg_class i ON i.oid = x.indexrelid
    JOIN LATERAL unnest(x.indkey) WITH ORDINALITY k(attnum, at) ON true
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
    WHERE c.relname = ANY(:names)
      AND CASE WHEN CAST(:schema AS text) IS NULL THEN pg_table_is_visible(c.oid)
               ELSE n.nspname = :schema END
    ORDER BY c.relname, i.relname, k.at
    """,
)
_MYSQL = (
    """
    SELECT table_name, column_name, column_type, collation_name,
           is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%auto_increment%'
    FROM information_schema.columns
    WHERE table_schema = coalesce(:schema, DATABASE()) AND table_name IN :names
    ORDER BY table_name, ordinal_position
    """,
    """
    SELECT table_name, index_name, non_unique = 0, column_name
    FROM information_schema.statistics
    WHERE table_schema = coalesce(:schema, DATABASE()) AND table_name IN :names
    ORDER BY table_name, index_name, seq_in_index
    """,
)
_SQLITE = (
    """
    SELECT m.name, c.name, c.type, NULL,
           c."notnull" AND c.dflt_value IS NULL AND NOT (c.pk AND c.type = 'INTEGER')
    FROM sqlite_master m JOIN pragma_table_info(m.name) c
    WHERE m.type = 'table' AND m.name IN :names AND :schema IS NULL
    ORDER BY m.name, c.cid
    """,
    """
    SELECT m.name, i.name, i."unique" AND NOT i.partial, c.name
    FROM sqlite_master m JOIN pragma_index_list(m.name) i JOIN pragma_index_info(i.name) c
    WHERE m.type = 'table' AND m.name IN :names AND :schema IS NULL
    UNION ALL
    SELECT m.name, '', 1, c.name
    FROM sqlite_master m JOIN pragma_table_info(m.name) c
    WHERE m.type = 'table' AND m.name IN :names AND :schema IS NULL AND c.pk AND c.type = 'INTEGER'
    """,
)
_QUERIES = {
    "postgresql": _POSTGRESQL,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "sqlite": _SQLITE,
}


def found(
    connection: Connection, names: Iterable[str], schema: str | None
) -> dict[str, FoundTable]:
    """The tables of these names that there are."""
    dialect = connection.dialect
    wanted = list(names)
    arguments: dict[str, Any] = {"names": wanted or [""], "schema": schema}
    tables: dict[str, FoundTable] = {}
    columns, indexes = (_statement(query, dialect) for query in _QUERIES[dialect.name])
    rows: Any = connection.execute(columns, arguments)
    for table, column, type_, collation, required in rows:
        at = tables.setdefault(_str(table), FoundTable())
        words = _normal(_str(type_), _str(collation) if collation else None)
        at.columns[_str(column)] = FoundColumn(words, bool(required))
    covered: dict[tuple[str, str, bool], list[str]] = {}
    rows = connection.execute(indexes, arguments)
    for table, index, unique, column in rows:
        # An expression has no name, and is no column of ours.
        covered.setdefault((_str(table), _str(index), bool(unique)), []).append(_str(column or ""))
    for (table, index, unique), names_ in covered.items():
        if table in tables:
            tables[table].indexes.append(FoundIndex(tuple(names_), unique, index))
    return tables


def _statement(query: str, dialect: Dialect) -> Any:
    if dialect.name == "postgresql":
        return text(query)
    return text(query).bindparams(bindparam("names", expanding=True))


def _str(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


_SIZED = re.compile(r"\b(tinyint|smallint|int|bigint|double|float)\(\d+(?:,\d+)?\)")
_COLLATED = re.compile(r' *(?:character set \w+ *)?collate "?(\w+)"?')
_SAME = {"bool": "tinyint", "json": "longtext"}
"""What MariaDB makes of a declared type."""


def type_words(column: Column[Any], dialect: Dialect) -> str:
    """The column's declared type, in the words in which the database's catalogue has it."""
    words = column.type.compile(dialect=dialect).lower()
    collation = _COLLATED.search(words)
    words = _COLLATED.sub("", words)
    if dialect.name in ("mysql", "mariadb"):
        json = words == "json"
        if words == "bool" or (json and getattr(dialect, "is_mariadb", False)):
            words = _SAME[words]
        if words == "longtext":
            return f"{words} collate utf8mb4_bin"
    return _normal(words, collation[1] if collation else None)


def _normal(words: str, collation: str | None) -> str:
    words = _SIZED.sub(r"\1", words.lower())
    if words in ("varchar", "character varying"):  # without a length it is text
        words = "text"
    return words if collation in (None, "default") else f"{words} collate {collation.lower()}"
