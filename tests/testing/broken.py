"""Toy drivers that each break a promise, with the name of the case that must catch it.

`test_broken.py` runs the kit on them. To watch one fail: `pytest tests/testing/broken.py -k Name`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import pytest

from statehold.changes import Accumulate, Add, Append, Cell, Items, Refusal, fold
from statehold.commits import ABSENT, Commit, Key, Revision, is_so, part_of
from statehold.cursors import Listing
from statehold.driver import (
    Cells,
    Conflicted,
    Doubtful,
    FencedOff,
    Outcome,
    Page,
    Reused,
    Scan,
    WholeLife,
    Written,
)
from statehold.errors import Closed, Unavailable
from statehold.folding import NO_FENCE, Fence, all_stand, undone
from statehold.testing import Backend
from statehold.testing.conformance import DriverLevel
from tests.testing.toys import Done, Stored, ToyDriver

BROKEN: dict[str, tuple[type[ToyDriver], str]] = {}


def caught_by(case: str) -> Callable[[type[ToyDriver]], type[ToyDriver]]:
    """Register a broken toy, and make a test class of the group of cases that has this one."""
    group: Any = next(cls for cls in DriverLevel.__mro__ if case in vars(cls))

    def register(toy: type[ToyDriver]) -> type[ToyDriver]:
        BROKEN[toy.__name__] = (toy, case)

        class Conformance(group):
            test_driver_and_model_agree = None  # the machine catches most of them: see test_broken

            @pytest.fixture
            def backend(self) -> Backend:
                driver = toy()  # one for all, which each case opens once
                return Backend(lambda: driver, outage=driver.outage)

        globals()[f"Test{toy.__name__}"] = Conformance
        return toy

    return register


@caught_by("test_racing_writers_lose_nothing")
class LosesUpdates(ToyDriver):
    """Reads and writes without holding the lock in between."""

    def opened(self) -> Any:
        super().opened()
        return nullcontext()

    def folded(self, fields: Any, commit: Commit) -> dict[str, Cell]:
        time.sleep(0.0001)  # another thread has its turn here
        return super().folded(fields, commit)


@caught_by("test_one_winner_for_each_revision")
class LetsTwoWin(LosesUpdates):
    """Compares the revision, and writes later."""


@caught_by("test_if_one_is_barred_none_is_written")
class KeepsTheOthers(ToyDriver):
    """Of commits that stand or fall together it writes those that it can."""

    async def commit_together(self, commits: Any, now: float) -> list[Outcome]:
        outcomes = await self.commit(commits, now)
        return outcomes if all_stand(outcomes) else undone(outcomes)


@caught_by("test_together_where_one_has_forgotten")
class DoesTheRest(ToyDriver):
    """Of what was done before, it does again what a state has forgotten with its life."""

    async def commit_together(self, commits: Any, now: float) -> list[Outcome]:
        self.applied = {at: one for at, one in self.applied.items() if self.alive(at[0], now)}
        outcomes = await super().commit_together(commits, now)
        for place, outcome in enumerate(outcomes):
            if isinstance(outcome, Doubtful):
                outcomes[place] = self.step(commits[place], now)
        return outcomes


@caught_by("test_who_sees_one_sees_the_others")
class LetsReadersBetween(ToyDriver):
    """Shows one after the other, and not under one lock."""

    async def commit_together(self, commits: Any, now: float) -> list[Outcome]:
        before = self.states.copy()
        outcomes = await super().commit_together(commits, now)
        if all_stand(outcomes):
            after, self.states = self.states, before
            for commit in commits:
                if commit.key in after:
                    self.states[commit.key] = after[commit.key]
                self.pause()  # another thread has its turn here
            self.states = after
        return outcomes

    def pause(self) -> None:
        time.sleep(0.0005)


@caught_by("test_nothing_of_a_life_is_lost")
class ForgetsPositions(ToyDriver):
    """Installs a list as if its first item had been the first of all."""

    def put(self, life: WholeLife, now: float) -> Outcome:
        fields = {
            name: Items(cell) if isinstance(cell, Items) else cell
            for name, cell in life.cells.fields.items()
        }
        cells = msgspec.structs.replace(life.cells, fields=fields)
        return super().put(msgspec.structs.replace(life, cells=cells), now)


@caught_by("test_installed_op_ids_are_repeats")
class LeavesOpsBehind(ToyDriver):
    """Installs what a reader sees of a life, and not what it remembers."""

    def put(self, life: WholeLife, now: float) -> Outcome:
        return super().put(msgspec.structs.replace(life, ops=()), now)


@caught_by("test_what_was_forgotten_is_in_doubt")
class KnowsTooMuch(ToyDriver):
    """Takes what a life has forgotten for what was never applied to it."""

    def put(self, life: WholeLife, now: float) -> Outcome:
        return super().put(msgspec.structs.replace(life, forgotten=0.0), now)


@caught_by("test_digests_are_known")
class TakesDigestsForOpIds(ToyDriver):
    """Does not know an op id by its digest."""

    def known(self, commit: Commit) -> Done | None:
        return self.applied.get((commit.key, commit.op))


@caught_by("test_another_life_stays")
class ReplacesAnything(ToyDriver):
    """Installs over whatever stands."""

    def put(self, life: WholeLife, now: float) -> Outcome:
        self.states.pop(life.key, None)
        return super().put(life, now)


@caught_by("test_two_places_share_nothing")
class SharesWhatItInstalls(ToyDriver):
    """Keeps the very cells that it was given, and changes entries in place."""

    def put(self, life: WholeLife, now: float) -> Outcome:
        outcome = super().put(life, now)
        self.states[life.key].cells.fields = life.cells.fields
        return outcome

    def folded(self, fields: Any, commit: Commit) -> dict[str, Cell]:
        cells = super().folded(fields, commit)
        for name, cell in cells.items():
            if isinstance(fields.get(name), dict) and isinstance(cell, dict):
                fields[name].update(cell)
        return cells


@caught_by("test_install_and_commit_at_once")
class LooksAndThenInstalls(ToyDriver):
    """Looks what stands, and installs without having held the lock in between."""

    async def install(self, lives: Any, now: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for life in lives:
            with self.opened():
                stands = self.alive(life.key, now)
            self.pause()  # another thread has its turn here
            with self.opened():
                if stands is None:
                    self.states.pop(life.key, None)
                outcomes.append(self.put(life, now))
        return outcomes

    def pause(self) -> None:
        time.sleep(0.0005)


@caught_by("test_a_condition_that_does_not_hold_bars_all")
class IgnoresConditions(ToyDriver):
    """Takes no notice of `where`."""

    def step(self, commit: Commit, now: float) -> Outcome:
        return super().step(msgspec.structs.replace(commit, where=()), now)


@caught_by("test_a_condition_that_holds_bars_nothing")
class TakesConditionsForTheWhole(ToyDriver):
    """Takes what may be absent for what must be there."""

    def step(self, commit: Commit, now: float) -> Outcome:
        where = tuple(msgspec.structs.replace(one, absent=False) for one in commit.where)
        return super().step(msgspec.structs.replace(commit, where=where), now)


@caught_by("test_conditions_see_the_commits_before")
class LooksOnceABatch(ToyDriver):
    """Looks at the conditions of a batch before it applies any of it."""

    async def commit(self, commits: Any, now: float) -> list[Outcome]:
        told = [self.unmet(commit) for commit in commits]
        return [
            self.step(msgspec.structs.replace(commit, where=()), now) if one is None else one
            for commit, one in zip(commits, told, strict=True)
        ]

    def unmet(self, commit: Commit) -> Conflicted | None:
        state = self.states.get(commit.key)
        for one in commit.where:
            cell = state.cells.fields.get(one.field) if state else None
            if not is_so(one, part_of(cell, one.entry)):
                return Conflicted(state.cells.revision if state else ABSENT, one.field)
        return None


@caught_by("test_a_late_commit_never_resurrects")
class Resurrects(ToyDriver):
    """Forgets about expiry when it commits."""

    def step(self, commit: Commit, now: float) -> Outcome:
        state = self.states.get(commit.key)
        if state is not None:
            state.cells.deadline = None
        return super().step(commit, now)


@caught_by("test_a_store_that_is_down_is_not_empty")
class DownIsAbsent(ToyDriver):
    """Takes an error for "there is nothing"."""

    async def read(self, keys: Any, want: Any, now: float) -> list[Cells | None]:
        try:
            return await super().read(keys, want, now)
        except Unavailable:
            return [None for _ in keys]


@caught_by("test_a_revision_never_comes_back_after_delete")
class RepeatsRevisions(ToyDriver):
    """Begins each life with the same incarnation."""

    def step(self, commit: Commit, now: float) -> Outcome:
        outcome = super().step(commit, now)
        if isinstance(outcome, Written) and outcome.revision.incarnation:
            first = Revision(abs(hash(commit.key)) or 1, outcome.revision.number)
            outcome = msgspec.structs.replace(outcome, revision=first)
            if not commit.erase:
                self.states[commit.key].cells.revision = first
        return outcome


@caught_by("test_a_repeated_op_id_has_one_effect")
class ForgetsOps(ToyDriver):
    """Does not remember what it has applied."""

    def step(self, commit: Commit, now: float) -> Outcome:
        return super().step(msgspec.structs.replace(commit, op=""), now)


@caught_by("test_the_newest_op_ids_are_remembered")
class ForgetsOldOps(ToyDriver):
    """Remembers the last few op ids only."""

    def remember(self, commit: Commit, revision: Revision, at: float) -> None:
        super().remember(commit, revision, at)
        for old in [at for at in self.applied if at[0] == commit.key][:-4]:
            del self.applied[old]


@caught_by("test_what_was_forgotten_is_not_applied_again")
class TakesForgottenForNew(ToyDriver):
    """Remembers as many op ids as it must, and applies again what it has forgotten."""

    def remember(self, commit: Commit, revision: Revision, at: float) -> None:
        super().remember(commit, revision, at)
        for old in [at for at in self.applied if at[0] == commit.key][: -commit.ops]:
            del self.applied[old]


@caught_by("test_a_repetition_does_not_reach_the_next_life")
class ForgetsWithTheLife(ToyDriver):
    """Forgets op ids with the state that they were applied to, and takes them for new."""

    def step(self, commit: Commit, now: float) -> Outcome:
        if self.alive(commit.key, now) is None:
            self.applied = {at: one for at, one in self.applied.items() if at[0] != commit.key}
        return super().step(commit, now)


@caught_by("test_a_repeated_erasure_leaves_a_later_life_alone")
class ErasesAgain(ToyDriver):
    """Carries out an erasure as often as it comes."""

    def step(self, commit: Commit, now: float) -> Outcome:
        return super().step(msgspec.structs.replace(commit, op="") if commit.erase else commit, now)


@caught_by("test_an_op_id_stands_for_one_intent")
class IgnoresIntents(ToyDriver):
    """Takes whatever comes with a known op id for a repeat."""

    def step(self, commit: Commit, now: float) -> Outcome:
        return super().step(msgspec.structs.replace(commit, intent=0), now)


@caught_by("test_an_erasure_is_no_repeat_of_a_commit")
class ErasuresRepeatCommits(ToyDriver):
    """Answers an erasure with the commit that had its op id."""

    def step(self, commit: Commit, now: float) -> Outcome:
        outcome = super().step(commit, now)
        return Written(outcome.revision, None, True) if isinstance(outcome, Reused) else outcome


@caught_by("test_nothing_is_applied_after_its_time")
class AppliesLate(ToyDriver):
    """Applies a commit whenever it comes."""

    def step(self, commit: Commit, now: float) -> Outcome:
        return super().step(msgspec.structs.replace(commit, until=None), now)


@caught_by("test_a_refused_commit_leaves_nothing")
class HalfApplies(ToyDriver):
    """Keeps what came before the change that is refused."""

    def folded(self, fields: Any, commit: Commit) -> dict[str, Cell]:
        done: dict[str, Cell] = dict(fields)
        try:
            for change in commit.changes:
                done = fold(done, [change])
        except Refusal:
            state = self.states.get(commit.key)
            if state is not None:
                state.cells.fields = done
            raise
        return done


@caught_by("test_neighbours_in_a_batch_are_independent")
class StopsAtTheFirst(ToyDriver):
    """Gives up a batch at its first refusal."""

    async def commit(self, commits: Any, now: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for commit in commits:
            bad = outcomes and not isinstance(outcomes[-1], Written)
            outcomes.append(outcomes[-1] if bad else (await super().commit([commit], now))[0])
        return outcomes


@caught_by("test_a_scan_serves_its_own_kind")
class ServesOtherKinds(ToyDriver):
    """Scans by prefix."""

    def listed(self, key: Key, asked: Scan, now: float) -> bool:
        here = msgspec.structs.replace(asked, kind=key[1])
        return key[1].startswith(asked.kind) and super().listed(key, here, now)


@caught_by("test_deleting_one_name_leaves_the_others")
class DeletesByPrefix(ToyDriver):
    """Deletes what begins like the state to be deleted."""

    def step(self, commit: Commit, now: float) -> Outcome:
        outcome = super().step(commit, now)
        if commit.erase and isinstance(outcome, Written):
            begins = commit.key[2] + ":"
            for key in [key for key in self.states if key[:2] == commit.key[:2]]:
                if key[2].startswith(begins):
                    del self.states[key]
        return outcome


@caught_by("test_an_older_epoch_is_refused")
class IgnoresEpochs(ToyDriver):
    """Lets any epoch write."""

    def step(self, commit: Commit, now: float) -> Outcome:
        outcome = super().step(commit, now)
        while isinstance(outcome, FencedOff):
            commit = msgspec.structs.replace(commit, epoch=outcome.epoch)
            outcome = super().step(commit, now)
        return outcome


@caught_by("test_what_was_read_never_changes")
class ReturnsAliases(ToyDriver):
    """Changes the dicts that its readers have."""

    def folded(self, fields: Any, commit: Commit) -> dict[str, Cell]:
        new = fold(fields, commit.changes)
        for name, cell in new.items():
            old = fields.get(name)
            if isinstance(old, dict) and isinstance(cell, dict):
                kept = dict(cell)
                old.clear()
                old.update(kept)
                new[name] = old
        return new


@caught_by("test_keep_holds_exactly")
class KeepsOneTooMany(ToyDriver):
    """Counts from zero where it should from one."""

    def folded(self, fields: Any, commit: Commit) -> dict[str, Cell]:
        changes = [
            msgspec.structs.replace(change, keep=change.keep + 1)
            if isinstance(change, Append)
            else change
            for change in commit.changes
        ]
        return fold(fields, changes)


@caught_by("test_a_full_field_refuses_a_new_entry")
class IgnoresBounds(ToyDriver):
    """Lets a field grow."""

    def folded(self, fields: Any, commit: Commit) -> dict[str, Cell]:
        changes = [
            change
            if isinstance(change, Append) or not hasattr(change, "bound")
            else msgspec.structs.replace(change, bound=None)
            for change in commit.changes
        ]
        return fold(fields, changes)


@caught_by("test_order_is_commit_order")
class SortsItems(ToyDriver):
    """Keeps items in an order of its own."""

    def folded(self, fields: Any, commit: Commit) -> dict[str, Cell]:
        new = super().folded(fields, commit)
        return {n: Items(sorted(c), c.first) if isinstance(c, Items) else c for n, c in new.items()}


@caught_by("test_ints_are_exact")
class CountsInFloats(ToyDriver):
    """Keeps numbers as a JSON document of JavaScript would."""

    def folded(self, fields: Any, commit: Commit) -> dict[str, Cell]:
        changes = [
            msgspec.structs.replace(change, amount=float(change.amount))
            if isinstance(change, Add)
            else change
            for change in commit.changes
        ]
        return fold(fields, changes)


@caught_by("test_arrays_add_elementwise")
class PutsArrays(ToyDriver):
    """Takes the last array instead of the sum."""

    def folded(self, fields: Any, commit: Commit) -> dict[str, Cell]:
        new = super().folded(fields, commit)
        for change in commit.changes:
            if isinstance(change, Accumulate):
                new[change.field] = {**new[change.field], change.entry: change.array}  # type: ignore[dict-item]
        return new


@caught_by("test_a_state_lives_exactly_until_its_deadline")
class ExpiresLate(ToyDriver):
    """Serves a state at the instant of its deadline."""

    def alive(self, key: Key, now: float) -> Stored | None:
        state = self.states.get(key)
        late = state and state.cells.deadline is not None and now > state.cells.deadline
        return None if late else state


@caught_by("test_long_lives_are_not_cut")
class DropsDays(ToyDriver):
    """Takes `timedelta.seconds` for the whole of it."""

    def step(self, commit: Commit, now: float) -> Outcome:
        if commit.ttl is not None:
            commit = msgspec.structs.replace(commit, ttl=commit.ttl % 86400)
        return super().step(commit, now)


@caught_by("test_max_age_is_a_deadline_that_nothing_moves")
class ForgetsMaxAge(ToyDriver):
    """Renews for ever."""

    def step(self, commit: Commit, now: float) -> Outcome:
        return super().step(msgspec.structs.replace(commit, max_age=None), now)

    def look(self, key: Key, want: Any, now: float) -> Cells | None:
        if want.renew is not None:
            want = msgspec.structs.replace(want, renew=(want.renew[0], None))
        return super().look(key, want, now)


@caught_by("test_the_loser_writes_nothing")
class IgnoresExpect(ToyDriver):
    """The last writer wins, whatever it expected."""

    def step(self, commit: Commit, now: float) -> Outcome:
        return super().step(msgspec.structs.replace(commit, expect=None), now)


@caught_by("test_a_prefix_is_text_and_no_pattern")
class TakesPrefixesForPatterns(ToyDriver):
    """A `*` in a prefix stands for any text."""

    def listed(self, key: Key, asked: Scan, now: float) -> bool:
        whole = msgspec.structs.replace(asked, prefix="")
        return super().listed(key, whole, now) and fnmatchcase(key[2], f"{asked.prefix}*")


@caught_by("test_a_prefix_is_text_and_no_pattern")
class EndsAPrefixTooSoon(ToyDriver):
    """What begins with the prefix and then the last character there is comes after its range."""

    def listed(self, key: Key, asked: Scan, now: float) -> bool:
        beyond = asked.prefix + "\U0010ffff"
        return super().listed(key, asked, now) and (not asked.prefix or key[2] < beyond)


@caught_by("test_the_last_updated_comes_first")
class NewestByCreation(ToyDriver):
    """Lists by when a state was created."""

    async def scan(self, asked: Scan, now: float) -> Page:
        stored, self.states = (
            self.states,
            {
                key: Stored(msgspec.structs.replace(state.cells, updated=state.cells.created))
                for key, state in self.states.items()
            },
        )
        try:
            return await super().scan(asked, now)
        finally:
            self.states = stored


@caught_by("test_newest_first_while_states_are_written")
class NewestByPosition(ToyDriver):
    """Its cursor of a listing newest first counts, so that what is written moves what is to come."""

    async def scan(self, asked: Scan, now: float) -> Page:
        if not asked.newest or (asked.cursor or ">")[0] != ">":
            return await super().scan(asked, now)
        whole = await super().scan(msgspec.structs.replace(asked, cursor=None, limit=10**9), now)
        first = int((asked.cursor or ">0")[1:])
        end = first + asked.limit
        return Page(whole.keys[first:end], f">{end}" if end < len(whole.keys) else None)


@caught_by("test_updated_together_each_is_served_once")
class NewestByTimeAlone(ToyDriver):
    """Goes on after the time that a page ended at, whatever else was updated then."""

    async def scan(self, asked: Scan, now: float) -> Page:
        page = await super().scan(asked, now)
        if asked.newest and page.cursor is not None:
            listing = Listing(asked)
            updated, _ = listing.place_at(page.cursor)
            page = Page(page.keys, listing.cursor_at(updated, "\U0010ffff"))
        return page


@caught_by("test_a_scan_goes_on_while_states_come_and_go")
class PagesByPosition(ToyDriver):
    """Its cursor counts, so that what is deleted moves what is still to come."""

    async def scan(self, asked: Scan, now: float) -> Page:
        whole = await super().scan(msgspec.structs.replace(asked, cursor=None, limit=10**9), now)
        first, limit = int((asked.cursor or ">0")[1:]), asked.limit
        more = first + limit < len(whole.keys)
        return Page(whole.keys[first : first + limit], f">{first + limit}" if more else None)


@caught_by("test_closed_is_closed")
class AnswersAfterClose(ToyDriver):
    """Goes on as an empty store once it is closed."""

    async def read(self, keys: Any, want: Any, now: float) -> list[Cells | None]:
        try:
            return await super().read(keys, want, now)
        except Closed:
            return [None for _ in keys]


@caught_by("test_a_cancelled_call_is_whole_or_nothing")
class HalfWhenCancelled(ToyDriver):
    """Waits in the middle of a commit."""

    suspends = True

    async def commit(self, commits: Any, now: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for commit in commits:
            for change in commit.changes[:-1]:
                only = msgspec.structs.replace(commit, changes=(change,), op="", expect=None)
                await super().commit([only], now)
                await asyncio.sleep(0)
            last = msgspec.structs.replace(commit, changes=commit.changes[-1:])
            outcomes += await super().commit([last], now)
        return outcomes


@caught_by("test_no_reader_sees_half_a_commit")
class ShowsHalfACommit(HalfWhenCancelled):
    """Writes the changes of a commit one by one."""


@caught_by("test_a_forked_process_works_or_is_refused")
class BreaksInForks(ToyDriver):
    """Has something of its process, and notices in the midst of a call that it is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.process = os.getpid()

    async def commit(self, commits: Any, now: float) -> list[Outcome]:
        if os.getpid() != self.process:
            raise Unavailable("try again, though it will never work")
        return await super().commit(commits, now)


