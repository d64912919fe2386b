"""What is read of a state in one statement: the columns, and the child rows as arrays.

The same text serves a read, and the function that reads in the same call what a commit has just
written (a statement does not see what a function called in it wrote; another function does).
"""

# ruff: noqa: S608  what is put into SQL here is quoted, and names tables and columns
from __future__ import annotations

from typing import Final

import msgspec

from statehold.drivers.sql.postgres.phrases import (
    alive,
    deadline,
    qualified,
    quoted,
    worth_renewing,
)
from statehold.drivers.sql.schema.tables import FieldStorage, Tables
from statehold.drivers.sql.schema.types import ARGUMENT_TYPES

META_TYPES: Final = (
    ("incarnation", "bigint"),
    ("number", "bigint"),
    ("created_at", "timestamptz"),
    ("updated_at", "timestamptz"),
    ("expires_at", "timestamptz"),
    ("epoch", "bigint"),
    ("subject", "text"),
    ("nulls", "json"),
    ("also_about", "json"),
    ("clock", "timestamptz"),
)
"""What is read of each state before its fields."""


class Selection(msgspec.Struct, frozen=True):
    """How the fields of a kind are read."""

    columns: tuple[tuple[str, str], ...]
    """Each expression, over `t` and the joins, and its type."""
    joins: str
    places: dict[str, int]
    """Field → its first column, counted after those of `META_TYPES`."""


class Named(msgspec.Struct, frozen=True):
    """The single entries that are read, as SQL: two arrays, of fields' numbers and of names.

    Which fields these are is told by NULL in the place of true or false in the array `wanted`.
    """

    fields: str
    names: str


def selection(tables: Tables, wanted: str, tails: str, named: Named | None = None) -> Selection:
    """`wanted` and `tails` are arrays over the fields, as SQL: read it at all, and how many items."""
    columns: list[tuple[str, str]] = []
    joins: list[str] = []
    places: dict[str, int] = {}
    for number, stored in enumerate(tables.fields.values(), 1):
        places[stored.name] = len(columns)
        want = f"({wanted})[{number}]"
        if not stored.table:
            column = f"CASE WHEN {want} THEN {_column(stored)} END"
            columns.append((column, _column_type(stored)))
            continue
        table = qualified(tables.schema, stored.table)
        if stored.form == "items":
            end = f"t.{quoted(stored.column)}"
            inner = (
                "SELECT array_agg(s.value) AS v, min(s.seq) AS a, max(s.seq) AS z"
                f" FROM (SELECT c.value, c.seq FROM {table} AS c"
                f" WHERE {want} AND c.state = t.state"
                f" AND c.seq > {end} - COALESCE(({tails})[{number}], {end})"
                " ORDER BY c.seq) AS s"
            )
            found = [("v", "json[]" if stored.column_type == "json" else "bytea[]")]
            found += [("a", "bigint"), ("z", "bigint")]
        else:
            found = [("e", "text[]")]
            gathered = ["array_agg(c.entry) AS e"]
            if stored.adds:
                found += [("w", "bigint[]"), ("r", "double precision[]")]
                gathered += ["array_agg(c.whole) AS w", "array_agg(c.real) AS r"]
            if stored.column_type != "nothing":
                found.append(("v", "json[]" if stored.counted else "bytea[]"))
                # Arrays of different lengths do not gather into one.
                value = "array_send(c.value)" if stored.column_type == "array" else "c.value"
                gathered.append(f"array_agg({value}) AS v")
            rows = f"{table} AS c WHERE {want} AND c.state = t.state"
            if named is not None:
                rows = f"(SELECT c.* FROM {rows} UNION ALL {_named_rows(table, number, want, named)}) AS c"
            inner = f"SELECT {', '.join(gathered)} FROM {rows}"
        joins.append(f"\n  CROSS JOIN LATERAL ({inner}) AS j{number}")
        columns += [(f"j{number}.{name}", kind) for name, kind in found]
        if stored.column:
            columns.append((f"t.{quoted(stored.column)}", "bigint"))
    return Selection(tuple(columns), "".join(joins), places)


def _named_rows(table: str, number: int, want: str, named: Named) -> str:
    """The rows of a field's single entries. Both halves are not executed where they are not asked for."""
    return (
        f"SELECT c.* FROM unnest({named.fields}, {named.names}) AS e(field, name)"
        f" JOIN {table} AS c ON c.state = t.state AND c.entry = e.name"
        f" WHERE {want} IS NULL AND e.field = {number}"
    )


def _column(stored: FieldStorage) -> str:
    column = f"t.{quoted(stored.column)}"
    if stored.column_type == "vector":
        return f"vector_send({column})"
    # Once a migration has made a vector of the bytes, the cast fails, and the kind is opened anew.
    return (
        f"{column}::bytea" if stored.form == "value" and stored.column_type == "bytes" else column
    )


