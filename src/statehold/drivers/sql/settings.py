"""What a SQL backend can be told."""

from __future__ import annotations

import re
from typing import Any, Final

from statehold.settings import Settings, boolean, choice, count, duration, text


def _identifier(value: Any) -> str:
    word = text(value)
    if re.fullmatch(r"[a-z][a-z0-9_]{0,29}", word) is None:
        raise ValueError(f"not lower-case letters, digits and _, at most 30: {value!r}")
    return word


SETTINGS: Final = Settings(
    "sql",
    {
        "pool_size": (
            count,
            10,
            "Maximum connections of one process to the database, for each event loop; on PostgreSQL at least two.",
        ),
        "timeout": (
            duration,
            5.0,
            "Maximum time of a call, retries and the wait for a connection included.",
        ),
        "connect_timeout": (duration, 5.0, "Maximum time to make a connection."),
        "max_connection_life": (
            duration,
            1800.0,
            "Maximum age of a connection; then another takes its place, which finds what has moved.",
        ),
        "table_prefix": (
            _identifier,
            "",
            "Prefix of all table names, so that several services can share a database.",
        ),
        "schema": (
            _identifier,
            None,
            "The schema of the tables (PostgreSQL; default: the first of the search path).",
        ),
        "create": (
            choice("missing", "never"),
            "missing",
            "Whether the tables of a kind that has none are made when it is first used.",
        ),
        "pooler": (
            choice("none", "transaction"),
            "none",
            'The pooler in front of PostgreSQL: "transaction" for PgBouncer and the like in that mode.',
        ),
        "tls": (
            choice("off", "require", "verify"),
            "off",
            "Whether connections are encrypted (require), and certificate and host checked (verify).",
        ),
        "socket": (
            text,
            None,
            "A Unix socket instead of host and port: its folder (PostgreSQL), its path (MariaDB).",
        ),
        "sweep": (boolean, True, "Whether commits delete expired states in passing."),
    },
)

POOL_SHARE: Final = 0.8
"""How much of its time a call may wait for a connection, so that a full pool is told from a slow
database, also where the process pauses to collect garbage; little can be done in less than the rest."""


def limits(timeout: float) -> dict[str, str]:
    """PostgreSQL's settings for a call's time, in milliseconds.

    Each a bit less than the call has, so that the server gives up first; and the wait for a lock
    less than the statement, so that one hears that nothing was written. A transaction whose client
    says nothing for that time is undone, so that a COMMIT which the network has held back, or that
    never comes, neither takes effect late nor keeps its rows locked.
    """
    return {
        "lock_timeout": str(max(1, round(timeout * 800))),
        "statement_timeout": str(max(2, round(timeout * 900))),
        "idle_in_transaction_session_timeout": str(max(2, round(timeout * 1000))),
    }
