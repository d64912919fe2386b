"""Promises 4, 6 and 12: how a state ends, and that the next one is another."""

from __future__ import annotations

from typing import Any

import pytest

from statehold.changes import Accumulate, Add, Append, Put
from statehold.commits import ABSENT, EVERYTHING, PRESENT, Revision, Want
from statehold.driver import Conflicted, Feature, Written
from statehold.testing.conformance.base import Cases, need, need_given_clock
from statehold.testing.conformance.commits import ONE_OF_EACH
from statehold.testing.naive import array
from statehold.testing.promises import promise
from statehold.testing.rig import Rig, plain

DAY = 86_400.0


class Lifetimes(Cases):
    """How a state ends, and that the next one is another."""

    # ------------------------------------------------------------------------- 4: expiry

    @promise(4)
    def test_a_state_lives_exactly_until_its_deadline(self, rig: Rig) -> None:
        """Just before `now + ttl` the state is there; at that instant it is absent."""
        need_given_clock(rig)
        rig.write(Put("note", "", b'"x"'), ttl=2)
        cells = rig.stands()
        assert cells.deadline == rig.now + 2 * rig.unit
        assert (cells.created, cells.updated, cells.skew) == (rig.now, rig.now, 0.0)
        rig.wait(2 - 2**-10)
        assert rig.read() is not None, "a state was gone before its deadline"
        rig.wait(2**-10)
        assert rig.read() is None, "a state was served at its deadline"

    @promise(4)
    def test_an_expired_state_is_absent_to_everything(self, rig: Rig) -> None:
        """Read, scan, find and `expect` all take an expired state for absent."""
        with_subject = {"subject": "ann"} if rig.has(Feature.SUBJECT) else {}
        first = rig.write(*ONE_OF_EACH, ttl=2, **with_subject)
        rig.write(Put("note", "", b'"x"'), id="other", **with_subject)
        rig.wait(2.5)
        assert rig.read() is None
        assert rig.read(want=Want(fields=())) is None
        if rig.has(Feature.SCAN):
            assert rig.ids() == ["other"]
        if rig.has(Feature.SUBJECT):
            assert rig.ids(subject="ann") == ["other"]
        if rig.has(Feature.EXPECT):
            for expect in (PRESENT, first.revision):
                outcome = rig.try_(Add("sum", "k", 1), expect=expect)
                assert outcome == Conflicted(ABSENT), f"expired, and still expected: {outcome}"
            rig.write(Add("sum", "k", 1), expect=ABSENT)

    @promise(4)
    def test_a_commit_after_expiry_starts_afresh(self, rig: Rig) -> None:
        """The next life has nothing of the old one: no cells, subject, creation."""
        options: dict[str, Any] = {"epoch": 5} if rig.has(Feature.EPOCH) else {}
        if rig.has(Feature.SUBJECT):
            options["subject"] = "ann"
        rig.write(*ONE_OF_EACH, op="op 1", ttl=2, **options)
        born = rig.stands().created
        rig.wait(2.5)
        options.pop("subject", None)  # but not the epoch, which may outlive it
        again = rig.write(Add("sum", "k", 1), Append("log", (b'"new"',), 9), op="op 2", **options)
        assert again.revision.number == 1
        assert rig.fields() == {"sum": {"k": 1}, "log": [b'"new"']}
        cells = rig.stands()
        assert (cells.epoch, cells.subject) == (options.get("epoch", 0), None)
        assert cells.created >= born + 2 * rig.unit
        if rig.has(Feature.SUBJECT):
            assert rig.ids(subject="ann") == []

    @promise(4)
    def test_a_late_commit_never_resurrects(self, rig: Rig) -> None:
        """A writer that read the state before it expired cannot bring it back."""
        need(rig, Feature.EXPECT)
        seen = rig.write(Put("note", "", b'"secret"'), ttl=2).revision
        rig.wait(2.5)
        assert rig.try_(Add("sum", "k", 1), expect=seen) == Conflicted(ABSENT)
        assert rig.read() is None
        rig.write(Add("sum", "k", 1))
        assert rig.fields() == {"sum": {"k": 1}}, "a late commit brought an expired state back"
        assert rig.erase(expect=seen) == Conflicted(rig.stands().revision)

    @promise(4)
    def test_expiry_does_not_depend_on_sweeping(self, rig: Rig) -> None:
        """Whether or not the store has tidied up meanwhile, expired states stay absent."""
        for n in range(30):
            rig.write(Append("log", (b'"x"',), 5), id=f"old {n}", ttl=1 + n % 3)
        rig.wait(4)
        for n in range(60):
            rig.write(Add("sum", "k", 1), id=f"new {n % 20}")
        assert rig.read_many([f"old {n}" for n in range(30)]) == [None] * 30
        for n in range(30):
            rig.write(Add("sum", "k", 1), id=f"old {n}")
            assert rig.fields(f"old {n}") == {"sum": {"k": 1}}

    @promise(4)
    def test_writing_renews(self, rig: Rig) -> None:
        """Each commit moves the deadline to its own `now + ttl`; a refused or repeated one does not."""
        need_given_clock(rig)
        rig.write(Add("sum", "k", 1), ttl=4, op="op 1")
        rig.wait(3)
        rig.write(Add("sum", "k", 1), ttl=4)
        until = rig.now + 4 * rig.unit
        assert rig.stands().deadline == until
        rig.wait(1)
        rig.write(Add("sum", "k", 1), ttl=4, op="op 1")
        rig.try_(Put("map", "k", b'"x"', bound=0), ttl=4)
        rig.read()
        assert rig.stands().deadline == until, "the deadline moved without a commit or a renewal"
        rig.write(ttl=1)
        assert rig.stands().deadline == rig.now + 1 * rig.unit
        rig.write(ttl=None)
        assert rig.stands().deadline is None

    @promise(4)
    def test_a_commit_that_ends_its_life_shows_what_it_left(self, rig: Rig) -> None:
        """With a `max_age` that is over already a commit stands, and returns what it made; then that is gone."""
        need(rig, Feature.RETURNING)
        first = rig.write(Add("sum", "k", 5), Append("log", (b'"x"',), 9), op="op 1")
        rig.wait(2)
        last = Add("sum", "k", 1), Append("log", (b'"y"',), 9)
        options = {"op": "op 2", "max_age": 1, "returning": EVERYTHING}
        written = rig.write(*last, **options)
        assert written.revision == Revision(first.revision.incarnation, 2)
        assert written.returned is not None, "what a commit has made is not there"
        assert plain(written.returned) == {"sum": {"k": 6}, "log": [b'"x"', b'"y"']}
        assert written.returned.revision == written.revision
        assert rig.read() is None

    @promise(4)
    def test_writing_keeps_alive(self, rig: Rig) -> None:
        """A state that is written to more often than its ttl lives on, with all that it holds."""
        rig.write(*ONE_OF_EACH, ttl=6)
        held = rig.fields()
        for _ in range(3):
            rig.wait(4)
            rig.write(ttl=6)
        assert rig.fields() == held

    @promise(4)
    def test_a_read_may_renew(self, rig: Rig) -> None:
        """A read with `renew` moves the deadline and nothing else."""
        before = rig.write(Add("sum", "k", 1), ttl=6).revision
        renew = Want(renew=(6 * rig.unit, None))
        for _ in range(3):
            rig.wait(4)
            cells = rig.read(want=renew)
            assert cells is not None, "a state was gone although reads renewed it"
            assert cells.revision == before, "a renewal is no commit"
            if rig.exact:
                assert cells.deadline == rig.now + 6 * rig.unit
        rig.wait(6.5)
        assert rig.read() is None

    @promise(4)
    def test_a_renewing_read_never_resurrects(self, rig: Rig) -> None:
        """A read that would renew finds an expired state absent, and leaves it so."""
        rig.write(Add("sum", "k", 1), ttl=2)
        rig.wait(2.5)
        for _ in range(2):
            assert rig.read(want=Want(renew=(9 * rig.unit, None))) is None
        assert rig.read() is None

    @promise(4)
    def test_max_age_is_a_deadline_that_nothing_moves(self, rig: Rig) -> None:
        """With a `max_age`, neither writing nor renewing keeps a state beyond its creation + max age."""
        rig.write(Add("sum", "k", 1), ttl=6, max_age=10)
        rig.wait(4)
        rig.write(Add("sum", "k", 1), ttl=6, max_age=10)
        rig.wait(4)
        cells = rig.read(want=Want(renew=(6 * rig.unit, 10 * rig.unit)))
        assert cells is not None
        if rig.exact:
            assert cells.deadline == cells.created + 10 * rig.unit
        rig.wait(2.5)
        assert rig.read() is None, "a state outlived its max age"

    @promise(4)
    def test_no_ttl_means_never(self, rig: Rig) -> None:
        """A state with `ttl=None` has no deadline, and is there a hundred years later."""
        rig.write(Add("sum", "k", 1), ttl=None)
        assert rig.stands().deadline is None
        if rig.exact:
            rig.wait(36_500 * DAY / rig.unit)
        assert rig.fields() == {"sum": {"k": 1}}

    @promise(4)
    @pytest.mark.parametrize("days", [1, 2, 45, 400])
    def test_long_lives_are_not_cut(self, rig: Rig, days: int) -> None:
        """A ttl of days is those days, not what is left over after whole ones."""
        rig.write(Add("sum", "k", 1), ttl=(days * DAY + 90) / rig.unit)
        until = rig.stands().deadline
        assert until is not None
        assert abs(until - rig.now - days * DAY - 90) < 5
        if rig.exact:
            rig.wait(days * DAY / rig.unit)
            assert rig.read() is not None
            rig.wait(90 / rig.unit)
            assert rig.read() is None

    @promise(4)
    def test_deadlines_survive_reopening(self, rig: Rig) -> None:
        """A state does not live longer because the process that wrote it ended."""
        need(rig, Feature.DURABLE)
        rig.write(Add("sum", "k", 1), ttl=4)
        until = rig.stands().deadline
        rig.reopen()
        assert rig.stands().deadline == until
        rig.wait(4.5)
        rig.reopen()
        assert rig.read() is None

    # ---------------------------------------------------------------------- 6: revisions

    @promise(6)
    def test_revisions_count_commits_from_one(self, rig: Rig) -> None:
        """Each commit that stands is the next number, also one that changes nothing."""
        first = rig.write(Put("once", "k", b'"x"', if_absent=True)).revision
        assert first.incarnation != 0
        assert first.number == 1
        for number in (2, 3, 4):
            again = rig.write(Put("once", "k", b'"y"', if_absent=True)).revision
            assert again == Revision(first.incarnation, number)
        rig.write()
        assert rig.stands().revision == Revision(first.incarnation, 5)

    @promise(6)
    def test_a_commit_without_changes_makes_the_state(self, rig: Rig) -> None:
        """An empty commit to an absent state makes it exist."""
        assert rig.write().revision.number == 1
        assert rig.fields() == {}

    @promise(6)
    def test_a_revision_never_comes_back_after_delete(self, rig: Rig) -> None:
        """After a delete the next life is a new incarnation, and an old revision never matches."""
        need(rig, Feature.EXPECT)
        old = [rig.write(Add("sum", "k", 1)).revision for _ in range(3)]
        rig.erase()
        new = [rig.write(Add("sum", "k", 1)).revision for _ in range(3)]
        assert new[0].incarnation != old[0].incarnation, "an incarnation came back after a delete"
        for revision in old:
            assert rig.try_(Add("sum", "k", 9), expect=revision) == Conflicted(new[-1])
        assert rig.fields() == {"sum": {"k": 3}}

    @promise(6)
    def test_a_revision_never_comes_back_after_expiry(self, rig: Rig) -> None:
        """After expiry the next life is a new incarnation, and an old revision never matches."""
        need(rig, Feature.EXPECT)
        old = rig.write(Add("sum", "k", 1), ttl=2).revision
        rig.wait(2.5)
        new = rig.write(Add("sum", "k", 1)).revision
        assert new.incarnation != old.incarnation, "an incarnation came back after expiry"
        assert rig.try_(Add("sum", "k", 9), expect=old) == Conflicted(new)

    @promise(6)
    def test_many_lives_have_many_incarnations(self, rig: Rig) -> None:
        """Lives that begin and end within one instant, or one batch, are told apart."""
        seen: list[int] = []
        for _ in range(20):
            first, gone, second, gone_too = rig.send(
                rig.commit(Add("sum", "k", 1)),
                rig.commit(erase=True),
                rig.commit(Add("sum", "k", 1)),
                rig.commit(erase=True),
            )
            assert isinstance(first, Written)
            assert isinstance(second, Written)
            assert isinstance(gone, Written)
            assert isinstance(gone_too, Written)
            assert (gone.revision, gone_too.revision) == (first.revision, second.revision)
            seen += [first.revision.incarnation, second.revision.incarnation]
        seen.append(rig.write(id="b").revision.incarnation)
        assert len(set(seen)) == len(seen), "an incarnation came back"

    # ------------------------------------------------------------------------ 12: delete

    @promise(12)
    def test_delete_deletes_all(self, rig: Rig) -> None:
        """After a delete nothing is left: cells, lists, subject, creation."""
        options: dict[str, Any] = {"epoch": 5} if rig.has(Feature.EPOCH) else {}
        found = {"subject": "ann"} if rig.has(Feature.SUBJECT) else {}
        for n in range(12):
            rig.write(*ONE_OF_EACH, op=f"op {n}", **options, **found)
        stood = rig.stands().revision
        outcome = rig.erase(**options)
        assert isinstance(outcome, Written)
        assert outcome.revision == stood, "an erase answers with the revision that it erased"
        assert rig.read() is None
        if rig.has(Feature.SCAN):
            assert rig.ids() == []
        if rig.has(Feature.SUBJECT):
            assert rig.ids(subject="ann") == []
        rig.wait(0.5)
        for n in range(12):
            changes = (Add("sum", "k", 1), Append("log", (b'"z"',), 99))
            # The epoch may outlive it.
            rig.write(*changes, Accumulate("array", "k", array(1.0)), op=f"new {n}", **options)
        assert rig.fields() == {
            "sum": {"k": 12},
            "log": [b'"z"'] * 12,
            "array": {"k": array(12.0)},
        }
        cells = rig.stands()
        assert (cells.epoch, cells.subject) == (options.get("epoch", 0), None)
        if rig.exact:
            assert cells.created == rig.now

    @promise(12)
    def test_deleting_what_is_absent_is_fine(self, rig: Rig) -> None:
        """Deleting an absent, deleted or expired state is written, with nothing erased."""
        assert rig.erase() == Written(ABSENT)
        rig.write(*ONE_OF_EACH, ttl=2)
        rig.wait(2.5)
        assert rig.erase() == Written(ABSENT)
        rig.write(*ONE_OF_EACH)
        rig.erase()
        assert rig.erase() == Written(ABSENT)

    @promise(12)
    def test_a_delete_may_be_conditional(self, rig: Rig) -> None:
        """`expect` holds for a delete as for any commit; a delete in conflict deletes nothing."""
        need(rig, Feature.EXPECT)
        assert rig.erase(expect=PRESENT) == Conflicted(ABSENT)
        old = rig.write(Add("sum", "k", 1)).revision
        new = rig.write(Add("sum", "k", 1)).revision
        assert rig.erase(expect=old) == Conflicted(new)
        assert rig.erase(expect=ABSENT) == Conflicted(new)
        assert rig.fields() == {"sum": {"k": 2}}
        assert rig.erase(expect=new) == Written(new)
        assert rig.read() is None

    @promise(12)
    def test_delete_is_seen_by_others(self, rig: Rig) -> None:
        """What one process deletes is gone for all of them."""
        need(rig, Feature.SHARED)
        rig.write(*ONE_OF_EACH)
        other = rig.another()
        assert other.read() is not None
        rig.erase()
        assert other.read() is None

    @promise(12)
    def test_delete_survives_reopening(self, rig: Rig) -> None:
        """What was deleted does not come back with a restart."""
        need(rig, Feature.DURABLE)
        rig.write(*ONE_OF_EACH)
        rig.erase()
        rig.reopen()
        assert rig.read() is None