def _column_type(stored: FieldStorage) -> str:
    if stored.form == "object":
        return "jsonb"
    if stored.column_type == "vector":
        return "bytea"
    return "json" if stored.column_type == "json" else ARGUMENT_TYPES[stored.column_type]


def _meta() -> list[str]:
    return ["clock_timestamp()" if name == "clock" else f"t.{name}" for name, _ in META_TYPES]


class ReadFunction(msgspec.Struct, frozen=True):
    """The function that reads states by their numbers."""

    schema: str | None
    text: str

    def create(self, name: str) -> str:
        """The statement that makes it, under this name."""
        return f"CREATE OR REPLACE FUNCTION {qualified(self.schema, name)}{self.text}"


def read_function(tables: Tables, settings: str = "") -> ReadFunction:
    """`(states, wanted, tails, fields, names)` → a row for each state that there is, in that order."""
    found = selection(tables, "a_wanted", "a_tails", Named("a_fields", "a_names"))
    results = [("k", "bigint"), *((name, kind) for name, kind in META_TYPES)]
    results += [(f"c{n}", kind) for n, (_, kind) in enumerate(found.columns, 1)]
    returned = ", ".join(f"r_{name} {kind}" for name, kind in results)
    columns = ["u.k"]
    columns += [f"({m})::{kind}" for m, (_, kind) in zip(_meta(), META_TYPES, strict=True)]
    columns += [f"({expression})::{kind}" for expression, kind in found.columns]
    main = qualified(tables.schema, tables.main.name)
    text = f"""(a_states bigint[], a_wanted boolean[], a_tails bigint[],
  a_fields integer[], a_names text[])
RETURNS TABLE ({returned}) LANGUAGE plpgsql VOLATILE ROWS 10{settings}
AS $statehold$
#variable_conflict use_variable
BEGIN
  RETURN QUERY SELECT {", ".join(columns)}
  FROM unnest(a_states) WITH ORDINALITY AS u(state, k)
  JOIN {main} AS t ON t.state = u.state{found.joins};
END
$statehold$"""
    return ReadFunction(tables.schema, text)


def read_statement(
    tables: Tables, *, renew: bool = False, single: bool = False, unless: bool = False
) -> str:
    """`$1` tenants, `$2` ids, `$3` wanted, `$4` tails → the states that live.

    With `renew`, two more, ttl and max age: a read moves the deadline, as a write would, unless it
    would hardly move or a writer holds the row, who moves it too. With `single` two more, the fields
    and names of single entries. With `unless` two more, incarnations and their numbers: no field is
    read of a state that is at one of these.
    """
    wanted, named, n = "$3::boolean[]", None, 7 if renew else 5
    if single:
        named = Named(f"${n}::integer[]", f"${n + 1}::text[]")
        n += 2
    if unless:
        known = f"SELECT * FROM unnest(${n}::bigint[], ${n + 1}::bigint[])"
        nothing = f"array_fill(FALSE, ARRAY[{len(tables.fields)}])"
        wanted = (
            f"CASE WHEN (t.incarnation, t.number) IN ({known}) THEN {nothing} ELSE {wanted} END"
        )
    found = selection(tables, wanted, "$4::bigint[]", named)
    main = qualified(tables.schema, tables.main.name)
    keys = "unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(tenant, id, k)"
    same = "t.tenant = u.tenant AND t.id = u.id"
    live = alive("clock_timestamp()")
    meta = _meta()
    first = ""
    join = ""
    if renew:
        meta = [
            f"CASE WHEN r.state IS NULL THEN {m} ELSE r.expires_at END" if "expires" in m else m
            for m in meta
        ]
        until = deadline("clock_timestamp()", "t.created_at", "$5::float8", "$6::float8")
        moved = worth_renewing(until, "$5::float8")
        first = f"""WITH l AS MATERIALIZED (
  SELECT t.state FROM {keys} JOIN {main} AS t ON {same} WHERE {live} AND {moved}
  ORDER BY u.k FOR UPDATE OF t SKIP LOCKED),
r AS (
  UPDATE {main} AS t SET expires_at = {until} FROM l WHERE t.state = l.state AND {live}
  RETURNING t.state, t.expires_at)
"""
        join = " LEFT JOIN r ON r.state = t.state"
    columns = ["u.k", *meta, *(text for text, _ in found.columns)]
    return f"""{first}SELECT {", ".join(columns)}
FROM {keys} JOIN {main} AS t ON {same}{join}{found.joins}
WHERE {live} AND ($3::boolean[] IS NOT NULL OR $4::bigint[] IS NULL)"""
