"""Commits to several states through the async and the sync API."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from statehold.commits import ABSENT, PRESENT
from statehold.driver import Driver, Feature
from statehold.errors import Conflict, InDoubt, Invalid, Reused, TooLarge, Unavailable
from statehold.fields import Counter, Log
from statehold.state import State
from statehold.testing.commits import TTL
from statehold.testing.conformance.face_cases import FaceCases, OpenFace, need
from statehold.testing.face import Face
from statehold.testing.faults import FaultyDriver
from statehold.testing.promises import promise


@cache
def account(seconds: float) -> Any:
    """Another class, so that two kinds are committed to."""

    class Account(State, ttl=timedelta(seconds=seconds), kind="account"):
        credits = Counter()
        lines = Log(str, keep=5)
        clicks = Counter()  # as the first class has it, and this one as it has not
        pages = Log(int, keep=500)

    return Account


def both(face: Face) -> tuple[Any, Any, Any, Any]:
    """Two classes and their collections."""
    need(face, Feature.TOGETHER)
    cls = account(TTL * face.unit)
    return face.cls, face.visits, cls, face.collection(cls)


class FaceTogether(FaceCases):
    """`apply_together`."""

    @promise(1)
    def test_face_together_all_stand(self, face: Face) -> None:
        """Steps of two classes, one of them a deletion, are all done; each says its revision."""
        visit, visits, account, accounts = both(face)
        visits.apply("old", visit.clicks.add(1))
        conditional = face.has(Feature.EXPECT)
        edits = (visit.clicks.add(2), visit.pages.append("x"))
        done = face.store.apply_together(
            visits.step("a", *edits, expect=ABSENT if conditional else None),
            accounts.step("ann", account.credits.add(-2)),
            visits.step("old", delete=True, expect=PRESENT if conditional else None),
        )
        assert [one.repeated for one in done] == [False] * 3
        found, paid = visits.get("a"), accounts.get("ann")
        assert (found.clicks, list(found.pages), paid.credits) == (2, ["x"], -2)
        assert [found.meta.revision, paid.meta.revision] == [one.revision for one in done[:2]]
        assert not visits.get("old").meta.exists

    @promise(1)
    def test_face_together_names_the_state_that_barred_it(self, face: Face) -> None:
        """The error is of the state that barred it and names that; nothing is written to any."""
        visit, visits, account, accounts = both(face)
        stands = accounts.apply("ann", account.credits.add(5))
        good = visits.step("a", visit.clicks.add(1))
        if face.has(Feature.EXPECT):
            with pytest.raises(Conflict, match="'ann'") as conflict:
                face.store.apply_together(good, accounts.step("ann", expect=ABSENT))
            assert conflict.value.key[1:] == ("account", "ann")
            assert conflict.value.found == stands
        full = [visit.basket.put(name, []) for name in "abcd"]
        with pytest.raises(TooLarge, match="basket") as large:
            face.store.apply_together(
                good, accounts.step("ann", account.credits.add(1)), visits.step("b", *full)
            )
        assert large.value.key[1:] == (face.visits.schema.kind, "b")
        assert not visits.get("a").meta.exists
        assert not visits.get("b").meta.exists
        assert accounts.get("ann").credits == 5

    @promise(2)
    def test_face_together_twice_has_one_effect(self, face: Face) -> None:
        """The same steps with the same idempotency key are done once; others with it are refused."""
        visit, visits, account, accounts = both(face)
        steps = [
            visits.step("a", visit.clicks.add(1)),
            accounts.step("ann", account.credits.add(-1)),
        ]
        first = face.store.apply_together(*steps, op="op 1")
        again = face.store.apply_together(*steps, op="op 1")
        assert [one.revision for one in again] == [one.revision for one in first]
        assert all(one.repeated for one in again)
        other = accounts.step("bob", account.credits.add(-1))
        with pytest.raises(Reused):
            face.store.apply_together(steps[0], other, op="op 1")
        with pytest.raises(Reused):
            visits.apply("a", visit.clicks.add(1), op="op 1")
        assert (visits.get("a").clicks, accounts.get("ann").credits) == (1, -1)
        assert not accounts.get("bob").meta.exists

    @promise(2)
    def test_face_together_a_lost_answer_is_asked_for_again(self, open_face: OpenFace) -> None:
        """Whether the answer was lost or the question: sent again with its key it is done once."""
        faulty: list[FaultyDriver] = []

        def wrap(driver: Driver) -> Driver:
            faulty.append(FaultyDriver(driver))
            return faulty[-1]

        face = open_face(wrap)
        visit, visits, account, accounts = both(face)
        steps = [
            visits.step("a", visit.clicks.add(1)),
            accounts.step("ann", account.credits.add(-1)),
        ]
        for n, after in enumerate((True, False), 1):
            faulty[0].fail(on="commit", after=after)
            with pytest.raises(Unavailable):
                face.store.apply_together(*steps, op=f"op {n}")
            done = face.store.apply_together(*steps, op=f"op {n}")
            assert [one.repeated for one in done] == [after] * 2
            assert (visits.get("a").clicks, accounts.get("ann").credits) == (n, -n)
        faulty[0].fail(on="commit", after=True)
        with pytest.raises(Unavailable):
            face.store.apply_together(*steps, op="op 3")
        accounts.delete("ann")
        with contextlib.suppress(InDoubt):  # or whatever remembers more than it must
            done = face.store.apply_together(*steps, op="op 3")
            assert [one.repeated for one in done] == [True] * 2
        assert visits.get("a").clicks == 3
        assert not accounts.get("ann").meta.exists

    @promise(15)
    def test_face_together_is_of_different_states_of_one_store(self, open_face: OpenFace) -> None:
        """No steps, the same state twice, another store's, a deletion with edits: `Invalid`."""
        face, other = open_face(), open_face()
        visit, visits, *_ = both(face)
        step = visits.step("a", visit.clicks.add(1))
        for wrong in (
            [],
            [step, visits.step("a", visit.clicks.add(2))],
            [step, other.visits.step("b", visit.clicks.add(1))],
            [step, visits.step("b", visit.clicks.add(1), delete=True)],
            [visits.step(f"{n}") for n in range(101)],
        ):
            with pytest.raises(Invalid):
                face.store.apply_together(*wrong)
        assert not visits.get("a").meta.exists


