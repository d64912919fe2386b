"""A plan as a revision script, for teams that run Alembic themselves."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

from alembic.autogenerate import render_python_code
from alembic.operations.ops import (
    AlterColumnOp,
    CreateTableOp,
    ExecuteSQLOp,
    MigrateOperation,
    RenameTableOp,
    UpgradeOps,
)
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, LargeBinary, Text, TypeDecorator
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from statehold.drivers.sql.migrating.applying import sql
from statehold.drivers.sql.migrating.steps import Plan, Step
from statehold.drivers.sql.migrating.verbatim import spelled, verbatim
from statehold.drivers.sql.schema.types import Json
from statehold.drivers.sql.schema.vectors import Floats32
from statehold.errors import ConfigError

# The plain ones, whose types are not a client's own.
_DIALECTS: Final[dict[str, Any]] = {
    "postgresql": postgresql.dialect,
    "mysql": mysql.dialect,
    "sqlite": sqlite.dialect,
}

_BARE: Final = re.compile(r"(?<![\w.])([A-Z][A-Za-z]+)\(")
"""A type within the arguments of a type."""

_SCRIPT: Final = '''"""{title}

Revision ID: {revision}
Revises: {revises}
Create Date: {date}

Made by statehold, for {dialect}:

{words}
"""

import sqlalchemy as sa
from alembic import op
{imports}
revision = {revision!r}
down_revision = {down!r}
branch_labels = None
depends_on = None


def upgrade():
    {body}


def downgrade():
    """An older release works with the newer tables; nothing is taken away."""
'''


def write(folder: Path, plans: Iterable[Plan], dialect: Dialect) -> Path:
    """Write the steps as the next revision of the scripts in `folder`, and return its path.

    Raises:
        ConfigError: the folder is not found, or its revisions have several heads.
    """
    if not folder.is_dir():
        raise ConfigError(f"--write {folder}: folder not found", field="write")
    heads = ScriptDirectory(str(folder), version_locations=[str(folder)]).get_heads()
    if len(heads) > 1:
        raise ConfigError(
            f"--write {folder}: it has several heads ({', '.join(heads)}); merge them first",
            field="write",
        )
    revision = uuid4().hex[-12:]
    kinds = [made.kind for made in plans if made.steps]
    steps = [step for made in plans for step in made.steps]
    title = f"statehold: {', '.join(kinds)}"
    imports: set[str] = set()
    body = _body(steps, dialect, imports)
    text = _SCRIPT.format(
        title=title,
        revision=revision,
        revises=heads[0] if heads else "",
        date=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        dialect=dialect.name,
        words="\n".join(f"- {step.words}" for step in steps),
        imports="".join(f"{line}\n" for line in sorted(imports)),
        down=heads[0] if heads else None,
        body=body,
    )
    path = folder / f"{revision}_statehold_{'_'.join(kinds)[:40]}.py"
    path.write_text(text, "utf-8")
    return path


def _body(steps: Iterable[Step], dialect: Dialect, imports: set[str]) -> str:
    plain = _DIALECTS[dialect.name]()

    def rendered(what: str, thing: Any, _context: Any) -> str | Literal[False]:
        if what != "type":
            return False
        return _spelt(_plain(thing, plain), imports)

    ops = [one for step in steps for op in step.ops for one in _renderable(op, dialect)]
    return render_python_code(UpgradeOps(ops), render_item=rendered)


def _renderable(op: MigrateOperation, dialect: Dialect) -> Iterable[MigrateOperation]:
    """What Alembic can write as Python: renaming, vectors and our own statements it cannot."""
    renames = isinstance(op, AlterColumnOp) and op.modify_name is not None
    if renames or isinstance(op, RenameTableOp) or _has_vectors(op):
        script = sql(dialect, [Step("", (op,))])
        return [ExecuteSQLOp(verbatim(script.rstrip(";")))]
    if isinstance(op, ExecuteSQLOp):
        return [ExecuteSQLOp(spelled(op.sqltext, dialect))]
    return [op]


def _has_vectors(op: MigrateOperation) -> bool:
    """Whether it makes a column of a type that SQLAlchemy does not have."""
    columns: Any = op.columns if isinstance(op, CreateTableOp) else [getattr(op, "column", None)]
    types = [getattr(one, "type", None) for one in columns]
    return any(isinstance(one, Floats32) and one.dim for one in types)


def _spelt(type_: Any, imports: set[str]) -> str:
    """The type as an expression, and what has to be imported for it."""
    # A dialect's own form of a type is private; what it derives from is not.
    public = next(one for one in type(type_).__mro__ if not one.__name__.startswith("_"))
    if public.__name__ == "ARRAY":
        inside = f"({_spelt(type_.item_type, imports)})"
    else:
        inside = _BARE.sub(r"sa.\1(", repr(type_).removeprefix(type(type_).__name__))
    if not public.__module__.startswith("sqlalchemy.dialects."):
        return f"sa.{public.__name__}{inside}"
    name = public.__module__.split(".")[2]
    imports.add(f"from sqlalchemy.dialects import {name}")
    return f"{name}.{public.__name__}{inside}"


def _plain(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """The type as SQLAlchemy itself has it, so that the script stands by itself."""
    type_ = type_._variant_mapping.get(dialect.name, type_)  # noqa: SLF001  there is no other way
    if isinstance(type_, Floats32) and dialect.name == "postgresql":
        return LargeBinary()  # those that are vectors are written as SQL
    if isinstance(type_, TypeDecorator):
        return type_.load_dialect_impl(dialect)
    if isinstance(type_, Json):
        return Text() if dialect.name == "sqlite" else JSON()
    return type_
