"""An oracle: what a store promises, in plain dicts and lists.

It shares no code with the fold that drivers use; it is slow, obvious and keeps everything. `judge`
is shown each commit with the outcome that a driver gave, says whether that is right, and goes on
from there. Arrays are tuples of floats here.
"""

from __future__ import annotations

import copy
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from msgspec.structs import replace

from statehold.changes import (
    ABSENT,
    HOLD_SECONDS,
    PRESENT,
    Accumulate,
    Add,
    Append,
    Change,
    Commit,
    Drop,
    Is,
    Key,
    Put,
    Revision,
    Want,
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
    Written,
)

Fields: TypeAlias = dict[str, Any]


@dataclass
class Applied:
    """What became of an op id: the revision that it made or erased, what it stood for, when."""

    revision: Revision
    intent: int
    erased: bool
    time: float


@dataclass
class Life:
    """One life of a state, from the commit that made it to its end."""

    incarnation: int
    created: float
    number: int = 0
    updated: float = 0.0
    newest: float = 0.0
    """The latest time of any commit, which is another if the clock was set back."""
    deadline: float | None = None
    epoch: int = 0
    subject: str | None = None
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


class No(Exception):
    """A change that cannot be applied."""


class Model:
    """All states of a store.

    `exact` says whether its times can be compared to the last bit, `erase_once` whether it must
    remember erasures.
    """

    def __init__(self, *, exact: bool = True, erase_once: bool = True) -> None:
        self.exact = exact
        self.erase_once = erase_once
        self.lives: dict[Key, Life] = {}
        self.past: dict[Key, list[Revision]] = {}
        self.erased: dict[tuple[Key, str], Applied] = {}
        self.over: dict[tuple[Key, str], Applied] = {}
        """Op ids of lives that have ended, which may be remembered and need not be."""
        self.incarnations: set[int] = set()
        self.newest_end = -math.inf

    # -------------------------------------------------------------------------------- reading

    def life(self, key: Key, now: float) -> Life | None:
        """The state's present life; None when absent or expired."""
        life = self.lives.get(key)
        if life is not None and life.deadline is not None and now >= life.deadline:
            self._end(key)
            return None
        return life

    def _end(self, key: Key) -> None:
        life = self.lives.pop(key, None)
        if life is not None:
            self.newest_end = max(self.newest_end, life.newest)
            self.over |= {(key, op): applied for op, applied in life.applied.items()}

    def keys(self, tenant: str, kind: str, now: float, subject: str | None = None) -> list[str]:
        """The ids that a scan must find, sorted."""
        return sorted(
            key[2]
            for key in list(self.lives)
            if key[:2] == (tenant, kind)
            and (life := self.life(key, now)) is not None
            and (subject is None or life.subject == subject)
        )

    def check_read(self, key: Key, want: Want, cells: Cells | None, now: float) -> None:
        """Raise AssertionError unless `cells` is what a read must answer; renews, if wanted."""
        life = self.life(key, now)
        if life is None:
            assert cells is None, f"an absent state was served: {cells}"
            return
        assert cells is not None, f"a state that lives was not found: {key}"
        if want.renew is not None:
            life.deadline = _until(life.created, now, *want.renew)
        self._check_cells(life, want, cells)

    def _check_cells(self, life: Life, want: Want, cells: Cells) -> None:
        assert cells.revision == life.revision, f"revision {cells.revision}, not {life.revision}"
        assert cells.subject == life.subject, f"subject {cells.subject!r}, not {life.subject!r}"
        assert cells.epoch == life.epoch, f"epoch {cells.epoch}, not {life.epoch}"
        if self.exact:
            updated = life.newest if cells.updated == life.newest else life.updated
            found = (cells.created, cells.updated, cells.deadline)
            wanted = (life.created, updated, life.deadline)
            assert found == wanted, f"created, updated, deadline are {found}, not {wanted}"
        expected: Fields = {}
        for name, value in life.fields.items():
            if want.fields is not None and name not in want.fields:
                continue
            shown: Any = value
            if is_a(value, list):
                tail = want.tail.get(name) if isinstance(want.tail, dict) else want.tail
                shown = value if tail is None else value[max(0, len(value) - tail) :]
            if shown:
                expected[name] = shown
        actual = {name: cell for name, cell in cells.fields.items() if cell}
        assert set(actual) == set(expected), f"fields {sorted(actual)}, not {sorted(expected)}"
        for name, value in expected.items():
            assert _same(value, actual[name]), f"{name} is {actual[name]!r}, not {value!r}"

    # ------------------------------------------------------------------------------ committing

    def judge(self, commit: Commit, outcome: Outcome, now: float) -> None:
        """Raise AssertionError unless `outcome` is right for `commit`; then take it over."""
        life = self.life(commit.key, now)
        must, may = self._remembered(life, commit, now)
        if must is None and (
            isinstance(outcome, Reused) or (isinstance(outcome, Written) and outcome.repeated)
        ):  # more is remembered than need be, and that is well
            must = next((one for one in may if one.revision == outcome.revision), None)
        if must is not None:
            self._judge_repeat(life, commit, must, outcome, now)
            return
        if commit.since is not None:
            known = self._all_known(life, commit, now)
            if isinstance(outcome, Doubtful):
                assert not known, "a commit that nobody can have forgotten was called doubtful"
                return
            before = [one for one in may if one.time >= commit.since]
            assert not before, f"a commit that was applied before, and forgotten: {outcome}"
        if commit.until is not None and now > commit.until:
            assert isinstance(outcome, Late), f"after its time: {outcome}"
            return
        barred = _barred(life, commit)
        if barred is not None:
            assert outcome == barred, f"{outcome} where it should be {barred}"
        elif commit.erase:
            stood = ABSENT if life is None else life.revision
            assert outcome == Written(stood), f"an erase of {stood}: {outcome}"
            self._end(commit.key)
            if commit.op:
                applied = Applied(stood, commit.intent, erased=True, time=now)
                self.erased[commit.key, commit.op] = applied
        else:
            fields = {} if life is None else copy.deepcopy(life.fields)
            no = apply_all(fields, commit.changes)
            if no is None:
                self._take_over(life, commit, fields, outcome, now)
            else:
                assert isinstance(outcome, Refused), f"to be refused ({no}): {outcome}"
                found = (outcome.field, outcome.reason)
                assert found == no, f"refused for {found}, not {no}"

    def judge_together(
        self, commits: Sequence[Commit], outcomes: Sequence[Outcome], now: float
    ) -> None:
        """The same for commits that stand or fall together."""
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
                would.judge(replace(commit, returning=None), _next(life, commit), now)
            elif before and isinstance(outcome, Doubtful):
                known, _ = would._remembered(life, commit, now)  # noqa: SLF001  its own class
                assert known is None, "an op id that must be remembered was called doubtful"
            else:
                again = isinstance(outcome, Reused) or (
                    isinstance(outcome, Written) and outcome.repeated
                )
                assert again or not (before or isinstance(outcome, Written)), f"not all: {outcomes}"
                would.judge(commit, outcome, now)

    def _remembered(
        self, life: Life | None, commit: Commit, now: float
    ) -> tuple[Applied | None, list[Applied]]:
        """What the op id did before: what must be known of it, and all that may be."""
        at = (commit.key, commit.op)
        if not commit.op:
            return None, []
        erased, own = self.erased.get(at), None if life is None else life.applied.get(commit.op)
        may = [one for one in (erased, own, self.over.get(at)) if one is not None]
        if erased is not None and self.erase_once and now < erased.time + HOLD_SECONDS:
            return erased, may
        if life is not None and commit.op in life.remembered:
            return own, may
        return None, may

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
            applied.time < since or op in life.remembered for op, applied in life.applied.items()
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
        assert isinstance(outcome, Written), f"a good commit: {outcome}"
        assert not outcome.repeated, "a first commit was taken for a repeat"
        if life is None:
            incarnation = outcome.revision.incarnation
            assert incarnation, "an incarnation is never 0"
            assert incarnation not in self.incarnations, "an incarnation came back"
            self.incarnations.add(incarnation)
            life = self.lives[commit.key] = Life(incarnation, now)
            if self.newest_end > now:
                life.shadow = self.newest_end
        life.number += 1
        assert outcome.revision == life.revision, f"{outcome.revision}, not {life.revision}"
        self.past.setdefault(commit.key, []).append(life.revision)
        life.updated, life.epoch, life.fields = now, commit.epoch, fields
        life.newest = max(now, life.newest)
        life.deadline = _until(life.created, now, commit.ttl, commit.max_age)
        if commit.subject is not None:
            life.subject = commit.subject
        if commit.op:
            life.applied[commit.op] = Applied(life.revision, commit.intent, erased=False, time=now)
            life.remembered = [*life.remembered, commit.op][-commit.ops :]
        self._check_returned(life, commit, outcome, now)

    def _check_returned(self, life: Life, commit: Commit, outcome: Written, now: float) -> None:
        if commit.returning is None:
            assert outcome.returned is None, "cells were returned that nobody asked for"
        elif outcome.returned is None and life.deadline is not None and life.deadline <= now:
            return  # a max age that had passed when it was first given: the state ended with it
        else:
            assert outcome.returned is not None, "the cells asked for were not returned"
            self._check_cells(life, commit.returning, outcome.returned)


