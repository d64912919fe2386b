"""The tier that commits by calls of a function: many commits of one kind, those of one key merged.

What the function does not do is left, with nothing of it written: erasing; a repeated op id, an epoch
or a condition that does not hold; a full field, a sum out of range, an array of another length; a
value that its column cannot hold; and whatever is sent again that may have been applied.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from statehold.commits import Commit, Key, Revision, deadline
from statehold.driver import Failed, Written
from statehold.drivers.sql.lanes import Answer, Answers
from statehold.drivers.sql.postgres.call import FunctionCall, Group, next_call
from statehold.drivers.sql.postgres.function import CommitFunction
from statehold.drivers.sql.postgres.phrases import qualified
from statehold.drivers.sql.postgres.pool import OUTDATED, InTheAir, ServerError, sqlstate
from statehold.drivers.sql.postgres.rows import Reader
from statehold.drivers.sql.postgres.sending import Sender
from statehold.drivers.sql.schema.tables import Tables
from statehold.errors import StateholdError

NOT_HERE: Final = "SH001"
"""What the commit function raises when a call has something in it that it does not do."""

REFUSALS: Final = 12
"""How often a call is made smaller to find what is not for the function."""


class Kind:
    """What is known of a kind: its functions, how they are called, how what they say is read."""

    def __init__(self, tables: Tables, function: CommitFunction, read_name: str) -> None:
        self.tables = tables
        self.at = function.arguments
        self.reader = Reader(tables)
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


class Function:
    """See `tiers.Tier`. `kinds` loses those whose functions a migration has taken away."""

    name = "function"

    def __init__(self, sender: Sender, kinds: dict[str, Kind]) -> None:
        self._sender = sender
        self._kinds = kinds

    async def commit(
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
            failure = self._sender.late()
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
        return Failed(self._sender.late() if sent_before else failure)

    async def _make_calls(
        self,
        kind: Kind,
        commits: Sequence[Commit],
        answers: Answers,
        now: float,
        until: float,
    ) -> None:
        left: Sequence[int] = range(len(commits))
        others: set[Key] = set()  # keys that are left from here on
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
        self._sender.counts.commits += len(commits) - handed_back
        self._sender.counts.handed_back += handed_back

    async def _call(
        self, kind: Kind, call: FunctionCall, answers: Answers, now: float, until: float
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
            name = kind.tables.kind
            rows = await self._sender.fetch(
                statement, arguments, name, repeatable=False, until=until
            )
        except ServerError as error:
            return self._refused(kind, error, len(groups))
        except InTheAir as unknown:
            self._mark(groups, answers, began, unknown.error)
            return list(range(1, len(groups) + 1))
        incarnations, numbers, births, made, bad = rows[0][:5]
        if bad:
            return list(bad)
        self._sender.counts.calls += 1
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
                    answers[place] = self._sender.again(commit, began, error)

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
        raise self._sender.translated(error) from error
