"""The tables of a kind, made from its `Layout`: the one source of DDL, of queries and migrations.

The main table has a row for each state, with its meta and a column for each field that fits into
one; the other fields have child tables, whose rows carry the `state` number of their row.

`ops` has the op ids of each state's newest commits. `ended` has a row for each life that has ended in
the last minute, and for each erasure: by its op id, or by "" where a life ended without one. So what
is sent again is told from what was never seen, and an erasure that is sent again is recognised.

A state that is about several subjects has the first in `subject`, the others as a JSON array in
`also_about`, and a row for each of these in the table of that name, by which it is found.

There are no foreign keys, which would be checked for each item that is appended: whoever deletes a
row deletes its children in the same transaction.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import BigInteger, Column, Identity, Index, Integer, MetaData, Table, text

from statehold.commits import Key
from statehold.driver import FieldLayout, Layout
from statehold.drivers.sql.schema.names import identifier
from statehold.drivers.sql.schema.types import (
    COLUMN_TYPES,
    NATIVE,
    OP_BYTES,
    ColumnType,
    Moment,
    Name,
    escaped,
    number_type,
)
from statehold.drivers.sql.schema.vectors import Floats32
from statehold.errors import ConfigError

FORMAT: Final = 2
"""The version of the rules in this module, kept with each description."""

ROWS: Final = 64
"""A map of more entries has a row for each: an object is written whole with every change."""

Form: TypeAlias = Literal["value", "number", "object", "entries", "items"]

META: Final = (
    "state",
    "tenant",
    "id",
    "incarnation",
    "number",
    "created_at",
    "updated_at",
    "expires_at",
    "epoch",
    "subject",
    "ops",
    "nulls",
    "also_about",
)
"""The columns of a main table that belong to no field."""

CLAIM: Final = "epoch_claim"
"""The column of a main table that says who claimed its epoch; NULL for nobody. See `fences`."""

_SYSTEM: Final = frozenset({"xmin", "xmax", "cmin", "cmax", "ctid", "tableoid", "oid"})
"""Columns that every table of PostgreSQL's has. What other databases have called so keeps its name."""
_RESERVED_COLUMNS: Final = frozenset({*META, CLAIM, *_SYSTEM})
_RESERVED_TABLES: Final = frozenset({"ops", "ended", "key", "subject", "commit", "also_about"})
"""What else is called `<kind>__…`: PostgreSQL has one space of names for tables and indexes."""
_RESERVED_KINDS: Final = frozenset({"statehold_kinds"})
_SINGLE: Final = frozenset({"register", "counter", "vector"})
"""The kinds of field whose only entry is `""`."""
_OF_VALUES: Final[Mapping[object, ColumnType]] = {kind: name for name, kind in NATIVE.items()}


class FieldStorage(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={"form": "lies", "column_type": "holds"},  # as descriptions have always said it
):
    """How a field lies in the tables. What has a `table` is there, the others in the main table.

    * `value`: the one entry `""` of a register or vector, in `column`; NULL is absent, unless the
      main row's `nulls` (a JSON array of such fields' names) says that it is a JSON null; and a 0 of
      which that speaks is -0.0, where the database does not tell them apart.
    * `number`: the one entry `""` of a counter, in `column`; NULL is absent.
    * `object`: all entries, as one JSON object in `column`; NULL and `{}` are absent.
    * `entries`: a row (`state`, `entry`, …) each in `table`. With `adds` there are `whole` (an int)
      and `real` (a float), one of them NULL; with a `column_type` there is `value`, NULL for a number. Those of
      JSON are what an `object` of many entries would be; `column` of the main row counts them, so that
      a bound is kept without counting rows.
    * `items`: a row (`state`, `seq`, `value`) each in `table`. `column` of the main row counts the
      items ever appended in this life: the newest has that `seq`. Their rows are without gaps.
    """

    name: str
    form: Form
    column_type: ColumnType
    column: str = ""
    table: str = ""
    adds: bool = False
    dim: int = 0
    """Of how many numbers a `vector` is."""

    @property
    def counted(self) -> bool:
        """Whether the column counts the entries, which have a table of their own."""
        return self.form == "entries" and self.column_type == "json"

    @property
    def described(self) -> str:
        """What it holds, in words."""
        return f"{self.column_type}({self.dim})" if self.dim else self.column_type


