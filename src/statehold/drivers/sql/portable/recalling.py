"""What is remembered of op ids, and of lives that have ended.

Theory of operation. A life remembers the op ids of its newest commits in `ops`; an erasure's op id
is in `ended` for `HOLD_SECONDS`, and so is each life that ended: when. A commit that is sent for the
first time only needs to know whether its op id is there. One that is sent again (`Commit.since`) and
is not there was never applied, unless an id that was applied since then may have been forgotten:
because newer ones took its place, or because its life has ended. Then nobody knows, and it is
`Doubtful`.

Of the rows in `ops` more are kept than a commit asks for: those of the last `RECENT_SECONDS`, at
most `MOST_OPS` of them (`op_ids`), so that what is sent again is mostly recognised under however many writers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, Table, bindparam, func, literal_column, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from statehold.commits import HOLD_SECONDS, Commit, Key, Revision, digest_of, is_short
from statehold.drivers.sql.portable.fold import Life
from statehold.drivers.sql.portable.load import chunks
from statehold.drivers.sql.schema.dialects import Dialect
from statehold.drivers.sql.schema.statements import kept
from statehold.drivers.sql.schema.tables import Tables
from statehold.drivers.sql.schema.types import Name
from statehold.folding import INSTALLED, NO_FENCE, Applied, Fence

NEVER: Final = -math.inf


class Past(msgspec.Struct):
    """What the earlier lives of a key left behind."""

    erasures: dict[str, tuple[Revision, int]] = {}
    """Op id → what it erased, and its intent."""
    ended: float = NEVER
    """When the newest of them ended, as far as that was asked for."""


class Remembered(msgspec.Struct):
    """What is remembered of one state, once it was looked up; see `folding.Past`."""

    life: Life | None
    """The present one."""
    past: Past
    now: float
    epochs: Fence = NO_FENCE

    def applied(self, op: str) -> Applied | None:
        erasure = self.past.erasures.get(op)
        if erasure is not None:
            return Applied(*erasure, erased=True)
        first = None if self.life is None else self.life.applied.get(op)
        if self.life is None or self.life.head is None or first is None:
            return None
        return Applied(Revision(self.life.head.revision.incarnation, first[0]), first[1])

    def forgot(self) -> float:
        return NEVER if self.life is None else self.life.forgot

    def ended(self) -> float:
        """What ended earlier than is remembered may have ended just then."""
        return max(self.past.ended, self.now - HOLD_SECONDS)

    def fence(self) -> Fence:
        return self.epochs


async def recall(
    connection: AsyncConnection,
    tables: Tables,
    lives: Mapping[Key, Life],
    pasts: dict[Key, Past],
    commits: Sequence[Commit],
    *,
    own_clock: bool,
) -> None:
    """Look up the op ids of the commits; and for those that are sent again, what was forgotten.

    Also for those that begin a life, if they say when or the database has no `own_clock`: then it may be
    before others ended.
    """
    by_state: dict[int, Life] = {}
    digests: dict[tuple[int, str], str] = {}
    applied: list[tuple[int, str]] = []
    erasures: list[tuple[str, str, str]] = []
    for commit in commits:
        key, op = commit.key, commit.op
        life = lives.get(key)
        if op and life is not None and life.head is not None and op not in life.applied:
            by_state[life.state] = life
            applied += _names_of(op, life, digests)
        if op and op not in pasts.setdefault(key, Past()).erasures:
            erasures.append((key[0], key[2], op))
    for some in chunks(applied):
        also, erasures = erasures[: len(some)], erasures[len(some) :]
        wanted = {"ops": some, "erasures": also}
        for row in await connection.execute(_both(tables), wanted):
            if row.state is None:
                _note(pasts, tables, row)
            else:
                its = digests.get((row.state, row.op)) or str(row.op)
                by_state[row.state].applied[its] = (row.number, row.intent)
    for few in chunks(erasures):
        for row in await connection.execute(_erasures(tables.ended), {"erasures": few}):
            _note(pasts, tables, row)
    doubted = {
        commit.key: None
        for commit in commits
        if commit.since is not None
        or ((commit.at is not None or not own_clock) and _begins(lives.get(commit.key)))
    }
    if doubted:
        await forgotten(connection, tables, lives, pasts, list(doubted))


def _begins(life: Life | None) -> bool:
    return life is None or life.head is None


def _names_of(op: str, life: Life, digests: dict[tuple[int, str], str]) -> list[tuple[int, str]]:
    """How a life may know an op id. If also by its digest, `digests` says whose that is."""
    if life.ops < INSTALLED or is_short(op):
        return [(life.state, op)]
    told = (life.state, digest_of(op))
    digests[told] = op
    return [(life.state, op), told]


def _note(pasts: Mapping[Key, Past], tables: Tables, row: Any) -> None:
    erased = Revision(row.incarnation, row.number)
    pasts[row.tenant, tables.kind, row.id].erasures[row.op] = (erased, row.intent)


async def forgotten(
    connection: AsyncConnection,
    tables: Tables,
    lives: Mapping[Key, Life],
    pasts: dict[Key, Past],
    keys: Sequence[Key],
) -> None:
    """From when on there may have been op ids of these keys that are not known any more."""
    ended, ops = tables.ended, tables.ops
    for some in chunks(keys):
        names = [(key[0], key[2]) for key in some]
        for row in await connection.execute(_newest_ends(ended), {"names": names}):
            past = pasts.setdefault((row.tenant, tables.kind, row.id), Past())
            past.ended = max(past.ended, row.at)
        asked = [
            life
            for key in some
            if (life := lives.get(key)) is not None and life.ops and not life.counted
        ]
        held: dict[int, Any] = {}
        if asked:
            states = {"states": [life.state for life in asked]}
            held = {row.state: row for row in await connection.execute(_oldest(ops), states)}
        elsewhere = await _elsewhere(connection, tables, asked)
        for life in asked:
            life.counted = True
            life.forgot = elsewhere.get(life.state, NEVER)
            first = INSTALLED if life.ops >= INSTALLED else 0
            if life.ops == first:
                continue  # it never had any here
            if life.state not in held:
                life.forgot = math.inf
            elif held[life.state].seq > first + 1:
                life.forgot = max(life.forgot, held[life.state].at)


async def _elsewhere(
    connection: AsyncConnection, tables: Tables, lives: Sequence[Life]
) -> dict[int, float]:
    """By the number of their rows, until when op ids of these lives were forgotten elsewhere."""
    installed = [life.state for life in lives if life.ops >= INSTALLED]
    if not installed:
        return {}
    said = await connection.execute(_told(tables.ops), {"states": installed})
    return {row.state: row.at for row in said}


def _erasures(table: Table) -> Select[Any]:
    """The rows of `ended` for `erasures`, triples of tenant, id and op id."""

    def make() -> Select[Any]:
        columns = [table.c[name] for name in ("tenant", "id", "op", "incarnation", "number")]
        which = tuple_(table.c.tenant, table.c.id, table.c.op)
        return select(*columns, table.c.intent).where(
            which.in_(bindparam("erasures", expanding=True))
        )

    return kept(table, ("erasures",), make)


def _oldest(table: Table) -> Any:
    """The place and the time of the oldest op id of each of `states`."""

    def make() -> Any:
        columns = func.min(table.c.seq).label("seq"), func.min(table.c.at).label("at")
        named = table.c.state.in_(bindparam("states", expanding=True))
        return (
            select(table.c.state, *columns).where(named, table.c.op != "").group_by(table.c.state)
        )

    return kept(table, ("oldest",), make)


def _told(table: Table) -> Any:
    """The rows of `states` that say until when op ids were forgotten elsewhere."""

    def make() -> Any:
        named = table.c.state.in_(bindparam("states", expanding=True))
        return select(table.c.state, table.c.at).where(named, table.c.op == "")

    return kept(table, ("told",), make)


def _newest_ends(table: Table) -> Any:
    """When the newest life ended of each of `names`, pairs of tenant and id."""

    def make() -> Any:
        named = tuple_(table.c.tenant, table.c.id).in_(bindparam("names", expanding=True))
        return (
            select(table.c.tenant, table.c.id, func.max(table.c.at).label("at"))
            .where(named, table.c.incarnation != 0)
            .group_by(table.c.tenant, table.c.id)
        )

    return kept(table, ("newest ends",), make)


def _both(tables: Tables) -> Any:
    """The rows of `ops` for pairs of state and op id, and those of `ended`, in one statement."""
    ops, ended = tables.ops, tables.ended

    def make() -> Any:
        nothing = {
            name: literal_column("NULL", kind).label(name)
            for name, kind in (
                ("tenant", Name()),
                ("id", Name()),
                ("incarnation", ops.c.number.type),
            )
        }
        which = tuple_(ops.c.state, ops.c.op).in_(bindparam("ops", expanding=True))
        first = select(ops.c.state, ops.c.op, ops.c.number, ops.c.intent, *nothing.values())
        what = tuple_(ended.c.tenant, ended.c.id, ended.c.op)
        second = select(
            literal_column("NULL", ops.c.state.type).label("state"),
            ended.c.op,
            ended.c.number,
            ended.c.intent,
            ended.c.tenant,
            ended.c.id,
            ended.c.incarnation,
        ).where(what.in_(bindparam("erasures", expanding=True)))
        return union_all(first.where(which), second)

    return kept(ops, ("both",), make)


# ------------------------------------------------------------------------------------------ writing


def end_of(
    key: Key, revision: Revision, at: float, op: str = "", intent: int = 0
) -> dict[str, Any]:
    """The row of `ended` for a life that ended, or an erasure."""
    return {
        "tenant": key[0],
        "id": key[2],
        "op": op,
        "intent": intent,
        "incarnation": revision.incarnation,
        "number": revision.number,
        "at": at,
    }


async def note_ends(
    connection: AsyncConnection, dialect: Dialect, tables: Tables, rows: Sequence[dict[str, Any]]
) -> None:
    """Write down lives that have ended, and erasures."""
    if rows:
        changing = ["intent", "incarnation", "number", "at"]
        unique = ["tenant", "id", "op"]
        statement = dialect.upsert(tables.ended, unique, changing, latest="at")
        await connection.execute(statement, list(rows))
