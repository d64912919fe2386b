"""PostgreSQL in trouble, under 64 writers, by the fast path and the portable one."""

import asyncio

import pytest

from statehold import Busy, Full, Timeout, Unavailable
from statehold.testing.proxy import Proxy
from statehold.testing.servers import PostgresServer
from tests.faults.trials import (
    at,
    cut,
    killed,
    paused,
    portably,
    reset,
    restarted,
    stalled,
    tried,
)


@pytest.fixture(params=[at, portably], ids=["fast", "portable"])
def opens(request):
    """What opens a client."""
    return request.param


@pytest.fixture
def server():
    """A server of this test's own, which it may kill."""
    with PostgresServer.start(fsync=False) as started:
        yield started


@pytest.fixture
def proxy(statehold_postgres):
    """A proxy of a server that goes on, and the URL of a database of this test's own behind it."""
    with Proxy(statehold_postgres.port) as started:
        yield started, started.through(statehold_postgres.new_database())


def test_killed_and_started_again(server, opens):
    faults = [killed(server)]
    tried(opens(server.new_database(), timeout=2.0), faults=faults, within=3.0, bound=4.0)


def test_restarted_under_load(server, opens):
    """A fast shutdown ends every session; what was acknowledged stays."""
    faults = [restarted(server)]
    tried(opens(server.new_database(), timeout=2.0), faults=faults, within=3.0, bound=4.0)


@pytest.mark.parametrize("repeats", [True, False])
def test_standing_still_for_five_seconds(server, opens, repeats):
    """Every call fails within its bound meanwhile."""
    seconds = 5.0 if repeats and opens is at else 0.8
    report = tried(
        opens(server.new_database(), timeout=1.5, connect_timeout=1.0),
        faults=[paused(server, Timeout, Busy, Unavailable, seconds=seconds)],
        within=8.0,
        repeats=repeats,
        bound=4.5,
    )
    assert (report.unknown == 0) == repeats


@pytest.mark.parametrize("repeats", [True, False])
def test_answers_lost_after_execution(proxy, opens, repeats):
    proxy, url = proxy
    report = tried(
        opens(url, timeout=3.0),
        faults=[cut(proxy, times=10, what=b"COMMIT" if opens is portably else None)],
        within=2.0,
        repeats=repeats,
    )
    assert report.stats["retried_total"] >= 5


def test_reset_again_and_again(proxy, opens):
    proxy, url = proxy
    tried(opens(url, timeout=2.0), faults=[reset(proxy, times=12, every=0.05)], within=2.0)


def test_half_open(proxy, opens):
    """Nothing gets through any more, and no one says so."""
    proxy, url = proxy
    tried(
        opens(url, timeout=1.5, connect_timeout=1.0),
        faults=[stalled(proxy, Timeout, Busy, Unavailable)],
        within=8.0,
        bound=4.5,
    )


@pytest.mark.parametrize("repeats", [True, False])
def test_more_writers_than_connections(proxy, opens, repeats):
    """Those who get none in time are `Busy`, having written nothing."""
    proxy, url = proxy

    async def slow(trial):
        proxy.latency(0.6)
        await trial.failing(Busy, Timeout)
        await asyncio.sleep(0.5)
        proxy.latency(0)

    report = tried(
        opens(url, pool_size=2, timeout=0.5),
        faults=[slow],
        within=10.0,
        states=32,
        writers=32,
        repeats=repeats,
    )
    assert set(report.errors) <= {"Busy", "Timeout"}


def test_backends_terminated_again_and_again(statehold_postgres, opens):
    url = statehold_postgres.new_database()
    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    async def fault(_):
        for _ in range(10):
            await asyncio.to_thread(statehold_postgres.sql, terminate, url)
            await asyncio.sleep(0.05)

    tried(opens(url, timeout=3.0), faults=[fault], within=2.0)


@pytest.mark.parametrize("repeats", [True, False])
def test_disk_full(opens, repeats):
    """Commits are refused while there is no room, and go on by themselves when there is."""

    async def fill(trial):
        with server.full_disk():
            await trial.failing(Full, Unavailable)
            await asyncio.sleep(0.3)
        if not server.is_running():
            await asyncio.to_thread(server.restart)

    settings = {"min_wal_size": "32MB", "max_wal_size": "32MB", "wal_keep_size": 0}
    with PostgresServer.start(fsync=False, disk_bytes=160 << 20, settings=settings) as server:
        tried(opens(server.new_database()), faults=[fill], within=4.0, repeats=repeats)
