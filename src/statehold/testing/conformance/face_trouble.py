"""Promises 9, 10, 11, 13, 14 and 15 as a user meets them, through both faces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from statehold.changes import Append, Put
from statehold.commits import ABSENT, PRESENT
from statehold.driver import Feature
from statehold.errors import (
    Closed,
    Invalid,
    StateholdError,
    TooLarge,
    Unavailable,
    Unsupported,
)
from statehold.testing.backend import Backend
from statehold.testing.conformance.face_cases import FaceCases, OpenFace
from statehold.testing.face import Face, Without
from statehold.testing.faults import FaultyDriver
from statehold.testing.promises import promise


def turn_page(state: Any) -> None:
    """A transaction that changes something."""
    state.pages.append("x")


BROKEN = {
    "another type": (b'{"a": 1}', b"7", b"[1, 2]"),
    "no JSON": (b"\xff\x00 no text", b"{", b"[1, 2"),
}
"""What cannot be decoded as a list of texts, twice, and as a text."""


class FaceTrouble(FaceCases):
    """What a store says when it cannot, through both faces."""

    # ------------------------------------------------------------------------- 9: outage

    @promise(9)
    def test_face_down_is_not_absent(self, open_face: OpenFace) -> None:
        """While the store is down every call raises `Unavailable`; none says that there is nothing."""
        face = open_face(FaultyDriver)
        assert isinstance(face.driver, FaultyDriver)
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.clicks.add(1))
        calls: dict[str, Callable[[], Any]] = {
            "get": lambda: visits.get("a"),
            "get_many": lambda: visits.get_many(["a"]),
            "apply": lambda: visits.apply("a", fields.clicks.add(1)),
            "apply_many": lambda: visits.apply_many([("a", [fields.clicks.add(1)])]),
            "delete": lambda: visits.delete("a"),
            "check": face.store.check,
        }
        if face.has(Feature.EXPECT):
            calls["touch"] = lambda: visits.touch("a")
            calls["transact"] = lambda: visits.transact("a", turn_page)
        if face.has(Feature.SCAN):
            calls["scan"] = lambda: list(visits.scan())
        if face.has(Feature.SUBJECT):
            calls["find"] = lambda: list(visits.find("ann"))
        with face.driver.outage():
            for name, call in calls.items():
                try:
                    answer = call()
                except Unavailable:
                    continue
                raise AssertionError(f"{name} answered while the store was down: {answer!r}")
            with pytest.raises(Unavailable), visits.session("a"):
                pass
            state = visits.get("a", on_failure="default")
            assert (state.meta.source, state.meta.degraded) == ("default", True)
            assert state.clicks == 0
        assert visits.get("a").clicks == 1

    # ------------------------------------------------------------------ 10: cancellation

    @promise(10)
    @pytest.mark.parametrize("after", [False, True])
    def test_face_a_cancelled_apply_is_whole_or_nothing(
        self, backend: Backend, after: bool
    ) -> None:
        """An apply that is cancelled while the store hangs is there or not, and the store goes on."""
        face = Face(backend, "async", lambda driver: FaultyDriver(driver, suspends=True))
        assert isinstance(face.driver, FaultyDriver)
        driver, fields = face.driver, face.cls

        async def play(visits: Any) -> None:
            await visits.apply("a", fields.clicks.add(0))
            face.wait(1)  # a state that is younger than the doubt may have had an earlier life
            driver.hang(on="commit", after=after)
            edits = (fields.clicks.add(1), fields.pages.append("x"))
            task = asyncio.ensure_future(visits.apply("a", *edits, op="op 1"))
            while not driver.hanging:  # noqa: ASYNC110  no event: it hangs as a driver would
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            state = await visits.get("a")
            assert (state.clicks, len(state.pages)) == ((1, 1) if after else (0, 0))
            await visits.apply("a", *edits, op="op 1")
            state = await visits.get("a")
            assert (state.clicks, len(state.pages)) == (1, 1)

        try:
            face.in_loop(play)
        finally:
            face.close()

    # -------------------------------------------------------------------- 11: corruption

    @promise(11)
    @pytest.mark.parametrize("wrong", BROKEN)
    def test_face_a_corrupt_value_is_contained(self, face: Face, wrong: str) -> None:
        """A value that cannot be decoded is left out and reported; all else is served and written."""
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.clicks.add(1), fields.pages.append("good"))
        likes, shoes, page = BROKEN[wrong]
        broken = (
            Put(fields.likes.stored, "", likes),
            Put(fields.basket.stored, "shoes", shoes),
            Append(fields.pages.stored, (page,), 4),
        )
        try:
            visits.apply("a", *broken)
        except Invalid:
            assert wrong == "no JSON", "the driver refuses JSON"
            pytest.skip("the driver holds nothing but JSON")
        visits.apply("a", fields.basket.put("hats", ["blue"]), fields.pages.append("better"))
        state = visits.get("a")
        assert state.likes == []
        assert dict(state.basket) == {"hats": ["blue"]}
        assert list(state.pages) == ["good", "better"]
        assert state.clicks == 1
        assert {corruption.field for corruption in state.meta.corrupted} == {
            "likes",
            "basket",
            "pages",
        }
        visits.apply("a", fields.likes.put(["mended"]))
        assert visits.get("a").likes == ["mended"]

    # ---------------------------------------------------------------------- 13: aliasing

    @promise(13)
    def test_face_mutating_values_changes_nothing_stored(self, face: Face) -> None:
        """Neither a value that was written nor one that was read is what is stored."""
        import numpy as np

        visits = face.visits
        likes, colours = ["red"], ["blue"]
        vector = np.array([1.0, 2.0])
        with visits.session("a") as state:
            state.likes = likes
            state.basket["shoes"] = colours
            state.place = vector
            likes.append("late")
            colours.append("late")
            vector[0] = 9.0
        for _ in range(2):
            state = visits.get("a")
            assert state.likes == ["red"]
            assert state.basket["shoes"] == ["blue"]
            assert list(state.place) == [1.0, 2.0]
            state.likes.append("read")
            state.basket["shoes"].append("read")
            assert not state.place.flags.writeable
            state.note = "never committed"
            state.pages.append("never committed")
        fresh = visits.get("b")
        fresh.likes.append("default")
        assert visits.get("b").likes == []
        assert visits.get("a").note == "nothing"

    @promise(13)
    def test_face_a_snapshot_stays_as_it_was_read(self, face: Face) -> None:
        """What others commit later does not show in a snapshot that was read before."""
        fields, visits = face.cls, face.visits
        visits.apply(
            "a", fields.pages.append("1"), fields.basket.put("a", []), fields.clicks.add(1)
        )
        state = visits.get("a")
        for n in range(5):
            visits.apply(
                "a", fields.pages.append(f"x{n}"), fields.basket.put("b", []), fields.clicks.add(1)
            )
        visits.delete("a")
        assert (list(state.pages), dict(state.basket), state.clicks) == (["1"], {"a": []}, 1)

    # -------------------------------------------------------------------- 14: undeclared

    @promise(14)
    @pytest.mark.parametrize(
        "feature",
        [
            Feature.EXPECT,
            Feature.EPOCH,
            Feature.SCAN,
            Feature.SUBJECT,
            Feature.RETURNING,
            Feature.CLAIM,
            Feature.TOGETHER,
            Feature.WHERE,
        ],
    )
    def test_face_what_is_not_declared_is_unsupported(
        self, open_face: OpenFace, feature: Feature
    ) -> None:
        """A feature that the driver does not declare raises `Unsupported`, and nothing is written."""
        face = open_face(Without(feature))
        fields, visits = face.cls, face.visits
        edit = fields.clicks.add(1)
        calls: dict[Feature, list[Callable[[], Any]]] = {
            Feature.EXPECT: [
                lambda: visits.apply("a", edit, expect=ABSENT),
                lambda: visits.delete("a", expect=PRESENT),
                lambda: visits.transact("a", turn_page),
            ],
            Feature.EPOCH: [
                lambda: visits.apply("a", edit, epoch=1),
                lambda: visits.delete("a", epoch=1),
            ],
            Feature.SCAN: [lambda: list(visits.scan())],
            Feature.SUBJECT: [
                lambda: visits.apply("a", edit, subject="ann"),
                lambda: list(visits.find("ann")),
            ],
            Feature.RETURNING: [lambda: visits.apply("a", edit, returning=[fields.clicks])],
            Feature.CLAIM: [visits.lease("a", ttl=5.0).__enter__],
            Feature.WHERE: [
                lambda: visits.apply("a", edit, where=[fields.clicks.holds(0)]),
                lambda: visits.delete("a", where=[fields.clicks.holds(0)]),
            ],
            Feature.TOGETHER: [lambda: face.store.apply_together(visits.step("a", edit))],
        }
        for call in calls[feature]:
            with pytest.raises(Unsupported):
                call()
        assert not visits.get("a").meta.exists

    # ---------------------------------------------------------------- 15: bulk and close

    @promise(15)
    def test_face_bulk_calls_report_for_each_key(self, face: Face) -> None:
        """`get_many` and `apply_many` answer for each key; one that fails leaves the others alone."""
        fields, visits = face.cls, face.visits
        fill = [fields.basket.put(name, []) for name in "abc"]
        given = [
            ("a", [fields.clicks.add(1)]),
            ("full", fill),
            ("full", [fields.basket.put("d", [])]),
            ("", [fields.clicks.add(1)]),
            ("b", [fields.clicks.add(2)]),
            ("a", [fields.clicks.add(4)]),
        ]
        results = visits.apply_many(iter(given))
        kinds = [isinstance(result, StateholdError) for result in results]
        assert kinds == [False, False, True, True, False, False]
        assert isinstance(results[2], TooLarge)
        assert isinstance(results[3], Invalid)
        found = visits.get_many(iter(["b", "nobody", "a", "b"]))
        assert {id: state.clicks for id, state in found.items()} == {"b": 2, "nobody": 0, "a": 5}
        assert [state.meta.exists for state in found.values()] == [True, False, True]

    @promise(15)
    def test_face_closed_is_closed(self, face: Face) -> None:
        """After `close` every call raises `Closed`; closing twice is fine."""
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.clicks.add(1))
        face.store.close()
        face.store.close()
        calls: list[Callable[[], Any]] = [
            lambda: visits.get("a"),
            lambda: visits.get_many(["a"]),
            lambda: visits.apply("a", fields.clicks.add(1)),
            lambda: visits.delete("a"),
            face.store.check,
        ]
        if face.has(Feature.SCAN):
            calls.append(lambda: list(visits.scan()))
        for call in calls:
            with pytest.raises(Closed):
                call()
        with pytest.raises(Closed), visits.session("a"):
            pass
