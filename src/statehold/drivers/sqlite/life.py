"""One state within a transaction: what is known of it, and what is to be written."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from statehold.changes import Key, Scalar
from statehold.drivers.sqlite.reading import Row, Shape, decode_shape

Place: TypeAlias = tuple[int, str]
"""An entry within a state: (field number, entry)."""

_ABSENT_PLACE: Any = object()
encode_shape = msgspec.json.Encoder().encode


class Life:
    """What a transaction knows and has changed of one state. `number` 0: it does not exist."""

    __slots__ = (
        "changed",
        "cleared",
        "created",
        "deadline",
        "dirty",
        "epoch",
        "gone",
        "id",
        "incarnation",
        "key",
        "loaded",
        "new_ops",
        "number",
        "ops",
        "ops_kept",
        "pending",
        "shape",
        "stored",
        "subject",
        "subject_changed",
        "undo",
        "updated",
    )

    def __init__(self, key: Key) -> None:
        self.key = key
        self.undo: list[tuple[dict[Any, Any], Any, Any]] = []
        self.begin_absent()

    def begin_absent(self) -> None:
        self.id = self.incarnation = self.number = self.epoch = self.ops = 0
        self.created = self.updated = 0.0
        self.deadline: float | None = None
        self.subject: str | None = None
        self.stored = self.changed = self.subject_changed = False
        self.ops_kept = 0
        self.shape: Shape = {}
        self.loaded: dict[Place, Scalar | None] = {}  # as in the file
        self.dirty: dict[Place, Scalar | None] = {}  # to be written; None: to be deleted
        self.cleared: dict[int, bool] = {}  # fields whose entries in the file are void
        self.gone: dict[int, bool] = {}  # lists whose rows are void
        self.pending: dict[int, tuple[tuple[bytes, ...], int, int]] = {}
        # ^ by field: items to be written, how many there are then in all, the last `keep`
        self.new_ops: dict[str, tuple[int, int, int, float]] = {}
        # ^ by op id: as in the table, number, seq, intent, at

    def begin_stored(self, row: Row) -> None:
        (
            self.id,
            self.incarnation,
            self.number,
            self.epoch,
            self.created,
            self.updated,
            self.deadline,
            self.subject,
            self.ops,
            shape,
        ) = row
        self.shape = decode_shape(shape)
        self.stored = True

    def row(self) -> Row:
        """As `SELECT_STATE` would show it."""
        return (
            self.id,
            self.incarnation,
            self.number,
            self.epoch,
            self.created,
            self.updated,
            self.deadline,
            self.subject,
            self.ops,
            encode_shape(self.shape),
        )

    def set(self, what: dict[Any, Any], key: Any, value: Any) -> None:
        self.undo.append((what, key, what.get(key, _ABSENT_PLACE)))
        what[key] = value

    def remove(self, what: dict[Any, Any], key: Any) -> None:
        self.undo.append((what, key, what.pop(key)))

    def take_back(self) -> None:
        for what, key, old in reversed(self.undo):
            if old is _ABSENT_PLACE:
                what.pop(key, None)
            else:
                what[key] = old
