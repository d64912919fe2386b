"""An oracle: what a store promises, in plain dicts and lists.

It shares no code with the fold that drivers use (`naive` has the six changes once more); it is slow,
obvious and keeps everything. `judge` is shown each commit with the outcome that a driver gave, says
whether that is right, and goes on from there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from statehold.commits import (
    ABSENT,
    HOLD_SECONDS,
    PRESENT,
    About,
    Commit,
    Is,
    Key,
    Revision,
    Want,
    digest_of,
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
    Undone,
    WholeLife,
    Written,
)
from statehold.testing.naive import Fields, Numbered, agree, apply_all, is_a
from statehold.testing.promises import promised

SLACK_SECONDS = 30.0
"""By how much the time that a store says may be another than the one that is known here."""


@dataclass
class Applied:
    """What became of an op id: the revision that it made or erased, what it stood for, when."""

    revision: Revision
    intent: int
    erased: bool
    time: float
    newest: float = -math.inf
    """The latest time that its life had seen, which is another if the clock was set back."""


@dataclass
class Life:
    """One life of a state, from the commit that made it to its end."""

    incarnation: int
    created: float
    number: int = 0
    updated: float = 0.0
    latest: float = 0.0
    """The latest time of any commit, which is another if the clock was set back."""
    newest: float = 0.0
    """The latest time at which any came, which is later where somebody else decided when it was."""
    came: float = 0.0
    """When the newest commit came, which is earlier where the clock was set back before it."""
    deadline: float | None = None
    epoch: int = 0
    subject: About | None = None
    fields: Fields = field(default_factory=dict[str, Any])
    applied: dict[str, Applied] = field(default_factory=dict[str, "Applied"])
    """Every op id of this life, in order."""
    remembered: list[str] = field(default_factory=list[str])
    """Those that must be remembered: each commit kept as many of the newest as it said."""
    shadow: float = -math.inf
    """Until when other lives went on, if the clock was set back before this one began."""

    @property
    def revision(self) -> Revision:
        """The revision of the newest commit."""
        return Revision(self.incarnation, self.number)


ABOUT: Final[dict[type, int]] = {
    Reused: 2,
    Doubtful: 2,
    Late: 4,
    FencedOff: 7,
    Conflicted: 3,
    Refused: 5,
}
"""Which promise an outcome is about."""


def _about(outcome: Outcome, otherwise: int = 3) -> int:
    if isinstance(outcome, Written) and outcome.repeated:
        return 2
    return ABOUT.get(type(outcome), otherwise)


@dataclass
class Epochs:
    """What a key has seen of epochs, beside its lives."""

    epoch: int = 0
    until: float = -math.inf
    """Where there is no state: until when it must be remembered."""
    held: float = -math.inf
    """Until when whoever claimed it holds it, …"""
    slack: float = 0.0
    """… or up to as many seconds longer, …"""
    op: str = ""
    """… and the op id of the claim by which it was given out."""
    highest: int = 0
    """Of all that there ever were."""


class Model:
    """All states of a store.

    `exact` says whether its times can be compared to the last bit, `erase_once` whether it must
    remember erasures, `claims` whether what was seen of epochs must outlive a state.
    """

    def __init__(self, *, exact: bool = True, erase_once: bool = True, claims: bool = True) -> None:
        self.exact = exact
        self.took = 0.0
        """Seconds that the call took which is judged: what it waited of them counts, so that it may have
        gone by a time so much later."""
        self.doubts = True
        """Whether what was forgotten must never be applied again."""
        self.erase_once = erase_once
        self.claims = claims
        self.epochs: dict[Key, Epochs] = {}
        self.lives: dict[Key, Life] = {}
        self.past: dict[Key, list[Revision]] = {}
        self.erased: dict[tuple[Key, str], Applied] = {}
        self.over: dict[tuple[Key, str], Applied] = {}
        """Op ids of lives that have ended, which may be remembered and need not be."""
        self.incarnations: set[int] = set()
        self.newest_end = -math.inf
        self.expired = -math.inf
        """The latest deadline of those that have expired."""
        self.how: dict[Key, int] = {}
        """How states ended: by which promise they are absent."""
        self.barred: set[Key] = set()
        """Those whose newest commit was not to be written."""

    # -------------------------------------------------------------------------------- reading

    def life(self, key: Key, now: float) -> Life | None:
        """The state's present life; None when absent or expired."""
        life = self.lives.get(key)
        if life is not None and life.deadline is not None and now >= life.deadline:
            self.expired = max(self.expired, life.deadline)
            self._end(key, 4, life.epoch, max(life.deadline, life.came))
            return None
        return life

    def seen(self, key: Key, now: float) -> int:
        """The highest epoch that must be known."""
        life, epochs = self.life(key, now), self.epochs.get(key)
        if life is not None:
            return life.epoch
        return epochs.epoch if epochs is not None and now < epochs.until else 0

    def _end(self, key: Key, how: int, epoch: int, at: float) -> None:
        """A life has ended that had seen the epoch, or what is absent was erased with it."""
        self._see(key, epoch)
        if epoch and self.claims:
            epochs = self.epochs[key]
            epochs.until = max(epochs.until, at + HOLD_SECONDS)
        life = self.lives.pop(key, None)
        self.how[key] = how
        if life is not None:
            self.newest_end = max(self.newest_end, life.newest)
            self.over |= {(key, op): applied for op, applied in life.applied.items()}

    def set_back(self, now: float, *, known: bool) -> None:
        """The clock, which showed `now`, is to be set back: not to before `expired`.

        What need not be remembered any more need not be known again; `known` says whether the rest is.
        """
        self.doubts = self.doubts and known
        for at, applied in list(self.erased.items()):
            if now >= applied.time + HOLD_SECONDS:
                self.over[at] = self.erased.pop(at)
        for key, epochs in self.epochs.items():
            if key not in self.lives and now >= epochs.until:
                epochs.until = epochs.held = -math.inf

    def keys(
        self, tenant: str, kind: str, now: float, subject: str | None = None, prefix: str = ""
    ) -> list[str]:
        """The ids that a scan must find, sorted."""
        return sorted(
            key[2]
            for key in list(self.lives)
            if key[:2] == (tenant, kind)
            and key[2].startswith(prefix)
            and (life := self.life(key, now)) is not None
            and (subject is None or subject in _each(life.subject))
        )

    def check_read(self, key: Key, want: Want, cells: Cells | None, now: float) -> None:
        """Raise AssertionError unless `cells` is what a read must answer; renews, if wanted."""
        life = self.life(key, now)
        if life is None:
            with promised(self.how.get(key, 8)):
                assert cells is None, f"an absent state was served: {cells}"
            return
        with promised(3):
            assert cells is not None, f"a state that lives was not found: {key}"
        if want.renew is not None:
            life.deadline = _until(life.created, now, *want.renew)
            if life.deadline is not None:
                life.deadline = self._later(life.deadline, cells.deadline)
        self._check_cells(life, want, cells, lost=1 if key in self.barred else 3)

    def _check_cells(self, life: Life, want: Want, cells: Cells, lost: int = 3) -> None:
        """`lost` is the promise that is broken where something else is there than should be."""
        with promised(6):
            assert cells.revision == life.revision, (
                f"revision {cells.revision}, not {life.revision}"
            )
        with promised(8):
            assert cells.subject == life.subject, f"subject {cells.subject!r}, not {life.subject!r}"
        with promised(7):
            assert cells.epoch == life.epoch, f"epoch {cells.epoch}, not {life.epoch}"
        if self.exact:
            between = life.updated <= cells.updated <= life.latest
            updated = cells.updated if between else life.latest
            found = (cells.created, cells.updated, cells.deadline)
            wanted = (life.created, updated, life.deadline)
            with promised(4):
                assert found == wanted, f"created, updated, deadline are {found}, not {wanted}"
        expected: Fields = {}
        for name, value in life.fields.items():
            if want.fields is not None and name not in want.fields:
                continue
            shown: Any = value
            if isinstance(value, Numbered):
                shown = _shown(value, name, want)
            elif want.entries is not None and name in want.entries:
                shown = {entry: value[entry] for entry in want.entries[name] if entry in value}
            if shown or getattr(shown, "first", 1) > 1:
                expected[name] = shown
        actual = {
            name: cell
            for name, cell in cells.fields.items()
            if cell or getattr(cell, "first", 1) > 1
        }
        with promised(lost):
            assert set(actual) == set(expected), f"fields {sorted(actual)}, not {sorted(expected)}"
        for name, value in expected.items():
            got = actual[name]
            with promised(
                5 if lost == 3 and (isinstance(value, list) or len(got) > len(value)) else lost
            ):
                assert agree(value, got), f"{name} is {got!r}, not {value!r}"

    # ------------------------------------------------------------------------------ committing

    def judge(  # noqa: C901, PLR0912  in the order of `Driver.commit`
        self, commit: Commit, outcome: Outcome, now: float
    ) -> None:
        """Raise AssertionError unless `outcome` is right for `commit`; then take it over."""
        life = self.life(commit.key, now)
        must, may = self._remembered(life, commit, now)
        if must is None and (
            isinstance(outcome, Reused) or (isinstance(outcome, Written) and outcome.repeated)
        ):  # more is remembered than need be, and that is well
            must = next((one for one in may if one.revision == outcome.revision), None)
        if must is not None:
            with promised(2):
                self._judge_repeat(life, commit, must, outcome, now)
            return
        if commit.since is not None and commit.claim is None:
            with promised(2):
                known = self._all_known(life, commit, now)
                if isinstance(outcome, Doubtful):
                    assert not known, "a commit that nobody can have forgotten was called doubtful"
                    return
                before = [one for one in may if one.time >= commit.since]
                said = f"a commit that was applied before, and forgotten: {outcome}"
                assert not before or not self.doubts, said
        if commit.until is not None and now + self.took > commit.until:
            with promised(4):
                late = isinstance(outcome, Late)
                assert late or now <= commit.until, f"after its time: {outcome}"
            if late:
                return
        if commit.claim is not None:
            with promised(7):
                self._judge_claim(life, commit, outcome, now)
            return
        if self._fenced_for_long(life, commit, outcome):
            return
        barred = _barred(life, commit, self.seen(commit.key, now), now)
        if barred is not None:
            self.barred.add(commit.key)
            with promised(_about(barred)):
                assert outcome == barred, f"{outcome} where it should be {barred}"
        elif commit.erase:
            stood = ABSENT if life is None else life.revision
            with promised(_about(outcome, self.how.get(commit.key, 12) if life is None else 12)):
                assert outcome == Written(stood), f"an erase of {stood}: {outcome}"
            self._end(commit.key, 12, commit.epoch, now)
            if commit.op:
                applied = Applied(stood, commit.intent, erased=True, time=now)
                self.erased[commit.key, commit.op] = applied
        else:
            fields = {} if life is None else copy.deepcopy(life.fields)
            no = apply_all(fields, commit.changes)
            if no is None:
                self._take_over(life, commit, fields, outcome, now)
            else:
                self.barred.add(commit.key)
                with promised(5 if no[1] == "bound" else 16):
                    assert isinstance(outcome, Refused), f"to be refused ({no}): {outcome}"
                    found = (outcome.field, outcome.reason)
                    assert found == no, f"refused for {found}, not {no}"

    def _fenced_for_long(self, life: Life | None, commit: Commit, outcome: Outcome) -> bool:
        """Whether it was barred by an epoch that need not be remembered any more, and may be."""
        epochs = self.epochs.get(commit.key)
        if life is not None or epochs is None or not isinstance(outcome, FencedOff):
            return False
        return not outcome.left and commit.epoch < outcome.epoch <= epochs.highest

    def _judge_claim(self, life: Life | None, commit: Commit, outcome: Outcome, now: float) -> None:
        """See `judge`: of a claim."""
        if commit.epoch and self._fenced_for_long(life, commit, outcome):
            return
        key, known, stands = commit.key, self.seen(commit.key, now), ABSENT
        if life is not None:
            stands = life.revision
        epochs = self.epochs.setdefault(key, Epochs())
        same = commit.op != "" and epochs.op in (commit.op, digest_of(commit.op))
        held = epochs.epoch == known and now < epochs.held
        if epochs.epoch == known and epochs.held <= now < epochs.held + epochs.slack:
            held = isinstance(outcome, FencedOff)
            held |= same and isinstance(outcome, Written) and outcome.epoch == known
        again = held and same
        if held and not commit.epoch and not again:
            assert isinstance(outcome, FencedOff), f"of an epoch that is held: {outcome}"
            assert outcome.epoch == known, f"it holds {known}, not {outcome.epoch}"
            left = epochs.held - now
            slack = self.took + epochs.slack if self.exact else SLACK_SECONDS
            told = f"it is held for {left} more seconds, not {outcome.left}"
            assert outcome.left == left or abs(outcome.left - left) < slack, told
            return
        barred = _barred(life, commit, 0 if not commit.epoch else known, now)
        if barred is not None:
            assert outcome == barred, f"{outcome} where it should be {barred}"
            return
        assert isinstance(outcome, Written), f"a good claim: {outcome}"
        assert outcome.revision == stands, f"a claim at {stands} says {outcome.revision}"
        assert not outcome.repeated, "a claim is never called a repeat"
        wanted = known if again else commit.epoch
        if wanted:
            assert outcome.epoch == wanted, f"it claimed {wanted}, and got {outcome.epoch}"
        else:
            least = max(epochs.highest, known)
            assert outcome.epoch > least, f"after {least} it was given {outcome.epoch}"
        self._see(key, outcome.epoch)
        epochs.held, epochs.slack = now + (commit.claim or 0.0), self.took
        epochs.until = max(epochs.until, epochs.held + HOLD_SECONDS)
        if not commit.epoch:
            epochs.op = commit.op
        if life is not None:
            life.epoch = outcome.epoch
            self._check_returned(life, commit, outcome, now)

    def _see(self, key: Key, epoch: int) -> None:
        """Whoever claimed another one does not hold it any more."""
        epochs = self.epochs.setdefault(key, Epochs())
        if epoch != epochs.epoch:
            epochs.epoch, epochs.held, epochs.until, epochs.op = epoch, -math.inf, -math.inf, ""
        epochs.highest = max(epochs.highest, epoch)

    def judge_together(
        self, commits: Sequence[Commit], outcomes: Sequence[Outcome], now: float
    ) -> None:
        """Compare outcomes with what may be, and follow them, of commits that stand or fall together."""
        if all(isinstance(one, Written) and not one.repeated for one in outcomes):
            for commit, outcome in zip(commits, outcomes, strict=True):
                self.judge(commit, outcome, now)
            return
        before = any(isinstance(one, Written) and one.repeated for one in outcomes)
        assert not all(isinstance(one, Undone) for one in outcomes), "undone for no reason"
        would = copy.deepcopy(self)
        for commit, outcome in zip(commits, outcomes, strict=True):
            life = would.life(commit.key, now)
            if isinstance(outcome, Undone):
                assert not before, "what was done before is not undone"
                would.judge(replace(commit, returning=None), _next(life, commit, now), now)
            elif before and isinstance(outcome, Doubtful):
                known, _ = would._remembered(life, commit, now)  # noqa: SLF001  its own class
                assert known is None, "an op id that must be remembered was called doubtful"
            else:
                again = isinstance(outcome, Reused) or (
                    isinstance(outcome, Written) and outcome.repeated
                )
                assert again or not (before or isinstance(outcome, Written)), f"not all: {outcomes}"
                would.judge(commit, outcome, now)

    # ------------------------------------------------------------------------------ whole lives

    def check_life(self, key: Key, found: WholeLife | None, now: float) -> Life | None:
        """Raise AssertionError unless that is the whole life of the state; a copy of it as it is here."""
        life = self.life(key, now)
        if life is None or found is None:
            with promised(self.how.get(key, 8) if life is None else 3):
                assert (life is None) is (found is None), f"a life that is not there: {found}"
            return None
        self._check_cells(life, Want(), found.cells)
        epochs = self.epochs.get(key, Epochs())
        holds = epochs.epoch == life.epoch and now < epochs.held
        with promised(7):
            held = epochs.held <= found.held <= epochs.held + epochs.slack
            assert held or not (holds and self.exact), f"held: {found.held}"
            assert not holds or digest_of(found.claim or " ") == digest_of(epochs.op or " ")
        told = {digest_of(one.op): one for one in found.ops}
        with promised(2):
            assert found.forgotten >= life.created or not self.exact, "it knows of earlier lives"
            for op in life.remembered:
                one, applied = told.get(digest_of(op)), life.applied[op]
                assert one is not None, f"the op id {op!r} is not in its life"
                assert (one.number, one.intent) == (applied.revision.number, applied.intent)
            for op, applied in life.applied.items():
                known = (
                    digest_of(op) in told or max(applied.time, applied.newest) <= found.forgotten
                )
                assert known or not self.exact, f"{op!r} is forgotten, and nobody knows"
        made = copy.deepcopy(life)
        made.applied = {op: one for op, one in made.applied.items() if digest_of(op) in told}
        made.shadow = max(made.shadow, found.forgotten)
        return made

    def judge_install(self, comes: WholeLife, life: Life, outcome: Outcome, now: float) -> None:
        """Raise AssertionError unless `outcome` is right for a life that is to be installed.

        `life` is what `check_life` made of it when it was read.
        """
        key, stands = comes.key, self.life(comes.key, now)
        revision, epoch = comes.cells.revision, comes.cells.epoch
        if stands is not None and (stands.revision, stands.epoch) == (revision, epoch):
            with promised(2):
                assert outcome == Written(revision, None, repeated=True), f"again: {outcome}"
            return
        until = comes.cells.deadline
        if until is not None and until <= now:
            with promised(4):
                assert outcome == Late(), f"what is over was installed: {outcome}"
            return
        epochs = self.epochs.setdefault(key, Epochs())
        if stands is None and isinstance(outcome, FencedOff) and epoch < outcome.epoch:
            assert outcome.epoch <= epochs.highest, "an epoch that nobody had"
            return
        seen = self.seen(key, now)
        with promised(7):
            fenced = f"{epoch} after {seen} was seen: {outcome}"
            assert (outcome == FencedOff(seen)) is (epoch < seen), fenced
        if epoch < seen:
            return
        other = stands is not None and (
            stands.incarnation != revision.incarnation or stands.number > revision.number
        )
        with promised(3):
            assert (outcome == Conflicted(stands.revision if stands else ABSENT)) is other, (
                f"a life at {revision}, where {stands and stands.revision} stands: {outcome}"
            )
            if other:
                return
            assert outcome == Written(revision, None, False, comes.cells.updated, until), (
                f"a good life: {outcome}"
            )
        horizon = self._horizon(now) if stands is None else stands.shadow
        new = self.lives[key] = copy.deepcopy(life)
        new.shadow = max(new.shadow, horizon)
        self.past.setdefault(key, []).append(revision)
        self.barred.discard(key)
        self._see(key, epoch)
        if comes.held > -math.inf:
            epochs = self.epochs[key]
            epochs.held = max(epochs.held, comes.held)
            epochs.until = max(epochs.until, epochs.held + HOLD_SECONDS)
            epochs.op = comes.claim

    def _remembered(
        self, life: Life | None, commit: Commit, now: float
    ) -> tuple[Applied | None, list[Applied]]:
        """What the op id did before: what must be known of it, and all that may be."""
        at = (commit.key, commit.op)
        if not commit.op or commit.claim is not None:
            return None, []
        erased, own = self.erased.get(at), None if life is None else life.applied.get(commit.op)
        may = [one for one in (erased, own, self.over.get(at)) if one is not None]
        if erased is not None and self.erase_once and now < erased.time + HOLD_SECONDS:
            return erased, may
        if life is not None and commit.op in life.remembered:
            return own, may
        return None, may

    def _horizon(self, now: float) -> float:
        """When a life may have ended last of which nothing need be remembered."""
        return max(self.newest_end, now - HOLD_SECONDS)

    def _all_known(self, life: Life | None, commit: Commit, now: float) -> bool:
        """Whether all that was applied at `since` or later must be remembered."""
        since = -math.inf if commit.since is None else commit.since
        if life is None or life.created >= since or life.shadow >= since:
            return False  # of lives that have ended nothing need be known
        if commit.erase and (since <= now - HOLD_SECONDS or not self.erase_once):
            return False
        if not self.erase_once and len(life.applied) >= commit.ops:
            return False  # it keeps no times, and cannot tell what is full from what overflowed
        return all(
            max(applied.time, applied.newest) < since or op in life.remembered
            for op, applied in life.applied.items()
        )

    def _judge_repeat(
        self, life: Life | None, commit: Commit, before: Applied, outcome: Outcome, now: float
    ) -> None:
        first = before.revision
        differ = 0 not in (before.intent, commit.intent) and before.intent != commit.intent
        if before.erased != commit.erase or differ:
            assert outcome == Reused(first), f"an op id that stands for {first}: {outcome}"
            return
        assert isinstance(outcome, Written), f"a repeated op id: {outcome}"
        assert outcome.revision == first, f"a repeat answers {outcome.revision}, not {first}"
        assert outcome.repeated, "a repeat must say that it is one"
        if life is not None and life.incarnation == first.incarnation:
            self._check_returned(life, commit, outcome, now)

    def _take_over(
        self, life: Life | None, commit: Commit, fields: Fields, outcome: Outcome, now: float
    ) -> None:
        with promised(_about(outcome)):
            assert isinstance(outcome, Written), f"a good commit: {outcome}"
            assert not outcome.repeated, "a first commit was taken for a repeat"
        made = self._later(now, outcome.updated) if commit.at is None else commit.at
        if life is None:
            incarnation = outcome.revision.incarnation
            with promised(self.how.get(commit.key, 6)):
                number = outcome.revision.number
                assert number == 1, f"a new life began with {number} commits of another one"
            with promised(6):
                assert incarnation, "an incarnation is never 0"
                known = commit.revision is None and incarnation in self.incarnations
                assert not known, "an incarnation came back"
            self.incarnations.add(incarnation)
            life = self.lives[commit.key] = Life(incarnation, made)
            if self._horizon(now) > made:  # it is said to have begun before others may have ended
                life.shadow = self._horizon(now)
        self.barred.discard(commit.key)
        life.number += 1
        with promised(6):
            assert outcome.revision == life.revision, f"{outcome.revision}, not {life.revision}"
        self.past.setdefault(commit.key, []).append(life.revision)
        with promised(6):
            says = f"it made {life.revision}, not {commit.revision}"
            assert commit.revision in (None, life.revision), says
        life.updated, life.epoch, life.fields = made, commit.epoch, fields
        self._see(commit.key, commit.epoch)
        life.latest = max(made, life.latest)
        life.newest = max(now, made, life.newest)
        life.came = now
        life.deadline = _until(life.created, made, commit.ttl, commit.max_age)
        if life.deadline is not None and commit.at is None:
            life.deadline = self._later(life.deadline, outcome.deadline)
        if self.exact:
            told = outcome.updated or 0.0
            with promised(4):
                assert life.updated <= told <= life.latest, f"made at {told}, not {life.latest}"
                assert outcome.deadline == life.deadline, (
                    f"it ends at {outcome.deadline}, not {life.deadline}"
                )
        if commit.subject is not None:
            life.subject = None if commit.subject == () else commit.subject
        if commit.op:
            life.applied[commit.op] = Applied(
                life.revision, commit.intent, erased=False, time=now, newest=life.newest
            )
            life.remembered = [*life.remembered, commit.op][-commit.ops :]
        self._check_returned(life, commit, outcome, now)

    def _later(self, asked: float, told: float | None) -> float:
        """The time that is told, if it is as asked but for what the call may have waited."""
        later = self.exact and told is not None and asked < told <= asked + self.took
        return told if later and told is not None else asked

    def _check_returned(self, life: Life, commit: Commit, outcome: Written, now: float) -> None:
        returned = outcome.returned
        if commit.returning is None:
            with promised(1):
                assert returned is None, "cells were returned that nobody asked for"
        elif returned is None and life.deadline is not None and life.deadline <= now:
            return  # a max age that had passed when it was first given: the state ended with it
        else:
            with promised(1):
                assert returned is not None, "the cells asked for were not returned"
            self._check_cells(life, commit.returning, returned)