class Description(msgspec.Struct, frozen=True):
    """What the tables of a kind were made for; kept as JSON in `statehold_kinds`."""

    fields: tuple[FieldStorage, ...]
    format: int = FORMAT


class Tables:
    """The tables of one kind.

    `fields` are those of the layout and then, from `extra`, those that only the database has: older
    versions and removed ones. A vector that `extra` has lies as it does there, as bytes or as a
    `vector`; another one is a `vector` if it asks for that and the database has `vectors`. So does a map
    of JSON, as one `object` or as `entries`; another one is `entries` if it may have more than `ROWS`.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        prefix: str = "",
        schema: str | None = None,
        extra: Iterable[FieldStorage] = (),
        metadata: MetaData | None = None,
        vectors: bool = True,
    ) -> None:
        self.layout = layout
        self.kind = layout.kind
        self.prefix = prefix
        self.schema = schema
        self.vectors = vectors
        self.metadata = metadata or MetaData(schema=schema)
        there = {stored.name: stored for stored in extra}
        own = {field.name: _stored(prefix, layout.kind, field) for field in layout.fields}
        for field in layout.fields:
            if field.field == "vector" and own[field.name].form == "value":
                found = there.get(field.name)
                own[field.name] = _vector(own[field.name], field, found, vectors=vectors)
            elif own[field.name].form == "object" or own[field.name].counted:
                own[field.name] = _map(prefix, layout.kind, own[field.name], there)
            old = msgspec.structs.replace(own[field.name], column=field.name)
            if field.name in _SYSTEM and there.get(field.name) == old:
                own[field.name] = old
        self.own: dict[str, FieldStorage] = own
        self.fields: dict[str, FieldStorage] = own | {
            name: stored for name, stored in there.items() if name not in own
        }
        self.main = self._main()
        self.ops = self._child(
            identifier(prefix + layout.kind, "ops"),
            Column("op", Name(OP_BYTES), primary_key=True),
            Column("number", BigInteger, nullable=False),
            Column("seq", BigInteger, nullable=False),
            Column("intent", BigInteger, nullable=False),
            Column("at", Moment(), nullable=False),
        )
        self.ended = self._ended()
        self.about = self._about()
        self.children: dict[str, Table] = {
            name: self._of_field(stored) for name, stored in self.fields.items() if stored.table
        }
        """By field."""

    @property
    def all(self) -> tuple[Table, ...]:
        """The children, `ops`, `ended`, `about`, then the main table, in which order they are made."""
        return (*self.children.values(), self.ops, self.ended, self.about, self.main)

    @property
    def owned(self) -> tuple[Table, ...]:
        """Those whose rows belong to a state, by its number: what goes with it.

        So do those of `about`, which few states have.
        """
        return (*self.children.values(), self.ops, self.main)

    def describe(self) -> Description:
        """What `statehold_kinds` says of these tables."""
        return Description(tuple(self.fields.values()))

    def column(self, stored: FieldStorage) -> Column[Any]:
        """The main table's column of a field that has one."""
        return self.main.c[stored.column]

    def renamed(self, stored: FieldStorage, name: str) -> FieldStorage:
        """The same field under another name, and with it in another column and table."""
        return _placed(self.prefix, self.kind, msgspec.structs.replace(stored, name=name))

    def _main(self) -> Table:
        name = identifier(self.prefix + self.kind, reserved=_RESERVED_KINDS)
        columns: list[Column[Any]] = [
            Column("state", number_type(), Identity(), primary_key=True),
            Column("tenant", Name(), nullable=False),
            Column("id", Name(), nullable=False),
            Column("incarnation", BigInteger, nullable=False),
            Column("number", BigInteger, nullable=False),
            Column("created_at", Moment(), nullable=False),
            Column("updated_at", Moment(), nullable=False),
            Column("expires_at", Moment()),
            Column("epoch", BigInteger, nullable=False),
            Column("subject", Name()),
            Column("ops", BigInteger, nullable=False),
            Column("nulls", COLUMN_TYPES["json"]()),
            Column(CLAIM, COLUMN_TYPES["json"]()),
            Column("also_about", COLUMN_TYPES["json"]()),
        ]
        for stored in self.fields.values():
            if stored.form == "items" or stored.counted:
                columns.append(Column(stored.column, BigInteger))
            elif stored.form == "value" and stored.column_type in ("bytes", "vector"):
                columns.append(Column(stored.column, Floats32(stored.dim)))
            elif stored.column:
                kind = "object" if stored.form == "object" else stored.column_type
                columns.append(Column(stored.column, COLUMN_TYPES[kind]()))
        # There is no index on expires_at, which each commit moves: PostgreSQL would have to touch
        # every index of the table then, and cannot write the new row next to the old one.
        table = Table(
            name,
            self.metadata,
            *columns,
            **_OPTIONS,
            sqlite_autoincrement=True,
        )
        Index(identifier(name, "key"), table.c.tenant, table.c.id, unique=True)
        has_one = text("subject IS NOT NULL")
        Index(
            identifier(name, "subject"),
            table.c.tenant,
            table.c.subject,
            table.c.id,  # in which order they are listed
            postgresql_where=has_one,
            sqlite_where=has_one,
        )
        return table

    def _ended(self) -> Table:
        name = identifier(self.prefix + self.kind, "ended")
        table = Table(
            name,
            self.metadata,
            Column("tenant", Name(), primary_key=True),
            Column("id", Name(), primary_key=True),
            Column("op", Name(OP_BYTES), primary_key=True),
            Column("intent", BigInteger, nullable=False),
            Column("incarnation", BigInteger, nullable=False),
            Column("number", BigInteger, nullable=False),
            Column("at", Moment(), nullable=False),
            **_OPTIONS,
            sqlite_with_rowid=False,
        )
        Index(identifier(name, "at"), table.c.at)
        return table

    def _about(self) -> Table:
        name = identifier(self.prefix + self.kind, "also_about")
        table = self._child(
            name,
            Column("subject", Name(), primary_key=True),
            Column("tenant", Name(), nullable=False),
        )
        Index(identifier(name, "subject"), table.c.tenant, table.c.subject)
        return table

    def _of_field(self, stored: FieldStorage) -> Table:
        if stored.form == "items":
            return self._child(
                stored.table,
                Column("seq", BigInteger, primary_key=True, autoincrement=False),
                Column("value", COLUMN_TYPES[stored.column_type](), nullable=False),
            )
        columns: list[Column[Any]] = [Column("entry", Name(), primary_key=True)]
        if stored.adds:
            columns += [
                Column("whole", BigInteger),
                Column("real", COLUMN_TYPES["float"]()),
            ]
        if stored.column_type != "nothing":
            columns.append(
                Column("value", COLUMN_TYPES[stored.column_type](), nullable=stored.adds)
            )
        return self._child(stored.table, *columns)

    def _child(self, name: str, *columns: Column[Any]) -> Table:
        state = Column("state", BigInteger, primary_key=True, autoincrement=False)
        return Table(name, self.metadata, state, *columns, **_OPTIONS, sqlite_with_rowid=False)


