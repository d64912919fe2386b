"""Commits folded into rows, inside one transaction.

`Transaction.apply` works on what it loaded of a state (a `Life`), not on rows: it reads only the
entries that a commit touches, remembers what it changes, and can take a refused commit's changes
back. `flush` writes what is left, so that many commits of one state cost one reading and one
writing of its rows. A list's rows are described in `schema`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from statehold.changes import (
    ABSENT,
    HOLD_SECONDS,
    PRESENT,
    Accumulate,
    Add,
    Append,
    Change,
    Commit,
    Drop,
    Key,
    Put,
    Refusal,
    Revision,
    Scalar,
    add_arrays,
    add_numbers,
    deadline,
    new_incarnation,
)
from statehold.driver import (
    Conflicted,
    Doubtful,
    FencedOff,
    Late,
    Outcome,
    Refused,
    Reused,
    Written,
    recalled,
)
from statehold.drivers.sqlite.erasing import erase_lists, erase_state
from statehold.drivers.sqlite.life import Life, encode_shape
from statehold.drivers.sqlite.names import FieldNames
from statehold.drivers.sqlite.reading import (
    SELECT_STATE,
    Ring,
    Row,
    cells_of,
    decode_shape,
    places,
)
from statehold.drivers.sqlite.schema import FIELD_BITS, PLACE_BITS, PLACE_MASK
from statehold.errors import Invalid

_WRITES = (
    "DELETE FROM cell WHERE slot = ?",
    "DELETE FROM cell WHERE slot = ? AND entry = ?",
    "INSERT INTO cell VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
    "REPLACE INTO item VALUES (?, ?)",
    "REPLACE INTO op VALUES (?, ?, ?, ?, ?, ?)",
    (
        "INSERT INTO state (tenant, kind, key, id, incarnation, number, epoch, created,"
        " updated, deadline, subject, ops, shape) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ),
    (
        "UPDATE state SET number = ?, epoch = ?, updated = ?, deadline = ?, ops = ?, shape = ?"
        " WHERE id = ?"
    ),
)
"""What writes the changes of states to their rows, in this order."""


class Transaction:
    """The commits of one call, between BEGIN and COMMIT, at one `now`."""

    __slots__ = (
        "_cursor",
        "_execute",
        "_lives",
        "_names",
        "_next_list",
        "_next_state",
        "erased",
        "now",
    )

    def __init__(self, cursor: sqlite3.Cursor, names: FieldNames, now: float) -> None:
        self._cursor = cursor
        self._execute: Callable[..., sqlite3.Cursor] = cursor.execute
        self._names = names
        self._lives: dict[Key, Life] = {}
        self._next_list = self._next_state = 0
        self.now = now
        self.erased = False
        """Whether something that was stored is gone, which the log is not to keep."""

    def apply(self, commit: Commit) -> Outcome:
        """Fold one commit, in the order of checks that `Driver.commit` gives."""
        life = self._life(commit.key)
        if commit.op or commit.until is not None:
            known = self._recalled(life, commit)
            if known is not None:
                return known
        if commit.epoch < life.epoch:
            return FencedOff(life.epoch)
        if commit.expect is not None or commit.erase:
            stands = Revision(life.incarnation, life.number) if life.number else ABSENT
            if not _holds(commit.expect, stands):
                return Conflicted(stands)
            if commit.erase:
                self._erase(life)
                if commit.op:
                    self._keep_erasure(commit, stands)
                return Written(stands)
        life.undo.clear()
        try:
            for change in commit.changes:
                _APPLY[type(change)](self, life, change)
        except Refusal as refusal:
            life.take_back()
            return Refused(refusal.field, refusal.reason, refusal.limit, refusal.found)
        self._advance(life, commit)
        return self._written(life, commit, life.number, repeated=False)

    def _advance(self, life: Life, commit: Commit) -> None:
        now = self.now
        if not life.number:
            life.incarnation = new_incarnation()
            life.created = now
        life.number += 1
        life.epoch = commit.epoch
        life.updated = max(now, life.updated)  # a clock may step back; what was forgotten may not
        life.deadline = deadline(life.created, now, commit.ttl, commit.max_age)
        if commit.subject is not None and commit.subject != life.subject:
            life.subject = commit.subject
            life.subject_changed = True
        if commit.op:
            life.ops += 1
            life.ops_kept = commit.ops
            life.new_ops[commit.op] = (life.number, life.ops, commit.intent, life.updated)
        life.changed = True

    def _written(self, life: Life, commit: Commit, number: int, *, repeated: bool) -> Written:
        revision = Revision(life.incarnation, number)
        want = commit.returning
        if want is None:
            return Written(revision, None, repeated)
        self._bring(life)
        cells = cells_of(self._execute, self._names, life.row(), want)
        return Written(revision, cells, repeated)

    def _life(self, key: Key) -> Life:
        life = self._lives.get(key)
        if life is not None:
            if life.deadline is not None and life.deadline <= self.now:
                self._erase(life)  # an earlier commit of this batch set a deadline that is past
            return life
        life = self._lives[key] = Life(key)
        row: Row | None = self._execute(SELECT_STATE, key).fetchone()
        if row is None:
            return life
        until = row[6]
        if until is not None and until <= self.now:
            self.erased = True
            erase_state(self._execute, row[0], decode_shape(row[9]))
        else:
            life.begin_stored(row)
        return life

    def _erase(self, life: Life) -> None:
        self.erased = True
        if life.changed:  # in this transaction, of which the file does not know
            self._execute("UPDATE ended SET at = max(at, ?)", (life.updated,))
        if life.stored:
            erase_lists(self._execute, life.gone)  # in the file, but no more in the shape
            erase_state(self._execute, life.id, life.shape)
        life.begin_absent()

    # ------------------------------------------------------------------------------------- op ids

    def _recalled(self, life: Life, commit: Commit) -> Outcome | None:
        """What a commit gets for its op id or its time; None if nothing speaks against it."""
        known = self._remembered(life, commit) if commit.op else None
        if known is not None:
            return known
        if commit.since is not None:
            forgotten = commit.erase and commit.since <= self.now - HOLD_SECONDS
            if forgotten or self._may_have_forgotten(life, commit.since):
                return Doubtful()
        return Late() if commit.until is not None and self.now > commit.until else None

    def _remembered(self, life: Life, commit: Commit) -> Outcome | None:
        erased = self._execute(
            "SELECT incarnation, number, intent FROM erased"
            " WHERE tenant = ? AND kind = ? AND key = ? AND op = ?",
            (*commit.key, commit.op),
        ).fetchone()
        if erased is not None:
            return recalled(commit, Revision(*erased[:2]), erased[2], erased=True)
        if life.ops:
            first = life.new_ops.get(commit.op)
            if first is None and life.stored:
                first = self._execute(
                    "SELECT number, seq, intent, at FROM op WHERE state = ? AND op = ?",
                    (life.id, commit.op),
                ).fetchone()
            if first is not None:
                outcome = recalled(
                    commit, Revision(life.incarnation, first[0]), first[2], erased=False
                )
                if isinstance(outcome, Reused):
                    return outcome
                return self._written(life, commit, first[0], repeated=True)
        return None

    def _may_have_forgotten(self, life: Life, since: float) -> bool:
        """Whether an op id that was applied at `since` or later may not be known any more."""
        if not life.number or life.created >= since:
            (ended,) = self._execute("SELECT at FROM ended").fetchone()
            if ended >= since:
                return True  # and it may have been an earlier life of this state
        if not life.number:
            return False
        self._bring(life)
        held, oldest = self._execute(
            "SELECT count(*), min(at) FROM op WHERE state = ?", (life.id,)
        ).fetchone()
        return bool(life.ops > held and (oldest is None or oldest >= since))

    def _keep_erasure(self, commit: Commit, stood: Revision) -> None:
        self._execute(
            "INSERT INTO erased (tenant, kind, key, op, intent, incarnation, number, until)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *commit.key,
                commit.op,
                commit.intent,
                stood.incarnation,
                stood.number,
                self.now + HOLD_SECONDS,
            ),
        )

    # -------------------------------------------------------------------------------- the changes

    def _entries(self, life: Life, field: str) -> tuple[int, int]:
        """The field's number and how many entries it has. Refuses a field of items."""
        number = self._names.number(self._execute, field)
        held = life.shape.get(number, 0)
        if isinstance(held, tuple):
            raise Refusal(field, "type", "entries", "items")
        return number, held

    def _entry(self, life: Life, number: int, entry: str) -> Scalar | None:
        place = (number, entry)
        dirty = life.dirty
        if place in dirty:
            return dirty[place]
        if not life.stored or number not in life.shape or number in life.cleared:
            return None
        if place in life.loaded:
            return life.loaded[place]
        row = self._execute(
            "SELECT value FROM cell WHERE slot = ? AND entry = ?",
            (life.id << FIELD_BITS | number, entry),
        ).fetchone()
        value = life.loaded[place] = None if row is None else row[0]
        return value

    def _set_entry(
        self, life: Life, number: int, held: int, change: Put | Add | Accumulate, value: Scalar
    ) -> None:
        """Set an entry that is not there yet, within the field's bound."""
        bound = change.bound
        while bound is not None and held >= bound:
            if not change.drop_lowest:
                raise Refusal(change.field, "bound", bound, held + 1)
            lowest = self._lowest(life, number)
            if change.entry < lowest:
                break  # it would be the first to go
            life.set(life.dirty, (number, lowest), None)
            held -= 1
        else:
            life.set(life.dirty, (number, change.entry), value)
            held += 1
        life.set(life.shape, number, held)

    def _lowest(self, life: Life, number: int) -> str:
        dirty = life.dirty
        names = [
            entry
            for (field, entry), value in dirty.items()
            if field == number and value is not None
        ]
        if life.stored and number not in life.cleared:
            rows = self._execute(
                "SELECT entry FROM cell WHERE slot = ? ORDER BY entry",
                (life.id << FIELD_BITS | number,),
            )
            for (entry,) in rows:
                if dirty.get((number, entry), entry) is not None:
                    names.append(entry)
                    break
        return min(names)

    def put(self, life: Life, change: Put) -> None:
        number, held = self._entries(life, change.field)
        if self._entry(life, number, change.entry) is None:
            self._set_entry(life, number, held, change, change.value)
        elif not change.if_absent:
            life.set(life.dirty, (number, change.entry), change.value)

    def add(self, life: Life, change: Add) -> None:
        number, held = self._entries(life, change.field)
        old = self._entry(life, number, change.entry)
        total = add_numbers(change.field, _readable(change.field, old), change.amount)
        if old is None:
            self._set_entry(life, number, held, change, total)
        else:
            life.set(life.dirty, (number, change.entry), total)

    def accumulate(self, life: Life, change: Accumulate) -> None:
        number, held = self._entries(life, change.field)
        old = self._entry(life, number, change.entry)
        total = add_arrays(change.field, _readable(change.field, old), change.array)
        if old is None:
            self._set_entry(life, number, held, change, total)
        else:
            life.set(life.dirty, (number, change.entry), total)

    def append(self, life: Life, change: Append) -> None:
        if not change.items:
            return
        keep = change.keep
        if not 1 <= keep <= PLACE_MASK:
            raise Invalid(
                f"{change.field}: a list keeps 1 to {PLACE_MASK} items, not {keep}",
                field=change.field,
                expected=PLACE_MASK,
                found=keep,
            )
        number = self._names.number(self._execute, change.field)
        held = life.shape.get(number)
        if held is None:
            held = (0, 0, 0, keep)
            life.set(life.shape, number, held)
        elif not isinstance(held, tuple):
            raise Refusal(change.field, "type", "items", "entries")
        items, count, _ = life.pending.get(number, ((), held[2], keep))
        count = min(count + len(change.items), keep)
        life.set(life.pending, number, ((items + change.items)[-count:], count, keep))

    def drop(self, life: Life, change: Drop) -> None:
        number = self._names.known(self._execute, change.field)
        held = None if number is None else life.shape.get(number)
        if number is None or held is None:
            return
        self.erased = True
        if isinstance(held, tuple):
            if change.entry is not None:
                return
            if held[0]:
                life.set(life.gone, held[0], True)
            if number in life.pending:
                life.remove(life.pending, number)
            life.remove(life.shape, number)
        elif change.entry is None:
            life.set(life.cleared, number, True)
            for place in [place for place in life.dirty if place[0] == number]:
                life.remove(life.dirty, place)
            life.remove(life.shape, number)
        elif self._entry(life, number, change.entry) is not None:
            life.set(life.dirty, (number, change.entry), None)
            if held > 1:
                life.set(life.shape, number, held - 1)
            else:
                life.remove(life.shape, number)

    # --------------------------------------------------------------------------------- the writing

    def end(self) -> None:
        """Write every change that is not written yet. Nothing is applied any more afterwards."""
        self._flush(self._lives.values())

    def _bring(self, life: Life) -> None:
        """Write the changes of this state, so that it can be read."""
        if life.changed:
            self._flush((life,))
            self._settle(life)

    def _flush(self, lives: Iterable[Life]) -> None:
        cleared: list[tuple[int]] = []
        dropped: list[tuple[int, str]] = []
        entries: list[tuple[int, str, Scalar]] = []
        items: list[tuple[int, bytes]] = []
        ops: list[tuple[int, str, int, int, int, float]] = []
        made: list[tuple[Any, ...]] = []
        changed: list[tuple[Any, ...]] = []
        for life in lives:
            if not life.changed:
                continue
            base = self._state_id(life) << FIELD_BITS
            erase_lists(self._execute, life.gone)
            if life.cleared:
                cleared.extend((base | number,) for number in life.cleared)
            for (number, entry), value in life.dirty.items():
                if value is None:
                    dropped.append((base | number, entry))
                else:
                    entries.append((base | number, entry, value))
            for number, (new, count, keep) in life.pending.items():
                items += self._list_rows(life, number, new, count, keep)
            if life.new_ops:
                ops += self._op_rows(life)
            shape = encode_shape(life.shape).decode()  # TEXT, for people
            if not life.stored:
                made.append((*life.key, *life.row()[:-1], shape))
            else:
                changed.append(
                    (life.number, life.epoch, life.updated, life.deadline, life.ops, shape, life.id)
                )
                if life.subject_changed:
                    self._execute(
                        "UPDATE state SET subject = ? WHERE id = ?", (life.subject, life.id)
                    )
        self._write((cleared, dropped, entries, items, ops, made, changed))

    def _write(self, each: Iterable[Sequence[tuple[Any, ...]]]) -> None:
        """Execute each of `_WRITES` for its rows."""
        for statement, rows in zip(_WRITES, each, strict=True):
            if len(rows) == 1:
                self._execute(statement, rows[0])
            elif rows:
                self._cursor.executemany(statement, rows)

    def _state_id(self, life: Life) -> int:
        if not life.stored:
            if not self._next_state:
                (newest,) = self._execute("SELECT max(id) FROM state").fetchone()
                self._next_state = (newest or 0) + 1
            life.id = self._next_state
            self._next_state += 1
        return life.id

    @staticmethod
    def _settle(life: Life) -> None:
        """What was written is now what is stored."""
        life.stored = True
        life.changed = life.subject_changed = False
        if life.cleared:
            cleared = life.cleared
            life.loaded = {at: value for at, value in life.loaded.items() if at[0] not in cleared}
            life.cleared = {}
        life.loaded.update(life.dirty)
        life.dirty = {}
        life.gone = {}
        life.pending = {}
        life.new_ops = {}

    def _list_rows(
        self, life: Life, number: int, new: tuple[bytes, ...], count: int, keep: int
    ) -> Iterable[tuple[int, bytes]]:
        """The rows that make the list hold `count` items, `new` the newest; its ring brought up."""
        held = cast("Ring", life.shape[number])
        list_id, following, stored, ring = held
        if not list_id:
            list_id = self._list_id()
        if keep > ring and following == 0 and stored == ring:
            following = ring  # full, and not wrapped yet: it can go on past its end
        if keep > ring and following >= stored:
            ring = keep
        base = list_id << PLACE_BITS
        staying = count - len(new)
        if ring != keep or staying not in (stored, keep - len(new)):
            # The bound has changed: lay the ring out anew.
            new = (*self._newest(base, held, staying), *new)
            erase_lists(self._execute, (list_id,))
            following, ring = 0, keep
        life.shape[number] = (list_id, (following + len(new)) % ring, count, ring)
        if following + len(new) <= ring:
            return enumerate(new, base + following)
        return [(base | (following + nth) % ring, item) for nth, item in enumerate(new)]

    def _newest(self, base: int, held: Ring, count: int) -> list[bytes]:
        return [
            value
            for first, last in places(held, count)
            for (value,) in self._execute(
                "SELECT value FROM item WHERE id BETWEEN ? AND ? ORDER BY id",
                (base | first, base | last),
            )
        ]

    def _list_id(self) -> int:
        if not self._next_list:
            (newest,) = self._execute("SELECT max(id) FROM item").fetchone()
            self._next_list = ((newest or 0) >> PLACE_BITS) + 1
        self._next_list += 1
        return self._next_list - 1

    def _op_rows(self, life: Life) -> list[tuple[int, str, int, int, int, float]]:
        """The rows of the new op ids; those that no longer count go, a few commits' worth at a time."""
        seqs = [which[1] for which in life.new_ops.values()]
        each = max(1, life.ops_kept // 4)
        if max(seqs) // each != (min(seqs) - 1) // each:
            self._execute(
                "DELETE FROM op WHERE state = ? AND seq <= ?", (life.id, life.ops - life.ops_kept)
            )
        return [(life.id, op, *which) for op, which in life.new_ops.items()]


def _holds(expect: Revision | None, stands: Revision) -> bool:
    if expect is None:
        return True
    return stands != ABSENT if expect == PRESENT else stands == expect


def _readable(field: str, value: Any) -> Scalar | None:
    if value is not None and not isinstance(value, (bytes, int, float)):
        raise Refusal(field, "type", "bytes or a number", type(value).__name__)
    return value


_APPLY: dict[type[Change], Callable[[Transaction, Life, Any], None]] = {
    Put: Transaction.put,
    Drop: Transaction.drop,
    Add: Transaction.add,
    Accumulate: Transaction.accumulate,
    Append: Transaction.append,
}
