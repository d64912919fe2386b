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

The plans are made once and must be right for a table of any size, while the planner may only know
it empty: hence the settings, which leave it index scans and nested loops.
"""

# ruff: noqa: S608  what is put into SQL here is quoted, and names tables and columns
from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from statehold.changes import HOLD_SECONDS
from statehold.drivers.sql.postgres.entries import counted_entries
from statehold.drivers.sql.postgres.fields import Part, nulls_of, part_of
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
from statehold.drivers.sql.schema.tables import Stored, Tables
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
SETTINGS: Final = "".join(f" SET {name} = {value}" for name, value in PLANNING)

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
        f") LANGUAGE plpgsql VOLATILE{SETTINGS}\nAS $statehold$\n{body}$statehold$"
    )
    return CommitFunction(name, {arg: n for n, (arg, _) in enumerate(arguments)}, create)


def statements(tables: Tables) -> tuple[str, ...]:
    """What makes the functions of these tables, if they are not there; none where there are none."""
    commit = commit_function(tables)
    if commit is None:
        return ()
    read = read_function(tables, SETTINGS)
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
    return commit.name, _named(tables, "read", read_function(tables, SETTINGS).text)


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


def _body(tables: Tables, fields: list[tuple[int, Stored]], parts: list[Part]) -> str:
    main = qualified(tables.schema, tables.main.name)
    ops = qualified(tables.schema, tables.ops.name)
    ended = qualified(tables.schema, tables.ended.name)
    about = qualified(tables.schema, tables.about.name)
    children = [qualified(tables.schema, table.name) for table in tables.children.values()]
    locked = [one for part in parts for one in part.locked]
    values = [(number, stored) for number, stored in fields if stored.lies == "value"]
    heavy = [part for (_, stored), part in zip(fields, parts, strict=True) if _is_heavy(stored)]
    untouched = " AND ".join(f"{name} IS NULL" for part in heavy for name, _ in part.arguments)
    lean = _update(main, [part for part in parts if part not in heavy])
    full = _update(main, parts, nulls_of(values) if values else None)
    return f"""#variable_conflict use_variable
