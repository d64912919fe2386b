"""The functions on PostgreSQL that fold commits: made for the tables of a class, kept for others.

Their names tell the layouts apart, so those of an older release stay for as long as it may run.
"""

from __future__ import annotations

from alembic.operations.ops import ExecuteSQLOp
from sqlalchemy import Connection, text

from statehold.drivers.sql.migrating.steps import Plan, Step
from statehold.drivers.sql.migrating.verbatim import verbatim
from statehold.drivers.sql.postgres import function
from statehold.drivers.sql.postgres.phrases import qualified
from statehold.drivers.sql.schema.tables import Tables

_THERE = text(
    """
    SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.proname ~ :pattern
      AND CASE WHEN CAST(:schema AS text) IS NULL THEN pg_function_is_visible(p.oid)
               ELSE n.nspname = :schema END
    ORDER BY p.proname
    """
)


def steps(made: Plan, connection: Connection, wanted: Tables, *, drop: bool) -> None:
    """Add the steps that make the functions of these tables, and with `drop` drop the others."""
    if connection.dialect.name != "postgresql":
        return
    arguments = {"pattern": function.any_version(wanted), "schema": wanted.schema}
    there = connection.execute(_THERE, arguments).scalars().all()
    names = function.names(wanted) or ()
    if set(names) - set(there):
        ops = tuple(ExecuteSQLOp(verbatim(one)) for one in function.statements(wanted))
        made.steps.append(Step(f"functions {', '.join(names)} are made", ops))
    for name in sorted(set(there) - set(names)):
        if drop:
            gone = ExecuteSQLOp(verbatim(f"DROP FUNCTION {qualified(wanted.schema, name)}"))
            made.steps.append(Step(f"function {name}, of another layout, is DROPPED", (gone,)))
        else:
            made.unused.append(f"function {name}")