class FaceConditions(FaceCases):
    """`where=`."""

    @promise(3)
    def test_face_conditions_are_what_fields_say(self, face: Face) -> None:
        """What each field reads as, stored or not, can be a condition; what it does not is a conflict."""
        need(face, Feature.WHERE)
        fields, visits = face.cls, face.visits
        unset = [
            fields.note.holds("nothing"),
            fields.likes.holds([]),
            fields.clicks.holds(0),
            fields.spent.holds(0.0),
            fields.tally.holds("k", 0),
            fields.basket.lacks("a"),
            fields.steps.lacks("pay"),
            fields.pages.is_empty(),
        ]
        filled = [
            fields.note.holds("full"),
            fields.likes.holds(["a"]),
            fields.clicks.holds(2),
            fields.spent.holds(0.5),
            fields.tally.holds("k", 3),
            fields.basket.holds("a", ["x"]),
            fields.steps.holds("pay", "done"),
            fields.pages.ends_with("2"),
        ]
        for one in filled:
            with pytest.raises(Conflict):
                visits.apply("a", fields.clicks.add(1), where=one)
        visits.apply(
            "a",
            fields.note.put("full"),
            fields.likes.put(["a"]),
            fields.clicks.add(2),
            fields.spent.add(0.5),
            fields.tally.add("k", 3),
            fields.basket.put("a", ["x"]),
            fields.steps.put("pay", "done"),
            fields.pages.append("1", "2"),
            where=unset,
        )
        for one in unset:
            with pytest.raises(Conflict) as conflict:
                visits.apply("a", fields.clicks.add(1), where=[one])
            assert conflict.value.field == one.field
            assert conflict.value.found == visits.get("a").meta.revision
        enough = [
            fields.clicks.at_least(2),
            fields.clicks.at_least(-1),
            fields.spent.at_least(0.25),
            fields.tally.at_least("k", 3),
            fields.tally.at_least("nobody", 0),
        ]
        more = [fields.clicks.at_least(3), fields.tally.at_least("nobody", 1)]
        for one in more:
            with pytest.raises(Conflict):
                visits.apply("a", fields.clicks.add(-3), where=one)
        put = fields.place.put([0.0, 0.0])
        assert visits.apply("a", put, where=[*filled, *enough]).number == 2

    @promise(3)
    def test_face_conditions_leave_the_rest_alone(self, face: Face) -> None:
        """Who changes other fields bars nothing; sessions, deletions and steps take conditions too."""
        need(face, Feature.WHERE)
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.pages.append("1"))
        newest = fields.pages.ends_with("1")
        with visits.session("a", where=newest) as state:
            state.pages.append("2")
            visits.apply("a", fields.clicks.add(1))
        with pytest.raises(Conflict, match="pages"), visits.session("a", where=newest) as state:
            state.pages.append("3")
        with pytest.raises(Conflict, match="pages"):
            visits.delete("a", where=newest)
        assert list(visits.get("a").pages) == ["1", "2"]
        if face.has(Feature.TOGETHER):
            steps = [visits.step("b", fields.clicks.add(1)), visits.step("a", where=newest)]
            with pytest.raises(Conflict, match="pages"):
                face.store.apply_together(*steps)
            assert not visits.get("b").meta.exists
        assert visits.delete("a", where=fields.pages.ends_with("2"))

    @promise(15)
    def test_face_conditions_are_of_the_class(self, face: Face) -> None:
        """A condition of another class, or what is none, is `Invalid`, also if it counts as false."""
        need(face, Feature.WHERE)
        fields, visits = face.cls, face.visits
        add, other = fields.clicks.add(1), account(TTL * face.unit)
        wrongs: tuple[Any, ...] = (
            [other.credits.holds(1)],
            other.clicks.holds(0),
            [fields.clicks.holds(0), "clicks"],
            [add],
            False,
            0,
            {},
        )
        for wrong in wrongs:
            with pytest.raises(Invalid):
                visits.apply("a", add, where=wrong)
            with pytest.raises(Invalid):
                visits.delete("a", where=wrong)
            with pytest.raises(Invalid), visits.session("a", where=wrong) as state:
                state.clicks += 1
        assert not visits.get("a").meta.exists

    @promise(15)
    def test_face_edits_are_of_the_class(self, face: Face) -> None:
        """An edit of another class is `Invalid`, also if that has a field of the same name and kind."""
        visits, other = face.visits, account(TTL * face.unit)
        for wrong in (
            other.credits.add(1),
            other.clicks.add(1),
            other.pages.append(1),
            other.pages.append(*range(20)),
        ):
            with pytest.raises(Invalid):
                visits.apply("a", wrong)
            (refused,) = visits.apply_many([("a", [wrong])])
            assert isinstance(refused, Invalid)
        assert not visits.get("a").meta.exists
