"""States in one piece, for who keeps them so: a journal, an owner, a cache, a simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from statehold.changes import Cell, Change, Drop, Items, Refusal, Scalar, fold
from statehold.commits import (
    EVERYTHING,
    HOLD_SECONDS,
    Commit,
    Key,
    Revision,
    Want,
    deadline,
    digest_of,
    moves,
    new_incarnation,
    part_of,
)
from statehold.driver import Cells, Op, Outcome, WholeLife, Written
from statehold.errors import Corrupted
from statehold.folding.admission import (
    Applied,
    Head,
    admit,
    advance,
    ended_at,
    is_over,
    refused,
    remember,
    revision_of,
    written,
)
from statehold.folding.fencing import NO_FENCE, Fence, claimed, left_behind
from statehold.folding.parts import cut
from statehold.folding.whole import admit_life, cells_within, fence_with, forgets, head_of, whole
from statehold.items import packed, unpacked


class Life(msgspec.Struct, frozen=True):
    """A state in one piece, with what it remembers. `head` None: it is absent.

    It is never changed, and outlives what is erased or expires: that leaves behind what recognises
    a repetition.
    """

    head: Head | None = None
    fields: dict[str, Cell] = {}
    unreadable: dict[str, bytes] = {}
    """Fields that could not be decoded, as they were found; they are not in `fields`."""
    ops: dict[str, tuple[Applied, float]] = {}
    """The op ids of the newest commits, with the time of each."""
    forgotten: float = -math.inf
    """See `Past.forgot`."""
    erasures: dict[str, tuple[Applied, float]] = {}
    """The op ids of erasures, with the time of each."""
    over: float = -math.inf
    """See `Past.ended`."""
    epochs: Fence = NO_FENCE
    """See `Past.fence`."""

    def applied(self, op: str) -> Applied | None:
        """See `Past`."""
        found = self.erasures.get(op) or self.ops.get(op)
        if found is None and self.ops:
            found = self.ops.get(digest_of(op))
        return None if found is None else found[0]

    def forgot(self) -> float:
        """See `Past`."""
        return self.forgotten

    def ended(self) -> float:
        """See `Past`."""
        return self.over

    def fence(self) -> Fence:
        """See `Past`."""
        return self.epochs

    def look(self, field: str, entry: str | None) -> Scalar | None:
        """See `Look`."""
        if field in self.unreadable:
            raise Corrupted(f"{field}: cannot be read", field=field)
        return part_of(self.fields.get(field), entry)

    def at(self, now: float) -> Life:
        """As it is at that time: absent if its deadline has passed."""
        head = self.head
        if head is None or not is_over(head, now):
            return self
        return self._without(head.epoch, ended_at(head))

    def needed(self) -> float | None:
        """Until when it has to be kept, in epoch seconds; None for always. Before: for ever absent.

        Who lets go of it remembers `last` for all that are gone, as the `over` of whoever comes next.
        """
        until = max((time + HOLD_SECONDS for _, time in self.erasures.values()), default=-math.inf)
        until = max(until, self.epochs.until)
        head = self.head
        if head is None:
            return until
        if head.deadline is None:
            return None
        return max(until, ended_at(head) + HOLD_SECONDS if head.epoch else head.deadline)

    def last(self) -> float:
        """No op id was applied to it after this time; what has none, nobody can repeat."""
        if self.head is None or not (self.ops or self.forgotten > -math.inf):
            return self.over
        # The newest op id came later than its commit was made, where somebody else decided when.
        newest = self.ops[next(reversed(self.ops))][1] if self.ops else self.over
        return max(self.over, self.head.updated, newest)

    def renewed(self, want: Want, now: float) -> Life:
        """As a read that renews leaves it; itself where nothing is to be written."""
        head = self.head
        if head is None or want.renew is None:
            return self
        until = deadline(head.created, now, *want.renew)
        if not moves(until, head.deadline, want.renew[0]):
            return self
        return replace(self, head=replace(head, deadline=until))

    def _without(self, epoch: int, now: float) -> Life:
        """It has ended at that time, and had seen the epoch."""
        epochs = left_behind(self.epochs, epoch, now)
        return Life(erasures=self.erasures, over=self.last(), epochs=epochs)

    def cells(self, want: Want) -> Cells | None:
        """The state as a reader gets it; None where it is absent."""
        head = self.head
        if head is None:
            return None
        same = head.revision in want.unless
        broken = [one for one in self.unreadable if want.fields is None or one in want.fields]
        return Cells(
            head.revision,
            {} if same else cut(self.fields, want),
            head.created,
            head.updated,
            head.deadline,
            epoch=head.epoch,
            subject=head.subject,
            corrupted=() if same else tuple(broken),
            unchanged=same,
        )

    def whole(self, key: Key) -> WholeLife | None:
        """To be installed elsewhere; None where it is absent. Raises `Corrupted`."""
        cells = self.cells(EVERYTHING)
        if cells is None:
            return None
        ops = [Op(op, one.revision.number, one.intent, at) for op, (one, at) in self.ops.items()]
        return whole(key, cells, ops, self.forgotten, self.epochs)


NEVER_LIVED: Final = Life()
"""A state that was never there."""


def step(
    life: Life, commit: Commit, now: float, born: Callable[[], int] = new_incarnation
) -> tuple[Life, Outcome]:
    """The state after a commit, and what became of the commit; see `Driver.commit`.

    Lists share their buffers with those of `life`: two threads must not step from it at once.
    """
    life = life.at(now)
    head = life.head
    try:
        barred = admit(commit, head, life, now, life.look)
    except Corrupted as error:
        return life, refused(error)
    if barred is not None:
        return life, _returning(barred, life, commit)
    if commit.claim is not None:
        epochs = claimed(commit, head, life.epochs, now)
        head = None if head is None else replace(head, epoch=epochs.epoch)
        life = replace(life, head=head, epochs=epochs)
        return life, _returning(Written(revision_of(head), epoch=epochs.epoch), life, commit)
    if commit.erase:
        return _erased(life, commit, now), Written(revision_of(head))
    unreadable = life.unreadable
    try:
        if unreadable:
            unreadable = _dropped(unreadable, commit.changes)
        fields = fold(life.fields, commit.changes)
    except (Refusal, Corrupted) as error:
        return life, refused(error)
    head = advance(commit, head, now, born)
    ops, forgotten = life.ops, life.forgotten
    if life.head is None and life.over > head.created:  # it says so, or the clock was set back
        forgotten = life.over
    if commit.op:
        ops = ops.copy()
        done = Applied(head.revision, commit.intent)
        gone = remember(ops, commit.op, (done, max(now, head.updated)), commit.ops)
        forgotten = forgotten if gone is None else max(forgotten, gone[1])
    life = Life(head, fields, unreadable, ops, forgotten, life.erasures, life.over, life.epochs)
    return life, _returning(written(head), life, commit)


def install(life: Life, comes: WholeLife, now: float) -> tuple[Life, Outcome]:
    """The state once a life from elsewhere is installed, and what became of that."""
    life = life.at(now)
    barred = admit_life(comes, life.head, life.epochs, now)
    if barred is not None:
        return life, barred
    head = head_of(comes)
    incarnation = head.revision.incarnation
    made = Life(
        head,
        cells_within(comes),
        ops={
            one.op: (Applied(Revision(incarnation, one.number), one.intent), one.at)
            for one in comes.ops
        },
        forgotten=forgets(comes, life.head, life),
        erasures=life.erasures,
        over=life.over,
        epochs=fence_with(comes, life.epochs),
    )
    return made, written(head)


def _dropped(unreadable: dict[str, bytes], changes: Iterable[Change]) -> dict[str, bytes]:
    """Those that are left. Raises `Corrupted` where a change would build on one of them."""
    left = unreadable.copy()
    for change in changes:
        if change.field in left:
            if change != Drop(change.field):
                raise Corrupted(f"{change.field}: cannot be read", field=change.field)
            del left[change.field]
    return left


def _returning(outcome: Outcome, life: Life, commit: Commit) -> Outcome:
    """With the cells as they stand, where they are wanted, and the commit is one of this life."""
    if not isinstance(outcome, Written) or commit.returning is None or commit.erase:
        return outcome
    return replace(outcome, returned=life.cells(commit.returning))


def _erased(life: Life, commit: Commit, now: float) -> Life:
    done = Applied(revision_of(life.head), commit.intent, erased=True)
    gone = life._without(commit.epoch, now)  # noqa: SLF001  its own module
    if not commit.op:
        return gone
    held = _held(gone.erasures.items(), now)
    return replace(gone, erasures={**held, commit.op: (done, now)})


def _held(
    erasures: Iterable[tuple[str, tuple[Applied, float]]], now: float
) -> dict[str, tuple[Applied, float]]:
    return {op: one for op, one in erasures if one[1] + HOLD_SECONDS > now}


# ------------------------------------------------------------------------------------ as one record


class _Packed(msgspec.Struct, array_like=True):
    """A life, its cells encoded one by one: one that cannot be read leaves the others."""

    head: Head | None
    cells: dict[str, bytes]
    ops: dict[str, tuple[Applied, float]]
    forgotten: float
    erasures: dict[str, tuple[Applied, float]]
    over: float
    epochs: Fence = NO_FENCE


_encode = msgspec.msgpack.Encoder().encode
_decode_packed = msgspec.msgpack.Decoder(_Packed).decode
_decode_cell = msgspec.msgpack.Decoder(dict[str, Scalar] | list[bytes | int]).decode


def pack(life: Life) -> bytes:
    """A life as one record, for who keeps it or sends it elsewhere."""
    cells = dict(life.unreadable)
    for name, cell in life.fields.items():
        if isinstance(cell, Items):
            cells[name] = _encode(packed(cell))
        elif cell:
            cells[name] = _encode(cell)
    rest = life.ops, life.forgotten, life.erasures, life.over, life.epochs
    return _encode(_Packed(life.head, cells, *rest))


def unpack(record: bytes) -> Life:
    """What `pack` made. Raises `Corrupted` for anything else; cells may be `unreadable` by themselves."""
    try:
        packed = _decode_packed(record)
    except msgspec.DecodeError as error:
        raise Corrupted(f"no record of a state ({error})") from error
    fields: dict[str, Cell] = {}
    unreadable: dict[str, bytes] = {}
    for name, data in packed.cells.items():
        try:
            cell = _decode_cell(data)
            fields[name] = cell if isinstance(cell, dict) else unpacked(cell)
        except ValueError:  # of which msgspec's are
            unreadable[name] = data
    rest = packed.ops, packed.forgotten, packed.erasures, packed.over, packed.epochs
    return Life(packed.head, fields, unreadable, *rest)