_OPTIONS: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}


def kinds_table(*, prefix: str = "", schema: str | None = None) -> Table:
    """`statehold_kinds`: for each kind the `Description` of its tables, as JSON."""
    return Table(
        prefix + "statehold_kinds",
        MetaData(schema=schema),
        Column("kind", Name(), primary_key=True),
        Column("description", COLUMN_TYPES["json"](), nullable=False),
        Column("format", Integer, nullable=False),
        **_OPTIONS,
    )


def lock_order(keys: Iterable[Key]) -> dict[Key, tuple[str, str]]:
    """The keys of a kind as every writer locks their rows, each with PostgreSQL's tenant and id of it.

    That is the order of PostgreSQL's index, by bytes, and so by code points. Two writers who went by
    different orders would wait for each other.
    """
    names = {key: (escaped(key[0]), escaped(key[2])) for key in keys}
    return {key: names[key] for key in sorted(names, key=names.__getitem__)}


def _stored(prefix: str, kind: str, field: FieldLayout) -> FieldStorage:
    """How a field of the layout lies."""
    name, changes = field.name, field.changes - {"drop"}
    if "append" in changes:
        if not changes <= {"append", "splice"}:
            raise ConfigError(f"{kind}.{name}: a list takes no changes of entries", field=name)
        column_type: ColumnType = "bytes" if field.values is bytes else "json"
        return _placed(prefix, kind, FieldStorage(name, "items", column_type))
    one = field.bound == 1 and field.field in _SINGLE
    raw = field.values is bytes
    if changes == frozenset({"put"}) and one:
        column_type = "bytes" if raw else _native(field.values)
        return _placed(prefix, kind, FieldStorage(name, "value", column_type))
    if changes == frozenset({"put"}) and not raw:
        form: Form = "entries" if field.bound > ROWS else "object"
        return _placed(prefix, kind, FieldStorage(name, form, "json"))
    if changes == frozenset({"add"}) and one:
        column_type = "int" if field.values is int else "float"
        return _placed(prefix, kind, FieldStorage(name, "number", column_type))
    column_type = "bytes" if "put" in changes else "array" if "accumulate" in changes else "nothing"
    return _placed(prefix, kind, FieldStorage(name, "entries", column_type, adds="add" in changes))


