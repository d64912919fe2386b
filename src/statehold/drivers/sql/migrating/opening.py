"""Making a kind ready: its tables are made if there are none, and refused if they do not fit.

Everything here is synchronous and on a `Connection`, as `AsyncConnection.run_sync` gives it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import Connection, func, inspect, select, text

from statehold.driver import Layout
from statehold.drivers.sql.errors import MEND
from statehold.drivers.sql.migrating import retyping
from statehold.drivers.sql.migrating.comparing import differences, mismatch
from statehold.drivers.sql.migrating.locking import locked
from statehold.drivers.sql.migrating.verbatim import verbatim
from statehold.drivers.sql.postgres.phrases import room
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.tables import (
    FORMAT,
    Description,
    FieldStorage,
    Tables,
    kinds_table,
)
from statehold.drivers.sql.schema.vectors import asked, tell, to_be_had
from statehold.errors import ConfigError, NotAStore

_descriptions = msgspec.json.Decoder(Description)


SQLITES_OWN: Final = "sqlite_"
"""How names begin that SQLite keeps for itself."""


def placed(connection: Connection, tables: Tables) -> Tables:
    """The tables in the one schema that they are in, or are to be made in. Raises `ConfigError`.

    Where none is configured that is the first of PostgreSQL's search path. The others are not looked
    at: what another service has there is not ours.
    """
    taken = [table.name for table in tables.all if table.name.startswith(SQLITES_OWN)]
    if taken and connection.dialect.name == "sqlite":
        raise ConfigError(
            f"{tables.kind}: SQLite takes no table {taken[-1]!r}, since names that begin with"
            f" {SQLITES_OWN!r} are its own; give the kind another name, or set a `table_prefix`",
            field="table_prefix",
            found=taken[-1],
        )
    if connection.dialect.name != "postgresql" or tables.schema is not None:
        return tables
    schema = connection.execute(select(func.current_schema())).scalar()
    if schema is None:
        raise ConfigError(
            "no schema of the search path is there; make one, or choose one by `schema`",
            field="schema",
        )
    return Tables(
        tables.layout,
        prefix=tables.prefix,
        schema=schema,
        extra=tables.fields.values(),
        vectors=tables.vectors,
    )


def all_described(
    connection: Connection, tables: Tables, first: str
) -> list[tuple[str, Description]]:
    """The kinds from `first` on whose tables are there, in the order of their names.

    Left out is what a newer version has described, and what cannot be read.
    """
    kinds = kinds_table(prefix=tables.prefix, schema=tables.schema)
    there = set(inspect(connection).get_table_names(schema=tables.schema))
    if kinds.name not in there:
        return []
    rows = connection.execute(
        select(kinds.c.kind, kinds.c.description)
        .where(kinds.c.kind >= first, kinds.c.format <= FORMAT)
        .order_by(kinds.c.kind)
    )
    found: list[tuple[str, Description]] = []
    for kind, words in rows:
        try:
            description = _descriptions.decode(words)
        except msgspec.MsgspecError:
            continue
        main = Tables(Layout(kind, (), 1), prefix=tables.prefix, schema=tables.schema).main
        if main.name in there:
            found.append((kind, description))
    return found


def described(connection: Connection, tables: Tables) -> Description | None:
    """What the database says that the tables of a kind were made for; None if there are none.

    Raises `NotAStore` for a description of a newer version.
    """
    kinds = kinds_table(prefix=tables.prefix, schema=tables.schema)
    if not inspect(connection).has_table(kinds.name, schema=kinds.schema):
        return None
    row = connection.execute(
        select(kinds.c.description, kinds.c.format).where(kinds.c.kind == tables.kind)
    ).one_or_none()
    if row is None:
        return None
    if row.format > FORMAT:
        raise NotAStore(
            f"{kinds.name} describes {tables.kind!r} in format {row.format}, newer than {FORMAT}"
            " which this version of statehold reads; it was left as it is",
            expected=FORMAT,
            found=row.format,
        )
    text = row.description
    try:
        if isinstance(text, str | bytes):
            return _descriptions.decode(text)
        return msgspec.convert(text, Description)  # through an engine that decodes JSON itself
    except msgspec.MsgspecError as error:
        raise NotAStore(f"{kinds.name} cannot be read: {error}") from error


def register(connection: Connection, tables: Tables, dialect: Dialect) -> None:
    """Write down in `statehold_kinds` what the tables are made for; the table is made if missing."""
    kinds = kinds_table(prefix=tables.prefix, schema=tables.schema)
    kinds.create(connection, checkfirst=True)
    statement = dialect.upsert(kinds, ["kind"], ["description", "format"])
    description = msgspec.json.encode(tables.describe()).decode()
    connection.execute(
        statement, {"kind": tables.kind, "description": description, "format": FORMAT}
    )


def create_once(connection: Connection, tables: Tables, dialect: Dialect) -> None:
    """`create`, unless another process has been here first. Raises `Busy` or `ConfigError`."""
    with locked(connection):
        if made(connection, tables) is None:
            create(connection, tables, dialect)


def create(connection: Connection, tables: Tables, dialect: Dialect) -> None:
    """Make the tables of a kind that has none.

    The main table comes last and its description before it, so that a main table without one is
    somebody else's, even where making a table ends the transaction (MariaDB). Raises `ConfigError`.
    """
    if inspect(connection).has_table(tables.main.name, schema=tables.schema):
        raise ConfigError(
            f"there is a table {tables.main.name!r} that statehold did not make; choose another"
            " `table_prefix` or `schema`",
            field="table_prefix",
            found=tables.main.name,
        )
    if asked(tables.layout) and not to_be_had(connection, keep=True):
        tables = with_what_is_there(tables, (), vectors=False)
    for table in tables.all[:-1]:
        table.create(connection, checkfirst=True)
    register(connection, tables, dialect)
    tables.main.create(connection)
    if dialect.name == "postgresql":
        connection.execute(text(verbatim(room(tables))))


def with_what_is_there(
    tables: Tables, extra: Iterable[FieldStorage], *, vectors: bool = True
) -> Tables:
    """The tables of the layout that the database has, `extra`, or can have."""
    return Tables(
        tables.layout, prefix=tables.prefix, schema=tables.schema, extra=extra, vectors=vectors
    )


def made(connection: Connection, tables: Tables) -> Description | None:
    """The description of a kind whose tables were all made; None if they were not."""
    found = described(connection, tables)
    if found is None or not inspect(connection).has_table(tables.main.name, schema=tables.schema):
        return None
    return found


def fitted(connection: Connection, tables: Tables, found: Description | None) -> Tables:
    """The tables with what only the database has. Raises `ConfigError` if they do not fit."""
    layout = tables.layout
    if found is None:
        raise ConfigError(
            f"{layout.kind}: its tables are not there; {MEND}", field="create", found=layout.kind
        )
    there = {stored.name: stored for stored in found.fields}
    whole = with_what_is_there(tables, found.fields, vectors=tables.vectors)
    wrong = [
        _difference(stored, there.get(stored.name))
        for stored in whole.own.values()
        if there.get(stored.name) != stored
    ]
    if wrong:
        lost = retyping.losing(whole, there)
        mend = f"statehold migrate will not change it: {'; '.join(lost.values())}" if lost else MEND
        raise ConfigError(
            f"{layout.kind}: the tables do not fit: {'; '.join(wrong)}; {mend}",
            field=layout.kind,
            found=wrong,
        )
    unlike = differences(connection, whole.all)
    if unlike:
        raise mismatch(layout.kind, unlike, connection.engine.url.render_as_string())
    if connection.dialect.name == "postgresql":
        fields = [field.name for field in asked(layout)]
        tell(connection, layout.kind, [f for f in fields if whole.own[f].column_type != "vector"])
    return whole


def settled(
    connection: Connection, tables: Tables, found: Description | None, dialect: Dialect
) -> Tables:
    """As `fitted`, once whoever is making the tables just now has done so.

    That shows half done only where making a table ends the transaction (MariaDB).
    """
    try:
        return fitted(connection, tables, found)
    except ConfigError:
        if dialect.name != "mysql":
            raise
    with locked(connection):
        return fitted(connection, tables, made(connection, tables))


def _difference(wanted: FieldStorage, found: FieldStorage | None) -> str:
    if found is None:
        return f"nothing holds {wanted.name}"
    return (
        f"{wanted.name} is to be {wanted.form} of {wanted.described}, and is {found.form} of"
        f" {found.described}"
    )
