"""The contract of a driver: where commits are folded and cells are read.

A driver knows the six changes and nothing of fields; it never sees a decoded value. The promises
that it makes are those of `statehold.testing.conformance`, which is the contract in executable
form; this file is the same contract in words.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from statehold.changes import Cell
from statehold.commits import ABSENT, About, Commit, Key, Revision, Want
from statehold.errors import NOTHING_WRITTEN, StateholdError, Unavailable, Unsupported, own
from statehold.formats import alike


class Feature(enum.StrEnum):
    """What a driver may or may not promise. What it does not declare raises `Unsupported`."""

    EXPECT = "expect"
    """Commits on condition of a revision: the one that stands (`expect`), or is to be made (`revision`)."""
    EPOCH = "epoch"
    """Fencing: a commit with an older epoch than the state has seen is refused."""
    SCAN = "scan"
    """Listing the ids of a kind."""
    SUBJECT = "subject"
    """Listing the keys of a subject; a state may be about several."""
    RETURNING = "returning"
    """Cells read in the same step as a commit."""
    SHARED = "shared"
    """Several processes may use the same store."""
    DURABLE = "durable"
    """What was acknowledged survives a killed process."""
    ERASE_ONCE = "erase_once"
    """An erasure's op id is remembered after it: repeated, it erases no later life."""
    CLAIM = "claim"
    """Epochs can be claimed, and what a key has seen of them outlives its state."""
    TOGETHER = "together"
    """One commit over several states: it has `commit_together`, see `CommitsTogether`."""
    WHERE = "where"
    """Commits on condition of a part of the state: an entry, or the newest item of a list."""
    WHOLE_LIVES = "whole_lives"
    """A life can be read whole and installed elsewhere whole: see `InstallsLives`."""


class FieldLayout(msgspec.Struct, frozen=True):
    """What a driver may know of a field, should it want columns or tables of its own."""

    name: str
    field: str
    """The kind of field: "register", "counter", "map", "log" …"""
    changes: frozenset[str]
    """Which changes it makes: "put", "drop", "add", "accumulate", "append", "splice"."""
    values: object
    """The Python type of its values; `bytes` for raw ones, of which a driver knows nothing. Others are
    put and appended as JSON, and a driver may refuse what is none, or not of that type, as `Invalid`."""
    bound: int
    """Maximum number of entries or items."""
    max_bytes: int
    """Maximum size of one entry's or item's value, in bytes."""
    dim: int | None = None
    """Of how many float32 each value is, little-endian, if a backend that can search by likeness is
    asked to keep it as a vector of its own. Others keep the bytes."""

    def __eq__(self, other: object) -> bool:
        """Whether both are stored alike, `values` being types of the same shape if not the same."""
        if not isinstance(other, FieldLayout):
            return NotImplemented
        return self._rest() == other._rest() and alike(self.values, other.values)

    def __hash__(self) -> int:
        return hash(self._rest())

    def _rest(self) -> tuple[object, ...]:
        """All but the type of its values."""
        return (self.name, self.field, self.changes, self.bound, self.max_bytes, self.dim)


class Layout(msgspec.Struct, frozen=True):
    """A kind of state as its driver sees it."""

    kind: str
    fields: tuple[FieldLayout, ...]
    ops: int

    def difference(self, other: Layout) -> str | None:
        """What the other has otherwise, in words; None if both are stored alike."""
        if self == other:
            return None
        mine, its = ({field.name: field for field in each.fields} for each in (self, other))
        for name in (*mine, *its):
            if name not in its:
                return f"there is no field {name!r} any more"
            if name not in mine:
                return f"there was no field {name!r}"
            if mine[name] != its[name]:
                return f"field {name!r} is declared otherwise"
        return "its fields are in another order" if self.ops == other.ops else "ops is another"


class Cells(msgspec.Struct, gc=False):
    """One state as read. Whoever receives it must not change `fields` or what is in it.

    A list that is wanted and has no items, or none that are wanted, is there as one without items if
    its positions do not begin with 1: the position of its first is that of the item that would follow.
    """

    revision: Revision
    fields: dict[str, Cell]
    created: float
    updated: float
    """When the last commit was made, epoch seconds by the clock that decides expiry. Where that clock
    was set back it may still be the latest time at which a commit of this life was made."""
    deadline: float | None
    skew: float = 0.0
    """By how many seconds that clock was ahead of the caller's in this answer; what is known from
    several is `Driver.skew`."""
    epoch: int = 0
    subject: About | None = None
    """A text, or a tuple of two or more; never an empty one."""
    source: Literal["store", "cache"] = "store"
    """"cache" when a middleware answered."""
    corrupted: tuple[str, ...] = ()
    """Fields that the driver could not read; they are left out of `fields`."""
    unchanged: bool = False
    """It is at a revision of `Want.unless`, and so nothing is in `fields`."""


