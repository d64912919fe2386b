"""Promises 1, 2, 3, 5 and 16 as a user meets them, through `AsyncStore` and through `Store`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from statehold.changes import Add
from statehold.commits import ABSENT, PRESENT, Commit
from statehold.driver import Feature, Outcome
from statehold.errors import (
    Conflict,
    Invalid,
    TooLarge,
    Unavailable,
)
from statehold.testing.conformance.face_cases import FaceCases, OpenFace, need
from statehold.testing.face import Face
from statehold.testing.faults import FaultyDriver
from statehold.testing.promises import promise


class Rivalled(FaultyDriver):
    """Before each commit somebody else clicks on the same state, as often as `rivals` says."""

    rivals = 0

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        """Let the rival commit, then commit."""
        if self.rivals:
            self.rivals -= 1
            click = (Add("clicks", "", 1),)
            ttl = commits[0].ttl
            await self.driver.commit([Commit(commit.key, click, ttl) for commit in commits], now)
        return await super().commit(commits, now)


class FaceCommits(FaceCases):
    """What is written and read, through both APIs."""

    # -------------------------------------------------------------------------- 1: atomic

    @promise(1)
    def test_face_a_session_is_one_commit(self, face: Face) -> None:
        """What a session's block does stands all together at its end, as one revision."""
        fields, visits = face.cls, face.visits
        first = visits.apply("a", fields.clicks.add(1))
        with visits.session("a") as state:
            state.note = "seen"
            state.pages.append("home", "shoes")
            state.basket["shoes"] = ["red"]
            state.clicks += 2
            assert (state.clicks, list(state.pages)) == (3, ["home", "shoes"])
            assert visits.get("a").note == "nothing", "a session wrote before its end"
        after = visits.get("a")
        assert after.meta.revision.number == first.number + 1
        assert (after.note, after.clicks, list(after.pages)) == ("seen", 3, ["home", "shoes"])
        assert dict(after.basket) == {"shoes": ["red"]}

    @promise(1)
    def test_face_a_session_that_raises_writes_nothing(self, face: Face) -> None:
        """When the block of a session raises, nothing of it is written."""
        with suppress(ZeroDivisionError), face.visits.session("a") as state:
            state.clicks += 1
            raise ZeroDivisionError
        assert not face.visits.get("a").meta.exists

    @promise(1)
    def test_face_a_refused_apply_writes_nothing(self, face: Face) -> None:
        """An edit past its bound refuses the whole apply, with an error that names the field."""
        fields, visits = face.cls, face.visits
        for key in ("a", "b", "c"):
            visits.apply("a", fields.basket.put(key, []))
        before = visits.get("a").meta.revision
        with pytest.raises(TooLarge, match="basket") as caught:
            visits.apply("a", fields.clicks.add(1), fields.basket.put("d", []))
        assert caught.value.field == "basket"
        with pytest.raises(TooLarge, match="note"):
            visits.apply("a", fields.clicks.add(1), fields.note.put("x" * 101))
        after = visits.get("a")
        assert (after.clicks, after.meta.revision) == (0, before)

    @promise(1)
    def test_face_apply_returns_what_stands_after_it(self, face: Face) -> None:
        """With `returning` an apply answers with those fields as they stand right after it."""
        need(face, Feature.RETURNING)
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.clicks.add(1), fields.pages.append("1", "2"))
        edits = (fields.clicks.add(2), fields.pages.append("3"))
        state = visits.apply("a", *edits, returning=[fields.clicks, fields.pages], tail=2)
        assert (state.clicks, list(state.pages)) == (3, ["2", "3"])
        assert state.meta.revision.number == 2

    # -------------------------------------------------------------------- 2: exactly once

    @promise(2)
    def test_face_an_op_id_is_applied_once(self, face: Face) -> None:
        """An apply, or a session, with an op id that was seen has no further effect."""
        fields, visits = face.cls, face.visits
        first = visits.apply("a", fields.clicks.add(1), op="op 1")
        visits.apply("a", fields.clicks.add(10))
        assert visits.apply("a", fields.clicks.add(1), op="op 1") == first
        for _ in range(2):
            with visits.session("a", op="op 2") as state:
                state.clicks += 100
        assert visits.get("a").clicks == 111

    @promise(2)
    def test_face_a_lost_answer_may_be_asked_for_again(self, open_face: OpenFace) -> None:
        """When the store dies after the commit, sending it again with its op id applies it once."""
        face = open_face(FaultyDriver)
        assert isinstance(face.driver, FaultyDriver)
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.clicks.add(1))
        face.wait(1)  # a state that is younger than the doubt may have had an earlier life
        for after in (True, False):
            face.driver.fail(on="commit", after=after)
            with pytest.raises(Unavailable):
                visits.apply("a", fields.clicks.add(10), op=f"op {after}")
            visits.apply("a", fields.clicks.add(10), op=f"op {after}")
        assert visits.get("a").clicks == 21

    # ---------------------------------------------------------------------- 3: no loss

    @promise(3)
    def test_face_sessions_merge(self, face: Face) -> None:
        """Two sessions at once on one state both stand: sums add, lists join."""
        visits = face.visits
        with visits.session("a") as one, visits.session("a") as two:
            one.clicks += 1
            one.pages.append("one")
            two.clicks += 10
            two.pages.append("two")
        state = visits.get("a")
        assert state.clicks == 11
        assert sorted(state.pages) == ["one", "two"]

    @promise(3)
    def test_face_an_exclusive_session_conflicts(self, face: Face) -> None:
        """An exclusive session loses to whoever wrote meanwhile: `Conflict`, and nothing written."""
        need(face, Feature.EXPECT)
        fields, visits = face.cls, face.visits
        for begun in (False, True):
            session = visits.session("a", exclusive=True)
            state = session.__enter__()
            assert state.meta.exists == begun
            state.note = "mine"
            won = visits.apply("a", fields.clicks.add(1))
            with pytest.raises(Conflict) as caught:
                session.__exit__(None, None, None)
            assert caught.value.found == won
            assert visits.get("a").note == "nothing"
        with visits.session("a", exclusive=True) as state:
            state.note = "mine"
        assert visits.get("a").note == "mine"

    @promise(3)
    def test_face_expect_holds_or_conflicts(self, face: Face) -> None:
        """`expect` takes a revision, `ABSENT` or `PRESENT`, and the error says what stands."""
        need(face, Feature.EXPECT)
        fields, visits = face.cls, face.visits
        with pytest.raises(Conflict) as caught:
            visits.apply("a", fields.clicks.add(1), expect=PRESENT)
        assert caught.value.found == ABSENT
        first = visits.apply("a", fields.clicks.add(1), expect=ABSENT)
        with pytest.raises(Conflict):
            visits.apply("a", fields.clicks.add(1), expect=ABSENT)
        second = visits.apply("a", fields.clicks.add(1), expect=first)
        with pytest.raises(Conflict) as caught:
            visits.delete("a", expect=first)
        assert caught.value.found == second
        assert visits.get("a").clicks == 2

    @promise(3)
    def test_face_transact_tries_again(self, open_face: OpenFace) -> None:
        """`transact` calls its function again on what stands after a conflict, and loses nothing."""
        face = open_face(Rivalled)
        need(face, Feature.EXPECT)
        assert isinstance(face.driver, Rivalled)
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.clicks.add(1))
        face.driver.rivals = 2
        seen: list[int] = []

        def raise_note(state: Any) -> str:
            seen.append(int(state.clicks))
            state.note = f"seen {state.clicks}"
            return "done"

        assert visits.transact("a", raise_note) == "done"
        assert seen == [1, 2, 3]
        assert visits.get("a").note == "seen 3"
        face.driver.rivals = 100
        with pytest.raises(Conflict):
            visits.transact("a", raise_note, attempts=2)
        assert visits.get("a").note == "seen 3"

    # ------------------------------------------------------------------------ 5: bounded

    @promise(5)
    def test_face_a_log_keeps_its_newest(self, face: Face) -> None:
        """A log holds its newest items in order, and a tail of them is read alone."""
        fields, visits = face.cls, face.visits
        for n in range(7):
            visits.apply("a", fields.pages.append(f"{n}"))
        visits.apply("a", fields.pages.extend(f"x{n}" for n in range(2)))
        assert list(visits.get("a").pages) == ["5", "6", "x0", "x1"]
        assert list(visits.get("a", tail=2).pages) == ["x0", "x1"]
        assert list(visits.get("a", fields=[fields.pages], tail={"pages": 1}).pages) == ["x1"]

    @promise(5)
    def test_face_single_entries(self, face: Face) -> None:
        """Single entries are read alone, and of those that were not asked for nothing is said."""
        fields, visits = face.cls, face.visits
        edits = [fields.basket.put(item, [item]) for item in ("ink", "pen")]
        visits.apply("a", *edits, fields.tally.add("x", 2), fields.note.put("here"))
        state = visits.get("a", entries={"basket": ["pen", "cup"], fields.tally: ["y"]})
        assert (dict(state.basket), len(state.basket)) == ({"pen": ["pen"]}, 1)
        assert ("cup" in state.basket, state.tally["y"], state.note) == (False, 0, "here")
        for look in (
            lambda: state.basket["ink"],
            lambda: state.basket.get("none"),
            lambda: "ink" in state.basket,
            lambda: state.tally["x"],
        ):
            with pytest.raises(Invalid, match="not among those asked for"):
                look()
        many = visits.get_many(["a", "b"], fields=["tally"], entries={"tally": ["x"]})
        assert [state.tally["x"] for state in many.values()] == [2, 0]
        if face.has(Feature.RETURNING):
            edit = fields.basket.put("cup", [])
            done = visits.apply("a", edit, returning=["basket"], entries={"basket": ["cup"]})
            assert dict(done.basket) == {"cup": []}
        wrong = ({"note": [""]}, {"nope": ["a"]}, {"basket": "pen"}, {"basket": [1]}, ["basket"])
        for entries in wrong:
            with pytest.raises(Invalid):
                visits.get("a", entries=entries)
        with pytest.raises(Invalid, match="basket"):
            visits.get("a", fields=["note"], entries={"basket": ["pen"]})

    # -------------------------------------------------------------- 16: numbers and such

    @promise(16)
    def test_face_numbers_are_kept_or_refused(self, face: Face) -> None:
        """Counters are exact to 64 bits and refuse to leave them; what is no number is `Invalid`."""
        fields, visits = face.cls, face.visits
        for number in (2**53 + 1, 2**63 - 1 - 2**53 - 1):
            visits.apply("a", fields.clicks.add(number))
        assert visits.get("a").clicks == 2**63 - 1
        with pytest.raises(TooLarge, match="clicks"):
            visits.apply("a", fields.clicks.add(1))
        for wrong in (math.nan, math.inf, -math.inf, "1", None):
            with pytest.raises((Invalid, TooLarge)):
                visits.apply("a", fields.spent.add(wrong))
        visits.apply("a", fields.spent.add(0.1), fields.spent.add(2))
        assert math.isclose(visits.get("a").spent, 2.1)
        assert visits.get("a").clicks == 2**63 - 1

    @promise(16)
    def test_face_empty_values_and_iterables(self, face: Face) -> None:
        """Empty texts, lists and one-shot iterables are kept as they are."""
        fields, visits = face.cls, face.visits
        visits.apply(
            "a",
            fields.note.put(""),
            fields.likes.put([]),
            fields.pages.extend(iter(["", "x"])),
            fields.basket.put("", []),
            fields.tally.add("", 0),
        )
        state = visits.get("a")
        assert (state.note, state.likes, list(state.pages)) == ("", [], ["", "x"])
        assert (dict(state.basket), dict(state.tally)) == ({"": []}, {"": 0})
        visits.apply("a", fields.pages.extend(iter([])))
        assert list(visits.get("a").pages) == ["", "x"]

    @promise(16)
    def test_face_additive_fields_add_up(self, face: Face) -> None:
        """Tallies, first-result-wins steps and decayed means join concurrent writers."""
        visits = face.visits
        with visits.session("a") as one, visits.session("a") as two:
            for number, state in enumerate((one, two), 1):
                state.tally.add("k", number)
                state.steps["pay"] = f"{number}"
                state.taste.add([1.0, number])
        state = visits.get("a")
        assert dict(state.tally) == {"k": 3}
        assert state.steps["pay"] in ("1", "2")
        assert [round(x, 3) for x in state.taste.mean] == [1.0, 1.5]  # some time lies between them
