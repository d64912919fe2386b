"""The erasure of a state that comes alone, as one statement of plain SQL.

It is a statement as those of `single` are: what is to undo all of it is looked at when the row is locked, and is a
division by zero. The rows that belong to the state are deleted as the database was when the statement began, so
the row must be then what it is when it is locked. An op id that erased this key before has a row in `ended`,
which is an error of the database's. That goes to the transaction, as does an op id that the life remembers,
and what is not there, has seen an epoch, or has expired.
"""

# ruff: noqa: S608  what is put into SQL here is quoted, and names tables and columns
from __future__ import annotations

from typing import Any

from statehold.commits import Commit, is_short
from statehold.drivers.sql.postgres.phrases import alive, qualified
from statehold.drivers.sql.schema.tables import Tables
from statehold.drivers.sql.schema.types import escaped
from statehold.folding import INSTALLED

_NOW = "clock_timestamp()"


def arguments(commit: Commit, until: float) -> list[Any] | None:
    """The statement's arguments for a commit that erases; None if it is not a plain one."""
    rare = (commit.expect, commit.since, commit.revision, commit.at, commit.claim, commit.returning)
    if not commit.op or commit.epoch or commit.where or any(said is not None for said in rare):
        return None
    tenant, _, id = commit.key
    installed = INSTALLED if not is_short(commit.op) else 2**62
    return [escaped(tenant), escaped(id), escaped(commit.op), commit.intent, until, installed]


def statement(tables: Tables) -> str:
    """It returns the incarnation and the number of the state that is gone, or no row, having done nothing."""
    main, ops, ended, about = (
        qualified(tables.schema, table.name)
        for table in (tables.main, tables.ops, tables.ended, tables.about)
    )
    gone = (
        f"s AS (DELETE FROM {main} AS t WHERE t.tenant = $1::text AND t.id = $2::text"
        # A life that was installed may know an op id by its digest.
        f" AND t.epoch = 0 AND t.number > 0 AND t.ops < $6::bigint AND {alive(_NOW)}"
        f" AND NOT EXISTS (SELECT FROM {ops} AS o WHERE o.state = t.state AND o.op = $3::text)"
        " RETURNING t.state, t.tenant, t.id, t.incarnation, t.number, t.also_about)"
    )
    children = [qualified(tables.schema, table.name) for table in tables.children.values()]
    parts = [
        f"DELETE FROM {table} AS c USING s WHERE c.state = s.state" for table in (*children, ops)
    ]
    parts += [
        f"DELETE FROM {about} AS c USING s WHERE s.also_about IS NOT NULL AND c.state = s.state",
        _noted(ended),
    ]
    also = ", ".join(f"a{number} AS ({part})" for number, part in enumerate(parts))
    undone = (
        f"{_NOW} > to_timestamp($5::float8)"
        " OR (s.state, s.number) IS DISTINCT FROM (b.state, b.number)"
    )
    return (
        f"WITH {gone}, {also} SELECT s.incarnation, s.number,"
        f" CASE WHEN {undone} THEN 1 / (s.number - s.number) END"
        f" FROM s LEFT JOIN {main} AS b ON b.tenant = $1::text AND b.id = $2::text"
    )


def _noted(ended: str) -> str:
    """The statement that notes the erasure."""
    return (
        f"INSERT INTO {ended} (tenant, id, op, intent, incarnation, number, at)"
        f" SELECT s.tenant, s.id, $3::text, $4::bigint, s.incarnation, s.number, {_NOW} FROM s"
    )
