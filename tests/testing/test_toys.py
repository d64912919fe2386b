"""A third party's driver is proved in ten lines."""

import time

import pytest

from statehold.changes import Add
from statehold.commits import Commit
from statehold.driver import FencedOff, Written
from statehold.drivers.memory import MemoryDriver
from statehold.testing import Backend, DriverConformance, FaultyDriver, Model
from statehold.testing.commits import KIND
from statehold.testing.rig import drive
from statehold.testing.stateful import run
from tests.testing.toys import ToyDriver


class TestToy(DriverConformance):
    @pytest.fixture
    def backend(self):
        return Backend(ToyDriver, set_back=True)


class TestFaulty(DriverConformance):
    """A faulty driver without faults keeps every promise of the driver in it; with, it is down."""

    @pytest.fixture
    def backend(self):
        opened = []

        def faulty():
            opened.append(FaultyDriver(MemoryDriver()))
            return opened[-1]

        return Backend(faulty, outage=lambda: opened[-1].outage())  # noqa: PLW0108  not opened yet


def test_an_epoch_is_remembered_from_the_end_by_the_clock_that_stands():
    """Of a life that went on after the clock was set back, the end is when that clock says: no later."""
    toy, model = ToyDriver(), Model()

    def send(now, ttl, **options):
        commit = Commit(("t", KIND, "a"), (Add("sum", "k", 1),), ttl, **options)
        (outcome,) = drive(toy.commit([commit], now))
        model.judge(commit, outcome, now)
        return outcome

    send(1000.0, 500.0, epoch=5)
    model.set_back(1000.0, known=True)
    send(900.0, 50.0, epoch=5)
    assert send(950.0, 50.0, epoch=4) == FencedOff(5)
    assert send(1009.0, 50.0, epoch=4) == FencedOff(5)
    assert isinstance(send(1010.0, 50.0, epoch=4), Written)


class WaitingToy(ToyDriver):
    """One of its calls waits, and what it waits counts."""

    waits = 0

    def __init__(self):
        super().__init__()
        self.calls = 0

    def waited(self):
        self.calls += 1
        if self.calls != 5:
            return 0.0
        WaitingToy.waits += 1
        time.sleep(0.001)
        return 0.001

    async def read(self, keys, want, now):
        renewing = want.renew is not None
        return await super().read(keys, want, now + (self.waited() if renewing else 0.0))

    async def commit(self, commits, now):
        return await super().commit(commits, now + self.waited())

    async def commit_together(self, commits, now):
        return await super().commit_together(commits, now + self.waited())


def test_the_model_agrees_with_a_driver_that_waits():
    run(Backend(WaitingToy, set_back=True))
    assert WaitingToy.waits
