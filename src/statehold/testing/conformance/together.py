"""Promises 1 to 3 for commits to several states, which all stand or none does."""

from __future__ import annotations

from typing import Any

import pytest

from statehold.changes import Add, Append, Put
from statehold.commits import ABSENT, PRESENT, Commit, Key, Revision, Want
from statehold.driver import (
    Conflicted,
    Doubtful,
    Feature,
    FencedOff,
    Late,
    Outcome,
    Refused,
    Reused,
    Undone,
    Written,
)
from statehold.testing.backend import rounds
from statehold.testing.conformance.base import Cases, need, need_given_clock
from statehold.testing.promises import promise
from statehold.testing.rig import Rig
from statehold.testing.transfers import crash_and_check, look, race

OTHER = "basket:other"
"""Another kind, for which a place may have another table, file or server."""


def move(rig: Rig, amount: float, *keys: str, **options: Any) -> list[Commit]:
    """So much of the first state's goes to the second; each keeps a line of it."""
    line = f'"{amount:g}"'.encode()
    return [
        rig.commit(Add("sum", "k", share), Append("log", (line,), 9), id=id, **options)
        for id, share in zip(keys, (-amount, amount), strict=True)
    ]


def stand(outcomes: list[Outcome]) -> list[Written]:
    """Insist that all stand."""
    found = [one for one in outcomes if isinstance(one, Written)]
    assert len(found) == len(outcomes), f"good commits were not written: {outcomes}"
    return found


