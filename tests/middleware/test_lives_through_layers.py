"""Whole lives pass through whatever lies over a driver."""

import asyncio

import pytest

from statehold.changes import Add
from statehold.commits import Commit
from statehold.driver import Feature, Written
from statehold.drivers.memory import MemoryDriver
from statehold.errors import Unavailable
from statehold.middleware.bridge import Blocking, Distant
from statehold.middleware.coalesce import Coalesce
from statehold.middleware.metrics import Metrics
from statehold.testing import FaultyDriver

KEY, OTHER = ("t", "k", "a"), ("t", "k", "b")


async def elsewhere(call):
    return await call


def run(call):
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it suspended")


OVER = {
    "metrics": Metrics,
    "coalesce": Coalesce,
    "faulty": FaultyDriver,
    "blocking": lambda inner: Blocking(inner, run, lambda: None),
    "distant": lambda inner: Distant(inner, elsewhere),
}


@pytest.mark.parametrize("over", OVER)
def test_whole_lives_pass_through(over):
    async def go():
        driver = OVER[over](MemoryDriver())
        assert Feature.WHOLE_LIVES in driver.features
        await driver.commit([Commit(KEY, (Add("n", "", 3),), None, op="op 1")], 1.0)
        life, none = await driver.lives([KEY, OTHER], 1.0)
        assert none is None
        assert [one.op for one in life.ops] == ["op 1"]
        (outcome,) = await driver.install([life], 1.0)
        assert outcome == Written(life.cells.revision, repeated=True)

    asyncio.run(go())


def test_metrics_count_what_was_installed():
    metrics = Metrics(MemoryDriver())
    run(metrics.commit([Commit(KEY, (Add("n", "", 3),), None)], 1.0))
    run(metrics.install(run(metrics.lives([KEY], 1.0)), 1.0))
    assert metrics.outcomes == {"written": 1, "repeated": 1}


def test_a_fault_befalls_them():
    faulty = FaultyDriver(MemoryDriver())
    faulty.fail(on="read")
    with pytest.raises(Unavailable):
        run(faulty.lives([KEY], 1.0))
    assert run(faulty.lives([KEY], 1.0)) == [None]
    faulty.fail(on="commit")
    with pytest.raises(Unavailable):
        run(faulty.install([], 1.0))


def test_a_closed_store_installs_nothing():
    async def go():
        driver = Coalesce(MemoryDriver())
        await driver.close()
        for call in (driver.install([], 1.0), driver.lives([KEY], 1.0)):
            with pytest.raises(Exception, match="closed"):
                await call

    asyncio.run(go())
