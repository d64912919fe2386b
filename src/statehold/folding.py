"""One commit on one life of a state: what every place that folds commits does alike.

`admit` says what bars a commit, `advance` what the head of a life is after it, `cut` what of the
cells is wanted. A driver that keeps states in rows puts them together around what it loads, and gives
`Change.into` a `Part` of the entries and the `Ends` of the lists; who keeps a state whole (a journal,
an owner, a cache, a simulation) runs `step`, which is all of it.

Everything here is pure: the time is given, and so is the number of a new life, if it matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from statehold.changes import (
    ABSENT,
    HOLD_SECONDS,
    PRESENT,
    Cell,
    Commit,
    Items,
    PartlyLoaded,
    Refusal,
    Revision,
    Scalar,
    Want,
    deadline,
    fold,
    new_incarnation,
)
from statehold.driver import (
    Cells,
    Conflicted,
    Doubtful,
    FencedOff,
    Late,
    Outcome,
    Refused,
    Reused,
    Written,
)
from statehold.errors import Corrupted, Invalid, TooLarge

_bare = object.__new__
_dict: Any = dict
_get, _set, _delete, _len = _dict.get, _dict.__setitem__, _dict.__delitem__, _dict.__len__

K = TypeVar("K")
V = TypeVar("V")


class Head(msgspec.Struct, frozen=True, gc=False):
    """What a living state is beside its cells; see `Cells` for each."""

    revision: Revision
    created: float
    updated: float
    deadline: float | None = None
    epoch: int = 0
    subject: str | None = None


Headed: TypeAlias = Head | Cells
"""Cells have a head of their own."""


class Applied(msgspec.Struct, frozen=True, gc=False):
    """What an op id stands for: the revision that it made or erased, and its intent."""

    revision: Revision
    intent: int
    erased: bool = False


class Past(Protocol):
    """What is remembered of a state. Asked only about a commit with an op id."""

    def applied(self, op: str) -> Applied | None:
        """What the op id did: in the present life, or as an erasure."""

    def forgot(self) -> float:
        """No op id that was applied to the present life after this time is forgotten.

        Nor to an earlier one, if the clock was set back and the present one began before its end.
        """
        ...

    def ended(self) -> float:
        """No earlier life has had a commit after this time."""
        ...


# ------------------------------------------------------------------------------------------ the steps


class Ending(Protocol):
    """What may have a deadline."""

    @property
    def deadline(self) -> float | None:
        """Epoch seconds; None for never."""


def is_over(head: Ending, now: float) -> bool:
    """Whether its deadline has passed, and the state is absent."""
    until = head.deadline
    return until is not None and now >= until


def admit(commit: Commit, head: Headed | None, past: Past, now: float) -> Outcome | None:
    """What a commit gets that is not to be applied; None if nothing bars it.

    `head` is that of the present life, None where the state is absent (`is_over` included). These are
    the steps 2 to 6 of `Driver.commit`. For a repeated op id what is to be returned is left to add.
    """
    if commit.op:
        first = past.applied(commit.op)
        if first is not None:
            return recalled(commit, first)
        if commit.since is not None and _may_be_forgotten(commit, commit.since, head, past, now):
            return Doubtful()
    if commit.until is not None and now > commit.until:
        return Late()
    if head is not None and commit.epoch < head.epoch:
        return FencedOff(head.epoch)
    expect = commit.expect
    if expect is None:
        return None
    stands = revision_of(head)
    holds = head is not None if expect == PRESENT else expect == stands
    return None if holds else Conflicted(stands)


def recalled(commit: Commit, first: Applied) -> Written | Reused:
    """What a commit gets whose op id is remembered, with what it stood for."""
    same = 0 in (first.intent, commit.intent) or first.intent == commit.intent
    if same and first.erased == commit.erase:
        return Written(first.revision, None, True)
    return Reused(first.revision)


def _may_be_forgotten(
    commit: Commit, since: float, head: Headed | None, past: Past, now: float
) -> bool:
    """Whether an op id that was applied at `since` or later may not be known any more."""
    if commit.erase and since <= now - HOLD_SECONDS:
        return True
    if head is not None and past.forgot() >= since:
        return True
    # Where the present life was there before, no other has ended since.
    return (head is None or head.created >= since) and past.ended() >= since


def revision_of(head: Headed | None) -> Revision:
    """At what the state stands."""
    return ABSENT if head is None else head.revision


def advance(
    commit: Commit,
    head: Headed | None,
    now: float,
    born: Callable[[], int] = new_incarnation,
) -> Head:
    """The head after a commit that was applied: the next of this life, or the first of a new one.

    `born` gives a new life its incarnation. A clock may step back; `updated` does not.
    """
    if head is None:
        created = updated = now
        subject, revision = commit.subject, Revision(born(), 1)
    else:
        created, updated = head.created, head.updated
        updated = now if now > updated else updated  # noqa: FURB136  max() is a call
        subject = head.subject if commit.subject is None else commit.subject
        revision = Revision(head.revision.incarnation, head.revision.number + 1)
    until = deadline(created, now, commit.ttl, commit.max_age)
    return Head(revision, created, updated, until, commit.epoch, subject)


def refused(
    error: Refusal | Invalid | TooLarge | Corrupted, commit: Commit | None = None
) -> Refused:
    """The outcome of a commit whose folding ended so: its own, whatever else is in the batch.

    Where the error names no field, it is about one of those that the commit changes.
    """
    if isinstance(error, Refusal):
        return Refused(error.field, error.reason, error.limit, error.found)
    reason = "corrupted" if isinstance(error, Corrupted) else "value"
    changes = () if commit is None else commit.changes
    field = error.field or ", ".join(sorted({change.field for change in changes}))
    return Refused(field, reason, str(error).removeprefix(f"{error.field}: "), "")


def remember(known: dict[K, V], op: K, what: V, keep: int) -> V | None:
    """Have the newest `keep` op ids known. Returns the last one of those that went, if any."""
    known[op] = what
    gone: V | None = None
    while len(known) > keep:
        gone = known.pop(next(iter(known)))
    return gone


def cut(fields: Mapping[str, Cell], want: Want) -> dict[str, Cell]:
    """What is wanted of these cells."""
    out: dict[str, Cell] = {}
    for name in fields if want.fields is None else want.fields:
        cell = fields.get(name)
        if cell is None:
            continue
        if isinstance(cell, Items):
            tail = want.tail_of(name)
            if tail is not None:
                cell = cell.tail(tail)
        out[name] = cell
    return out


# ----------------------------------------------------------------------- cells that are partly loaded


class Part(PartlyLoaded):
    """Some entries of a field, and `others` more; `changed` is what was set, None for what was deleted.

    All that changes will look at has been loaded, unless a subclass looks the others up.
    """

    __slots__ = ("changed", "others")

    changed: dict[str, Scalar | None]
    others: int

    @classmethod
    def of(cls, entries: Mapping[str, Scalar], others: int) -> Part:
        """These entries, and so many others."""
        made = cls(entries)
        made.others = others
        made.changed = {}
        return made

    def look_up(self, entry: str) -> Scalar | None:  # noqa: ARG002  it is loaded or is not there
        """The value of an entry that is not loaded; None if there is no such entry."""
        return None

    def lowest_other(self) -> str | None:
        """The lowest of all names, but for those that are None in `changed`; None if it is loaded."""
        return None

    def get(self, entry: str, default: Any = None, /) -> Any:
        """The value, looked up if it is not loaded; the default if there is no such entry."""
        found = _get(self, entry)
        if found is None and self.others and entry not in self.changed:
            found = self.look_up(entry)
            if found is not None:
                _set(self, entry, found)
                self.others -= 1
        return default if found is None else found

    def __contains__(self, entry: object) -> bool:
        return isinstance(entry, str) and self.get(entry) is not None

    def __setitem__(self, entry: str, value: Scalar) -> None:
        _set(self, entry, value)
        self.changed[entry] = value

    def __delitem__(self, entry: str) -> None:
        _delete(self, entry)
        self.changed[entry] = None

    def __len__(self) -> int:
        count: int = _len(self)
        return count + self.others

    def lowest(self) -> str:
        """The name of the lowest entry of all, which is loaded then."""
        loaded = min(self, default=None)
        other = self.lowest_other() if self.others else None
        if other is None or (loaded is not None and loaded < other):
            assert loaded is not None  # noqa: S101  nobody asks where there is none
            return loaded
        self.get(other)
        return other

    def copy(self) -> Part:
        """One that can be changed by itself."""
        made = self.of(self, self.others)
        made.changed = self.changed.copy()
        return made


class Ends(Items):
    """A list of which only the ends are known, which is all that an append needs.

    Its items are those over the place `floor` up to `end`; `fresh` are the newest of them, that are
    not saved yet, and `keep` is the bound of the last append (0: there was none).
    """

    __slots__ = ("end", "floor", "fresh", "keep")

    nbytes = 0  # of what is not here nothing is known

    def __init__(
        self, end: int = 0, floor: int = 0, fresh: tuple[bytes, ...] = (), keep: int = 0
    ) -> None:
        self.end = end
        self.floor = floor
        self.fresh = fresh
        self.keep = keep

    def __len__(self) -> int:
        return self.end - self.floor

    def appended(self, items: Sequence[bytes], keep: int) -> Ends:
        """With the items at its end, and the oldest gone."""
        end = self.end + len(items)
        floor = max(self.floor, end - keep)
        fresh = (*self.fresh, *items) if self.fresh else tuple(items)
        if len(fresh) > end - floor:
            fresh = fresh[floor - end :]
        new: Ends = _bare(Ends)  # as `Items` does it
        new.end = end
        new.floor = floor
        new.fresh = fresh
        new.keep = keep
        return new


# ----------------------------------------------------------------------------------------- whole states


class Life(msgspec.Struct, frozen=True):
    """A state in one piece, with what it remembers. `head` None: it is absent.

    It is never changed, and outlives what is erased or expires: that leaves behind what recognises
    a repetition.
    """

    head: Head | None = None
    fields: dict[str, Cell] = {}
    ops: dict[str, tuple[Applied, float]] = {}
    """The op ids of the newest commits, with the time of each."""
    forgotten: float = -math.inf
    """See `Past.forgot`."""
    erasures: dict[str, tuple[Applied, float]] = {}
    """The op ids of erasures, with the time of each."""
    over: float = -math.inf
    """See `Past.ended`."""

    def applied(self, op: str) -> Applied | None:
        """See `Past`."""
        found = self.erasures.get(op) or self.ops.get(op)
        return None if found is None else found[0]

    def forgot(self) -> float:
        """See `Past`."""
        return self.forgotten

    def ended(self) -> float:
        """See `Past`."""
        return self.over

    def at(self, now: float) -> Life:
        """As it is at that time: absent if its deadline has passed."""
        return self._without() if self.head is not None and is_over(self.head, now) else self

    def _without(self) -> Life:
        assert self.head is not None  # noqa: S101  it has just been looked at
        return Life(erasures=self.erasures, over=max(self.over, self.head.updated))

    def cells(self, want: Want) -> Cells | None:
        """The state as a reader gets it; None where it is absent."""
        head = self.head
        if head is None:
            return None
        return Cells(
            head.revision,
            cut(self.fields, want),
            head.created,
            head.updated,
            head.deadline,
            epoch=head.epoch,
            subject=head.subject,
        )


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
    barred = admit(commit, head, life, now)
    if barred is not None:
        return life, _returning(barred, life, commit)
    if commit.erase:
        return _erased(life, commit, now), Written(revision_of(head))
    try:
        fields = fold(life.fields, commit.changes)
    except Refusal as refusal:
        return life, refused(refusal)
    head = advance(commit, head, now, born)
    ops, forgotten = life.ops, life.forgotten
    if life.head is None and life.over > now:
        forgotten = life.over
    if commit.op:
        ops = ops.copy()
        done = Applied(head.revision, commit.intent)
        gone = remember(ops, commit.op, (done, head.updated), commit.ops)
        forgotten = forgotten if gone is None else max(forgotten, gone[1])
    life = replace(life, head=head, fields=fields, ops=ops, forgotten=forgotten)
    return life, _returning(Written(head.revision), life, commit)


def _returning(outcome: Outcome, life: Life, commit: Commit) -> Outcome:
    """With the cells as they stand, where they are wanted, and the commit is one of this life."""
    if not isinstance(outcome, Written) or commit.returning is None or commit.erase:
        return outcome
    return replace(outcome, returned=life.cells(commit.returning))


def _erased(life: Life, commit: Commit, now: float) -> Life:
    done = Applied(revision_of(life.head), commit.intent, erased=True)
    gone = life if life.head is None else life._without()  # noqa: SLF001  its own module
    if not commit.op:
        return gone
    held = _held(gone.erasures.items(), now)
    return replace(gone, erasures={**held, commit.op: (done, now)})


def _held(
    erasures: Iterable[tuple[str, tuple[Applied, float]]], now: float
) -> dict[str, tuple[Applied, float]]:
    return {op: one for op, one in erasures if one[1] + HOLD_SECONDS > now}
