"""The tier that does everything, on every database: transactions, begun anew and tried again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.commits import Commit, Key
from statehold.driver import Failed, Late, Outcome, WholeLife
from statehold.drivers.sql.deciding import TooLate
from statehold.drivers.sql.errors import ERRORS, cause_of, translated
from statehold.drivers.sql.lanes import Lane, Left
from statehold.drivers.sql.op_ids import sent_before
from statehold.drivers.sql.portable.engines import Engines
from statehold.drivers.sql.portable.executor import Meanwhile, commit_all
from statehold.drivers.sql.portable.whole import install_all, read_lives
from statehold.drivers.sql.retrying import Cause, Tries
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.tables import Tables
from statehold.drivers.sql.serverclock import ServerClock
from statehold.errors import (
    Busy,
    ConfigError,
    Full,
    Invalid,
    ReadOnly,
    StateholdError,
    TooLarge,
    Unavailable,
)
from statehold.folding import all_stand, refused, undone
from statehold.perloop import PerLoop, let_go, nothing

Result = TypeVar("Result")

NOT_NOW = (Busy, Full, ReadOnly, ConfigError)
"""Errors that say of a commit that it was not written this time, and nothing of the times before."""


class _NotStanding(Exception):
    """The transaction was rolled back, since its commits do not stand. Internal."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__()
        self.outcomes = outcomes


def _insist(stand: Callable[[Sequence[Outcome]], bool], outcomes: list[Outcome]) -> None:
    if not stand(outcomes):
        raise _NotStanding(outcomes)


def _not_sent_or(again: Callable[[], bool], sent: Sequence[bool]) -> bool:
    return not sent or again()


def _none_stands(_: Sequence[Outcome]) -> bool:
    return False


