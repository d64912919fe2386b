"""One state within a transaction: what is known of it, and what was folded into it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import msgspec

from statehold.changes import Append, Cell, Change, Scalar, Splice
from statehold.commits import About, Key, Revision, digest_of
from statehold.drivers.sqlite.ends import end_of
from statehold.drivers.sqlite.fences import fence_of
from statehold.drivers.sqlite.reading import (
    SCALARS,
    Execute,
    Ring,
    Row,
    Shape,
    decode_several,
    decode_shape,
    encode_several,
    rows_of,
)
from statehold.drivers.sqlite.schema import FIELD_BITS
from statehold.folding import INSTALLED, Applied, Ends, Fence, Head, Part


class Life(msgspec.Struct):
    """What a transaction knows and has changed of one state; see `folding.Past` for what is asked."""

    execute: Execute
    key: Key
    head: Head | None = None
    id: int = 0
    ops: int = 0
    """How many op ids there have been."""
    stored: bool = False
    """Whether the file has a row of it, with this `subject` and `shape`."""
    subject: About | None = None
    shape: Shape = {}
    ops_kept: int = 0
    changed: bool = False
    fields: dict[str, Cell] = {}
    """The cells of what was touched, as far as a change looked at them."""
    touched: dict[str, int] = {}
    """The fields that were changed, and their numbers."""
    new_ops: dict[str, tuple[int, int, int, float]] = {}
    """By op id: as in the table, number, seq, intent, at."""

    def settle(self) -> None:
        """What was folded is written, and nothing is loaded."""
        self.changed = False
        self.fields, self.touched, self.new_ops = {}, {}, {}

    @classmethod
    def of(cls, execute: Execute, key: Key, row: Row) -> Life:
        """What a row as `SELECT_STATE` shows it tells of a state. Raises `Corrupted`."""
        id, incarnation, number, epoch, created, updated, until, subject, ops, text = row
        if type(subject) is bytes:
            subject = decode_several(subject)
        head = Head(Revision(incarnation, number), created, updated, until, epoch, subject)
        return cls(execute, key, head, id, ops, True, subject, decode_shape(text))

    def row(self, shape: str) -> Row:
        """As `SELECT_STATE` would show it, with that shape."""
        head = self.head
        assert head is not None  # noqa: S101  it is there, since it is asked for
        subject = head.subject
        return (
            self.id,
            head.revision.incarnation,
            head.revision.number,
            head.epoch,
            head.created,
            head.updated,
            head.deadline,
            subject if type(subject) is not tuple else encode_several(subject),
            self.ops,
            shape,
        )

    def stored_cell(self, number: int, change: Change) -> Cell | None:
        """What the file has of a field, to be folded into. A new list begins with no items."""
        held = self.shape.get(number)
        if isinstance(held, tuple):
            end = held[4]
            return Ends(end, end - held[2], look_up=partial(_item, self.execute, held))
        if held is None:
            return Ends() if isinstance(change, Append | Splice) and change.items else None
        rows = _Rows()
        rows.others = held
        rows.changed = {}
        rows.execute = self.execute
        rows.slot = self.id << FIELD_BITS | number
        return rows

    # ------------------------------------------------------------------------------- what it remembers

    def applied(self, op: str) -> Applied | None:
        erased = self.execute(
            "SELECT incarnation, number, intent FROM erased"
            " WHERE tenant = ? AND kind = ? AND key = ? AND op = ?",
            (*self.key, op),
        ).fetchone()
        if erased is not None:
            return Applied(Revision(*erased[:2]), erased[2], erased=True)
        if self.head is None or not self.ops:
            return None
        first = self._op(op)
        if first is None and self.ops >= INSTALLED:
            first = self._op(digest_of(op))
        if first is None:
            return None
        return Applied(Revision(self.head.revision.incarnation, first[0]), first[2])

    def _op(self, op: str) -> Any:
        """Number, seq and intent of the commit with this op id, if it is remembered."""
        found: Any = self.new_ops.get(op)
        if found is None and self.stored:
            found = self.execute(
                "SELECT number, seq, intent FROM op WHERE state = ? AND op = ?", (self.id, op)
            ).fetchone()
        return found

    def forgot(self) -> float:
        """Of those that are gone none was later than the oldest that is there."""
        held, oldest, gone = 0, None, -math.inf
        if self.stored:
            held, oldest = self.execute(
                "SELECT count(*), min(at) FROM op WHERE state = ? AND op <> ''", (self.id,)
            ).fetchone()
        ever, new = self.ops, len(self.new_ops)
        if ever >= INSTALLED:
            (gone,) = (
                self.new_ops[""][3:]
                if "" in self.new_ops
                else self.execute(
                    "SELECT at FROM op WHERE state = ? AND op = ''", (self.id,)
                ).fetchone()
                or (math.inf,)
            )
            ever, new = ever - INSTALLED, new - ("" in self.new_ops)
        if ever <= held + new:
            return gone
        if oldest is None:
            times = (at for op, (*_, at) in self.new_ops.items() if op)
            oldest = min(times, default=math.inf)
        return max(gone, oldest)

    def ended(self) -> float:
        return end_of(self.execute, self.key)

    def fence(self) -> Fence:
        return fence_of(self.execute, self.key)


def _item(execute: Execute, ring: Ring, position: int) -> bytes:
    """An item of a list, b"" where it is not there as bytes: it is like nothing that was put."""
    skip = position - ring[4] + ring[2] - 1
    found = rows_of(execute, ring, skip, 1)
    return found[0] if found and type(found[0]) is bytes else b""


class _Rows(Part):
    """Entries of a field in the file, looked up when a change asks for them."""

    __slots__ = ("execute", "slot")

    execute: Execute
    slot: int

    def look_up(self, entry: str) -> Scalar | None:
        row = self.execute(
            "SELECT value FROM cell WHERE slot = ? AND entry = ?", (self.slot, entry)
        ).fetchone()
        if row is None:
            return None
        value: Scalar = row[0]
        # What nobody can have put there is like bytes that say nothing: no number, and no array.
        return value if value.__class__ in SCALARS else b""

    def lowest_other(self) -> str | None:
        rows = self.execute("SELECT entry FROM cell WHERE slot = ? ORDER BY entry", (self.slot,))
        gone = self.changed
        return next((entry for (entry,) in rows if gone.get(entry, entry) is not None), None)

    def copy(self) -> Part:
        made = _Rows(self)
        made.others, made.execute, made.slot = self.others, self.execute, self.slot
        made.changed = self.changed.copy()
        return made
