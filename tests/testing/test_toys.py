"""A third party's driver is proved in ten lines."""

import pytest

from statehold.drivers.memory import MemoryDriver
from statehold.testing import Backend, DriverConformance, FaultyDriver
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
