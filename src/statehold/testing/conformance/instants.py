"""Cases of exact instants: what is in time at the last one, how long things are known, clocks set back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from statehold.changes import Add, Drop
from statehold.commits import HOLD_SECONDS, Commit, Want
from statehold.driver import Doubtful, Feature, Outcome, Refused, Written
from statehold.testing.conformance.base import Cases, need, need_given_clock
from statehold.testing.conformance.commits import ONE_OF_EACH
from statehold.testing.promises import promise
from statehold.testing.rig import Rig


class Instants(Cases):
    """At which instant a thing is still so, and from which on it is not."""

    # ------------------------------------------------------------------- 2: exactly once

    @promise(2)
    def test_every_erasure_is_remembered_for_its_time(self, rig: Rig) -> None:
        """Of several erasures of a state each is remembered for a minute, whatever else is written."""
        need(rig, Feature.ERASE_ONCE)
        need_given_clock(rig)
        erased: dict[str, Outcome] = {}
        for n in range(3):
            rig.write(Add("sum", "k", 1))
            erased[f"op {n}"] = rig.erase(op=f"op {n}")
            _pass(rig, HOLD_SECONDS * 0.3)
        rig.write(Add("sum", "k", 100))
        for op, first in erased.items():
            again = rig.erase(op=op)
            assert isinstance(first, Written)
            assert isinstance(again, Written), f"the erasure {op} was forgotten: {again}"
            assert again == Written(first.revision, None, repeated=True)
        assert rig.fields() == {"sum": {"k": 100}}

    @promise(2)
    def test_an_erasure_that_is_too_old_is_not_repeated(self, rig: Rig) -> None:
        """An erasure, even of nothing, that comes again when it may be forgotten reaches no later life."""
        need_given_clock(rig)
        sent = rig.now
        rig.erase(op="op")
        _pass(rig, HOLD_SECONDS * 2)
        rig.write(Add("sum", "k", 10), ttl=None)
        _not_again(rig.erase(op="op", since=sent))
        assert rig.fields() == {"sum": {"k": 10}}

    @promise(2)
    def test_what_was_forgotten_at_once_is_not_applied_again(self, rig: Rig) -> None:
        """A commit of this very instant that newer ones took the place of is not applied again."""
        need_given_clock(rig)
        commits = [rig.commit(Add("sum", "k", 1), op=f"op {n}", ops=2) for n in range(5)]
        rig.send(*commits)
        _not_again(_again(rig, commits[0], rig.now))
        assert rig.fields() == {"sum": {"k": 5}}

    @promise(2)
    def test_what_was_erased_at_once_is_not_applied_again(self, rig: Rig) -> None:
        """A commit of this very instant whose state has been erased brings nothing back."""
        need_given_clock(rig)
        commit = rig.commit(Add("sum", "k", 1), op="op")
        rig.send(commit)
        rig.erase()
        _not_again(_again(rig, commit, rig.now))
        assert rig.read() is None

    @promise(2)
    def test_what_was_swept_in_whatever_order_is_not_applied_again(self, rig: Rig) -> None:
        """The newest commit of all states that are swept counts, whichever of them goes last."""
        need_given_clock(rig)
        rig.write(Add("sum", "k", 1), id="goes last", ttl=4)
        rig.wait(1)
        commit, sent = rig.commit(Add("sum", "k", 1), op="op", ttl=1), rig.now
        rig.send(commit)
        for _ in range(3):
            _pass(rig, 2 * rig.unit)
        _not_again(_again(rig, commit, sent))
        assert rig.read() is None

    @promise(2)
    @pytest.mark.parametrize("op", ["", "another"])
    @pytest.mark.parametrize("anew", ["erased", "begun anew"])
    def test_a_clock_that_steps_back_hides_no_commit(self, rig: Rig, anew: str, op: str) -> None:
        """A commit by the later clock is not applied again to what the earlier one has made since."""
        need_given_clock(rig)
        if not rig.backend.set_back:
            pytest.skip("the backend does not say `set_back`")
        commit = rig.commit(Add("sum", "k", 1), op="op", ttl=None)
        rig.send(commit)
        sent = rig.now
        if anew == "begun anew":
            rig.erase()
        rig.wait(-1)
        rig.write(Add("sum", "k", 10), ttl=None, op=op)
        if anew == "erased":
            rig.erase()
        _not_again(_again(rig, commit, sent))
        assert (rig.read() is None) == (anew == "erased")

    # --------------------------------------------------------------------------- 4: time

    @promise(4)
    def test_the_last_instant_is_in_time(self, rig: Rig) -> None:
        """A commit that comes at the instant until which it may is applied."""
        need_given_clock(rig)
        outcome = rig.try_(Add("sum", "k", 1), op="op", until=rig.now)
        assert isinstance(outcome, Written), f"in time, at the last instant: {outcome}"

    @promise(4)
    @pytest.mark.parametrize("age", [None, 9.0])
    def test_deadlines_are_kept_to_the_fraction(self, rig: Rig, age: float | None) -> None:
        """A deadline between two seconds is one: just before it the state lives, and then no more."""
        need_given_clock(rig)
        second = 1 / rig.unit
        rig.wait(0.25 * second)
        rig.write(Add("sum", "k", 1), ttl=1.5 * second, max_age=age)
        deadline = rig.now + 1.5
        assert rig.stands().deadline == deadline
        rig.wait(1.25 * second)
        assert rig.stands().deadline == deadline
        rig.wait(0.25 * second)
        assert rig.read() is None

    @promise(4)
    def test_max_age_holds_without_a_ttl(self, rig: Rig) -> None:
        """A state that has a maximum age, and no ttl, ends with that, counted from its beginning."""
        rig.write(Add("sum", "k", 1), ttl=None, max_age=4)
        rig.wait(2)
        rig.write(Add("sum", "k", 1), ttl=None, max_age=4)
        rig.wait(2.2)
        assert rig.read() is None

    @promise(4)
    def test_a_renewal_moves_the_deadline_as_a_write_would(self, rig: Rig) -> None:
        """Reads renew by seconds as by hours, shorten, begin an end where there was none, and take it."""
        need_given_clock(rig)
        unit = rig.unit
        rig.write(Add("sum", "k", 1), ttl=10)
        rig.wait(5 / unit)
        steps: list[tuple[float | None, float | None]] = [
            (10 * unit, rig.now + 10 * unit),
            (5 * unit, rig.now + 5 * unit),
            (None, None),
            (3 * unit, rig.now + 3 * unit),
        ]
        for ttl, until in steps:
            assert rig.read(want=Want(renew=(ttl, None))) is not None
            found = rig.stands().deadline
            assert found == until, f"renewed for {ttl} s: {found}, not {until}"

    # --------------------------------------------------------------------- 11: corruption

    @promise(11)
    def test_a_broken_field_stays_reported(self, rig: Rig) -> None:
        """Writes to other fields, and other states of the same call, neither mind a broken one nor hide it."""
        if rig.backend.corrupt is None:
            pytest.skip("the backend has no hook `corrupt`")
        rig.write(*ONE_OF_EACH)
        try:
            rig.backend.corrupt(rig.key(), "array")
        except LookupError as error:
            pytest.skip(str(error))
        rig.write(Add("sum", "after", 1))
        assert "array" in rig.stands().corrupted, "a write to another field hid a broken one"
        broken = next(change for change in ONE_OF_EACH if change.field == "array")
        first, refused, last = rig.send(
            rig.commit(Add("sum", "k", 1), id="b"),
            rig.commit(broken),
            rig.commit(Add("sum", "k", 1), id="b"),
        )
        assert isinstance(refused, Refused), f"built on what cannot be read: {refused}"
        assert isinstance(first, Written)
        assert isinstance(last, Written)
        assert rig.fields("b") == {"sum": {"k": 2}}
        rig.write(Drop("array"))
        assert not rig.stands().corrupted


def _pass(rig: Rig, seconds: float) -> None:
    """Let time pass in which others are written, which sweeps."""
    rig.wait(seconds / rig.unit)
    for n in range(20):
        rig.write(Add("sum", "k", 1), id=f"busy {n % 3}")


def _again(rig: Rig, commit: Commit, since: float) -> Outcome:
    """What becomes of a commit that is sent again."""
    return rig.send(replace(commit, since=since))[0]


def _not_again(outcome: Outcome) -> None:
    """It is known, or known not to be known."""
    known = isinstance(outcome, Written) and outcome.repeated
    assert known or isinstance(outcome, Doubtful), f"applied again: {outcome}"
