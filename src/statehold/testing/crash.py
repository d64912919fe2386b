"""Crash points: a writer is killed while it commits, again and again.

The writer numbers its commits and says so on a pipe as soon as each one is acknowledged. Each
commit carries its number into every kind of cell of two states, so that half a commit shows. It is
killed with SIGKILL at a random moment; then every acknowledged commit must be there, at most the
one that was under way may be there besides, none may be half there, and sending that one again must
leave it exactly once. The next round's writer goes on from there.

This is the death of a process, not of a machine: what the operating system was given is not lost.

Run as a program, this module is the writer: `python -m statehold.testing.crash JSON`.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from statehold.changes import Accumulate, Add, Append, Put
from statehold.commits import Commit
from statehold.driver import Driver, Written
from statehold.testing.children import as_key, await_ready, go, hear, ready, spawn
from statehold.testing.naive import array, floats
from statehold.testing.rig import Rig

KEEP = 8


@dataclass
class Doomed:
    """What the writer does until it is killed: numbered commits to both keys."""

    keys: tuple[tuple[str, ...], ...]
    first: int
    now: float


def commits(keys: tuple[tuple[str, ...], ...], number: int) -> list[Commit]:
    """The numbered commit of each key: it leaves its number everywhere."""
    mark = b'"%d"' % number
    changes = (
        Put("note", "", mark),
        Put("map", f"{number % 3}", mark),
        Add("sum", "count", 1),
        Append("log", (mark, mark), KEEP),
        Accumulate("array", "k", array(1.0, number)),
    )
    return [Commit(as_key(key), changes, None, op=f"op {number}") for key in keys]


async def write_on(driver: Driver, doomed: Doomed) -> None:
    """Commit for ever; each number goes to the pipe once it is acknowledged."""
    number = doomed.first
    while True:
        for outcome in await driver.commit(commits(doomed.keys, number), doomed.now):
            assert isinstance(outcome, Written), f"commit {number} was not written: {outcome}"
        os.write(1, b"%d\n" % number)
        number += 1


def crash_and_check(rig: Rig, *, rounds: int, seed: int | None = None) -> int:
    """Kill a writer `rounds` times and check what is left each time; how many commits stood.

    Raises AssertionError when a promise is broken; the message has the seed.
    """
    seed = random.randrange(2**32) if seed is None else seed
    chance = random.Random(seed)
    keys = (rig.key("crashed"), rig.key("crashed too"))
    done = 0
    for round in range(rounds):
        child = spawn(__name__, rig.backend, Doomed(keys, done + 1, rig.now))
        acknowledged = killed(child, chance) or done
        rig.reopen()
        try:
            done = _check(rig, keys, acknowledged)
        except AssertionError as error:
            error.add_note(f"in crash {round + 1}, with seed {seed}")
            raise
    return done


def killed(child: subprocess.Popen[bytes], chance: random.Random) -> int:
    """Let a writer begin, and kill it at a random moment; the last number that it acknowledged."""
    assert child.stdout is not None
    try:
        await_ready(child)
        go(child)
        heard = b""
        for _ in range(chance.choice((0, 1, 2, 5, 20))):
            heard += _listen(child, 10.0)
        time.sleep(chance.random() * chance.choice((0.0, 0.001, 0.02)))  # a moment, not a duration
        child.kill()
        heard += child.communicate()[0]
    finally:
        child.kill()
        child.communicate()
    lines = heard.split(b"\n")[:-1]
    return int(lines[-1]) if lines else 0


def _listen(child: subprocess.Popen[bytes], seconds: float) -> bytes:
    assert child.stdout is not None
    if not select.select([child.stdout], [], [], seconds)[0]:
        raise AssertionError(f"the writer acknowledged nothing for {seconds} s")
    heard = os.read(child.stdout.fileno(), 1 << 16)
    if not heard:
        raise AssertionError(f"the writer ended by itself, with {child.wait()}")
    return heard


def _check(rig: Rig, keys: tuple[tuple[str, ...], ...], acknowledged: int) -> int:
    """Check both states, send the last commit again, and say where they are now."""
    for key in keys:
        cells = rig.read(as_key(key))
        count = 0
        if cells is not None:
            count = agreed(rig.fields(as_key(key)))
            assert cells.revision.number == count, "a revision does not count the commits"
        assert count >= acknowledged, (
            f"{acknowledged - count} acknowledged commits of {acknowledged} are gone"
        )
        assert count <= acknowledged + 1, f"{count} commits stand, {acknowledged} + 1 were sent"
    last = acknowledged + 1
    for number in (last, last, max(1, last - 1)):
        for outcome in rig.send(*commits(keys, number)):
            assert isinstance(outcome, Written), f"a retry after the crash: {outcome}"
    for key in keys:
        count = agreed(rig.fields(as_key(key)))
        assert count == last, f"after a retry {count} commits stand instead of {last}"
    return last


def agreed(fields: dict[str, Any]) -> int:
    """The number of commits of which all fields tell. Raises AssertionError if they disagree."""
    count: int = fields["sum"]["count"]
    marks = [b'"%d"' % number for number in range(1, count + 1) for _ in range(2)][-KEEP:]
    expected = {
        "note": {"": b'"%d"' % count},
        "map": {f"{n % 3}": b'"%d"' % n for n in range(max(1, count - 2), count + 1)},
        "sum": {"count": count},
        "log": marks,
        "array": (float(count), float(count * (count + 1) // 2)),
    }
    found = {**fields, "array": floats(fields["array"]["k"])}
    assert found == expected, f"half a commit is there: {found}, not {expected}"
    return count


if __name__ == "__main__":
    run, doomed = hear(sys.argv[1], Doomed)
    ready()
    run(write_on(run.driver, doomed))
