"""Promises 1, 2, 3 and 5 for lists: positions, ranges, and what changes them other than by appending."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from statehold.changes import Append, Change, Drop, Items, Put, Splice
from statehold.commits import Want
from statehold.driver import Refused
from statehold.errors import Conflict, Invalid
from statehold.testing.conformance.base import Cases
from statehold.testing.conformance.face_cases import FaceCases
from statehold.testing.face import Face
from statehold.testing.promises import promise
from statehold.testing.rig import Rig


def numbered(*numbers: int) -> tuple[bytes, ...]:
    """Items that say which they are."""
    return tuple(b"%d" % n for n in numbers)


def listed(rig: Rig, field: str = "log", want: Want | None = None) -> tuple[int, list[bytes]]:
    """The position of a list's first item, and its items."""
    cells = rig.read(want=want or Want())
    assert cells is not None
    items = cells.fields.get(field, Items())
    assert isinstance(items, Items)
    return items.first, list(items)


class Lists(Cases):
    """Lists by position, and from their newest end."""

    @promise(5)
    def test_positions_survive_trimming(self, rig: Rig) -> None:
        """The first item ever appended has position 1; trimmed or cleared, the others keep theirs."""
        for n in range(1, 8):
            rig.write(Append("log", numbered(n), 3))
            assert listed(rig) == (max(1, n - 2), [b"%d" % m for m in range(max(1, n - 2), n + 1)])
        assert listed(rig, want=Want(tail=1)) == (7, [b"7"])
        rig.write(Drop("log"))
        assert listed(rig) == (8, [])
        rig.write(Append("log", numbered(8, 9, 10, 11), 3))
        assert listed(rig) == (9, [b"9", b"10", b"11"])
        rig.write(Drop("log"), Append("log", numbered(12), 3))
        assert listed(rig) == (12, [b"12"])
        rig.write(erase=True)
        rig.write(Append("log", numbered(1), 3))
        assert listed(rig) == (1, [b"1"]), "another life begins with 1"

    @promise(3)
    def test_a_list_that_begins_spares_one_that_is_laid_anew(self, rig: Rig) -> None:
        """In one commit a list is emptied and filled, or gets another bound, and another one begins."""
        changes: tuple[Change, ...] = Splice("log", 9, 0, 3, (b"7",)), Append("log", (b"7",), 2)
        for n, change in enumerate(changes):
            id = f"state {n}"
            rig.write(Append("log", numbered(1, 2, 3), 9), id=id)
            rig.write(change, Append("trail", numbered(*range(4)), 9), id=id)
            cells = rig.stands(id)
            kept = [b"7"] if n == 0 else [b"3", b"7"]
            assert list(cells.fields["log"]) == kept, "the list that began took its place"
            assert list(cells.fields["trail"]) == [b"0", b"1", b"2", b"3"]

    @promise(5)
    def test_a_range_is_what_comes_after_a_position(self, rig: Rig) -> None:
        """`after` and `limit` give the items that follow a position, the oldest that are there first."""
        rig.write(Append("log", numbered(*range(1, 21)), 12), Append("trail", numbered(1, 2), 9))
        for after, limit, first, items in (
            (14, 3, 15, (15, 16, 17)),
            (14, None, 15, range(15, 21)),
            (0, 2, 9, (9, 10)),
            (8, 2, 9, (9, 10)),
            (19, 5, 20, (20,)),
            (20, 5, 21, ()),
            (99, None, 21, ()),
        ):
            want = Want(after={"log": after}, limit=limit, tail=1)
            assert listed(rig, want=want) == (first, list(numbered(*items)))
            assert listed(rig, "trail", want) == (2, [b"2"])
        assert listed(rig, "trail", Want(after=1)) == (2, [b"2"])
        assert listed(rig, "trail", Want(after=2)) == (3, [])

    @promise(5)
    def test_the_newest_items_are_taken_back(self, rig: Rig) -> None:
        """As many as there are; their positions are had again by what is appended next."""
        rig.write(Append("log", numbered(1, 2, 3, 4, 5), 4))
        rig.write(Splice("log", 4, take=2))
        assert listed(rig) == (2, [b"2", b"3"])
        rig.write(Append("log", numbered(6), 4), Splice("log", 4, take=1, items=numbered(7, 8, 9)))
        assert listed(rig) == (3, [b"3", b"7", b"8", b"9"])
        rig.write(Splice("log", 4, take=99))
        assert listed(rig) == (3, [])
        rig.write(Splice("log", 4, take=1), Append("log", numbered(10), 4))
        assert listed(rig) == (3, [b"10"])
        rig.write(Splice("trail", 4, take=3))
        assert listed(rig, "trail") == (1, [])

    @promise(5)
    def test_one_item_is_replaced_where_it_is(self, rig: Rig) -> None:
        """By its position; the others keep theirs, in whatever way the commit changes them besides."""
        rig.write(Append("log", numbered(1, 2, 3, 4, 5), 4))
        rig.write(Splice("log", 4, at=3, items=(b'"edited"',)))
        assert listed(rig) == (2, [b"2", b'"edited"', b"4", b"5"])
        rig.write(
            Append("log", numbered(6), 4),
            Splice("log", 4, at=6, items=(b'"new"',)),
            Splice("log", 4, at=4, items=(b"null",)),
            Append("log", numbered(7), 4),
        )
        assert listed(rig) == (4, [b"null", b"5", b'"new"', b"7"])
        for at in (3, 8):
            outcome = rig.try_(Splice("log", 4, at=at, items=(b"0",)))
            assert isinstance(outcome, Refused)
            assert (outcome.field, outcome.reason) == ("log", "gone")

    @promise(5)
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ((Splice("log", 3, take=1),), range(1, 10)),
            ((Splice("log", 3, take=2, same=numbered(9, 10)),), range(1, 9)),
            ((Splice("log", 3, at=2, items=numbered(0)),), (1, 0, *range(3, 11))),
            ((Splice("log", 3, same=numbered(10)),), range(1, 11)),
            ((Append("log", (), 3),), range(1, 11)),
            (
                (Splice("log", 3, take=1), Splice("log", 3, at=9, items=numbered(0))),
                (*range(1, 9), 0),
            ),
            ((Append("log", numbered(11), 20), Splice("log", 3, take=2)), range(1, 10)),
            ((Splice("log", 3, take=1), Append("log", numbered(0), 5)), (6, 7, 8, 9, 0)),
            ((Splice("log", 3, take=1, items=numbered(0)),), (8, 9, 0)),
            ((Splice("log", 3, items=numbered(0), same=numbered(10)),), (9, 10, 0)),
        ],
        ids=(
            "popped",
            "taken",
            "edited",
            "looked-at",
            "nothing-appended",
            "popped-and-edited",
            "appended-and-taken",
            "popped-and-appended",
            "replaced",
            "added",
        ),
    )
    def test_only_what_comes_cuts(
        self, rig: Rig, changes: tuple[Change, ...], expected: Iterable[int]
    ) -> None:
        """A lower bound than a list was made with cuts it when items come, and not when others only go."""
        rig.write(Append("log", numbered(*range(1, 11)), 10))
        rig.write(*changes)
        found, items = listed(rig)[1], list(numbered(*expected))
        assert found == items, f"{[int(item) for item in found]}, not {[int(i) for i in items]}"

    @promise(3)
    @pytest.mark.parametrize(
        "change",
        [
            Splice("log", 9, take=2, same=numbered(1, 3)),
            Splice("log", 9, take=1, same=numbered(0, 1, 2, 3)),
            Splice("log", 9, items=numbered(4), same=numbered(2)),
            Splice("log", 9, at=2, items=numbered(4), same=numbered(3)),
            Splice("trail", 9, items=numbered(4), same=numbered(3)),
        ],
        ids=("others", "more", "appended", "in-place", "absent"),
    )
    def test_what_is_not_the_same_is_not_replaced(self, rig: Rig, change: Change) -> None:
        """A splice that says what it replaces is refused where that is not there, with nothing written."""
        rig.write(Append("log", numbered(1, 2, 3), 9))
        outcome = rig.try_(Append("trail", (b"0",), 9), Drop("trail"), change)
        assert isinstance(outcome, Refused)
        assert (outcome.field, outcome.reason) == (change.field, "changed")
        assert listed(rig) == (1, [b"1", b"2", b"3"])
        assert listed(rig, "trail") == (1, [])
        rig.write(Splice("log", 9, take=2, items=numbered(9), same=numbered(2, 3)))
        rig.write(Splice("log", 9, at=1, items=numbered(8), same=numbered(1)))
        assert listed(rig) == (1, [b"8", b"9"])

    @promise(1)
    def test_a_refused_splice_leaves_nothing(self, rig: Rig) -> None:
        """What the same commit did to the list before is not there either."""
        rig.write(Append("log", numbered(1, 2, 3), 9))
        outcome = rig.try_(
            Splice("log", 9, take=2, items=numbered(4)),
            Splice("log", 9, at=1, items=numbered(5)),
            Splice("log", 9, at=7, items=numbered(6)),
        )
        assert isinstance(outcome, Refused)
        assert listed(rig) == (1, [b"1", b"2", b"3"])

    @promise(2)
    def test_a_splice_repeated_takes_nothing_more(self, rig: Rig) -> None:
        """The same op id takes the newest items once."""
        rig.write(Append("log", numbered(1, 2, 3), 9))
        for repeated in (False, True):
            assert rig.write(Splice("log", 9, take=1), op="op 1").repeated is repeated
        assert listed(rig) == (1, [b"1", b"2"])

    @promise(5)
    def test_entries_are_not_spliced(self, rig: Rig) -> None:
        """It is refused, as it is to append to them."""
        rig.write(Splice("log", 9, items=numbered(1)), Put("map", "k", b'"x"'))
        outcome = rig.try_(Splice("map", 9, items=numbered(1)))
        assert isinstance(outcome, Refused)
        assert listed(rig) == (1, [b"1"])


