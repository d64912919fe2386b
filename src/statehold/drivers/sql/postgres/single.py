"""A commit that comes alone, as a statement of plain SQL made for what it changes.

Theory of operation. `INSERT … ON CONFLICT DO UPDATE` locks the row and writes it at once; what is
evaluated there, the clock included, is evaluated once the lock is got. Where it does not do (an
expired state, an epoch, a full map) it writes nothing, returns no row, and the commit function does
the work; so it does when an op id has a row already, which is an error of the database's.

What is to undo all of it is looked at last, when the row is locked: that it is later than the commit
may be applied, that an erasure had the same op id, and what follows. It is a division by zero.

The child rows are written in the same statement, and so as the database was when it began: what was
committed while it waited for the lock is not seen, and an old item among that not deleted. So the
row as it was then is compared with the row as it was locked: they must be the same.

Nearly all commits of a service have one of a few shapes. Each shape has its own text, which names
the columns that it touches and no others: less work for the server than the function, and there are
no arrays to encode.
"""

# ruff: noqa: S608  what is put into SQL here is quoted, and names tables and columns
from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from statehold.changes import INT64_MAX, Add, Append, Change, Put
from statehold.commits import Commit, Revision, is_short, new_incarnation
from statehold.driver import Written
from statehold.drivers.sql.lanes import Answers
from statehold.drivers.sql.postgres import erasing
from statehold.drivers.sql.postgres.call import seconds
from statehold.drivers.sql.postgres.calling import Kind
from statehold.drivers.sql.postgres.fields import cast_of
from statehold.drivers.sql.postgres.phrases import (
    alive,
    earliest,
    every,
    forgotten,
    later,
    qualified,
    quoted,
)
from statehold.drivers.sql.postgres.pool import LOST, ServerError, cause_of, sqlstate
from statehold.drivers.sql.postgres.sending import Sender
from statehold.drivers.sql.retrying import Cause
from statehold.drivers.sql.schema.tables import FieldStorage, Tables
from statehold.drivers.sql.schema.types import ARGUMENT_TYPES, NATIVE, escaped
from statehold.drivers.sql.schema.values import NULL, checked_json, checked_jsonb, to_column
from statehold.errors import Invalid, StateholdError
from statehold.folding import INSTALLED

MOST_ITEMS: Final = 4
"""Of one list. More are as cheap as an array."""

MOST_SHAPES: Final = 64
"""Each connection keeps the plans of so many."""

STALE: Final = "22012"
"""The division by zero. Mostly others are writing to the same state."""

AVOIDED: Final = 32
"""How many commits that come alone go to the function after one met another writer to its state."""

_Shape = tuple[Any, ...]
_BEGAN: Final = "statement_timestamp()"
_NOW: Final = "clock_timestamp()"


class Statement(msgspec.Struct, frozen=True, gc=False):
    """What is sent."""

    text: str
    arguments: list[Any]


