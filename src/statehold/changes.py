"""The six changes, the commit that carries them, and the fold that applies them.

This is the waist of the hourglass: fields compile to these changes, drivers fold them where the
state lives. A state, physically, is a mapping from field name to *cell*; a cell is either

* *entries*: a dict from entry name (str) to a value, which is `bytes` (an encoded value, or a
  little-endian float64 array), an `int` of 64 bits or a `float`; or
* *items*: a list of `bytes`, kept in the order of commits, each with a position (`items`).

An empty cell is the same as no cell, but that an empty list remembers where its positions go on. Everything here is pure: no I/O, no clock, no third party
beyond numpy for the elementwise sum.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from statehold.clock import AMBIENT
from statehold.items import Items as Items  # noqa: PLC0414  who has cells has it from here

Scalar: TypeAlias = bytes | int | float
Entries: TypeAlias = dict[str, Scalar]

Key: TypeAlias = tuple[str, str, str]
"""(tenant, kind, id). A plain tuple, since it is made on every call."""

INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)

BEYOND: Final = 2**53
"""A position that no item has, and the most of anything that can be asked for."""


class Refusal(Exception):
    """A change cannot be applied. Internal: drivers turn it into the outcome `Refused`.

    `reason` is "bound" (entries over the field's bound), "range" (a sum left int64 or the finite
    floats), "shape" (arrays of different length), "type" (the cell holds something else), "changed"
    (the list's items are not those that were to be replaced) or "gone" (it has no such position).
    """

    def __init__(self, field: str, reason: str, limit: str | int, found: str | int) -> None:
        super().__init__(f"{field}: {reason}, limit {limit}, found {found}")
        self.field, self.reason, self.limit, self.found = field, reason, limit, found


# ---------------------------------------------------------------- the arithmetic every driver shares


def add_numbers(field: str, old: Scalar | None, amount: float) -> int | float:
    """`old + amount`: exact within int64 for two ints, else float. Refuses to leave either range."""
    if isinstance(old, bytes):
        raise Refusal(field, "type", "a number", "bytes")
    total = amount if old is None else old + amount
    if isinstance(total, int):
        if not INT64_MIN <= total <= INT64_MAX:
            raise Refusal(field, "range", "int64", str(total))
    elif not math.isfinite(total):
        raise Refusal(field, "range", "finite float", str(total))
    return total


def add_arrays(field: str, old: Scalar | None, array: bytes) -> bytes:
    """The elementwise sum of two little-endian float64 arrays of the same length."""
    import numpy as np

    if len(array) % 8:
        raise Refusal(field, "shape", "whole float64", len(array))
    total = np.frombuffer(array, "<f8")
    if old is not None:
        if not isinstance(old, bytes):
            raise Refusal(field, "type", "an array", type(old).__name__)
        if len(old) != len(array):
            raise Refusal(field, "shape", len(old) // 8, len(array) // 8)
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.frombuffer(old, "<f8") + total
    if not np.isfinite(total).all():
        raise Refusal(field, "range", "finite float", "infinity or NaN")
    return bytes(total.tobytes())


# ---------------------------------------------------------------------------------------- the cells


Cell: TypeAlias = Entries | Items


def _nbytes(value: Scalar) -> int:
    return len(value) if isinstance(value, bytes) else 8


def cell_nbytes(cell: Cell) -> int:
    """The bytes of a cell's names and values."""
    if isinstance(cell, Items):
        return cell.nbytes
    return sum(len(entry) + _nbytes(value) for entry, value in cell.items())


_NO_ITEMS: Final = Items()


class PartlyLoaded(dict[str, Scalar]):
    """Entries of which not all are here: a driver may give them to `into`, and need not load a map.

    What `into` does to entries is `get`, `in`, `[]` (of what it has found there), `[]=`, `del`, `len`,
    `copy` and, past a bound, `lowest`: these must answer for all of the field's entries. Nothing is
    iterated but by `cell_nbytes`, so that what `into` returns means nothing then.
    """

    __slots__ = ()

    def lowest(self) -> str:
        """The name of the lowest entry. There is one."""
        raise NotImplementedError


def _entries(cells: dict[str, Cell], field: str, own: list[str]) -> Entries:
    """The field's entries, to be written: made when absent, copied unless in `own`, then in it."""
    cell = cells.get(field)
    if cell is None or not (isinstance(cell, dict) or cell):
        made: Entries = {}
        cells[field] = made
        own.append(field)
        return made
    if not isinstance(cell, dict):
        raise Refusal(field, "type", "entries", "items")
    if field not in own:
        own.append(field)
        cells[field] = cell = cell.copy()
    return cell


def _enter(entries: Entries, change: Put | Add | Accumulate, value: Scalar) -> int:
    """Set an entry that is new, within the field's bound. Returns the growth in bytes."""
    growth = 0
    bound = change.bound
    while bound is not None and len(entries) >= bound:
        if not change.drop_lowest or bound < 1:
            raise Refusal(change.field, "bound", bound, len(entries) + 1)
        lowest = entries.lowest() if isinstance(entries, PartlyLoaded) else min(entries)
        if change.entry < lowest:
            return growth  # it would be the first to go
        growth -= len(lowest) + _nbytes(entries[lowest])
        del entries[lowest]
    entries[change.entry] = value
    return growth + len(change.entry) + _nbytes(value)


# -------------------------------------------------------------------------------------- the changes
#
# `into(cells, own)` applies a change to a working copy of the cells. A cell whose name is in `own`
# is the caller's alone and changed in place; any other is copied first, and its name added. Returns
# by how many bytes of names and values the cells have grown. Raises `Refusal` before anything of
# this one change is visible.
#
# Of `cells` it uses `get`, `[]=` and `del`, for the field that the change names. What it finds there is
# entries, a dict, or one that is `PartlyLoaded`; or items, of which it uses `appended`, `nbytes` and
# `cleared`, and `Splice` also `len`, `first`, `[]`, `without_newest` and `with_item`.


class Put(msgspec.Struct, frozen=True, gc=False, tag="put"):
    """Set one entry to encoded bytes. With `if_absent`, what stands already stays."""

    field: str
    entry: str
    value: bytes
    if_absent: bool = False
    bound: int | None = None
    drop_lowest: bool = False

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:
        """Apply it."""
        entries = _entries(cells, self.field, own)
        old = entries.get(self.entry)
        if old is None:
            return _enter(entries, self, self.value)
        if self.if_absent:
            return 0
        entries[self.entry] = self.value
        return len(self.value) - _nbytes(old)


class Drop(msgspec.Struct, frozen=True, gc=False, tag="drop"):
    """Remove one entry, or (None) the whole field, items included."""

    field: str
    entry: str | None = None

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:
        """Apply it."""
        cell = cells.get(self.field)
        if cell is None:
            return 0
        if self.entry is None:
            nbytes = cell_nbytes(cell)
            if isinstance(cell, dict):
                del cells[self.field]
            else:
                cells[self.field] = cell.cleared()
            return -nbytes
        if not isinstance(cell, dict) or self.entry not in cell:
            return 0
        entries = _entries(cells, self.field, own)
        growth = -len(self.entry) - _nbytes(entries[self.entry])
        del entries[self.entry]
        if not entries:
            del cells[self.field]
        return growth


class Add(msgspec.Struct, frozen=True, gc=False, tag="add"):
    """Add a number to an entry; absent counts as nothing. Ints stay exact within int64."""

    field: str
    entry: str
    amount: int | float
    bound: int | None = None
    drop_lowest: bool = False

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:
        """Apply it."""
        field, entry, amount = self.field, self.entry, self.amount
        cell = cells.get(field)
        if type(cell) is dict:  # the usual case, with few calls
            old: Any = cell.get(entry)
            if old.__class__ is int is amount.__class__:
                total = old + amount
                if -INT64_MAX <= total <= INT64_MAX:
                    if field not in own:
                        own.append(field)
                        cells[field] = cell = cell.copy()
                    cell[entry] = total
                    return 0
        entries = _entries(cells, field, own)
        old = entries.get(entry)
        if old is None:
            return _enter(entries, self, add_numbers(field, None, amount))
        entries[entry] = add_numbers(field, old, amount)
        return 0


class Accumulate(msgspec.Struct, frozen=True, gc=False, tag="accumulate"):
    """Add an array to an entry, elementwise. `array` is little-endian float64."""

    field: str
    entry: str
    array: bytes
    bound: int | None = None
    drop_lowest: bool = False

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:
        """Apply it."""
        entries = _entries(cells, self.field, own)
        old = entries.get(self.entry)
        if old is None:
            return _enter(entries, self, add_arrays(self.field, None, self.array))
        entries[self.entry] = add_arrays(self.field, old, self.array)
        return 0


class Append(msgspec.Struct, frozen=True, gc=False, tag="append"):
    """Append items to a list and keep the newest `keep`."""

    field: str
    items: tuple[bytes, ...]
    keep: int

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:  # noqa: ARG002  lists share
        """Apply it."""
        if not self.items:
            return 0
        if self.keep < 1:
            raise Refusal(self.field, "bound", self.keep, len(self.items))
        old = cells.get(self.field)
        if old is None:
            old = _NO_ITEMS.fork()
        elif type(old) is not Items and isinstance(old, dict):  # the first is quicker
            raise Refusal(self.field, "type", "items", "entries")
        new = old.appended(self.items, self.keep)
        cells[self.field] = new
        return new.nbytes - old.nbytes


class Splice(msgspec.Struct, frozen=True, gc=False, tag="splice"):
    """Change a list otherwise than by appending: its newest items, or the one in a position.

    * `at` 0: the newest `take` items go, as many of them as there are, with their positions; `items`
      come in their place, and of all the newest `keep` stay. Where none come, none go for `keep`.
      `same`: refused unless these are the newest items now.
    * `at` a position: the one item in `items` takes the place of the one there, refused if there is
      none ("gone"). `same`: refused unless that is the one in it.
    """

    field: str
    keep: int
    at: int = 0
    take: int = 0
    items: tuple[bytes, ...] = ()
    same: tuple[bytes, ...] | None = None

    def into(self, cells: dict[str, Cell], own: list[str]) -> int:  # noqa: ARG002  lists share
        """Apply it."""
        field, at, items = self.field, self.at, self.items
        old = cells.get(field)
        if old is None:
            old = _NO_ITEMS.fork()
        elif isinstance(old, dict):
            raise Refusal(field, "type", "items", "entries")
        size = len(old)
        if at:
            place = at - old.first
            if not 0 <= place < size:
                raise Refusal(field, "gone", _positions(old), at)
            if self.same is not None and self.same != (old[place],):
                raise Refusal(field, "changed", "the item as it was", "another")
            new = old.with_item(at, items[0])
        else:
            same = self.same
            if same is not None and (len(same) > size or tuple(old[size - len(same) :]) != same):
                raise Refusal(field, "changed", "the newest items as they were", "others")
            take = min(self.take, size)
            if not take and not items:
                return 0
            new = old.without_newest(take) if take else old
            if items:
                new = new.appended(items, self.keep)
        cells[field] = new
        return new.nbytes - old.nbytes


def _positions(items: Items) -> str:
    if not items:
        return "no items"
    return f"positions {items.first} to {items.first + len(items) - 1}"


Change: TypeAlias = Put | Drop | Add | Accumulate | Append | Splice


def fold(cells: Mapping[str, Cell], changes: Iterable[Change]) -> dict[str, Cell]:
    """The cells after the changes, in order; `cells` itself is not touched. Raises `Refusal`.

    Lists share their buffers with `cells`: two threads must not fold the same cells at once.
    """
    out = dict(cells)
    own: list[str] = []
    for change in changes:
        change.into(out, own)
    return out


# --------------------------------------------------------------------------------------- the commit


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

    `renew` moves the deadline as a write would, in the same round trip: (ttl, max age) in seconds.
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


def said_of(change: Change) -> tuple[object, ...]:
    """What a change asks for. Without its bound, which belongs to a release and not to the caller."""
    if isinstance(change, Append):
        return ("append", change.field, [_meant(item) for item in change.items])
    if isinstance(change, Splice):
        same = None if change.same is None else [_meant(item) for item in change.same]
        items = [_meant(item) for item in change.items]
        return ("splice", change.field, change.at, change.take, items, same)
    if isinstance(change, Add):
        return ("add", change.field, change.entry, change.amount)
    if isinstance(change, Accumulate):
        return ("accumulate", change.field, change.entry, change.array)
    if isinstance(change, Put):
        return ("put", change.field, change.entry, _meant(change.value), change.if_absent)
    return ("drop", change.field, change.entry)


def _meant(value: bytes) -> bytes:
    """An encoded value without what may differ when the same is said again.

    That is the order of a set's or an object's members, and members that are null, which a newer
    release may have and an older one not. Lists are taken as sets: nobody knows them apart here.
    """
    try:
        return _unordered(msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value


def _unordered(found: Any) -> bytes:
    if isinstance(found, dict):
        given = cast("dict[str, Any]", found).items()
        members = [
            repr(name).encode() + b":" + _unordered(each)
            for name, each in given
            if each is not None
        ]
        return b"{" + b",".join(sorted(members)) + b"}"
    if isinstance(found, list):
        listed: list[Any] = cast("Any", found)
        return b"[" + b",".join(sorted(map(_unordered, listed))) + b"]"
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    return repr(found).encode()


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
