"""The pytest plugin: fixtures for tests of a service that keeps its state with statehold.

It imports `statehold`, and nothing else of it until a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from statehold.clock import ManualClock
    from statehold.store import AsyncStore, Store
    from statehold.testing.faults import FaultyDriver
    from statehold.testing.servers.cluster import RedisCluster
    from statehold.testing.servers.mariadb import MariadbServer
    from statehold.testing.servers.postgres import PgvectorServer, PostgresServer
    from statehold.testing.servers.redis import RedisServer, ValkeyServer
    from statehold.testing.servers.sentinel import RedisSentinel

pytest.register_assert_rewrite(
    *(
        f"statehold.testing.{name}"
        for name in (
            "children",
            "conformance",
            "crash",
            "model",
            "racing",
            "rig",
            "stateful",
            "twins",
        )
    )
)


@pytest.fixture
def statehold_clock() -> ManualClock:
    """The clock of the other fixtures; `statehold_clock.advance(3600)` is an hour later."""
    from statehold.clock import ManualClock

    return ManualClock()


@pytest.fixture
def statehold_driver(statehold_clock: ManualClock) -> FaultyDriver:
    """States in memory, and the means to take them away: `with statehold_driver.outage(): …`."""
    from statehold.drivers.memory import MemoryDriver
    from statehold.testing.faults import FaultyDriver

    return FaultyDriver(MemoryDriver(), clock=statehold_clock)


@pytest.fixture
def statehold_store(
    statehold_driver: FaultyDriver, statehold_clock: ManualClock
) -> Iterator[Store]:
    """A store for synchronous callers on `statehold_driver`, closed afterwards."""
    from statehold.store import Store

    with Store(statehold_driver, clock=statehold_clock) as store:
        yield store


@pytest.fixture
def statehold_async_store(statehold_store: Store) -> AsyncStore:
    """A store for asynchronous callers, with the same states as `statehold_store`."""
    from statehold.store import AsyncStore

    return AsyncStore(statehold_store.driver, clock=statehold_store.clock)


@pytest.fixture(scope="session")
def statehold_redis() -> Iterator[RedisServer]:
    """A Redis that the tests of this session share; what kills or pauses one starts its own."""
    from statehold.testing.servers.redis import RedisServer

    with RedisServer.start() as server:
        yield server


@pytest.fixture(scope="session")
def statehold_redis_sentinel() -> Iterator[RedisSentinel]:
    """A Redis with two replicas and three sentinels that the tests of this session share."""
    from statehold.testing.servers.sentinel import RedisSentinel

    with RedisSentinel.start() as sentinel:
        yield sentinel


@pytest.fixture(scope="session")
def statehold_redis_cluster() -> Iterator[RedisCluster]:
    """A Redis Cluster of three masters and three replicas that the tests of this session share."""
    from statehold.testing.servers.cluster import RedisCluster

    with RedisCluster.start() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def statehold_valkey() -> Iterator[ValkeyServer]:
    """A Valkey that the tests of this session share."""
    from statehold.testing.servers.redis import ValkeyServer

    with ValkeyServer.start() as server:
        yield server


@pytest.fixture(scope="session")
def statehold_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that the tests of this session share: `statehold_postgres.new_database()`."""
    from statehold.testing.servers.postgres import PostgresServer

    with PostgresServer.start(fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def statehold_pgvector() -> Iterator[PgvectorServer]:
    """A PostgreSQL with pgvector that the tests of this session share, like `statehold_postgres`."""
    from statehold.testing.servers.postgres import PgvectorServer

    with PgvectorServer.start(fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def statehold_mariadb() -> Iterator[MariadbServer]:
    """A MariaDB that the tests of this session share: `statehold_mariadb.new_database()`."""
    from statehold.testing.servers.mariadb import MariadbServer

    with MariadbServer.start(fsync=False) as server:
        yield server
