"""A process that begins one life of a state and ends; see `a_life_in_a_process`.

Run as a program, this module is that process: `python -m statehold.testing.lives JSON`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from statehold.changes import Add
from statehold.commits import Commit, Revision
from statehold.driver import Written
from statehold.testing.children import as_key, at_once, hear, ready
from statehold.testing.rig import Rig


@dataclass
class Begin:
    """Which state is to begin, and when."""

    key: tuple[str, ...]
    now: float


def a_life_in_a_process(rig: Rig, id: str = "a") -> Revision:
    """The revision of a state's first commit, made by a process that has just started."""
    (said,) = at_once(__name__, rig.backend, [Begin(rig.key(id), rig.now)])
    return Revision.parse(said.decode())


if __name__ == "__main__":
    run, begin = hear(sys.argv[1], Begin)
    ready()
    commit = Commit(as_key(begin.key), (Add("sum", "k", 1),), None)
    (outcome,) = run(run.driver.commit([commit], begin.now))
    assert isinstance(outcome, Written), f"a good commit was not written: {outcome}"
    sys.stdout.write(str(outcome.revision))
    run.close()
