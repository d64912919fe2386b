"""The driver over PostgreSQL, MariaDB, MySQL and SQLite."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from sqlalchemy import URL, Connection, select
from sqlalchemy.ext.asyncio import AsyncEngine

from statehold.clock import Skew
from statehold.commits import Commit, Key, Want
from statehold.draining import Calls, counted
from statehold.driver import (
    Cells,
    Driver,
    Failed,
    Feature,
    Layout,
    Outcome,
    Page,
    Scan,
    Swept,
    WholeLife,
    told,
)
from statehold.drivers.sql.errors import (
    ERRORS,
    cause_of,
    translated,
)
from statehold.drivers.sql.lanes import Left
from statehold.drivers.sql.migrating import opening
from statehold.drivers.sql.portable.engines import Engines
from statehold.drivers.sql.portable.executor import renew_all, to_renew
from statehold.drivers.sql.portable.read import Found, read, takes_one_statement, wanted
from statehold.drivers.sql.portable.scan import scan
from statehold.drivers.sql.portable.sweep import Piece, Sweeper
from statehold.drivers.sql.portable.sweeps import Sweeps
from statehold.drivers.sql.portable.transactions import NOT_NOW, Portable
from statehold.drivers.sql.retrying import Tries
from statehold.drivers.sql.room import Room
from statehold.drivers.sql.rounds import sweep_on
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.tables import Tables
from statehold.drivers.sql.schema.vectors import limited
from statehold.drivers.sql.serverclock import ServerClock
from statehold.drivers.sql.settings import SETTINGS
from statehold.drivers.sql.tiers import Tier, chosen
from statehold.drivers.sql.turns import Turns
from statehold.errors import (
    Closed,
    ConfigError,
    Invalid,
    ReadOnly,
    StateholdError,
)
from statehold.sqlitefiles.log import erases
from statehold.together import Together, heard

if TYPE_CHECKING:
    from statehold.drivers.sql.postgres.executor import Executor

Item = TypeVar("Item")
Result = TypeVar("Result")

PIECE = 256
"""How many keys or commits of one call are done together, each piece with the time of a call."""

SWEEP_PATIENCE = 0.5
"""Seconds that a sweep under way may take when the driver is closed: a process may have few commits."""


class SqlDriver(Driver):
    """Keeps states in tables of a SQL database, one for each kind and further ones for its lists.

    A commit call is one transaction, exact under READ COMMITTED. Deadlocks are tried again within
    `timeout`; so are lost connections, as far as op ids make that safe.

    Values other than arrays must be JSON; a field whose column has a type of its own takes values
    of that type. Anything else is `Invalid`.

    Raises `Timeout`, `Busy` (also when no connection comes free), `Full`, `ReadOnly`, `Closed` and
    `Unavailable` for other failures of the server; `ConfigError` for a wrong login, and when a kind
    is opened whose tables do not fit.
    """

    features = frozenset(Feature)
    suspends = True
    ambiguous = True
    gather: Literal["no", "tick", "thread"] = "tick"

    def __init__(
        self,
        url: URL,
        dialect: Dialect,
        *,
        tiers: Collection[str] | None = None,
        **settings: object,
    ) -> None:
        given = {name: value for name, value in settings.items() if value is not None}
        self.settings = SETTINGS.complete(given)
        self.dialect = dialect
        self._url = url.set(drivername=dialect.driver)
        try:
            importlib.import_module(dialect.driver.partition("+")[2])
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{dialect.name}: needs {error.name}; pip install 'statehold[sql]'", field="url"
            ) from error
        room = Room()
        self._engines = Engines(self._url, dialect, self.settings, room, self._forked)
        self._timeout: float = self.settings["timeout"]
        self._kinds: dict[str, Tables] = {}
        self._clock = ServerClock()
        names = chosen(dialect.name, tiers)
        self.executor = _executor(self._url, self.settings, self._clock, self._left, room, names)
        if self.executor is not None:
            self.gather = "no"  # it gathers what comes while a call is under way
        self._portable = Portable(
            self._engines,
            dialect,
            self._clock,
            shown_url=self.shown_url,
            tables=self._tables,
            renew=self._renew_kinds,
            before_again=self._end_leftover,
            left=self._left,
        )
        quick: Sequence[Tier] = () if self.executor is None else self.executor.tiers
        self.tiers: list[Tier] = [*quick, self._portable]
        self._tasks: set[asyncio.Future[Any]] = set()  # calls, also those whose callers have gone
        self._opening = Together(self._tasks)
        self._turns = Turns()
        self._skew = Skew()
        self._closed = False
        self._calls = Calls()
        self.sweeps = Sweeps(self._sweep, alone=not dialect.locks_rows)
        self._commits = self._renewals_skipped = 0

    def __repr__(self) -> str:
        return f"SqlDriver({self.shown_url!r})"

    @property
    def skew(self) -> float:
        """Seconds by which the database's clock is ahead of the callers', looked at once a second."""
        return self._skew.seconds

    def earliest(self, monotonic: float) -> float | None:
        return self._clock.earliest(monotonic) if self.dialect.own_clock else None

    @property
    def shown_url(self) -> str:
        """The database's URL without password."""
        return self._url.render_as_string(hide_password=True)

    @property
    def engine(self) -> AsyncEngine:
        """The SQLAlchemy engine of the running event loop. It leaves JSON as text."""
        return self._engines.here

    def tables_of(self, layout: Layout) -> Tables:
        """The tables that a layout asks for, as SQLAlchemy knows them, whether they exist or not."""
        settings = self.settings
        searches = self.dialect.name == "postgresql"
        if searches:
            limited(layout)
        return Tables(
            layout,
            prefix=settings["table_prefix"],
            schema=settings["schema"],
            vectors=searches,
        )

    # ------------------------------------------------------------------------------------- opening

    async def open(self, layout: Layout) -> None:
        if self._closed:
            raise Closed("the store is closed")
        known = self._kinds.get(layout.kind)
        if known is not None and known.layout == layout:
            return

        await self._bounded(lambda: self._opening.do(layout, lambda: self._ready(layout)))

    async def _ready(self, layout: Layout) -> None:
        """Make it ready, once more where another one was at the same tables, or the connection was lost."""
        tries = Tries(self._engines.moves)
        while True:
            try:
                return await self._make_ready(layout)
            except ERRORS as error:
                tries.check(error, cause_of(error))
            await tries.pause()

    async def _make_ready(self, layout: Layout) -> None:
        tables = self.tables_of(layout)

        def look(connection: Connection) -> Tables | None:
            nonlocal tables
            tables = opening.placed(connection, tables)
            description = opening.made(connection, tables)
            if description is None and self.settings["create"] == "missing":
                return None
            return opening.settled(connection, tables, description, self.dialect)

        def make(connection: Connection) -> Tables:
            opening.create_once(connection, tables, self.dialect)
            return opening.fitted(connection, tables, opening.made(connection, tables))

        async with self._engines.reading(one_statement=True) as connection:
            found = await connection.run_sync(look)
            if self.dialect.own_clock:
                began, sent = time.monotonic(), time.time()
                clock = (await connection.execute(select(self.dialect.clock()))).scalar_one()
                self._learn(float(clock), sent, began)
        if found is None:
            async with self._engines.writing() as connection:
                found = await connection.run_sync(make)
        if self.executor is not None:
            await self.executor.open(found)
        self._kinds[layout.kind] = found

    async def _renew_kinds(self) -> None:
        for tables in list(self._kinds.values()):
            await self._make_ready(tables.layout)

    def _tables(self, kind: str) -> Tables:
        tables = self._kinds.get(kind)
        if tables is None:
            raise Invalid(f"the kind {kind!r} was not opened", field="kind", found=kind)
        return tables

    async def _bounded(
        self, work: Callable[[], Awaitable[Result]], *, until: float | None = None
    ) -> Result:
        """The result within the timeout, or until then. Raises errors of statehold only."""
        if self._closed:
            raise Closed("the store is closed")
        if until is None:
            until = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(until):
                return await self._to_its_end(work)
        except StateholdError:
            raise
        except ERRORS as error:
            raise translated(error, self.shown_url) from error

    async def _to_its_end(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """The result. Where statements cannot be cancelled, the work goes on without its caller."""
        if self.dialect.cancels:
            return await work()
        task = asyncio.ensure_future(work())
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        heard(task)

    # ------------------------------------------------------------------------------------- reading

    @counted
    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        if len(keys) <= PIECE:
            return await self._read_piece(keys, want, now)
        found: list[Cells | None] = []
        for some in _pieces(keys):
            found += await self._read_piece(some, want, now)
        return found

    async def _read_piece(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        if not keys:
            return []
        if self._closed:
            raise Closed("the store is closed")
        began = time.monotonic()
        found = until = None
        if self.executor is not None:
            until = asyncio.get_running_loop().time() + self._timeout
            found = await self.executor.read(keys, want, now)
        if found is None:
            found = await self._bounded(
                lambda: self._portable.trying(lambda _: self._read(keys, want, now)),
                until=until,
            )
        if began >= self._skew.due and found[-1] is not None and self.dialect.own_clock:
            self._learn(now + found[-1].skew, now, began)
        return found

    def _learn(self, said: float, sent: float, began: float) -> None:
        """What the database's clock showed; the caller's had shown `sent`, the monotonic `began`."""
        ended = time.monotonic()
        self._skew.learn(said, sent, ended - began, ended)
        self._clock.learn(said, began, ended)

    async def _read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        by_kind: dict[str, list[Key]] = {}
        for key in keys:
            by_kind.setdefault(key[1], []).append(key)
        kinds = [self._tables(kind) for kind in by_kind]
        alone = len(kinds) == 1 and takes_one_statement(wanted(kinds[0], want)) and not want.unless
        found: dict[Key, Found] = {}
        async with self._engines.reading(one_statement=alone) as connection:
            for tables in kinds:
                some = by_kind[tables.kind]
                found |= await read(connection, self.dialect, tables, some, want, now)
        if want.renew is not None:
            for tables in kinds:
                here = [one for key, one in found.items() if key[1] == tables.kind]
                await self._renew(tables, here, want, now)
        return [found[key].cells if key in found else None for key in keys]

    async def _renew(
        self,
        tables: Tables,
        found: Sequence[Found],
        want: Want,
        now: float,
    ) -> None:
        moved = {} if want.renew is None else to_renew(found, want.renew, now)
        if not moved:
            return
        try:
            async with self._engines.writing() as connection:
                await renew_all(connection, tables, moved)
        except ERRORS as error:
            if want.insists or not isinstance(translated(error, self.shown_url), ReadOnly):
                raise
            self._renewals_skipped += sum(map(len, moved.values()))

    # ---------------------------------------------------------------------------------- committing

    @counted
    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        if len(commits) == 1:
            outcomes = await self._commit_piece(commits, now)
        else:
            outcomes = await self._commit_pieces(commits, now)
        if all(isinstance(outcome, Failed) for outcome in outcomes):
            return told(outcomes)  # which raises
        return outcomes

    async def _commit_pieces(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for some in _pieces(commits):
            try:
                outcomes += await self._commit_piece(some, now)
            except StateholdError as error:
                if not outcomes:
                    raise
                return outcomes + [Failed(error)] * (len(commits) - len(outcomes))
        return outcomes

    async def _commit_piece(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        if self._closed:
            raise Closed("the store is closed")
        if self.executor is None:
            untils = [time.monotonic() + self._timeout] * len(commits)
            outcomes = await self._bounded(
                lambda: self._in_turn(
                    commits, lambda: self._portable.commit_each(commits, now, untils)
                )
            )
        else:
            if self._turns:
                await self._bounded(lambda: self._turns.wait(_keys(commits)))
            outcomes = await self._commit(self.executor, commits, now)
        await self._committed(commits, outcomes, now)
        return outcomes

    async def _committed(
        self, commits: Sequence[Commit], outcomes: Sequence[Outcome], now: float
    ) -> None:
        """See to what is to be done after commits."""
        self._commits += len(commits)
        if self._engines.log is not None and erases(commits):
            self._engines.log.empty_soon()
        if self.settings["sweep"]:
            task = await self.sweeps.after(commits, outcomes, now)
            if task is not None:
                self._tasks.add(task)
                task.add_done_callback(self._finished)

    async def _commit(
        self, executor: Executor, commits: Sequence[Commit], now: float
    ) -> list[Outcome]:
        """What became of each, asked of the executor's tiers, and of the portable one what they leave."""
        until = asyncio.get_running_loop().time() + self._timeout
        answers = await executor.commit(commits, now)  # which has the same time limit
        some = [answer for answer in answers if isinstance(answer, Commit)]
        if not some:
            return cast("list[Outcome]", answers)  # none is a commit
        try:
            found = await self._bounded(lambda: self._portable.commit(some, now), until=until)
        except StateholdError as error:
            again = isinstance(error, NOT_NOW) and any(
                isinstance(answer, Commit) and answer.since != commit.since
                for answer, commit in zip(answers, commits, strict=True)
            )
            failure = self._portable.refused_again(error) if again else error
            if len(some) == len(answers):
                raise failure from error
            found = [Failed(failure)] * len(some)
        others = iter(found)
        return [next(others) if isinstance(one, Commit) else one for one in answers]

    async def _in_turn(
        self, commits: Sequence[Commit], work: Callable[[], Awaitable[Result]]
    ) -> Result:
        """The result of the work, done after what is under way on these keys.

        An executor knows whose callers have gone (`_left`), and has only these waited for.
        """
        if self.executor is None:
            return await self._turns.take(_keys(commits), work)
        if self._turns:
            await self._turns.wait(_keys(commits))
        return await work()

    def _left(self, commits: Sequence[Commit], call: asyncio.Task[None] | None) -> None:
        """The caller of commits has gone that are under way: what comes later waits for their end."""
        task = asyncio.get_running_loop().create_task(self._over(call))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        self._turns.hold(_keys(commits), task)

    async def _over(self, call: asyncio.Task[None] | None) -> None:
        """Return when nothing of a call is executed any more, at the server either."""
        if call is not None:
            await asyncio.wait([call])
        try:
            await self._end_leftover()
        except StateholdError:
            await asyncio.sleep(self._timeout)  # later than that it does nothing

    async def _end_leftover(self) -> None:
        """See to it that nothing of connections that were lost is executed any more."""
        if self.executor is not None:
            await self.executor.end_leftover()

    @counted
    async def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        until = time.monotonic() + self._timeout
        outcomes = await self._bounded(
            lambda: self._in_turn(
                commits, lambda: self._portable.commit_together(commits, now, until)
            )
        )
        await self._committed(commits, outcomes, now)
        return outcomes

    # ---------------------------------------------------------------------------------- whole lives

    @counted
    async def lives(self, keys: Sequence[Key], now: float) -> list[WholeLife | None]:
        found: dict[Key, WholeLife] = {}
        for some in _pieces(keys):
            found |= await self._bounded(partial(self._portable.lives, some, now))
        return [found.get(key) for key in keys]

    @counted
    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for some in _pieces(lives):
            until = time.monotonic() + self._timeout
            outcomes += await self._bounded(partial(self._portable.install_each, some, now, until))
            self._commits += len(some)
        if self._engines.log is not None and lives:
            self._engines.log.empty_soon()
        return outcomes

    async def _sweep(self, kind: str, sweeper: Sweeper, now: float, most: int) -> Piece:
        async def work() -> Piece:
            async with self._engines.writing() as connection:
                there = now + self.skew
                tables = self._kinds[kind]
                return await sweeper.sweep(connection, self.dialect, tables, there, most)

        async with asyncio.timeout(self._timeout):
            piece = await self._to_its_end(work)
        if piece.removed and self._engines.log is not None:
            self._engines.log.empty_soon()
        return piece

    @counted
    async def sweep(self, now: float, after: str = "") -> Swept:
        """Delete some expired states: the next piece of a round over all kinds that the database has.

        Begin with "", and go on with what the piece before gave as `after`, until that is None. Raises
        `Invalid` for any other text.
        """

        async def piece(_: list[bool]) -> Swept:
            async with self._engines.writing() as connection:
                there = now + self.skew
                return await sweep_on(connection, self.dialect, self.tables_of, after, there)

        swept = await self._bounded(lambda: self._portable.trying(piece))
        self.sweeps.swept += swept.removed
        if swept.removed and self._engines.log is not None:
            self._engines.log.empty_soon()
        return swept

    # ------------------------------------------------------------------------------------- the rest

    @counted
    async def scan(self, asked: Scan, now: float) -> Page:
        async def page(_: list[bool]) -> Page:
            async with self._engines.reading(one_statement=True) as connection:
                return await scan(
                    connection,
                    self.dialect,
                    self._tables(asked.kind),
                    asked,
                    now,
                )

        return await self._bounded(lambda: self._portable.trying(page))

    @counted
    async def check(self, now: float) -> None:  # noqa: ARG002  nothing expires here
        async def ask(_: list[bool]) -> None:
            async with self._engines.reading(one_statement=True) as connection:
                await connection.execute(select(1))

        await self._bounded(lambda: self._portable.trying(ask))

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  it does not cancel anything
        """See `Driver.drain`."""
        return await self._calls.drain(timeout)

    async def close(self) -> None:
        self._closed = True
        loop = asyncio.get_running_loop()
        if self.executor is not None:
            await self.executor.drain()
        await self.sweeps.finish(SWEEP_PATIENCE)
        await self._portable.close()
        mine = [task for task in self._tasks if task.get_loop() is loop]
        if self.dialect.cancels:
            for task in mine:
                task.cancel()
        if mine:
            await asyncio.wait(mine)
        if self.executor is not None:
            await self.executor.close()
        await self._engines.close()

    def _forked(self) -> None:
        """In a child process: what was under way is the parent's."""
        self._tasks.clear()
        self._opening.clear()
        self._turns.clear()
        self.sweeps.forked()

    def stats(self) -> Mapping[str, int | float]:
        own: dict[str, int | float] = {
            "commits_total": self._commits,
            "transactions_total": self._portable.transactions,
            "retried_total": self._portable.retried,
            "swept_total": self.sweeps.swept,
            "sweeps_failed_total": self.sweeps.failed,
            "renewals_skipped_total": self._renewals_skipped,
            "pool_in_use": self._engines.in_use(),
        }
        if self.executor is not None:
            for name, value in self.executor.stats().items():
                own[name] = own.get(name, 0) + value
        return own


def _keys(commits: Sequence[Commit]) -> set[Key]:
    return {commit.key for commit in commits}


def _pieces(some: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """In pieces that can be done in a call's time."""
    if len(some) <= PIECE:
        if some:
            yield some
        return
    for start in range(0, len(some), PIECE):
        yield some[start : start + PIECE]


def _executor(
    url: URL,
    settings: dict[str, Any],
    clock: ServerClock,
    left: Left,
    room: Room,
    tiers: Collection[str],
) -> Executor | None:
    if len(tiers) == 1:
        return None
    from statehold.drivers.sql.postgres.executor import Executor  # only there is asyncpg needed

    return Executor(url, settings, clock, left, room, tiers)
