"""The PL/pgSQL functions of a kind, made from its tables: commits in one statement, one round trip.

Theory of operation. One call takes the commits of many keys, each key's merged into one:

1. Missing rows are inserted, in the order of the keys, which is the same everywhere; then all are
   locked in that order. If others have deleted one meanwhile, nothing is done: to insert it while
   others are locked would be against the order. Under READ COMMITTED each statement here sees what
   was committed before it began, so nothing that follows is out of date.
2. The clock is read: later than every lock was got. Expired rows are deleted, with what belongs
   to them, and treated as missing: a new life is a new row. If it is later than the commits may be
   applied, nothing is.
3. The main rows are updated, each field by its own expression, and then the child rows.

What is mostly so is not said: arguments are NULL where each key has one commit with one op id, no
epoch, one item to append. So there is less to encode, to decode and to go through.

A commit that is not as it is mostly (a condition that does not hold, a repeated op id, a broken
bound, an array of another length) is not decided here: nothing of the call is written, the keys are
named if they are known, and the portable executor gives the precise answer. If nothing has been
written yet they are returned in `o_bad`; otherwise the function raises SH001.

The body lies in `commit.sql`, and the statement that writes the main rows in `update.sql`, with named
holes (`$main`) for what depends on the kind; each field fills in its part (`fields`, `entries`). The
function's name has a digest of the text, comments and blanks included.

The plans are made once and must be right for a table of any size, while the planner may only know
it empty: hence the settings, which leave it index scans and nested loops.
"""

# ruff: noqa: S608  what is put into SQL here is quoted, and names tables and columns
from __future__ import annotations

import functools
import hashlib
import re
from importlib.resources import files
from string import Template
from typing import Final

import msgspec

from statehold.commits import HOLD_SECONDS
from statehold.drivers.sql.postgres.entries import counted_entries
from statehold.drivers.sql.postgres.fields import FieldSql, nulls_of, part_of
from statehold.drivers.sql.postgres.phrases import (
    deadline,
    every,
    forgotten,
    later,
    literal,
    qualified,
    quoted,
)
from statehold.drivers.sql.postgres.read import read_function
from statehold.drivers.sql.schema.names import LONGEST, identifier
from statehold.drivers.sql.schema.tables import FieldStorage, Tables
from statehold.folding import INSTALLED

MOST_ARGUMENTS: Final = 90
"""PostgreSQL takes 100, results included."""

PLANNING: Final = (
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
    ("jit", "off"),
)
"""PostgreSQL's settings for statements that look up rows by their keys."""
PLANNED_SO: Final = "".join(f" SET {name} = {value}" for name, value in PLANNING)

_ROWS: Final = (
    ("a_tenant", "text[]"),
    ("a_id", "text[]"),
    ("a_commits", "bigint[]"),
    ("a_incarnation", "bigint[]"),
    ("a_ttl", "double precision[]"),
    ("a_max_age", "double precision[]"),
    ("a_subject", "text[]"),
    ("a_epoch", "bigint[]"),
    ("a_last_epoch", "bigint[]"),
    ("a_op_count", "bigint[]"),
)
_OTHERS: Final = (
    ("a_expect_incarnation", "bigint[]"),
    ("a_expect_number", "bigint[]"),
    ("a_ops", "bigint"),
    ("a_op_k", "integer[]"),
    ("a_op", "text[]"),
    ("a_op_commit", "bigint[]"),
    ("a_op_seq", "bigint[]"),
    ("a_op_intent", "bigint[]"),
    ("a_until", "double precision"),
    ("a_bounds", "bigint[]"),
    ("a_nulling", "boolean"),
)


class CommitFunction(msgspec.Struct, frozen=True):
    """The function that commits: what it is called, what it takes and its text."""

    name: str
    arguments: dict[str, int]
    """Each argument's place, from 0."""
    create: str


def commit_function(tables: Tables) -> CommitFunction | None:
    """The function for these tables; None if they have more fields than a function's arguments."""
    fields = list(enumerate(tables.fields.values(), 1))
    parts = [
        counted_entries(tables, number, stored)
        if stored.counted
        else part_of(tables, number, stored)
        for number, stored in fields
    ]
    arguments = [*_ROWS, *_OTHERS, *(one for part in parts for one in part.arguments)]
    if len(arguments) > MOST_ARGUMENTS:
        return None
    body = _body(tables, fields, parts)
    name = _named(tables, "commit", body + repr(arguments))
    listed = ",\n  ".join(f"{argument} {kind}" for argument, kind in arguments)
    create = (
        f"CREATE OR REPLACE FUNCTION {qualified(tables.schema, name)}(\n  {listed},\n"
        "  OUT o_state bigint[], OUT o_incarnation bigint[], OUT o_number bigint[],"
        " OUT o_created timestamptz[], OUT o_now timestamptz, OUT o_bad integer[]\n"
        f") LANGUAGE plpgsql VOLATILE{PLANNED_SO}\nAS $statehold$\n{body}$statehold$"
    )
    return CommitFunction(name, {arg: n for n, (arg, _) in enumerate(arguments)}, create)