@caught_by("test_a_fence_outlives_an_erasure")
class ForgetsErasedFences(ToyDriver):
    """An erasure takes with it what was seen of epochs."""

    def step(self, commit: Commit, now: float) -> Outcome:
        outcome = super().step(commit, now)
        if commit.erase and isinstance(outcome, Written):
            self.fences.pop(commit.key, None)
        return outcome


@caught_by("test_a_fence_outlives_the_deadline")
class ForgetsExpiredFences(ToyDriver):
    """Expiry takes with it what was seen of epochs."""

    def fence(self, key: Key, now: float) -> Fence:
        return self.fences.get(key, NO_FENCE)


@caught_by("test_what_is_held_is_not_given_out")
class GivesOutTwice(ToyDriver):
    """Gives an epoch out although another holds it."""

    def step(self, commit: Commit, now: float) -> Outcome:
        outcome = super().step(commit, now)
        if commit.claim is not None and isinstance(outcome, FencedOff) and outcome.left:
            return super().step(msgspec.structs.replace(commit, epoch=outcome.epoch + 1), now)
        return outcome


@caught_by("test_a_claim_makes_no_state")
class ClaimsMakeStates(ToyDriver):
    """Takes a claim of what is absent for a commit."""

    def step(self, commit: Commit, now: float) -> Outcome:
        outcome = super().step(commit, now)
        if commit.claim is not None and isinstance(outcome, Written) and commit.expect is None:
            super().step(
                msgspec.structs.replace(commit, claim=None, op="", epoch=outcome.epoch), now
            )
        return outcome


