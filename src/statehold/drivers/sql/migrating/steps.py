"""What a migration consists of: steps, each in words and as operations of Alembic."""

from __future__ import annotations

import msgspec
from alembic.operations.ops import MigrateOperation


class Step(msgspec.Struct, frozen=True):
    """One thing that is done."""

    words: str
    ops: tuple[MigrateOperation, ...]


class Plan(msgspec.Struct):
    """What is to be done for one kind, and what is not."""

    kind: str
    steps: list[Step] = []
    refused: list[str] = []
    """What cannot be done, and what to do instead; then nothing is."""
    unused: list[str] = []
    """What the database has beyond the class; it stays."""
    notes: list[str] = []
    """What the class asks for and the database cannot do."""
