"""Promise 2 where something was sent before: repetitions that come late, erasures, other intents."""

from __future__ import annotations

import pytest

from statehold.changes import Add, Append
from statehold.commits import ABSENT, HOLD_SECONDS, Revision
from statehold.driver import Doubtful, Feature, Late, Outcome, Reused, Written
from statehold.testing.conformance.base import Cases, need, need_given_clock
from statehold.testing.promises import promise
from statehold.testing.rig import Rig

COUNT = Add("sum", "k", 1)

MANY_ERASURES = 300


class ExactlyOnce(Cases):
    """What is sent again is applied at most once, and never to another life."""

    # ------------------------------------------------------------------- another intent

    @promise(2)
    def test_an_op_id_stands_for_one_intent(self, rig: Rig) -> None:
        """An op id that is used for something else is refused, and names the revision it made."""
        first = rig.write(COUNT, op="op 1", intent=7)
        assert rig.try_(Add("sum", "k", 5), op="op 1", intent=8) == Reused(first.revision)
        assert rig.fields() == {"sum": {"k": 1}}
        assert rig.write(COUNT, op="op 1", intent=7).repeated

    @promise(2)
    def test_an_intent_that_is_not_said_fits_any(self, rig: Rig) -> None:
        """Who says no intent is answered by the op id alone, whichever of the two it is."""
        rig.write(COUNT, op="op 1", intent=7)
        rig.write(COUNT, op="op 2")
        assert rig.write(COUNT, op="op 1").repeated
        assert rig.write(COUNT, op="op 2", intent=2**32 - 1).repeated
        assert rig.fields() == {"sum": {"k": 2}}

    @promise(2)
    def test_an_erasure_is_no_repeat_of_a_commit(self, rig: Rig) -> None:
        """A commit's op id erases nothing: nobody may believe that he has erased."""
        first = rig.write(COUNT, op="op 1")
        assert rig.erase(op="op 1") == Reused(first.revision)
        assert rig.fields() == {"sum": {"k": 1}}

    @promise(2)
    def test_a_commit_is_no_repeat_of_an_erasure(self, rig: Rig) -> None:
        """An erasure's op id writes nothing: nobody may believe that he has written."""
        need(rig, Feature.ERASE_ONCE)
        stood = rig.write(COUNT).revision
        assert rig.erase(op="op 1") == Written(stood)
        assert rig.try_(COUNT, op="op 1") == Reused(stood)
        assert rig.read() is None

    # ------------------------------------------------------------------------- erasures

    @promise(2)
    def test_a_repeated_erasure_answers_as_the_first(self, rig: Rig) -> None:
        """An erasure whose answer was lost is told again what it erased, and that it is a repeat."""
        need(rig, Feature.ERASE_ONCE)
        stood = rig.write(COUNT).revision
        assert rig.erase(op="op 1") == Written(stood)
        assert rig.erase(op="op 1") == Written(stood, None, True)
        assert rig.erase(op="op 2") == Written(ABSENT)

    @promise(2)
    def test_a_repeated_erasure_leaves_a_later_life_alone(self, rig: Rig) -> None:
        """An erasure that is sent again erases nothing that was made since."""
        need(rig, Feature.ERASE_ONCE)
        stood = rig.write(COUNT).revision
        rig.erase(op="op 1")
        again = rig.write(Add("sum", "k", 10))
        assert rig.erase(op="op 1") == Written(stood, None, True)
        assert rig.stands().revision == again.revision
        assert rig.fields() == {"sum": {"k": 10}}

    @promise(2)
    def test_an_erasure_of_nothing_is_remembered_too(self, rig: Rig) -> None:
        """An erasure that found nothing erases nothing later either."""
        need(rig, Feature.ERASE_ONCE)
        assert rig.erase(op="op 1") == Written(ABSENT)
        rig.write(COUNT)
        assert rig.erase(op="op 1") == Written(ABSENT, None, True)
        assert rig.fields() == {"sum": {"k": 1}}

    @promise(2)
    def test_erasures_are_remembered_beside_many_commits(self, rig: Rig) -> None:
        """An erasure is remembered however many commits a later life has seen."""
        need(rig, Feature.ERASE_ONCE)
        stood = rig.write(COUNT).revision
        rig.erase(op="gone")
        for n in range(40):
            rig.write(COUNT, op=f"op {n}", ops=16)
        assert rig.erase(op="gone", ops=16) == Written(stood, None, True)
        assert rig.fields() == {"sum": {"k": 40}}

    @promise(2)
    def test_each_of_many_erasures_is_remembered(self, rig: Rig) -> None:
        """However many erasures of a state come within a minute, none of them erases a later life."""
        need(rig, Feature.ERASE_ONCE)
        erased: list[Outcome] = []
        for n in range(MANY_ERASURES):
            made = rig.commit(COUNT, op=f"op {n}")
            erased.append(rig.send(made, rig.commit(erase=True, op=f"erase {n}"))[1])
        rig.write(Add("sum", "k", 100))
        again = rig.send(*(rig.commit(erase=True, op=f"erase {n}") for n in range(MANY_ERASURES)))
        for n, (first, second) in enumerate(zip(erased, again, strict=True)):
            assert isinstance(first, Written)
            assert first.revision.number == 1
            expected = Written(first.revision, None, repeated=True)
            assert second == expected, f"of {MANY_ERASURES} erasures number {n} was forgotten"
        assert rig.fields() == {"sum": {"k": 100}}
        assert isinstance(rig.try_(COUNT, op="erase 0"), Reused)

    @promise(2)
    def test_another_process_remembers_an_erasure(self, rig: Rig) -> None:
        """An erasure is known to every process that shares the store, and after a restart."""
        need(rig, Feature.ERASE_ONCE, Feature.SHARED)
        stood = rig.write(COUNT).revision
        rig.erase(op="op 1")
        rig.write(COUNT)
        assert rig.another().erase(op="op 1") == Written(stood, None, True)
        assert rig.fields() == {"sum": {"k": 1}}

    # ------------------------------------------------------ forgotten is not never seen

    @promise(2)
    def test_a_late_repetition_that_was_never_seen_is_applied(self, rig: Rig) -> None:
        """A commit that is sent again and never arrived before is applied, as nothing is forgotten."""
        rig.write(COUNT, op="op 0")
        rig.wait(0.5)
        sent = rig.now
        rig.wait(0.5)
        rig.write(COUNT, op="op 1", ops=16)
        outcome = rig.try_(Add("sum", "k", 10), op="late", since=sent, ops=16)
        assert isinstance(outcome, Written)
        assert not outcome.repeated
        assert rig.fields() == {"sum": {"k": 12}}
        assert rig.write(Add("sum", "k", 10), op="late", since=sent, ops=16).repeated

    @promise(2)
    def test_what_was_forgotten_is_not_applied_again(self, rig: Rig) -> None:
        """A commit that is sent again after its op id was forgotten is in doubt, never applied twice.

        However many others have come: a driver may remember it, and then it is a repeat.
        """
        rig.write(COUNT, op="first", ops=16)
        rig.wait(0.5)
        sent = rig.now
        rig.wait(0.5)
        rig.write(Add("sum", "k", 1000), op="late", ops=16)
        for n in range(60):
            rig.write(COUNT, op=f"op {n}", ops=16)
        outcome = rig.try_(Add("sum", "k", 1000), op="late", since=sent, ops=16)
        assert isinstance(outcome, Doubtful) or (
            isinstance(outcome, Written) and outcome.repeated
        ), f"a commit that was applied already: {outcome}"
        assert rig.fields() == {"sum": {"k": 1061}}

    @promise(2)
    def test_what_was_forgotten_in_one_batch_is_not_applied_again(self, rig: Rig) -> None:
        """Repetitions that come together do not push each other out of the memory."""
        rig.write(COUNT, op="first", ops=16)
        rig.wait(0.5)
        sent = rig.now
        rig.wait(0.5)
        batch = [rig.commit(COUNT, op=f"op {n}", ops=16) for n in range(60)]
        rig.send(*batch)
        again = [rig.commit(COUNT, op=f"op {n}", ops=16, since=sent) for n in range(60)]
        for outcome in rig.send(*again):
            assert isinstance(outcome, Doubtful) or (
                isinstance(outcome, Written) and outcome.repeated
            ), f"a commit that was applied already: {outcome}"
        assert rig.fields() == {"sum": {"k": 61}}

    @promise(4)
    def test_a_repetition_brings_no_erased_state_back(self, rig: Rig) -> None:
        """A commit that was applied and is sent again after an erasure begins no new life."""
        rig.write(COUNT)
        rig.wait(0.5)
        sent = rig.now
        rig.wait(0.5)
        rig.write(Append("log", (b'"private"',), 5), op="op 1")
        rig.erase()
        outcome = rig.try_(Append("log", (b'"private"',), 5), op="op 1", since=sent)
        assert isinstance(outcome, Doubtful) or (isinstance(outcome, Written) and outcome.repeated)
        assert rig.read() is None

    @promise(4)
    def test_a_repetition_brings_no_expired_state_back(self, rig: Rig) -> None:
        """A commit that was applied and is sent again after its state expired begins no new life."""
        sent = rig.now
        rig.wait(0.5)
        rig.write(COUNT, op="op 1", ttl=1)
        rig.wait(1.5)
        assert rig.read() is None
        outcome = rig.try_(COUNT, op="op 1", ttl=1, since=sent)
        assert isinstance(outcome, Doubtful) or (isinstance(outcome, Written) and outcome.repeated)
        assert rig.read() is None

    @promise(4)
    @pytest.mark.parametrize("meanwhile", ["nothing", "a life", "a life, in one call"])
    def test_what_ended_its_own_life_is_not_applied_again(self, rig: Rig, meanwhile: str) -> None:
        """A commit whose maximum age is over ends its life later than the deadline says."""
        rig.write(COUNT)
        rig.wait(1.5)
        sent = rig.now
        rig.wait(0.5)
        commits = [rig.commit(COUNT, op="op 1", max_age=0.5)]
        if meanwhile != "nothing":
            commits.append(rig.commit(Add("sum", "k", 100)))
        again = rig.commit(COUNT, op="op 1", since=sent)
        if meanwhile == "a life, in one call":
            outcome = rig.send(*commits, again)[-1]
        else:
            for each in commits:
                rig.send(each)
            outcome = rig.send(again)[0]
        assert isinstance(outcome, Doubtful) or (isinstance(outcome, Written) and outcome.repeated)
        if meanwhile == "nothing":
            assert rig.read() is None
        else:
            assert rig.fields() == {"sum": {"k": 100}}

    @promise(4)
    @pytest.mark.parametrize("meanwhile", ["a life", "an erasure", "a claim"])
    @pytest.mark.parametrize("short", [{"ttl": 0.2}, {"max_age": 0.2}], ids=["ttl", "max age"])
    @pytest.mark.parametrize("later", [0.0, 2 * HOLD_SECONDS])
    def test_a_life_of_its_own_length_is_not_forgotten(
        self, rig: Rig, meanwhile: str, short: dict[str, float], later: float
    ) -> None:
        """A commit that made a short life is not applied again by who says that lives are long."""
        if later and not rig.exact:
            pytest.skip("the driver has a clock of its own")
        sent = rig.now
        rig.wait(0.2)
        rig.write(COUNT, op="op 1", **short)
        rig.wait(0.4 + later / rig.unit)
        for n in range(20):  # which sweeps
            rig.write(COUNT, id=f"busy {n % 3}")
        epoch = 0
        if meanwhile == "a life":
            rig.write(Add("sum", "k", 100))
        elif meanwhile == "an erasure":
            rig.erase(op="op 2")
        else:
            need(rig, Feature.CLAIM, Feature.EPOCH)
            epoch = rig.write(claim=1.0).epoch
        outcome = rig.try_(COUNT, op="op 1", since=sent, epoch=epoch)
        assert isinstance(outcome, Doubtful) or (isinstance(outcome, Written) and outcome.repeated)
        if meanwhile == "a life":
            assert rig.fields() == {"sum": {"k": 100}}
        else:
            assert rig.read() is None

    @promise(4)
    def test_a_repetition_does_not_reach_the_next_life(self, rig: Rig) -> None:
        """A commit that was applied in a life that has ended is not applied to the next one."""
        sent = rig.now
        rig.wait(0.5)
        rig.write(COUNT, op="op 1")
        rig.erase()
        rig.write(Add("sum", "k", 100), op="op 2")
        outcome = rig.try_(COUNT, op="op 1", since=sent)
        assert isinstance(outcome, Doubtful) or (isinstance(outcome, Written) and outcome.repeated)
        assert rig.fields() == {"sum": {"k": 100}}

    @promise(4)
    def test_a_repetition_does_not_reach_a_life_said_to_have_begun_before(self, rig: Rig) -> None:
        """A commit applied in a life that ended is not applied to one that says it had begun before that."""
        before = rig.now
        rig.wait(0.5)
        sent = rig.now
        rig.write(COUNT, op="op 1")
        rig.erase()
        for op in ("", "op 2"):
            rig.write(Add("sum", "k", 100), op=op, at=before, id="b" if op else "a")
        rig.write(COUNT, op="op 3")
        for id in ("a", "b"):
            outcome = rig.try_(COUNT, op="op 1", since=sent, id=id)
            known = isinstance(outcome, Written) and (outcome.repeated or id == "b")
            assert known or isinstance(outcome, Doubtful)
        assert rig.fields() == {"sum": {"k": 101}}

    @promise(2)
    def test_a_life_said_to_be_old_doubts_no_more_than_it_must(self, rig: Rig) -> None:
        """What was sent since lives that ended are remembered is applied, if none has ended."""
        need(rig, Feature.ERASE_ONCE)
        need_given_clock(rig)
        rig.write(COUNT, op="op 1", at=rig.now - 2 * HOLD_SECONDS)
        outcome = rig.try_(COUNT, op="op 2", since=rig.now - HOLD_SECONDS + 1)
        assert isinstance(outcome, Written)
        assert not outcome.repeated
        assert rig.fields() == {"sum": {"k": 2}}

    # -------------------------------------------------------------------- after its time

    @promise(4)
    def test_nothing_is_applied_after_its_time(self, rig: Rig) -> None:
        """A commit that arrives after `until` is not applied, and neither is an erasure."""
        rig.write(COUNT)
        over = rig.now - 1
        assert rig.try_(COUNT, op="op 1", until=over) == Late()
        assert rig.try_(COUNT, op="op 2", until=over, id="b") == Late()
        assert rig.erase(op="op 3", until=over) == Late()
        assert rig.fields() == {"sum": {"k": 1}}
        assert rig.read("b") is None

    @promise(4)
    def test_what_comes_in_time_is_applied(self, rig: Rig) -> None:
        """A commit that arrives by `until` is applied; a repeat is answered even after it."""
        first = rig.write(COUNT, op="op 1", until=rig.now + 60)
        again = rig.write(COUNT, op="op 1", until=rig.now - 1)
        assert (again.revision, again.repeated) == (first.revision, True)
        assert first.revision != Revision(0, 0)
        assert rig.fields() == {"sum": {"k": 1}}
        if rig.exact:
            rig.write(COUNT, op="op 2", until=rig.now)
