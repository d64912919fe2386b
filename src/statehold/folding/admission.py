"""What bars a commit, and what the head of a life is after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, TypeVar

import msgspec

from statehold.changes import Cell, Refusal, Scalar
from statehold.commits import (
    ABSENT,
    HOLD_SECONDS,
    PRESENT,
    About,
    Commit,
    Revision,
    about_after,
    deadline,
    is_so,
    new_incarnation,
    part_of,
    required,
)
from statehold.driver import (
    Cells,
    Conflicted,
    Doubtful,
    Late,
    Outcome,
    Refused,
    Reused,
    Written,
)
from statehold.errors import Corrupted, Invalid, TooLarge, Unsupported
from statehold.folding.fencing import Fence, fenced

K = TypeVar("K")
V = TypeVar("V")


class Head(msgspec.Struct, frozen=True, gc=False):
    """What a living state is beside its cells; see `Cells` for each."""

    revision: Revision
    created: float
    updated: float
    deadline: float | None = None
    epoch: int = 0
    subject: About | None = None


Headed: TypeAlias = Head | Cells
"""Cells have a head of their own."""


class Applied(msgspec.Struct, frozen=True, gc=False):
    """What an op id stands for: the revision that it made or erased, and its intent."""

    revision: Revision
    intent: int
    erased: bool = False


class Past(Protocol):
    """What is remembered of a state. Asked only about a commit with an op id, but for `fence`."""

    def applied(self, op: str) -> Applied | None:
        """What the op id did: in the present life, or as an erasure."""

    def forgot(self) -> float:
        """No op id that was applied to the present life after this time is forgotten.

        Nor to an earlier one, if the clock was set back and the present one began before its end.
        """
        ...

    def ended(self) -> float:
        """No earlier life has had an op id after this time."""
        ...

    def fence(self) -> Fence:
        """What is remembered of epochs, `NO_FENCE` for nothing.

        Asked about claims, where the state is absent, and where it has seen a newer epoch.
        """
        ...


class Ending(Protocol):
    """What may have a deadline."""

    @property
    def deadline(self) -> float | None:
        """Epoch seconds; None for never."""


def is_over(head: Ending, now: float) -> bool:
    """Whether its deadline has passed, and the state is absent."""
    until = head.deadline
    return until is not None and now >= until


def ended_at(head: Headed) -> float:
    """When a life has ended whose deadline is over. A commit may have set one that was over by then."""
    return head.updated if head.deadline is None else max(head.deadline, head.updated)


Look: TypeAlias = Callable[[str, str | None], Scalar | None]
"""What stands at an entry of a field, or as the newest item of a list (None); None if nothing does."""


def admit(
    commit: Commit, head: Headed | None, past: Past, now: float, look: Look | None = None
) -> Outcome | None:
    """What a commit gets that is not to be applied; None if nothing bars it.

    `head` is that of the present life, None where the state is absent (`is_over` included). These are
    the steps 2 to 6 of `Driver.commit`. For a repeated op id what is to be returned is left to add.
    `look` is asked about what stands in the present life, if the commit says `where`; it may raise
    `Corrupted`.
    """
    if commit.op and commit.claim is None:
        first = past.applied(commit.op)
        if first is not None:
            return recalled(commit, first)
        if commit.since is not None and _may_be_forgotten(commit, commit.since, head, past, now):
            return Doubtful()
    if commit.until is not None and now > commit.until:
        return Late()
    if head is None or commit.claim is not None or commit.epoch < head.epoch:
        barred = fenced(commit, head, past.fence(), now)
        if barred is not None:
            return barred
    expect = commit.expect if commit.revision is None else required(commit)
    if expect is not None:
        stands = revision_of(head)
        if not (head is not None if expect == PRESENT else expect == stands):
            return Conflicted(stands)
    failed = unmet(commit, head, look) if commit.where else None
    return Late() if failed is None and _is_over_already(commit, head, now) else failed


def unmet(commit: Commit, head: Headed | None, look: Look | None) -> Conflicted | None:
    """The first condition of `where` that does not hold, as an outcome."""
    if look is None:
        raise Unsupported("conditions on parts of a state are not supported", expected="where")
    for condition in commit.where:
        found = None if head is None else look(condition.field, condition.entry)
        if not is_so(condition, found):
            return Conflicted(revision_of(head), condition.field)
    return None


def looking(fields: Mapping[str, Cell]) -> Look:
    """How conditions are looked up in whole cells."""
    return lambda field, entry: part_of(fields.get(field), entry)


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


def _is_over_already(commit: Commit, head: Headed | None, now: float) -> bool:
    """Whether what it makes has ended, since it comes so long after it was made."""
    made = commit.at
    if made is None or commit.erase:
        return False
    until = deadline(made if head is None else head.created, made, commit.ttl, commit.max_age)
    return until is not None and until <= now


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
    if commit.at is not None:
        now = commit.at
    if head is None:
        created = updated = now
        subject = None if commit.subject is None else about_after(commit.subject)
        revision = commit.revision or Revision(born(), 1)
    else:
        created, updated = head.created, head.updated
        updated = now if now > updated else updated  # noqa: FURB136  max() is a call
        subject = head.subject if commit.subject is None else about_after(commit.subject)
        revision = Revision(head.revision.incarnation, head.revision.number + 1)
    until = deadline(created, now, commit.ttl, commit.max_age)
    return Head(revision, created, updated, until, commit.epoch, subject)


def written(head: Headed) -> Written:
    """The outcome of a commit that has made this."""
    return Written(head.revision, None, False, head.updated, head.deadline)


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