class Op(msgspec.Struct, frozen=True, gc=False):
    """An op id that a life remembers: the number of its commit, its intent, and when that came."""

    op: str
    """Itself; or `commits.digest_of` it, where the backend that it comes from keeps no more."""
    number: int
    intent: int
    at: float


class WholeLife(msgspec.Struct, frozen=True):
    """A life with all that it remembers, to be installed elsewhere. Nobody changes what is in it.

    Its times are those of the clock that decides expiry where it was read.
    """

    key: Key
    cells: Cells
    """All of them, as a reader gets them; none is corrupted."""
    ops: tuple[Op, ...] = ()
    """The op ids of the newest commits, in their order."""
    forgotten: float = -math.inf
    """Of what was applied at this time or earlier the op ids may be forgotten: those that made way for
    newer ones, and all of earlier lives of the key, so that it is at least when this one began."""
    held: float = -math.inf
    """Until when whoever claimed its epoch holds that."""
    claim: str = ""
    """The op id of the claim by which that epoch was given out, as in `Op`."""


class Written(msgspec.Struct, frozen=True, gc=False):
    """The commit stands. `revision` is its own, also when an op id is repeated.

    `returned` is what `Commit.returning` asked for, as it stands after the commit (for a repeated
    op id: as it stands now). After `erase` the revision is the one erased, or `ABSENT`.
    """

    revision: Revision
    returned: Cells | None = None
    repeated: bool = False
    updated: float | None = None
    """When it was made, epoch seconds by the clock that decides expiry. None if it is repeated, and
    after `erase`."""
    deadline: float | None = None
    """When the state ends, if nothing comes; None for never, and where `updated` is None."""
    epoch: int = 0
    """What a claim was given."""


class Conflicted(msgspec.Struct, frozen=True):
    """`expect` did not hold, or one of `where`; what stands is `revision` (`ABSENT` if nothing).

    `field` is the one that the first condition of `where` which did not hold is about; "" for
    `expect`. Nothing was written.
    """

    revision: Revision = ABSENT
    field: str = ""


class FencedOff(msgspec.Struct, frozen=True):
    """The key has seen a newer epoch. Nothing was written."""

    epoch: int
    left: float = 0.0
    """For how many seconds more it is held, where a claim asked for the next one."""


class Refused(msgspec.Struct, frozen=True):
    """It cannot be applied, and nothing was written.

    `reason` is one of `changes.Refusal`; or "budget" (there is no room: `limit` and `found` in
    words), "value" (what the store cannot hold) or "corrupted" (what it cannot read), the latter two
    with what is wrong as `limit`.
    """

    field: str
    reason: str
    limit: str | int
    found: str | int


class Reused(msgspec.Struct, frozen=True):
    """The op id stands for something else, which made this revision. Nothing was written."""

    revision: Revision


class Doubtful(msgspec.Struct, frozen=True):
    """It may have been applied before, and the state cannot tell any more. Nothing was written now."""


class Late(msgspec.Struct, frozen=True):
    """It came after `Commit.until`. Nothing was written."""


class Undone(msgspec.Struct, frozen=True):
    """Another commit that it was to stand or fall with is barred. Nothing was written."""


class Failed(msgspec.Struct, frozen=True):
    """The store could not do it, or nobody knows: the error, which says whether it was written.

    Only where another commit of the same call came to something else; otherwise the call raises.
    """

    error: StateholdError


Outcome: TypeAlias = (
    Written | Conflicted | FencedOff | Refused | Reused | Doubtful | Late | Failed | Undone
)


def told(outcomes: list[Outcome]) -> list[Outcome]:
    """What the caller of all these commits gets; raises where the store failed.

    If it failed at some of them only, the error says so: nobody may think that none was written.
    """
    failed = [one.error for one in outcomes if isinstance(one, Failed)]
    if not failed:
        return outcomes
    if len(failed) == len(outcomes):
        raise own(next((e for e in failed if not isinstance(e, NOTHING_WRITTEN)), failed[0]))
    raise Unavailable(
        f"{len(outcomes) - len(failed)} of the {len(outcomes)} commits of a call are done, of the"
        f" others: {failed[0]}"
    ) from failed[0]