class CommitsTogether(Cases):
    """Commits to several states that stand or fall together."""

    @promise(1)
    def test_together_all_stand(self, rig: Rig) -> None:
        """Commits to states of two kinds, one of them new, are all written, each as the next of its state."""
        need(rig, Feature.TOGETHER)
        rig.open_kind(OTHER)
        first = rig.write(Add("sum", "k", 10)).revision
        far = rig.key("a", kind=OTHER)
        written = stand(
            rig.send_together(
                rig.commit(Put("note", "", b'"x"'), id="b"),
                rig.commit(Add("sum", "k", -3)),
                rig.commit(Add("sum", "k", 3), Append("log", (b'"y"',), 9), id=far),
            )
        )
        assert not any(one.repeated for one in written)
        assert rig.fields() == {"sum": {"k": 7}}
        assert rig.fields("b") == {"note": {"": b'"x"'}}
        assert rig.fields(far) == {"sum": {"k": 3}, "log": [b'"y"']}
        assert written[1].revision == Revision(first.incarnation, 2)
        ids: list[str | Key] = ["b", "a", far]
        for one, id in zip(written, ids, strict=True):
            assert rig.stands(id).revision == one.revision, "a revision that does not stand"

    @promise(1)
    @pytest.mark.parametrize("place", [0, 1, 2])
    @pytest.mark.parametrize("what", ["expect", "epoch", "bound", "late", "reused"])
    def test_if_one_is_barred_none_is_written(self, rig: Rig, what: str, place: int) -> None:
        """Whichever is barred, and why: it is told, the others are undone, and nothing is left of any."""
        need(rig, Feature.TOGETHER)
        rig.write(Add("sum", "k", 10), Append("log", (b'"first"',), 9), op="op 1")
        rig.write(Add("sum", "k", 20), id="c")
        good: list[Commit] = [
            rig.commit(Add("sum", "k", -3), Append("log", (b'"no"',), 1), op="op 2"),
            rig.commit(Put("note", "", b'"no"'), id="b", op="op 2"),
            rig.commit(erase=True, ttl=None, id="c", op="op 2"),
        ]
        bad, expected = self._bad(rig, what)
        group = [*good[:place], bad, *good[place:]]
        outcomes = rig.send_together(*group)
        assert isinstance(outcomes[place], expected), f"barred by {what}: {outcomes[place]}"
        others = [one for nth, one in enumerate(outcomes) if nth != place]
        assert others == [Undone()] * 3, f"undone because of another: {others}"
        assert rig.fields() == {"sum": {"k": 10}, "log": [b'"first"']}
        assert rig.stands().revision.number == 1
        assert rig.read("b") is None, "a state was left that was undone"
        assert rig.fields("c") == {"sum": {"k": 20}}, "an erasure was not undone"
        written = stand(rig.send_together(*good))
        assert not any(one.repeated for one in written), "what was undone was taken for applied"
        assert rig.fields() == {"sum": {"k": 7}, "log": [b'"no"']}
        assert rig.read("c") is None

    def _bad(self, rig: Rig, what: str) -> tuple[Commit, type]:
        """A commit to another state that is barred, and what it is told."""
        change = Add("sum", "k", 1)
        if what == "expect":
            need(rig, Feature.EXPECT)
            return rig.commit(change, id="d", expect=PRESENT), Conflicted
        if what == "epoch":
            need(rig, Feature.EPOCH)
            rig.write(change, id="d", epoch=5)
            return rig.commit(change, id="d", epoch=4), FencedOff
        if what == "bound":
            rig.write(Put("map", "k", b'"x"'), id="d")
            full = Put("map", "other", b'"x"', bound=1)
            return rig.commit(change, full, id="d"), Refused
        if what == "late":
            return rig.commit(change, id="d", until=rig.now - 60.0), Late
        rig.write(change, id="d", op="op 7", intent=1)
        return rig.commit(change, id="d", op="op 7", intent=2), Reused

    @promise(1)
    def test_each_that_is_barred_is_told(self, rig: Rig) -> None:
        """Where several are barred each is told by what: that it is at another revision, and at which."""
        need(rig, Feature.TOGETHER, Feature.EXPECT)
        stands = rig.write(Add("sum", "k", 1)).revision
        outcomes = rig.send_together(
            rig.commit(Add("sum", "k", 1), expect=ABSENT),
            rig.commit(Add("sum", "k", 1), id="b"),
            rig.commit(Add("sum", "k", 1), id="c", expect=stands),
        )
        assert outcomes == [Conflicted(stands), Undone(), Conflicted(ABSENT)]

    @promise(2)
    def test_together_twice_has_one_effect(self, rig: Rig) -> None:
        """Sent again with the same op ids, all answer with their first revisions, and add nothing."""
        need(rig, Feature.TOGETHER)
        group = move(rig, 3, "a", "b", op="op 1")
        first = stand(rig.send_together(*group))
        rig.write(Add("sum", "k", 100), op="op 2")
        again = stand(rig.send_together(*group))
        assert [one.revision for one in again] == [one.revision for one in first]
        assert all(one.repeated for one in again), "a repetition must say that it is one"
        assert rig.fields()["sum"] == {"k": 97}
        assert rig.fields("b")["sum"] == {"k": 3}
        if rig.has(Feature.DURABLE):
            rig.reopen()
            assert all(one.repeated for one in stand(rig.send_together(*group)))

    @promise(2)
    def test_together_where_one_has_forgotten(self, rig: Rig) -> None:
        """Where one state knows the op id and another does not, nothing is written: that one is doubtful."""
        need(rig, Feature.TOGETHER)
        group = [
            *move(rig, 3, "a", "b", op="op 1"),
            rig.commit(Add("sum", "k", 1), id="c", op="op 1"),
        ]
        first = stand(rig.send_together(*group))
        rig.erase("b")
        outcomes = rig.send_together(*group)
        assert isinstance(outcomes[0], Written)
        assert (outcomes[0].revision, outcomes[0].repeated) == (first[0].revision, True)
        assert outcomes[1] == Doubtful() or outcomes[1] == Written(first[1].revision, None, True)
        assert isinstance(outcomes[2], Written)
        assert rig.read("b") is None, "a repetition has begun a life"
        assert rig.fields()["sum"] == {"k": -3}

    @promise(2)
    def test_together_erasures_repeat(self, rig: Rig) -> None:
        """An erasure and a commit that stood together are both known again."""
        need(rig, Feature.TOGETHER, Feature.ERASE_ONCE)
        erased = rig.write(Add("sum", "k", 1)).revision
        group = [
            rig.commit(erase=True, ttl=None, op="op 1"),
            rig.commit(Add("sum", "k", 1), id="b", op="op 1"),
        ]
        first = stand(rig.send_together(*group))
        assert first[0].revision == erased
        assert rig.read() is None
        rig.write(Add("sum", "k", 50))
        again = stand(rig.send_together(*group))
        assert [(one.revision, one.repeated) for one in again] == [
            (one.revision, True) for one in first
        ]
        assert rig.fields() == {"sum": {"k": 50}}, "a repeated erasure took the next life"
        assert rig.fields("b") == {"sum": {"k": 1}}

    @promise(1)
    def test_together_returns_what_was_asked_for(self, rig: Rig) -> None:
        """Each returns the cells as they stand after all of them."""
        need(rig, Feature.TOGETHER, Feature.RETURNING)
        rig.write(Add("sum", "k", 1), Put("note", "", b'"x"'), id="b")
        group = [
            rig.commit(Add("sum", "k", 2), id=id, op="op 1", returning=Want(fields=("sum",)))
            for id in ("a", "b")
        ]
        for _ in range(2):
            shown = [one.returned for one in stand(rig.send_together(*group))]
            assert [cells and cells.fields for cells in shown] == [
                {"sum": {"k": 2}},
                {"sum": {"k": 3}},
            ]

    @promise(4)
    def test_together_never_resurrects(self, rig: Rig) -> None:
        """To a state that has expired it is the first commit of a new life, or undone."""
        need(rig, Feature.TOGETHER)
        need_given_clock(rig)
        old = rig.write(Add("sum", "k", 100), Put("note", "", b'"old"'), ttl=1.0).revision
        rig.wait(1.0)
        if rig.has(Feature.EXPECT):
            barred = rig.commit(Add("sum", "k", 1), id="b", expect=PRESENT)
            outcomes = rig.send_together(rig.commit(Add("sum", "k", 1)), barred)
            assert outcomes == [Undone(), Conflicted(ABSENT)]
            assert rig.read() is None
        written = stand(rig.send_together(*move(rig, 3, "a", "b")))
        assert written[0].revision.incarnation != old.incarnation
        assert written[0].revision.number == 1
        assert rig.fields() == {"sum": {"k": -3}, "log": [b'"3"']}

    @promise(1)
    @pytest.mark.parametrize("what", ["epoch", "op id"])
    def test_together_what_an_expired_state_saw_counts(self, rig: Rig, what: str) -> None:
        """What an expired state saw of epochs and op ids, unlooked at since its end, bars all of the commits."""
        need(rig, Feature.TOGETHER)
        if what == "epoch":
            need(rig, Feature.EPOCH, Feature.CLAIM)
        epoch, sent = 5 if what == "epoch" else 0, rig.now
        rig.wait(0.5)
        rig.write(Add("sum", "k", 100), id="over", op="op 1", ttl=1, epoch=epoch)
        rig.wait(1.0 if rig.exact else 1.2)  # at that instant nothing has been swept yet
        good = rig.commit(Add("sum", "k", 1), id="b", op="op 2")
        if what == "epoch":
            late = rig.commit(Add("sum", "k", 1), id="over", epoch=4)
            assert rig.send_together(good, late) == [Undone(), FencedOff(5)]
        else:
            late = rig.commit(Add("sum", "k", 100), id="over", op="op 1", since=sent)
            first, second = rig.send_together(good, late)
            repeated = (
                isinstance(second, Written) and second.repeated
            )  # it is remembered for longer
            assert repeated or second == Doubtful(), f"a commit that was applied already: {second}"
            assert first == (Doubtful() if repeated else Undone()), f"without the other: {first}"
        assert rig.read("over") is None
        assert rig.read("b") is None, "a commit stands alone that was to stand with another"

    @promise(1)
    def test_who_sees_one_sees_the_others(self, rig: Rig) -> None:
        """While a writer commits to two states together, nobody reads one new and then the other old."""
        need(rig, Feature.TOGETHER)
        look(rig, commits=rounds(40))

    @promise(3)
    @pytest.mark.parametrize("processes", [False, True], ids=["one-process", "processes"])
    def test_racing_transfers_keep_the_sum(self, rig: Rig, processes: bool) -> None:
        """Writers that move amounts between states, in any order of these, leave the sum as it was."""
        need(rig, Feature.TOGETHER)
        if processes:
            need(rig, Feature.SHARED)
        race(rig, writers=4, transfers=rounds(25), processes=processes)

    @promise(1)
    def test_killed_transfers_leave_both_or_none(self, rig: Rig) -> None:
        """Killed between two states, a writer leaves what was acknowledged in both, and no half transfer."""
        need(rig, Feature.TOGETHER, Feature.DURABLE)
        crash_and_check(rig, rounds=rounds(5))
