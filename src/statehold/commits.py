"""The commit, the record that everything passes along; what it may ask for, and what a reader may.

A commit carries `changes` to one state. Everything here is pure, but that a new life is given a random number.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from statehold.changes import Cell, Change, Scalar
from statehold.clock import AMBIENT

Key: TypeAlias = tuple[str, str, str]
"""(tenant, kind, id). A plain tuple, since it is made on every call."""

_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


def is_kind(name: str) -> bool:
    """Whether a class can have this as its kind: lower-case letters, digits and _, at most 63."""
    return _KIND.fullmatch(name) is not None


class Revision(msgspec.Struct, frozen=True, order=False, gc=False):
    """Which life of a state (`incarnation`, random, never 0) and which commit in it (from 1)."""

    incarnation: int
    number: int

    def __str__(self) -> str:
        return f"{self.incarnation:x}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Revision:
        """The revision that `str()` printed. Raises ValueError for anything else."""
        incarnation, dot, number = text.partition(".")
        if not dot or not number.isdecimal():
            raise ValueError(f"not a revision: {text[:40]!r}")
        return cls(int(incarnation, 16), int(number))


ABSENT: Final = Revision(0, 0)
"""As `expect`: the state must not exist. As what stands: it does not."""

PRESENT: Final = Revision(0, 1)
"""As `expect`: the state must exist, at whatever revision."""


def new_incarnation() -> int:
    """A number for a state's next life: 63 random bits, never 0."""
    return (int.from_bytes(AMBIENT.entropy(8), "little") >> 2) + 1


class Want(msgspec.Struct, frozen=True, gc=False):
    """What a reader asks for. `fields` None means all; `tail` bounds the items read of each list.

    `renew` moves the deadline as a write would, in the same round trip: (ttl, max age) in seconds. Where
    nothing can be written it is left out, unless who asks `insists`: then that is its error, as of a write.
    Of a state that is still at a revision of `unless` only that is said: see `Cells.unchanged`. A
    revision is of one life of one state, so those of several keys can be asked for together.
    Of the fields in `entries` only these entries are read; a list among them is read as the others.
    `after` rather asks for the items of a list after a position, `limit` of them at most (None for
    all), from the oldest on; what it speaks of `tail` does not bound.
    """

    fields: tuple[str, ...] | None = None
    tail: int | dict[str, int] | None = None
    renew: tuple[float | None, float | None] | None = None
    unless: tuple[Revision, ...] = ()
    entries: dict[str, tuple[str, ...]] | None = None
    after: int | dict[str, int] | None = None
    limit: int | None = None
    insists: bool = False

    def tail_of(self, field: str) -> int | None:
        """How many of the field's newest items are wanted; None for all."""
        tail = self.tail
        return tail.get(field) if isinstance(tail, dict) else tail

    def entries_of(self, field: str) -> tuple[str, ...] | None:
        """Which of the field's entries are wanted; None for all."""
        return None if self.entries is None else self.entries.get(field)

    def after_of(self, field: str) -> int | None:
        """After which position the field's items are wanted; None if that is not said."""
        after = self.after
        return after.get(field) if isinstance(after, dict) else after

    def window_of(self, field: str, first: int, size: int) -> tuple[int, int]:
        """What is wanted of a list: how many items are skipped, and how many are taken.

        It has `size` of them, the first in the position `first`.
        """
        after = self.after_of(field)
        if after is None:
            tail = self.tail_of(field)
            take = size if tail is None or tail > size else tail
            return size - take, take
        skip = min(max(after + 1 - first, 0), size)
        take = size - skip
        return skip, take if self.limit is None else min(take, self.limit)

    def cuts(self) -> bool:
        """Whether it asks for less than all of the cells."""
        some = self.fields, self.tail, self.entries, self.after
        return any(one is not None for one in some)


EVERYTHING: Final = Want()

HOLD_SECONDS: Final = 60.0
"""How long a state that was erased leaves behind what recognises the erasure's repetition.

For as long the highest epoch that a key has seen outlives its state, and whoever held it.
"""


About: TypeAlias = str | tuple[str, ...]
"""Whom a state is about: one subject, or 2 to `MOST_SUBJECTS` different ones, the foremost first."""

MOST_SUBJECTS: Final = 8
"""Of how many subjects a state may be at most."""


def subjects_of(about: About | None) -> tuple[str, ...]:
    """The subjects one by one; none for None, or for the `()` of a commit."""
    if about is None:
        return ()
    return (about,) if isinstance(about, str) else about


def about_after(said: About) -> About | None:
    """Whom a state is about after a commit that says this."""
    return None if said == () else said


class Note(msgspec.Struct, frozen=True, gc=False):
    """What a commit was for, in the words of who made it; opaque here.

    It is for who keeps commits, or passes them on: a state itself has nothing of it.
    """

    type: str = ""
    payload: bytes = b""
    actor: str = ""
    cause: str = ""


class Is(msgspec.Struct, frozen=True, gc=False):
    """A condition on a part of a state: that this is what stands there.

    The part is an entry of a field, or with `entry` None the newest item of a list. It must be
    `value`; with `absent` it may also not be there, and where `value` is None it must not. With `least`
    a number may also be larger.

    Bytes are the same if they are equal. A store that keeps JSON in a way of its own may take those
    for the same that say the same; a number is the same as another if they are equal.
    """

    field: str
    entry: str | None
    value: Scalar | None = None
    absent: bool = False
    least: bool = False


