"""Promise 8: names are safe, and neighbours do not overlap, whoever lists or deletes."""

from __future__ import annotations

import pytest

from statehold.changes import Add, Append, Put
from statehold.driver import Feature, Scan
from statehold.errors import Invalid
from statehold.testing.commits import KIND
from statehold.testing.conformance.base import Cases, need
from statehold.testing.promises import promise
from statehold.testing.rig import Rig, plain

NAMES = (
    "a",
    "A",
    "a ",
    " a",
    "a:log",
    "a:log:1",
    "a:",
    ":a",
    "a/b",
    "a.b",
    "a|b",
    "{a}",
    "{}",
    "a{b}c",
    "*",
    "a*",
    "?",
    "[a]",
    "a%",
    "%",
    "_",
    "a_",
    "'",
    '"',
    "a'; drop table states; --",
    "`",
    "\\",
    "a\\n",
    "a\nb",
    "a\r\n",
    "a\tb",
    "a\x00b",
    "a\x00",
    "a\x1fb",
    "a\x7f",
    "é",
    "e\u0301",
    "ß",
    "ss",
    "日本語",
    "\U0001f9a6",
    "\u202eabc",
    "\ufeffa",
    "\uffff",
    "0",
    "00",
    "1",
    "1.0",
    "null",
    "None",
    "-",
    "x" * 512,
    "x" * 511 + "y",
    "é" * 256,
)

RUN_TOGETHER = (("", "abc", "c"), ("a", "bc", "c"), ("ab", "c", "c"), ("a", "b", "cc"))
"""Tenants, kinds and ids that make the same text when nothing is put between."""


