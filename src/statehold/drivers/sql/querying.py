"""The tables of a class, for queries of one's own."""

from __future__ import annotations

from sqlalchemy import MetaData

from statehold.drivers.sql.schema.tables import Tables
from statehold.state import State


def tables_of(
    state: type[State],
    *,
    prefix: str = "",
    schema: str | None = None,
    metadata: MetaData | None = None,
) -> Tables:
    """The tables in which the states of a class are kept, as SQLAlchemy's `Table` objects.

    `main` has a row for each state, `children` by stored field name the tables of lists and
    tallies, whose column `state` is that of their row in `main`. `prefix` and `schema` are the
    backend's settings `table_prefix` and `schema`. With `metadata` the tables join those of the
    application. They are for reading: what is written past statehold has no revision.
    """
    layout = state.__schema__.layout()
    return Tables(layout, prefix=prefix, schema=schema, metadata=metadata)
