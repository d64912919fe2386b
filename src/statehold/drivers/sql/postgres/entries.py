"""What the commit function does for the entries of a large map, whose rows the main row counts.

Their rows are written before the main row, so that it is written once: `v_f1[k]` is how many entries the
field 1 of the k-th key has, from the locked row, and is brought up as rows come and go.
"""

# ruff: noqa: S608  what is put into SQL here is quoted, and names tables and columns
from __future__ import annotations

from statehold.drivers.sql.postgres.fields import FieldSql
from statehold.drivers.sql.postgres.phrases import qualified, quoted
from statehold.drivers.sql.schema.tables import FieldStorage, Tables


def counted_entries(tables: Tables, number: int, stored: FieldStorage) -> FieldSql:
    """The part of the field that is the `number`-th, from 1."""
    # _dk, _de: entries to drop first; a NULL entry drops all. _k, _e, _v: key's number, entry and value
    # of those to put; _ik, _ie, _iv: the same of those to put if there is none.
    name = f"f{number}"
    table = qualified(tables.schema, stored.table)
    held, bound = f"v_{name}", f"a_bounds[{number}]"
    before = f"""
  IF {name}_dk IS NOT NULL THEN
    FOR v_full IN
      WITH d AS (
        DELETE FROM {table} AS c USING generate_series(1, cardinality({name}_dk)) AS u(i)
          WHERE c.state = o_state[{name}_dk[u.i]] AND c.entry = {name}_de[u.i] RETURNING c.state)
      SELECT array_position(o_state, d.state) AS k, count(*) AS n FROM d GROUP BY d.state
    LOOP
      {held}[v_full.k] := {held}[v_full.k] - v_full.n;
    END LOOP;
    IF array_position({name}_de, NULL) IS NOT NULL THEN
      DELETE FROM {table} AS c USING generate_series(1, cardinality({name}_dk)) AS u(i)
        WHERE c.state = o_state[{name}_dk[u.i]] AND {name}_de[u.i] IS NULL;
      FOR v_at IN 1 .. cardinality({name}_dk) LOOP
        IF {name}_de[v_at] IS NULL THEN {held}[{name}_dk[v_at]] := 0; END IF;
      END LOOP;
    END IF;
  END IF;
  IF {name}_k IS NOT NULL OR {name}_ik IS NOT NULL THEN
    v_was := {held};
    FOR v_full IN
      WITH p AS (
        INSERT INTO {table} AS c (state, entry, value)
          SELECT o_state[{name}_k[u.i]], {name}_e[u.i], {name}_v[u.i]::json
          FROM generate_series(1, cardinality({name}_k)) AS u(i)
        ON CONFLICT (state, entry) DO UPDATE SET value = EXCLUDED.value
        -- A row that was inserted has no xmax; one that was there was locked first.
        RETURNING c.state, c.xmax = 0 AS fresh),
      f AS (
        INSERT INTO {table} AS c (state, entry, value)
          SELECT o_state[{name}_ik[u.i]], {name}_ie[u.i], {name}_iv[u.i]::json
          FROM generate_series(1, cardinality({name}_ik)) AS u(i)
        ON CONFLICT (state, entry) DO NOTHING RETURNING c.state)
      SELECT array_position(o_state, x.state) AS k, count(*) AS n
      FROM (SELECT p.state FROM p WHERE p.fresh UNION ALL SELECT f.state FROM f) AS x
      GROUP BY x.state
    LOOP
      {held}[v_full.k] := {held}[v_full.k] + v_full.n;
    END LOOP;
    IF {bound} IS NOT NULL THEN
      FOR v_key IN 1 .. v_keys LOOP
        CONTINUE WHEN {held}[v_key] <= abs({bound}) OR {held}[v_key] <= v_was[v_key];
        -- A bound below 0: the lowest entries give way.
        IF {bound} > 0 OR v_was[v_key] > -{bound} OR EXISTS (
          SELECT FROM {table} AS c WHERE c.state = o_state[v_key] AND strpos(c.entry, chr(92)) > 0
        ) THEN
          RAISE EXCEPTION 'a bound' USING ERRCODE = 'SH001', DETAIL = v_key::text;
        END IF;
        DELETE FROM {table} AS c WHERE c.state = o_state[v_key] AND c.entry = ANY(ARRAY(
          SELECT l.entry FROM {table} AS l WHERE l.state = o_state[v_key]
          ORDER BY l.entry LIMIT {held}[v_key] + {bound}));
        {held}[v_key] := -{bound};
      END LOOP;
    END IF;
  END IF;"""
    return FieldSql(
        arguments=(
            (f"{name}_dk", "integer[]"),
            (f"{name}_de", "text[]"),
            (f"{name}_k", "integer[]"),
            (f"{name}_e", "text[]"),
            (f"{name}_v", "text[]"),
            (f"{name}_ik", "integer[]"),
            (f"{name}_ie", "text[]"),
            (f"{name}_iv", "text[]"),
        ),
        locked=((held, "bigint[]", f"COALESCE(t.{quoted(stored.column)}, 0)"),),
        sets=((stored.column, f"NULLIF({held}[u.k], 0)"),),
        before=before,
    )
