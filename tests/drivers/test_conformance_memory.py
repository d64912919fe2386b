"""The memory driver keeps the contract, alone and with commits grouped above it."""

import pytest

from statehold.drivers.memory import MemoryDriver
from statehold.middleware.coalesce import Coalesce
from statehold.testing import Backend, DriverConformance
from tests.variants import Variant


class TestMemory(DriverConformance):
    @pytest.fixture
    def backend(self):
        return Backend(MemoryDriver, set_back=True)


class TestGroupedMemory(Variant):
    @pytest.fixture
    def backend(self):
        return Backend(lambda: Coalesce(MemoryDriver()))
