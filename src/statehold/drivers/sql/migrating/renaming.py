"""Fields that were renamed: their columns and tables follow, and their data with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from alembic.operations.ops import AlterColumnOp, ExecuteSQLOp, MigrateOperation, RenameTableOp
from sqlalchemy import String, Table, Text, Update, cast, func, update
from sqlalchemy.engine import Dialect

from statehold.drivers.sql.migrating.catalogue import FoundTable
from statehold.drivers.sql.migrating.steps import Step
from statehold.drivers.sql.schema.tables import FieldStorage, Tables
from statehold.errors import ConfigError
from statehold.fields.base import stored_name


class Renamed(msgspec.Struct, frozen=True):
    """What becomes of the fields of a kind."""

    fields: dict[str, FieldStorage]
    """What is stored, by its new name."""
    steps: list[Step]
    before: dict[str, str]
    """By the new name of a column or table the one that it still has."""


def parsed(given: Iterable[str], kinds: Iterable[str]) -> dict[str, dict[str, str]]:
    """By kind the renamed fields, old name to new, of `kind.old=new`. Raises `ConfigError`."""
    known = set(kinds)
    out: dict[str, dict[str, str]] = {}
    for text in given:
        left, equals, new = text.partition("=")
        kind, dot, old = left.partition(".")
        if not (equals and dot and old and new) or old == new or "@" in old + new:
            raise ConfigError(f"--rename {text}: say kind.old=new", field="rename", found=text)
        if kind not in known:
            raise ConfigError(
                f"--rename {text}: no kind {kind!r} is being migrated", field="rename", found=kind
            )
        out.setdefault(kind, {})[old] = new
    return out


def renamed(
    recorded: Mapping[str, FieldStorage],
    have: dict[str, FoundTable],
    wanted: Tables,
    names: Mapping[str, str],
    dialect: Dialect,
) -> Renamed:
    """What is recorded, under the new names, and the steps to get there; `have` follows, too.

    A field that has been renamed already, or was never stored, needs nothing.

    Raises:
        ConfigError: the new name is not in the class, the old one still is, or both are stored.
    """
    out = dict(recorded)
    steps: list[Step] = []
    before: dict[str, str] = {}
    bases = {stored.partition("@")[0] for stored in wanted.own}
    for old, new in names.items():
        at = f"--rename {wanted.kind}.{old}={new}"
        if new not in bases or old in bases:
            wrong, what = (old, "still has a") if old in bases else (new, "has no")
            raise ConfigError(
                f"{at}: the class {what} field stored as {wrong!r}", field="rename", found=wrong
            )
        for stored in list(out.values()):
            base, _, version = stored.name.partition("@")
            if base != old:
                continue
            target = stored_name(new, int(version or 1))
            if target in out:
                raise ConfigError(
                    f"{at}: {target!r} is stored as well; what is in it would be lost",
                    field="rename",
                    found=target,
                )
            moved = wanted.renamed(stored, target)
            ops = tuple(_moves(stored, moved, have, wanted, dialect))
            before |= {moved.column: stored.column, moved.table: stored.table}
            if ops:
                steps.append(Step(f"{wanted.kind}: {stored.name} becomes {target}", ops))
            out = {name: one for name, one in out.items() if name != stored.name}
            out[target] = moved
    return Renamed(out, steps, before)


def _moves(
    old: FieldStorage,
    new: FieldStorage,
    have: dict[str, FoundTable],
    wanted: Tables,
    dialect: Dialect,
) -> Iterable[MigrateOperation]:
    main = wanted.main
    if old.column and main.name in have and old.column in have[main.name].columns:
        columns = have[main.name].columns
        columns[new.column] = columns.pop(old.column)
        column = Tables(
            wanted.layout, prefix=wanted.prefix, schema=wanted.schema, extra=[new]
        ).main.c[new.column]
        yield AlterColumnOp(
            main.name,
            old.column,
            schema=main.schema,
            modify_name=new.column,
            existing_type=column.type,
            existing_nullable=True,
        )
        if old.form == "value":
            yield ExecuteSQLOp(_renamed_nulls(main, old.name, new.name, dialect))
    if old.table and old.table in have:
        have[new.table] = have.pop(old.table)
        yield RenameTableOp(old.table, new.table, schema=main.schema)


def _renamed_nulls(main: Table, old: str, new: str, dialect: Dialect) -> Update:
    """`nulls` holds an array of names: a quoted name in it can only be a whole one."""
    before, after = (msgspec.json.encode(name).decode() for name in (old, new))
    nulls = main.c.nulls
    if dialect.name != "postgresql":
        changed = func.replace(nulls, before, after, type_=String)
        return update(main).where(func.instr(nulls, before) > 0).values(nulls=changed)
    as_text = cast(nulls, Text)
    moved = cast(func.replace(as_text, before, after), nulls.type)
    return update(main).where(func.strpos(as_text, before) > 0).values(nulls=moved)