class Scan(msgspec.Struct, frozen=True):
    """Which page of which listing is asked for. All but `cursor` and `limit` say which listing."""

    tenant: str
    kind: str
    subject: str | None = None
    """Only the states about this subject, among others or not; None for all of the kind."""
    prefix: str = ""
    """Only the states whose ids begin with this text, character by character."""
    newest: bool = False
    """With a subject: the last updated first. A page may cost what all of the subject's states do."""
    cursor: str | None = None
    """Where the page before ended; None for the first."""
    limit: int = 500
    """Maximum number of keys in the page."""


class Page(msgspec.Struct, frozen=True):
    """Some keys in a stable order, and the cursor to go on from; None when there are no more."""

    keys: tuple[Key, ...]
    cursor: str | None = None


class Swept(msgspec.Struct, frozen=True):
    """What sweeping came to: how many states that had ended are gone, and where to go on."""

    removed: int = 0
    after: str | None = None
    """To be given to the next call; None when everything has been looked at."""


class Driver(ABC):
    """A backend where states live.

    Calls may come concurrently from tasks of one event loop, and from several threads when
    `suspends` is False. `now` is epoch seconds from the caller's clock; a store with a clock of its
    own ignores it. A state is expired, and absent to every call, from `now >= deadline` on.

    It need not check what no store sends: names of tenants, ids and subjects over 512 bytes of UTF-8,
    over `MOST_SUBJECTS` subjects, one of them twice, or a tuple of one; op ids over 128, entries over 512; text
    that is not Unicode (lone surrogates); an epoch outside 0 to 2^63 - 1; a `keep`, `bound`, `ops`, `tail` or
    `limit` below 1 or over 2^53; a ttl or max age that is not finite
    and over zero; `since` without an op id; `erase` with changes; a `Splice` in a position with other than
    one item; a `claim` with changes, `where` or `erase`, or that is negative or not finite; `expect` or `erase`
    with a `revision`; a kind that was not opened. What
    it does then is its own affair, as long as no other state is harmed.

    Every method raises `Unavailable` (or a leaf of it) when the store cannot answer, never an empty
    answer instead; `Closed` after `close`; errors of third parties are translated, `from exc`.
    """

    features: frozenset[Feature]
    """What it promises beyond reading and committing."""

    suspends: bool = False
    """Whether the coroutines ever suspend. If not, they run without an event loop."""

    ambiguous: bool = False
    """Whether a call may fail without it being known if it took effect (a lost connection, a
    retry further down). Then every commit is given an op id, so that it can be repeated."""

    gather: Literal["no", "tick", "thread"] = "no"
    """Whether concurrent commits are worth passing down together: those of one tick of the event
    loop, inline ("tick") or from a thread of their own while the next ones gather ("thread")."""

    @property
    def skew(self) -> float:
        """By how many seconds the store's own clock is ahead of the caller's, as last heard.

        0 where there is no other clock than the caller's. Known once `open` has returned.
        """
        return 0.0

    def earliest(self, monotonic: float) -> float | None:  # noqa: ARG002  where there is a clock
        """What the store's own clock showed at that instant of `time.monotonic`, at the least.

        None where there is no other clock than the caller's, or where it is not known. The machine's
        clock may have been set meanwhile; this does not depend on it.
        """
        return None

    async def open(self, layout: Layout) -> None:  # noqa: B027  most need nothing
        """Make ready for a kind. Called before its first use; more than once does no harm."""

    @abstractmethod
    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        """The cells of each key, in order; None for a state that is absent or expired.

        Each state is read as of one instant: never half a commit. Several need not be of the same instant:
        what was committed to some of them together may be there in one and not yet in another.
        """

    @abstractmethod
    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        """Apply each commit atomically, in order, and say what became of it.

        Commits are independent: one that is refused leaves the others alone, and so does one with a
        value that cannot be stored (`Refused` for "value") or to a state that cannot be read
        ("corrupted"). Several on the same key are applied one after the other. For each, in this order:

        1. an expired state is absent: a new life begins, with nothing of the old one;
        2. an op id that is remembered: `Written` again, with the first one's revision; `Reused` if
           it stands for something else (one erases and the other does not, or both say an `intent`
           and it is not the same);
        3. `since`, and an op id that was applied at that instant or later may have been forgotten,
           because newer ones took its place or its life has ended: `Doubtful`;
        4. `until` has passed: `Late`;
        5. `epoch` lower than the highest that the key has seen: `FencedOff`;
        6. `expect` that does not hold, or a `revision` that is not the next, and then any of `where`:
           `Conflicted`;
        7. `erase`, or the changes, or `Refused` with nothing written. A commit without changes to
           an absent state makes it exist unless `expect` says otherwise; with `at`, one that would
           make a state which is over already is `Late`.

        A life remembers the op ids of its newest commits: as many as the newest commit with an op
        id says in `ops`, at least. They may be forgotten when it ends. Of erasures with an op id,
        that one is remembered for `HOLD_SECONDS` at least, whatever becomes of the state
        (`Feature.ERASE_ONCE`).

        The highest epoch that a key has seen is remembered for as long as its state lives, and for
        `HOLD_SECONDS` after that, by however it ended, so that a deposed writer does not begin it
        anew (`Feature.CLAIM`). A commit with `claim` has no changes and makes no state, nor does it
        move the revision or the deadline of one: instead of 7 the key has seen its `epoch`, which is
        *held* for so many seconds from now on (0: given back) and remembered for `HOLD_SECONDS` after
        that. A claim of the epoch 0 asks for the next one: `FencedOff`, with the seconds that are
        `left`, while the highest is held; else it is given one that is higher than any before
        (`Written.epoch`), namely the store's time in microseconds, unless that is too low. Steps 2
        and 3 do not concern claims: repeated with the op id by which the epoch that is held was given
        out, it is given the same. `Written.revision` is what stands.

        A driver that sends a commit again by itself sets `since`, so that what was forgotten is told
        from what was never seen; and where the store has a clock, `until` on every sending, so that
        nothing takes effect after its caller was told that it is not known.

        If the call raises instead, each commit is applied whole or not at all, and no one knows
        which unless `ambiguous` is False: then none is.
        """

    async def scan(self, asked: Scan, now: float) -> Page:  # noqa: ARG002  nothing to list
        """The next keys of a listing, see `Scan`; `Invalid` for a cursor of another one.

        States that live throughout the listing appear exactly once; expired ones never. A page may be
        shorter than `limit`, even empty, without being the last. Of a listing newest first, what is
        written while it goes on is not what comes next any more: it may be left out, and appears at
        most once, as long as no clock is set back. The default is that of a driver that declares neither
        `SCAN` nor `SUBJECT`.
        """
        raise Unsupported(
            f"{type(self).__name__} does not support {Feature.SCAN}", expected=Feature.SCAN
        )

    async def sweep(self, now: float, after: str = "") -> Swept:  # noqa: ARG002  nothing to do
        """Clear away some of what has ended, of every kind and tenant that is stored, also unopened ones.

        One call is short enough to stand beside others: it looks at a bounded number of states, and
        removes no more than a bounded part of a large one. Whoever goes on from `after`, beginning
        with "", until it is None has had everything looked at that had ended when he began. It removes
        nothing that another call would still have to know: what is remembered of ended lives and
        of epochs stays for as long as is promised. Sweeping that calls do by themselves is not
        replaced by it. The default is that of a driver whose store forgets by itself.
        """
        return Swept()

    async def drain(self, timeout: float) -> bool:  # noqa: ARG002, ASYNC109  nothing to wait for
        """Finish the calls that were accepted, and take nothing new: whether it was done in time.

        After at most so many seconds it returns; nothing is cancelled, and `close` is still to come.
        What is asked from now on is `Closed`, or else done before `close` as ever. The default is that
        of a driver that nobody calls from other threads: its calls are over when they return. One that
        never suspends waits in place, with the calls of other threads.
        """
        return True

    @abstractmethod
    async def close(self) -> None:
        """Release everything. Closing twice is fine."""

    async def check(self, now: float) -> None:
        """Raise unless the store can answer now. The default reads a key that nobody uses."""
        await self.read([("", "", "")], Want(fields=()), now)

    def stats(self) -> Mapping[str, int | float]:
        """Counters and gauges of the driver's own, by metric name; plain numbers, cheap to read."""
        return {}


