"""The Redis driver keeps the contract, on one server, behind sentinels and on a cluster.

One server has every case. What differs elsewhere is where a key is and who answers for it, so the
groups that go from key to key, race or fail are run there too.
"""

import pytest

from statehold.places import open_driver
from statehold.testing import DriverConformance, Place, stateful
from statehold.testing.conformance import Commits, Lifetimes, Listing, Races
from tests.redis.linking import TICK


def place_of(servers):
    """A place on a group of servers with nothing in them."""
    servers.flush()
    return Place(
        open=lambda: open_driver(servers.url),
        recipe="statehold.places:open_driver",
        arguments=(servers.url,),
        own_clock=TICK,
    )


class TestRedis(DriverConformance):
    @pytest.fixture
    def place(self, redis_place):
        return redis_place


class TestValkey(Commits, Lifetimes, Listing):
    @pytest.fixture
    def place(self, statehold_valkey):
        return place_of(statehold_valkey)


class FewerExamples(Races):
    def test_driver_and_model_agree(self, place):
        """The machine plays its part on one server; finding servers anew each time takes long."""
        stateful.run(place, examples=5)


class TestSentinel(Commits, FewerExamples):
    @pytest.fixture
    def place(self, statehold_redis_sentinel):
        return place_of(statehold_redis_sentinel)


class TestCluster(Commits, Lifetimes, Listing, FewerExamples):
    @pytest.fixture
    def place(self, statehold_redis_cluster):
        return place_of(statehold_redis_cluster)
