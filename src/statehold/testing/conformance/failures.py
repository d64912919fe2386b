"""Promises 7, 9, 10, 11 and 15: what a driver says when it cannot, must not or no longer does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from statehold.changes import Add, Append, Put
from statehold.commits import ABSENT, EVERYTHING, PRESENT, Want
from statehold.driver import Conflicted, Feature, FencedOff, Refused, Scan, Written
from statehold.errors import Closed, Unavailable
from statehold.testing.backend import rounds
from statehold.testing.commits import KIND
from statehold.testing.conformance.base import Cases, need
from statehold.testing.conformance.commits import ONE_OF_EACH
from statehold.testing.promises import promise
from statehold.testing.rig import Rig, plain


def calls(rig: Rig) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    """Each call of a driver, to be made."""
    driver = rig.driver
    made: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "read": lambda: driver.read([rig.key()], EVERYTHING, rig.now),
        "commit": lambda: driver.commit([rig.commit(Add("sum", "k", 1))], rig.now),
        "erase": lambda: driver.commit([rig.commit(erase=True)], rig.now),
        "check": lambda: driver.check(rig.now),
    }
    if rig.has(Feature.SCAN):
        made["scan"] = lambda: driver.scan(Scan(rig.tenant, KIND), rig.now)
    return made


class Failures(Cases):
    """What a driver says when it cannot, must not or no longer does."""

    # ------------------------------------------------------------------------ 7: fencing

    @promise(7)
    def test_an_older_epoch_is_refused(self, rig: Rig) -> None:
        """Once an epoch has written, older ones and unfenced writers are refused, with its number."""
        need(rig, Feature.EPOCH)
        rig.write(Add("sum", "k", 1), epoch=4)
        rig.write(Add("sum", "k", 1), epoch=4)
        rig.write(Add("sum", "k", 1), epoch=7)
        before = rig.stands()
        assert before.epoch == 7
        for epoch in (0, 1, 4, 6):
            outcome = rig.try_(Add("sum", "k", 100), epoch=epoch, op=f"op {epoch}")
            assert outcome == FencedOff(7), f"epoch {epoch} wrote after epoch 7: {outcome}"
            assert rig.erase(epoch=epoch) == FencedOff(7), "an old epoch deleted"
        assert rig.fields() == {"sum": {"k": 3}}
        assert rig.stands().revision == before.revision
        rig.write(Add("sum", "k", 1), epoch=7, op="op 6")
        assert rig.fields() == {"sum": {"k": 4}}, "a refused op id was taken for applied"

    @promise(7)
    def test_a_refused_commit_raises_no_epoch(self, rig: Rig) -> None:
        """The epoch that counts is that of commits which stand."""
        need(rig, Feature.EPOCH, Feature.EXPECT)
        rig.write(Add("sum", "k", 1), epoch=1)
        assert isinstance(rig.try_(Put("map", "k", b'"x"', bound=0), epoch=9), Refused)
        assert isinstance(rig.try_(Add("sum", "k", 1), epoch=9, expect=ABSENT), Conflicted)
        rig.write(Add("sum", "k", 1), epoch=1)

    @promise(7)
    def test_fencing_comes_before_expect(self, rig: Rig) -> None:
        """An old writer learns that it is fenced, not that it should read and try again."""
        need(rig, Feature.EPOCH, Feature.EXPECT)
        rig.write(Add("sum", "k", 1), epoch=3)
        assert rig.try_(Add("sum", "k", 1), epoch=2, expect=ABSENT) == FencedOff(3)

    @promise(7)
    def test_large_epochs_are_kept(self, rig: Rig) -> None:
        """Epochs count up to 2^53, enough for microseconds as epochs."""
        need(rig, Feature.EPOCH)
        rig.write(epoch=2**53)
        assert rig.try_(epoch=2**53 - 1) == FencedOff(2**53)
        rig.write(epoch=2**53)

    @promise(7)
    def test_epochs_survive_reopening(self, rig: Rig) -> None:
        """A writer from before a restart stays fenced after it."""
        need(rig, Feature.EPOCH, Feature.DURABLE)
        rig.write(Add("sum", "k", 1), epoch=3)
        rig.reopen()
        assert rig.try_(Add("sum", "k", 1), epoch=2) == FencedOff(3)

    # ------------------------------------------------------------------------- 9: outage

    @promise(9)
    def test_a_store_that_is_down_is_not_empty(self, rig: Rig) -> None:
        """While the store cannot answer every call raises `Unavailable`; then all is as before."""
        if rig.backend.outage is None:
            pytest.skip("the backend has no hook `outage`")
        rig.write(*ONE_OF_EACH)
        before = rig.fields()
        with rig.backend.outage():
            for name, call in calls(rig).items():
                try:
                    answer = rig.run(call())
                except Unavailable:
                    continue
                raise AssertionError(f"{name} answered while the store was down: {answer}")
        after = rig.fields()
        after["sum"] = before["sum"]  # whether a commit without an answer took effect is not known
        assert after == before

    # ------------------------------------------------------------------ 10: cancellation

    @promise(10)
    def test_a_cancelled_call_is_whole_or_nothing(self, rig: Rig) -> None:
        """Cancelled wherever it suspends, a commit is applied or not; the driver goes on."""
        if not rig.driver.suspends:
            pytest.skip("the driver does not suspend, so nothing can be cancelled in it")
        tries = rounds(25)

        async def cancel_after(steps: int, work: Coroutine[Any, Any, Any]) -> bool:
            task = asyncio.ensure_future(work)
            for _ in range(steps):
                await asyncio.sleep(0 if steps < tries // 2 else 0.0002 * steps / tries)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return True
            return False

        async def play() -> None:
            driver, now = rig.driver, rig.now
            for n in range(tries):
                both = (Add("sum", "k", 1), Append("log", (b"%d" % n,), 1000))
                commit = rig.commit(*both, op=f"op {n}", ops=1000)
                await cancel_after(n, driver.commit([commit], now))
                await cancel_after(n, driver.read([rig.key()], EVERYTHING, now))
                # others share the driver, and are not cancelled with it
                other = driver.commit([rig.commit(Add("sum", "k", 1), id="other")], now)
                mine = asyncio.ensure_future(other)
                await cancel_after(n % 4, driver.commit([rig.commit(*both, op=f"too {n}")], now))
                assert isinstance((await mine)[0], Written)
                cells = (await driver.read([rig.key()], EVERYTHING, now))[0]
                if cells is not None:
                    total = plain(cells)["sum"]["k"]
                    assert total == len(cells.fields["log"]), "half of a cancelled commit"
                await driver.commit([commit], now)
            cells = (await driver.read([rig.key()], EVERYTHING, now))[0]
            assert cells is not None
            logged = list(cells.fields["log"])
            for n in range(tries):
                assert logged.count(b"%d" % n) in (1, 2), "a cancelled op was lost or repeated"

        rig.run(play())
        assert rig.fields("other") == {"sum": {"k": tries}}

    # -------------------------------------------------------------------- 11: corruption

    @promise(11)
    def test_a_broken_cell_leaves_the_others(self, rig: Rig) -> None:
        """A field that the driver cannot read is named in `corrupted`; the others are served."""
        if rig.backend.corrupt is None:
            pytest.skip("the backend has no hook `corrupt`")
        rig.write(*ONE_OF_EACH)
        expected = rig.fields()
        del expected["log"]
        rig.backend.corrupt(rig.key(), "log")
        cells = rig.stands()
        assert "log" in cells.corrupted, "a broken field was not reported"
        assert "log" not in cells.fields, "a broken field was served"
        assert rig.fields() == expected
        rig.write(Add("sum", "k", 1))
        assert rig.fields()["sum"] == {"k": 3}, "a state with a broken field takes no commits"

    # ----------------------------------------------------------------- 15: bulk and close

    @promise(15)
    def test_bulk_calls_answer_for_each_key(self, rig: Rig) -> None:
        """A batch with every outcome in it answers each in its place."""
        rig.write(Add("sum", "k", 1), epoch=5 if rig.has(Feature.EPOCH) else 0)
        epoch = {"epoch": 5} if rig.has(Feature.EPOCH) else {}
        batch = [rig.commit(Add("sum", "k", n), id=f"n {n}") for n in range(100)]
        expected: list[type] = [Written] * 100
        batch[7] = rig.commit(Put("map", "k", b'"x"', bound=0), id="n 7")
        expected[7] = Refused
        batch[9] = rig.commit(erase=True, id="a", **epoch)
        if rig.has(Feature.EPOCH):
            batch[3] = rig.commit(Add("sum", "k", 1), id="a", epoch=4)
            expected[3] = FencedOff
        if rig.has(Feature.EXPECT):
            batch[5] = rig.commit(Add("sum", "k", 1), id="n 5", expect=PRESENT)
            expected[5] = Conflicted
        outcomes = rig.send(*batch)
        assert [type(outcome) for outcome in outcomes] == expected
        found = rig.read_many(["n 99", "nobody", "n 7", "n 0", "n 99", "a"])
        sums = [None if cells is None else plain(cells)["sum"]["k"] for cells in found]
        assert sums == [99, None, None, 0, 99, None]
        assert rig.send() == []
        assert rig.read_many([]) == []

    @promise(15)
    def test_reading_nothing_is_a_read(self, rig: Rig) -> None:
        """`check` passes, and a read of no fields tells present from absent."""
        rig.run(rig.driver.check(rig.now))
        rig.write(*ONE_OF_EACH)
        here, gone = rig.read_many(["a", "b"], Want(fields=()))
        assert gone is None
        assert here is not None
        assert not here.fields

    @promise(15)
    def test_closed_is_closed(self, rig: Rig) -> None:
        """After `close` every call raises `Closed`; closing twice is fine."""
        rig.write(*ONE_OF_EACH)
        rig.run(rig.driver.close())
        rig.run(rig.driver.close())
        for name, call in calls(rig).items():
            try:
                answer = rig.run(call())
            except Closed:
                continue
            raise AssertionError(f"{name} answered after close: {answer}")
        rig.run(rig.driver.close())

    @promise(15)
    def test_stats_are_numbers(self, rig: Rig) -> None:
        """`stats` gives plain numbers by name."""
        rig.write(*ONE_OF_EACH)
        for name, value in rig.driver.stats().items():
            assert (type(name), type(value)) in ((str, int), (str, float)), (name, value)
