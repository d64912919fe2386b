"""Promises 5, 13 and 16: what is held, how much of it, and that it is held as it was given."""

from __future__ import annotations

import math
from typing import Any

import pytest

from statehold.changes import Accumulate, Add, Append, Drop, Put
from statehold.commits import EVERYTHING, Want
from statehold.driver import Cells, Feature, Refused, Written
from statehold.testing.conformance.base import Cases, need
from statehold.testing.conformance.commits import ONE_OF_EACH
from statehold.testing.naive import array, close, floats
from statehold.testing.promises import promise
from statehold.testing.rig import FIELDS, Rig, plain

MAKERS = {"map": b'"x"', "book": b'"x"', "sum": 1, "array": array(1.0)}


def made(field: str, entry: str, bound: int, *, drop_lowest: bool = False) -> Any:
    """The change that makes an entry in a field of the kit."""
    if field in ("sum", "window"):
        return Add(field, entry, 1, bound, drop_lowest)
    if field == "array":
        return Accumulate(field, entry, array(1.0), bound, drop_lowest)
    return Put(field, entry, b'"x"', bound=bound, drop_lowest=drop_lowest)


class Bounds(Cases):
    """What is held, how much of it, and that it is held as it was given."""

    # ------------------------------------------------------------------------ 5: bounded

    @promise(5)
    @pytest.mark.parametrize("keep", [1, 2, 7, 50])
    def test_keep_holds_exactly(self, rig: Rig, keep: int) -> None:
        """A list holds its newest `keep` items after every commit, in the order of commits."""
        kept: list[bytes] = []
        for n in range(0, 3 * keep + 3, 3):
            items = tuple(b"%d" % i for i in range(n, n + 1 + n % 4))
            kept = [*kept, *items][-keep:]
            rig.write(Append("log", items, keep))
            assert rig.fields() == {"log": kept}

    @promise(5)
    def test_one_append_may_exceed_keep(self, rig: Rig) -> None:
        """Of more items than are kept, the newest stay; a smaller `keep` cuts what was there."""
        items = tuple(b"%d" % i for i in range(40))
        rig.write(Append("log", items, 5))
        assert rig.fields() == {"log": list(items[-5:])}
        rig.write(Append("log", items[:4], 6))
        assert rig.fields() == {"log": [*items[-2:], *items[:4]]}
        rig.write(Append("log", (b'"last"',), 2))
        assert rig.fields() == {"log": [items[3], b'"last"']}

    @promise(5)
    def test_order_is_commit_order(self, rig: Rig) -> None:
        """Commits of one instant and one batch append in the order in which they were given."""
        batch = [rig.commit(Append("log", (b"%d" % n,), 100)) for n in range(30)]
        rig.send(*batch[:20])
        for commit in batch[20:]:
            rig.send(commit)
        assert rig.fields() == {"log": [b"%d" % n for n in range(30)]}

    @promise(5)
    @pytest.mark.parametrize("field", MAKERS)
    @pytest.mark.parametrize("drop_lowest", [False, True])
    def test_what_is_dropped_later_makes_no_room_before(
        self, rig: Rig, field: str, drop_lowest: bool
    ) -> None:
        """An entry stays when as many others are dropped as the bound allows, in its commit or after."""
        make = made(field, "k", 2, drop_lowest=drop_lowest)
        drops = [Drop(field, name) for name in ("x", "y", "z")]
        rig.write(make, *drops)
        once = rig.fields()
        assert once[field].keys() == {"k"}
        some = rig.send(rig.commit(make, id="b"), *(rig.commit(drop, id="b") for drop in drops))
        assert all(isinstance(outcome, Written) for outcome in some)
        assert rig.fields("b") == once
        rig.write(make, *drops, id="b")
        assert rig.fields("b")[field].keys() == {"k"}

    @promise(5)
    def test_lists_of_a_state_are_bounded_each(self, rig: Rig) -> None:
        """Two lists in one state keep their own number of items."""
        for n in range(9):
            rig.write(Append("log", (b"%d" % n,), 2), Append("trail", (b"-%d" % n,), 4))
        assert rig.fields() == {"log": [b"7", b"8"], "trail": [b"-5", b"-6", b"-7", b"-8"]}

    @promise(5)
    def test_a_tail_is_the_newest_items(self, rig: Rig) -> None:
        """`tail` cuts each list to its newest items, for all lists or by name; entries are whole."""
        items = [b"%d" % n for n in range(20)]
        rig.write(*(Append(field, tuple(items), 20) for field in ("log", "trail")), ONE_OF_EACH[1])
        for tail, log, trail in (
            (3, 3, 3),
            (50, 20, 20),
            ({"log": 2}, 2, 20),
            ({"log": 1, "trail": 4}, 1, 4),
            (0, 0, 0),
        ):
            cells = rig.read(want=Want(tail=tail))
            assert cells is not None
            found = plain(cells)
            assert found.get("log", []) == items[20 - log :]
            assert found.get("trail", []) == items[20 - trail :]
            assert found["sum"] == {"k": 2}

    @promise(5)
    def test_only_what_is_asked_is_read(self, rig: Rig) -> None:
        """`fields` reads those fields; unknown ones are absent; none reads the meta alone."""
        rig.write(*ONE_OF_EACH)
        for wanted in (("sum",), ("log", "note"), ("unheard of", "array"), ()):
            cells = rig.read(want=Want(fields=wanted))
            assert cells is not None
            assert set(plain(cells)) == set(wanted) - {"unheard of"}
            assert cells.revision.number == 1

    @promise(5)
    def test_only_the_entries_asked_for_are_read(self, rig: Rig) -> None:
        """`entries` reads these of a field's entries; other fields, and lists, are whole."""
        rig.write(
            *(made(field, f"k{n}", 9) for field in MAKERS for n in range(5)),
            *(Append(field, (b"1", b"2"), 9) for field in ("log", "trail")),
            Put("note", "", b'"seen"'),
        )
        whole = rig.fields()
        some = ("k3", "none", "k1", "k3")
        for field in MAKERS:
            cells = rig.read(want=Want(entries={field: some}))
            assert cells is not None
            wanted = {entry: whole[field][entry] for entry in ("k1", "k3")}
            assert plain(cells) == whole | {field: wanted}
            assert not cells.corrupted
            cells = rig.read(want=Want(fields=(field, "log"), tail=1, entries={field: some}))
            assert cells is not None
            assert plain(cells) == {field: wanted, "log": [b"2"]}
        every = dict.fromkeys(MAKERS, ("k0",))
        cells = rig.read(want=Want(entries={**every, "note": ("",), "log": ("k0",), "x": ("k0",)}))
        assert cells is not None
        one = {field: {"k0": whole[field]["k0"]} for field in MAKERS}
        assert plain(cells) == whole | one
        none = dict.fromkeys((*MAKERS, "note"), ())
        cells = rig.read(want=Want(entries={**none, "sum": ("none",)}))
        assert cells is not None
        assert plain(cells) == {"log": [b"1", b"2"], "trail": [b"1", b"2"]}

    @promise(5)
    def test_the_entries_asked_for_are_as_of_now(self, rig: Rig) -> None:
        """Single entries are read as they stand, also in the answer to a commit, and of each state."""
        rig.write(*(made("map", f"k{n}", 9) for n in range(5)), Add("sum", "k1", 1))
        rig.write(Put("map", "k1", b'"other"', bound=9), id="b")
        want = Want(("map", "sum"), entries={"map": ("k1", "k2", "k9")})
        first, second = (plain(cells) for cells in rig.read_many(["a", "b"], want) if cells)
        assert first == {"map": {"k1": b'"x"', "k2": b'"x"'}, "sum": {"k1": 1}}
        assert second == {"map": {"k1": b'"other"'}}
        need(rig, Feature.RETURNING)
        change = Put("map", "k2", b'"new"'), Drop("map", "k1"), Put("map", "k9", b"9"), Drop("sum")
        written = rig.write(*change, op="once", returning=want)
        assert written.returned is not None
        assert plain(written.returned) == {"map": {"k2": b'"new"', "k9": b"9"}}
        rig.write(Drop("map"))
        again = rig.write(*change, op="once", returning=want)
        assert again.returned is not None
        assert plain(again.returned) == {}

    @promise(5)
    @pytest.mark.parametrize("field", MAKERS)
    def test_a_full_field_refuses_a_new_entry(self, rig: Rig, field: str) -> None:
        """At its bound a field takes changes to the entries it has, and refuses one more."""
        rig.write(*(made(field, f"k{n}", 3) for n in range(3)))
        assert isinstance(rig.try_(made(field, "k1", 3)), Written)
        outcome = rig.try_(made(field, "one more", 3))
        assert isinstance(outcome, Refused), f"{field} keeps one too many: {outcome}"
        assert (outcome.field, outcome.reason) == (field, "bound")
        assert set(rig.fields()[field]) == {"k0", "k1", "k2"}
        rig.write(Drop(field, "k0"), made(field, "one more", 3))
        assert set(rig.fields()[field]) == {"one more", "k1", "k2"}

    @promise(5)
    @pytest.mark.parametrize("field", MAKERS)
    def test_a_full_field_may_drop_its_lowest(self, rig: Rig, field: str) -> None:
        """With `drop_lowest` the lowest entry gives way, which may be the new one itself."""
        for entry in ("0002", "0004", "0003", "0001", "0009", "0004", "0000"):
            rig.write(made(field, entry, 3, drop_lowest=True))
            assert len(rig.fields()[field]) <= 3
        assert set(rig.fields()[field]) == {"0003", "0004", "0009"}

    @promise(5)
    def test_lowest_is_by_code_point(self, rig: Rig) -> None:
        """Which entry is the lowest is decided by Unicode code points, not by a locale."""
        for entry in ("Z", "a", "é", "B", "\U0001f40c", "\uffee"):
            rig.write(made("window", entry, 2, drop_lowest=True))
        assert set(rig.fields()["window"]) == {"\uffee", "\U0001f40c"}

    @promise(5)
    def test_put_if_absent_keeps_the_first(self, rig: Rig) -> None:
        """Of several puts with `if_absent` the first stands, also when the field is full."""
        for value in (b'"1"', b'"2"'):
            rig.write(Put("once", "step", value, if_absent=True, bound=1))
        assert rig.fields() == {"once": {"step": b'"1"'}}
        rig.write(Drop("once", "step"))
        rig.write(Put("once", "step", b'"3"', if_absent=True, bound=1))
        assert rig.fields() == {"once": {"step": b'"3"'}}

    @promise(5)
    def test_drop_drops(self, rig: Rig) -> None:
        """`Drop` removes an entry or a whole field, lists too; what is not there does not matter."""
        rig.write(*ONE_OF_EACH, Put("map", "a", b'"1"'), Put("map", "b", b'"2"'))
        rig.write(Drop("map", "a"), Drop("map", "c"), Drop("log"), Drop("array", "k"), Drop("raw"))
        assert rig.fields() == {
            "note": {"": b'"seen"'},
            "sum": {"k": 2},
            "once": {"k": b'"first"'},
            "map": {"b": b'"2"'},
        }

    # ----------------------------------------------------------------------- 13: aliasing

    @promise(13)
    def test_what_was_read_never_changes(self, rig: Rig) -> None:
        """Cells that were read, or returned, stay as they were whatever is committed later."""
        rig.write(*ONE_OF_EACH, Put("map", "a", b'"1"'), Put("map", "b", b'"2"'))
        reads: list[Cells | None] = [
            rig.read(),
            rig.read(want=Want(fields=("map", "log", "sum", "array", "note"))),
            rig.read(want=Want(tail=1)),
        ]
        if rig.has(Feature.RETURNING):
            written = rig.write(Append("trail", (b"1",), 9), returning=EVERYTHING)
            reads.append(written.returned)
        before = [plain(cells) for cells in reads if cells is not None]
        assert len(before) == len(reads)
        for _ in range(3):
            rig.write(*ONE_OF_EACH, Put("map", "a", b'"new"'), Drop("map", "b"))
            rig.write(Put("map", "c", b'"3"'), Drop("note"), Append("log", (b'"x"',) * 20, 4))
        rig.erase()
        rig.write(*ONE_OF_EACH)
        after = [plain(cells) for cells in reads if cells is not None]
        assert after == before, "what had been read changed under its reader"

    @promise(13)
    def test_answers_to_one_call_are_apart(self, rig: Rig) -> None:
        """A state's answers within one call, and to several readers, do not depend on each other."""
        rig.write(*ONE_OF_EACH)
        first, second = rig.read_many(["a", "a"])
        assert first is not None
        assert second is not None
        assert plain(first) == plain(second)
        need(rig, Feature.RETURNING)
        commits = [rig.commit(Add("sum", "k", 1), returning=EVERYTHING) for _ in range(3)]
        sums: list[Any] = []
        for outcome in rig.send(*commits):
            assert isinstance(outcome, Written)
            assert outcome.returned is not None
            sums.append(plain(outcome.returned)["sum"]["k"])
        assert sums == [3, 4, 5], "an answer changed after it was given"

    # --------------------------------------------------------------- 16: numbers and such

    @promise(16)
    @pytest.mark.parametrize(
        "number", [0, 1, -1, 2**31, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
    )
    def test_ints_are_exact(self, rig: Rig, number: int) -> None:
        """Ints of 64 bits are kept to the last bit, and stay ints."""
        rig.write(Add("sum", "k", number))
        rig.write(Add("sum", "k", -1 if number > 0 else 1))
        rig.write(Add("sum", "k", 1 if number > 0 else -1))
        found = rig.fields()["sum"]["k"]
        assert (found, type(found)) == (number, int)

    @promise(16)
    @pytest.mark.parametrize(("number", "more"), [(2**63 - 1, 1), (-(2**63), -1), (2**62, 2**62)])
    def test_ints_never_leave_int64(self, rig: Rig, number: int, more: int) -> None:
        """A sum that leaves 64 bits is refused: it neither wraps round nor becomes a float."""
        rig.write(Add("sum", "k", number))
        outcome = rig.try_(Add("sum", "k", more))
        assert isinstance(outcome, Refused), f"a sum left int64: {outcome}"
        assert (outcome.field, outcome.reason) == ("sum", "range")
        assert rig.fields() == {"sum": {"k": number}}

    @promise(16)
    @pytest.mark.parametrize(
        "number", [0.1, -2.5, 1e-300, 1.7976931348623157e308, 5e-324, 1e15 + 0.5]
    )
    def test_floats_are_kept(self, rig: Rig, number: float) -> None:
        """Floats are kept as they are, from the smallest to the largest, and stay floats."""
        rig.write(Add("sum", "k", number))
        found = rig.fields()["sum"]["k"]
        assert (found, type(found)) == (number, float)

    @promise(16)
    def test_floats_and_ints_add_up(self, rig: Rig) -> None:
        """A whole float stays a float, a float makes the sum one, and sums are sums."""
        rig.write(Add("sum", "float", 2.0), Add("sum", "mixed", 1), Add("sum", "int", 2))
        rig.write(Add("sum", "float", 1), Add("sum", "mixed", 0.5), Add("sum", "int", -2))
        for _ in range(10):
            rig.write(Add("sum", "tenths", 0.1))
        found = rig.fields()["sum"]
        assert {name: type(value) for name, value in found.items()} == {
            "float": float,
            "mixed": float,
            "int": int,
            "tenths": float,
        }
        assert (found["float"], found["mixed"], found["int"]) == (3.0, 1.5, 0)
        assert close(found["tenths"], 1.0)

    @promise(16)
    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("there", [True, False])
    def test_nan_and_infinity_are_refused(self, rig: Rig, number: float, there: bool) -> None:
        """Adding what is no finite number is refused, to an entry that exists or not."""
        if there:
            rig.write(Add("sum", "k", 1.0))
        outcome = rig.try_(Add("sum", "k", number))
        assert isinstance(outcome, Refused), f"{number} was added: {outcome}"
        assert (outcome.field, outcome.reason) == ("sum", "range")

    @promise(16)
    def test_sums_never_become_infinite(self, rig: Rig) -> None:
        """A sum of floats or arrays that overflows is refused."""
        rig.write(Add("sum", "k", 1.5e308), Accumulate("array", "k", array(1.5e308, 0.0)))
        for change in (Add("sum", "k", 1.5e308), Accumulate("array", "k", array(1.5e308, 0.0))):
            outcome = rig.try_(change)
            assert isinstance(outcome, Refused), f"a sum overflowed: {outcome}"
            assert outcome.reason == "range"
        assert rig.fields()["sum"] == {"k": 1.5e308}

    @promise(16)
    def test_arrays_add_elementwise(self, rig: Rig) -> None:
        """Arrays are little-endian float64 and add element by element; lengths must agree."""
        numbers = [0.1 * n - 20 for n in range(400)]
        rig.write(Accumulate("array", "k", array(*numbers)))
        rig.write(Accumulate("array", "k", array(*reversed(numbers))))
        rig.write(Accumulate("array", "empty", b""))
        found = rig.fields()["array"]
        sums = zip(floats(found["k"]), numbers, reversed(numbers), strict=True)
        assert all(close(total, a + b) for total, a, b in sums)
        assert found["empty"] == b""
        assert isinstance(rig.try_(Accumulate("array", "k", array(1.0))), Refused)

    @promise(16)
    def test_empty_is_kept_apart_from_absent(self, rig: Rig) -> None:
        """Empty values, entry names and items are values; an empty list of items is no change."""
        rig.write(Put("raw", "", b""), Append("log", (b'""', b"null"), 9), Append("trail", (), 9))
        assert rig.fields() == {"raw": {"": b""}, "log": [b'""', b"null"]}
        rig.write(Append("log", (), 1))
        assert rig.fields()["log"] == [b'""', b"null"]

    @promise(16)
    def test_bytes_are_kept(self, rig: Rig) -> None:
        """Values come back byte by byte, whatever bytes they are, to a megabyte."""
        values = {"all": bytes(range(256)), "zeros": bytes(64), "large": b"ab\x00\xff" * (1 << 18)}
        rig.write(*(Put("raw", name, value) for name, value in values.items()))
        assert rig.fields() == {"raw": values}

    @promise(16)
    def test_one_field_may_hold_many(self, rig: Rig) -> None:
        """A state of all its fields, with hundreds of entries and items, comes back whole."""
        names = [f"{n}:é" for n in range(300)]
        rig.write(*(Put("map", name, b'"v"') for name in names))
        rig.write(*(Add("sum", name, n) for n, name in enumerate(names)))
        items = [b'"%s"' % name.encode() for name in names]
        rig.write(*(Append("log", (item,), 250) for item in items))
        assert rig.fields() == {
            "map": dict.fromkeys(names, b'"v"'),
            "sum": {name: n for n, name in enumerate(names)},
            "log": items[-250:],
        }
        assert {field.name for field in FIELDS} >= set(rig.fields())
