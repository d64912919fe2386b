"""From what a database has to what the classes want: the plan of a migration.

Columns and tables are added; nothing that holds data goes unless that is said (`drop`), and then
only what `statehold_kinds` says was made for a kind and no class reads any more. What cannot be done
without losing something is refused, with what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
from alembic.operations.ops import (
    AddColumnOp,
    AlterColumnOp,
    CreateIndexOp,
    CreateTableOp,
    DropColumnOp,
    DropIndexOp,
    DropTableOp,
    ExecuteSQLOp,
    MigrateOperation,
)
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    MetaData,
    Table,
    Text,
    cast,
    delete,
    exists,
    literal,
    select,
)

from statehold.drivers.sql.migrating import functions, retyping, searching
from statehold.drivers.sql.migrating.catalogue import FoundTable, found, type_words
from statehold.drivers.sql.migrating.comparing import Difference, compared, index_of
from statehold.drivers.sql.migrating.opening import described, with_what_is_there
from statehold.drivers.sql.migrating.renaming import renamed
from statehold.drivers.sql.migrating.steps import Plan, Step
from statehold.drivers.sql.migrating.verbatim import verbatim
from statehold.drivers.sql.postgres.phrases import room
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.tables import (
    CLAIM,
    FORMAT,
    META,
    FieldStorage,
    Tables,
    kinds_table,
)


def plan(
    connection: Connection,
    dialect: Dialect,
    tables: Tables,
    *,
    drop: bool = False,
    rename: Mapping[str, str] | None = None,
    first: bool = True,
) -> Plan:
    """What there is to do for the tables of a class, which are as `searching.settled` makes them.

    With `drop` what no class uses any more goes. `rename` are fields by their old stored names.
    The `first` of several plans makes `statehold_kinds`, should it be missing.

    Raises:
        ConfigError: a renaming cannot be.
        NotAStore: a newer version of statehold made the tables.
    """
    before = described(connection, tables)
    recorded = {stored.name: stored for stored in before.fields} if before else {}
    kinds = kinds_table(prefix=tables.prefix, schema=tables.schema)
    names = {table.name for table in tables.all} | {one.table for one in recorded.values()}
    have = found(connection, [*filter(None, names), kinds.name], tables.schema)
    made = Plan(tables.kind)
    searching.steps(made, connection, tables)
    if before is None and tables.main.name in have:
        made.refused.append(_foreign(tables))
        return made
    moved = renamed(recorded, have, tables, rename or {}, connection.dialect)
    made.steps += moved.steps
    # What may lie in one of two ways lies as it did under its former name.
    own = [one for one in moved.fields.values() if one.name in tables.own and searching.stays(one)]
    tables = with_what_is_there(tables, own, vectors=tables.vectors)
    changed = retyping.losing(tables, moved.fields)
    made.refused += changed.values()
    extra = [stored for stored in moved.fields.values() if stored.name not in tables.own]
    unused = [stored for stored in extra if not _still_read(stored, tables)]
    kept = [stored for stored in extra if not drop or stored not in unused]
    wanted = _with(tables, kept)
    if kinds.name not in have and first:
        made.steps.append(Step(f"table {kinds.name} is made", (CreateTableOp.from_table(kinds),)))
    main = _differences(made, connection, have, wanted, set(changed), moved.before)
    same = (
        before is not None
        and before.format == FORMAT
        and set(before.fields) == set(wanted.describe().fields)
    )
    record = [] if same else _record(kinds, wanted, dialect)
    if main:
        # The record comes before the main table, which without one is somebody else's; making a
        # table ends the transaction on MariaDB.
        made.steps += [*record, *main]
    functions.steps(made, connection, wanted, drop=drop)
    if drop:
        _drops(made, have, _with(tables, extra), unused)
        _orphans(made, connection, have, wanted, moved.before)
    else:
        made.unused += [_words(stored, tables) for stored in unused]
    if not main:
        made.steps += record
    return made


def _record(kinds: Table, tables: Tables, dialect: Dialect) -> list[Step]:
    upsert = dialect.upsert(kinds, ["kind"], ["description", "format"])
    # As strings, since no driver says how it would write JSON or bytes within a statement.
    said: Any = literal(msgspec.json.encode(tables.describe()).decode(), Text)
    if dialect.name == "postgresql":
        said = cast(said, JSON)
    values = upsert.values(kind=literal(tables.kind, Text), description=said, format=FORMAT)
    return [Step(f"{kinds.name} says what there is of {tables.kind}", (ExecuteSQLOp(values),))]


def _with(tables: Tables, extra: Iterable[FieldStorage]) -> Tables:
    both = [*tables.own.values(), *extra]
    return with_what_is_there(tables, both, vectors=tables.vectors)


def _still_read(stored: FieldStorage, tables: Tables) -> bool:
    """Whether it is another version of a field of the class, which reads the older ones."""
    base = stored.name.partition("@")[0]
    return any(name.partition("@")[0] == base for name in tables.own)


def _words(stored: FieldStorage, tables: Tables) -> str:
    if stored.table:
        return f"table {stored.table}"
    return f"column {tables.main.name}.{stored.column}"


def _foreign(tables: Tables) -> str:
    return (
        f"there is a table {tables.main.name} that statehold did not make; choose another "
        "table_prefix or schema, or give the class another kind"
    )


def _differences(
    made: Plan,
    connection: Connection,
    have: Mapping[str, FoundTable],
    wanted: Tables,
    refused: AbstractSet[str],
    before: Mapping[str, str],
) -> list[Step]:
    """Adds the steps that mend the differences, or why they are refused.

    Returns what makes the main table, if it is missing. `refused` are fields that have been,
    `before` the names that columns still have.
    """
    by_name = {table.name: table for table in wanted.all}
    fields = {stored.column: stored for stored in wanted.fields.values() if stored.column}
    sqlite = connection.dialect.name == "sqlite"
    last: list[Step] = []
    for one in compared(have, wanted.all, connection.dialect):
        table = by_name[one.table]
        if one.what == "missing table":
            ops = tuple(_creation(table))
            if table is wanted.main and connection.dialect.name == "postgresql":
                ops += (ExecuteSQLOp(verbatim(room(wanted))),)
            step = Step(f"table {table.name} is made", ops)
            (last if table is wanted.main else made.steps).append(step)
        elif one.what == "missing column":
            column = table.c[one.column]
            if not column.nullable:
                made.refused.append(f"{one.words}; it cannot be filled in")
                continue
            words = f"column {table.name}.{column.name} is added"
            made.steps.append(Step(words, (_addition(table, column),)))
        elif one.what == "type":
            stored = fields.get(one.column) if table is wanted.main else None
            if stored is None or stored.name not in refused:
                now = before.get(one.column, one.column)
                _retyped(made, connection, table, one, stored, now)
        elif one.what == "missing index":
            made.steps.append(_indexed(table, one.column, have[table.name]))
        elif one.what == "required" and one.column in table.c and not sqlite:
            column = table.c[one.column]
            made.steps.append(
                Step(f"column {table.name}.{one.column} may be NULL", (_optional(table, column),))
            )
        else:
            made.refused.append(f"{one.words}; mend this by hand")
    return last


def _creation(table: Table) -> Iterable[MigrateOperation]:
    yield CreateTableOp.from_table(table)
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        yield CreateIndexOp.from_index(index)


def _indexed(table: Table, name: str, have: FoundTable) -> Step:
    """The step that makes an index, in the place of one of its name that covers less."""
    ops: list[MigrateOperation] = [CreateIndexOp.from_index(index_of(table, name))]
    if any(there.name == name for there in have.indexes):
        ops.insert(0, DropIndexOp(name, table.name, schema=table.schema))
        return Step(f"index {name} on {table.name} is made anew", tuple(ops))
    return Step(f"index {name} on {table.name} is made", tuple(ops))


def _addition(table: Table, column: Column[object]) -> MigrateOperation:
    return AddColumnOp(table.name, Column(column.name, column.type), schema=table.schema)


def _optional(table: Table, column: Column[object]) -> MigrateOperation:
    return AlterColumnOp(
        table.name,
        column.name,
        schema=table.schema,
        modify_nullable=True,
        existing_type=column.type,
    )


def _retyped(
    made: Plan,
    connection: Connection,
    table: Table,
    one: Difference,
    stored: FieldStorage | None,
    name_now: str,
) -> None:
    column = table.c[one.column]
    want = type_words(column, connection.dialect)
    change = retyping.change(one.have, want)
    if change == "refused":
        what = retyping.instead(stored.name, stored) if stored else "mend this by hand"
        made.refused.append(f"{one.words}; values might be lost: {what}")
        return
    if change == "float" and retyping.too_long(connection, table, name_now):
        made.refused.append(
            f"{one.words}; there are numbers beyond 2^53 in it, which a float cannot hold"
        )
        return
    ops: Iterable[MigrateOperation]
    if change == "vector":
        if stored is None or searching.unlike(connection, table, name_now, stored.dim):
            made.refused.append(f"{one.words}; there are bytes in it that are no such vector")
            return
        ops = searching.conversion(table, column, want)
    else:
        ops = retyping.alteration(connection.dialect.name, table, column)
    made.steps.append(Step(f"column {table.name}.{column.name} becomes {want}", tuple(ops)))


def _drops(
    made: Plan, have: Mapping[str, FoundTable], everything: Tables, unused: Sequence[FieldStorage]
) -> None:
    """What goes: columns and child tables that no class uses."""
    main = everything.main
    kept = {one.column for one in everything.own.values()} | {*META, CLAIM}
    for stored in unused:
        ops: list[MigrateOperation] = []
        if stored.table in have:
            ops.append(DropTableOp.from_table(everything.children[stored.name]))
        there = main.name in have and stored.column in have[main.name].columns
        if stored.column and there and stored.column not in kept:
            ops.append(DropColumnOp(main.name, stored.column, schema=main.schema))
        if ops:
            made.steps.append(
                Step(f"{_words(stored, everything)} is DROPPED with all that is in it", tuple(ops))
            )


def _orphans(
    made: Plan,
    connection: Connection,
    have: Mapping[str, FoundTable],
    wanted: Tables,
    before: Mapping[str, str],
) -> None:
    """Rows of child tables that belong to no state: an old release deleted that, knowing no more."""
    main = wanted.main
    if main.name not in have:
        return
    for child in (*wanted.owned, wanted.about):
        if child is main or child.name not in have:
            continue
        now = Table(
            before.get(child.name, child.name),
            MetaData(),
            Column("state", BigInteger),
            schema=child.schema,
        )
        theirs = select(main.c.state)
        some = select(now.c.state).where(~exists(theirs.where(main.c.state == now.c.state)))
        if connection.execute(some.limit(1)).first():
            orphaned = ~exists(theirs.where(main.c.state == child.c.state))
            made.steps.append(
                Step(
                    f"rows of {child.name} that belong to no state are deleted",
                    (ExecuteSQLOp(delete(child).where(orphaned)),),
                )
            )
