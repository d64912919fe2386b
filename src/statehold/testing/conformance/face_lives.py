"""Promises 4, 6, 7, 8 and 12 as a user meets them, through `AsyncStore` and through `Store`."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from statehold.commits import ABSENT
from statehold.driver import Feature
from statehold.errors import (
    Conflict,
    Fenced,
    Invalid,
    SchemaError,
)
from statehold.testing.conformance.face_cases import FaceCases, need
from statehold.testing.conformance.listing import NAMES
from statehold.testing.face import Face, visit
from statehold.testing.promises import promise


class FaceLives(FaceCases):
    """Whose state it is and how it ends, through both faces."""

    # ------------------------------------------------------------------------- 4: expiry

    @promise(4)
    def test_face_an_expired_state_is_absent(self, face: Face) -> None:
        """After its ttl a state is absent to get, get_many, scan, find, touch and delete."""
        fields, visits = face.cls, face.short
        subject = {"subject": "ann"} if face.has(Feature.SUBJECT) else {}
        old = visits.apply("a", fields.clicks.add(1), fields.pages.append("x"), **subject)
        face.wait(2)
        assert visits.get("a").meta.exists
        face.wait(2.5)
        assert not visits.get("a").meta.exists
        assert list(visits.get("a").pages) == []
        assert not visits.get_many(["a"])["a"].meta.exists
        if face.has(Feature.SCAN):
            assert list(visits.scan()) == []
        if face.has(Feature.SUBJECT):
            assert list(visits.find("ann")) == []
        if face.has(Feature.EXPECT):
            assert visits.touch("a") is False
            with pytest.raises(Conflict) as caught:
                visits.apply("a", fields.clicks.add(1), expect=old)
            assert caught.value.found == ABSENT
        assert visits.delete("a") is False
        visits.apply("a", fields.clicks.add(5))
        state = visits.get("a")
        assert (state.clicks, list(state.pages), state.meta.subject) == (5, [], None)

    @promise(4)
    def test_face_a_late_session_does_not_resurrect(self, face: Face) -> None:
        """A session that outlasts its state writes what it did, and none of what it had read."""
        visits = face.short
        with visits.session("a") as state:
            state.note = "secret"
            state.pages.append("old")
        with visits.session("a") as state:
            assert state.note == "secret"
            face.wait(4.5)
            state.pages.append("new")
        state = visits.get("a")
        assert (state.note, list(state.pages)) == ("nothing", ["new"])

    @promise(4)
    def test_face_touch_renews(self, face: Face) -> None:
        """A touch moves the deadline as a write does, and changes nothing else."""
        need(face, Feature.EXPECT)
        fields, visits = face.cls, face.short
        assert visits.touch("a") is False
        assert not visits.get("a").meta.exists
        visits.apply("a", fields.clicks.add(1))
        for _ in range(3):
            face.wait(2)
            assert visits.touch("a") is True
        assert visits.get("a").clicks == 1

    @promise(4)
    def test_face_a_ttl_of_its_own(self, face: Face) -> None:
        """A write or touch may say a ttl, up to the class's; the next one counts anew."""
        fields, visits, unit = face.cls, face.visits, face.unit

        def write(id: str) -> None:
            with visits.session(id, ttl=4 * unit) as state:
                state.clicks += 1

        add = fields.clicks.add(1)
        ways: dict[str, Callable[[str], object]] = {
            "apply": lambda name: visits.apply(name, add, ttl=4 * unit),
            "once": lambda name: visits.apply(name, add, ttl=timedelta(seconds=4 * unit), op="1"),
            "commit": lambda name: visits.commit(name, [add], ttl=4 * unit),
            "session": write,
        }
        for way, shorten in ways.items():
            visits.apply(f"long {way}", add)
            for life in ("long", "short", "renewed"):
                shorten(f"{life} {way}")
            visits.apply(f"renewed {way}", add)
        face.wait(2)
        assert all(visits.get(f"short {way}").meta.exists for way in ways)
        face.wait(2.5)
        for way in ways:
            there = visits.get_many([f"{life} {way}" for life in ("long", "short", "renewed")])
            assert [state.meta.exists for state in there.values()] == [False, False, True], way
        visits.apply("a", add)
        if face.has(Feature.EXPECT):
            assert visits.touch("a", ttl=4 * unit) is True
            face.wait(2)
            assert visits.touch("a", ttl=4 * unit) is True
            face.wait(2.5)
            assert visits.get("a").meta.exists
            face.wait(2)
            assert not visits.get("a").meta.exists

    @promise(4)
    def test_face_no_ttl_beyond_the_class(self, face: Face) -> None:
        """A ttl that is longer than the class's, or is none, is refused, and nothing is written."""
        fields, visits = face.cls, face.short
        visits.apply("a", fields.clicks.add(1))
        for ttl in (4.001 * face.unit, timedelta(days=999), 0, -1, math.nan, math.inf, True, "x"):
            more: Any = {"ttl": ttl}
            calls: list[Callable[[Any], object]] = [
                lambda more: visits.apply("a", fields.clicks.add(1), **more),
                lambda more: visits.commit("b", [fields.clicks.add(1)], **more),
                lambda more: visits.touch("a", **more),
            ]
            for call in calls:
                with pytest.raises(Invalid) as caught:
                    call(more)
                assert caught.value.field == "ttl"
        assert visits.get("a").clicks == 1
        assert not visits.get("b").meta.exists
        with pytest.raises(Invalid) as caught:
            visits.apply("a", ttl=4.001 * face.unit)
        assert caught.value.expected == visits.schema.ttl
        assert caught.value.found == 4.001 * face.unit

    @promise(4)
    def test_face_reading_renews_only_if_declared(self, face: Face) -> None:
        """A class with `renew_on_read` lives while it is read; without, reading does not help."""
        renewed = face.collection(visit(4 * face.unit, renew_on_read=True))
        for visits in (renewed, face.short):
            visits.apply("a", face.cls.clicks.add(1))
        for _ in range(3):
            face.wait(2)
            assert renewed.get("a").meta.exists
            face.short.get("a")
        assert not face.short.get("a").meta.exists

    @promise(4)
    def test_face_no_time_is_not_for_ever(self) -> None:
        """The ttl of a class is required; 0 and less are refused, None is for ever."""
        from statehold.state import State

        make: Any = type(State)

        for wrong in ({}, {"ttl": 0}, {"ttl": -1}, {"ttl": math.nan}, {"ttl": 1, "max_age": 0}):
            with pytest.raises(SchemaError):
                make("Wrong", (State,), {}, **wrong)
        make("Right", (State,), {}, ttl=None)

    # ---------------------------------------------------------------------- 6: revisions

    @promise(6)
    def test_face_an_old_revision_never_matches(self, face: Face) -> None:
        """After a delete a state that looks the same is another one."""
        need(face, Feature.EXPECT)
        fields, visits = face.cls, face.visits
        old = visits.apply("a", fields.clicks.add(1))
        visits.delete("a")
        new = visits.apply("a", fields.clicks.add(1))
        assert old.number == new.number
        with pytest.raises(Conflict):
            visits.apply("a", fields.clicks.add(1), expect=old)
        assert visits.get("a").clicks == 1

    # ------------------------------------------------------------------------ 7: fencing

    @promise(7)
    def test_face_an_older_epoch_is_fenced(self, face: Face) -> None:
        """A writer with an older epoch gets `Fenced`, which says the newer one; so does none."""
        need(face, Feature.EPOCH)
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.clicks.add(1), epoch=5)
        for epoch in (4, 0):
            with pytest.raises(Fenced) as caught:
                visits.apply("a", fields.clicks.add(1), epoch=epoch)
            assert caught.value.found == 5
            with pytest.raises(Fenced):
                visits.delete("a", epoch=epoch)
            with pytest.raises(Fenced), visits.session("a", epoch=epoch) as state:
                state.clicks += 1
        assert visits.get("a").clicks == 1
        assert visits.delete("a", epoch=6) is True

    # -------------------------------------------------------------------------- 8: names

    @promise(8)
    def test_face_ids_are_any_text(self, face: Face) -> None:
        """Any id of 1 to 512 bytes is its own state; what is no such text is `Invalid`."""
        fields, visits = face.cls, face.visits
        for n, name in enumerate(NAMES):
            visits.apply(name, fields.clicks.add(n))
        found = visits.get_many(NAMES)
        assert [found[name].clicks for name in NAMES] == list(range(len(NAMES)))
        if face.has(Feature.SCAN):
            assert sorted(visits.scan(page_size=7)) == sorted(NAMES)
        for wrong in ("", "x" * 513, "é" * 257, "\ud800", 7, None, b"a"):
            with pytest.raises(Invalid):
                visits.apply(wrong, fields.clicks.add(1))
            with pytest.raises(Invalid):
                visits.get(wrong)

    @promise(8)
    def test_face_tenants_do_not_overlap(self, face: Face) -> None:
        """The same id in another tenant is another state, to get, delete, scan and find."""
        fields = face.cls
        collections = {
            name: face.collection(fields, tenant=name) for name in ("", "a", "a:visit", "b")
        }
        subject = {"subject": "ann"} if face.has(Feature.SUBJECT) else {}
        for n, visits in enumerate(collections.values()):
            visits.apply("a", fields.clicks.add(n), **subject)
            visits.apply(f"of {n}", fields.clicks.add(n), **subject)
        collections["a"].delete("a")
        for n, (name, visits) in enumerate(collections.items()):
            left = [f"of {n}"] if name == "a" else ["a", f"of {n}"]
            assert visits.get("a").meta.exists == ("a" in left)
            if face.has(Feature.SCAN):
                assert sorted(visits.scan()) == left
            if face.has(Feature.SUBJECT):
                assert sorted(visits.find("ann")) == left

    @promise(8)
    def test_face_find_lists_a_subjects_states(self, face: Face) -> None:
        """`find` lists the states about a subject, page by page, and no others."""
        need(face, Feature.SUBJECT)
        fields, visits = face.cls, face.visits
        for n in range(7):
            visits.apply(f"{n}", fields.clicks.add(1), subject="ann" if n % 2 else "an")
        with visits.session("session", subject="ann") as state:
            state.clicks += 1
        assert sorted(visits.find("ann", page_size=2)) == ["1", "3", "5", "session"]
        visits.delete("3")
        assert sorted(visits.find("ann")) == ["1", "5", "session"]
        assert visits.get("1").meta.subject == "ann"

    # ------------------------------------------------------------------------ 12: delete

    @promise(12)
    def test_face_delete_deletes_all(self, face: Face) -> None:
        """After a delete there is nothing, and a new state has nothing of the old one."""
        fields, visits = face.cls, face.visits
        assert visits.delete("a") is False
        visits.apply("a", fields.clicks.add(1), fields.pages.append("x"), op="op 1")
        visits.apply("b", fields.clicks.add(1))
        assert visits.delete("a") is True
        assert visits.delete("a") is False
        assert not visits.get("a").meta.exists
        visits.apply("a", fields.clicks.add(1), op="op 2")
        state = visits.get("a")
        assert (state.clicks, list(state.pages)) == (1, [])
        assert visits.get("b").clicks == 1
