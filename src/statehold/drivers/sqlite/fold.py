"""The commits of one call, folded inside one transaction.

`Transaction.apply` works on what it loads of a state (a `Life`), not on rows: entries are looked up
when a change asks for them, and of lists the ends are enough. `writing` makes rows of what is left
at the end, so that many commits of one state cost one reading and one writing of its rows.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from msgspec.structs import replace

from statehold.changes import Change, Drop, Refusal, Scalar, Splice
from statehold.commits import HOLD_SECONDS, Commit, Key, Revision, part_of
from statehold.driver import Outcome, WholeLife, Written
from statehold.drivers.sqlite.ends import newest_op, remember_end
from statehold.drivers.sqlite.erasing import erase_rows
from statehold.drivers.sqlite.fences import leave_fence, remember_fence
from statehold.drivers.sqlite.life import Life
from statehold.drivers.sqlite.names import FieldNames
from statehold.drivers.sqlite.reading import (
    SELECT_STATE,
    Row,
    cells_of,
    decode_several,
    decode_shape,
    encode_shape,
)
from statehold.drivers.sqlite.writing import Writer
from statehold.errors import Corrupted
from statehold.folding import (
    INSTALLED,
    NOT_COUNTED,
    Ends,
    Head,
    admit,
    admit_life,
    advance,
    cells_within,
    claimed,
    ended_at,
    fence_with,
    forgets,
    head_of,
    is_over,
    refused,
    revision_of,
    written,
)

_ERASING: Final[frozenset[type]] = frozenset((Drop, Splice))


class Transaction(Writer, kw_only=True):
    """The commits of one call, between BEGIN and COMMIT, at one `now`."""

    names: FieldNames
    now: float
    lives: dict[Key, Life] = {}  # noqa: RUF012  a Struct copies it
    erased: bool = False
    """Whether something that was stored is gone, which the log is not to keep."""

    def apply(self, commit: Commit) -> Outcome:
        """Fold one commit; see `Driver.commit`."""
        try:
            life = self._life(commit.key)
            look = partial(self._look, life) if commit.where else None
            barred = admit(commit, life.head, life, self.now, look)
            if barred is not None:
                return self._written(life, commit, barred)
            if commit.claim is not None:
                return self._claimed(life, commit)
            if commit.erase:
                return self._erased(life, commit)
            done = self._fold(life, commit)
        except (Refusal, Corrupted) as error:
            return refused(error)
        return done if commit.returning is None else self._written(life, commit, done)

    def end(self) -> None:
        """Write every change that is not written yet. Nothing is applied any more afterwards."""
        self.write(self.lives.values())

    def settle(self) -> None:
        """Write every change that is not written yet. More may be applied afterwards."""
        self.end()
        for life in self.lives.values():
            life.settle()

    def install(self, comes: WholeLife) -> Outcome:
        """Install one life; see `InstallsLives.install`."""
        try:
            life = self._life(comes.key)
            fence = life.fence()
            barred = admit_life(comes, life.head, fence, self.now)
            if barred is not None:
                return barred
            made = self._made(comes, forgets(comes, life.head, life))
        except Corrupted as error:
            return refused(error)
        if life.stored:
            self.erased = True
            erase_rows(self.execute, life.id, life.shape, life.subject)
        held = fence_with(comes, fence)
        if held != fence:
            remember_fence(self.execute, life.key, held)
        self.lives[life.key] = made
        return written(comes.cells)

    def _made(self, comes: WholeLife, forgot: float) -> Life:
        """A life of which nothing is written yet, with the time of what it has forgotten as ""."""
        head = head_of(comes)
        life = Life(self.execute, comes.key, head, subject=head.subject, changed=True)
        life.fields = cells_within(comes)
        life.touched = {name: self.names.number(self.execute, name) for name in life.fields}
        for seq, one in enumerate(comes.ops, INSTALLED + 1):
            life.new_ops[one.op] = (one.number, seq, one.intent, one.at)
        _forget(life, forgot)
        life.ops = INSTALLED + len(comes.ops)
        life.ops_kept = len(life.new_ops)
        return life

    def _fold(self, life: Life, commit: Commit) -> Written:
        fields = life.fields.copy()
        touched = life.touched.copy()
        own: list[str] = []
        for change in commit.changes:
            name = change.field
            if name not in touched:
                number = self.names.numbers.get(name) or self._number(change)
                if number is None:
                    continue  # nothing was ever stored under that name
                touched[name] = number
                cell = life.stored_cell(number, change)
                if cell is not None:
                    fields[name] = cell
                    own.append(name)  # nobody else has it
            if change.__class__ in _ERASING and name in fields:
                self.erased = True
            change.into(fields, own)
        life.fields = fields
        life.touched = touched
        if life.head is None:
            _begin_before(life, self.now if commit.at is None else commit.at, life.ended())
        head = life.head = advance(commit, life.head, self.now)
        if commit.op:
            life.ops += 1
            life.ops_kept = commit.ops
            at = max(self.now, head.updated)
            life.new_ops[commit.op] = head.revision.number, life.ops, commit.intent, at
        life.changed = True
        return written(head)

    def _claimed(self, life: Life, commit: Commit) -> Outcome:
        fence = claimed(commit, life.head, life.fence(), self.now)
        remember_fence(self.execute, life.key, fence)
        if life.head is not None and life.head.epoch != fence.epoch:
            life.head = replace(life.head, epoch=fence.epoch)
            life.changed = True
        written = Written(revision_of(life.head), epoch=fence.epoch)
        return self._written(life, commit, written)

    def _look(self, life: Life, field: str, entry: str | None) -> Scalar | None:
        """What stands there, as folded so far; see `folding.Look`."""
        if field in life.touched:
            cell = life.fields.get(field)
        else:
            number = self.names.known(self.execute, field)
            cell = None if number is None else life.stored_cell(number, Splice(field, 1))
        found = part_of(cell, entry)
        if found == b"" and isinstance(cell, Ends):
            raise Corrupted(f"{field}: its newest item cannot be read", field=field)
        return found

    def _number(self, change: Change) -> int | None:
        """The number of the field, which has one from now on if it may be stored."""
        if isinstance(change, Drop):
            return self.names.known(self.execute, change.field)
        return self.names.number(self.execute, change.field)

    def _written(self, life: Life, commit: Commit, outcome: Outcome) -> Outcome:
        """With the cells as they stand, where they are wanted."""
        want = commit.returning
        if not isinstance(outcome, Written) or want is None or life.head is None or commit.erase:
            return outcome
        if life.changed:
            self.write([life])
            life.settle()
        cells = cells_of(
            self.execute, self.names, life.row(encode_shape(life.shape).decode()), want
        )
        return replace(outcome, returned=cells)

    def _life(self, key: Key) -> Life:
        life = self.lives.get(key)
        if life is not None:
            if life.head is not None and is_over(life.head, self.now):
                # An earlier commit of this batch set a deadline that is past.
                leave_fence(self.execute, key, life.head.epoch, ended_at(life.head))
                return self._erase(life)
            return life
        row: Row | None = self.execute(SELECT_STATE, key).fetchone()
        if row is None:
            life = self.lives[key] = Life(self.execute, key)
            return life
        # `Life.of`, written out: it is in the way of each commit.
        id, incarnation, number, epoch, created, updated, until, subject, ops, text = row
        shape = decode_shape(text)
        if until is not None and until <= self.now:
            self.erased = True
            leave_fence(self.execute, key, epoch, max(until, updated))
            if ops:
                last = max(updated, newest_op(self.execute, id))
                remember_end(self.execute, key, last, max(until, updated))
            erase_rows(self.execute, id, shape, subject)
            life = self.lives[key] = Life(self.execute, key)
            return life
        if type(subject) is bytes:
            subject = decode_several(subject)
        head = Head(Revision(incarnation, number), created, updated, until, epoch, subject)
        life = self.lives[key] = Life(self.execute, key, head, id, ops, True, subject, shape)
        return life

    # ------------------------------------------------------------------------------------- erasing

    def _erase(self, life: Life) -> Life:
        """Returns the state as it is from now on."""
        self.erased = True
        if life.ops and life.head is not None:
            came = [at for *_, at in life.new_ops.values()]  # of which the file does not know
            if life.stored:
                came.append(newest_op(self.execute, life.id))
            remember_end(self.execute, life.key, max((life.head.updated, *came)), self.now)
        if life.stored:
            erase_rows(self.execute, life.id, life.shape, life.subject)
        life = self.lives[life.key] = Life(self.execute, life.key)
        return life

    def _erased(self, life: Life, commit: Commit) -> Written:
        stood = revision_of(life.head)
        leave_fence(self.execute, life.key, commit.epoch, self.now)
        self._erase(life)
        if commit.op:
            until = self.now + HOLD_SECONDS
            self.execute(
                "INSERT INTO erased (tenant, kind, key, op, intent, incarnation, number, until)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*commit.key, commit.op, commit.intent, stood.incarnation, stood.number, until),
            )
        return Written(stood)


def _begin_before(life: Life, created: float, ended: float) -> None:
    """A life begins, and others may have ended after that: it says so, or a clock was set back."""
    if ended > created:
        life.ops = INSTALLED
        _forget(life, ended)


def _forget(life: Life, until: float) -> None:
    """Op ids that were applied by then, other than those it has, may be forgotten."""
    life.new_ops[""] = (0, NOT_COUNTED, 0, until)