@runtime_checkable
class Peeks(Protocol):
    """What a driver may offer beside its calls: reading what it has at hand, at once.

    A driver that suspends and yet knows some answers by itself, such as a cache, is asked this first
    by callers who would have to go to another thread for its `read`.
    """

    def peek(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None] | None:
        """What `read` would answer, without suspending or waiting; None if it has to be asked.

        Safe for any thread.
        """
        ...


MOST_TOGETHER: Final = 100
"""How many commits stand or fall together, at most."""


@runtime_checkable
class CommitsTogether(Protocol):
    """What a driver offers beside its calls that declares `Feature.TOGETHER`."""

    async def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        """Apply all of the commits, atomically, or none; each is to another state.

        For each it is looked what it would come to by itself, by the rules of `Driver.commit`. Then:

        * all would be `Written`, and none is a repetition: they are, and whoever has seen one of
          them sees the others;
        * an op id is remembered: it was done before. Nothing is written. Those that are remembered
          are `Written` again, or `Reused`; any other is `Doubtful`, since its state has forgotten;
        * else nothing is written. Those that are barred are told by what, one of them at least; the
          others are `Undone`.

        If the call raises, all are applied or none is. A `WaitingDriver` is given `wait` as well.
        There are at most `MOST_TOGETHER`, and nobody sends two to the same state, or a claim.
        """
        ...


