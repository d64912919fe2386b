"""The ways to commit, asked in turn: what one does not do it leaves, with nothing of it written, to the next."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol

TIERS: Final = ("single", "function", "portable")
"""In which order they are asked on PostgreSQL. On other databases there is `portable` alone."""


class Tier(Protocol):
    """One way to commit.

    `single` and `function` share lanes and connections (`postgres.executor`): of what a lane sends, the
    first that does any of it answers all, with the commit itself in the place of what it leaves.
    `portable`, which does everything, gathers what is left in lanes of its own, so that it keeps
    nobody waiting whom the others can serve.
    """

    @property
    def name(self) -> str:
        """As `TIERS` lists it."""
        ...


def chosen(database: str, tiers: Collection[str] | None) -> Collection[str]:
    """The names of the tiers on such a database, all or those that were asked for."""
    there = TIERS if database == "postgresql" else TIERS[-1:]
    return [name for name in there if tiers is None or name == "portable" or name in tiers]
