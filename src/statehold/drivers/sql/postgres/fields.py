"""What the commit function does for one field, as SQL: one class for each way that a field lies.

The arguments of a field are arrays, which expressions go through by subscripts (a function scan
over many arrays at once costs more than the rest of the statement). Some have an element for each
key of the call, `u.k`, in the order of the keys; NULL in the place of the array says that no key of
the call touches the field. The others list child rows, `u.i`, with the number of their key in the
array `_k` or `_dk`.
"""

# ruff: noqa: S608  what is put into SQL here is quoted, and names tables and columns
from __future__ import annotations

from collections.abc import Iterable

import msgspec

from statehold.drivers.sql.postgres.merge import SET, SET_IF_ABSENT, SET_NULL
from statehold.drivers.sql.postgres.phrases import literal, qualified, quoted
from statehold.drivers.sql.schema.tables import FieldStorage, Tables
from statehold.drivers.sql.schema.types import ARGUMENT_TYPES


class FieldSql(msgspec.Struct, frozen=True):
    """One field's share of the function's text."""

    arguments: tuple[tuple[str, str], ...]
    """Name and type of each."""
    locked: tuple[tuple[str, str, str], ...] = ()
    """Kept from the locked rows: variable, type, expression over `t`."""
    sets: tuple[tuple[str, str], ...] = ()
    """Columns of the main table and what they become, over `t` and `u.k`."""
    conditions: tuple[str, ...] = ()
    """Conditions without which a commit is not for this function."""
    before: str = ""
    """Statements on the child table, before the main row is written, which has to do with them."""
    after: str = ""
    """Statements on the child table, once the main row is written."""


def cast_of(stored: FieldStorage) -> str:
    """What makes the column's type of such an argument."""
    return f"::{stored.column_type}" if stored.column_type in ("json", "vector") else ""


def part_of(tables: Tables, number: int, stored: FieldStorage) -> FieldSql:
    """The part of the field that is the `number`-th, from 1."""
    name = f"f{number}"
    if stored.form == "value":
        return _value(name, stored)
    if stored.form == "number":
        return _number(name, stored)
    if stored.form == "object":
        return _object(name, number, stored)
    table = qualified(tables.schema, stored.table)
    if stored.form == "items":
        return _items(name, stored, table)
    return _entries(name, number, stored, table)


def _value(name: str, stored: FieldStorage) -> FieldSql:
    column = f"t.{quoted(stored.column)}"
    value = f"{name}_v[u.k]{cast_of(stored)}"
    is_null = f"COALESCE(t.nulls::jsonb ? {literal(stored.name)}, FALSE)"
    return FieldSql(
        arguments=(
            (f"{name}_v", ARGUMENT_TYPES[stored.column_type] + "[]"),
            (f"{name}_m", "smallint[]"),
        ),
        sets=(
            (
                stored.column,
                (
                    f"CASE {name}_m[u.k] WHEN {SET} THEN {value} WHEN {SET_NULL} THEN NULL"
                    f" WHEN {SET_IF_ABSENT} THEN CASE WHEN {column} IS NULL AND NOT {is_null}"
                    f" THEN {value} ELSE {column} END ELSE {column} END"
                ),
            ),
        ),
    )


def nulls_of(values: Iterable[tuple[int, FieldStorage]]) -> str:
    """What the column `nulls` becomes, given the numbers of the fields that lie as `value`."""
    marked = [(f"f{number}_m[u.k]", literal(stored.name)) for number, stored in values]
    put = ", ".join(f"CASE WHEN {m} IN ({SET}, {SET_NULL}) THEN {n} END" for m, n in marked)
    null = ", ".join(f"CASE WHEN {m} = {SET_NULL} THEN {n} END" for m, n in marked)
    return (
        "CASE WHEN t.nulls IS NULL AND a_nulling IS NULL THEN NULL ELSE NULLIF("
        f"(COALESCE(t.nulls::jsonb, '[]') - array_remove(ARRAY[{put}]::text[], NULL))"
        f" || to_jsonb(array_remove(ARRAY[{null}]::text[], NULL)), '[]')::json END"
    )


