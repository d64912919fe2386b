"""`Commits`: keys of a tenant and commits to hand to a driver, without a driver."""

from __future__ import annotations

from typing import Any, Final

from statehold.changes import Change
from statehold.commits import Commit, Key

KIND: Final = "basket"
TTL: Final = 10_000.0
"""How long a state lives where a case is not about its end, in units of time."""


class Commits:
    """Keys and commits of a tenant. `unit` is how many seconds one unit of `ttl` and `max_age` is."""

    def __init__(self, tenant: str = "", unit: float = 1.0) -> None:
        self.tenant = tenant
        self.unit = unit

    def key(self, id: str = "a", *, kind: str = KIND, tenant: str = "") -> Key:
        """The key of an id in this tenant (or in a sibling tenant: this one's name with that after it)."""
        return (self.tenant + tenant, kind, id)

    def commit(
        self, *changes: Change, id: str | Key = "a", ttl: float | None = TTL, **options: Any
    ) -> Commit:
        """A commit to hand over; `ttl` and `max_age` in units."""
        seconds = None if ttl is None else ttl * self.unit
        if options.get("max_age") is not None:
            options["max_age"] *= self.unit
        key = self.key(id) if isinstance(id, str) else id
        return Commit(key, changes, seconds, **options)
