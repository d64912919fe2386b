"""Most commits and all reads in one statement, one round trip, on asyncpg beside SQLAlchemy's engine.

Callers are gathered in lanes; what a lane sends is asked of the tiers in turn. A plain commit that comes
alone is a statement of its own (`single`); all others, and what that does not do, are calls of a function
(`calling`). What neither does is handed back, with nothing of it written; so is everything of kinds with
more fields than a function takes arguments, or whose functions are missing.
"""

from __future__ import annotations

import asyncio
import math
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace
from sqlalchemy import URL

from statehold.commits import Commit, Key, Want
from statehold.driver import Cells
from statehold.drivers.sql.lanes import Answers, Lane, Left
from statehold.drivers.sql.postgres.call import seconds
from statehold.drivers.sql.postgres.calling import Function, Kind
from statehold.drivers.sql.postgres.function import commit_function, names, statements
from statehold.drivers.sql.postgres.pool import (
    NO_WRITES,
    OUTDATED,
    Connection,
    ServerError,
    sqlstate,
)
from statehold.drivers.sql.postgres.sending import Sender
from statehold.drivers.sql.postgres.single import Single
from statehold.drivers.sql.room import Room
from statehold.drivers.sql.schema.tables import Tables
from statehold.drivers.sql.schema.types import escaped
from statehold.drivers.sql.serverclock import ServerClock
from statehold.errors import StateholdError
from statehold.perloop import PerLoop, let_go, nothing

LANES: Final = 2
"""How many calls of a kind may be under way when none of them takes long, so that the process makes
one while the server is at the other. A state has always the same lane: two calls seldom meet in a row."""

LOCK: Final = "SELECT pg_advisory_xact_lock(7233459186350421)"
"""Two that make a function of the same name at the same time would collide."""