def _number(name: str, stored: FieldStorage) -> FieldSql:
    column = f"t.{quoted(stored.column)}"
    return FieldSql(
        arguments=(
            (f"{name}_v", ARGUMENT_TYPES[stored.column_type] + "[]"),
            (f"{name}_m", "smallint[]"),
        ),
        sets=(
            (
                stored.column,
                (
                    f"CASE WHEN {name}_m[u.k] = {SET} THEN {name}_v[u.k] WHEN {name}_v[u.k] IS NULL"
                    f" THEN {column} ELSE COALESCE({column}, 0) + {name}_v[u.k] END"
                ),
            ),
        ),
    )


def _object(name: str, number: int, stored: FieldStorage) -> FieldSql:
    # _p: a JSON object of entries to put. _x: what is rare, {"c": clear first, "d": entries to
    # drop first, "i": entries to put where absent}.
    put, rare = f"{name}_p[u.k]", f"{name}_x[u.k]"
    old = f"COALESCE(t.{quoted(stored.column)}, '{{}}')"
    base = (
        f"CASE WHEN {rare} IS NULL THEN {old} WHEN {rare} ? 'c' THEN '{{}}'"
        f" ELSE {old} - ARRAY(SELECT jsonb_array_elements_text({rare} -> 'd')) END"
    )
    new = f"(COALESCE({rare} -> 'i', '{{}}') || ({base}) || COALESCE({put}, '{{}}'))"
    untouched = f"{put} IS NULL AND {rare} IS NULL"
    bound = f"a_bounds[{number}]"
    count = "(SELECT count(*) FROM jsonb_object_keys({}))"
    return FieldSql(
        arguments=((f"{name}_p", "jsonb[]"), (f"{name}_x", "jsonb[]")),
        sets=(
            (
                stored.column,
                (
                    f"CASE WHEN {untouched} THEN t.{quoted(stored.column)}"
                    f" ELSE NULLIF({new}, '{{}}') END"
                ),
            ),
        ),
        conditions=(
            (
                f"({untouched} OR {bound} IS NULL OR {count.format(new)} <= {bound}"
                f" OR {count.format(new)} <= {count.format(base)})"
            ),
        ),
    )


def _items(name: str, stored: FieldStorage, table: str) -> FieldSql:
    # _n: how many items a key gets, _c: how many of its old ones stay (NULL: all). The items
    # themselves: _k: the key's number, _o: which of the key's new items, _v: its value; without _k
    # and _o each key has one.
    end = f"t.{quoted(stored.column)}"
    value = f"{name}_v[u.i]" + ("::json" if stored.column_type == "json" else "")
    return FieldSql(
        arguments=(
            (f"{name}_n", "bigint[]"),
            (f"{name}_c", "bigint[]"),
            (f"{name}_k", "integer[]"),
            (f"{name}_o", "bigint[]"),
            (f"{name}_v", ARGUMENT_TYPES[stored.column_type] + "[]"),
        ),
        locked=((f"v_{name}", "bigint[]", f"COALESCE({end}, 0)"),),
        sets=(
            (
                stored.column,
                f"CASE WHEN {name}_n[u.k] > 0 THEN COALESCE({end}, 0) + {name}_n[u.k] ELSE {end} END",
            ),
        ),
        after=f"""
  IF {name}_c IS NOT NULL THEN
    DELETE FROM {table} AS c USING generate_series(1, v_keys) AS u(k)
      WHERE c.state = o_state[u.k] AND c.seq <= v_{name}[u.k] - {name}_c[u.k];
  END IF;
  IF {name}_v IS NOT NULL THEN
    INSERT INTO {table} (state, seq, value)
      SELECT o_state[u.k], v_{name}[u.k] + COALESCE({name}_o[u.i], 1), {value}
      FROM (
        SELECT i.i, COALESCE({name}_k[i.i], i.i)
        FROM generate_series(1, cardinality({name}_v)) AS i(i)
      ) AS u(i, k);
  END IF;""",
    )


