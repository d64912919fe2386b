"""How a connection to PostgreSQL is made, the same by either way to commit: asyncpg's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statehold.drivers.sql import tls
from statehold.drivers.sql.settings import limits


def arguments(settings: Mapping[str, Any], session: Mapping[str, str]) -> dict[str, Any]:
    """What `asyncpg.connect` is told beside the URL. `session` is set for the connection, too.

    Behind a pooler nothing can be set for a connection, and no statement prepared that outlives its
    transaction: the next one may be on another connection of the pooler's.
    """
    found: dict[str, Any] = {
        "timeout": settings["connect_timeout"],
        "ssl": tls.context(settings) or False,
    }
    if settings["socket"]:
        found["host"] = settings["socket"]
    if settings["pooler"] == "transaction":
        found["statement_cache_size"] = 0
    else:
        found["server_settings"] = {
            "application_name": "statehold",
            "standard_conforming_strings": "on",  # as the statements are written
            **limits(settings["timeout"]),
            **session,
        }
    return found