def _next(life: Life | None, commit: Commit) -> Written:
    """What a commit comes to that nothing bars."""
    if commit.erase:
        return Written(ABSENT if life is None else life.revision)
    if life is None:
        return Written(Revision(new_incarnation(), 1))
    return Written(Revision(life.incarnation, life.number + 1))


def _barred(life: Life | None, commit: Commit) -> Outcome | None:
    """What a commit gets that may not even try."""
    if life is not None and commit.epoch < life.epoch:
        return FencedOff(life.epoch)
    stands = ABSENT if life is None else life.revision
    present = commit.expect == PRESENT and life is not None
    if commit.expect is not None and not present and commit.expect != stands:
        return Conflicted(stands)
    fields = {} if life is None else life.fields
    return next(
        (Conflicted(stands, one.field) for one in commit.where if not _holds(fields, one)), None
    )


def _holds(fields: Fields, condition: Is) -> bool:
    """Whether this is what stands there."""
    held: Any = fields.get(condition.field)
    if condition.entry is None:
        found = held[-1] if is_a(held, list) and held else None
    else:
        found = held.get(condition.entry) if is_a(held, dict) else None
    if found is None:
        return condition.absent or condition.value is None
    if is_a(found, int) or is_a(found, float):
        value: Any = condition.value
        if not (is_a(value, int) or is_a(value, float)):
            return False
        return bool(found >= value if condition.least else found == value)
    return condition.value is not None and not condition.least and _same(condition.value, found)


