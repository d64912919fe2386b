"""Plans carried out, or shown as SQL."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, text
from sqlalchemy.engine import Dialect

from statehold.drivers.sql.migrating.comparing import differences
from statehold.drivers.sql.migrating.steps import Plan, Step
from statehold.drivers.sql.schema.tables import Tables
from statehold.errors import ConfigError

WAIT_SECONDS = 5
"""How long a change waits for those who use a table, and others behind it."""


def apply(connection: Connection, plans: Iterable[Plan]) -> None:
    """Do what the plans say, in the connection's transaction."""
    operations = Operations(MigrationContext.configure(connection))
    for plan in plans:
        for step in plan.steps:
            for op in step.ops:
                operations.invoke(op)


def limits(connection: Connection) -> None:
    """Let changes take their time once they have begun, but wait only so long until they do.

    A change that waits for a long transaction makes everybody else wait behind it.
    """
    name = connection.dialect.name
    if name == "postgresql":
        limit = "SELECT set_config('lock_timeout', :wait, true), set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)"
        connection.execute(text(limit), {"wait": f"{WAIT_SECONDS}s"})
    elif name != "sqlite":
        connection.execute(text(f"SET SESSION lock_wait_timeout = {WAIT_SECONDS}"))


def sql(dialect: Dialect, steps: Sequence[Step]) -> str:
    """The statements of the steps, as a script."""
    buffer = io.StringIO()
    context = MigrationContext.configure(
        dialect=dialect,
        opts={"as_sql": True, "literal_binds": True, "output_buffer": buffer},
    )
    operations = Operations(context)
    for step in steps:
        for op in step.ops:
            operations.invoke(op)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines() if line.strip())


def verify(connection: Connection, tables: Tables) -> None:
    """Raise `ConfigError`, so that the transaction is undone, unless the tables now fit."""
    left = differences(connection, tables.all)
    if left:
        words = "; ".join(one.words for one in left)
        raise ConfigError(f"{tables.kind}: the migration did not succeed: {words}", found=words)