def _placed(prefix: str, kind: str, stored: FieldStorage) -> FieldStorage:
    """With the column and the table that its name gives it."""
    name, column, table = stored.name, "", ""
    if stored.form in ("items", "entries"):
        table = identifier(prefix + kind, name, reserved=_RESERVED_TABLES)
    if stored.form == "items":
        column = identifier(name, "end")
    elif stored.counted:
        column = identifier(name, "count")
    elif stored.form != "entries":
        column = identifier(name, reserved=_RESERVED_COLUMNS)
    return msgspec.structs.replace(stored, column=column, table=table)


def _vector(
    stored: FieldStorage, field: FieldLayout, found: FieldStorage | None, *, vectors: bool
) -> FieldStorage:
    """How a vector lies that may be bytes or a `vector`: as it is found, if it is one of these."""
    searched = msgspec.structs.replace(stored, column_type="vector", dim=field.max_bytes // 4)
    if found in (stored, searched):
        return found
    return searched if field.dim and vectors else stored


def _map(
    prefix: str, kind: str, stored: FieldStorage, there: Mapping[str, FieldStorage]
) -> FieldStorage:
    """How a map of JSON lies that may be one object or entries: as it is found, if it is one of these."""
    other = msgspec.structs.replace(stored, form="object" if stored.counted else "entries")
    other = _placed(prefix, kind, other)
    return other if there.get(stored.name) == other else stored


def _native(values: object) -> ColumnType:
    """What a column holds that has values of a Python type: itself, or JSON."""
    origin = typing.get_origin(values)
    if origin is typing.Annotated:
        return _native(typing.get_args(values)[0])
    if origin in (typing.Union, types.UnionType):
        rest = [one for one in typing.get_args(values) if one is not types.NoneType]
        return _native(rest[0]) if len(rest) == 1 else "json"
    try:
        return _OF_VALUES.get(values, "json")
    except TypeError:  # not hashable, so none of those
        return "json"