def _each(subject: About | None) -> tuple[str | None, ...]:
    return subject if isinstance(subject, tuple) else (subject,)


def _next(life: Life | None, commit: Commit, now: float) -> Written:
    """What a commit comes to that nothing bars."""
    if commit.erase:
        return Written(ABSENT if life is None else life.revision)
    made = now if commit.at is None else commit.at
    born = made if life is None else life.created
    until = _until(born, made, commit.ttl, commit.max_age)
    revision = commit.revision or Revision(new_incarnation(), 1)
    if life is not None:
        revision = Revision(life.incarnation, life.number + 1)
    return Written(revision, None, False, made, until)


def _over_already(life: Life | None, commit: Commit, now: float) -> bool:
    """Whether what it would make has ended, since it was made so long ago."""
    if commit.at is None or commit.erase:
        return False
    born = commit.at if life is None else life.created
    until = _until(born, commit.at, commit.ttl, commit.max_age)
    return until is not None and until <= now


def _shown(items: Numbered, name: str, want: Want) -> Numbered:
    """What is wanted of a list."""
    after = want.after.get(name) if isinstance(want.after, dict) else want.after
    tail = want.tail.get(name) if isinstance(want.tail, dict) else want.tail
    begin, end = 0, len(items)
    if after is not None:
        begin = min(end, max(0, after - items.first + 1))
        if want.limit is not None:
            end = min(end, begin + want.limit)
    elif tail is not None:
        begin = max(0, end - tail)
    return items.cut(begin, end)