class FaceLists(FaceCases):
    """Lists through both APIs."""

    @promise(5)
    def test_face_a_log_is_read_by_position(self, face: Face) -> None:
        """A log tells the position of its first item, and is read after a position."""
        fields, visits = face.cls, face.visits
        for n in range(1, 8):
            visits.apply("a", fields.pages.append(f"{n}"))
        assert visits.get("a").pages.first == 4
        some = visits.get("a", after={"pages": 4}, limit=2).pages
        assert (some.first, list(some), some.positions) == (5, ["5", "6"], [5, 6])
        many = visits.get_many(["a"], fields=[fields.pages], after={fields.pages: 6})
        assert list(many["a"].pages) == ["7"]
        with pytest.raises(Invalid, match="tail or after"):
            visits.get("a", tail=1, after=2)
        assert list(visits.get("a", limit=2).pages) == ["4", "5"]

    @promise(3)
    def test_face_the_newest_item_is_had_by_one(self, face: Face) -> None:
        """What a session popped is gone once it has committed, and nobody else has it."""
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.pages.append("1", "2", "3", "4"))
        with visits.session("a") as state:
            assert state.pages.pop() == "4"
            assert state.pages.take(2) == ["2", "3"]
            assert list(state.pages) == ["1"]
        assert list(visits.get("a").pages) == ["1"]

        def pop_too_late() -> None:
            with visits.session("a") as state:
                assert state.pages.pop() == "1"
                visits.apply("a", fields.pages.append("5"))

        with pytest.raises(Conflict, match="pages"):
            pop_too_late()
        assert list(visits.get("a").pages) == ["1", "5"]
        visits.apply("a", fields.pages.pop(9))
        assert list(visits.get("a").pages) == []

    @promise(5)
    def test_face_an_item_is_edited_or_redacted(self, face: Face) -> None:
        """By its position, which stays; a redacted item is not shown, and the others keep theirs."""
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.pages.append("1", "2", "3", "4", "5"))
        visits.apply("a", fields.pages.edit(3, "x"), fields.pages.redact(4))
        pages = visits.get("a").pages
        assert (list(pages), pages.positions, pages[-1]) == (["2", "x", "5"], [2, 3, 5], "5")
        with visits.session("a") as state:
            state.pages.edit(5, "y")
            state.pages.redact(2)
        assert list(visits.get("a").pages) == ["x", "y"]
        with pytest.raises(Conflict, match="position 1"):
            visits.apply("a", fields.pages.edit(1, "z"))
        visits.apply("a", fields.pages.replace(["y"], ["z", "w"]))
        assert visits.get("a").pages.positions == [3, 5, 6]
        with pytest.raises(Conflict):
            visits.apply("a", fields.pages.replace(["y"], ["z"]))

    @promise(5)
    def test_face_what_was_redacted_is_nowhere(self, face: Face) -> None:
        """It is not counted or reached by an index; a pop takes the newest that is shown."""
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.pages.append("1", "2", "3", "4"))
        visits.apply("a", fields.pages.redact(1), fields.pages.redact(3), fields.pages.redact(4))
        visits.apply("a", fields.pages.redact(4))
        pages = visits.get("a").pages
        assert (len(pages), pages[0], pages[-1], pages[-3:]) == (1, "2", "2", ["2"])
        assert (pages.first, pages.positions, pages.last) == (1, [2], 4)
        with visits.session("a") as state:
            assert state.pages.pop() == "2"
            assert not state.pages
        visits.apply("a", fields.pages.append("new"))
        pages = visits.get("a").pages
        assert (list(pages), pages.positions) == (["new"], [2])
