"""Promise 15 at the end: `drain` finishes what was accepted, takes nothing new, and keeps to its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from statehold.changes import Append
from statehold.commits import EVERYTHING
from statehold.driver import Feature, Written
from statehold.errors import Closed, Unavailable
from statehold.testing.conformance.base import Cases
from statehold.testing.conformance.face_cases import FaceCases
from statehold.testing.face import Face
from statehold.testing.promises import promise
from statehold.testing.rig import Rig

SECONDS = 30.0
"""What a drain is given that is to have the time which it needs."""

LATE_SECONDS = 2.0
"""By how much a drain may be later than it was told, on a machine that is busy."""

CALLS = 8


class Draining(Cases):
    """How a driver comes to an end in peace."""

    @promise(15)
    def test_drain_finishes_what_was_accepted(self, rig: Rig) -> None:
        """Commits under way are acknowledged; one that comes later is `Closed` and not done, or done."""
        finished: set[int] = set()

        async def end() -> tuple[bool, set[int]]:
            drained = await rig.driver.drain(SECONDS)
            if rig.driver.suspends:
                await asyncio.sleep(0.01)  # so that tasks whose answers are there have had them
            return drained, finished.copy()

        appends = [partial(_append, rig, n, finished) for n in range(2 * CALLS + 1)]
        told = rig.run.together(*appends[:CALLS], end, *appends[CALLS:-1])
        drained, by_then = _done(told.pop(CALLS))
        assert drained is True, f"a few commits were not over after {SECONDS:.0f} s"
        if rig.driver.suspends:  # then they began in this order
            for one in told[:CALLS]:
                assert one is None, f"what was accepted did not end well: {one!r}"
            assert by_then.issuperset(range(CALLS)), (
                "it said to be done, and commits were under way"
            )
        told += rig.run.together(appends[-1])
        for one in told:
            assert one is None or isinstance(one, Closed), f"neither done nor `Closed`: {one!r}"
        _insist(rig, finished)

    @promise(15)
    def test_drain_keeps_to_its_time(self, rig: Rig) -> None:
        """Told to wait no longer it returns, and what is under way goes on, to be waited for once more."""
        finished: set[int] = set()
        appends = [partial(_append, rig, n, finished) for n in range(CALLS)]
        *told, ended = rig.run.together(*appends, partial(_timed, rig, 0.001))
        drained, took = _done(ended)
        assert isinstance(drained, bool), f"`drain` says whether it was done, not {drained!r}"
        assert took < LATE_SECONDS, f"it took {took:.1f} s, and was to take 0.001 s"
        for one in told:
            late = isinstance(one, Closed) and not rig.driver.suspends
            assert one is None or late, f"what was under way did not end well: {one!r}"
        assert rig.run(rig.driver.drain(SECONDS)) is True, "nothing is under way any more"
        _insist(rig, finished)

    @promise(15)
    def test_drain_does_not_wait_for_who_waits(self, rig: Rig) -> None:
        """While another writer holds the store a commit waits for it; `drain` for no longer than it may."""
        if rig.backend.held is None:
            pytest.skip("the backend has no hook `held`")
        finished: set[int] = set()
        rig.run(_append(rig, 0, finished))
        with rig.backend.held():
            waits = partial(_append, rig, 1, finished)
            told, ended = rig.run.together(waits, partial(_timed, rig, 0.1))
        drained, took = _done(ended)
        assert took < 0.1 + LATE_SECONDS, f"it took {took:.1f} s, and was to take 0.1 s"
        if rig.driver.suspends:
            assert drained is False, "it said to be done, and a commit was waiting"
        assert isinstance(told, Unavailable | Closed), f"while another writer holds it: {told!r}"
        assert rig.run(rig.driver.drain(SECONDS)) is True, "nothing is under way any more"
        _insist(rig, finished)

    @promise(15)
    def test_drain_then_close(self, rig: Rig) -> None:
        """With nothing under way it is done at once, also a second time; then comes `close`, as ever."""
        rig.run(_append(rig, 0, set()))
        for _ in range(2):
            assert rig.run(rig.driver.drain(SECONDS)) is True, "nothing was under way"
        driver, now = rig.driver, rig.now
        asked: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "read": lambda: driver.read([rig.key()], EVERYTHING, now),
            "commit": lambda: driver.commit([rig.commit(id="b")], now),
            "check": lambda: driver.check(now),
        }
        for error in rig.run.together(*asked.values()):
            if isinstance(error, BaseException):
                assert isinstance(error, Closed), (
                    f"after `drain`, neither done nor `Closed`: {error!r}"
                )
        for _ in range(2):
            rig.run(driver.close())
        for name, error in zip(asked, rig.run.together(*asked.values()), strict=True):
            assert isinstance(error, Closed), f"{name} answered after close: {error!r}"


class FaceDraining(FaceCases):
    """How a store drains, through both APIs."""

    @promise(15)
    def test_face_drain_then_close(self, face: Face) -> None:
        """A store that was drained takes nothing new, and is closed as ever; either may be done twice."""
        fields, visits = face.cls, face.visits
        visits.apply("a", fields.clicks.add(1))
        for _ in range(2):
            assert face.store.drain(SECONDS) is True, "nothing was under way"
        calls: list[Callable[[], Any]] = [
            lambda: visits.get("a"),
            lambda: visits.apply("a", fields.clicks.add(1)),
            face.store.check,
        ]
        for call in calls:
            with pytest.raises(Closed):
                call()
        for _ in range(2):
            face.store.close()
        for call in calls:
            with pytest.raises(Closed):
                call()


async def _append(rig: Rig, number: int, finished: set[int]) -> None:
    """One commit that appends the number, which is finished when it is acknowledged."""
    commit = rig.commit(Append("log", (b"%d" % number,), 99), op=f"op {number}")
    (outcome,) = await rig.driver.commit([commit], rig.now)
    assert isinstance(outcome, Written), f"a good commit was not written: {outcome}"
    finished.add(number)


async def _timed(rig: Rig, seconds: float) -> tuple[bool, float]:
    """What `drain` says, and how long it took."""
    begun = time.monotonic()
    drained = await rig.driver.drain(seconds)
    return drained, time.monotonic() - begun


def _done(result: Any) -> Any:
    """What a call returned. Raises what it raised."""
    if isinstance(result, BaseException):
        raise result
    return result


def _insist(rig: Rig, finished: set[int]) -> None:
    """What was acknowledged is there, once, and nothing else; as far as anybody can look."""
    looking = rig
    if rig.has(Feature.DURABLE):
        rig.reopen()
    elif rig.has(Feature.SHARED):
        looking = rig.another()
    try:
        cells = looking.read()
    except Closed:
        return
    items = [] if cells is None else sorted(int(item) for item in cells.fields["log"])
    assert items == sorted(finished), f"{items} are there, {sorted(finished)} were acknowledged"