def _entries(name: str, number: int, stored: FieldStorage, table: str) -> FieldSql:
    # _dk, _de: entries to drop first; a NULL entry drops all. _k, _e: the key's number and the
    # entry. _w or _r: an int or a float to add. _v: bytes to put. An array to accumulate is the
    # _l numbers of _a after the first _o.
    arguments = [(f"{name}_dk", "integer[]"), (f"{name}_de", "text[]")]
    arguments += [(f"{name}_k", "integer[]"), (f"{name}_e", "text[]")]
    columns, values = ["state", "entry"], [f"o_state[{name}_k[u.i]]", f"{name}_e[u.i]"]
    sets: list[str] = []
    holds: list[str] = []
    if stored.adds:
        arguments += [(f"{name}_w", "bigint[]"), (f"{name}_r", "double precision[]")]
        columns += ["whole", "real"]
        values += [f"{name}_w[u.i]", f"{name}_r[u.i]"]
        whole = "c.real IS NULL AND EXCLUDED.real IS NULL"
        sets += [
            f"whole = CASE WHEN {whole} THEN c.whole + EXCLUDED.whole END",
            (
                f"real = CASE WHEN {whole} THEN NULL ELSE COALESCE(c.real, c.whole)"
                " + COALESCE(EXCLUDED.real, EXCLUDED.whole) END"
            ),
        ]
    if stored.column_type == "bytes":
        arguments.append((f"{name}_v", "bytea[]"))
        columns.append("value")
        values.append(f"{name}_v[u.i]")
        sets.append("value = EXCLUDED.value")
        if stored.adds:
            holds.append("(EXCLUDED.value IS NOT NULL OR c.value IS NULL)")
    elif stored.column_type == "array":
        arguments += [(f"{name}_o", "integer[]"), (f"{name}_l", "integer[]")]
        arguments.append((f"{name}_a", "double precision[]"))
        columns.append("value")
        first, size = f"{name}_o[u.i]", f"{name}_l[u.i]"
        values.append(
            f"CASE WHEN {size} IS NOT NULL THEN {name}_a[{first} + 1 : {first} + {size}] END"
        )
        sets.append(
            "value = CASE WHEN EXCLUDED.value IS NOT NULL"
            " THEN ARRAY(SELECT x.a + x.b FROM unnest(c.value, EXCLUDED.value) AS x(a, b)) END"
        )
        holds.append("cardinality(c.value) IS NOT DISTINCT FROM cardinality(EXCLUDED.value)")
    where = f" WHERE {' AND '.join(holds)}" if holds else ""
    after = f"""
  IF {name}_dk IS NOT NULL THEN
    DELETE FROM {table} AS c USING generate_series(1, cardinality({name}_dk)) AS u(i)
      WHERE c.state = o_state[{name}_dk[u.i]]
        AND ({name}_de[u.i] IS NULL OR c.entry = {name}_de[u.i]);
  END IF;
  IF {name}_k IS NOT NULL THEN
    WITH i AS (
      INSERT INTO {table} AS c ({", ".join(columns)})
        SELECT {", ".join(values)} FROM generate_series(1, cardinality({name}_k)) AS u(i)
      ON CONFLICT (state, entry) DO UPDATE SET {", ".join(sets)}{where}
      -- A row that was inserted has no xmax; one that was there was locked first.
      RETURNING c.state, c.xmax = 0 AS fresh)
    SELECT count(*), array_agg(i.state) FILTER (WHERE i.fresh) INTO v_count, v_fresh FROM i;
    IF v_count < cardinality({name}_k) THEN
      RAISE EXCEPTION 'another kind of value' USING ERRCODE = 'SH001';
    END IF;
    IF v_fresh IS NOT NULL AND a_bounds[{number}] IS NOT NULL THEN
      FOR v_full IN
        SELECT s.state, s.made, (SELECT count(*) FROM {table} AS c WHERE c.state = s.state) AS held
        FROM (SELECT x.state, count(*) AS made FROM unnest(v_fresh) AS x(state) GROUP BY 1) AS s
      LOOP
        CONTINUE WHEN v_full.held <= abs(a_bounds[{number}]);
        -- A bound below 0: the lowest entries give way.
        IF a_bounds[{number}] > 0 OR v_full.held - v_full.made > -a_bounds[{number}] OR EXISTS (
          SELECT FROM {table} AS c WHERE c.state = v_full.state AND strpos(c.entry, chr(92)) > 0
        ) THEN
          RAISE EXCEPTION 'a bound' USING ERRCODE = 'SH001',
            DETAIL = array_position(o_state, v_full.state)::text;
        END IF;
        DELETE FROM {table} AS c WHERE c.state = v_full.state AND c.entry = ANY(ARRAY(
          SELECT l.entry FROM {table} AS l WHERE l.state = v_full.state
          ORDER BY l.entry LIMIT v_full.held + a_bounds[{number}]));
      END LOOP;
    END IF;
  END IF;"""
    return FieldSql(arguments=tuple(arguments), after=after)
