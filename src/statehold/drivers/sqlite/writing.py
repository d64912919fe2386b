"""What was folded into states, written to their rows. A list's rows are described in `schema`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import msgspec

from statehold.changes import Cell, Items
from statehold.commits import About
from statehold.drivers.sqlite.erasing import AT_ONCE, erase_lists, leave, unlist
from statehold.drivers.sqlite.life import Life
from statehold.drivers.sqlite.reading import (
    Execute,
    Ring,
    encode_several,
    encode_shape,
    places,
    rows_of,
)
from statehold.drivers.sqlite.schema import FIELD_BITS, PLACE_BITS, PLACE_MASK
from statehold.errors import Invalid
from statehold.folding import Ends, Part

_WRITES: Final = (
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

_Rows: TypeAlias = list[tuple[Any, ...]]


class Writer(msgspec.Struct):
    """Writes within one transaction, and gives new states and lists their numbers."""

    cursor: sqlite3.Cursor
    execute: Execute
    next_list: int = 0
    next_state: int = 0
    births: int = 0
    """How many states were made."""
    written: int = 0
    """How many rows were written."""

    def write(self, lives: Iterable[Life]) -> None:  # noqa: C901, PLR0912  calls cost
        """Write what has changed of these states. Raises `Invalid`."""
        rows: tuple[_Rows, ...] = ([], [], [], [], [], [], [])
        _, dropped, entries, items, ops, made, changed = rows
        for life in lives:
            head = life.head
            if head is None or not life.changed:
                continue
            if not life.stored:
                life.id = self._state_id()
            for name, number in life.touched.items():
                cell = life.fields.get(name)
                if type(cell) is Ends:
                    items += self._list_rows(life, number, cell)
                elif isinstance(cell, Part):
                    slot = life.id << FIELD_BITS | number
                    for entry, value in cell.changed.items():
                        if value is None:
                            dropped.append((slot, entry))
                        else:
                            entries.append((slot, entry, value))
                    life.shape[number] = len(cell)
                else:
                    self._made_anew(rows, life, number, cell)
            if life.new_ops:
                ops += self._op_rows(life)
            shape = encode_shape(life.shape).decode()  # TEXT, for people
            number = head.revision.number
            if life.stored:
                changed.append(
                    (number, head.epoch, head.updated, head.deadline, life.ops, shape, life.id)
                )
                if head.subject != life.subject:
                    self._about(life, head.subject)
            else:
                made.append((*life.key, *life.row(shape)))
                life.stored = True
                if type(head.subject) is tuple:
                    self._list(life, head.subject)
            life.subject = head.subject
        self.births += len(made)
        for statement, some in zip(_WRITES, rows, strict=True):
            if some:
                self.written += len(some)
                if len(some) == 1:
                    self.execute(statement, some[0])
                else:
                    self.cursor.executemany(statement, some)

    def _made_anew(
        self, rows: tuple[_Rows, ...], life: Life, number: int, cell: Cell | None
    ) -> None:
        """A field that was dropped, or of which there was nothing; and what there is of it now."""
        cleared, _, entries, items, *_ = rows
        slot = life.id << FIELD_BITS | number
        held = life.shape.pop(number, None)
        if isinstance(held, tuple):
            self._drop_list(held)
        elif held is not None:
            cleared.append((slot,))
        if isinstance(cell, Items):
            count, floor = len(cell), cell.first - 1
            items += self._list_rows(life, number, Ends(floor + count, floor, tuple(cell), count))
        elif cell:
            entries += [(slot, entry, value) for entry, value in cell.items()]
            life.shape[number] = len(cell)

    def _about(self, life: Life, subject: About | None) -> None:
        """The state is about somebody else from now on."""
        if type(life.subject) is tuple:
            unlist(self.execute, life.id)
        if type(subject) is tuple:
            self._list(life, subject)
        told = encode_several(subject) if type(subject) is tuple else subject
        self.execute("UPDATE state SET subject = ? WHERE id = ?", (told, life.id))

    def _list(self, life: Life, subjects: tuple[str, ...]) -> None:
        tenant, kind, key = life.key
        self.cursor.executemany(
            "INSERT INTO about (state, subject, kind, tenant, key) VALUES (?, ?, ?, ?, ?)",
            [(life.id, subject, kind, tenant, key) for subject in subjects],
        )

    def _state_id(self) -> int:
        if not self.next_state:
            (newest,) = self.execute("SELECT max(id) FROM state").fetchone()
            self.next_state = (newest or 0) + 1
        self.next_state += 1
        return self.next_state - 1

    # --------------------------------------------------------------------------------------- lists

    def _list_rows(self, life: Life, number: int, ends: Ends) -> Iterable[tuple[int, bytes]]:
        """The rows of a list's new items; its ring is brought up."""
        held: Any = life.shape.get(number)
        if not held or not held[2] or held[3] != ends.keep or ends.is_spliced:
            return self._other_rows(life, number, ends)
        new, count = ends.fresh, ends.end - ends.first + 1
        list_id, following, stored, ring, _ = held
        staying, end = count - len(new), following + len(new)
        if staying != stored and staying != ring - len(new):
            return self._other_rows(life, number, ends)
        life.shape[number] = (list_id, end % ring, count, ring, ends.end)
        base = list_id << PLACE_BITS
        if end <= ring:
            return enumerate(new, base + following)
        return [(base | (following + n) % ring, item) for n, item in enumerate(new)]

    def _other_rows(  # noqa: C901  each case is one
        self, life: Life, number: int, ends: Ends
    ) -> Iterable[tuple[int, bytes]]:
        """The rows of a list that begins, is spliced, or has another bound than it had."""
        new, count = ends.fresh, ends.end - ends.first + 1
        held: Any = life.shape.get(number) or (0, 0, 0, 0, 0)
        list_id, following, stored, ring, end = held
        keep = ends.keep or ring
        if keep > PLACE_MASK:
            raise Invalid(f"a list keeps at most {PLACE_MASK} items, not {keep}", found=keep)
        if not count or not stored:
            if stored:
                list_id = self._drop_list(held)
                following = ring = 0
            list_id = count and (list_id or self._list_id())
            ring = count and (ring or keep)
            life.shape.pop(number, None)
            if ends.end:
                life.shape[number] = (list_id, count % (ring or 1), count, ring, ends.end)
            return enumerate(new, list_id << PLACE_BITS)
        base = list_id << PLACE_BITS
        edits: list[tuple[int, bytes]] = []
        if ends.is_spliced:
            edits = [(at, item) for at, item in ends.edits.items() if at >= ends.first]
            gone = end - ends.left
            self._erase_newest(held, gone)
            following, stored = (following - gone) % ring, stored - gone
        if keep > ring and following == 0 and stored == ring:
            following = ring  # full, and not wrapped yet: it can go on past its end
        if keep > ring and following >= stored:
            ring = keep
        staying = count - len(new)
        if ring != keep or staying not in (stored, keep - len(new)):
            # The bound has changed: lay the ring out anew.
            old = rows_of(self.execute, held, held[2] - (end - ends.left) - staying, staying)
            for at, item in edits:
                old[at - ends.first] = item
            new, edits = (*old, *new), []
            list_id = self._drop_list(held) or self._list_id()
            base = list_id << PLACE_BITS
            following, ring = 0, keep
        life.shape[number] = (list_id, (following + len(new)) % ring, count, ring, ends.end)
        changed = [(base | (following - 1 - ends.left + at) % ring, item) for at, item in edits]
        if following + len(new) <= ring:
            rows = enumerate(new, base + following)
            return [*changed, *rows] if changed else rows
        return changed + [(base | (following + n) % ring, item) for n, item in enumerate(new)]

    def _erase_newest(self, ring: Ring, count: int) -> None:
        """Delete the rows of the newest items."""
        self._know_lists()
        base = ring[0] << PLACE_BITS
        for first, last in places(ring, ring[2] - count, count):
            self.execute("DELETE FROM item WHERE id BETWEEN ? AND ?", (base | first, base | last))

    def _drop_list(self, ring: Ring) -> int:
        """A list is gone: its number, if it is free for another, or 0 while rows are left of it."""
        if ring[2] <= AT_ONCE:
            self._erase_list(ring[0])
            return ring[0]
        leave(self.execute, self._state_id(), {0: ring})
        return 0

    def _erase_list(self, list_id: int) -> None:
        self._know_lists()
        erase_lists(self.execute, (list_id,))

    def _know_lists(self) -> None:
        """Before rows go: those that come in their place are written later, under the same number."""
        if not self.next_list:
            (newest,) = self.execute("SELECT max(id) FROM item").fetchone()
            self.next_list = ((newest or 0) >> PLACE_BITS) + 1

    def _list_id(self) -> int:
        self._know_lists()
        self.next_list += 1
        return self.next_list - 1

    # -------------------------------------------------------------------------------------- op ids

    def _op_rows(self, life: Life) -> _Rows:
        """The rows of the new op ids; those that no longer count go, a few commits' worth at a time."""
        seqs = [which[1] for which in life.new_ops.values()]
        each = max(1, life.ops_kept // 4)
        if max(seqs) // each != (min(seqs) - 1) // each:
            self.execute(
                "DELETE FROM op WHERE state = ? AND seq <= ?", (life.id, life.ops - life.ops_kept)
            )
        return [(life.id, op, *which) for op, which in life.new_ops.items()]
