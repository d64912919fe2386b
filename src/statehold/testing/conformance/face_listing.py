"""Promise 8 as a user meets it: what listings serve, through `AsyncStore` and through `Store`."""

from __future__ import annotations

import pytest

from statehold.driver import Feature
from statehold.errors import Invalid
from statehold.testing.conformance.face_cases import FaceCases, need
from statehold.testing.face import Face
from statehold.testing.promises import promise


class FaceListing(FaceCases):
    """Listings by prefix, newest first, and with the states themselves."""

    @promise(8)
    def test_face_a_listing_by_prefix(self, face: Face) -> None:
        """`scan` and `find` list the ids that begin with a prefix; one that is no text is `Invalid`."""
        need(face, Feature.SCAN, Feature.SUBJECT)
        fields, visits = face.cls, face.visits
        for name in ("a%", "ab", "a%b", "b"):
            visits.apply(name, fields.clicks.add(1), subject="ann")
        assert sorted(visits.scan(prefix="a%", page_size=1)) == ["a%", "a%b"]
        assert sorted(visits.find("ann", prefix="a%", page_size=1)) == ["a%", "a%b"]
        assert visits.scan_page(prefix="b") == (["b"], None)
        for wrong in ("x" * 513, "\ud800", 7, b"a"):
            with pytest.raises(Invalid):
                visits.scan_page(prefix=wrong)

    @promise(8)
    def test_face_a_state_about_several(self, face: Face) -> None:
        """Each subject of a list finds the state; the next write replaces them all, `()` by nobody."""
        need(face, Feature.SCAN, Feature.SUBJECT)
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.clicks.add(1), subject=["ann", "run 7", "ann"])
        visits.apply("b", fields.clicks.add(1), subject="ann")
        assert sorted(visits.find("ann")) == ["a", "b"]
        assert list(visits.find("run 7")) == ["a"]
        found = visits.get("a").meta
        assert (found.subject, found.subjects) == ("ann", ("ann", "run 7"))
        found = visits.get("b").meta
        assert (found.subject, found.subjects) == ("ann", ("ann",))
        assert visits.get("nobody").meta.subjects == ()
        with visits.session("b", subject=(one for one in ("run 7", "bob"))) as state:
            state.clicks += 1
        assert sorted(visits.find("run 7", newest=True)) == ["a", "b"]
        assert list(visits.find("ann", prefix="a")) == ["a"]
        visits.apply("a", fields.clicks.add(1), op="op", subject=["bob"])
        assert visits.get("a").meta.subjects == ("bob",)
        visits.apply("a", fields.clicks.add(1))
        states, _ = visits.get_page(subject="bob", newest=True)
        assert [state.meta.id for state in states] == ["a", "b"]
        for id in ("a", "b"):
            visits.apply(id, fields.clicks.add(1), subject=())
            assert (visits.get(id).meta.subject, visits.get(id).meta.subjects) == (None, ())
        assert [*visits.find("ann"), *visits.find("bob"), *visits.find("run 7")] == []
        for wrong in (["x"] * 2 + [f"{n}" for n in range(8)], ["ann", ""], ["ann", "x" * 513]):
            with pytest.raises(Invalid):
                visits.apply("a", fields.clicks.add(1), subject=wrong)
        assert visits.get("a").clicks == 4

    @promise(8)
    def test_face_a_subjects_states_newest_first(self, face: Face) -> None:
        """`find` lists a subject's states by their last commit, if asked; of a whole kind none does."""
        need(face, Feature.SCAN, Feature.SUBJECT)
        fields, visits = face.cls, face.visits
        for name in ("a", "b", "c", "a"):
            visits.apply(name, fields.clicks.add(1), subject="ann")
            face.wait(0.01)
        assert list(visits.find("ann", newest=True, page_size=1)) == ["a", "c", "b"]
        states, cursor = visits.get_page(subject="ann", newest=True, limit=2)
        assert [(state.meta.id, state.clicks) for state in states] == [("a", 2), ("c", 1)]
        states, cursor = visits.get_page(subject="ann", newest=True, limit=2, cursor=cursor)
        assert ([state.meta.id for state in states], cursor) == (["b"], None)
        with pytest.raises(Invalid):
            visits.scan_page(newest=True)

    @promise(8)
    def test_face_a_page_of_states(self, face: Face) -> None:
        """A page of states has those that live, each whole or in the fields that are asked for."""
        need(face, Feature.SCAN)
        fields, visits = face.cls, face.visits
        for n in range(7):
            visits.apply(f"{n}", fields.clicks.add(n), fields.pages.append("x", "y"))
        visits.delete("3")
        found: dict[str, tuple[int, list[str]]] = {}
        cursor: str | None = None
        for _ in range(100):
            states, cursor = visits.get_page(cursor=cursor, limit=2)
            assert len(states) <= 2
            assert not {state.meta.id for state in states} & found.keys(), "served twice"
            found |= {state.meta.id: (state.clicks, list(state.pages)) for state in states}
            if cursor is None:
                break
        assert found == {f"{n}": (n, ["x", "y"]) for n in (0, 1, 2, 4, 5, 6)}
        state = visits.get_page(prefix="5", fields=[fields.pages], tail=1)[0][0]
        assert list(state.pages) == ["y"]
        with pytest.raises(Invalid):
            _ = state.clicks
        states, cursor = visits.get_page(prefix="nothing")
        assert not states
        while cursor is not None:  # a page may be empty without being the last
            states, cursor = visits.get_page(prefix="nothing", cursor=cursor)
            assert not states
