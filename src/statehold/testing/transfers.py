"""Writers that move amounts between states, racing or killed: the sum stays as it was.

A transfer is two commits that stand or fall together. Each leaves its amount in both states, which
are picked at random, so that two writers often want the same ones in opposite order; now and then one
of the two is refused, and then neither may be there. A sum that is not 0, or states that do not tell
of as many transfers as there were, are halves of one.

Run as a program, this module is one such writer: `python -m statehold.testing.transfers JSON`.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from msgspec.structs import replace

from statehold.changes import Add, Append, Put
from statehold.commits import EVERYTHING, Commit
from statehold.driver import CommitsTogether, Driver, Outcome, Refused, Undone, Written
from statehold.errors import Unavailable
from statehold.testing.children import as_key, at_once, hear, ready, spawn
from statehold.testing.crash import killed
from statehold.testing.rig import Rig

ACCOUNTS: Final = ("raced", "raced too", "raced:3")
REFUSED_EVERY: Final = 5
RETRIES: Final = 20


@dataclass
class Mover:
    """What one writer does: `transfers` between any two of `keys`, for ever if that is 0."""

    keys: tuple[tuple[str, ...], ...]
    number: int
    transfers: int
    first: int
    now: float | None
    """What time it is, always; None for the time by the machine's clock."""


def transfer(mover: Mover, n: int) -> list[Commit]:
    """The two commits of one transfer; the same ones when it is sent again."""
    chance = random.Random(f"{mover.number} {n}")
    amount = chance.randrange(1, 100)
    pair = chance.sample(mover.keys, 2)
    op = f"{mover.number} {n}"
    line = f'"{op}"'.encode()
    return [
        Commit(
            as_key(key),
            (
                Add("sum", "balance", share),
                Add("sum", "transfers", 1),
                Append("log", (line,), 1_000_000),
            ),
            None,
            op=op,
            ops=1_000_000,
        )
        for key, share in zip(pair, (-amount, amount), strict=True)
    ]


def refused(mover: Mover, n: int) -> list[Commit]:
    """A transfer of which the second half breaks a bound."""
    first, second = transfer(mover, n)
    full = (*second.changes, Put("map", "a", b'"x"'), Put("map", "b", b'"x"', bound=1))
    op = f"no {first.op}"
    return [replace(first, op=op), replace(second, op=op, changes=full)]


async def _send(driver: Driver, commits: list[Commit], now: float | None) -> list[Outcome]:
    """A store that cannot answer is asked again, which the op ids make safe."""
    both = cast("CommitsTogether", driver)
    for left in reversed(range(RETRIES)):
        try:
            return await both.commit_together(commits, time.time() if now is None else now)
        except Unavailable:
            if not left:
                raise
    raise AssertionError


async def move(driver: Driver, mover: Mover) -> int:
    """Do a writer's transfers, and say each on the pipe if there is no end of them."""
    n = mover.first
    while not mover.transfers or n < mover.first + mover.transfers:
        outcomes = await _send(driver, transfer(mover, n), mover.now)
        assert all(isinstance(one, Written) for one in outcomes), f"not moved: {outcomes}"
        if n % REFUSED_EVERY == 0:
            undone, barred = await _send(driver, refused(mover, n), mover.now)
            assert isinstance(barred, Refused), f"to be refused: {barred}"
            assert undone == Undone(), f"to be undone: {undone}"
        if not mover.transfers:
            os.write(1, b"%d\n" % n)
        n += 1
    return n - mover.first


def race(rig: Rig, *, writers: int, transfers: int, processes: bool) -> None:
    """Let writers race, and check what is left. Raises AssertionError."""
    keys = tuple(rig.key(id) for id in ACCOUNTS)
    movers = [Mover(keys, n, transfers, 1, rig.now) for n in range(writers)]
    if processes:
        at_once(__name__, rig.backend, movers)
    else:
        answers = rig.run.together(*(partial(move, rig.driver, mover) for mover in movers))
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        assert not errors, f"racing writers failed: {errors}"
    found = counted(rig, keys)
    assert found == writers * transfers, f"{found} transfers stand of {writers * transfers}"


def counted(rig: Rig, keys: tuple[tuple[str, ...], ...]) -> int:
    """How many transfers stand. Raises AssertionError if any does so by half."""
    states = [rig.fields(as_key(key)) if rig.read(as_key(key)) is not None else {} for key in keys]
    lines: list[bytes] = []
    for fields in states:
        own: list[bytes] = fields.get("log", [])
        sums: dict[str, Any] = fields.get("sum", {"transfers": 0})
        assert sums["transfers"] == len(own), "a state has half a commit"
        assert len(set(own)) == len(own), "a transfer is there twice"
        lines += own
    balance = sum(fields["sum"]["balance"] for fields in states if fields)
    assert balance == 0, f"the balance of all states is {balance}, not 0"
    halves = [line for line in set(lines) if lines.count(line) != 2]
    assert not halves, f"transfers that one of two states has: {halves[:3]}"
    return len(lines) // 2


def crash_and_check(rig: Rig, *, rounds: int) -> None:
    """Kill a writer `rounds` times in its transfers; each time all stand by whole."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    keys = tuple(rig.key(id) for id in ACCOUNTS)
    done = 0
    for round in range(rounds):
        mover = Mover(keys, 0, 0, done + 1, rig.now)
        acknowledged = killed(spawn(__name__, rig.backend, mover), chance) or done
        rig.reopen()
        try:
            found = counted(rig, keys)
            assert acknowledged <= found <= acknowledged + 1, (
                f"{found} transfers stand, {acknowledged} were acknowledged"
            )
            for _ in range(2):  # the one that was under way, sent again
                outcomes = rig.send_together(*transfer(mover, acknowledged + 1))
                assert all(isinstance(one, Written) for one in outcomes), f"again: {outcomes}"
            done = counted(rig, keys)
            assert done == acknowledged + 1, f"sent again, {done} stand of {acknowledged + 1}"
        except AssertionError as error:
            error.add_note(f"in crash {round + 1}, with seed {seed}")
            raise


def look(rig: Rig, *, commits: int) -> None:
    """Read while a writer counts in two states together: whoever has seen one sees the other."""
    keys = [rig.key(id) for id in ACCOUNTS[:2]]
    both = cast("CommitsTogether", rig.driver)
    written = 0

    async def turn() -> None:
        """Let the others go on, where they are tasks of this event loop."""
        if rig.driver.suspends:
            await asyncio.sleep(0)

    async def write() -> None:
        nonlocal written
        try:
            for n in range(commits):
                group = [rig.commit(Add("sum", "k", 1), id=key) for key in keys[:: (-1) ** n]]
                outcomes = await both.commit_together(group, rig.now)
                assert all(isinstance(one, Written) for one in outcomes), f"{outcomes}"
                await turn()
        finally:
            written = commits

    async def read(order: int) -> None:
        while written < commits:
            seen = 0
            for key in keys[::order]:
                cells = (await rig.driver.read([key], EVERYTHING, rig.now))[0]
                count = 0 if cells is None else cast("Any", cells.fields["sum"])["k"]
                assert count >= seen, f"one state is at {seen}, and after it the other at {count}"
                seen = count
                await turn()

    answers = rig.run.together(write, partial(read, 1), partial(read, -1))
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    assert not errors, f"{errors}"
    assert all(rig.fields(key) == {"sum": {"k": commits}} for key in keys)


if __name__ == "__main__":
    run, mover = hear(sys.argv[1], Mover)
    ready()
    run(move(run.driver, mover))
    run.close()
