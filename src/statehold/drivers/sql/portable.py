"""Commits and reads that every database can do, through SQLAlchemy Core.

A call of commits is one transaction. It locks the rows of its keys in order, a row being made for
each state that is absent, so that of two writers who would begin it one waits; loads what the
commits need; folds them in Python; and writes what has changed. All that under READ COMMITTED: what
is read after a row is locked is what the lock's former owner left.

The commits are folded in rounds. A round takes from each key as many commits as can be folded on
what was loaded; one that wants cells returned, that erases, or that leaves the state expired ends
its key's round, since the next one needs what is then in the tables.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from msgspec.structs import replace
from sqlalchemy import Select, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.changes import ABSENT, HOLD_SECONDS, Commit, Key, Revision, deadline, moves
from statehold.driver import Late, Outcome, Written
from statehold.drivers.sql.deciding import decide_by
from statehold.drivers.sql.dialects import Dialect
from statehold.drivers.sql.engines import packet_of
from statehold.drivers.sql.folding import Life, apply
from statehold.drivers.sql.loading import chunks, in_order, load_children, lock
from statehold.drivers.sql.reading import Found, read
from statehold.drivers.sql.recalling import Past, Remembered, end_of, note_ends, recall
from statehold.drivers.sql.saving import erase, leave, save
from statehold.drivers.sql.serverclock import ServerClock
from statehold.drivers.sql.tables import Stored, Tables
from statehold.errors import Busy, Corrupted
from statehold.folding import (
    NO_FENCE,
    Fence,
    admit,
    claimed,
    ended_at,
    left_behind,
    refused,
    revision_of,
)

_Queues: TypeAlias = dict[Key, deque[tuple[int, Commit]]]

ATTEMPTS = 5
"""How often a row is looked for that others keep making and deleting."""


async def commit_all(
    connection: AsyncConnection,
    dialect: Dialect,
    kinds: Mapping[str, Tables],
    commits: Sequence[Commit],
    now: float,
    *,
    clock: ServerClock,
    untils: Sequence[float],
) -> list[Outcome]:
    """Apply the commits within the transaction under way; see `Driver.commit`.

    One is `Late`, too, if it is later than its `untils`, by the monotonic clock, once the locks are
    got: from then on nobody else can write to these states until this transaction has ended.
    `clock` learns what the database's clock says.
    """
    outcomes: dict[int, Outcome] = {}
    by_kind: dict[str, _Queues] = {}
    for place, commit in enumerate(commits):
        queues = by_kind.setdefault(commit.key[1], {})
        queues.setdefault(commit.key, deque()).append((place, commit))
    for kind, queues in sorted(by_kind.items()):
        work = Kind(connection, dialect, kinds[kind], now)
        await work.lock(queues, clock)
        late = time.monotonic()
        for key in list(queues):
            outcomes |= {place: Late() for place, _ in queues[key] if untils[place] < late}
            queues[key] = deque(one for one in queues[key] if one[0] not in outcomes)
            if not queues[key]:
                del queues[key]
        if queues:
            places = [place for queue in queues.values() for place, _ in queue]
            work.decide_by(min(untils[place] for place in places))
        await work.run(queues, outcomes)
    return [outcomes[place] for place in range(len(commits))]


class Kind:
    """The commits of one kind."""

    def __init__(
        self, connection: AsyncConnection, dialect: Dialect, tables: Tables, now: float
    ) -> None:
        self.connection = connection
        self.dialect = dialect
        self.tables = tables
        self.packet = packet_of(connection)
        self.callers = now
        self.now = now
        self.read_at = 0.0  # when `now` was read, by the monotonic clock
        self.lives: dict[Key, Life] = {}
        self.pasts: dict[Key, Past] = {}
        self.fences: dict[Key, Fence] = {}
        self.ends: list[dict[str, Any]] = []  # not yet written down
        self.columns: list[Stored] = []

    async def lock(self, queues: _Queues, clock: ServerClock) -> None:
        """Lock the rows that there are, and then look what time it is."""
        touched = {
            part.field
            for queue in queues.values()
            for _, commit in queue
            for part in (*commit.changes, *commit.where)
        }
        fields = self.tables.fields.items()
        self.columns = [s for name, s in fields if s.column and name in touched]
        await self._lock(list(queues))
        if self.dialect.own_clock:
            sent = time.monotonic()
            self.now = (await self.connection.execute(_clock(self.dialect))).scalar_one()
            self.read_at = time.monotonic()
            clock.learn(self.now, sent, self.read_at)

    def decide_by(self, until: float) -> None:
        """Nothing of it is committed after this instant, by the monotonic clock."""
        if self.dialect.own_clock:
            decide_by(self.connection, self.now + until - self.read_at)

    async def run(self, queues: _Queues, outcomes: dict[int, Outcome]) -> None:
        """Apply all commits."""
        while queues:
            await self.make_rows(queues)
            coming = [commit for queue in queues.values() for _, commit in queue]
            await load_children(self.connection, self.tables, self.lives, coming)
            await recall(self.connection, self.tables, self.lives, self.pasts, coming)
            returning: list[tuple[int, Commit]] = []
            erased: list[Life] = []
            for key, queue in list(queues.items()):
                self._fold(key, queue, outcomes, returning, erased)
                if not queue:
                    del queues[key]
            for key, fence in self.fences.items():
                life = self.lives.get(key)
                if life is not None and life.head is not None:
                    life.fence = fence
            await save(self.connection, self.dialect, self.tables, list(self.lives.values()))
            if erased:
                await erase(self.connection, self.tables, [life.state for life in erased])
            await note_ends(self.connection, self.dialect, self.tables, self.ends)
            self.ends.clear()
            await self._return(returning, outcomes)
        await self.settle()

    async def settle(self) -> None:
        """Of what has no state nothing stays, but for epochs that are to be remembered."""
        left: dict[Key, Fence] = {}
        for key, fence in self.fences.items():
            life = self.lives.get(key)
            absent = life is None or life.head is None
            if absent and self.now < fence.until and (life is None or life.fence != fence):
                left[key] = fence
        unborn = [
            life.state
            for life in self.lives.values()
            if life.head is None and self.now >= self.fences.get(life.key, NO_FENCE).until
        ]
        if unborn:
            await erase(self.connection, self.tables, unborn)
        await leave(self.connection, self.dialect, self.tables, left, self.now)

    async def _lock(self, keys: Sequence[Key]) -> None:
        found = await lock(self.connection, self.dialect, self.tables, keys, self.columns)
        for life in found:
            self.lives[life.key] = life
            if life.fence.epoch:
                self.fences.setdefault(life.key, life.fence)

    async def make_rows(self, queues: _Queues) -> None:
        """See to it that there is a row for each state that a commit may begin."""
        for _ in range(ATTEMPTS):
            over = [
                life
                for key in queues
                if (life := self.lives.get(key)) is not None and life.expired(self.now)
            ]
            if over:  # a new life is a new row, with nothing in it that the old one had
                await erase(self.connection, self.tables, [life.state for life in over])
                for life in over:
                    self._ended(life)
                    del self.lives[life.key]
            missing = [
                key
                for key, queue in queues.items()
                if key not in self.lives and _needs_row(queue[0][1])
            ]
            if not missing:
                return
            statement = self.dialect.insert_missing(self.tables.main, ["tenant", "id"])
            await self.connection.execute(
                statement, [_unborn(key, self.now) for key in in_order(missing)]
            )
            await self._lock(missing)
        raise Busy(f"{self.tables.kind}: other writers were in the way", key=next(iter(queues)))

    def _ended(self, life: Life) -> None:
        """A life is over: what is sent again may have been applied to it."""
        assert life.head is not None  # noqa: S101  there was one
        # A commit whose maximum age was over ended it later than its deadline says.
        at = ended_at(life.head)
        if life.head.epoch:
            fence = self.fences.get(life.key, NO_FENCE)
            self.fences[life.key] = left_behind(fence, life.head.epoch, at)
        past = self.pasts.setdefault(life.key, Past())
        past.ended = max(past.ended, at)
        if at > self.now - HOLD_SECONDS:
            self.ends.append(end_of(life.key, life.head.revision, at))

    def _fold(
        self,
        key: Key,
        queue: deque[tuple[int, Commit]],
        outcomes: dict[int, Outcome],
        returning: list[tuple[int, Commit]],
        erased: list[Life],
    ) -> None:
        """Fold a key's commits until its round ends."""
        while queue:
            place, commit = queue[0]
            life = self.lives.get(key)
            if life is None and _needs_row(commit):
                return  # it was erased in this round; the next one makes a row
            queue.popleft()
            past = self.pasts.setdefault(key, Past())
            present = life if life is not None and life.lives(self.now) else None
            head = None if present is None else present.head
            fence = self.fences.get(key, NO_FENCE)
            look = present.look if commit.where and present is not None else None
            remembered = Remembered(present, past, self.now, fence)
            try:
                outcome = admit(commit, head, remembered, self.now, look or _nothing)
            except Corrupted as error:
                outcome = refused(error)
            if outcome is None and commit.claim is not None:
                outcome = self._claim(present, commit, fence)
            elif outcome is None and commit.erase:
                outcomes[place] = Written(self._erase(life, past, commit, erased))
                continue
            if outcome is None:
                assert life is not None  # noqa: S101  see above
                outcome = apply(life, commit, self.tables.fields, self.now, self.packet)
            outcomes[place] = outcome
            if isinstance(outcome, Written) and commit.returning is not None:
                returning.append((place, commit))
                return
            if life is not None and life.expired(self.now):
                return

    def _claim(self, present: Life | None, commit: Commit, fence: Fence) -> Written:
        """The key has seen its epoch. `present` is the life that there is."""
        head = None if present is None else present.head
        fence = self.fences[commit.key] = claimed(commit, head, fence, self.now)
        if present is None or head is None:
            return Written(ABSENT, epoch=fence.epoch)
        present.head = replace(head, epoch=fence.epoch)
        present.changed = True
        return Written(head.revision, epoch=fence.epoch)

    def _erase(self, life: Life | None, past: Past, commit: Commit, erased: list[Life]) -> Revision:
        """The state is to be gone. Returns at which revision it stood."""
        stood = revision_of(life.head if life is not None and life.lives(self.now) else None)
        if life is not None and life.head is not None:
            erased.append(life)
            del self.lives[life.key]
        if commit.epoch:
            fence = self.fences.get(commit.key, NO_FENCE)
            self.fences[commit.key] = left_behind(fence, commit.epoch, self.now)
        if stood != ABSENT:
            past.ended = max(past.ended, self.now)
        if commit.op:
            past.erasures[commit.op] = (stood, commit.intent)
        if commit.op or stood != ABSENT:
            self.ends.append(end_of(commit.key, stood, self.now, commit.op, commit.intent))
        return stood

    async def _return(
        self, asked: Sequence[tuple[int, Commit]], outcomes: dict[int, Outcome]
    ) -> None:
        """Read what the commits of this round want returned, one read for each different wish."""
        while asked:
            want = asked[0][1].returning
            assert want is not None  # noqa: S101  only such are listed
            same = [(place, commit) for place, commit in asked if commit.returning == want]
            asked = [(place, commit) for place, commit in asked if commit.returning != want]
            keys = [commit.key for _, commit in same]
            found = await read(
                self.connection, self.dialect, self.tables, keys, want, self.callers, at=self.now
            )
            for place, commit in same:
                one, outcome = found.get(commit.key), outcomes[place]
                assert isinstance(outcome, Written)  # noqa: S101  likewise
                cells = None if one is None else one.cells
                outcomes[place] = replace(outcome, returned=cells)


