"""What several statements say, each spelled once: names, texts, and the rules of a state's life, as SQL.

`statehold.folding` says the same rules in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from statehold.drivers.sql.op_ids import FORGET_EVERY, MOST_OPS, RECENT_SECONDS
from statehold.drivers.sql.schema.tables import Tables

LAST: Final = "timestamptz '9999-12-31 23:59:59+00'"
"""As late as Python and all databases count."""


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL text."""
    return "'" + text.replace("'", "''") + "'"


def qualified(schema: str | None, name: str) -> str:
    """An SQL identifier with its schema, so that no search path decides what it means."""
    return f"{quoted(schema)}.{quoted(name)}" if schema else quoted(name)


def later(since: str, limit: str) -> str:
    """The moment so many seconds after another."""
    return f"{since} + {limit} * interval '1 second'"


def earliest(ends: Sequence[str], line: str = "") -> str:
    """The first of these moments, and the year 9999 at the latest, after which nobody can count.

    `line` is what begins the line of each, if they have lines of their own.
    """
    between = f",{line or ' '}"
    return f"LEAST({line}{between.join([*ends, LAST])})"


def deadline(now: str, created: str, ttl: str, max_age: str, line: str = "") -> str:
    """When a state ends that is written to, or renewed, `now`; NULL if it has neither limit."""
    ends = earliest([later(now, ttl), later(created, max_age)], line)
    return f"CASE WHEN {ttl} IS NOT NULL OR {max_age} IS NOT NULL THEN {ends} END"


def alive(now: str) -> str:
    """The condition for rows `t` of states that live."""
    return f"(t.expires_at IS NULL OR t.expires_at > {now})"


def worth_renewing(until: str, ttl: str) -> str:
    """The condition for rows `t` whose deadline a read moves: others would hardly move."""
    return (
        f"COALESCE(abs(extract(epoch FROM {until} - t.expires_at))"
        f" > LEAST(COALESCE({ttl} / 1000, 1), 1),"
        f" (t.expires_at IS NULL) <> ({until} IS NULL))"
    )


def forgotten(last: str, newest: str, now: str) -> str:
    """The condition for rows `c` of `ops` that need not be kept; see `op_ids`.

    `last` is the `seq` of the last that a commit does not ask for, `newest` that of the newest.
    """
    return (
        f"c.seq <= {last} AND (c.seq <= {newest} - {MOST_OPS}"
        f" OR c.at < {now} - interval '{RECENT_SECONDS:g} seconds')"
    )


def every(kept: str) -> str:
    """After how many new op ids old ones are forgotten, of which a commit asks for so many."""
    return f"GREATEST({FORGET_EVERY}, {kept} / 2)"


def room(tables: Tables) -> str:
    """PostgreSQL's statement that leaves room in the main table's pages for rows written anew.

    (`postgresql_with` would say the same, from SQLAlchemy 2.1 on.)
    """
    name = qualified(tables.schema, tables.main.name)
    return f"ALTER TABLE {name} SET (fillfactor = 80)"
