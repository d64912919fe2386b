"""Promise 3, and 1 and 2 under fire: racing writers, killed writers, and the machine."""

from __future__ import annotations

from typing import Any

import pytest

from statehold.changes import Add, Append
from statehold.commits import ABSENT, PRESENT, Revision
from statehold.driver import Conflicted, Driver, Feature
from statehold.testing.backend import Backend, cook, rounds
from statehold.testing.conformance.base import Cases, need
from statehold.testing.crash import crash_and_check
from statehold.testing.promises import promise
from statehold.testing.racing import race
from statehold.testing.rig import Rig


class Races(Cases):
    """Racing writers, killed writers, and the machine."""

    @promise(3)
    @pytest.mark.parametrize("still", [True, False], ids=["equal-timestamps", "moving-clock"])
    def test_racing_writers_lose_nothing(self, rig: Rig, still: bool) -> None:
        """Concurrent writers in one process leave every addition and every item, in their order."""
        race(rig, writers=6, commits=rounds(40), processes=False, still=still)

    @promise(3)
    def test_one_winner_for_each_revision(self, rig: Rig) -> None:
        """Concurrent writers in one process with `expect`: each revision has exactly one winner."""
        need(rig, Feature.EXPECT)
        race(rig, writers=4, commits=rounds(15), processes=False, expect=True)

    @promise(3)
    @pytest.mark.parametrize("still", [True, False], ids=["equal-timestamps", "moving-clock"])
    def test_racing_processes_lose_nothing(self, rig: Rig, still: bool) -> None:
        """Writers in several processes leave every addition and every item, in their order."""
        need(rig, Feature.SHARED)
        race(rig, writers=3, commits=rounds(60), processes=True, still=still)

    @promise(3)
    def test_one_winner_among_processes(self, rig: Rig) -> None:
        """Processes with `expect` on one key: each revision has exactly one winner."""
        need(rig, Feature.SHARED, Feature.EXPECT)
        race(rig, writers=3, commits=rounds(20), processes=True, expect=True)

    @promise(3)
    def test_the_loser_writes_nothing(self, rig: Rig) -> None:
        """Of two writers that saw the same revision the second gets the conflict, and no trace."""
        need(rig, Feature.EXPECT)
        seen = rig.write(Add("sum", "k", 1)).revision
        won = rig.write(Add("sum", "k", 10), expect=seen).revision
        outcome = rig.try_(
            Add("sum", "k", 100), Append("log", (b'"x"',), 9), expect=seen, op="op 1"
        )
        assert outcome == Conflicted(won), f"the loser was not told: {outcome}"
        assert rig.fields() == {"sum": {"k": 11}}
        assert rig.stands().revision == won

    @promise(3)
    def test_expect_is_exact(self, rig: Rig) -> None:
        """`ABSENT`, `PRESENT` and a revision each hold when they are so, and never else."""
        need(rig, Feature.EXPECT)
        assert rig.try_(expect=PRESENT) == Conflicted(ABSENT)
        assert rig.try_(expect=Revision(7, 1)) == Conflicted(ABSENT)
        first = rig.write(expect=ABSENT).revision
        assert rig.try_(expect=ABSENT) == Conflicted(first)
        second = rig.write(expect=PRESENT).revision
        assert rig.try_(expect=first) == Conflicted(second)
        other = Revision(second.incarnation ^ 1, second.number)
        assert rig.try_(expect=other) == Conflicted(second)
        later = Revision(second.incarnation, second.number + 1)
        assert rig.try_(expect=later) == Conflicted(second)
        rig.write(expect=second)

    @promise(3)
    def test_expect_within_a_batch(self, rig: Rig) -> None:
        """Of two commits of one batch on condition of the same revision, the first wins."""
        need(rig, Feature.EXPECT)
        commits = [rig.commit(Add("sum", "k", n), expect=ABSENT) for n in (1, 10)]
        won, lost = rig.send(*commits)
        assert lost == Conflicted(getattr(won, "revision", ABSENT))
        assert rig.fields() == {"sum": {"k": 1}}

    @promise(3)
    def test_drivers_on_the_same_data_see_each_other(self, rig: Rig) -> None:
        """What one driver has written another one reads, and changes, at once."""
        need(rig, Feature.SHARED)
        other = rig.another()
        for n in range(10):
            rig.write(Add("sum", "k", 1), Append("log", (b"%d" % n,), 99))
            assert other.fields()["sum"] == {"k": 2 * n + 1}
            other.write(Add("sum", "k", 1), Append("log", (b"-%d" % n,), 99))
            assert rig.fields()["sum"] == {"k": 2 * n + 2}

    @promise(3)
    def test_acknowledged_commits_survive_reopening(self, rig: Rig) -> None:
        """What was acknowledged is there after the driver is closed and opened again."""
        need(rig, Feature.DURABLE)
        held: list[Any] = []
        for n in range(10):
            rig.write(Add("sum", "k", n), Append("log", (b"%d" % n,), 99))
            held.append((rig.fields(), rig.stands().revision))
            rig.reopen()
            assert (rig.fields(), rig.stands().revision) == held[-1]

    @promise(1)
    def test_killed_writers_leave_whole_commits(self, rig: Rig) -> None:
        """Killed while it commits, a writer leaves all that was acknowledged, and nothing half."""
        need(rig, Feature.DURABLE)
        crash_and_check(rig, rounds=rounds(6))

    @promise(2)
    def test_driver_and_model_agree(self, backend: Backend) -> None:
        """Whatever is done to it in whatever order, the driver answers as a plain model does."""
        from statehold.testing import stateful

        stateful.run(backend)

    @promise(14)
    def test_the_place_can_prove_what_is_declared(self, rig: Rig) -> None:
        """A driver that declares `SHARED` or `DURABLE` has a recipe, which makes that driver."""
        assert rig.driver.features <= set(Feature), "features are those of `Feature`"
        if not (rig.has(Feature.SHARED) or rig.has(Feature.DURABLE)):
            pytest.skip("the driver declares neither SHARED nor DURABLE")
        assert rig.backend.recipe, "a driver that is SHARED or DURABLE needs `Backend.recipe`"
        rig.write(Add("sum", "k", 1))
        backend, rest = rig.backend, rig
        if not rig.has(Feature.SHARED):
            rig.run.close()

        def make() -> Driver:
            assert backend.recipe
            return cook(backend.recipe, backend.arguments)

        cooked = Rig(Backend(make), like=rest)
        try:
            assert cooked.fields() == {"sum": {"k": 1}}, "the recipe opens other data"
        finally:
            cooked.close()
