"""The pytest plugin: fixtures for tests of a service that keeps its state with holdfast.

Nothing is imported until a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from holdfast.clock import ManualClock
    from holdfast.store import AsyncStore, Store
    from holdfast.testing.faults import FaultyDriver
    from holdfast.testing.servers.cluster import RedisCluster
    from holdfast.testing.servers.mariadb import MariadbServer
    from holdfast.testing.servers.postgres import PostgresServer
    from holdfast.testing.servers.redis import RedisServer, ValkeyServer
    from holdfast.testing.servers.sentinel import RedisSentinel

pytest.register_assert_rewrite(
    *(
        f"holdfast.testing.{name}"
        for name in ("children", "conformance", "crash", "model", "racing", "rig", "stateful")
    )
)


@pytest.fixture
def holdfast_clock() -> ManualClock:
    """The clock of the other fixtures; `holdfast_clock.advance(3600)` is an hour later."""
    from holdfast.clock import ManualClock

    return ManualClock()


@pytest.fixture
def holdfast_driver(holdfast_clock: ManualClock) -> FaultyDriver:
    """States in memory, and the means to take them away: `with holdfast_driver.outage(): …`."""
    from holdfast.drivers.memory import MemoryDriver
    from holdfast.testing.faults import FaultyDriver

    return FaultyDriver(MemoryDriver(), clock=holdfast_clock)


@pytest.fixture
def holdfast_store(holdfast_driver: FaultyDriver, holdfast_clock: ManualClock) -> Iterator[Store]:
    """A store for synchronous callers on `holdfast_driver`, closed afterwards."""
    from holdfast.store import Store

    with Store(holdfast_driver, clock=holdfast_clock) as store:
        yield store


@pytest.fixture
def holdfast_async_store(holdfast_store: Store) -> AsyncStore:
    """A store for asynchronous callers, with the same states as `holdfast_store`."""
    from holdfast.store import AsyncStore

    return AsyncStore(holdfast_store.driver, clock=holdfast_store.clock)


@pytest.fixture(scope="session")
def holdfast_redis() -> Iterator[RedisServer]:
    """A Redis that the tests of this session share; what kills or pauses one starts its own."""
    from holdfast.testing.servers.redis import RedisServer

    with RedisServer.start() as server:
        yield server


@pytest.fixture(scope="session")
def holdfast_redis_sentinel() -> Iterator[RedisSentinel]:
    """A Redis with two replicas and three sentinels that the tests of this session share."""
    from holdfast.testing.servers.sentinel import RedisSentinel

    with RedisSentinel.start() as sentinel:
        yield sentinel


@pytest.fixture(scope="session")
def holdfast_redis_cluster() -> Iterator[RedisCluster]:
    """A Redis Cluster of three masters and three replicas that the tests of this session share."""
    from holdfast.testing.servers.cluster import RedisCluster

    with RedisCluster.start() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def holdfast_valkey() -> Iterator[ValkeyServer]:
    """A Valkey that the tests of this session share."""
    from holdfast.testing.servers.redis import ValkeyServer

    with ValkeyServer.start() as server:
        yield server


@pytest.fixture(scope="session")
def holdfast_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that the tests of this session share: `holdfast_postgres.new_database()`."""
    from holdfast.testing.servers.postgres import PostgresServer

    with PostgresServer.start(fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def holdfast_mariadb() -> Iterator[MariadbServer]:
    """A MariaDB that the tests of this session share: `holdfast_mariadb.new_database()`."""
    from holdfast.testing.servers.mariadb import MariadbServer

    with MariadbServer.start(fsync=False) as server:
        yield server
