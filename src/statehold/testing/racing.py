"""Writers that race on one key: every effect is there afterwards.

For a driver that is `SHARED` each writer is a process; else it is a task, or a thread where the
driver does not suspend. A writer that is told `expect` reads, then commits on condition of what it
read, and tries again on a conflict, until its commits are through.

Run as a program, this module is one such writer: `python -m statehold.testing.racing JSON`.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

from statehold.changes import Accumulate, Add, Append
from statehold.commits import ABSENT, Commit, Revision, Want
from statehold.driver import Conflicted, Driver, Outcome, Written
from statehold.errors import Unavailable
from statehold.testing.children import as_key, at_once, hear, ready
from statehold.testing.commits import KIND
from statehold.testing.naive import array, floats
from statehold.testing.rig import Rig

RETRIES = 20
ATTEMPTS = 2_000
"""How often a writer tries to get one commit through; more than there can be rivals."""


@dataclass
class Writer:
    """What one writer does: `commits` commits to `key`."""

    key: tuple[str, ...]
    number: int
    commits: int
    now: float | None
    """What time it is, always; None for the time by the machine's clock."""
    expect: bool = False


async def write(driver: Driver, writer: Writer) -> list[str]:
    """Do a writer's commits; the revisions that they were answered with."""
    return [str(await _write_one(driver, writer, n)) for n in range(writer.commits)]


async def _write_one(driver: Driver, writer: Writer, n: int) -> Revision:
    key = as_key(writer.key)
    expect: Revision | None = None
    for _ in range(ATTEMPTS):
        now = time.time() if writer.now is None else writer.now
        if writer.expect:
            cells = (await driver.read([key], Want(fields=()), now))[0]
            expect = ABSENT if cells is None else cells.revision
        commit = Commit(
            key,
            (
                Add("sum", "all", 1),
                Add("sum", f"writer {writer.number}", 1),
                Append("log", (f'"{writer.number} {n}"'.encode(),), 1_000_000),
                Accumulate("array", "k", array(1.0, n)),
            ),
            None,
            op=f"{writer.number} {n}",
            expect=expect,
            ops=1_000_000,
        )
        outcome = await _send(driver, commit, now)
        if isinstance(outcome, Written):
            return outcome.revision
        if not (writer.expect and isinstance(outcome, Conflicted)):
            raise AssertionError(f"a racing commit was not written: {outcome}")
    raise AssertionError(f"a writer was in conflict {ATTEMPTS} times, with fewer rivals")


async def _send(driver: Driver, commit: Commit, now: float) -> Outcome:
    """One commit; a store that cannot answer is asked again, which its op id makes safe."""
    for left in reversed(range(RETRIES)):
        try:
            return (await driver.commit([commit], now))[0]
        except Unavailable:
            if not left:
                raise
    raise AssertionError


def race(
    rig: Rig,
    *,
    writers: int,
    commits: int,
    processes: bool,
    still: bool = True,
    expect: bool = False,
) -> None:
    """Let writers race on a key of the rig and check what is left. Raises AssertionError.

    With `still` the clock stands still, so that all commits have equal timestamps.
    """
    key = rig.key("raced")
    plans = [Writer(key, n, commits, rig.now if still else None, expect) for n in range(writers)]
    if processes:
        said = at_once(__name__, rig.backend, plans)
        check(rig, plans, [json.loads(answer) for answer in said])
        return
    answers = rig.run.together(*(partial(write, rig.driver, plan) for plan in plans))
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    assert not errors, f"racing writers failed: {errors}"
    check(rig, plans, answers)


def check(rig: Rig, plans: list[Writer], answers: list[list[str]]) -> None:
    """Raise AssertionError unless what is left is the sum of all writers' commits."""
    fields: dict[str, Any] = rig.fields("raced")
    total = sum(plan.commits for plan in plans)
    sums = fields["sum"]
    assert sums["all"] == total, f"{total - sums['all']} of {total} additions were lost"
    logged: list[bytes] = fields["log"]
    assert len(logged) == total, f"{total - len(logged)} of {total} appended items were lost"
    for plan in plans:
        assert sums[f"writer {plan.number}"] == plan.commits, "one writer's additions were lost"
        mark = b'"%d ' % plan.number
        own = [int(item[len(mark) : -1]) for item in logged if item.startswith(mark)]
        assert own == list(range(plan.commits)), "a writer's items are not in its order"
    arrays = floats(fields["array"]["k"])
    expected = (float(total), float(sum(sum(range(plan.commits)) for plan in plans)))
    assert arrays == expected, f"arrays add up to {arrays}, not {expected}"
    winners = Counter(revision for answer in answers for revision in answer)
    twice = [revision for revision, count in winners.items() if count > 1]
    assert not twice, f"revisions with more than one winner: {twice[:3]}"
    numbers = sorted(Revision.parse(revision).number for revision in winners)
    assert numbers == list(range(1, total + 1)), "revisions do not count the commits"


if __name__ == "__main__":
    run, writer = hear(sys.argv[1], Writer)
    assert writer.key[1] == KIND
    ready()
    sys.stdout.write(json.dumps(run(write(run.driver, writer))))
    run.close()