DECLARE
  v_count bigint;
  v_every CONSTANT bigint := {every("a_ops")};
  v_keys CONSTANT integer := cardinality(a_id);
  v_now timestamptz;
  v_first timestamptz;
  v_highest bigint;
  v_missing boolean := FALSE;
  v_dead bigint[];
  v_fresh bigint[];
  v_epoch bigint[];
  v_expires timestamptz[];
  v_ops bigint[];
  v_most_ops bigint;
  v_full record;
  v_was bigint[];
{"".join(f"  {name} {kind};{chr(10)}" for name, kind, _ in locked)}BEGIN
  LOOP
    SELECT count(*) INTO v_count FROM generate_series(1, v_keys) AS u(k)
      JOIN {main} AS t ON t.tenant = a_tenant[u.k] AND t.id = a_id[u.k];
    IF v_count < v_keys THEN
      v_missing := TRUE;
      INSERT INTO {main}
          (tenant, id, incarnation, number, created_at, updated_at, epoch, ops)
        SELECT a_tenant[u.k], a_id[u.k], a_incarnation[u.k], 0, now(), now(), 0, 0
        FROM generate_series(1, v_keys) AS u(k)
        WHERE NOT EXISTS (
          SELECT FROM {main} AS t WHERE t.tenant = a_tenant[u.k] AND t.id = a_id[u.k])
        ORDER BY u.k
        ON CONFLICT DO NOTHING;
    END IF;
    SELECT count(*), min(l.expires_at), max(l.epoch), array_agg(l.state), array_agg(l.incarnation),
        array_agg(l.number), array_agg(l.created_at), array_agg(l.epoch), array_agg(l.expires_at),
        array_agg(l.ops), max(l.ops)\
{"".join(f", array_agg(l.{name})" for name, _, _ in locked)}
      INTO v_count, v_first, v_highest, o_state, o_incarnation, o_number, o_created, v_epoch,
        v_expires, v_ops, v_most_ops\
{"".join(f", {name}" for name, _, _ in locked)}
      FROM (
        SELECT t.state, t.incarnation, t.number, t.created_at, t.epoch, t.expires_at, t.ops\
{"".join(f", {expression} AS {name}" for name, _, expression in locked)}
        FROM generate_series(1, v_keys) AS u(k)
        JOIN {main} AS t ON t.tenant = a_tenant[u.k] AND t.id = a_id[u.k]
        ORDER BY u.k FOR UPDATE OF t) AS l;
    IF v_count < v_keys THEN
      IF v_missing THEN
        DELETE FROM {main} AS t WHERE t.state = ANY(o_state) AND t.number = 0 AND t.epoch = 0;
      END IF;
      SELECT array_agg(u.k) INTO o_bad FROM generate_series(1, v_keys) AS u(k);
      RETURN;
    END IF;
    v_now := clock_timestamp();
    IF v_first <= v_now THEN
      SELECT array_agg(u.s) INTO v_dead FROM unnest(o_state, v_expires) AS u(s, e) WHERE u.e <= v_now;
      IF v_highest > 0 THEN
        -- An epoch may have to be remembered, though the state be gone.
        SELECT array_agg(u.k) INTO o_bad FROM generate_series(1, v_keys) AS u(k)
          JOIN {main} AS t ON t.tenant = a_tenant[u.k] AND t.id = a_id[u.k]
          WHERE t.state = ANY(v_dead) AND t.epoch > 0;
        IF o_bad IS NOT NULL THEN
          IF v_missing THEN
            DELETE FROM {main} AS t WHERE t.state = ANY(o_state) AND t.number = 0 AND t.epoch = 0;
          END IF;
          RETURN;
        END IF;
      END IF;
{"".join(f"      DELETE FROM {table} AS c WHERE c.state = ANY(v_dead);{chr(10)}" for table in (*children, ops))}\
      -- Whoever sends a commit again that may have been applied to one of these must know.
      WITH d AS (DELETE FROM {main} AS t WHERE t.state = ANY(v_dead) RETURNING t.*), a AS (
        DELETE FROM {about} AS c USING d WHERE d.also_about IS NOT NULL AND c.state = d.state)
      INSERT INTO {ended} AS e (tenant, id, op, intent, incarnation, number, at)
        SELECT d.tenant, d.id, '', 0, d.incarnation, d.number,
          GREATEST(d.expires_at, d.updated_at) FROM d
        WHERE GREATEST(d.expires_at, d.updated_at) > v_now - interval '{HOLD_SECONDS:g} seconds'
        ON CONFLICT (tenant, id, op) DO UPDATE SET
          incarnation = EXCLUDED.incarnation, number = EXCLUDED.number, at = EXCLUDED.at;
    ELSE
      EXIT;
    END IF;
  END LOOP;

  IF v_now > to_timestamp(a_until) THEN
    SELECT array_agg(u.k) INTO o_bad FROM generate_series(1, v_keys) AS u(k);
  ELSIF a_op IS NOT NULL AND EXISTS (
      SELECT FROM generate_series(1, v_keys) AS u(k)
      JOIN {ended} AS e ON e.tenant = a_tenant[u.k] AND e.id = a_id[u.k]) THEN
    -- An op id of an erasure erases, or has erased.
    SELECT array_agg(u.k) INTO o_bad
      FROM (
        SELECT i.i, COALESCE(a_op_k[i.i], i.i) FROM generate_series(1, cardinality(a_op)) AS i(i)
      ) AS u(i, k)
      JOIN {ended} AS e ON e.tenant = a_tenant[u.k] AND e.id = a_id[u.k] AND e.op = a_op[u.i];
  END IF;
  IF o_bad IS NULL AND (v_highest > 0 OR a_expect_number IS NOT NULL) THEN
    SELECT array_agg(u.k) INTO o_bad
      FROM unnest(o_incarnation, o_number, v_epoch, a_epoch, a_expect_incarnation, a_expect_number)
        WITH ORDINALITY AS u(incarnation, number, seen, epoch, xi, xn, k)
      WHERE COALESCE(u.epoch, 0) < u.seen OR NOT (u.xn IS NULL
        OR u.xi = 0 AND u.xn = 0 AND u.number = 0
        OR u.xi = 0 AND u.xn = 1 AND u.number > 0
        OR u.xi = u.incarnation AND u.xn = u.number AND u.number > 0);
  END IF;
  IF o_bad IS NULL AND v_most_ops >= {INSTALLED} AND a_op IS NOT NULL THEN
    -- A life that was installed may know op ids by their digests, which are not known here.
    SELECT array_agg(u.k) INTO o_bad
      FROM (
        SELECT i.i, COALESCE(a_op_k[i.i], i.i) FROM generate_series(1, cardinality(a_op)) AS i(i)
      ) AS u(i, k)
      WHERE v_ops[u.k] >= {INSTALLED} AND a_op[u.i] !~ '^(blake2b:)?[0-9a-f]{{24}}$';
  END IF;
  IF o_bad IS NOT NULL THEN
    IF v_missing THEN
      DELETE FROM {main} AS t WHERE t.state = ANY(o_state) AND t.number = 0;
    END IF;
    RETURN;
  END IF;

  o_now := v_now;
{"".join(part.before for part in parts)}
  IF {untouched or "TRUE"} THEN
    {lean};
    GET DIAGNOSTICS v_count = ROW_COUNT;
  ELSE
    {full};
    GET DIAGNOSTICS v_count = ROW_COUNT;
  END IF;
  IF v_count < v_keys THEN
    SELECT array_agg(u.k) INTO o_bad FROM generate_series(1, v_keys) AS u(k)
      JOIN {main} AS t ON t.state = o_state[u.k] AND t.number = o_number[u.k];
    RAISE EXCEPTION 'a bound' USING ERRCODE = 'SH001', DETAIL = array_to_string(o_bad, ',');
  END IF;

  IF a_op IS NOT NULL THEN
    -- One that has a row already, remembered or not, is for the portable executor.
    INSERT INTO {ops} (state, op, number, seq, intent, at)
      SELECT o_state[u.k], a_op[u.i], o_number[u.k] + COALESCE(a_op_commit[u.i], 1),
        v_ops[u.k] + COALESCE(a_op_seq[u.i], 1), COALESCE(a_op_intent[u.i], 0), v_now
      FROM (
        SELECT i.i, COALESCE(a_op_k[i.i], i.i) FROM generate_series(1, cardinality(a_op)) AS i(i)
      ) AS u(i, k);
    -- Forgotten ones are deleted now and then.
    FOR v_key IN 1 .. v_keys LOOP
      v_count := v_ops[v_key] + COALESCE(a_op_count[v_key], 1);
      IF v_count / v_every > v_ops[v_key] / v_every THEN
        DELETE FROM {ops} AS c WHERE c.state = o_state[v_key]
          AND {forgotten("v_count - a_ops", "v_count", "v_now")};
      END IF;
    END LOOP;
  END IF;
{"".join(part.after for part in parts)}
END
"""


def _is_heavy(stored: Stored) -> bool:
    """Whether its expressions take long to set up, even where they are not evaluated."""
    return stored.lies in ("value", "object")


def _update(main: str, parts: list[Part], nulls: str | None = None) -> str:
    """The statement that writes the main rows, as far as these parts go."""
    sets = [one for part in parts for one in part.sets]
    if nulls is not None:
        sets.append(("nulls", nulls))
    holds = [one for part in parts for one in part.holds]
    created, line = "CASE WHEN t.number = 0 THEN v_now ELSE t.created_at END", "\n      "
    return f"""UPDATE {main} AS t SET
    number = t.number + COALESCE(a_commits[u.k], 1),
    created_at = {created},
    updated_at = v_now,
    expires_at = {deadline("v_now", created, "a_ttl[u.k]", "a_max_age[u.k]", line)},
    subject = COALESCE(a_subject[u.k], t.subject),
    epoch = COALESCE(a_last_epoch[u.k], 0),
    ops = t.ops + CASE WHEN a_op IS NULL THEN 0 ELSE COALESCE(a_op_count[u.k], 1) END\
{"".join(f",{chr(10)}    {quoted(column)} = {expression}" for column, expression in sets)}
    FROM generate_series(1, v_keys) AS u(k)
    WHERE t.state = o_state[u.k]
      AND (t.also_about IS NULL OR a_subject[u.k] IS NULL)
      -- A life that ends as it is written to would have to begin anew within the call.
      AND (COALESCE(a_commits[u.k], 1) = 1 OR a_max_age[u.k] IS NULL OR t.number = 0
        OR {later("t.created_at", "a_max_age[u.k]")} > v_now)\
{"".join(f"{chr(10)}      AND {condition}" for condition in holds)}"""