class Slow(ToyDriver):
    """A toy that suspends, and counts the calls that are under way."""

    suspends = True

    def __init__(self) -> None:
        super().__init__()
        self.under_way = 0
        self.draining = False

    async def commit(self, commits: Any, now: float) -> list[Outcome]:
        if self.draining:
            raise Closed("the toy is coming to its end")
        self.under_way += 1
        await asyncio.sleep(0.02)
        self.under_way -= 1
        return await super().commit(commits, now)

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  the driver's own
        self.draining = True
        until = time.monotonic() + timeout
        while self.under_way and time.monotonic() < until:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.001)
        return not self.under_way


@caught_by("test_drain_finishes_what_was_accepted")
class DropsAtTheEnd(Slow):
    """Refuses what it had accepted."""

    async def commit(self, commits: Any, now: float) -> list[Outcome]:
        outcomes = await super().commit(commits, now)
        if self.draining:
            raise Closed("the toy is coming to its end")
        return outcomes


@caught_by("test_drain_finishes_what_was_accepted")
class IsDoneTooEarly(Slow):
    """Says to be done while calls are under way."""

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  the driver's own
        self.draining = True
        return True


@caught_by("test_drain_keeps_to_its_time")
class DrainsForLonger(Slow):
    """Waits for as long as it likes."""

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  the driver's own
        await asyncio.sleep(2.5 if timeout < 1 else 0)
        return await super().drain(timeout)


@caught_by("test_drain_then_close")
class IsDownAfterIt(Slow):
    """Takes nothing new, and calls that an outage."""

    async def commit(self, commits: Any, now: float) -> list[Outcome]:
        if self.draining:
            raise Unavailable("the toy is coming to its end")
        return await super().commit(commits, now)
