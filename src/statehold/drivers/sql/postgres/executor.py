"""The fast path on PostgreSQL: most commits and all reads in one statement, one round trip.

It runs on asyncpg itself, beside SQLAlchemy's engine. A plain commit that comes alone is a statement
of its own (`single`); all others, and what that does not do, are calls of a function. What the
function does not do is handed back, with nothing of it written: erasing; a repeated op id, an epoch
or a condition that does not hold; a full field, a sum out of range, an array of another length; a
value that its column cannot hold; kinds of more fields than a function takes arguments; and
everything, where the functions are missing; and whatever is sent again that may have been applied.
"""

from __future__ import annotations

import asyncio
import math
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from msgspec.structs import replace
from sqlalchemy import URL, exc

from statehold.changes import Commit, Key, Revision, Want, deadline
from statehold.driver import Cells, Failed, Written
from statehold.drivers.sql.errors import translated
from statehold.drivers.sql.lanes import Answer, Answers, Lane, Left
from statehold.drivers.sql.op_ids import sent_before
from statehold.drivers.sql.perloop import PerLoop, let_go, nothing
from statehold.drivers.sql.postgres.call import Call, Group, next_call, seconds
from statehold.drivers.sql.postgres.function import (
    CommitFunction,
    commit_function,
    names,
    statements,
)
from statehold.drivers.sql.postgres.phrases import qualified
from statehold.drivers.sql.postgres.pool import (
    FAILURES,
    LOST,
    READ_ONLY,
    Connection,
    Pools,
    ServerError,
    sqlstate,
)
from statehold.drivers.sql.postgres.retrying import UNDONE, InTheAir, Tries
from statehold.drivers.sql.postgres.rows import Reader
from statehold.drivers.sql.postgres.single import STALE, Singles
from statehold.drivers.sql.schema.tables import Tables
from statehold.drivers.sql.schema.types import escaped
from statehold.drivers.sql.serverclock import EVERY, ServerClock
from statehold.errors import StateholdError, Timeout, Unavailable

Result = TypeVar("Result")

CLOCK: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"

NOT_HERE: Final = "SH001"
"""What the commit function raises when a call has something in it that it does not do."""

OUTDATED: Final = ("42883", "42703", "42P01", "42804", "42846")
"""A function, column or table is gone: a migration has removed what only the database had. Or a
column has another type, which a migration gave it."""

REFUSALS: Final = 12
"""How often a call is made smaller to find what is not for the function."""

AVOIDED: Final = 32
"""How many commits that come alone go to the function after one met another writer to its state."""

LANES: Final = 2
"""How many calls of a kind may be under way when none of them takes long, so that the process makes
one while the server is at the other. A state has always the same lane: two calls seldom meet in a row."""

LOCK: Final = "SELECT pg_advisory_xact_lock(7233459186350421)"
"""Two that make a function of the same name at the same time would collide."""


class Kind:
    """What the fast path knows of a kind."""

    def __init__(self, tables: Tables, function: CommitFunction, read_name: str) -> None:
        self.tables = tables
        self.at = function.arguments
        self.reader = Reader(tables)
        self.singles = Singles(tables)
        self.avoided = 0  # so many more commits that come alone go to the function
        given = ", ".join(f"${n}" for n in range(1, len(self.at) + 1))
        name = qualified(tables.schema, function.name)
        columns = ("o_incarnation", "o_number", "o_created", "o_now", "o_bad")
        told = ", ".join(f"c.{column}" for column in columns)
        self.commit = f"SELECT {told} FROM {name}({given}) AS c"  # noqa: S608  quoted
        n = len(self.at)
        # What a function writes is seen by a function that is called after it.
        self.commit_and_read = (
            f"SELECT {told}, r.* FROM {name}({given}) AS c"  # noqa: S608  likewise
            f" LEFT JOIN LATERAL {qualified(tables.schema, read_name)}("
            f"ARRAY(SELECT c.o_state[i.i] FROM unnest(${n + 1}::integer[]) AS i(i)),"
            f" ${n + 2}, ${n + 3}, ${n + 4}, ${n + 5}) AS r ON TRUE"
        )


