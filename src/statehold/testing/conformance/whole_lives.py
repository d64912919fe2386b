"""Promises 2 to 7 for lives that are read whole and installed elsewhere, whole.

Elsewhere is another key of the same backend, or an owner that folds by itself: what is to be kept does
not depend on where it came from.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from statehold.changes import Accumulate, Add, Append, Change, Drop, Items, Put, Splice
from statehold.commits import Revision, Want, digest_of
from statehold.driver import (
    Cells,
    Conflicted,
    Doubtful,
    Feature,
    FencedOff,
    Late,
    Op,
    Reused,
    WholeLife,
    Written,
)
from statehold.errors import Corrupted
from statehold.folding import NEVER_LIVED, install, step
from statehold.testing import installing
from statehold.testing.backend import rounds
from statehold.testing.conformance.base import Cases, need, need_given_clock
from statehold.testing.naive import array
from statehold.testing.promises import promise
from statehold.testing.rig import Rig

RICH: tuple[Change, ...] = (
    Put("note", "", b'"red"'),
    Put("map", "k", b'"x"'),
    Put("map", "é:%", b'""'),
    Put("raw", "", b"\x00\xff"),
    Put("once", "", b'"first"'),
    Put("book", "z", b'"page"'),
    Add("sum", "", 2**53 + 1),
    Add("sum", "half", 0.5),
    Add("window", "1", -3),
    Accumulate("array", "k", array(1.0, -2.5)),
    Append("log", tuple(b'"%d"' % n for n in range(7)), 4),
    Append("trail", (b'"gone"', b'"too"'), 5),
)
"""Every kind of cell; a list that was trimmed, and one to be emptied, whose positions go on."""

OPS = ("0123456789ab0123456789ab", "a key of a caller's", "é" * 40, "op")


class WholeLives(Cases):
    """A life goes on elsewhere as if it had never been anywhere else."""

    @promise(3)
    def test_nothing_of_a_life_is_lost(self, rig: Rig) -> None:
        """Cells, positions, revision, times, deadline, subject, epoch, op ids: read back, all are there."""
        need(rig, Feature.WHOLE_LIVES)
        life = rich(rig)
        for there in (rig.key("b"), rig.key("c", tenant=" next")):
            done = stand(rig, replace(life, key=there))
            assert not done.repeated
            assert done.revision == life.cells.revision
            assert done.updated == pytest.approx(life.cells.updated, abs=2e-6)
            assert done.deadline == pytest.approx(life.cells.deadline, abs=2e-6)
            same(rig.life(there), life)
        same(rig.life(), life)
        if rig.has(Feature.DURABLE):
            rig.reopen()
            same(rig.life("b"), life)

    @promise(3)
    def test_a_life_comes_from_an_owner_and_goes_back(self, rig: Rig) -> None:
        """Who folds by himself takes a life over, goes on with it, and installs it again."""
        need(rig, Feature.WHOLE_LIVES)
        life = rich(rig)
        owned, _ = install(NEVER_LIVED, life, rig.now)
        for n in range(3):
            commit = rig.commit(Add("sum", "half", 1), op=f"own {n}", **epoch(rig, 5))
            owned, outcome = step(owned, commit, rig.now)
            assert isinstance(outcome, Written)
            assert outcome.revision.number == life.cells.revision.number + n + 1
        back = owned.whole(rig.key())
        assert back is not None
        stand(rig, back)
        same(rig.life(), back)
        again = rig.write(Add("sum", "half", 1), op="own 1", **epoch(rig, 5))
        assert again.repeated, "the owner's op ids are not known"
        assert rig.fields()["sum"]["half"] == 5.5

    @promise(5)
    def test_an_absent_state_has_no_life(self, rig: Rig) -> None:
        """Of several keys each is answered in its place: None where there is nothing."""
        need(rig, Feature.WHOLE_LIVES)
        rig.write(Add("sum", "k", 1), id="b")
        rig.write(Add("sum", "k", 1), id="c")
        rig.erase("c")
        none, there, gone = rig.lives("a", "b", "c")
        assert none is None
        assert gone is None
        assert there is not None
        assert there.cells.fields == {"sum": {"k": 1}}
        outcomes = rig.install(replace(there, key=rig.key("a")), there)
        assert [isinstance(one, Written) and one.repeated for one in outcomes] == [False, True]

    # ------------------------------------------------------------------------- what is newer

    @promise(6)
    def test_revisions_go_on(self, rig: Rig) -> None:
        """The next commit makes the next revision of the same life; `expect` knows the one installed."""
        need(rig, Feature.WHOLE_LIVES)
        rig.write(Add("sum", "k", 1))
        stands = rig.write(Add("sum", "k", 1)).revision
        stand(rig, replace(rig.life(), key=rig.key("b")))
        expect = {"expect": stands} if rig.has(Feature.EXPECT) else {}
        done = rig.write(Add("sum", "k", 1), id="b", **expect)
        assert done.revision == Revision(stands.incarnation, 3)
        assert rig.fields("b") == {"sum": {"k": 3}}
        assert rig.stands().revision == stands

    @promise(3)
    def test_what_stands_gives_way_to_what_is_newer(self, rig: Rig) -> None:
        """A lower number of the same life is replaced, and leaves nothing; a higher one stays."""
        need(rig, Feature.WHOLE_LIVES)
        rig.write(
            Put("note", "", b'"old"'), Put("map", "k", b'"x"'), Append("log", (b"1", b"2"), 9)
        )
        old = replace(rig.life(), key=rig.key("b"))
        rig.write(
            Drop("note"), Drop("map"), Drop("log"), Add("sum", "k", 1), op="new", **about(rig)
        )
        new = replace(rig.life(), key=rig.key("b"))
        stand(rig, old)
        assert not stand(rig, new).repeated
        same(rig.life("b"), new)
        assert rig.fields("b") == {"sum": {"k": 1}}
        assert rig.install(old) == [Conflicted(new.cells.revision)], "an older one replaced it"
        again = stand(rig, new)
        assert again == Written(new.cells.revision, repeated=True)
        assert rig.write(Add("sum", "k", 1), id="b", op="new").repeated
        rig.write(Add("sum", "k", 1), id="b")
        assert rig.install(new)[0] == Conflicted(Revision(new.cells.revision.incarnation, 3))
        assert rig.fields("b") == {"sum": {"k": 2}}

    @promise(3)
    def test_another_life_stays(self, rig: Rig) -> None:
        """What stands in another incarnation is never replaced, whatever its number."""
        need(rig, Feature.WHOLE_LIVES)
        for _ in range(3):
            rig.write(Add("sum", "k", 1))
        stands = rig.write(Add("sum", "other", 1), id="b").revision
        assert rig.install(replace(rig.life(), key=rig.key("b"))) == [Conflicted(stands)]
        assert rig.fields("b") == {"sum": {"other": 1}}
        rig.erase("b")
        stand(rig, replace(rig.life(), key=rig.key("b")))
        assert rig.fields("b") == {"sum": {"k": 3}}

    # ----------------------------------------------------------------------------- op memory

    @promise(2)
    def test_installed_op_ids_are_repeats(self, rig: Rig) -> None:
        """What the life remembers is known here: with its number, and refused for something else."""
        need(rig, Feature.WHOLE_LIVES)
        for n, op in enumerate(OPS):
            rig.write(Add("sum", "k", 1), op=op, intent=n + 1)
        life = replace(rig.life(), key=rig.key("b"))
        assert [digest_of(one.op) for one in life.ops] == list(map(digest_of, OPS))
        stand(rig, life)
        for n, op in enumerate(OPS):
            for intent in (0, n + 1):
                again = rig.try_(Add("sum", "k", 1), id="b", op=op, intent=intent)
                known = Written(Revision(life.cells.revision.incarnation, n + 1), repeated=True)
                assert again == known, f"the op id {op!r} was forgotten on the way: {again}"
            other = rig.try_(Add("sum", "k", 1), id="b", op=op, intent=9)
            assert isinstance(other, Reused), f"{op!r} for something else: {other}"
        new = rig.write(Add("sum", "k", 1), id="b", op="new")
        assert not new.repeated
        assert rig.write(Add("sum", "k", 1), id="b", op="new").repeated
        assert rig.write(Add("sum", "k", 1), id="b", op=OPS[1]).repeated
        assert rig.fields("b") == {"sum": {"k": len(OPS) + 1}}

    @promise(2)
    def test_digests_are_known(self, rig: Rig) -> None:
        """A life from a backend that keeps op ids as digests knows them by these."""
        need(rig, Feature.WHOLE_LIVES)
        for op in OPS:
            rig.write(Add("sum", "k", 1), op=op)
        life = rig.life()
        told = tuple(replace(one, op=digest_of(one.op)) for one in life.ops)
        stand(rig, replace(life, key=rig.key("b"), ops=told))
        for op in OPS:
            for change in (
                Add("sum", "k", 1),
                Append("log", (b'"x"',), 9),
                Put("note", "", b'"x"'),
            ):
                assert rig.write(change, id="b", op=op).repeated, f"{op!r} by its digest"
        assert [digest_of(one.op) for one in rig.life("b").ops] == list(map(digest_of, OPS))
        batch = rig.send(*(rig.commit(Add("sum", "k", 1), id="b", op=op) for op in ("new", *OPS)))
        repeated = [isinstance(one, Written) and one.repeated for one in batch]
        assert repeated == [False, True, True, True, True]
        assert rig.fields("b") == {"sum": {"k": len(OPS) + 1}}

    @promise(2)
    def test_what_was_forgotten_is_in_doubt(self, rig: Rig) -> None:
        """Sent again since before what the life has forgotten: `Doubtful`. Since after that: known."""
        need(rig, Feature.WHOLE_LIVES)
        life = installing.made(rig.key("b"), 5, rig.now - 4 * rig.unit)
        at = rig.now - 2 * rig.unit
        stand(rig, replace(life, forgotten=at, ops=life.ops[-1:]))
        add = Add("sum", "count", 1)
        for since in (at - 0.25, at - rig.unit, life.cells.created - 1.0):
            again = rig.try_(add, id="b", op="forgotten", since=since)
            assert again == Doubtful(), f"may have been applied before: {again}"
        assert rig.write(add, id="b", op=life.ops[-1].op, since=life.cells.created).repeated
        assert rig.fields("b")["sum"] == {"count": 5}
        written = rig.write(add, id="b", op="later", since=rig.now)
        assert not written.repeated
        assert rig.life("b").forgotten >= at - 1.5e-3, "it says that it has forgotten less"

    @promise(2)
    def test_earlier_lives_are_in_doubt(self, rig: Rig) -> None:
        """What was applied to another life that the key had here is not applied to the installed one."""
        need(rig, Feature.WHOLE_LIVES)
        life = installing.made(rig.key("b"), 2, rig.now - 3 * rig.unit)
        sent = rig.now
        rig.write(Add("sum", "count", 1), id="b", op="earlier")
        rig.erase("b")
        stand(rig, life)
        again = rig.try_(Add("sum", "count", 1), id="b", op="earlier", since=sent - 0.001)
        assert not isinstance(again, Written) or again.repeated, "applied to two lives of one key"
        before = rig.try_(Add("sum", "count", 1), id="b", op="x", since=life.cells.created - 9.0)
        assert before == Doubtful(), "it may have been applied to an earlier life elsewhere"
        assert rig.fields("b")["sum"] == {"count": 2}

    @promise(2)
    def test_what_was_before_it_began_is_in_doubt(self, rig: Rig) -> None:
        """Nobody here knows what was applied to the lives that the key had elsewhere before this one."""
        need(rig, Feature.WHOLE_LIVES)
        life = installing.made(rig.key("b"), 2, rig.now - 3 * rig.unit)
        assert life.forgotten >= life.cells.created
        stand(rig, life)
        for ago in (0.002, rig.unit, 100.0):
            again = rig.try_(Add("sum", "count", 1), id="b", op="x", since=life.cells.created - ago)
            assert again == Doubtful(), f"it may have been applied to an earlier life: {again}"
        assert rig.write(Add("sum", "count", 1), id="b", op="x", since=rig.now).revision.number == 3

    @promise(2)
    def test_what_is_barred_forgets_nothing(self, rig: Rig) -> None:
        """A life that is not installed over one that has expired leaves what is known of that."""
        need(rig, Feature.WHOLE_LIVES)
        sent = rig.now
        rig.write(Add("sum", "count", 1), id="b", op="op 1", ttl=0.5)
        rig.wait(0.7)
        life = installing.made(rig.key("b"), 2, rig.now - 3 * rig.unit)
        assert rig.install(replace(life, cells=replace(life.cells, deadline=rig.now))) == [Late()]
        again = rig.try_(Add("sum", "count", 1), id="b", op="op 1", since=sent - 0.001)
        assert not isinstance(again, Written) or again.repeated, "applied again after its life"
        assert rig.read("b") is None

    @promise(2)
    def test_many_op_ids_go_along(self, rig: Rig) -> None:
        """A thousand of them, where that is what commits ask for; and older ones make way for new ones."""
        need(rig, Feature.WHOLE_LIVES)
        life = installing.made(rig.key("b"), 1000, rig.now - 2 * rig.unit)
        stand(rig, life)
        for n in (1, 2, 500, 999, 1000):
            op = installing.op(n)
            again = rig.write(Add("sum", "count", 1), id="b", op=op, ops=1000)
            assert again.repeated, f"{op} was forgotten on the way"
            assert again.revision.number == n
        for n in range(1001, 1021):
            commit = rig.commit(Add("sum", "count", 1), id="b", op=installing.op(n), ops=1000)
            assert rig.send(commit, commit)[1] == Written(
                Revision(life.cells.revision.incarnation, n), repeated=True
            )
        assert rig.write(Add("sum", "count", 1), id="b", op=installing.op(21), ops=1000).repeated
        assert rig.fields("b")["sum"] == {"count": 1020}

    # --------------------------------------------------------------------------------- lifetimes

    @promise(4)
    def test_what_is_over_is_not_installed(self, rig: Rig) -> None:
        """A life whose deadline has passed begins nothing: `Late`."""
        need(rig, Feature.WHOLE_LIVES)
        life = installing.made(rig.key("b"), 3, rig.now - 5 * rig.unit)
        over = replace(life, cells=replace(life.cells, deadline=rig.now - 0.001))
        assert rig.install(over) == [Late()]
        assert rig.read("b") is None
        stand(rig, life)
        newer = installing.made(rig.key("b"), 4, rig.now - 5 * rig.unit)
        assert rig.install(replace(newer, cells=replace(newer.cells, deadline=rig.now))) == [Late()]
        assert rig.stands("b").revision.number == 3

    @promise(4)
    def test_the_deadline_goes_on(self, rig: Rig) -> None:
        """It ends when it would have, and where it has ended another may be installed."""
        need(rig, Feature.WHOLE_LIVES)
        rig.write(Add("sum", "k", 1), ttl=2)
        life = replace(rig.life(), key=rig.key("b"))
        rig.wait(1)
        stand(rig, life)
        assert rig.fields("b") == {"sum": {"k": 1}}
        rig.wait(1.1)
        assert rig.read("b") is None, "it outlived its deadline"
        if Feature.SCAN in rig.driver.features:
            assert rig.ids() == []
        assert rig.install(life) == [Late()]
        other = installing.made(rig.key("b"), 2, rig.now - rig.unit)
        stand(rig, other)
        assert rig.fields("b")["sum"] == {"count": 2}

    @promise(4)
    def test_renewals_and_the_maximum_age_go_on(self, rig: Rig) -> None:
        """A read renews it, never beyond its age, which counts from when the life began elsewhere."""
        need(rig, Feature.WHOLE_LIVES)
        need_given_clock(rig)
        rig.write(Add("sum", "k", 1), ttl=4, max_age=10)
        born = rig.now
        rig.wait(2)
        stand(rig, replace(rig.life(), key=rig.key("b")))
        renew = Want(renew=(4 * rig.unit, 10 * rig.unit))
        rig.read("b", renew)
        assert rig.stands("b").deadline == pytest.approx(rig.now + 4 * rig.unit, abs=2e-6)
        rig.wait(3)
        rig.write(Add("sum", "k", 1), id="b", ttl=9, max_age=10)
        assert rig.stands("b").deadline == pytest.approx(born + 10 * rig.unit, abs=2e-6)
        assert rig.stands("b").created == pytest.approx(born, abs=2e-6)
        rig.wait(5)
        assert rig.read("b") is None

    @promise(4)
    def test_a_life_for_ever_stays(self, rig: Rig) -> None:
        """One without a deadline is installed as one; and one with a deadline over it ends."""
        need(rig, Feature.WHOLE_LIVES)
        rig.write(Add("sum", "k", 1), ttl=None)
        ever = replace(rig.life(), key=rig.key("b"))
        stand(rig, ever)
        assert rig.stands("b").deadline is None
        rig.write(Add("sum", "k", 1), ttl=2)
        ends = replace(rig.life(), key=rig.key("b"))
        stand(rig, ends)
        assert rig.stands("b").deadline == pytest.approx(ends.cells.deadline, abs=2e-6)
        if Feature.SCAN in rig.driver.features:
            assert rig.ids() == ["a", "b"]
        rig.wait(2.1)
        assert rig.read("b") is None

    # ----------------------------------------------------------------------------------- epochs

    @promise(7)
    def test_a_deposed_owner_installs_nothing(self, rig: Rig) -> None:
        """A life of a lower epoch than the key has seen is fenced off, whatever stands there."""
        need(rig, Feature.WHOLE_LIVES, Feature.EPOCH)
        rig.write(Add("sum", "k", 1), epoch=5)
        life = rig.life()
        stand(rig, replace(life, key=rig.key("b")))
        assert rig.try_(Add("sum", "k", 1), id="b", epoch=4) == FencedOff(5)
        rig.write(Add("sum", "k", 1), epoch=5)
        newer = replace(rig.life(), key=rig.key("b"))
        rig.write(Add("sum", "k", 9), id="b", epoch=6)
        assert rig.install(newer) == [FencedOff(6)]
        assert rig.fields("b") == {"sum": {"k": 10}}
        if not rig.has(Feature.CLAIM):
            return
        rig.erase("b", epoch=7)
        assert rig.install(newer) == [FencedOff(7)], "the fence went with the state"
        assert rig.read("b") is None
        claim = rig.try_(id="c", claim=900.0, epoch=6)
        assert isinstance(claim, Written)
        assert rig.install(replace(newer, key=rig.key("c"))) == [FencedOff(6)]

    @promise(7)
    def test_a_claim_since_is_newer(self, rig: Rig) -> None:
        """The same revision with a higher epoch takes the place of what stands, and deposes there."""
        need(rig, Feature.WHOLE_LIVES, Feature.EPOCH, Feature.CLAIM)
        rig.write(Add("sum", "k", 1), epoch=5)
        life = replace(rig.life(), key=rig.key("b"))
        stand(rig, life)
        rig.try_(claim=900.0, epoch=8)
        done = stand(rig, replace(rig.life(), key=rig.key("b")))
        assert not done.repeated
        assert rig.try_(Add("sum", "k", 1), id="b", epoch=5) == FencedOff(8)
        assert rig.install(life) == [FencedOff(8)], "an older one replaced it"
        assert rig.stands("b").epoch == 8

    @promise(7)
    def test_who_holds_the_epoch_holds_it_elsewhere(self, rig: Rig) -> None:
        """Until when it is held, and by which op id, goes along."""
        need(rig, Feature.WHOLE_LIVES, Feature.EPOCH, Feature.CLAIM)
        rig.write(Add("sum", "k", 1))
        given = rig.try_(claim=900.0, op="a lease")
        assert isinstance(given, Written)
        life = rig.life()
        assert life.held == pytest.approx(rig.now + 900.0, abs=5.0)
        stand(rig, replace(life, key=rig.key("b")))
        other = rig.try_(claim=900.0, op="another", id="b")
        assert isinstance(other, FencedOff), "given out although it is held"
        assert other.epoch == given.epoch
        assert other.left == pytest.approx(900.0, abs=5.0)
        again = rig.try_(claim=900.0, op="a lease", id="b")
        assert isinstance(again, Written)
        assert again.epoch == given.epoch, "who was given it is not known"
        rig.write(Add("sum", "k", 1), id="b", epoch=given.epoch)
        same(replace(rig.life("b"), cells=life.cells, held=life.held), life)

    # ------------------------------------------------------------------------------ the rest of it

    @promise(8)
    def test_an_installed_life_is_listed(self, rig: Rig) -> None:
        """It is found in its kind and by its subject, and no more by the subject that it had."""
        need(rig, Feature.WHOLE_LIVES, Feature.SCAN, Feature.SUBJECT)
        rig.write(Add("sum", "k", 1), subject="ann")
        stand(rig, replace(rig.life(), key=rig.key("b")))
        assert rig.ids(subject="ann") == ["a", "b"]
        rig.write(Add("sum", "k", 1), subject="bob")
        stand(rig, replace(rig.life(), key=rig.key("b")))
        assert rig.ids(subject="ann") == []
        assert rig.ids(subject="bob") == ["a", "b"]
        assert rig.ids() == ["a", "b"]
        rig.erase("b")
        assert rig.ids(subject="bob") == ["a"]
        assert rig.ids() == ["a"]

    @promise(13)
    def test_two_places_share_nothing(self, rig: Rig) -> None:
        """What is committed at one of them is not seen at the other."""
        need(rig, Feature.WHOLE_LIVES)
        rich(rig)
        life = rig.life()
        before = rig.fields()
        stand(rig, replace(life, key=rig.key("b")))
        items = life.cells.fields["log"]
        assert isinstance(items, Items)
        more = (
            Append("log", (b'"more"',), 9),
            Put("map", "k", b'"y"'),
            Add("sum", "half", 1),
            Splice("log", 9, at=items.first, items=(b'"?"',)),
        )
        rig.write(*more, id="b", **epoch(rig, 5))
        assert rig.fields() == before
        rig.write(*more, Append("log", (b'"other"',), 9), **epoch(rig, 5))
        assert len(rig.fields("b")["log"]) == 5
        assert life.cells.fields["sum"] == before["sum"]

    @promise(11)
    def test_half_a_life_is_not_served(self, rig: Rig) -> None:
        """Where a field cannot be read, the life is not taken for a whole one."""
        need(rig, Feature.WHOLE_LIVES)
        if rig.backend.corrupt is None:
            pytest.skip("the backend has no hook `corrupt`")
        rig.write(*RICH)
        rig.backend.corrupt(rig.key(), "log")
        with pytest.raises(Corrupted, match="log"):
            rig.lives("a")

    @promise(15)
    def test_many_lives_in_one_call(self, rig: Rig) -> None:
        """Each is answered in its place, those that are barred do not hinder the others."""
        need(rig, Feature.WHOLE_LIVES)
        lives = [installing.made(rig.key(f"n {n}"), n % 4 + 1, rig.now) for n in range(70)]
        stands = rig.write(Add("sum", "k", 1), id="n 7").revision
        lives[9] = replace(lives[9], cells=replace(lives[9].cells, deadline=rig.now - 1.0))
        outcomes = rig.install(*lives)
        assert outcomes[7] == Conflicted(stands)
        assert outcomes[9] == Late()
        for n, outcome in enumerate(outcomes):
            assert n in (7, 9) or isinstance(outcome, Written), f"life {n}: {outcome}"
        found = rig.lives(*(f"n {n}" for n in range(70)))
        assert found[9] is None
        for n, (one, life) in enumerate(zip(found, lives, strict=True)):
            if n not in (7, 9):
                assert one is not None
                same(one, life)

    # ---------------------------------------------------------------------- races and crashes

    @promise(3)
    @pytest.mark.parametrize("processes", [False, True], ids=["one-process", "processes"])
    def test_install_and_commit_at_once(self, rig: Rig, processes: bool) -> None:
        """Either the life is there first and commits go on from it, or a commit is, and it stays away."""
        need(rig, Feature.WHOLE_LIVES)
        if processes:
            need(rig, Feature.SHARED)
        installing.race(rig, lives=rounds(12), processes=processes)

    @promise(1)
    def test_killed_in_the_middle_of_installing(self, rig: Rig) -> None:
        """Killed, an installer leaves the life before or the one after, by whole."""
        need(rig, Feature.WHOLE_LIVES, Feature.DURABLE)
        installing.crash_and_check(rig, rounds=rounds(5))


def epoch(rig: Rig, number: int) -> dict[str, Any]:
    """The option, where there are epochs."""
    return {"epoch": number} if rig.has(Feature.EPOCH) else {}


def about(rig: Rig) -> dict[str, Any]:
    """The option, where there are subjects."""
    return {"subject": "ann"} if rig.has(Feature.SUBJECT) else {}


def rich(rig: Rig) -> WholeLife:
    """A life that has something of everything."""
    told = epoch(rig, 5) | about(rig)
    rig.write(*RICH, op=OPS[0], intent=7, max_age=20_000, **told)
    rig.write(Drop("trail"), op=OPS[1], max_age=20_000, **told)
    for op in OPS[2:]:
        rig.write(Add("sum", "half", 1), op=op, max_age=20_000, **told)
    rig.write(Put("once", "", b'"again"', if_absent=True), max_age=20_000, **told)
    return rig.life()


def stand(rig: Rig, life: WholeLife) -> Written:
    """Install a life, and insist that it stands."""
    outcome = rig.install(life)[0]
    assert isinstance(outcome, Written), f"a good life was not installed: {outcome}"
    assert outcome.revision == life.cells.revision
    return outcome


def same(found: WholeLife, life: WholeLife) -> None:
    """Insist that it is the same life, under whatever key."""
    same_cells(found.cells, life.cells)
    assert list(map(told, found.ops)) == list(map(told, life.ops)), "its op ids are others"
    for one, other in zip(found.ops, life.ops, strict=True):
        assert one.at == pytest.approx(other.at, abs=1.5e-3), f"another time of {one.op}"
    assert found.forgotten >= life.forgotten - 1.5e-3, "it knows what it has forgotten"
    assert (found.held == -math.inf) is (life.held == -math.inf), "nobody holds its epoch"
    assert found.claim in (life.claim, digest_of(life.claim or " ")), "another holds its epoch"


def same_cells(found: Cells, cells: Cells) -> None:
    """Insist that a reader finds the same."""
    for name in ("revision", "epoch", "subject", "corrupted"):
        assert getattr(found, name) == getattr(cells, name), f"{name} differs"
    for name in ("created", "updated", "deadline"):
        assert getattr(found, name) == pytest.approx(getattr(cells, name), abs=2e-6), name
    there = {
        name: cell for name, cell in found.fields.items() if cell or getattr(cell, "first", 1) > 1
    }
    fields = {
        name: cell for name, cell in cells.fields.items() if cell or getattr(cell, "first", 1) > 1
    }
    assert there == fields
    for name, cell in fields.items():
        positions = getattr(there[name], "first", 0)
        assert positions == getattr(cell, "first", 0), f"{name} has other positions"


def told(one: Op) -> tuple[str, int, int]:
    """An op id but for its time."""
    return digest_of(one.op), one.number, one.intent
