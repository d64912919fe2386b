"""Promise 7: whoever was deposed stays so, though the state be gone; and epochs that are given out."""

from __future__ import annotations

from functools import partial
from secrets import token_hex
from typing import Any

import pytest

from statehold.changes import Add, Append
from statehold.commits import ABSENT, EVERYTHING, HOLD_SECONDS, PRESENT
from statehold.driver import Conflicted, Feature, FencedOff, Late, Outcome, Written
from statehold.errors import Fenced, Leased
from statehold.testing.backend import rounds
from statehold.testing.conformance.base import Cases, need, need_given_clock
from statehold.testing.conformance.face_cases import FaceCases
from statehold.testing.conformance.face_cases import need as need_of
from statehold.testing.face import Face
from statehold.testing.promises import promise
from statehold.testing.rig import Rig, plain

LONG = 900.0
"""Seconds for which an epoch is held that is not to run out."""


class Fences(Cases):
    """What a key has seen of epochs outlives its state, and who claims one is the only one."""

    # -------------------------------------------------------------------- outliving the state

    @promise(7)
    def test_a_fence_outlives_an_erasure(self, rig: Rig) -> None:
        """After a delete a deposed writer begins no new life, and deletes none; the present one may."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        rig.write(Add("sum", "k", 1), epoch=7)
        rig.erase(epoch=9)
        for epoch in (0, 7, 8):
            outcome = rig.try_(Add("sum", "k", 100), epoch=epoch, op=f"op {epoch}")
            assert outcome == FencedOff(9), f"epoch {epoch} wrote after the erasure: {outcome}"
            assert rig.erase(epoch=epoch) == FencedOff(9)
        assert rig.read() is None, "a writer that was fenced off made a state"
        written = rig.write(Add("sum", "k", 1), epoch=9, op="op 8")
        assert written.revision.number == 1
        assert rig.stands().epoch == 9

    @promise(7)
    def test_a_fence_outlives_the_deadline(self, rig: Rig) -> None:
        """After expiry too, whether or not somebody has looked meanwhile."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        for id in ("looked", "not"):
            rig.write(Add("sum", "k", 1), epoch=5, id=id, ttl=1)
        rig.wait(1.2)
        assert rig.read("looked") is None
        for id in ("looked", "not"):
            assert rig.try_(Add("sum", "k", 1), epoch=4, id=id) == FencedOff(5)
            assert rig.try_(Add("sum", "k", 1), id=id) == FencedOff(5), "an unfenced writer"
            assert rig.try_(id=id, epoch=4, claim=0.0) == FencedOff(5)
        assert rig.write(Add("sum", "k", 1), epoch=5, id="not").revision.number == 1

    @promise(7)
    def test_a_fence_outlives_sweeping(self, rig: Rig) -> None:
        """It stays when the rows of what has expired are cleaned up, and goes after its time."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        need_given_clock(rig)
        rig.write(Add("sum", "k", 1), epoch=5, id="late", ttl=1)
        rig.write(epoch=5, id="gone")
        rig.erase("gone", epoch=5)
        rig.wait(1)
        rig.erase("gone", epoch=5)
        rig.wait((HOLD_SECONDS - 1.0) / rig.unit)
        for n in range(300):
            rig.write(Add("sum", "k", 1), id=f"other {n}")
        for id in ("late", "gone"):
            assert rig.try_(id=id, epoch=4) == FencedOff(5)
        rig.wait(2.0 / rig.unit)
        for n in range(300):
            rig.write(Add("sum", "k", 1), id=f"another {n}")
        for id in ("late", "gone"):
            assert isinstance(rig.try_(id=id), Written), "a fence for ever"

    @promise(7)
    def test_a_fence_survives_reopening(self, rig: Rig) -> None:
        """What was seen of an epoch that nobody has written with is there after a restart."""
        need(rig, Feature.EPOCH, Feature.CLAIM, Feature.DURABLE)
        given = self.claim(rig, LONG)
        rig.write(epoch=3, id="b")
        rig.erase("b", epoch=3)
        rig.reopen()
        assert rig.try_(Add("sum", "k", 1), epoch=given - 1) == FencedOff(given)
        assert rig.try_(Add("sum", "k", 1), epoch=2, id="b") == FencedOff(3)

    @promise(7)
    def test_erasing_what_is_absent_raises_the_epoch(self, rig: Rig) -> None:
        """An erasure is idempotent: again it is written, and who was deposed by it stays so."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        rig.write(epoch=2)
        assert rig.erase(epoch=4, op="op 1") != Written(ABSENT)
        assert rig.erase(epoch=4) == Written(ABSENT)
        assert rig.erase(epoch=4, op="op 2") == Written(ABSENT)
        assert rig.erase(epoch=6) == Written(ABSENT)
        assert rig.try_(epoch=5) == FencedOff(6)
        assert rig.erase("never there", epoch=6) == Written(ABSENT)
        assert rig.try_(epoch=5, id="never there") == FencedOff(6)

    @promise(7)
    def test_a_batch_minds_the_fence(self, rig: Rig) -> None:
        """Commits of one key in one call see what those before them have left behind."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        outcomes = rig.send(
            rig.commit(Add("sum", "k", 1), epoch=3),
            rig.commit(erase=True, epoch=3),
            rig.commit(Add("sum", "k", 1), epoch=2),
            rig.commit(claim=LONG, epoch=5),
            rig.commit(Add("sum", "k", 1), epoch=3),
            rig.commit(Add("sum", "k", 1), epoch=5),
            rig.commit(claim=LONG, epoch=6),
            rig.commit(Add("sum", "k", 1), epoch=5),
            rig.commit(claim=0.0, epoch=6),
        )
        kinds = [one.epoch if isinstance(one, FencedOff) else type(one) for one in outcomes]
        assert kinds == [Written, Written, 3, Written, 5, Written, Written, 6, Written]
        assert rig.fields() == {"sum": {"k": 1}}
        assert rig.stands().epoch == 6

    # --------------------------------------------------------------------------------- claims

    def claim(self, rig: Rig, seconds: float, **options: Any) -> int:
        """The next epoch, which must be free."""
        outcome = rig.try_(claim=seconds, ttl=None, **options)
        assert isinstance(outcome, Written), f"a claim of what nobody holds: {outcome}"
        return outcome.epoch

    def left(self, outcome: Outcome, epoch: int) -> float:
        """For how many seconds more somebody holds it."""
        assert isinstance(outcome, FencedOff), f"a claim of what somebody holds: {outcome}"
        assert outcome.epoch == epoch
        return outcome.left

    @promise(7)
    def test_a_claim_makes_no_state(self, rig: Rig) -> None:
        """Claimed, given back or claimed by its number, what is absent stays absent."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        given = self.claim(rig, LONG)
        assert rig.write(claim=LONG, epoch=given) == Written(ABSENT, epoch=given)
        assert rig.write(claim=0.0, epoch=given) == Written(ABSENT, epoch=given)
        assert rig.write(claim=0.0, epoch=given + 5) == Written(ABSENT, epoch=given + 5)
        assert rig.read() is None
        if rig.has(Feature.SCAN):
            assert rig.ids() == []
        if rig.has(Feature.EXPECT):
            assert rig.try_(claim=1.0, epoch=given + 9, expect=PRESENT) == Conflicted(ABSENT)
            rig.write(Add("sum", "k", 1), expect=ABSENT, epoch=given + 5)

    @promise(7)
    def test_a_claim_leaves_the_state_as_it_is(self, rig: Rig) -> None:
        """A claim changes the epoch alone: not the revision, the deadline, the fields, the subject."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        subject = {"subject": "ann"} if rig.has(Feature.SUBJECT) else {}
        rig.write(Add("sum", "k", 1), Append("log", (b'"a"',), 3), op="op 1", **subject)
        before = rig.stands()
        rig.wait(0.3)
        given = self.claim(rig, LONG)
        after = rig.stands()
        assert after.epoch == given
        assert (after.revision, after.deadline, after.updated, after.created) == (
            before.revision,
            before.deadline,
            before.updated,
            before.created,
        )
        assert (after.fields, after.subject) == (before.fields, before.subject)
        assert rig.try_(Add("sum", "k", 1)) == FencedOff(given)
        assert rig.write(Add("sum", "k", 1), op="op 1").repeated, "a claim forgot an op id"
        if rig.has(Feature.RETURNING):
            outcome = rig.write(claim=LONG, epoch=given, returning=EVERYTHING)
            assert outcome.returned is not None
            assert (outcome.returned.revision, outcome.returned.epoch) == (before.revision, given)
        assert rig.write(Add("sum", "k", 1), epoch=given).revision.number == 2

    @promise(7)
    def test_what_is_held_is_not_given_out(self, rig: Rig) -> None:
        """The next epoch is refused while one is held, with the time that is left; then it is higher."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        first = self.claim(rig, LONG)
        for id in ("a",):
            left = self.left(rig.try_(claim=LONG, id=id), first)
            assert LONG - 60 < left <= LONG
        other = self.claim(rig, LONG, id="b")
        assert rig.write(claim=0.0, epoch=first).epoch == first, "given back"
        second = self.claim(rig, LONG)
        assert second > first
        assert rig.try_(Add("sum", "k", 1), epoch=first) == FencedOff(second)
        assert rig.try_(claim=0.0, epoch=first) == FencedOff(second), "given back by another"
        assert rig.write(Add("sum", "k", 1), epoch=second).revision.number == 1
        self.left(rig.try_(claim=LONG), second)
        assert rig.write(Add("sum", "k", 1), epoch=other, id="b").revision.number == 1

    @promise(7)
    def test_a_claim_runs_out(self, rig: Rig) -> None:
        """By the store's clock, unless it is renewed; what its holder writes then is fenced off."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        seconds = 1.0 * rig.unit
        first = self.claim(rig, seconds)
        rig.wait(0.6)
        assert rig.write(claim=seconds, epoch=first).epoch == first
        rig.wait(0.6)
        assert self.left(rig.try_(claim=seconds), first) <= 0.5 * rig.unit
        rig.wait(0.6)
        second = self.claim(rig, LONG)
        assert second > first
        assert rig.try_(claim=seconds, epoch=first) == FencedOff(second), "renewed too late"
        assert rig.try_(Add("sum", "k", 1), epoch=first) == FencedOff(second)

    @promise(7)
    def test_who_is_late_and_alone_goes_on(self, rig: Rig) -> None:
        """What has run out may be renewed, and written with, as long as nobody has claimed the next."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        first = self.claim(rig, 0.5 * rig.unit)
        rig.wait(0.8)
        assert rig.write(Add("sum", "k", 1), epoch=first).revision.number == 1
        assert rig.write(claim=LONG, epoch=first).epoch == first
        self.left(rig.try_(claim=LONG), first)

    @promise(7)
    def test_a_claim_outlives_the_state(self, rig: Rig) -> None:
        """A holder stays one while its state expires or is deleted, and is begun anew."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        first = self.claim(rig, LONG)
        rig.write(Add("sum", "k", 1), epoch=first, ttl=1)
        rig.wait(1.2)
        self.left(rig.try_(claim=LONG), first)
        rig.write(Add("sum", "k", 1), epoch=first)
        self.left(rig.try_(claim=LONG), first)
        rig.erase(epoch=first)
        self.left(rig.try_(claim=LONG), first)
        assert rig.try_(Add("sum", "k", 1), epoch=first - 1) == FencedOff(first)

    @promise(7)
    @pytest.mark.parametrize("claimed", ["first", "later", "shortened"])
    def test_a_claim_outlasts_the_state(self, rig: Rig, claimed: str) -> None:
        """It bars others however long ago the state has ended, and one that is shortened is remembered."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        need_given_clock(rig)
        if claimed == "later":
            rig.write(Add("sum", "k", 1), ttl=1)
        given = self.claim(rig, LONG)
        if claimed == "shortened":
            rig.write(claim=1.0, epoch=given)
        if claimed != "later":
            rig.write(Add("sum", "k", 1), ttl=1, epoch=given)
        rig.wait((LONG - 2 * HOLD_SECONDS) / rig.unit)
        assert rig.try_(Add("sum", "k", 1), epoch=1) == FencedOff(given)
        if claimed == "shortened":
            assert self.claim(rig, LONG) > given
        else:
            assert isinstance(rig.try_(claim=LONG, op="another"), FencedOff)

    @promise(7)
    def test_a_newer_epoch_takes_the_place_of_a_claim(self, rig: Rig) -> None:
        """Who writes with a higher number has deposed the holder, and holds nothing."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        first = self.claim(rig, LONG)
        rig.write(Add("sum", "k", 1), epoch=first + 10)
        assert rig.try_(claim=LONG, epoch=first) == FencedOff(first + 10)
        assert self.claim(rig, LONG) > first + 10

    @promise(7)
    def test_a_repeated_claim_is_given_the_same(self, rig: Rig) -> None:
        """With the op id by which it was given out, and while it is held; after that it is the next."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        first = self.claim(rig, LONG, op="op 1")
        assert self.claim(rig, LONG, op="op 1", since=rig.now - 1) == first
        self.left(rig.try_(claim=LONG, op="op 2"), first)
        self.left(rig.try_(claim=LONG), first)
        rig.write(claim=LONG, epoch=first, op="op 3")  # renewed
        assert self.claim(rig, LONG, op="op 1") == first
        rig.write(Add("sum", "k", 1), epoch=first, op="op 1")
        assert rig.fields() == {"sum": {"k": 1}}, "a claim's op id is no commit's"
        rig.write(claim=0.0, epoch=first)
        second = self.claim(rig, LONG, op="op 1")
        assert second > first
        rig.write(claim=LONG, epoch=second + 1, op="op 4")
        self.left(rig.try_(claim=LONG, op="op 4"), second + 1)  # which was not given out

    @promise(7)
    def test_epochs_go_by_the_microsecond(self, rig: Rig) -> None:
        """However many are given out, they do not get ahead of the time, and so never go back."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        epochs = [self.claim(rig, LONG)]
        for _ in range(30):
            rig.try_(claim=0.0, ttl=None, epoch=epochs[-1])
            epochs.append(self.claim(rig, LONG))
        assert epochs == sorted(set(epochs))
        about = 1e6 * (1 + 60 * (not rig.exact))
        assert rig.now * 1e6 - about < epochs[0] <= epochs[-1] < rig.now * 1e6 + about

    @promise(7)
    def test_the_highest_epoch_of_all(self, rig: Rig) -> None:
        """Numbers above 2^53 are exact, and after 2^63 - 1 there is none to be given out."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        rig.write(epoch=2**53 + 1)
        assert self.claim(rig, 0.0) == 2**53 + 2
        assert rig.write(claim=0.0, epoch=2**63 - 1).epoch == 2**63 - 1
        assert rig.try_(claim=1.0) == FencedOff(2**63 - 1)
        assert rig.try_(epoch=2**63 - 2) == FencedOff(2**63 - 1)

    @promise(7)
    def test_a_late_claim_is_not_made(self, rig: Rig) -> None:
        """`until` is for claims too."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        assert rig.try_(claim=LONG, op="op 1", until=rig.now - 100) == Late()
        self.claim(rig, LONG, op="op 2", until=rig.now + 100)

    @promise(7)
    def test_one_of_many_gets_it(self, rig: Rig) -> None:
        """Of those who ask at the same time one is given the epoch, on what is there and what is not."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        rig.write(Add("sum", "k", 1), id="there")
        for id in ("there", "not there"):

            async def ask(id: str = id) -> Outcome:
                commit = rig.commit(id=id, claim=LONG)
                return (await rig.driver.commit((commit,), rig.now))[0]

            outcomes = rig.run.together(*[ask] * 8)
            given = [one.epoch for one in outcomes if isinstance(one, Written)]
            assert len(given) == 1, f"it was given out {len(given)} times"
            for outcome in outcomes:
                if not isinstance(outcome, Written):
                    self.left(outcome, given[0])

    @promise(7)
    def test_a_claim_races_with_the_first_commit(self, rig: Rig) -> None:
        """Who begins a state without an epoch came before the claim, or is fenced off: never after it."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        for n in range(rounds(20)):

            async def commit(claim: float | None, n: int = n) -> Outcome:
                changes = () if claim else (Add("sum", "k", 1),)
                commit = rig.commit(*changes, id=f"r{n}", claim=claim, op=token_hex(8))
                return (await rig.driver.commit((commit,), rig.now))[0]

            claims = [partial(commit, LONG)] * 2
            outcomes = rig.run.together(*[partial(commit, None)] * 3, *claims)
            given = [one.epoch for one in outcomes[3:] if isinstance(one, Written)]
            assert len(given) == 1, f"it was given out {len(given)} times: {outcomes}"
            cells = rig.read(f"r{n}")
            written = sum(isinstance(one, Written) for one in outcomes[:3])
            if cells is None:
                assert written == 0, "what was written is gone"
            else:
                assert cells.epoch == given[0], "an unfenced writer began it after the claim"
                assert plain(cells) == {"sum": {"k": written}}


class FaceFences(FaceCases):
    """Leases."""

    @promise(7)
    def test_face_a_lease_is_held_by_one(self, face: Face) -> None:
        """A second holder is refused, and told for how long; a lease makes no state; then comes a higher epoch."""
        need_of(face, Feature.EPOCH, Feature.CLAIM)
        fields, visits = face.cls, face.visits
        with visits.lease("a", ttl=LONG) as lease:
            first = lease.epoch
            assert LONG - 60 < lease.left <= LONG
            assert not visits.get("a").meta.exists
            with pytest.raises(Leased) as caught, visits.lease("a", ttl=LONG):
                pass
            assert caught.value.found == first
            assert LONG - 60 < caught.value.left <= LONG
            visits.apply("a", fields.clicks.add(1), epoch=first)
            with visits.session("a", epoch=first) as state:
                state.clicks += 1
            with pytest.raises(Fenced):
                visits.apply("a", fields.clicks.add(1))
        with visits.lease("a", ttl=LONG) as lease:
            assert lease.epoch > first
            with pytest.raises(Fenced):
                visits.apply("a", fields.clicks.add(1), epoch=first)
            visits.transact("a", turn, epoch=lease.epoch)
            assert visits.delete("a", epoch=lease.epoch)
            with pytest.raises(Fenced):
                visits.apply("a", fields.clicks.add(1), epoch=first)
        assert not visits.get("a").meta.exists

    @promise(7)
    def test_face_who_lost_a_lease_is_fenced(self, face: Face) -> None:
        """It runs out by the store's clock; who takes it then has deposed the holder."""
        need_of(face, Feature.EPOCH, Feature.CLAIM)
        fields, visits = face.cls, face.visits
        taken = 0
        with (  # noqa: PT012  what is raised is raised at its end
            pytest.raises(Fenced) as caught,
            visits.lease("a", ttl=face.unit, renews=False) as lease,
        ):
            visits.apply("a", fields.clicks.add(1), epoch=lease.epoch)
            face.wait(1.3)
            assert lease.left == 0
            with visits.lease("a", ttl=LONG) as other:
                taken = other.epoch
                visits.apply("a", fields.clicks.add(1), epoch=taken)
                with pytest.raises(Fenced):
                    visits.apply("a", fields.clicks.add(1), epoch=lease.epoch)
        assert caught.value.found == taken
        assert lease.lost
        assert visits.get("a").clicks == 2

    @promise(7)
    def test_face_who_is_late_and_alone_keeps_a_lease(self, face: Face) -> None:
        """One that has run out may be given back, and what it wrote stands, if nobody else came."""
        need_of(face, Feature.EPOCH, Feature.CLAIM)
        fields, visits = face.cls, face.visits
        with visits.lease("a", ttl=0.3 * face.unit, renews=False) as lease:
            face.wait(0.5)
            visits.apply("a", fields.clicks.add(1), epoch=lease.epoch)
        assert not lease.lost
        assert visits.get("a").clicks == 1


def turn(state: Any) -> None:
    """A change that depends on what was read."""
    state.clicks += 1