def _nothing(_field: str, _entry: str | None) -> None:
    """What stands in a state that is absent."""


def _needs_row(commit: Commit) -> bool:
    """Whether there must be a row for it, so that no other works on the same key meanwhile."""
    return not commit.erase or commit.op != "" or commit.epoch != 0


@functools.cache
def _clock(dialect: Dialect) -> Select[Any]:
    return select(dialect.clock())


def _unborn(key: Key, now: float) -> dict[str, object]:
    """A row for a state that is about to begin; nobody else ever sees it so."""
    return {
        "tenant": key[0],
        "id": key[2],
        "incarnation": 0,
        "number": 0,
        "created_at": now,
        "updated_at": now,
        "epoch": 0,
        "ops": 0,
    }


# ----------------------------------------------------------------------------------------- renewing


def to_renew(
    found: Sequence[Found], renew: tuple[float | None, float | None], now: float
) -> dict[float | None, list[Found]]:
    """The states whose deadline is to move, by the deadline to which."""
    moved: dict[float | None, list[Found]] = {}
    for one in found:
        cells = one.cells
        until = deadline(cells.created, now + cells.skew, *renew)
        if moves(until, cells.deadline, renew[0]):
            moved.setdefault(until, []).append(one)
    return moved


async def renew_all(
    connection: AsyncConnection, tables: Tables, moved: Mapping[float | None, list[Found]]
) -> None:
    """Move the deadlines, except of states in which somebody has committed meanwhile."""
    main = tables.main
    for until, states in moved.items():
        for some in chunks(states):
            rows = [
                (one.state, one.cells.revision.incarnation, one.cells.revision.number)
                for one in some
            ]
            result = await connection.execute(
                update(main)
                .where(tuple_(main.c.state, main.c.incarnation, main.c.number).in_(rows))
                .values(expires_at=until)
            )
            if result.rowcount == len(some):
                for one in some:
                    one.cells.deadline = until
