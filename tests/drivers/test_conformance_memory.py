"""The memory driver keeps the contract, alone and with commits grouped above it."""

import pytest

from statehold.drivers.memory import MemoryDriver
from statehold.middleware.coalesce import Coalesce
from statehold.testing import DriverConformance, Place


class TestMemory(DriverConformance):
    @pytest.fixture
    def place(self):
        return Place(MemoryDriver)


class TestGroupedMemory(DriverConformance):
    @pytest.fixture
    def place(self):
        return Place(lambda: Coalesce(MemoryDriver()))
