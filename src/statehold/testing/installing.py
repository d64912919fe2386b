"""Lives that are installed while others commit, or by a process that is killed: whole or not at all.

Run as a program, this module is one who installs, or one who commits:
`python -m statehold.testing.installing JSON`.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from dataclasses import dataclass
from functools import cache, partial
from typing import Final, cast

from msgspec.structs import replace

from statehold.changes import Add, Append
from statehold.commits import Commit, Key
from statehold.driver import Conflicted, Driver, InstallsLives, Outcome, WholeLife, Written
from statehold.errors import Unavailable
from statehold.folding import NEVER_LIVED, Life, step
from statehold.testing.children import as_key, at_once, hear, ready, spawn
from statehold.testing.crash import agreed, commits, killed
from statehold.testing.rig import Rig

INCARNATION: Final = 77
MARKS: Final = 6
"""How many commits each racing writer makes to a state."""

RETRIES: Final = 20


@cache
def _folded(number: int, began: float) -> Life:
    """A life of so many of the numbered commits of `crash`. Those that are asked for are kept."""
    if number == 0:
        return NEVER_LIVED
    (commit,) = commits((("", "", ""),), number)
    commit = replace(commit, ttl=1e6, ops=1000)
    life, outcome = step(_folded(number - 1, began), commit, began, lambda: INCARNATION)
    assert isinstance(outcome, Written)
    return life


def made(key: Key, number: int, began: float) -> WholeLife:
    """A life of so many commits, all at the time when it began, each with its op id."""
    for before in range(0, number, 100):  # no deeper than that
        _folded(before, began)
    life = _folded(number, began).whole(key)
    assert life is not None
    return life


def op(number: int) -> str:
    """The op id of that commit."""
    return f"op {number}"


@dataclass
class Racer:
    """What one racer does to each of the keys: install a life, or commit."""

    keys: tuple[tuple[str, ...], ...]
    installs: bool
    now: float
    """When the lives began."""
    still: float | None
    """What time it is, always; None for the time by the machine's clock."""
    number: int = 0
    first: int = 0
    """From this life on one after the other is installed for ever; 0 for the race."""


def _time(racer: Racer) -> float:
    return time.time() if racer.still is None else racer.still


async def _asked(driver: Driver, racer: Racer, some: WholeLife | Commit) -> Outcome:
    """A store that cannot answer is asked again, which is safe."""
    for left in reversed(range(RETRIES)):
        try:
            if isinstance(some, Commit):
                return (await driver.commit([some], _time(racer)))[0]
            return (await cast("InstallsLives", driver).install([some], _time(racer)))[0]
        except Unavailable:
            if not left:
                raise
    raise AssertionError


async def run_race(driver: Driver, racer: Racer) -> None:
    """Go through all keys."""
    for each in racer.keys:
        key = as_key(each)
        if racer.installs:
            outcome = await _asked(driver, racer, made(key, 3, racer.now))
            assert isinstance(outcome, Written | Conflicted), f"not installed: {outcome}"
        for n in range(0 if racer.installs else MARKS):
            line = f'"{racer.number} {n}"'.encode()
            changes = (Add("sum", "raced", 1), Append("trail", (line,), 1000))
            commit = Commit(key, changes, None, op=f"{racer.number} {n}", ops=1000)
            outcome = await _asked(driver, racer, commit)
            assert isinstance(outcome, Written), f"a good commit was not written: {outcome}"
        if driver.suspends:
            await asyncio.sleep(0)


def race(rig: Rig, *, lives: int, processes: bool) -> None:
    """Let two who install and two who commit race on some keys. Raises AssertionError."""
    keys = tuple(rig.key(f"raced {n}") for n in range(lives))
    still = rig.now if rig.exact else None
    began = rig.now - 0.5 * rig.unit
    racers = [Racer(keys, n < 2, began, still, n) for n in range(4)]
    if processes:
        at_once(__name__, rig.backend, racers)
    else:
        answers = rig.run.together(*(partial(run_race, rig.driver, one) for one in racers))
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        assert not errors, f"racers failed: {errors}"
    for key in keys:
        _check_raced(rig, key)


def _check_raced(rig: Rig, key: Key) -> None:
    fields, revision = rig.fields(key), rig.stands(key).revision
    total = 2 * MARKS
    assert len(fields["trail"]) == len(set(fields["trail"])) == total, "commits were lost"
    assert fields["sum"]["raced"] == total
    installed = revision.incarnation == INCARNATION
    assert fields["sum"].get("count") == (3 if installed else None), "half a life is there"
    assert ("note" in fields, "log" in fields) == (installed, installed), "half a life is there"
    assert revision.number == total + (3 if installed else 0)
    for name in ("2 0", f"3 {MARKS - 1}", *([op(1), op(3)] if installed else [])):
        assert rig.write(Add("sum", "raced", 1), id=key, op=name, ops=1000).repeated


async def install_on(driver: Driver, racer: Racer) -> None:
    """Install one life after the other for ever; each number goes to the pipe once it stands."""
    key, number = as_key(racer.keys[0]), racer.first
    while True:
        outcome = await _asked(driver, racer, made(key, number, racer.now))
        assert isinstance(outcome, Written), f"life {number} was not installed: {outcome}"
        os.write(1, b"%d\n" % number)
        number += 1


def crash_and_check(rig: Rig, *, rounds: int) -> None:
    """Kill an installer `rounds` times; each time a whole life is there. Raises AssertionError."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    key, done = rig.key("crashed"), 0
    began = rig.now
    for round in range(rounds):
        still = rig.now if rig.exact else None
        racer = Racer((key,), installs=True, now=began, still=still, first=done + 1)
        acknowledged = killed(spawn(__name__, rig.backend, racer), chance) or done
        rig.reopen()
        try:
            done = _check_crashed(rig, key, acknowledged, began)
        except AssertionError as error:
            error.add_note(f"in crash {round + 1}, with seed {seed}")
            raise


def _check_crashed(rig: Rig, key: Key, acknowledged: int, began: float) -> int:
    found, count = rig.lives(key)[0], 0
    if found is not None:
        count = agreed(rig.fields(key))
        assert found.cells.revision.number == count, "a revision does not count the commits"
        assert [one.number for one in found.ops] == list(range(1, count + 1)), "half its op ids"
    assert acknowledged <= count <= acknowledged + 1, f"{count} stands, {acknowledged} was told"
    last = acknowledged + 1
    for _ in range(2):
        outcome = rig.install(made(key, last, began))[0]
        assert isinstance(outcome, Written), f"installed again after the crash: {outcome}"
    assert agreed(rig.fields(key)) == last
    assert rig.write(Add("sum", "count", 1), id=key, op=op(last), ops=1000).repeated
    return last


if __name__ == "__main__":
    run, racer = hear(sys.argv[1], Racer)
    ready()
    run((install_on if racer.first else run_race)(run.driver, racer))
    run.close()