class Portable:
    """See `tiers.Tier`. Its calls are bounded in time by whoever makes them.

    `tables` says of a kind which tables it has; `renew` has all kinds made ready anew, once a migration
    has taken away what only the database had; `before_again` is awaited before what may have been
    executed is sent again; `left` is told of commits whose callers have gone.
    """

    name = "portable"

    def __init__(
        self,
        engines: Engines,
        dialect: Dialect,
        clock: ServerClock,
        *,
        shown_url: str,
        tables: Callable[[str], Tables],
        renew: Callable[[], Awaitable[None]],
        before_again: Callable[[], Awaitable[None]],
        left: Left,
    ) -> None:
        self._engines = engines
        self._dialect = dialect
        self._clock = clock
        self._shown_url = shown_url
        self._tables = tables
        self._renew = renew
        self._before_again = before_again
        self._left = left
        self._lanes = PerLoop(self._new_lane, nothing, let_go)
        self.transactions = self.retried = 0

    # ---------------------------------------------------------------------------------- committing

    async def commit(self, commits: Sequence[Commit], now: float) -> Sequence[Outcome]:
        """What became of each, gathered with what others leave to this tier meanwhile."""
        found = await self._lanes.here.commit(commits, now)
        return cast("Sequence[Outcome]", found)  # a lane of ours hands nothing on

    async def close(self) -> None:
        """Wait for what is under way in the running event loop, and release what is gathered in."""
        lane = self._lanes.found
        if lane is not None:
            await lane.drain()
        await self._lanes.close()

    def _new_lane(self) -> Lane:
        """Where commits are gathered, in the running event loop."""

        async def send(
            commits: Sequence[Commit], now: float, untils: Sequence[float]
        ) -> Sequence[Outcome]:
            async with asyncio.timeout(max(untils) - time.monotonic()):
                return await self.commit_each(commits, now, untils)

        return Lane(send, self._engines.size, self._engines.timeout, self._left)

    async def commit_each(
        self, commits: Sequence[Commit], now: float, untils: Sequence[float]
    ) -> list[Outcome]:
        """Commits in one transaction; or, where a value of one cannot be stored, in several.

        Then that one is `Refused` for its "value", and the others are committed.
        """
        try:
            return await self._commit_all(commits, now, untils)
        except (*ERRORS, Invalid, TooLarge) as error:
            found = self._unstorable(error)
            if len(commits) == 1:
                return [refused(found, commits[0])]
        half = len(commits) // 2
        outcomes = await self.commit_each(commits[:half], now, untils[:half])
        try:
            outcomes += await self.commit_each(commits[half:], now, untils[half:])
        except (*ERRORS, StateholdError) as error:
            outcomes += [Failed(translated(error, self._shown_url))] * (len(commits) - half)
        return outcomes

    async def commit_together(
        self, commits: Sequence[Commit], now: float, until: float
    ) -> list[Outcome]:
        """What became of each, all written or none."""
        untils = [until] * len(commits)
        try:
            outcomes = await self._commit_all(commits, now, untils, stand=all_stand)
        except (*ERRORS, Invalid, TooLarge) as error:
            self._unstorable(error)
            # Which of them cannot be stored? Each is tried by itself, and taken back.
            outcomes = [await self._rehearsed(commit, now, until) for commit in commits]
            if all_stand(outcomes):
                raise
        return outcomes if all_stand(outcomes) else undone(outcomes)

    async def _rehearsed(self, commit: Commit, now: float, until: float) -> Outcome:
        """What would become of a commit. Nothing is written."""
        try:
            return (await self._commit_all([commit], now, [until], stand=_none_stands))[0]
        except (*ERRORS, Invalid, TooLarge) as error:
            found = self._unstorable(error)
            return refused(found, commit)

    def _unstorable(self, error: Exception) -> Invalid | TooLarge:
        """The error, if it says that some value cannot be stored. Raises all others as they are."""
        found = translated(error, self._shown_url)
        if not isinstance(found, Invalid | TooLarge):
            raise error
        return found

    # ---------------------------------------------------------------------------------- whole lives

    async def lives(self, keys: Sequence[Key], now: float) -> dict[Key, WholeLife]:
        """Those that there are."""
        return await self.trying(lambda _: self._lives(keys, now))

    async def _lives(self, keys: Sequence[Key], now: float) -> dict[Key, WholeLife]:
        found: dict[Key, WholeLife] = {}
        async with self._engines.reading() as connection:
            for kind in dict.fromkeys(key[1] for key in keys):
                some = [key for key in keys if key[1] == kind]
                found |= await read_lives(connection, self._dialect, self._tables(kind), some, now)
        return found

    async def install_each(
        self, lives: Sequence[WholeLife], now: float, until: float
    ) -> list[Outcome]:
        """Lives in one transaction; or, where a value of one cannot be stored, in several."""
        try:
            return await self.trying(partial(self._install, lives, now, until))
        except (*ERRORS, Invalid, TooLarge) as error:
            found = self._unstorable(error)
            if len(lives) == 1:
                return [refused(found)]
        half = len(lives) // 2
        first = await self.install_each(lives[:half], now, until)
        return first + await self.install_each(lives[half:], now, until)

    async def _install(
        self, lives: Sequence[WholeLife], now: float, until: float, sent: list[bool]
    ) -> list[Outcome]:
        kinds = {life.key[1]: self._tables(life.key[1]) for life in lives}

        async def work(connection: AsyncConnection, making: set[Key]) -> list[Outcome]:
            outcomes = await install_all(
                connection,
                self._dialect,
                kinds,
                lives,
                now,
                clock=self._clock,
                until=until,
                making=making,
            )
            # From here on it may be done. It is not done again by itself, since it may have been
            # erased meanwhile, and would be there again.
            sent.append(True)
            return outcomes

        try:
            outcomes = await self._with_rows(work)
        except TooLate:
            return [Late()] * len(lives)
        self.transactions += 1
        return outcomes

    # -------------------------------------------------------------------------------- transactions

    async def _commit_all(
        self,
        commits: Sequence[Commit],
        now: float,
        untils: Sequence[float],
        *,
        stand: Callable[[Sequence[Outcome]], bool] | None = None,
    ) -> list[Outcome]:
        """What became of commits in one transaction, which is undone where they do not `stand`."""
        began = time.monotonic()
        doubtful = False

        async def attempt(sent: list[bool]) -> list[Outcome]:
            return await self._in_transaction(commits, now, untils, stand, sent)

        def again() -> bool:
            nonlocal commits, doubtful
            doubtful = True
            since = self._clock.earliest(began) if self._dialect.own_clock else now
            if since is None or not all(commit.op for commit in commits):
                return False
            commits = [sent_before(commit, since) for commit in commits]
            return True

        if any(commit.since is not None for commit in commits):
            await self._before_again()
        try:
            outcomes = await self.trying(attempt, again)
        except (*ERRORS, *NOT_NOW) as error:
            found = translated(error, self._shown_url)
            if doubtful and isinstance(found, NOT_NOW):
                raise self.refused_again(found) from error
            raise
        self.transactions += 1
        return outcomes

    async def _in_transaction(
        self,
        commits: Sequence[Commit],
        now: float,
        untils: Sequence[float],
        stand: Callable[[Sequence[Outcome]], bool] | None,
        sent: list[bool],
    ) -> list[Outcome]:
        """What became of commits in one transaction, begun anew where it has come to nothing.

        `sent` has an element once all that is left is to commit.
        """
        kinds = {commit.key[1]: self._tables(commit.key[1]) for commit in commits}

        async def work(connection: AsyncConnection, making: set[Key]) -> list[Outcome]:
            outcomes = await commit_all(
                connection,
                self._dialect,
                kinds,
                commits,
                now,
                clock=self._clock,
                untils=untils,
                making=making,
            )
            if stand is not None:
                _insist(stand, outcomes)
            sent.append(True)
            return outcomes

        while True:
            try:
                return await self._with_rows(work)
            except _NotStanding as undoing:
                return undoing.outcomes
            except TooLate:
                if time.monotonic() >= min(untils):
                    return [Late()] * len(commits)
                sent.clear()  # a life that it was folded into had ended before the COMMIT

    async def _with_rows(
        self, work: Callable[[AsyncConnection, set[Key]], Awaitable[Result]]
    ) -> Result:
        """What `work` makes of a transaction, begun anew with the keys whose rows are to be made."""
        making: set[Key] = set()
        while True:
            try:
                async with self._engines.writing() as connection:
                    return await work(connection, making)
            except Meanwhile as missing:
                making.update(missing.keys)

    async def trying(
        self,
        attempt: Callable[[list[bool]], Awaitable[Result]],
        again: Callable[[], bool] = bool,
    ) -> Result:
        """The result of a transaction, tried again where it was undone, or may be done twice.

        `attempt` appends to its list when all that is left is to commit. If the connection is lost
        then, `again` says whether it may be tried again, though it may have been done.
        """
        tries = Tries(self._engines.moves)
        renewed = False
        while True:
            sent: list[bool] = []
            try:
                return await attempt(sent)
            except ERRORS as error:
                cause = cause_of(error)
                if cause is Cause.OUTDATED and not renewed:
                    # A migration has taken away what only the database had: versions long gone.
                    renewed = True
                    await self._renew()
                else:
                    tries.check(error, cause, partial(_not_sent_or, again, sent))
            self.retried += 1
            await tries.pause()

    def refused_again(self, error: StateholdError) -> Unavailable:
        """What the caller is told: that nothing was written holds for the last sending only."""
        return Unavailable(
            f"{self._shown_url}: sent again, it was refused ({error.code}); whether it was executed"
            " before is not known"
        )
