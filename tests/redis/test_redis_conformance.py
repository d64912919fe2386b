"""The Redis driver keeps the contract, on one server, behind sentinels and on a cluster.

One server has every case. What differs elsewhere is where a key is and who answers for it, so the
groups that go from key to key, race or fail are run there too.
"""

import pytest

from statehold import Counter, State, Store, Unsupported
from statehold.backends import open_driver
from statehold.driver import Feature
from statehold.testing import Backend, DriverConformance, stateful
from statehold.testing.conformance import (
    Commits,
    CommitsTogether,
    Conditions,
    Fences,
    Lifetimes,
    Listing,
    Races,
    WholeLives,
)
from tests.redis.client.linking import TICK


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


class TestSentinel(Commits, CommitsTogether, FewerExamples):
    @pytest.fixture
    def backend(self, statehold_redis_sentinel):
        return place_of(statehold_redis_sentinel)


class TestCluster(Commits, Lifetimes, Listing, Fences, Conditions, WholeLives, FewerExamples):
    @pytest.fixture
    def backend(self, statehold_redis_cluster):
        return place_of(statehold_redis_cluster)


def test_a_cluster_commits_to_one_state_at_a_time(statehold_redis_cluster):
    """Two states have no server in common there, and that is said before anything is sent."""

    class Chat(State, ttl=60):
        turns = Counter()

    with Store.open(statehold_redis_cluster.url) as store:
        chats = store.collection(Chat)
        with pytest.raises(Unsupported, match="outside a cluster"):
            store.apply_together(chats.step("a", Chat.turns.add(1)))
        assert Feature.TOGETHER not in store.driver.features
        assert not chats.get("a").meta.exists
