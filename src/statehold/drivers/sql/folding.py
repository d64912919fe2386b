"""One state within a transaction: what was loaded of it, and the fold of a commit into it.

Entries are folded by the changes themselves; of lists only their ends are known, since an append
needs no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from statehold.changes import (
    ABSENT,
    PRESENT,
    Append,
    Cell,
    Change,
    Commit,
    Drop,
    Entries,
    Key,
    Refusal,
    Revision,
    Scalar,
    deadline,
    new_incarnation,
)
from statehold.driver import Conflicted, FencedOff, Outcome, Refused, Written
from statehold.drivers.sql import fitting
from statehold.drivers.sql.tables import Stored
from statehold.errors import Invalid


class Part(dict[str, Scalar]):
    """Some of a field's entries; `others` is how many more there are in the table."""

    others: int = 0

    @classmethod
    def of(cls, entries: Mapping[str, Scalar], others: int) -> Part:
        """These, and so many others."""
        made = cls(entries)
        made.others = others
        return made

    def __len__(self) -> int:
        return super().__len__() + self.others

    def copy(self) -> Part:
        """One that can be changed by itself."""
        return Part.of(self, self.others)


class Ends(msgspec.Struct, frozen=True):
    """A list: its rows have the numbers over `floor` to `end`; `fresh` are the newest, unsaved."""

    end: int = 0
    floor: int = 0
    """0 also stands for a floor that is not known."""
    fresh: tuple[bytes, ...] = ()

    def after(self, change: Append) -> Ends:
        """With the items at its end, and the oldest gone."""
        end = self.end + len(change.items)
        floor = max(self.floor, end - change.keep)
        fresh = (*self.fresh, *change.items)
        return Ends(end, floor, fresh[max(0, len(fresh) - (end - floor)) :])


_NO_ITEMS: Final = Ends()


@dataclass
class Life:
    """A state whose row is locked. `incarnation` 0: there is a row, and no state as yet."""

    key: Key
    state: int
    incarnation: int = 0
    number: int = 0
    created: float = 0.0
    updated: float = 0.0
    deadline: float | None = None
    epoch: int = 0
    subject: str | None = None
    ops: int = 0
    nulls: frozenset[str] = frozenset()
    cells: dict[str, Cell] = field(default_factory=dict[str, Cell])
    lists: dict[str, Ends] = field(default_factory=dict[str, Ends])
    loaded: dict[str, Cell] = field(default_factory=dict[str, Cell])
    """The entries with a table of their own as they stand in it, to see what has changed."""
    touched: set[str] = field(default_factory=set[str])
    """Fields that were changed since the row was saved."""
    applied: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Op ids that were looked up or are new: the commit's number, and its intent."""
    recorded: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """Those that are new since the row was saved, and which of the life's each is."""
    forgot: float = -math.inf
    """No op id that was applied after this time is forgotten. Known once it is `counted`."""
    counted: bool = False
    keep_ops: int = 0
    changed: bool = False
    """Whether there is anything to be saved."""

    @property
    def revision(self) -> Revision:
        """The revision of the newest commit."""
        return Revision(self.incarnation, self.number)

    def lives(self, now: float) -> bool:
        """Whether there is a state."""
        return self.incarnation != 0 and (self.deadline is None or now < self.deadline)


def refusal(life: Life | None, commit: Commit, now: float) -> Outcome | None:
    """What a commit gets whose conditions do not hold; None for one that is to be applied."""
    alive = life is not None and life.lives(now)
    stands = life.revision if life is not None and alive else ABSENT
    if life is not None and alive and commit.epoch < life.epoch:
        return FencedOff(life.epoch)
    expect = commit.expect
    if expect is not None and expect != stands and not (expect == PRESENT and alive):
        return Conflicted(stands)
    return None


def apply(
    life: Life,
    commit: Commit,
    fields: Mapping[str, Stored],
    now: float,
    packet: int | None = None,
) -> Outcome:
    """Fold a commit that nothing bars into a state, which begins if there is none.

    `packet` is how large a statement may be, if that is limited.
    """
    try:
        cells, lists, touched = _folded(life, commit.changes, fields)
        if packet is not None:
            fresh = {name: lists[name].fresh for name in touched if name in lists}
            fitting.check(fields, life.touched | touched, cells, fresh, packet)
    except Refusal as refused:
        return Refused(refused.field, refused.reason, refused.limit, refused.found)
    life.cells, life.lists = cells, lists
    life.touched |= touched
    if life.incarnation == 0:
        life.incarnation = new_incarnation()
        life.created = now
    life.number += 1
    life.updated = now
    life.deadline = deadline(life.created, now, commit.ttl, commit.max_age)
    life.epoch = commit.epoch
    if commit.subject is not None:
        life.subject = commit.subject
    if commit.op:
        life.ops += 1
        life.applied[commit.op] = (life.number, commit.intent)
        life.recorded.append((commit.op, life.ops))
        life.keep_ops = commit.ops
    life.changed = True
    return Written(life.revision)


def _folded(
    life: Life, changes: Iterable[Change], fields: Mapping[str, Stored]
) -> tuple[dict[str, Cell], dict[str, Ends], set[str]]:
    cells, lists = life.cells.copy(), life.lists.copy()
    own: list[str] = []
    touched: set[str] = set()
    for change in changes:
        name = change.field
        stored = fields.get(name)
        if stored is None:
            if isinstance(change, Drop):
                continue  # nothing was ever stored under that name
            raise Invalid(f"{name}: the tables have nothing to hold it", field=name)
        if stored.lies == "items":
            lists[name] = _listed(lists.get(name, _NO_ITEMS), change)
        elif isinstance(change, Append):
            raise Refusal(name, "type", "items", "entries")
        else:
            change.into(cells, own)
        touched.add(name)
    for name in touched:
        cell = cells.get(name)
        if isinstance(cell, dict):
            _check(fields[name], cell)
    return cells, lists, touched


def _listed(ends: Ends, change: Change) -> Ends:
    """A list after a change. Raises `Refusal`."""
    if isinstance(change, Append):
        return ends.after(change) if change.items else ends
    if not isinstance(change, Drop):
        raise Refusal(change.field, "type", "entries", "items")
    return Ends(ends.end, ends.end) if change.entry is None else ends


def _check(stored: Stored, entries: Entries) -> None:
    """Raises `Refusal` or `Invalid` for what the field's columns cannot hold."""
    numbers = stored.lies == "number" or stored.adds
    arrays = stored.lies in ("value", "object") or (
        stored.lies == "entries" and stored.holds != "nothing"
    )
    if stored.lies in ("value", "number") and set(entries) - {""}:
        raise Invalid(f"{stored.name}: it has one entry, which has no name", field=stored.name)
    for entry, value in entries.items():
        if isinstance(value, bytes):
            if not arrays:
                raise Refusal(stored.name, "type", "a number", "bytes")
        elif not numbers:
            raise Refusal(stored.name, "type", "encoded values", type(value).__name__)
        elif stored.lies == "number" and stored.holds == "float":
            entries[entry] = float(value)
        elif stored.lies == "number" and isinstance(value, float):
            raise Refusal(stored.name, "type", "an int", "float")
