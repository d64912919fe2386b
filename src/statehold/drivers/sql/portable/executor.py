"""Commits and reads that every database can do, through SQLAlchemy Core.

A call of commits is one transaction. It locks the rows of its keys in order, a row being made for
each state that is absent, so that of two writers who would begin it one waits; reads the database's
clock, once for all of them; loads what the commits need; folds them in Python; and writes what has
changed. All that under READ COMMITTED: what is read after a row is locked is what the lock's former
owner left.

**One order of locks.** Who makes a row holds it, too, so rows are made before any is locked. Mostly all
are there, and locking them is all; where one is not, and others are held already, the transaction is
given up (`Meanwhile`) and begun anew with the rows that are missing. Then all are locked, and if another
writer has deleted one of them since, that is done once more. InnoDB's locks wait for rows that are being
made, too; there all are made or locked in one go. A row of a key that is held already, that of a life
which is over, can be replaced at any time.

**A life that has ended stays so.** What is folded into a life holds as long as that lasts, so the
transaction must be committed before its old deadline, by the database's clock (`deciding`).

The commits are folded in rounds. A round takes from each key as many commits as can be folded on
what was loaded; one that wants cells returned, that erases, or that leaves the state expired ends
its key's round, since the next one needs what is then in the tables.
"""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec.structs import replace
from sqlalchemy import Select, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.commits import ABSENT, HOLD_SECONDS, Commit, Key, Revision, Want, deadline, moves
from statehold.driver import Late, Outcome, Written
from statehold.drivers.sql.deciding import decide_by
from statehold.drivers.sql.portable.engines import packet_of
from statehold.drivers.sql.portable.fold import Life, apply
from statehold.drivers.sql.portable.load import chunks, load_children, lock
from statehold.drivers.sql.portable.read import Found, read
from statehold.drivers.sql.portable.recalling import Past, Remembered, end_of, note_ends, recall
from statehold.drivers.sql.portable.save import erase_lives, leave, save
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.tables import Tables, lock_order
from statehold.drivers.sql.serverclock import ServerClock
from statehold.errors import Corrupted
from statehold.folding import (
    NO_FENCE,
    Fence,
    admit,
    claimed,
    ended_at,
    left_behind,
    refused,
)

_Queues: TypeAlias = dict[Key, deque[tuple[int, Commit]]]

MOMENT: Final = 1e-6
"""Seconds: what the databases' clocks tell apart. A state is over at its deadline."""


async def commit_all(
    connection: AsyncConnection,
    dialect: Dialect,
    kinds: Mapping[str, Tables],
    commits: Sequence[Commit],
    now: float,
    *,
    clock: ServerClock,
    untils: Sequence[float],
    making: Collection[Key] = (),
) -> list[Outcome]:
    """Apply the commits within the transaction under way; see `Driver.commit`. Raises `Meanwhile`.

    One is `Late`, too, if it is later than its `untils`, by the monotonic clock, once the locks are
    got: from then on nobody else can write to these states until this transaction has ended.
    `clock` learns what the database's clock says. The rows of `making` are made first.
    """
    outcomes: dict[int, Outcome] = {}
    by_kind: dict[str, _Queues] = {}
    for place, commit in enumerate(commits):
        queues = by_kind.setdefault(commit.key[1], {})
        queues.setdefault(commit.key, deque()).append((place, commit))
    works = [KindWork(connection, dialect, kinds[k], q, now) for k, q in sorted(by_kind.items())]
    locked_at = await lock_all(works, clock, untils, making)
    for work in works:
        queues = work.queues
        for key in list(queues):
            outcomes |= {place: Late() for place, _ in queues[key] if untils[place] < locked_at}
            queues[key] = deque(one for one in queues[key] if one[0] not in outcomes)
            if not queues[key]:
                del queues[key]
        await work.run(outcomes)
    return [outcomes[place] for place in range(len(commits))]


async def lock_all(
    works: Sequence[KindWork], clock: ServerClock, untils: Sequence[float], making: Collection[Key]
) -> float:
    """All rows are locked, in one order, and then the clock is read, which all go by.

    Returns when they were, by the monotonic clock. Raises `Meanwhile`.
    """
    dialect, connection = works[0].dialect, works[0].connection
    for work in works if making else ():
        all_of_them = dialect.waits_for_new  # which locks those that are there
        await work.make([key for key in work.queues if all_of_them or key in making])
    held = bool(making)
    for work in works:
        await work.lock(free=not held)
        held = held or bool(work.lives)
    locked_at = time.monotonic()
    now = works[0].now
    if dialect.own_clock:
        now = (await connection.execute(_clock(dialect))).scalar_one()
        read_at = time.monotonic()
        clock.learn(now, locked_at, read_at)
        in_time = [until for until in untils if until >= locked_at]
        if in_time:
            decide_by(connection, now + min(in_time) - read_at)
    for work in works:
        work.decided(now)
    return locked_at


class Meanwhile(Exception):
    """Rows are missing that must be made before others are locked; nothing was done. Internal.

    The transaction is to be rolled back, and the commits to be made again, `making` them.
    """

    def __init__(self, keys: Collection[Key]) -> None:
        super().__init__()
        self.keys = keys