class Fast:
    """Commits and reads in one round trip each; see `FastPath`."""

    def __init__(self, url: URL, settings: dict[str, Any], clock: ServerClock, left: Left) -> None:
        self._pools = Pools(url, settings)
        self._clock = clock
        self._left = left
        self._shown_url = url.render_as_string(hide_password=True)
        self._timeout: float = settings["timeout"]
        self._width = max(1, settings["pool_size"] // 3)  # of each lane; the rest is for reads
        self._may_create = settings["create"] == "missing"
        self._kinds: dict[str, Kind] = {}
        self._lanes: PerLoop[dict[tuple[str, int], Lane]] = PerLoop(dict, nothing, let_go)
        self._calls = self._commits = self._handed_back = self._reads = self._retried = 0
        self._renewals_skipped = 0

    async def open(self, tables: Tables) -> None:
        """Make ready for a kind. Without its functions, it is left to the portable executor."""
        function, both = commit_function(tables), names(tables)
        if function is None or both is None:
            return
        try:
            found = await self._with_retries(lambda c: self._has(c, tables, both), repeatable=True)
        except ServerError as error:
            raise self._translated(error) from error
        if found:
            self._kinds[tables.kind] = Kind(tables, function, both[1])

    async def commit(self, commits: Sequence[Commit], now: float) -> Answers:
        """What became of each; or the commit, for the portable executor."""
        if time.monotonic() >= self._clock.due:
            await self._look()
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
        """The cells of each key; None if a kind of theirs has no fast path, or for a range of items."""
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
        self._reads += 1
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
        """Have the server end the sessions of lost connections: nothing of them is executed then."""
        leftover = self._pools.leftover
        if not leftover:
            return
        try:
            ended = await self._with_retries(leftover.end, repeatable=True)
        except ServerError as error:
            raise self._translated(error) from error
        if not ended:
            raise Unavailable(
                f"{self._shown_url}: a connection was lost that cannot be ended at the server, so"
                " nothing is sent again; with a pooler before it say pooler=transaction"
            )

    async def close(self) -> None:
        """Release everything."""
        await self._lanes.close()
        await self._pools.close()

    async def drain(self) -> None:
        """Wait for what is under way in the running event loop."""
        for lane in (self._lanes.found or {}).values():
            await lane.drain()

    def stats(self) -> Mapping[str, int | float]:
        """Counters of its own."""
        return {
            "transactions_total": self._calls,
            "fast_commits_total": self._commits,
            "fast_handed_back_total": self._handed_back,
            "fast_reads_total": self._reads,
            "retried_total": self._retried,
            "renewals_skipped_total": self._renewals_skipped,
            "pool_in_use": self._pools.in_use(),
        }

    # ----------------------------------------------------------------------------- committing

    async def _look(self) -> None:
        """Learn what the database's clock shows, if a connection is at hand."""
        sent = time.monotonic()
        self._clock.due = sent + EVERY  # one looks for all
        try:
            rows = await self._pools.at_once(CLOCK, (), self._timeout / 4)
        except FAILURES:
            return  # which the commit will meet, too
        if rows:
            self._clock.learn(rows[0][0], sent, time.monotonic())

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
                ends = asyncio.get_running_loop().time() + self._timeout
                until = self._until(some, untils)
                if len(some) == 1:
                    answer = await self._alone(known, some[0], until)
                    if answer is not None:
                        return [answer]
                return await self._send(known, some, now, until, ends)

            lane = lanes[at] = Lane(send, self._width, self._timeout, self._left)
        try:
            return list(await lane.commit(commits, now))
        except StateholdError:  # some of which are TimeoutErrors
            raise
        except TimeoutError as error:
            raise self._late() from error

    async def _alone(self, kind: Kind, commit: Commit, until: float) -> Answer | None:
        """What became of it, if a statement of its own does it; None if that wrote nothing."""
        single = None if kind.avoided else kind.singles.statement(commit, until)
        kind.avoided -= kind.avoided > 0
        if single is None:
            return None
        began = time.monotonic()
        try:
            rows = await self._pools.at_once(single.text, single.arguments, self._timeout)
        except StateholdError:
            raise
        except TimeoutError as error:
            raise self._late() from error
        except LOST as error:
            return self._again(commit, began, error)
        except ServerError as error:
            state = sqlstate(error)
            if state == STALE:
                kind.avoided = AVOIDED
            elif state[:2] not in ("22", "23") and state not in (*OUTDATED, *UNDONE, READ_ONLY):
                raise self._translated(error) from error
            return None
        if not rows:
            return None
        self._calls += 1
        self._commits += 1
        incarnation, number, updated, expires, _ = rows[0]
        ends = None if expires is None else expires.timestamp()
        return Written(Revision(incarnation, number), None, False, updated.timestamp(), ends)

    def _again(self, commit: Commit, began: float, error: Exception) -> Commit:
        """The commit as it is sent again that may have been applied since then. Raises if it cannot."""
        since = self._clock.earliest(began)
        if not commit.op or since is None:
            raise self._translated(error) from error
        self._retried += 1
        return sent_before(commit, since)

    async def _send(
        self, kind: Kind, commits: Sequence[Commit], now: float, until: float, ends: float
    ) -> Answers:
        """What became of them in one call or several, of which the last may fail."""
        answers: Answers = list(commits)
        try:
            async with asyncio.timeout_at(ends):  # for all its calls, and what was before
                await self._make_calls(kind, commits, answers, now, until)
        except StateholdError as error:  # some of which are TimeoutErrors
            failure = error
        except TimeoutError:
            failure = self._late()
        else:
            return answers
        if all(one is commit for one, commit in zip(answers, commits, strict=True)):
            raise failure
        return [self._failed(*each, failure) for each in zip(answers, commits, strict=True)]

    def _failed(self, answer: Answer, commit: Commit, failure: StateholdError) -> Answer:
        """What is said of a commit, known or not, when a call failed for which it was or waited."""
        if not isinstance(answer, Commit):
            return answer
        sent_before = answer is not commit  # and whether it was applied then is not known
        return Failed(self._late() if sent_before else failure)

    async def _make_calls(
        self,
        kind: Kind,
        commits: Sequence[Commit],
        answers: Answers,
        now: float,
        until: float,
    ) -> None:
        left: Sequence[int] = range(len(commits))
        others: set[Key] = set()  # keys for the portable executor from here on
        most = len(commits)  # keys in one call
        refusals = 0
        while left and refusals < REFUSALS:
            call, later = next_call(kind.tables.fields, commits, left, others, most)
            if not call:
                break
            refused = await self._call(kind, call, answers, now, until)
            if refused is not None:
                refusals += 1
                again = [place for group in call.groups for place in group.places]
                later = sorted([*later, *again])
                if refused:
                    others.update(call.groups[k - 1].key for k in refused)
                elif len(call.groups) == 1:
                    others.add(call.groups[0].key)
                else:
                    most = (len(call.groups) + 1) // 2
            left = [place for place in later if commits[place].key not in others]
        handed_back = sum(isinstance(answer, Commit) for answer in answers)
        self._commits += len(commits) - handed_back
        self._handed_back += handed_back

    async def _call(
        self, kind: Kind, call: Call, answers: Answers, now: float, until: float
    ) -> list[int] | None:
        """Make a call, and fill in the answers. If it was refused: for which keys, if that is known."""
        arguments = call.arguments(kind.at, until)
        groups = call.groups
        readers = [k for k, group in enumerate(groups, 1) if group.returning is not None]
        statement = kind.commit
        if readers:
            statement = kind.commit_and_read
            wants = [group.returning for group in groups if group.returning is not None]
            arguments += [readers, *kind.reader.arguments(wants), *kind.reader.singles(wants)]
        began = time.monotonic()
        try:
            rows = await self._fetch(statement, arguments, repeatable=False, until=until)
        except ServerError as error:
            return self._refused(kind, error, len(groups))
        except InTheAir as unknown:
            self._mark(groups, answers, began, unknown.error)
            return list(range(1, len(groups) + 1))
        incarnations, numbers, births, made, bad = rows[0][:5]
        if bad:
            return list(bad)
        self._calls += 1
        updated = made.timestamp()
        for k, group in enumerate(groups):
            incarnation, number = incarnations[k], numbers[k]
            created = births[k].timestamp() if number else updated
            for count, place in enumerate(group.places, 1):
                commit = answers[place]
                assert isinstance(commit, Commit)  # noqa: S101  it has no answer yet
                ends = deadline(created, updated, commit.ttl, commit.max_age)
                revision = Revision(incarnation, number + count)
                answers[place] = Written(revision, None, False, updated, ends)
        if not readers:
            return None
        for row in rows:
            reader = readers[int(row[5]) - 1]
            group = groups[reader - 1]
            self._returned(kind, group, row, answers, now)
        return None

    def _mark(
        self, groups: Sequence[Group], answers: Answers, began: float, error: Exception
    ) -> None:
        """Have them sent again that may have been applied, but not by this statement.

        It takes an op id that is not there for one that was never seen; the portable executor can
        tell whether it was applied.
        """
        for group in groups:
            for place in group.places:
                commit = answers[place]
                if isinstance(commit, Commit):
                    answers[place] = self._again(commit, began, error)

    def _returned(
        self, kind: Kind, group: Group, row: Sequence[Any], answers: Answers, now: float
    ) -> None:
        written = answers[group.places[-1]]
        if isinstance(written, Written) and group.returning is not None:
            cells = kind.reader.cells(row[6:], group.returning, now)
            answers[group.places[-1]] = replace(written, returned=cells)

    def _refused(self, kind: Kind, error: Exception, keys: int) -> list[int]:
        """The keys that it names, if any. Raises what is no refusal, translated."""
        state = sqlstate(error)
        if state == NOT_HERE:
            return [int(k) for k in (getattr(error, "detail", None) or "").split(",") if k]
        if state[:2] in ("22", "23"):
            return []  # some value that a column cannot hold, or an op id that has a row
        if state in OUTDATED:
            self._kinds.pop(kind.tables.kind, None)
            return list(range(1, keys + 1))
        raise self._translated(error) from error

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
            rows = await self._fetch(statement, arguments, repeatable=True)
        except ServerError as error:
            state = sqlstate(error)
            if state == "25006" and want.renew is not None:  # it may be read but not written
                self._renewals_skipped += len(keys)
                return await self._read(kind, keys, replace(want, renew=None), now)
            if state in OUTDATED:
                self._kinds.pop(kind.tables.kind, None)
                return None
            raise self._translated(error) from error
        return {keys[row[0] - 1]: kind.reader.cells(row[1:], want, now) for row in rows}

    # ------------------------------------------------------------------------------ connections

    async def _fetch(
        self,
        statement: str,
        arguments: Sequence[Any],
        *,
        repeatable: bool,
        until: float = math.inf,
    ) -> list[Sequence[Any]]:
        """The rows. Raises as `_with_retries` does; nothing is committed after `until`."""
        began = time.monotonic()
        moved = False
        try:
            rows = await self._pools.at_once(statement, arguments, self._timeout)
        except StateholdError:
            raise
        except TimeoutError as error:
            raise self._late() from error
        except LOST as error:
            if not repeatable:
                raise InTheAir(error) from error
            self._retried += 1
        except ServerError as error:
            state = sqlstate(error)
            moved = state == READ_ONLY and self._pools.moves.is_news()
            if not moved and state not in UNDONE:
                raise
            self._retried += 1
        else:
            if rows is not None:
                return rows
        return await self._with_retries(
            lambda connection: connection.fetch(statement, *arguments),
            repeatable=repeatable,
            left=self._timeout - (time.monotonic() - began),
            moved=moved,
            until=until,
        )

    async def _with_retries(
        self,
        work: Callable[[Connection], Awaitable[Result]],
        *,
        repeatable: bool,
        left: float | None = None,
        moved: bool = False,
        until: float = math.inf,
    ) -> Result:
        """The work's result, tried again where it was not done, or may be done twice.

        `moved`: a server that used to take writes has refused one, and another has not been tried.
        Raises the database's own errors as they are, `InTheAir`, and all others translated.
        """
        tries = Tries(self._pools.moves, repeatable=repeatable, moved=moved)
        try:
            async with asyncio.timeout(self._timeout if left is None else left):
                while True:
                    sent: list[bool] = []
                    try:
                        return await self._pools.run(work, sent, until)
                    except StateholdError:  # some of which are OSErrors
                        raise
                    except (*LOST, ServerError) as error:
                        tries.check(error, sent)
                    self._retried += 1
                    await tries.pause()
        except StateholdError:
            raise
        except TimeoutError as error:
            raise self._late() from error
        except LOST as error:
            raise self._translated(error) from error

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
            f"{self._shown_url}: the functions of {tables.kind!r} are missing, so its commits take"
            " several round trips each; run: statehold migrate --apply",
            RuntimeWarning,
            stacklevel=2,
        )
        return False

    def _late(self) -> Timeout:
        return Timeout(
            f"{self._shown_url}: it did not answer in time; whether it wrote is not known"
        )

    def _translated(self, error: BaseException) -> StateholdError:
        if not isinstance(error, OSError):  # it is asyncpg's
            error = exc.DBAPIError("", None, error)
        return translated(error, self._shown_url)
