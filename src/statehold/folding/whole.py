"""Whole lives that come from elsewhere: what bars one, and what is remembered once it is there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from statehold.changes import Cell, Items
from statehold.commits import HOLD_SECONDS, Key
from statehold.driver import Cells, Conflicted, FencedOff, Late, Op, Outcome, WholeLife, Written
from statehold.errors import Corrupted
from statehold.folding.admission import Head, Headed, Past, is_over, revision_of
from statehold.folding.fencing import Fence, seen

INSTALLED: Final = 1 << 40
"""Where a driver that counts the op ids of a life begins to, of one that came from elsewhere: …"""
NOT_COUNTED: Final = 1 << 62
"""… and the number of what stands among them for those that were forgotten elsewhere."""


def whole(key: Key, cells: Cells, ops: Iterable[Op], forgotten: float, fence: Fence) -> WholeLife:
    """A life to be installed elsewhere. Raises `Corrupted` if something of it could not be read."""
    if cells.corrupted:
        field = cells.corrupted[0]
        raise Corrupted(f"{field}: cannot be read, and so not its whole life", key=key, field=field)
    holds = fence.epoch == cells.epoch and fence.held > -math.inf
    return WholeLife(
        key,
        cells,
        tuple(ops),
        max(forgotten, cells.created),
        fence.held if holds else -math.inf,
        fence.op if holds else "",
    )


def admit_life(life: WholeLife, head: Headed | None, fence: Fence, now: float) -> Outcome | None:
    """What a life gets that is not to be installed; None if nothing bars it.

    See `InstallsLives.install`; `head` is that of the present life, None where the state is absent.
    """
    cells, stands = life.cells, revision_of(head)
    if head is not None and stands == cells.revision and head.epoch == cells.epoch:
        return Written(stands, None, repeated=True)
    if is_over(cells, now):
        return Late()
    known = seen(head, fence, now)
    if cells.epoch < known:
        return FencedOff(known)
    comes = cells.revision
    if head is not None and (
        stands.incarnation != comes.incarnation or stands.number > comes.number
    ):
        return Conflicted(stands)
    return None


def head_of(life: WholeLife) -> Head:
    """What is known of a life once it is installed."""
    cells = life.cells
    return Head(
        cells.revision, cells.created, cells.updated, cells.deadline, cells.epoch, cells.subject
    )


def cells_within(life: WholeLife) -> dict[str, Cell]:
    """A life's cells as nobody else has them: who reads the life elsewhere goes on from the same buffers."""
    return {
        name: cell.fork() if isinstance(cell, Items) else dict(cell)
        for name, cell in life.cells.fields.items()
        if cell or isinstance(cell, Items)
    }


def forgets(life: WholeLife, head: Headed | None, past: Past) -> float:
    """`Past.forgot` of the life once it is installed over `head`: also what was forgotten here."""
    return max(life.forgotten, past.ended() if head is None else past.forgot())


def fence_with(life: WholeLife, fence: Fence) -> Fence:
    """The fence once the life is installed: the same, unless somebody holds the life's epoch."""
    if life.held == -math.inf:
        return fence
    held, until = life.held, -math.inf
    if fence.epoch == life.cells.epoch:
        held, until = max(held, fence.held), fence.until
    return Fence(life.cells.epoch, held, max(until, held + HOLD_SECONDS), life.claim)