def apply_all(fields: Fields, changes: tuple[Change, ...]) -> tuple[str, str] | None:
    """Apply them in order; the field and the reason if one cannot be."""
    try:
        for change in changes:
            apply(fields, change)
    except No as no:
        field, reason = no.args
        return field, reason
    return None


def apply(fields: Fields, change: Change) -> None:
    """One change, done to plain dicts and lists. Raises `No(field, reason)`."""
    name = change.field
    if isinstance(change, Append):
        if change.items:
            fields[name] = [*fields.get(name, []), *change.items][-change.keep :]
    elif isinstance(change, Drop):
        left: dict[str, Any] = fields.pop(name, {})
        if change.entry is not None and len(left) > (change.entry in left):
            fields[name] = {k: v for k, v in left.items() if k != change.entry}
    else:
        _set(fields.setdefault(name, {}), change)


def _set(entries: dict[str, Any], change: Put | Add | Accumulate) -> None:
    old = entries.get(change.entry)
    if isinstance(change, Put):
        new: Any = old if change.if_absent and old is not None else change.value
    elif isinstance(change, Add):
        new = _add(change.field, old, change.amount)
    else:
        new = _accumulate(change.field, old, change)
    entries[change.entry] = new
    while change.bound is not None and old is None and len(entries) > change.bound:
        if not change.drop_lowest or change.bound < 1:
            raise No(change.field, "bound")
        lowest = min(entries)
        del entries[lowest]
        if lowest == change.entry:
            break  # the first to go was the new one


def _add(name: str, old: Any, amount: float) -> Any:
    if isinstance(old, bytes | tuple):
        raise No(name, "type")
    if not math.isfinite(amount):
        raise No(name, "range")
    new = amount if old is None else old + amount
    fits = -(2**63) <= new < 2**63 if isinstance(new, int) else math.isfinite(new)
    if not fits:
        raise No(name, "range")
    return new


def _accumulate(name: str, old: Any, change: Accumulate) -> Any:
    amounts = floats(change.array)
    if old is None:
        old = (0.0,) * len(amounts)
    if not is_a(old, tuple):
        raise No(name, "type")
    if len(old) != len(amounts):
        raise No(name, "shape")
    new = tuple(a + b for a, b in zip(old, amounts, strict=True))
    if not all(map(math.isfinite, new)):
        raise No(name, "range")
    return new


def floats(array: bytes) -> tuple[float, ...]:
    """The numbers of a little-endian float64 array."""
    return struct.unpack(f"<{len(array) // 8}d", array)


def array(*numbers: float) -> bytes:
    """Numbers as a little-endian float64 array."""
    return struct.pack(f"<{len(numbers)}d", *numbers)


def _until(created: float, now: float, ttl: float | None, max_age: float | None) -> float | None:
    ends = [now + ttl] if ttl is not None else []
    if max_age is not None:
        ends.append(created + max_age)
    return min(ends) if ends else None


def is_a(value: Any, kind: type) -> bool:
    """Whether it is exactly of that type (said so that checkers do not narrow what is Any)."""
    return type(value) is kind


def _same(expected: Any, actual: Any) -> bool:
    if is_a(expected, dict):
        return (
            is_a(actual, dict)
            and set(actual) == set(expected)
            and all(_same(value, actual[name]) for name, value in expected.items())
        )
    if is_a(expected, list):
        return not is_a(actual, dict) and bool(expected == list(actual))
    if is_a(expected, tuple):
        found = floats(actual) if is_a(actual, bytes) else ()
        return len(found) == len(expected) and all(map(close, expected, found))
    if is_a(expected, float):
        return is_a(actual, float) and close(expected, actual)
    return is_a(expected, actual.__class__) and bool(expected == actual)


def close(a: float, b: float) -> bool:
    """Whether two floats are the same but for the last bits (some stores compute in decimals)."""
    return math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)