class Listing(Cases):
    """Names are safe, and neighbours do not overlap, whoever lists or deletes."""

    @promise(8)
    def test_ids_are_any_text(self, rig: Rig) -> None:
        """Every id has a state of its own, however much it looks like another or like syntax."""
        for n, name in enumerate(NAMES):
            rig.write(Add("sum", "k", n), Append("log", (b"%d" % n,), 3), id=name)
        for n, cells in enumerate(rig.read_many(NAMES)):
            assert cells is not None, f"no state for {NAMES[n]!r}"
            assert plain(cells)["sum"] == {"k": n}, f"{NAMES[n]!r} has another's state"
            assert list(cells.fields["log"]) == [b"%d" % n]

    @promise(8)
    def test_a_scan_finds_every_name_once(self, rig: Rig) -> None:
        """A scan, page by page, serves each id exactly once and exactly as it was given."""
        need(rig, Feature.SCAN)
        for name in NAMES:
            rig.write(id=name)
        for limit in (1, 7, 1000):
            assert rig.ids(limit=limit) == sorted(NAMES)

    @promise(8)
    def test_deleting_one_name_leaves_the_others(self, rig: Rig) -> None:
        """A delete reaches its own state, whatever its name is a prefix or a pattern of."""
        for name in NAMES:
            rig.write(Append("log", (b"1",), 3), id=name)
        left = list(NAMES)
        for name in ("a", "*", "%", "_", "{}", "a:", "", "a\x00", "x" * 512):
            rig.erase(name)
            left = [other for other in left if other != name]
        found = [name for name, cells in zip(NAMES, rig.read_many(NAMES), strict=True) if cells]
        assert found == left

    @promise(8)
    def test_entries_and_op_ids_are_any_text(self, rig: Rig) -> None:
        """Entry names are kept as they are, and stay apart."""
        for n, name in enumerate(("", *NAMES)):
            rig.write(Put("map", name, b"%d" % n), Add("sum", name, n), op=name and f"op {name}")
        expected = {name: n for n, name in enumerate(("", *NAMES))}
        assert rig.fields()["sum"] == expected
        assert rig.fields()["map"] == {name: b"%d" % n for name, n in expected.items()}

    @promise(8)
    def test_kinds_and_tenants_do_not_overlap(self, rig: Rig) -> None:
        """The same id in another kind or tenant is another state, however the three are joined."""
        kinds = (KIND, "basket:a", "a")
        for kind in kinds[1:]:
            rig.open_kind(kind)
        keys = [
            rig.key(id, kind=kind, tenant=tenant)
            for tenant in ("", ":a", ":a:basket", "x")
            for kind in kinds
            for id in ("a", "a:a", "basket:a:a", "b")
        ]
        for n, key in enumerate(keys):
            rig.write(Add("sum", "k", n), Append("log", (b"%d" % n,), 3), id=key)
        for n, key in enumerate(keys):
            assert rig.fields(key) == {"sum": {"k": n}, "log": [b"%d" % n]}
        rig.erase(keys[0])
        assert [rig.read(key) is None for key in keys] == [True] + [False] * (len(keys) - 1)
        need(rig, Feature.SCAN)
        assert rig.ids() == ["a:a", "b", "basket:a:a"]
        for tenant in (":a", ":a:basket", "x"):
            for kind in kinds:
                assert rig.ids(kind, tenant=tenant) == ["a", "a:a", "b", "basket:a:a"]
        assert rig.ids(tenant="nobody") == []
        assert rig.ids(tenant=":") == []

    @promise(8)
    def test_names_do_not_run_together(self, rig: Rig) -> None:
        """What ends one name and begins the next is told apart, where both make the same text."""
        subject = {"subject": "c"} if rig.has(Feature.SUBJECT) else {}
        keys = [rig.key(id, kind=kind, tenant=tenant) for tenant, kind, id in RUN_TOGETHER]
        for kind in {key[1] for key in keys}:
            rig.open_kind(kind)
        for n, key in enumerate(keys):
            assert rig.read(key) is None, f"{key} is another state"
            rig.write(Add("sum", "k", n), id=key, **subject)
        for n, key in enumerate(keys):
            assert rig.fields(key) == {"sum": {"k": n}}
        need(rig, Feature.SCAN)
        for tenant, kind, id in RUN_TOGETHER:
            assert rig.ids(kind, tenant=tenant) == [id]
        if subject:
            assert rig.ids("bc", tenant="a", subject="c") == ["c"]
            assert rig.ids("b", tenant="a", subject="cc") == []

    @promise(8)
    def test_a_scan_serves_its_own_kind(self, rig: Rig) -> None:
        """A scan of a kind has the ids of that kind, and none of one whose name begins like it."""
        need(rig, Feature.SCAN)
        for kind in ("basket2", "bask", "basket:x", "b%"):
            rig.open_kind(kind)
            rig.write(id=rig.key(f"of {kind}", kind=kind))
        rig.write(id="mine")
        assert rig.ids() == ["mine"], "a scan served the ids of another kind"
        assert rig.ids("bask") == ["of bask"]
        assert rig.ids("b%") == ["of b%"]

    @promise(8)
    def test_a_scan_goes_on_while_states_come_and_go(self, rig: Rig) -> None:
        """What lives throughout a scan is served exactly once, whatever is written or deleted."""
        need(rig, Feature.SCAN)
        stay = [f"stay {n:02}" for n in range(20)]
        for n, name in enumerate(stay):
            rig.write(id=name)
            rig.write(id=f"go {n:02}")
        found: list[str] = []
        cursor: str | None = None
        for n in range(1000):
            scan = rig.driver.scan(Scan(rig.tenant, KIND, cursor=cursor, limit=3), rig.now)
            page = rig.run(scan)
            found += [key[2] for key in page.keys]
            cursor = page.cursor
            if cursor is None:
                break
            if n < 20:
                rig.erase(f"go {n:02}")
                rig.write(Add("sum", "k", 1), id=stay[n])
                if n % 2:  # so that what is served already becomes fewer, then more
                    rig.write(id=f"come {n:02}")
                    rig.write(id=f"come {n:02} too")
                rig.write(id=f"zoom {n:02}")
        else:
            raise AssertionError("a scan must come to an end")
        assert sorted(name for name in found if name.startswith("stay")) == stay
        assert len(found) == len(set(found)), "a scan served an id twice"

    @promise(8)
    def test_a_foreign_cursor_is_invalid(self, rig: Rig) -> None:
        """A cursor that no scan gave out is `Invalid`, not a scan from somewhere."""
        need(rig, Feature.SCAN)
        rig.write()
        for cursor in ("nonsense \x00", "'; --"):
            scan = rig.driver.scan(Scan(rig.tenant, KIND, cursor=cursor, limit=3), rig.now)
            with pytest.raises(Invalid):
                rig.run(scan)

    # ------------------------------------------------------------------------ by subject

    @promise(8)
    def test_find_serves_the_subjects_own(self, rig: Rig) -> None:
        """By subject one finds that subject's states of that kind and tenant, and no other's."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        rig.open_kind("other")
        subjects = ("ann", "ann:b", "an", "ANN", "ann%", "a*", "", "é\n'\"\x00", "x" * 512)
        for n, subject in enumerate(subjects):
            for id in (f"{n}", f"{n}:b"):
                rig.write(id=id, subject=subject)
                rig.write(id=rig.key(id, kind="other"), subject=subject)
                rig.write(id=rig.key(id, tenant="x"), subject=subject)
        rig.write(id="nobody's")
        for n, subject in enumerate(subjects):
            assert rig.ids(subject=subject, limit=1) == [f"{n}", f"{n}:b"], repr(subject)
        assert rig.ids(subject="nobody") == []

    @promise(8)
    def test_a_subject_follows_the_state(self, rig: Rig) -> None:
        """A commit may name another subject; without one the subject stays; refused ones count not."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        rig.write(subject="ann")
        rig.write(Add("sum", "k", 1))
        assert rig.stands().subject == "ann"
        rig.try_(Put("map", "k", b'"x"', bound=0), subject="eve")
        assert rig.ids(subject="eve") == []
        rig.write(subject="bob")
        assert (rig.ids(subject="ann"), rig.ids(subject="bob")) == ([], ["a"])
        assert rig.stands().subject == "bob"
        rig.erase()
        assert rig.ids(subject="bob") == []

    @promise(8)
    def test_subjects_survive_reopening(self, rig: Rig) -> None:
        """A subject's states are found after a restart."""
        need(rig, Feature.SCAN, Feature.SUBJECT, Feature.DURABLE)
        rig.write(subject="ann")
        rig.reopen()
        assert rig.ids(subject="ann") == ["a"]
