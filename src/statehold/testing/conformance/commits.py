"""Promises 1 and 2: a commit is whole, and is applied once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from statehold.changes import Accumulate, Add, Append, Change, Drop, Put
from statehold.commits import ABSENT, EVERYTHING, PRESENT, Revision, Want
from statehold.driver import Conflicted, Feature, Refused, Written
from statehold.testing.backend import rounds
from statehold.testing.conformance.base import Cases, need
from statehold.testing.naive import array
from statehold.testing.promises import promise
from statehold.testing.rig import Rig, plain

ONE_OF_EACH = (
    Put("note", "", b'"seen"'),
    Add("sum", "k", 2),
    Accumulate("array", "k", array(1.0, -0.5)),
    Append("log", (b'"a"', b'"b"'), 10),
    Put("once", "k", b'"first"', if_absent=True),
)
AFTER_ONE = {
    "note": {"": b'"seen"'},
    "sum": {"k": 2},
    "array": {"k": array(1.0, -0.5)},
    "log": [b'"a"', b'"b"'],
    "once": {"k": b'"first"'},
}
TO_BE_REFUSED: dict[str, Change] = {
    "bound": Put("map", "new", b'"x"', bound=1),
    "range": Add("sum", "big", 1),
    "shape": Accumulate("array", "pair", array(1.0)),
    "type": Add("map", "there", 1),
}


class Commits(Cases):
    """A commit is whole, and is applied once."""

    # ------------------------------------------------------------------------- 1: atomic

    @promise(1)
    def test_a_commit_lands_whole(self, rig: Rig) -> None:
        """All changes of one commit stand together, under one revision."""
        written = rig.write(*ONE_OF_EACH)
        assert rig.fields() == AFTER_ONE
        assert rig.stands().revision == written.revision

    @promise(1)
    def test_changes_apply_in_order(self, rig: Rig) -> None:
        """Later changes of a commit see the earlier ones."""
        rig.write(
            Put("map", "a", b'"1"'),
            Drop("map"),
            Put("map", "b", b'"2"', bound=1),
            Put("map", "b", b'"3"', if_absent=True),
            Append("log", (b'"old"',), 5),
            Drop("log"),
            Append("log", (b'"new"',), 5),
            Add("sum", "k", 5),
            Drop("sum", "k"),
            Add("sum", "k", 7),
        )
        assert rig.fields() == {"map": {"b": b'"2"'}, "log": [b'"new"'], "sum": {"k": 7}}

    @promise(1)
    @pytest.mark.parametrize("reason", TO_BE_REFUSED)
    def test_a_refused_commit_leaves_nothing(self, rig: Rig, reason: str) -> None:
        """When a change is refused, the changes before it are undone: cells, revision, deadline."""
        rig.write(
            Put("map", "there", b'"x"'),
            Add("sum", "big", 2**63 - 1),
            Accumulate("array", "pair", array(1.0, 2.0)),
            Append("log", (b'"a"',), 3),
        )
        before, held = rig.stands(), rig.fields()
        rig.wait(0.5)
        options: dict[str, Any] = {"epoch": 3} if rig.has(Feature.EPOCH) else {}
        outcome = rig.try_(
            Put("note", "", b'"new"'),
            Put("map", "there", b'"y"'),
            Add("sum", "other", 1),
            Append("log", (b'"b"',), 3),
            Drop("array", "pair") if reason != "shape" else Drop("once"),
            TO_BE_REFUSED[reason],
            op="refused",
            **options,
        )
        field = TO_BE_REFUSED[reason].field
        assert isinstance(outcome, Refused), f"a change past its {reason} was accepted: {outcome}"
        assert (outcome.field, outcome.reason) == (field, reason)
        after = rig.stands()
        assert rig.fields() == held
        assert (after.revision, after.updated, after.deadline, after.epoch) == (
            before.revision,
            before.updated,
            before.deadline,
            before.epoch,
        )

    @promise(1)
    def test_a_refused_drop_puts_everything_back(self, rig: Rig) -> None:
        """A refused commit that had dropped and remade fields leaves them, and those who read them."""
        rig.write(Put("map", "k", b'"old"'), Add("sum", "k", 1), Append("log", (b'"a"',), 5))
        read = rig.stands()
        outcome = rig.try_(
            Drop("map"),
            Put("map", "other", b'"x"'),
            Drop("sum", "k"),
            Add("sum", "k", 9),
            Drop("log"),
            Append("log", (b'"z"',), 5),
            Put("map", "third", b'"y"', bound=1),
        )
        assert isinstance(outcome, Refused)
        rig.write(Put("map", "k", b'"new"'), Add("sum", "k", 1), Append("log", (b'"b"',), 5))
        assert plain(read)["map"] == {"k": b'"old"'}, "an earlier read changed under its reader"
        assert rig.fields() == {
            "map": {"k": b'"new"'},
            "sum": {"k": 2},
            "log": [b'"a"', b'"b"'],
        }

    @promise(1)
    def test_a_refused_first_commit_makes_no_state(self, rig: Rig) -> None:
        """A state whose first commit is refused stays absent."""
        outcome = rig.try_(Put("note", "", b'"x"'), Put("map", "k", b'"x"', bound=0))
        assert isinstance(outcome, Refused)
        assert rig.read() is None
        if rig.has(Feature.SCAN):
            assert rig.ids() == []

    @promise(1)
    def test_neighbours_in_a_batch_are_independent(self, rig: Rig) -> None:
        """A refused commit in a batch leaves the others alone, on the same key and on others."""
        outcomes = rig.send(
            rig.commit(Add("sum", "k", 1), Append("log", (b'"1"',), 9)),
            rig.commit(Append("log", (b'"no"',), 9), Put("map", "k", b'"x"', bound=0)),
            rig.commit(Add("sum", "k", 10), Append("log", (b'"2"',), 9)),
            rig.commit(Add("sum", "k", 100), id="b"),
        )
        assert [type(outcome) for outcome in outcomes] == [Written, Refused, Written, Written]
        assert rig.fields() == {"sum": {"k": 11}, "log": [b'"1"', b'"2"']}
        assert rig.fields("b") == {"sum": {"k": 100}}

    @promise(1)
    def test_no_reader_sees_half_a_commit(self, rig: Rig) -> None:
        """While commits are made, every read finds fields that agree with each other."""
        rig.write(Add("sum", "n", 0))
        done = threading.Event()
        halves: list[Any] = []
        driver, now, key = rig.driver, rig.now, rig.key()

        async def write() -> None:
            try:
                for n in range(1, rounds(150) + 1):
                    item = f'"{n}"'.encode()
                    changes = (Add("sum", "n", 1), Append("log", (item,), 5), Put("note", "", item))
                    await driver.commit([rig.commit(*changes)], now)
            finally:
                done.set()

        async def watch() -> None:
            while not done.is_set():
                if driver.suspends:
                    await asyncio.sleep(0)  # a read that need not wait lets no one else go on
                cells = (await driver.read([key], EVERYTHING, now))[0]
                if cells is None:
                    halves.append(None)
                    continue
                held = plain(cells)
                last = f'"{held["sum"]["n"]}"'.encode()
                seen = (
                    held.get("log", [b'"0"'])[-1],
                    held.get("note", {"": b'"0"'})[""],
                    f'"{cells.revision.number - 1}"'.encode(),
                )
                if seen != (last,) * 3:
                    halves.append((last, seen))

        errors = [error for error in rig.run.together(write, watch, watch) if error is not None]
        assert not errors, errors
        assert not halves, f"half a commit was read: {halves[:3]}"

    @promise(1)
    def test_returned_cells_are_those_of_the_commit(self, rig: Rig) -> None:
        """`returning` answers with the state right after the commit, cut as asked."""
        need(rig, Feature.RETURNING)
        rig.write(*ONE_OF_EACH)
        first, second = rig.send(
            rig.commit(Add("sum", "k", 1), returning=Want(fields=("sum",))),
            rig.commit(Append("log", (b'"c"',), 9), returning=Want(fields=("log",), tail=2)),
        )
        assert isinstance(first, Written)
        assert isinstance(second, Written)
        assert first.returned is not None
        assert second.returned is not None
        assert plain(first.returned)["sum"] == {"k": 3}
        assert set(first.returned.fields) == {"sum"}
        assert list(second.returned.fields["log"]) == [b'"b"', b'"c"']
        assert first.returned.revision == first.revision != second.revision

    # ------------------------------------------------------------------- 2: exactly once

    @promise(2)
    def test_a_repeated_op_id_has_one_effect(self, rig: Rig) -> None:
        """The same op id twice applies once and answers the same, and says that it is a repeat."""
        first = rig.write(*ONE_OF_EACH, op="op 1")
        again = rig.write(*ONE_OF_EACH, op="op 1")
        assert rig.fields() == AFTER_ONE
        assert again.revision == first.revision
        assert (first.repeated, again.repeated) == (False, True)

    @promise(2)
    def test_a_repeat_answers_with_its_own_revision(self, rig: Rig) -> None:
        """A repeat after others wrote answers with the first one's revision, not the newest."""
        first = rig.write(Add("sum", "k", 1), op="op 1")
        rig.write(Add("sum", "k", 10), op="op 2")
        rig.write(Add("sum", "k", 100))
        assert rig.write(Add("sum", "k", 1), op="op 1").revision == first.revision
        assert rig.fields() == {"sum": {"k": 111}}

    @promise(2)
    def test_a_repeat_within_one_batch(self, rig: Rig) -> None:
        """A batch that carries an op id twice applies it once."""
        commit = rig.commit(Add("sum", "k", 1), op="op 1")
        first, again = rig.send(commit, commit)
        assert isinstance(first, Written)
        assert isinstance(again, Written)
        assert (again.revision, again.repeated) == (first.revision, True)
        assert rig.fields() == {"sum": {"k": 1}}

    @promise(2)
    def test_a_repeat_comes_before_expect_and_epoch(self, rig: Rig) -> None:
        """A commit whose answer was lost is answered again, though its condition no longer holds."""
        need(rig, Feature.EXPECT, Feature.EPOCH)
        first = rig.write(Add("sum", "k", 1), op="op 1", expect=ABSENT, epoch=1)
        rig.write(Add("sum", "k", 10), epoch=2)
        again = rig.write(Add("sum", "k", 1), op="op 1", expect=ABSENT, epoch=1)
        assert (again.revision, again.repeated) == (first.revision, True)
        assert rig.fields() == {"sum": {"k": 11}}

    @promise(2)
    def test_a_repeat_returns_what_stands_now(self, rig: Rig) -> None:
        """A repeat that asks for cells gets those that stand now."""
        need(rig, Feature.RETURNING)
        rig.write(Add("sum", "k", 1), op="op 1")
        rig.write(Add("sum", "k", 10))
        again = rig.write(Add("sum", "k", 1), op="op 1", returning=EVERYTHING)
        assert again.returned is not None
        assert plain(again.returned)["sum"] == {"k": 11}
        assert again.returned.revision.number == 2

    @promise(2)
    def test_the_newest_op_ids_are_remembered(self, rig: Rig) -> None:
        """As many op ids as the commits say (`ops`) are remembered, the newest ones."""
        for n in range(40):
            rig.write(Add("sum", "k", 1), op=f"op {n}", ops=16)
        for n in reversed(range(24, 40)):
            assert rig.write(Add("sum", "k", 1), op=f"op {n}", ops=16).repeated, f"forgot op {n}"
        assert rig.fields() == {"sum": {"k": 40}}

    @promise(2)
    def test_op_ids_belong_to_one_state(self, rig: Rig) -> None:
        """The same op id on another key is another commit."""
        rig.write(Add("sum", "k", 1), op="op 1")
        other = rig.write(Add("sum", "k", 1), op="op 1", id="b")
        assert not other.repeated
        assert rig.fields("b") == {"sum": {"k": 1}}

    @promise(2)
    def test_commits_without_op_id_are_never_repeats(self, rig: Rig) -> None:
        """An empty op id is no id: each such commit is applied."""
        for _ in range(3):
            assert not rig.write(Add("sum", "k", 1), op="").repeated
        assert rig.fields() == {"sum": {"k": 3}}

    @promise(2)
    def test_a_commit_that_was_not_written_may_be_tried_again(self, rig: Rig) -> None:
        """An op id that was refused or in conflict is not taken for applied."""
        rig.write(Put("map", "there", b'"x"'))
        change = Put("map", "k", b'"x"', bound=1)
        assert isinstance(rig.try_(change, op="op 1"), Refused)
        rig.write(Drop("map", "there"))
        assert not rig.write(change, op="op 1").repeated
        if rig.has(Feature.EXPECT):
            stale = Revision(1, 1)
            assert isinstance(rig.try_(Add("sum", "k", 1), op="op 2", expect=stale), Conflicted)
            assert not rig.write(Add("sum", "k", 1), op="op 2", expect=PRESENT).repeated
            assert rig.fields()["sum"] == {"k": 1}

    @promise(2)
    @pytest.mark.parametrize("op", ["é\n'\"", "o:p*%{}", "x" * 200, "1", " 1", "1 "])
    def test_op_ids_are_any_text(self, rig: Rig, op: str) -> None:
        """Op ids are compared whole, whatever they are made of."""
        rig.write(Add("sum", "k", 1), op=op)
        assert rig.write(Add("sum", "k", 1), op=op).repeated
        assert not rig.write(Add("sum", "k", 1), op=op + "x").repeated
        assert rig.fields() == {"sum": {"k": 2}}

    @promise(2)
    def test_op_ids_survive_reopening(self, rig: Rig) -> None:
        """A retry after a restart of the process is a repeat."""
        need(rig, Feature.DURABLE)
        first = rig.write(Add("sum", "k", 1), op="op 1")
        rig.reopen()
        again = rig.write(Add("sum", "k", 1), op="op 1")
        assert (again.revision, again.repeated) == (first.revision, True)
        assert rig.fields() == {"sum": {"k": 1}}

    @promise(2)
    def test_a_retry_through_another_driver_is_a_repeat(self, rig: Rig) -> None:
        """Op ids are known to every process that shares the store."""
        need(rig, Feature.SHARED)
        first = rig.write(Add("sum", "k", 1), op="op 1")
        again = rig.another().write(Add("sum", "k", 1), op="op 1")
        assert (again.revision, again.repeated) == (first.revision, True)
        assert rig.fields() == {"sum": {"k": 1}}
