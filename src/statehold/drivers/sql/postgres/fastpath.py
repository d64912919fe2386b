"""What the driver asks of a database's fast path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from statehold.changes import Commit, Key, Want
from statehold.driver import Cells, Outcome
from statehold.drivers.sql.schema.tables import Tables


class FastPath(Protocol):
    """Commits and reads in one round trip, where a database can do that for most of them."""

    async def open(self, tables: Tables) -> None:
        """Make ready for a kind, whose tables are there."""

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome | Commit]:
        """What became of each; or the commit itself, where it is to go the other way.

        That has `since` if it may have been applied already. If one is to go the other way, all later
        ones of that key are.
        """
        ...

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None] | None:
        """The cells of each key; None if they are to be read the other way."""
        ...

    async def end_leftover(self) -> None:
        """See to it that nothing of connections that were lost is executed any more.

        For the portable executor, before it sends again what may have been sent there.
        """

    async def drain(self) -> None:
        """Wait for what is under way in the running event loop."""

    async def close(self) -> None:
        """Release everything."""

    def stats(self) -> Mapping[str, int | float]:
        """Counters of its own."""
        ...
