"""The Redis driver keeps the contract, on one server, behind sentinels and on a cluster.

One server has every case. What differs elsewhere is where a key is and who answers for it, so the
groups that go from key to key, race or fail are run there too.
"""

import pytest

from statehold.backends import open_driver
from statehold.testing import Backend, DriverConformance, stateful
from statehold.testing.conformance import Commits, Conditions, Fences, Lifetimes, Listing, Races
from tests.redis.linking import TICK


def place_of(servers):
    """A backend on a group of servers with nothing in them."""
    servers.flush()
    return Backend(
        open=lambda: open_driver(servers.url),
        recipe="statehold.backends:open_driver",
        arguments=(servers.url,),
        own_clock=TICK,
    )


class TestRedis(DriverConformance):
    @pytest.fixture
    def backend(self, redis_backend):
        return redis_backend


class TestValkey(Commits, Lifetimes, Listing, Fences):
    @pytest.fixture
    def backend(self, statehold_valkey):
        return place_of(statehold_valkey)


class FewerExamples(Races):
    def test_driver_and_model_agree(self, backend):
        """The machine plays its part on one server; finding servers anew each time takes long."""
        stateful.run(backend, examples=5)


class TestSentinel(Commits, FewerExamples):
    @pytest.fixture
    def backend(self, statehold_redis_sentinel):
        return place_of(statehold_redis_sentinel)


class TestCluster(Commits, Lifetimes, Listing, Fences, Conditions, FewerExamples):
    @pytest.fixture
    def backend(self, statehold_redis_cluster):
        return place_of(statehold_redis_cluster)
