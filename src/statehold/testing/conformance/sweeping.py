"""Promise 12 where nobody writes any more: `sweep` clears away what has ended, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from statehold.changes import Add, Append, Put
from statehold.commits import HOLD_SECONDS
from statehold.driver import Doubtful, Feature, FencedOff, Written
from statehold.testing.conformance.base import Cases, need, need_given_clock, need_raw
from statehold.testing.conformance.commits import ONE_OF_EACH
from statehold.testing.conformance.edges import MARK
from statehold.testing.promises import promise
from statehold.testing.rig import Rig

STATES = 300
"""Of so many states every second one ends."""

CALLS = 1000
"""So many calls are more than any store of so few states takes."""


class Sweeping(Cases):
    """What `sweep` takes away, and what it leaves."""

    @promise(12)
    def test_a_sweep_takes_what_has_ended(self, rig: Rig) -> None:
        """With no write since, of states that have expired nothing is stored any more after a sweep."""
        need_given_clock(rig)
        raw = need_raw(rig)
        _leave(rig, raw)
        rig.wait(2.5 + HOLD_SECONDS / rig.unit)
        swept(rig)
        assert MARK not in raw(), "what has ended is stored after a whole sweep"

    @promise(12)
    def test_a_sweep_takes_what_others_left(self, rig: Rig) -> None:
        """Also by a process that has written nothing, and never opened the kind."""
        need_given_clock(rig)
        raw = need_raw(rig)
        _leave(rig, raw)
        rig.wait(2.5 + HOLD_SECONDS / rig.unit)
        rig.kinds.clear()
        rig.reopen()
        swept(rig)
        assert MARK not in raw(), "what another left is stored after a whole sweep"

    @promise(12)
    def test_a_sweep_takes_nothing_that_lives(self, rig: Rig) -> None:
        """States that live are as they were after it, with their op ids, also those renewed since."""
        whole = rig.write(*ONE_OF_EACH, id="whole", op="op 1")
        fields = rig.fields("whole")
        for n in range(STATES):
            rig.write(Add("sum", "k", 1), id=f"{n:03}", ttl=2 if n % 2 else 80)
        rig.write(Add("sum", "k", 1), id="kept", ttl=2)
        rig.write(Add("sum", "k", 1), id="kept", ttl=None)
        rig.wait(2.5)
        swept(rig)
        living = [f"{n:03}" for n in range(0, STATES, 2)]
        assert None not in rig.read_many(living), "a state that lives was swept"
        assert rig.read("001") is None
        assert rig.fields("kept") == {"sum": {"k": 2}}
        assert rig.fields("whole") == fields
        again = rig.write(*ONE_OF_EACH, id="whole", op="op 1")
        assert (again.revision, again.repeated) == (whole.revision, True)

    @promise(2)
    def test_a_sweep_leaves_what_is_to_be_known_of_ended_lives(self, rig: Rig) -> None:
        """What was applied to a life that has just ended is not made again, swept or not."""
        rig.write(Add("sum", "k", 1), op="op 1", ttl=2)
        sent = rig.now
        rig.wait(2.5)
        swept(rig)
        again = rig.try_(Add("sum", "k", 1), op="op 1", since=sent - 1)
        known = again == Doubtful() or (isinstance(again, Written) and again.repeated)
        assert known, f"a commit was made again after a sweep: {again}"

    @promise(7)
    def test_a_sweep_leaves_fences(self, rig: Rig) -> None:
        """Whoever was deposed stays so when the state has ended and was swept."""
        need(rig, Feature.EPOCH, Feature.CLAIM)
        rig.write(Add("sum", "k", 1), epoch=7, ttl=2)
        claim = rig.try_(id="b", claim=4 * rig.unit, ttl=None)
        assert isinstance(claim, Written)
        rig.wait(2.5)
        swept(rig)
        assert rig.try_(Add("sum", "k", 1), epoch=6) == FencedOff(7)
        deposed = rig.try_(Add("sum", "k", 1), id="b", epoch=claim.epoch - 1)
        assert deposed == FencedOff(claim.epoch)


def swept(rig: Rig) -> int:
    """Sweep until everything was looked at; how many states are gone."""
    removed, after = 0, ""
    for _ in range(CALLS):
        found = rig.run(rig.driver.sweep(rig.now, after))
        removed += found.removed
        if found.after is None:
            return removed
        after = found.after
    raise AssertionError(f"a sweep over few states must come to an end; it goes on from {after!r}")


def _leave(rig: Rig, raw: Callable[[], bytes]) -> None:
    """Leave states that end soon among others that do not, one with a long list and many entries."""
    for n in range(STATES):
        if n % 2:
            rig.write(Put("map", "k", MARK), id=f"{n:03}", ttl=2)
        else:
            rig.write(Add("sum", "k", 1), id=f"{n:03}")
    rig.write(
        Append("log", (MARK,) * 3000, 5000),
        *(Put("book", f"k{n}", MARK) for n in range(500)),
        id="large",
        ttl=2,
    )
    assert MARK in raw(), "the hook `raw` does not show what is stored"