class Executor:
    """Commits and reads in one round trip each. `tiers` names the ways to commit that are used."""

    def __init__(
        self,
        url: URL,
        settings: dict[str, Any],
        clock: ServerClock,
        left: Left,
        room: Room,
        tiers: Collection[str] = ("single", "function"),
    ) -> None:
        self.sender = Sender(url, settings, clock, room)
        self._clock = clock
        self._left = left
        self._width = max(1, settings["pool_size"] // 3)  # of each lane; the rest is for reads
        self._may_create = settings["create"] == "missing"
        self._kinds: dict[str, Kind] = {}
        self._single = Single(self.sender) if "single" in tiers else None
        function = Function(self.sender, self._kinds) if "function" in tiers else None
        self.tiers = [tier for tier in (self._single, function) if tier is not None]
        self._lanes: PerLoop[dict[tuple[str, int], Lane]] = PerLoop(dict, nothing, let_go)

    async def open(self, tables: Tables) -> None:
        """Make ready for a kind. Without its functions, it is left to the portable executor."""
        function, both = commit_function(tables), names(tables)
        if function is None or both is None:
            return
        try:
            found = await self.sender.with_retries(
                lambda c: self._has(c, tables, both), repeatable=True
            )
        except ServerError as error:
            raise self.sender.translated(error) from error
        if found:
            if self._single is not None:
                self._single.open(tables)
            self.sender.pools.homes.add(tables.kind)
            self._kinds[tables.kind] = Kind(tables, function, both[1])

    async def commit(self, commits: Sequence[Commit], now: float) -> Answers:
        """What became of each; or the commit itself, where it is to go the other way.

        That has `since` if it may have been applied already. If one is to go the other way, all later
        ones of that key are.
        """
        if time.monotonic() >= self._clock.due:
            await self.sender.look()
        kind = commits[0].key[1]
        if len(commits) == 1 or all(commit.key[1] == kind for commit in commits):
            return await self._commit(kind, commits, now)
        places: dict[str, list[int]] = {}
        for place, commit in enumerate(commits):
            places.setdefault(commit.key[1], []).append(place)
        answers: Answers = list(commits)
        for kind, some in places.items():
            found = await self._commit(kind, [commits[place] for place in some], now)
            for place, answer in zip(some, found, strict=True):
                answers[place] = answer
        return answers

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None] | None:
        """The cells of each key; None if a kind of theirs is not known, or for a range of items."""
        if want.after is not None:
            return None
        by_kind: dict[str, dict[Key, None]] = {}
        for key in keys:
            by_kind.setdefault(key[1], {})[key] = None
        if not by_kind.keys() <= self._kinds.keys():
            return None
        found: dict[Key, Cells] = {}
        for name, some in by_kind.items():
            cells = await self._read(self._kinds[name], list(some), want, now)
            if cells is None:
                return None
            found |= cells
        self.sender.counts.reads += 1
        if len(found) == len(keys) == 1:
            return [found[keys[0]]]
        answers = [found.get(key) for key in keys]
        if len(found) < len(keys):  # one that is asked for twice is answered twice
            seen: set[Key] = set()
            for place, (key, one) in enumerate(zip(keys, answers, strict=True)):
                if one is not None and key in seen:
                    answers[place] = replace(one, fields=one.fields.copy())
                seen.add(key)
        return answers

    async def end_leftover(self) -> None:
        """See to it that nothing of connections that were lost is executed any more.

        For the portable executor, before it sends again what may have been sent here.
        """
        await self.sender.end_leftover()

    async def close(self) -> None:
        """Release everything."""
        await self._lanes.close()
        await self.sender.pools.close()

    async def drain(self) -> None:
        """Wait for what is under way in the running event loop."""
        for lane in (self._lanes.found or {}).values():
            await lane.drain()

    def stats(self) -> Mapping[str, int | float]:
        """Counters of its own."""
        counts = self.sender.counts
        return {
            "transactions_total": counts.calls,
            "fast_commits_total": counts.commits,
            "fast_handed_back_total": counts.handed_back,
            "fast_reads_total": counts.reads,
            "retried_total": counts.retried,
            "renewals_skipped_total": counts.renewals_skipped,
            "pool_in_use": self.sender.pools.in_use(),
        }

    # ----------------------------------------------------------------------------- committing

    def _until(self, commits: Sequence[Commit], untils: Sequence[float]) -> float:
        """Until when all of them may be applied, by the database's clock."""
        known = self._clock.earliest(min(untils))
        until = math.inf if known is None else known
        return min([until, *(one.until for one in commits if one.until is not None)])

    async def _commit(self, kind: str, commits: Sequence[Commit], now: float) -> Answers:
        if kind not in self._kinds:
            return list(commits)
        lanes = self._lanes.here
        at = (kind, hash(commits[0].key) % LANES)
        lane = lanes.get(at)
        if lane is None:

            async def send(some: Sequence[Commit], now: float, untils: Sequence[float]) -> Answers:
                known = self._kinds.get(kind)
                if known is None:
                    return list(some)
                ends = asyncio.get_running_loop().time() + self.sender.timeout
                until = self._until(some, untils)
                for tier in self.tiers:
                    answers = await tier.commit(known, some, now, until, ends)
                    if answers is not None:
                        return answers
                self.sender.counts.handed_back += len(some)
                return list(some)

            lane = lanes[at] = Lane(send, self._width, self.sender.timeout, self._left)
        try:
            return list(await lane.commit(commits, now))
        except StateholdError:  # some of which are TimeoutErrors
            raise
        except TimeoutError as error:
            raise self.sender.late() from error

    # -------------------------------------------------------------------------------- reading

    async def _read(
        self, kind: Kind, keys: Sequence[Key], want: Want, now: float
    ) -> dict[Key, Cells] | None:
        arguments: list[Any] = [
            [escaped(key[0]) for key in keys],
            [escaped(key[2]) for key in keys],
            *kind.reader.arguments([want]),
        ]
        statement = kind.reader.statement(want)
        if want.renew is not None:
            arguments += [seconds(limit) for limit in want.renew]
        if want.entries is not None:
            arguments += kind.reader.singles([want])
        if want.unless:
            arguments += kind.reader.known(want)
        try:
            rows = await self.sender.fetch(statement, arguments, kind.tables.kind, repeatable=True)
        except ServerError as error:
            state = sqlstate(error)
            if state in NO_WRITES and want.renew is not None and not want.insists:
                self.sender.counts.renewals_skipped += len(keys)
                return await self._read(kind, keys, replace(want, renew=None), now)
            if state in OUTDATED:
                self._kinds.pop(kind.tables.kind, None)
                return None
            raise self.sender.translated(error) from error
        return {keys[row[0] - 1]: kind.reader.cells(row[1:], want, now) for row in rows}

    async def _has(self, connection: Connection, tables: Tables, both: tuple[str, str]) -> bool:
        """Whether the functions are there, or could be made."""
        query = (
            "SELECT count(DISTINCT p.proname) = 2 FROM pg_proc AS p JOIN pg_namespace AS n"
            " ON n.oid = p.pronamespace WHERE p.proname = ANY($1::text[])"
            " AND n.nspname = COALESCE($2::text, current_schema())"
        )
        if await connection.fetchval(query, list(both), tables.schema):
            return True
        if self._may_create:
            try:
                # Several statements in one message are one transaction.
                await connection.execute(";\n".join((LOCK, *statements(tables))))
            except ServerError as error:
                if sqlstate(error) != "42501":  # it may not make functions
                    raise
            else:
                return True
        warnings.warn(
            f"{self.sender.shown_url}: the functions of {tables.kind!r} are missing, so its commits take"
            " several round trips each; run: statehold migrate --apply",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
