"""Promise 8: a listing by what ids begin with."""

from __future__ import annotations

import pytest

from statehold.changes import Add
from statehold.driver import Feature, Scan
from statehold.errors import Invalid
from statehold.testing.commits import KIND
from statehold.testing.conformance.base import Cases, need
from statehold.testing.conformance.listing import NAMES
from statehold.testing.promises import promise
from statehold.testing.rig import Rig

LAST = "\U0010ffff"
"""The last character there is."""

PREFIXES = (
    "a",
    "a:",
    "a:log:1",
    "%",
    "a%",
    "_",
    "a_",
    "*",
    "?",
    "[",
    "[a]",
    "{",
    "\\",
    "a\\",
    "'",
    "a\x00",
    "e",
    "é",
    "日",
    "\U0001f9a6",
    "\ud7ff",
    "\uffff",
    LAST,
    LAST + LAST,
    f"a{LAST}",
    "x" * 511,
    "x" * 512,
    "é" * 255,
    "nothing",
)
MORE_NAMES = (
    *NAMES,
    "\ud7ff",
    "\ud7ffa",
    "\ue000",
    LAST,
    LAST + "a",
    LAST + LAST,
    f"a{LAST}",
    f"a{LAST}b",
    "a[",
    "a]",
    "b",
    "a\x00\x00",
    "a\x01",
)


class Prefixes(Cases):
    """What a listing of the ids that begin alike serves."""

    @promise(8)
    def test_a_prefix_is_text_and_no_pattern(self, rig: Rig) -> None:
        """By a prefix one finds each id that begins with it, and no other, whatever it looks like."""
        need(rig, Feature.SCAN)
        for name in MORE_NAMES:
            rig.write(id=name)
        for prefix in PREFIXES:
            expected = sorted(name for name in MORE_NAMES if name.startswith(prefix))
            for limit in (1, 1000):
                found = rig.ids(prefix=prefix, limit=limit)
                assert found == expected, f"with the prefix {prefix!r}, {limit} a page"

    @promise(8)
    def test_a_prefix_keeps_to_its_tenant_and_kind(self, rig: Rig) -> None:
        """A prefix reaches no id of a tenant or kind whose name begins like this one's."""
        need(rig, Feature.SCAN)
        for kind in ("basket2", "bask"):
            rig.open_kind(kind)
        for tenant in ("", "x", "xy"):
            for kind in (KIND, "basket2", "bask"):
                rig.write(id=rig.key(f"y of {tenant} {kind}", kind=kind, tenant=tenant))
        for tenant in ("", "x", "xy"):
            for kind in (KIND, "basket2", "bask"):
                found = rig.ids(kind, tenant=tenant, prefix="y")
                assert found == [f"y of {tenant} {kind}"], f"{found} in {tenant!r}, {kind!r}"

    @promise(8)
    def test_a_prefix_of_a_subjects_own(self, rig: Rig) -> None:
        """By subject and prefix one finds that subject's states that begin with it."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        for subject in ("ann", "an"):
            for name in ("a", "a%", "ab", "b", "na"):
                rig.write(id=f"{name} {subject}", subject=subject)
        assert rig.ids(subject="ann", prefix="a", limit=1) == ["a ann", "a% ann", "ab ann"]
        assert rig.ids(subject="an", prefix="a%") == ["a% an"]
        assert rig.ids(subject="an", prefix="nobody") == []

    @promise(8)
    def test_a_listing_by_prefix_goes_on_while_states_come_and_go(self, rig: Rig) -> None:
        """Where the last of a page is deleted before the next one, no other of the prefix is skipped."""
        need(rig, Feature.SCAN)
        names = [f"a{n}" for n in range(12)]
        for name in ("a", *names, "b"):
            rig.write(Add("sum", "k", 1), id=name)
        rig.erase("a")
        found: list[str] = []
        cursor: str | None = None
        for n in range(100):
            page = rig.run(
                rig.driver.scan(Scan(rig.tenant, KIND, prefix="a", cursor=cursor, limit=2), rig.now)
            )
            found += [key[2] for key in page.keys]
            if page.keys:
                rig.erase(page.keys[-1])
            rig.write(id=f"b{n}")
            cursor = page.cursor
            if cursor is None:
                break
        assert sorted(found) == sorted(names)

    @promise(8)
    def test_a_cursor_belongs_to_its_prefix(self, rig: Rig) -> None:
        """A cursor of another prefix's listing is `Invalid`, and skips nothing."""
        need(rig, Feature.SCAN)
        for n in range(5):
            rig.write(id=f"a{n}")
        page = rig.run(rig.driver.scan(Scan(rig.tenant, KIND, prefix="a", limit=2), rig.now))
        for prefix in ("", "a1", "b"):
            asked = Scan(rig.tenant, KIND, prefix=prefix, cursor=page.cursor, limit=2)
            if page.cursor is not None:
                with pytest.raises(Invalid):
                    rig.run(rig.driver.scan(asked, rig.now))