class KindWork:
    """The commits of one kind."""

    def __init__(
        self,
        connection: AsyncConnection,
        dialect: Dialect,
        tables: Tables,
        queues: _Queues,
        now: float,
    ) -> None:
        self.connection = connection
        self.dialect = dialect
        self.tables = tables
        self.queues = queues
        self.packet = packet_of(connection)
        self.callers = self.now = now
        self.lives: dict[Key, Life] = {}
        self.deadlines: dict[Key, float] = {}  # of lives that were there
        self.pasts: dict[Key, Past] = {}
        self.fences: dict[Key, Fence] = {}
        self.ends: list[dict[str, Any]] = []  # not yet written down
        touched = {
            part.field
            for queue in queues.values()
            for _, commit in queue
            for part in (*commit.changes, *commit.where)
        }
        fields = tables.fields.items()
        self.columns = [s for name, s in fields if s.column and name in touched]

    async def lock(self, *, free: bool) -> None:
        """Lock the rows of all keys. Raises `Meanwhile` where one is missing that is needed.

        `free` says that this transaction holds no row, and so may make them if none is there.
        """
        await self._lock(list(self.queues))
        missing = self._missing()
        if not missing:
            return
        if not self.dialect.locks_rows or (free and not self.lives):
            await self.make(missing)
            await self._lock(missing)
            missing = self._missing()
        if missing:
            raise Meanwhile(missing)

    def _missing(self) -> list[Key]:
        """The keys that have no row, though a commit may begin a state there."""
        return [
            key
            for key, queue in self.queues.items()
            if key not in self.lives and any(_needs_row(commit) for _, commit in queue)
        ]

    async def make(self, keys: Sequence[Key]) -> None:
        """See to it that these have rows, waiting for others who are making one."""
        if keys:
            statement = self.dialect.insert_missing(self.tables.main, ["tenant", "id"])
            rows = [_unborn(key, self.now) for key in lock_order(keys)]
            await self.connection.execute(statement, rows)

    def decided(self, now: float) -> None:
        """This is the time that counts, which is later than every lock was got."""
        self.now = now
        for one in self.lives.values():
            if one.head is not None and one.head.deadline is not None and one.lives(now):
                self.deadlines[one.key] = one.head.deadline

    async def run(self, outcomes: dict[int, Outcome]) -> None:
        """Apply all commits."""
        queues = self.queues
        while queues:
            await self.begin_anew(queues)
            coming = [commit for queue in queues.values() for _, commit in queue]
            await load_children(self.connection, self.tables, self.lives, coming)
            await recall(
                self.connection,
                self.tables,
                self.lives,
                self.pasts,
                coming,
                own_clock=self.dialect.own_clock,
            )
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
            self._decide()
            await save(self.connection, self.dialect, self.tables, list(self.lives.values()))
            if erased:
                await erase_lives(self.connection, self.tables, erased)
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
            life
            for life in self.lives.values()
            if life.head is None and self.now >= self.fences.get(life.key, NO_FENCE).until
        ]
        if unborn:
            await erase_lives(self.connection, self.tables, unborn)
        await leave(self.connection, self.dialect, self.tables, left, self.now)

    async def _lock(self, keys: Sequence[Key]) -> None:
        found = await lock(self.connection, self.dialect, self.tables, keys, self.columns)
        for life in found:
            self.lives[life.key] = life
            if life.fence.epoch:
                self.fences.setdefault(life.key, life.fence)

    async def begin_anew(self, queues: _Queues) -> None:
        """Have a row for each life that may begin: a new one, with nothing of the old one's in it."""
        over = [
            life
            for key in queues
            if (life := self.lives.get(key)) is not None and life.expired(self.now)
        ]
        if over:
            await erase_lives(self.connection, self.tables, over)
            for life in over:
                self._ended(life)
                del self.lives[life.key]
        missing = [
            key
            for key, queue in queues.items()
            if key not in self.lives and _needs_row(queue[0][1])
        ]
        if missing:  # whose old rows this transaction holds
            await self.make(missing)
            await self._lock(missing)

    def _decide(self) -> None:
        """What has been folded into lives that were there holds until these are over."""
        changed = [
            key for key, life in self.lives.items() if life.changed and key in self.deadlines
        ]
        if changed and self.dialect.own_clock:
            ends = min(self.deadlines.pop(key) for key in changed)
            decide_by(self.connection, ends - MOMENT)

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
                ended = remembered.ended()
                outcome = apply(life, commit, self.tables.fields, self.now, self.packet, ended)
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
        stood, at = ABSENT, self.now
        if life is not None and life.head is not None and life.lives(self.now):
            stood, at = life.head.revision, max(at, life.head.updated)
        if life is not None and life.head is not None:
            erased.append(life)
            del self.lives[life.key]
        if commit.epoch:
            fence = self.fences.get(commit.key, NO_FENCE)
            self.fences[commit.key] = left_behind(fence, commit.epoch, self.now)
        if stood != ABSENT:
            past.ended = max(past.ended, at)
        if commit.op:
            past.erasures[commit.op] = (stood, commit.intent)
        if commit.op or stood != ABSENT:
            self.ends.append(end_of(commit.key, stood, at, commit.op, commit.intent))
        return stood

    async def _return(
        self, asked: Sequence[tuple[int, Commit]], outcomes: dict[int, Outcome]
    ) -> None:
        """Read what the commits of this round want returned, one read for each different wish."""

        def kind(one: tuple[int, Commit]) -> tuple[Want | None, bool]:
            outcome = outcomes[one[0]]
            return one[1].returning, isinstance(outcome, Written) and outcome.repeated

        while asked:
            want, repeated = first = kind(asked[0])
            assert want is not None  # noqa: S101  only such are listed
            same = [one for one in asked if kind(one) == first]
            asked = [one for one in asked if kind(one) != first]
            keys = [commit.key for _, commit in same]
            # What was written just now is shown as it was left, though it may have ended itself by that.
            at = self.now if repeated else -math.inf
            found = await read(
                self.connection, self.dialect, self.tables, keys, want, self.callers, at=at
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
