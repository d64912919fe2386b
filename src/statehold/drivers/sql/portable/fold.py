"""One state within a transaction: what was loaded of it, and the fold of a commit into it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from statehold.changes import Append, Cell, Change, Drop, Entries, Refusal, Scalar, Splice
from statehold.commits import About, Commit, Key, part_of
from statehold.driver import Outcome
from statehold.drivers.sql.portable import fitting
from statehold.drivers.sql.schema.tables import FieldStorage
from statehold.errors import Corrupted, Invalid
from statehold.folding import (
    INSTALLED,
    NO_FENCE,
    NOT_COUNTED,
    Ends,
    Fence,
    Head,
    advance,
    is_over,
    refused,
    written,
)


@dataclass
class Life:
    """A state whose row is locked. `head` None: there is a row, and no state as yet."""

    key: Key
    state: int
    head: Head | None = None
    ops: int = 0
    nulls: frozenset[str] = frozenset()
    about: About | None = None
    """Whom the row says that it is about."""
    cells: dict[str, Cell] = field(default_factory=dict[str, Cell])
    """Of lists their `Ends`, of entries with a table of their own a `Part`."""
    loaded: set[str] = field(default_factory=set[str])
    """Fields that have entries in a table of their own."""
    counts: dict[str, int] = field(default_factory=dict[str, int])
    """How many entries a field has in a table of its own, where the row counts them."""
    touched: set[str] = field(default_factory=set[str])
    """Fields that were changed since the row was saved."""
    applied: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Op ids that were looked up or are new: the commit's number, and its intent."""
    recorded: list[tuple[str, int, float]] = field(default_factory=list[tuple[str, int, float]])
    """Those that are new since the row was saved, which of the life's each is, and when it came."""
    forgot: float = -math.inf
    """No op id that was applied after this time is forgotten. Known once it is `counted`."""
    counted: bool = False
    keep_ops: int = 0
    changed: bool = False
    """Whether there is anything to be saved."""
    fence: Fence = NO_FENCE
    """What the row said of epochs as it was locked."""

    def look(self, name: str, entry: str | None) -> Scalar | None:
        """What stands there, as folded so far; see `folding.Look`."""
        cell = self.cells.get(name)
        found = part_of(cell, entry)
        if found == b"" and isinstance(cell, Ends):
            raise Corrupted(f"{name}: its newest item cannot be read", field=name)
        return found

    def lives(self, now: float) -> bool:
        """Whether there is a state."""
        return self.head is not None and not is_over(self.head, now)

    def expired(self, now: float) -> bool:
        """Whether there was one."""
        return self.head is not None and is_over(self.head, now)


def apply(
    life: Life,
    commit: Commit,
    fields: Mapping[str, FieldStorage],
    now: float,
    packet: int | None = None,
    ended: float = -math.inf,
) -> Outcome:
    """Fold a commit that nothing bars into a state, which begins if there is none.

    `packet` is how large a statement may be, if that is limited; `ended` when other lives may have
    ended, which counts where one begins before that: it says so, or a clock was set back.
    """
    try:
        cells, touched = _folded(life, commit.changes, fields)
        if packet is not None:
            fitting.check(fields, life.touched | touched, cells, packet)
    except (Refusal, Invalid) as error:
        return refused(error)
    life.cells = cells
    life.touched |= touched
    begins = life.head is None
    head = life.head = advance(commit, life.head, now)
    if begins and ended > head.created:
        life.ops = INSTALLED
        note_forgotten(life, ended)
    if commit.op:
        life.ops += 1
        life.applied[commit.op] = (head.revision.number, commit.intent)
        life.recorded.append((commit.op, life.ops, max(now, head.updated)))
        life.keep_ops = commit.ops
    life.changed = True
    return written(head)


def note_forgotten(life: Life, until: float) -> None:
    """Of a life that is new in its row: op ids that it does not have may have been applied by then."""
    life.applied[""] = (0, 0)
    life.recorded.append(("", NOT_COUNTED, max(until, 0.0)))
    life.forgot, life.counted = until, True


def _folded(
    life: Life, changes: Iterable[Change], fields: Mapping[str, FieldStorage]
) -> tuple[dict[str, Cell], set[str]]:
    cells = life.cells.copy()
    own: list[str] = []
    touched: set[str] = set()
    for change in changes:
        name = change.field
        stored = fields.get(name)
        if stored is None:
            if isinstance(change, Drop):
                continue  # nothing was ever stored under that name
            raise Invalid(f"{name}: the tables have nothing to hold it", field=name)
        listed = stored.form == "items"
        if not isinstance(change, Drop) and isinstance(change, Append | Splice) is not listed:
            kinds = ("items", "entries")
            raise Refusal(name, "type", kinds[not listed], kinds[listed])
        change.into(cells, own)
        touched.add(name)
    for name in touched:
        cell = cells.get(name)
        if isinstance(cell, dict):
            fits(fields[name], cell)
    return cells, touched


def fits(stored: FieldStorage, entries: Entries) -> None:
    """Raises `Refusal` or `Invalid` for what the field's columns cannot hold."""
    numbers = stored.form == "number" or stored.adds
    arrays = stored.form in ("value", "object") or (
        stored.form == "entries" and stored.column_type != "nothing"
    )
    if stored.form in ("value", "number") and set(entries) - {""}:
        raise Invalid(f"{stored.name}: it has one entry, which has no name", field=stored.name)
    for entry, value in entries.items():
        if isinstance(value, bytes):
            if not arrays:
                raise Refusal(stored.name, "type", "a number", "bytes")
        elif not numbers:
            raise Refusal(stored.name, "type", "encoded values", type(value).__name__)
        elif stored.form == "number" and stored.column_type == "float":
            entries[entry] = float(value)
        elif stored.form == "number" and isinstance(value, float):
            raise Refusal(stored.name, "type", "an int", "float")