class Singles:
    """The statements of one kind."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._fields = tables.fields
        self._texts: dict[_Shape, str] = {}
        self._erasure = erasing.statement(tables)
        self.avoided = 0
        """So many more commits of the kind are left to the function."""

    def statement(self, commit: Commit, until: float) -> Statement | None:
        """The statement for a commit; None if it is not a plain one.

        It does nothing after `until`, by the database's clock.
        """
        if commit.epoch or commit.erase or commit.expect is not None or commit.returning:
            return None
        rare = (commit.since, commit.revision, commit.at, commit.claim)
        if commit.where or any(said is not None for said in rare):
            return None
        tenant, _, id = commit.key
        arguments: list[Any] = [escaped(tenant), escaped(id), new_incarnation(), until]
        limits = [limit is not None for limit in (commit.ttl, commit.max_age)]
        arguments += [seconds(limit) for limit in (commit.ttl, commit.max_age) if limit is not None]
        if commit.subject is not None:
            if isinstance(commit.subject, tuple):
                return None
            arguments.append(escaped(commit.subject))
        if commit.op:
            arguments += [escaped(commit.op), commit.ops, commit.intent]
        fields: list[tuple[str, int]] = []
        try:
            for change in commit.changes:
                count = self._taken(change, arguments)
                if not count:
                    return None
                fields.append((change.field, count))
        except Invalid:
            return None
        op = 0 if not commit.op else 1 if is_short(commit.op) else 2
        shape = (*limits, commit.subject is not None, op, *fields)
        text = self._texts.get(shape)
        if text is None:
            text = self._made(shape, fields)
        return Statement(text, arguments) if text else None

    def erasure(self, commit: Commit, until: float) -> Statement | None:
        """As `statement`, for a commit that erases."""
        given = erasing.arguments(commit, until)
        return None if given is None else Statement(self._erasure, given)

    def _made(self, shape: _Shape, fields: list[tuple[str, int]]) -> str | None:
        """The text of a new shape, if there is room, and no field is changed twice."""
        if len(self._texts) >= MOST_SHAPES or len({name for name, _ in fields}) < len(fields):
            return None
        text = self._texts[shape] = _text(self._tables, shape)
        return text

    def _taken(self, change: Change, arguments: list[Any]) -> int:
        """How many values the field gets, which are added to the arguments; 0 if that is not plain."""
        stored = self._fields.get(change.field)
        if stored is None:
            return 0
        if isinstance(change, Append) and stored.form == "items":
            count = len(change.items)
            arguments += [to_column(stored, item) for item in change.items]
            arguments.append(change.keep)
            return count if count <= min(change.keep, MOST_ITEMS) else 0
        if isinstance(change, Add) and stored.form == "number" and not change.entry:
            arguments.append(change.amount)
            if stored.column_type == "int":
                return isinstance(change.amount, int) and abs(change.amount) <= INT64_MAX
            return math.isfinite(change.amount)
        if isinstance(change, Put) and not change.if_absent:
            return self._put(stored, change, arguments)
        return 0

    def _put(self, stored: FieldStorage, change: Put, arguments: list[Any]) -> int:
        if stored.form == "value" and not change.entry:
            arguments.append(to_column(stored, change.value))
            return change.value != NULL or stored.column_type not in NATIVE
        if (stored.form != "object" and not stored.counted) or change.drop_lowest:
            return 0
        checked = checked_json if stored.counted else checked_jsonb
        arguments += [escaped(change.entry), checked(stored.name, change.value)]
        if change.bound is None:
            return 1
        arguments.append(change.bound)
        return 2 if change.bound > 0 else 0


class Single:
    """The tier that commits what comes alone by a statement of its own; see `tiers.Tier`."""

    name = "single"

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._kinds: dict[str, Singles] = {}

    def open(self, tables: Tables) -> None:
        """Make ready for a kind."""
        self._kinds[tables.kind] = Singles(tables)

    async def commit(
        self,
        kind: Kind,
        commits: Sequence[Commit],
        now: float,  # noqa: ARG002  the database's clock says when it is
        until: float,
        ends: float,  # noqa: ARG002  it is the first, with all the time
    ) -> Answers | None:
        """What became of it, if a statement of its own does it; None if that wrote nothing."""
        if len(commits) > 1:
            return None
        commit, singles = commits[0], self._kinds[kind.tables.kind]
        made = singles.erasure if commit.erase else singles.statement
        single = None if singles.avoided else made(commit, until)
        singles.avoided -= singles.avoided > 0
        if single is None:
            return None
        began = time.monotonic()
        try:
            name = kind.tables.kind
            rows = await self._sender.at_once(single.text, single.arguments, name, wait=True)
        except StateholdError:  # some of which are OSErrors
            raise
        except LOST as error:
            return [self._sender.again(commit, began, error)]
        except ServerError as error:
            state = sqlstate(error)
            if state == STALE:
                singles.avoided = AVOIDED
            elif state[:2] not in ("22", "23") and cause_of(error) is Cause.OTHER:
                raise self._sender.translated(error) from error
            return None
        if not rows:
            return None
        self._sender.counts.calls += 1
        self._sender.counts.commits += 1
        return [_written(rows[0])]


def _written(row: Sequence[Any]) -> Written:
    """What a statement says of the state; of one that was erased, the first two alone."""
    incarnation, number, *times, _ = row
    if not times:
        return Written(Revision(incarnation, number))
    updated, expires = times
    ends_at = None if expires is None else expires.timestamp()
    return Written(Revision(incarnation, number), None, False, updated.timestamp(), ends_at)


class _Numbered:
    """Places of arguments, given out in their order."""

    def __init__(self) -> None:
        self._last = 0

    def next(self, kind: str) -> str:
        self._last += 1
        return f"${self._last}::{kind}"


class _Row:
    """The columns of the main row: what each is set to."""

    def __init__(self) -> None:
        self.columns = ["tenant", "id", "incarnation", "created_at", "epoch"]
        self.values: list[str] = []
        self.sets: list[str] = []
        self.conditions = [
            "t.epoch = 0",
            alive(_NOW),
        ]
        self.returned = ["state", "incarnation", "number", "updated_at", "expires_at"]

    def add(self, column: str, inserted: str, updated: str) -> None:
        """A column, and what it becomes in a new row and in one that is there."""
        self.columns.append(column)
        self.values.append(inserted)
        self.sets.append(f"{column} = {updated}")


def _text(tables: Tables, shape: _Shape) -> str:
    """The statement for a shape: which limits and names there are, then the fields."""
    main, given, row = qualified(tables.schema, tables.main.name), _Numbered(), _Row()
    tenant, id, incarnation = given.next("text"), given.next("text"), given.next("bigint")
    undone = [f"{_NOW} > to_timestamp({given.next('float8')})"]
    row.values += [tenant, id, incarnation, _BEGAN, "0"]
    ttl, max_age = (given.next("float8") if there else None for there in shape[:2])
    row.add("number", "1", "t.number + 1")
    row.add("updated_at", _BEGAN, _NOW)
    row.add(
        "expires_at",
        _deadline(_BEGAN, _BEGAN, ttl, max_age),
        _deadline(_NOW, "t.created_at", ttl, max_age),
    )
    if shape[2]:
        subject = given.next("text")
        row.add("subject", subject, subject)
        row.conditions.append("t.also_about IS NULL")
    after: list[str] = []
    if shape[3]:
        op, after = _op_id(tables, row, given)
        if shape[3] == 2:  # a life that was installed may know it by its digest
            row.conditions.append(f"t.ops < {INSTALLED}")
        ended = qualified(tables.schema, tables.ended.name)
        which = f"e.tenant = {tenant} AND e.id = {id} AND e.op = {op}"
        undone.append(f"EXISTS (SELECT FROM {ended} AS e WHERE {which})")
    else:
        row.add("ops", "0", "t.ops")
    for name, count in shape[4:]:
        after += _field(tables, tables.fields[name], count, row, given)
    written = (
        f"s AS (INSERT INTO {main} AS t ({', '.join(row.columns)})"
        f" VALUES ({', '.join(row.values)})"
        f" ON CONFLICT (tenant, id) DO UPDATE SET {', '.join(row.sets)}"
        f" WHERE {' AND '.join(row.conditions)}"
        f" RETURNING {', '.join(f't.{name}' for name in row.returned)})"
    )
    parts = [written, *(f"a{number} AS ({each})" for number, each in enumerate(after))]
    rows = "s"
    fields = [tables.fields[name] for name, _ in shape[4:]]
    if any(stored.form == "items" or stored.counted for stored in fields):
        rows = f"s LEFT JOIN {main} AS b ON b.tenant = {tenant} AND b.id = {id}"
        old = "(s.state, s.number) IS DISTINCT FROM (b.state, b.number + 1)"
        undone.append(f"s.number > 1 AND {old}")
    return (
        f"WITH {', '.join(parts)} SELECT s.incarnation, s.number, s.updated_at, s.expires_at,"
        f" CASE WHEN {' OR '.join(undone)} THEN 1 / (s.number - s.number) END FROM {rows}"
    )


def _op_id(tables: Tables, row: _Row, given: _Numbered) -> tuple[str, list[str]]:
    """The op id, and the statements that remember it."""
    op, remembered, intent = given.next("text"), given.next("bigint"), given.next("bigint")
    row.add("ops", "1", "t.ops + 1")
    row.returned.append("ops")
    ops = qualified(tables.schema, tables.ops.name)
    insert = (
        f"INSERT INTO {ops} (state, op, number, seq, intent, at)"
        f" SELECT s.state, {op}, s.number, s.ops, {intent}, s.updated_at FROM s"
    )
    delete = (  # now and then
        f"DELETE FROM {ops} AS c USING s WHERE s.ops % {every(remembered)} = 0"
        f" AND c.state = s.state AND {forgotten(f's.ops - {remembered}', 's.ops', 's.updated_at')}"
    )
    return op, [insert, delete]


def _field(
    tables: Tables, stored: FieldStorage, count: int, row: _Row, given: _Numbered
) -> list[str]:
    """Set its column. Returns the statements on its table."""
    column = quoted(stored.column)
    if stored.form == "items":
        row.returned.append(column)
        row.add(column, str(count), f"COALESCE(t.{column}, 0) + {count}")
        return _items(qualified(tables.schema, stored.table), stored, count, given)
    if stored.form == "number":
        amount = given.next(ARGUMENT_TYPES[stored.column_type])
        row.add(column, f"0 + {amount}", f"COALESCE(t.{column}, 0) + {amount}")
    elif stored.form == "value":
        value = given.next(ARGUMENT_TYPES[stored.column_type]) + cast_of(stored)
        row.add(column, value, f"excluded.{column}")  # and so a vector is parsed once
        if stored.column_type in NATIVE:
            row.conditions.append("t.nulls IS NULL")  # a null may be noted there
    elif stored.counted:
        return [_counted(qualified(tables.schema, stored.table), column, count, row, given)]
    else:
        entry, value = given.next("text"), given.next("text")
        put = f"jsonb_build_object({entry}, {value}::jsonb)"
        old = f"COALESCE(t.{column}, '{{}}')"
        row.add(column, put, f"{old} || {put}")
        if count > 1:
            held = f"(SELECT count(*) FROM jsonb_object_keys({old}))"
            row.conditions.append(f"({old} ? {entry} OR {held} < {given.next('bigint')})")
    return []


def _deadline(now: str, created: str, ttl: str | None, max_age: str | None) -> str:
    """The deadline by those limits that there are."""
    limits = ((now, ttl), (created, max_age))
    ends = [later(since, limit) for since, limit in limits if limit is not None]
    return earliest(ends) if ends else "NULL"


def _counted(table: str, column: str, count: int, row: _Row, given: _Numbered) -> str:
    """The statement that puts an entry, which the row counts if it is new.

    Whether it is new is seen as of the statement's beginning, which is right if the row is as it was then.
    """
    entry, value = given.next("text"), given.next("text")
    there = f"EXISTS (SELECT FROM {table} AS c WHERE c.state = t.state AND c.entry = {entry})"
    held = f"COALESCE(t.{column}, 0)"
    row.add(column, "1", f"{held} + CASE WHEN {there} THEN 0 ELSE 1 END")
    if count > 1:
        row.conditions.append(f"({there} OR {held} < {given.next('bigint')})")
    return (
        f"INSERT INTO {table} (state, entry, value) SELECT s.state, {entry}, {value}::json FROM s"
        " ON CONFLICT (state, entry) DO UPDATE SET value = excluded.value"
    )


def _items(table: str, stored: FieldStorage, count: int, given: _Numbered) -> list[str]:
    """The statements that append so many items and delete the ones beyond the bound."""
    end = f"s.{quoted(stored.column)}"
    cast = "::json" if stored.column_type == "json" else ""
    values = [given.next(ARGUMENT_TYPES[stored.column_type]) + cast for _ in range(count)]
    keep = given.next("bigint")
    if count == 1:
        rows = f"SELECT s.state, {end}, {values[0]} FROM s"
    else:
        listed = ", ".join(f"({at}, {value})" for at, value in enumerate(values, 1))
        rows = f"SELECT s.state, {end} - {count} + v.at, v.v FROM s, (VALUES {listed}) AS v(at, v)"
    return [
        f"INSERT INTO {table} (state, seq, value) {rows}",
        f"DELETE FROM {table} AS c USING s WHERE c.state = s.state AND c.seq <= {end} - {keep}",
    ]