def _barred(life: Life | None, commit: Commit, seen: int, now: float) -> Outcome | None:
    """What a commit gets that may not even try."""
    if commit.epoch < seen:
        return FencedOff(seen)
    stands = ABSENT if life is None else life.revision
    holds = commit.expect in (None, stands) or (commit.expect == PRESENT and life is not None)
    makes = commit.revision
    if makes is not None:
        begins = life is None and makes.number == 1
        goes_on = life is not None and makes == Revision(life.incarnation, life.number + 1)
        holds = holds and (begins or goes_on)
    if not holds:
        return Conflicted(stands)
    fields = {} if life is None else life.fields
    for condition in commit.where:
        if not _holds(fields, condition):
            return Conflicted(stands, condition.field)
    return Late() if _over_already(life, commit, now) else None


def _holds(fields: Fields, condition: Is) -> bool:
    """Whether this is what stands there."""
    held: Any = fields.get(condition.field)
    found: Any
    if condition.entry is None:
        found = held[-1] if held and not is_a(held, dict) else None
    else:
        found = held.get(condition.entry) if is_a(held, dict) else None
    if found is None:
        return condition.absent or condition.value is None
    if is_a(found, int) or is_a(found, float):
        value: Any = condition.value
        if not (is_a(value, int) or is_a(value, float)):
            return False
        return bool(found >= value if condition.least else found == value)
    return condition.value is not None and not condition.least and agree(condition.value, found)


def _until(created: float, now: float, ttl: float | None, max_age: float | None) -> float | None:
    ends = [now + ttl] if ttl is not None else []
    if max_age is not None:
        ends.append(created + max_age)
    return min(ends) if ends else None
