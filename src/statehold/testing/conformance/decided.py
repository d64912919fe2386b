"""Commits of which somebody else has decided the revision and the time: equal names everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from statehold.changes import Add, Append, Drop, Put
from statehold.commits import ABSENT, EVERYTHING, Commit, Note, Revision, Want
from statehold.driver import Cells, Conflicted, Feature, FencedOff, Late, Outcome, Refused, Written
from statehold.folding import NEVER_LIVED, Life, step
from statehold.testing.conformance.base import Cases, need
from statehold.testing.promises import promise
from statehold.testing.rig import Rig


class Owner:
    """Folds commits by itself, and says of each what it has made of it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.life: Life = NEVER_LIVED

    def decide(self, commit: Commit, lag: float = 0.0) -> Commit:
        """Fold a commit, `lag` units ago. Returns it with what was decided."""
        self.life, outcome = step(self.life, commit, self.rig.now - lag * self.rig.unit)
        assert isinstance(outcome, Written)
        note = Note("added", b"\x00", "owner", "test")
        return replace(commit, revision=outcome.revision, at=outcome.updated, note=note)

    def cells(self) -> Cells:
        """The state as the owner has it."""
        cells = self.life.cells(EVERYTHING)
        assert cells is not None
        return cells


class Decided(Cases):
    """What an owner decides is what a follower has."""

    @promise(6)
    def test_a_follower_makes_the_revisions_and_times_of_the_owner(self, rig: Rig) -> None:
        """The same commits, told what they are to make, end in equal states: revision, times, cells."""
        need(rig, Feature.EXPECT)
        owner = Owner(rig)
        for n in range(5):
            changes = (Add("sum", "k", 1), Append("log", (b"%d" % n,), 3), Put("note", "", b'"x"'))
            commit = rig.commit(*changes, op=f"op {n}", max_age=9000, **_epoch(rig, 3))
            told = owner.decide(commit, lag=0.25 - 0.05 * n)
            done = rig.send(told)[0]
            assert isinstance(done, Written)
            assert done.revision == owner.cells().revision
            assert done.updated == pytest.approx(owner.cells().updated, abs=2e-6)
            assert done.deadline == pytest.approx(owner.cells().deadline, abs=2e-6)
        _same(rig.stands(), owner.cells())

    @promise(6)
    def test_a_follower_takes_over_with_what_it_remembers(self, rig: Rig) -> None:
        """Who goes on at the follower is told of repeated op ids, and the deposed owner is fenced off."""
        need(rig, Feature.EXPECT)
        owner = Owner(rig)
        for n in range(3):
            rig.send(owner.decide(rig.commit(Add("sum", "k", 1), op=f"op {n}", **_epoch(rig, 1))))
        after = rig.write(Add("sum", "k", 10), op="op 3", **_epoch(rig, 2))
        assert after.revision.incarnation == owner.cells().revision.incarnation
        assert after.revision.number == 4
        for n in range(3):
            again = rig.try_(Add("sum", "k", 1), op=f"op {n}", **_epoch(rig, 2))
            assert isinstance(again, Written)
            assert again.repeated, "the follower does not know what the owner has applied"
            assert again.revision.number == n + 1
        late = owner.decide(rig.commit(Add("sum", "k", 100), op="late", **_epoch(rig, 1)))
        barred = rig.send(late)[0]
        assert isinstance(barred, FencedOff if rig.has(Feature.EPOCH) else Conflicted)
        assert rig.fields() == {"sum": {"k": 13}}

    @promise(6)
    def test_only_the_next_revision_is_made(self, rig: Rig) -> None:
        """A gap, a repetition, another life, and a first one that is not: in conflict, nothing written."""
        need(rig, Feature.EXPECT)
        add = Add("sum", "k", 1)
        assert _made(rig, Revision(7, 2)) == Conflicted(ABSENT), "half a state was begun"
        assert rig.read() is None
        first = rig.write(add, revision=Revision(7, 1))
        assert first.revision == Revision(7, 1)
        for wrong in (Revision(7, 1), Revision(7, 3), Revision(8, 2), Revision(8, 1)):
            assert _made(rig, wrong) == Conflicted(Revision(7, 1)), f"made {wrong}"
        assert rig.write(add, revision=Revision(7, 2)).revision == Revision(7, 2)
        assert rig.fields() == {"sum": {"k": 2}}
        rig.erase()
        assert _made(rig, Revision(7, 3)) == Conflicted(ABSENT), "half a state was begun"
        assert rig.write(add, revision=Revision(9, 1)).revision == Revision(9, 1)

    @promise(4)
    def test_what_is_over_when_it_comes_is_not_written(self, rig: Rig) -> None:
        """A commit that was made so long ago that its state has ended begins nothing: `Late`."""
        need(rig, Feature.EXPECT)
        add, made = Add("sum", "k", 1), rig.now - 5 * rig.unit
        assert rig.try_(add, revision=Revision(7, 1), at=made, ttl=4) == Late()
        assert rig.read() is None
        first = rig.write(add, revision=Revision(7, 1), at=made, ttl=500)
        assert first.deadline == pytest.approx(made + 500 * rig.unit, abs=2e-6)
        assert rig.try_(add, revision=Revision(7, 2), at=made, ttl=500, max_age=4) == Late()
        # What cannot be applied anyway is late first.
        full = Put("once", "k", b"1", bound=0)
        assert rig.try_(full, at=made, ttl=4) == Late()
        assert isinstance(rig.try_(full, at=made, ttl=500), Refused)
        assert rig.fields() == {"sum": {"k": 1}}
        assert rig.stands().revision == Revision(7, 1)

    @promise(2)
    def test_what_came_late_is_not_forgotten_early(self, rig: Rig) -> None:
        """A commit made long before it came, sent again after the state's end, is not applied again."""
        need(rig, Feature.EXPECT)
        sent, made = rig.now, rig.now - 5 * rig.unit
        commit = rig.commit(Add("sum", "k", 1), op="op 1", revision=Revision(7, 1), at=made)
        assert isinstance(rig.send(commit)[0], Written)
        rig.erase()
        again = rig.send(replace(commit, since=sent - 0.001))[0]
        assert not isinstance(again, Written) or again.repeated, "applied again after its life"
        assert rig.read() is None

    @promise(2)
    def test_a_claim_forgets_nothing_early(self, rig: Rig) -> None:
        """A commit made long before it came is not applied again, though its life ended and an epoch was claimed."""
        need(rig, Feature.EXPECT, Feature.EPOCH, Feature.CLAIM)
        add, sent, made = Add("sum", "k", 1), rig.now, rig.now - 5 * rig.unit
        commit = rig.commit(add, op="op 1", ttl=500, revision=Revision(7, 1), at=made)
        assert isinstance(rig.send(commit)[0], Written)
        rig.write(add, ttl=7, at=made)
        rig.wait(3)
        claim = rig.try_(claim=rig.unit)
        assert isinstance(claim, Written)
        again = rig.send(replace(commit, since=sent - 0.001, epoch=claim.epoch))[0]
        assert not isinstance(again, Written) or again.repeated, "applied again after its life"

    @promise(5)
    def test_a_commit_tells_its_time_and_deadline(self, rig: Rig) -> None:
        """`Written` has the times that a read finds; a repetition and an erasure have none."""
        for options in ({}, {"max_age": 3}, {"ttl": None}, {"ttl": None, "max_age": 9}):
            done = rig.write(Add("sum", "k", 1), Drop("map"), op=f"{options}", **options)
            cells = rig.stands()
            assert done.updated == pytest.approx(cells.updated, abs=2e-6)
            assert done.deadline == pytest.approx(cells.deadline, abs=2e-6), options
        again = rig.write(Add("sum", "k", 1), op="{}")
        assert (again.repeated, again.updated, again.deadline) == (True, None, None)
        many = rig.send(*(rig.commit(Add("sum", "k", 1), id=id) for id in "abcab"))
        for id, one in zip("cab", many[2:], strict=True):
            assert isinstance(one, Written)
            assert one.deadline == pytest.approx(rig.stands(id).deadline, abs=2e-6)
        erased = rig.erase()
        assert isinstance(erased, Written)
        assert (erased.updated, erased.deadline) == (None, None)

    @promise(5)
    def test_what_is_still_at_a_revision_is_not_read_again(self, rig: Rig) -> None:
        """`Want.unless` leaves out the fields of what has not changed, and of nothing else."""
        ids = ("a", "b", "c")
        known = [rig.write(Append("log", (b"1",), 9), Add("sum", id, 1), id=id) for id in ids]
        unless = (*(one.revision for one in known), Revision(1 << 70, 1), Revision(3, 1 << 50))
        for id, one in zip(ids, rig.read_many(ids, Want(unless=unless[3:])), strict=True):
            assert one is not None
            assert (one.unchanged, one.fields["sum"]) == (False, {id: 1})
            assert list(one.fields["log"]) == [b"1"]
        rig.write(Add("sum", "b", 1), id="b")
        rig.erase("c")
        for fields in (None, ("sum",), ("log", "sum")):
            want = Want(fields, unless=unless)
            same, other, gone, never = rig.read_many([*ids, "d"], want)
            assert same is not None
            assert other is not None
            assert (same.unchanged, same.fields, same.revision) == (True, {}, known[0].revision)
            assert same.deadline == pytest.approx(known[0].deadline, abs=2e-6)
            assert (other.unchanged, other.fields["sum"]) == (False, {"b": 2})
            assert gone is None
            assert never is None
        if not rig.exact:
            return
        ttl = 2 * 10_000.0 * rig.unit
        renewed = rig.read(want=Want(renew=(ttl, None), unless=unless))
        assert renewed is not None
        assert renewed.unchanged
        assert renewed.deadline == rig.stands().deadline == rig.now + ttl


def _made(rig: Rig, revision: Revision) -> Outcome:
    return rig.try_(Add("sum", "k", 1), revision=revision)


def _epoch(rig: Rig, epoch: int) -> dict[str, Any]:
    return {"epoch": epoch} if rig.has(Feature.EPOCH) else {}


def _same(follower: Cells, owner: Cells) -> None:
    for name in ("revision", "fields", "epoch", "subject"):
        assert getattr(follower, name) == getattr(owner, name), f"{name} differs"
    for name in ("created", "updated", "deadline"):
        found, made = getattr(follower, name), getattr(owner, name)
        assert found == pytest.approx(made, abs=2e-6), f"{name} differs"