def is_so(condition: Is, found: Scalar | None) -> bool:
    """Whether a condition holds where this is what stands there; None: nothing."""
    value = condition.value
    if found is None:
        return value is None or condition.absent
    if value is None:
        return False
    if isinstance(found, bytes) and isinstance(value, bytes):
        return not condition.least and (found == value or _as_said(found) == _as_said(value))
    if isinstance(found, bytes) or isinstance(value, bytes):
        return False
    return found >= value if condition.least else found == value


def _as_said(value: bytes) -> bytes:
    """JSON in one way of writing it; what is none, as it is."""
    try:
        return msgspec.json.encode(msgspec.json.decode(value), order="deterministic")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value


def part_of(cell: Cell | None, entry: str | None) -> Scalar | None:
    """What stands at an entry of a cell, or with None as its newest item; None: nothing."""
    if isinstance(cell, dict):
        return None if entry is None else cell.get(entry)
    return None if not cell or entry is not None else cell[-1]


class Commit(msgspec.Struct, frozen=True, gc=False):
    """One atomic step of one state, the record that everything passes along.

    * `op`: the idempotency key, applied at most once; a life remembers its newest `ops` keys, or
      more. "" where no one could repeat the call (see `Driver.ambiguous`).
    * `intent`: a fingerprint of what the key stands for, 1 to 2^32 - 1; 0 says nothing.
    * `since`: it may have been applied already, and this is when it was first sent, at the latest,
      in epoch seconds by the clock that decides expiry. None: this is the first time.
    * `until`: it is not applied after this instant, by the same clock. None: whenever it comes.
    * `expect`: the revision that must stand, `ABSENT`, `PRESENT`, or None for whatever is there.
    * `epoch`: the writer's fencing epoch; lower than the state has seen is refused. 0: unfenced,
      which any state that has seen an epoch refuses too.
    * `ttl`: seconds from this commit until the state expires, None for never; `max_age`: seconds
      from the state's creation that no renewal moves it beyond.
    * `subject`: whom the state is about from now on, see `About`; `()` for nobody, and None leaves it
      as it is.
    * `erase`: delete the state with everything that belongs to it; `changes` must be empty.
    * `revision`: the revision that it shall make, decided by who has folded it already. It is made
      if it is the next one of the life that stands, or the first of a new one where there is none;
      else it is in conflict. `expect` is not said besides.
    * `at`: when it was made, by the clock of who decided that: `created`, `updated` and the deadline go
      by it. None: when it is applied. What would be over already is not written any more (`Late`).
    * `note`: what it was for.
    * `claim`: only the epoch is claimed, for so many seconds; see `Driver.commit`. None: no claim.
    * `where`: conditions on parts of the state; of an absent state there are none.
    """

    key: Key
    changes: tuple[Change, ...]
    ttl: float | None
    op: str = ""
    expect: Revision | None = None
    epoch: int = 0
    max_age: float | None = None
    subject: About | None = None
    ops: int = 128
    returning: Want | None = None
    erase: bool = False
    intent: int = 0
    since: float | None = None
    until: float | None = None
    revision: Revision | None = None
    at: float | None = None
    note: Note | None = None
    claim: float | None = None
    where: tuple[Is, ...] = ()


def required(commit: Commit) -> Revision | None:
    """The revision that must stand for it: `expect`, or the one before `revision`."""
    makes = commit.revision
    if makes is None:
        return commit.expect
    return Revision(makes.incarnation, makes.number - 1) if makes.number > 1 else ABSENT


def fingerprint(said: Sequence[object]) -> int:
    """What was said, in whatever order, in 32 bits, never 0: `Commit.intent`."""
    return zlib.crc32("".join(sorted(map(repr, said))).encode("utf-8", "surrogatepass")) or 1


_DIGEST: Final = "blake2b:"
_SHORT = re.compile(rf"(?:{_DIGEST})?[0-9a-f]{{24}}").fullmatch


def digest_of(op: str) -> str:
    """An op id as a store that keeps no long ones tells it: those that stores make as they are.

    What is a digest already is its own.
    """
    if _SHORT(op):
        return op
    return _DIGEST + hashlib.blake2b(op.encode(), digest_size=12).hexdigest()


def is_short(op: str) -> bool:
    """Whether an op id is told as it is by every store."""
    return _SHORT(op) is not None


def is_digest(op: str) -> bool:
    """Whether it is told by its digest."""
    return op.startswith(_DIGEST)


def deadline(created: float, now: float, ttl: float | None, max_age: float | None) -> float | None:
    """When a state written (or renewed) at `now` expires, in epoch seconds; None for never.

    A state is expired at the instant `now >= deadline`.
    """
    if max_age is None:
        return None if ttl is None else now + ttl
    return created + max_age if ttl is None else min(now + ttl, created + max_age)


def moves(until: float | None, old: float | None, ttl: float | None) -> bool:
    """Whether a read that renews is to write the new deadline.

    Not for less than a second or a thousandth of the ttl: a state is not written at each read.
    """
    if until is None or old is None:
        return until is not old
    return abs(until - old) > (1.0 if ttl is None else min(1.0, ttl / 1000))
