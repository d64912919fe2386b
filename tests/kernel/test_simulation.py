"""The same seed and the same clock: the same run."""

import ast
import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

import statehold
from statehold import AsyncStore, Conflict, Counter, Log, ManualClock, State, Store
from statehold.clock import AMBIENT
from statehold.drivers.memory import MemoryDriver
from statehold.middleware.choosing import layer
from statehold.middleware.coalesce import Coalesce
from statehold.middleware.metrics import Metrics
from statehold.middleware.wrapper import Wrapper
from statehold.testing import simulated
from statehold.tokens import Jar, Key


class Visit(State, ttl=timedelta(minutes=1)):
    turns = Counter()
    history = Log(str, keep=5)


class Recording(Wrapper):
    """What a backend beyond a network would be sent: every commit has an op id."""

    def __init__(self, inner):
        super().__init__(inner)
        self.ambiguous = True
        self.sent = []

    async def commit(self, commits, now):
        outcomes = await self.inner.commit(commits, now)
        self.sent += [
            (commit.key, commit.op, now, outcome)
            for commit, outcome in zip(commits, outcomes, strict=True)
        ]
        return outcomes


def a_run(seed):
    """What happened: states that live, expire and conflict, from several tasks."""

    async def run(clock):
        driver = Recording(Coalesce(Metrics(MemoryDriver())))
        async with AsyncStore(driver, clock=clock) as store:
            visits = store.collection(Visit)

            async def writer(name):
                for n in range(10):
                    await visits.apply(f"v{n % 3}", Visit.turns.add(1), Visit.history.append(name))
                    await clock.sleep(7)

                    def change(visit):
                        visit.turns += 1

                    await visits.transact(f"v{n % 3}", change)

            await asyncio.gather(*map(writer, "abc"))
            with pytest.raises(Conflict):
                await visits.apply("v0", Visit.turns.add(1), expect=statehold.ABSENT)
            found = [await visits.get(f"v{n}") for n in range(3)]
            took = layer(driver.inner.inner, Metrics).took
            return (
                driver.sent,
                [(each.meta.revision, each.meta.expires, each.to_builtins()) for each in found],
                {name: (each.counts, each.seconds) for name, each in took.items()},
            )

    with simulated(seed) as clock:
        return asyncio.run(run(clock))


def test_a_run_is_the_same_again():
    first, again, other = a_run(7), a_run(7), a_run(8)
    assert first == again
    ops = [op for _, op, _, _ in first[0]]
    assert len(ops) > 60
    assert all(ops)
    assert len(set(ops)) == len(ops)
    assert [op for _, op, _, _ in other[0]] != ops
    revisions = [revision for revision, _, _ in first[1]]
    assert [revision for revision, _, _ in other[1]] != revisions
    assert [revision.number for revision, _, _ in other[1]] == [one.number for one in revisions]


def test_tokens_are_the_same_again():
    def run():
        with simulated(3) as clock, Jar() as jar:
            with Store.open("token:", keys=[Key.new()], clock=clock) as store:
                visits = store.collection(Visit)
                visits.apply("v", Visit.turns.add(1))
                clock.advance(5)
                visits.apply("v", Visit.turns.add(1))
            return jar.token

    assert run() == run() != ""


def test_it_ends_and_there_is_one_at_a_time():
    clock = ManualClock(5.0)
    with simulated(1, clock) as same:
        assert same is clock
        assert AMBIENT.monotonic() == 5.0
        assert (first := AMBIENT.entropy(8)) != AMBIENT.entropy(8)
        with pytest.raises(RuntimeError, match="a simulation is under way"), simulated(2):
            pass
    assert AMBIENT.entropy is os.urandom
    assert AMBIENT.monotonic is time.monotonic
    with simulated(1):
        assert AMBIENT.entropy(8) == first
    with Store.open("memory://") as store:
        revisions = {store.collection(Visit).apply(str(n), Visit.turns.add(1)) for n in range(9)}
    assert len({revision.incarnation for revision in revisions}) == 9


MACHINE = {"time.time", "time.monotonic", "time.perf_counter", "time.sleep", "os.urandom"}
CHANCE = {"random", "secrets"}
"""Modules that nobody imports."""
OWN_TIME = ("clock.py", "drivers/sql/", "drivers/redis/", "drivers/sqlite/", "testing/", "cli/")
"""Where the machine is asked: the one place, those who wait for others, and commands."""


def asked(tree):
    """What a module takes of the machine's time and chance."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from {f"{node.value.id}.{node.attr}"} & MACHINE
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & CHANCE
        elif isinstance(node, ast.ImportFrom):
            yield from {node.module} & CHANCE
            yield from {f"{node.module}.{alias.name}" for alias in node.names} & MACHINE


def test_nothing_else_asks_the_machine():
    root = Path(statehold.__file__).parent
    found = {
        path.relative_to(root).as_posix(): set(asked(ast.parse(path.read_text())))
        for path in root.rglob("*.py")
    }
    assert found["clock.py"] == {
        "time.time",
        "time.monotonic",
        "time.perf_counter",
        "os.urandom",
        "random",
    }
    assert {n: what for n, what in found.items() if what and not n.startswith(OWN_TIME)} == {}