@runtime_checkable
class InstallsLives(Protocol):
    """What a driver offers beside its calls that declares `Feature.WHOLE_LIVES`.

    So a state moves to another backend, a follower takes over with what the owner remembered, and an
    owner begins with what the store has.
    """

    async def lives(self, keys: Sequence[Key], now: float) -> list[WholeLife | None]:
        """The life of each key, in order, as of one instant; None for a state that is absent.

        Raises `Corrupted` if a part of one cannot be read: half a life is not to be taken for it.
        """
        ...

    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        """Put each life in the place of what stands there, atomically, if that is nothing newer.

        An expired state is absent. For each, in this order:

        1. its very revision stands, with its epoch: it was installed before, and is `Written` as
           repeated;
        2. its deadline has passed: `Late`;
        3. the key has seen a higher epoch: `FencedOff`;
        4. another incarnation stands, or a higher number: `Conflicted` with what does;
        5. it is `Written`; or `Refused` for a "value" that the store cannot hold.

        After 5 the state is what it was where it was read: its revision, cells and positions, times,
        deadline, subject and epoch, and whoever holds that; the next commit is the next of its
        revisions. An op id that the life remembers is a repetition. Of what was applied at
        `WholeLife.forgotten` or earlier nothing else is known, and neither of what was applied to
        another life that this key had here: sent again it is `Doubtful`. The op ids are kept until
        commits push them out, as if they had been made here.

        If the call raises, each life is installed whole or not at all, which installing it again
        tells. A `WaitingDriver` is given `wait` as well in both calls. Nobody sends one key twice.
        """
        ...


class WouldWait(Exception):
    """A call that was not to wait would have had to. Nothing was done."""


class WaitingDriver(Driver):
    """A driver that never suspends, and may have to wait: for other threads or processes.

    In an event loop nobody may wait in place. With `wait=False` these calls raise `WouldWait`
    instead, and are made again, from a thread, by who called them there (`middleware.coalesce`).

    What is waited for counts: meanwhile states have ended, and others may have seen that. So a call that
    has waited goes by its `now` and the seconds waited. Whoever commits nothing (`commit(())`) waits for
    its turn all the same: so it can be waited for with nothing that could come too late.
    """

    @abstractmethod
    async def open(self, layout: Layout, *, wait: bool = True) -> None:
        """See `Driver.open`."""

    @abstractmethod
    async def read(
        self, keys: Sequence[Key], want: Want, now: float, *, wait: bool = True
    ) -> list[Cells | None]:
        """See `Driver.read`."""

    @abstractmethod
    async def commit(
        self, commits: Sequence[Commit], now: float, *, wait: bool = True
    ) -> list[Outcome]:
        """See `Driver.commit`."""

    async def scan(self, asked: Scan, now: float, *, wait: bool = True) -> Page:  # noqa: ARG002
        """See `Driver.scan`."""
        return await super().scan(asked, now)

    async def sweep(self, now: float, after: str = "", *, wait: bool = True) -> Swept:  # noqa: ARG002
        """See `Driver.sweep`."""
        return await super().sweep(now, after)

    async def check(self, now: float, *, wait: bool = True) -> None:
        """See `Driver.check`."""
        await self.read([("", "", "")], Want(fields=()), now, wait=wait)