def statements(tables: Tables) -> tuple[str, ...]:
    """What makes the functions of these tables, if they are not there; none where there are none."""
    commit = commit_function(tables)
    if commit is None:
        return ()
    read = read_function(tables, PLANNED_SO)
    name = _named(tables, "read", read.text)
    return (
        commit.create,
        _comment(tables, commit.name),
        read.create(name),
        _comment(tables, name),
    )


def names(tables: Tables) -> tuple[str, str] | None:
    """The names of the function that commits and the one that reads; None where there are none."""
    commit = commit_function(tables)
    if commit is None:
        return None
    return commit.name, _named(tables, "read", read_function(tables, PLANNED_SO).text)


def any_version(tables: Tables) -> str:
    """A regular expression for the names of the kind's functions, of whatever layout."""
    stems = "|".join(re.escape(_stem(tables, what)) for what in ("commit", "read"))
    return f"^({stems})_[0-9a-f]{{8}}$"


def _stem(tables: Tables, what: str) -> str:
    return identifier("statehold", tables.prefix + tables.kind, what)[: LONGEST - 4]


def _named(tables: Tables, what: str, text: str) -> str:
    """With a digest of the text: versions of a service with different layouts live side by side."""
    return f"{_stem(tables, what)}_{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def _comment(tables: Tables, name: str) -> str:
    about = f"statehold: part of the tables of the kind {tables.kind}"
    return f"COMMENT ON FUNCTION {qualified(tables.schema, name)} IS {literal(about)}"


def _body(tables: Tables, fields: list[tuple[int, FieldStorage]], parts: list[FieldSql]) -> str:
    main = qualified(tables.schema, tables.main.name)
    ops = qualified(tables.schema, tables.ops.name)
    children = [qualified(tables.schema, table.name) for table in tables.children.values()]
    locked = [one for part in parts for one in part.locked]
    values = [(number, stored) for number, stored in fields if stored.form == "value"]
    heavy = [part for (_, stored), part in zip(fields, parts, strict=True) if _is_heavy(stored)]
    untouched = " AND ".join(f"{name} IS NULL" for part in heavy for name, _ in part.arguments)
    return template("commit").substitute(
        main=main,
        ops=ops,
        ended=qualified(tables.schema, tables.ended.name),
        about=qualified(tables.schema, tables.about.name),
        every=every("a_ops"),
        forgotten=forgotten("v_count - a_ops", "v_count", "v_now"),
        installed=INSTALLED,
        hold_seconds=f"{HOLD_SECONDS:g}",
        locked_declared="".join(f"  {name} {kind};\n" for name, kind, _ in locked),
        locked_read="".join(f", {expression} AS {name}" for name, _, expression in locked),
        locked_gathered="".join(f", array_agg(l.{name})" for name, _, _ in locked),
        locked_names="".join(f", {name}" for name, _, _ in locked),
        children_deleted="".join(
            f"      DELETE FROM {table} AS c WHERE c.state = ANY(v_dead);\n"
            for table in (*children, ops)
        ),
        before="".join(part.before for part in parts),
        after="".join(part.after for part in parts),
        untouched=untouched or "TRUE",
        lean=_update(main, [part for part in parts if part not in heavy]),
        full=_update(main, parts, nulls_of(values) if values else None),
    )


@functools.cache
def template(name: str) -> Template:
    """The SQL file of that name beside this module, with its named holes."""
    return Template((files("statehold.drivers.sql.postgres") / f"{name}.sql").read_text("utf-8"))


def _is_heavy(stored: FieldStorage) -> bool:
    """Whether its expressions take long to set up, even where they are not evaluated."""
    return stored.form in ("value", "object")


def _update(main: str, parts: list[FieldSql], nulls: str | None = None) -> str:
    """The statement that writes the main rows, as far as these parts go."""
    sets = [one for part in parts for one in part.sets]
    if nulls is not None:
        sets.append(("nulls", nulls))
    conditions = [one for part in parts for one in part.conditions]
    created, line = "CASE WHEN t.number = 0 THEN v_now ELSE t.created_at END", "\n      "
    return (
        template("update")
        .substitute(
            main=main,
            created=created,
            deadline=deadline("v_now", created, "a_ttl[u.k]", "a_max_age[u.k]", line),
            age_ends=later("t.created_at", "a_max_age[u.k]"),
            sets="".join(f",\n    {quoted(column)} = {expression}" for column, expression in sets),
            conditions="".join(f"\n      AND {condition}" for condition in conditions),
        )
        .removesuffix("\n")
    )
