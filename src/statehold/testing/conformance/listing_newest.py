"""Promise 8: a subject's states, newest first."""

from __future__ import annotations

import pytest

from statehold.changes import Add
from statehold.driver import Feature, Page, Scan
from statehold.errors import Invalid
from statehold.testing.commits import KIND
from statehold.testing.conformance.base import Cases, need
from statehold.testing.promises import promise
from statehold.testing.rig import Rig


class Newest(Cases):
    """In which order a subject's states are served."""

    @promise(8)
    def test_the_last_updated_comes_first(self, rig: Rig) -> None:
        """A listing newest first has each state once, by its last commit, and no other's."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        names = ("b", "é", "a%", "a", "a\x00", "x" * 512)
        for name in names:
            _write(rig, name)
        rig.write(id="of another", subject="an")
        rig.write(id=rig.key("of another tenant", tenant="x"), subject="ann")
        _write(rig, "a")
        for limit in (1, 2, 1000):
            found = rig.ids(subject="ann", newest=True, limit=limit)
            assert found == ["a", "x" * 512, "a\x00", "a%", "é", "b"], f"{limit} a page: {found}"
        assert rig.ids(subject="ann", newest=True, prefix="a") == ["a", "a\x00", "a%"]
        assert rig.ids(subject="nobody", newest=True) == []
        rig.erase("a%")
        assert rig.ids(subject="ann", newest=True, prefix="a") == ["a", "a\x00"]

    @promise(8)
    def test_the_expired_are_not_among_the_newest(self, rig: Rig) -> None:
        """What has expired is in no listing newest first, though it was updated last."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        for name in ("a", "b"):
            _write(rig, name)
        rig.write(id="short", subject="ann", ttl=2)
        rig.wait(2.5)
        assert rig.ids(subject="ann", newest=True, limit=1) == ["b", "a"]

    @promise(8)
    def test_updated_together_each_is_served_once(self, rig: Rig) -> None:
        """States that were updated at one instant are each served once, however small the pages."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        names = [f"{n:02}" for n in range(12)]
        commits = [rig.commit(id=name, subject="ann") for name in names]
        rig.run(rig.driver.commit(commits, rig.now))
        for limit in (1, 5):
            assert sorted(rig.ids(subject="ann", newest=True, limit=limit)) == names

    @promise(8)
    def test_newest_first_while_states_are_written(self, rig: Rig) -> None:
        """Untouched states appear exactly once and in order; what is written meanwhile at most once."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        stay = [f"stay {n}" for n in range(8)]
        for n, name in enumerate(stay):
            _write(rig, name)
            _write(rig, f"busy {n}")
            _write(rig, f"go {n}")
        found: list[str] = []
        cursor: str | None = None
        for n in range(100):
            page = _page(rig, cursor)
            found += [key[2] for key in page.keys]
            cursor = page.cursor
            if cursor is None:
                break
            rig.wait(0.01)
            _write(rig, f"busy {n % 8}")
            _write(rig, f"come {n}")
            gone = [name for name in (f"go {n % 8}", found[-1]) if not name.startswith("stay")]
            for name in gone:  # the one that the page ended with, too
                rig.erase(name)
        else:
            raise AssertionError("a listing must come to an end")
        assert [name for name in found if name.startswith("stay")] == stay[::-1]
        assert len(found) == len(set(found)), "a listing newest first served an id twice"

    @promise(8)
    def test_a_cursor_belongs_to_its_order(self, rig: Rig) -> None:
        """A cursor of another order or subject is `Invalid`, and so is one that is made up."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        for n in range(5):
            _write(rig, f"{n}")
        cursor = _page(rig, None).cursor
        assert cursor is not None, "a page of 2 of 5 states must not be the last"
        for asked in (
            Scan(rig.tenant, KIND, "ann", cursor=cursor),
            Scan(rig.tenant, KIND, "an", newest=True, cursor=cursor),
            Scan(rig.tenant, KIND, "ann", "1", newest=True, cursor=cursor),
            Scan(rig.tenant, KIND, "ann", newest=True, cursor="nonsense"),
            Scan(rig.tenant, KIND, "ann", newest=True, cursor=cursor[:8] + "AAAA"),
        ):
            with pytest.raises(Invalid):
                rig.run(rig.driver.scan(asked, rig.now))


def _write(rig: Rig, name: str) -> None:
    rig.write(Add("sum", "k", 1), id=name, subject="ann")
    rig.wait(0.01)


def _page(rig: Rig, cursor: str | None) -> Page:
    asked = Scan(rig.tenant, KIND, "ann", newest=True, cursor=cursor, limit=2)
    return rig.run(rig.driver.scan(asked, rig.now))
