"""One state within a transaction: what is known of it, and what was folded into it."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from statehold.changes import Append, Cell, Change, Key, Revision, Scalar
from statehold.drivers.sqlite.reading import Execute, Row, Shape, decode_shape
from statehold.drivers.sqlite.schema import FIELD_BITS
from statehold.folding import Applied, Ends, Head, Part

encode_shape = msgspec.json.Encoder().encode


class Life:
    """What a transaction knows and has changed of one state; see `folding.Past` for what is asked."""

    __slots__ = (
        "_execute",
        "changed",
        "fields",
        "head",
        "id",
        "key",
        "new_ops",
        "ops",
        "ops_kept",
        "shape",
        "stored",
        "subject",
        "touched",
    )

    def __init__(self, execute: Execute, key: Key, row: Row | None = None) -> None:
        self._execute = execute
        self.key = key
        self.head: Head | None = None
        self.shape: Shape = {}
        """What the file has of it, if it is `stored`."""
        self.subject: str | None = None
        """That of its row."""
        self.ops_kept = 0
        if row is None:
            self.id = self.ops = 0
            self.stored = False
        else:
            self.id, life, number, epoch, created, updated, until, subject, self.ops, text = row
            self.shape = decode_shape(text)
            self.head = Head(Revision(life, number), created, updated, until, epoch, subject)
            self.subject = subject
            self.stored = True
        self.changed = False
        self.fields: dict[str, Cell] = {}
        """The cells of what was touched, as far as a change looked at them."""
        self.touched: dict[str, int] = {}
        """The fields that were changed, and their numbers."""
        self.new_ops: dict[str, tuple[int, int, int, float]] = {}
        """By op id: as in the table, number, seq, intent, at."""

    def settle(self) -> None:
        """What was folded is written, and nothing is loaded."""
        self.changed = False
        self.fields, self.touched, self.new_ops = {}, {}, {}

    def row(self) -> Row:
        """As `SELECT_STATE` would show it."""
        head = self.head
        assert head is not None  # noqa: S101  it is there, since it is asked for
        return (
            self.id,
            head.revision.incarnation,
            head.revision.number,
            head.epoch,
            head.created,
            head.updated,
            head.deadline,
            head.subject,
            self.ops,
            self.shape_text(),
        )

    def shape_text(self) -> str:
        """The shape as in its row: TEXT, for people."""
        return encode_shape(self.shape).decode()

    def stored_cell(self, number: int, change: Change) -> Cell | None:
        """What the file has of a field, to be folded into. A new list begins with no items."""
        held = self.shape.get(number)
        if held is None:
            return Ends() if isinstance(change, Append) and change.items else None
        if isinstance(held, tuple):
            return Ends(held[2])
        rows = _Rows()
        rows.others = held
        rows.changed = {}
        rows.execute = self._execute
        rows.slot = self.id << FIELD_BITS | number
        return rows

    # ------------------------------------------------------------------------------- what it remembers

    def applied(self, op: str) -> Applied | None:
        erased = self._execute(
            "SELECT incarnation, number, intent FROM erased"
            " WHERE tenant = ? AND kind = ? AND key = ? AND op = ?",
            (*self.key, op),
        ).fetchone()
        if erased is not None:
            return Applied(Revision(*erased[:2]), erased[2], erased=True)
        if self.head is None or not self.ops:
            return None
        first: Any = self.new_ops.get(op)
        if first is None and self.stored:
            first = self._execute(
                "SELECT number, seq, intent FROM op WHERE state = ? AND op = ?", (self.id, op)
            ).fetchone()
        if first is None:
            return None
        return Applied(Revision(self.head.revision.incarnation, first[0]), first[2])

    def forgot(self) -> float:
        """Of those that are gone none was later than the oldest that is there."""
        held, oldest = 0, None
        if self.stored:
            held, oldest = self._execute(
                "SELECT count(*), min(at) FROM op WHERE state = ?", (self.id,)
            ).fetchone()
        if self.ops <= held + len(self.new_ops):
            return -math.inf
        if oldest is None:
            oldest = min((at for *_, at in self.new_ops.values()), default=math.inf)
        return float(oldest)

    def ended(self) -> float:
        (at,) = self._execute("SELECT at FROM ended").fetchone()
        return float(at)


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
        value: Any = row[0]
        # What nobody can have put there is like bytes that say nothing: no number, and no array.
        return value if isinstance(value, (bytes, int, float)) else b""

    def lowest_other(self) -> str | None:
        rows = self.execute("SELECT entry FROM cell WHERE slot = ? ORDER BY entry", (self.slot,))
        gone = self.changed
        return next((entry for (entry,) in rows if gone.get(entry, entry) is not None), None)

    def copy(self) -> Part:
        made = _Rows(self)
        made.others, made.execute, made.slot = self.others, self.execute, self.slot
        made.changed = self.changed.copy()
        return made
