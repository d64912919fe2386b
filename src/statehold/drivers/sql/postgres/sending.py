"""Statements sent on asyncpg's connections: tried again where they were not executed, errors translated."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import URL, exc

from statehold.commits import Commit
from statehold.drivers.sql.errors import translated
from statehold.drivers.sql.op_ids import sent_before
from statehold.drivers.sql.postgres.pool import (
    FAILURES,
    LOST,
    Connection,
    InTheAir,
    ServerError,
    cause_of,
)
from statehold.drivers.sql.postgres.pools import Pools
from statehold.drivers.sql.retrying import Cause, Tries
from statehold.drivers.sql.room import LOOK_SECONDS, Room
from statehold.drivers.sql.serverclock import EVERY, ServerClock
from statehold.errors import StateholdError, Timeout, Unavailable

Result = TypeVar("Result")

CLOCK: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"


class Counts(msgspec.Struct):
    """What is counted of one driver's statements."""

    calls: int = 0
    commits: int = 0
    handed_back: int = 0
    reads: int = 0
    retried: int = 0
    renewals_skipped: int = 0


class Sender:
    """Sends the statements of one driver, each within its time."""

    def __init__(self, url: URL, settings: dict[str, Any], clock: ServerClock, room: Room) -> None:
        self.pools = Pools(url, settings, room)
        self.timeout: float = settings["timeout"]
        self.clock = clock
        self.shown_url = url.render_as_string(hide_password=True)
        self.counts = Counts()

    async def look(self) -> None:
        """Learn what the database's clock shows, if a connection is at hand."""
        sent = time.monotonic()
        self.clock.due = sent + EVERY  # one looks for all
        try:
            rows = await self.pools.at_once(CLOCK, (), self.timeout / 4)
            if rows:
                self.clock.learn(rows[0][0], sent, time.monotonic())
            if sent >= self.pools.room.due:
                self.pools.room.due = sent + LOOK_SECONDS
                await self.pools.look_for_room(self.timeout / 4)
        except FAILURES:
            return  # which the commit will meet, too

    async def at_once(
        self, statement: str, arguments: Sequence[Any], kind: str, *, wait: bool = False
    ) -> list[Sequence[Any]] | None:
        """The rows, in the usual case; None if that is not the case. See `Pools.at_once`.

        Raises the database's own errors as they are, and `Timeout`.
        """
        try:
            return await self.pools.at_once(statement, arguments, self.timeout, kind, wait=wait)
        except StateholdError:  # some of which are TimeoutErrors
            raise
        except TimeoutError as error:
            raise self.late() from error

    async def fetch(
        self,
        statement: str,
        arguments: Sequence[Any],
        kind: str,
        *,
        repeatable: bool,
        until: float = math.inf,
    ) -> list[Sequence[Any]]:
        """The rows. Raises as `with_retries` does; nothing is committed after `until`."""
        began = time.monotonic()
        moved = False
        try:
            rows = await self.at_once(statement, arguments, kind)
        except StateholdError:  # some of which are OSErrors
            raise
        except LOST as error:
            if not repeatable:
                raise InTheAir(error) from error
            self.counts.retried += 1
        except ServerError as error:
            cause = cause_of(error)
            moved = cause is Cause.READ_ONLY and self.pools.moves.is_news()
            if not moved and cause is not Cause.UNDONE:
                raise
            self.counts.retried += 1
        else:
            if rows is not None:
                return rows
        return await self.with_retries(
            lambda connection: connection.fetch(statement, *arguments),
            repeatable=repeatable,
            left=self.timeout - (time.monotonic() - began),
            moved=moved,
            until=until,
            kind=kind,
        )

    async def with_retries(
        self,
        work: Callable[[Connection], Awaitable[Result]],
        *,
        repeatable: bool,
        left: float | None = None,
        moved: bool = False,
        until: float = math.inf,
        kind: str = "",
    ) -> Result:
        """The work's result, tried again where it was not done, or may be done twice.

        `moved`: a server that used to take writes has refused one, and another has not been tried.
        Raises the database's own errors as they are, `InTheAir`, and all others translated.
        """
        tries = Tries(self.pools.moves, moved=moved)
        try:
            async with asyncio.timeout(self.timeout if left is None else left):
                while True:
                    sent: list[bool] = []
                    try:
                        return await self.pools.run(work, sent, until, kind)
                    except StateholdError:  # some of which are OSErrors
                        raise
                    except (*LOST, ServerError) as error:
                        cause = cause_of(error)
                        if cause is Cause.LOST and sent and not repeatable:
                            raise InTheAir(error) from error
                        tries.check(error, cause)
                    self.counts.retried += 1
                    await tries.pause()
        except StateholdError:
            raise
        except TimeoutError as error:
            raise self.late() from error
        except LOST as error:
            raise self.translated(error) from error

    async def end_leftover(self) -> None:
        """Have the server end the sessions of lost connections: nothing of them is executed then."""
        leftover = self.pools.leftover
        if not leftover:
            return
        try:
            ended = await self.with_retries(leftover.end, repeatable=True)
        except ServerError as error:
            raise self.translated(error) from error
        if not ended:
            raise Unavailable(
                f"{self.shown_url}: a connection was lost that cannot be ended at the server, so"
                " nothing is sent again; with a pooler before it say pooler=transaction"
            )

    def again(self, commit: Commit, began: float, error: Exception) -> Commit:
        """The commit as it is sent again that may have been applied since then. Raises if it cannot."""
        since = self.clock.earliest(began)
        if not commit.op or since is None:
            raise self.translated(error) from error
        self.counts.retried += 1
        return sent_before(commit, since)

    def late(self) -> Timeout:
        """The error of a statement that was not answered in time."""
        return Timeout(
            f"{self.shown_url}: it did not answer in time; whether it wrote is not known"
        )

    def translated(self, error: BaseException) -> StateholdError:
        if not isinstance(error, OSError):  # it is asyncpg's
            error = exc.DBAPIError("", None, error)
        return translated(error, self.shown_url)
