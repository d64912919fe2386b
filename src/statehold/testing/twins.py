"""Two drivers in one process, on the same data, and what another process does to them.

What a driver keeps for its process (locks, descriptors, threads) is easily taken away by a second
one, unseen by either: it shows when a third party looks, and when the process is killed. So one
process opens two drivers and commits through both, before and after another process has opened the
same data, read, and closed it. Then it is killed, and all that was acknowledged must be there.

Run as a program, this module is either of them: `python -m statehold.testing.twins JSON`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from statehold.changes import Add, Append
from statehold.commits import EVERYTHING, Commit
from statehold.driver import Written
from statehold.testing.children import PATIENCE, as_key, await_ready, go, hear, ready, spawn
from statehold.testing.rig import Rig, Runner, plain

KEEP = 10_000


@dataclass
class Look:
    """Open, read and close, and say how many commits there are."""

    key: tuple[str, ...]
    now: float
    twins: bool = False
    """Rather open twice, commit through both, and wait to be killed."""
    commits: int = 10
    """How many each of them makes before the other process looks, and after."""
    close: bool = False
    """Whether the second one is closed before that."""


def killed_and_checked(rig: Rig, *, close: bool, commits: int) -> None:
    """Raise AssertionError unless all that two drivers of a killed process acknowledged is there."""
    key = rig.key("twins")
    twins = Look(key, rig.now, twins=True, commits=commits, close=close)
    with rig.closed():  # or this process would keep alive what the other one lets go of
        child = spawn(__name__, rig.backend, twins)
        try:
            await_ready(child)
            seen = _look(rig, Look(key, rig.now))
            go(child)
            await_ready(child)
            seen_too = _look(rig, Look(key, rig.now))
        finally:
            child.kill()
            child.communicate()
    done = commits if close else 2 * commits
    assert seen == 2 * commits, f"another process saw {seen} commits of {2 * commits}"
    total = 2 * commits + done
    assert seen_too == total, f"another process saw {seen_too} commits of {total}"
    fields = rig.fields("twins")
    assert fields["sum"]["k"] == total, f"{total - fields['sum']['k']} acknowledged are gone"
    assert len(fields["log"]) == total, "an acknowledged commit is there by half"


def _look(rig: Rig, job: Look) -> int:
    child = spawn(__name__, rig.backend, job)
    try:
        said, _ = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise AssertionError("a process that only looks does not end") from None
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 0, f"a process that only looks ended with {child.returncode}"
    return int(said)


def _commit(run: Runner, job: Look, name: str) -> None:
    for n in range(job.commits):
        mark = f'"{name} {n}"'
        changes = (Add("sum", "k", 1), Append("log", (mark.encode(),), KEEP))
        commit = Commit(as_key(job.key), changes, None, op=mark)
        (outcome,) = run(run.driver.commit([commit], job.now))
        assert isinstance(outcome, Written), f"{mark} was not written: {outcome}"


def _twins(told: str) -> None:
    one, job = hear(told, Look)
    _commit(one, job, "one")
    two, _ = hear(told, Look)
    _commit(two, job, "two")
    if job.close:
        two.close()
    ready()
    _commit(one, job, "one again")
    if not job.close:
        _commit(two, job, "two again")
    ready()
    os._exit(1)  # it is killed before it is told to go on


def _main(told: str) -> None:
    run, job = hear(told, Look)
    if job.twins:
        run.close()
        _twins(told)
        return
    (cells,) = run(run.driver.read([as_key(job.key)], EVERYTHING, job.now))
    assert cells is not None
    sys.stdout.write(str(plain(cells)["sum"]["k"]))
    run.close()


if __name__ == "__main__":
    _main(sys.argv[1])
