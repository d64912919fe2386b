"""MariaDB in trouble, under 64 writers: nothing acknowledged is lost, nothing is there twice."""

import pytest

from statehold import Busy, Timeout, Unavailable
from statehold.testing.proxy import Proxy
from statehold.testing.servers import MariadbServer
from tests.faults.trials import at, cut, killed, stalled, tried


@pytest.fixture(scope="module")
def server():
    with MariadbServer.start(fsync=False) as started:
        yield started


def test_killed_and_started_again(server):
    tried(
        at(server.new_database(), timeout=2.0),
        faults=[killed(server)],
        within=5.0,
        bound=4.0,
    )


@pytest.mark.parametrize("repeats", [True, False])
def test_answers_lost_after_execution(server, repeats):
    with Proxy(server.port) as proxy:
        report = tried(
            at(proxy.through(server.new_database()), timeout=3.0),
            faults=[cut(proxy, times=6, what=b"COMMIT")],
            within=3.0,
            repeats=repeats,
        )
    assert report.stats["retried_total"] >= 3


def test_half_open(server):
    """Nothing gets through any more, and no one says so."""
    with Proxy(server.port) as proxy:
        tried(
            at(proxy.through(server.new_database()), timeout=2.0, connect_timeout=1.0),
            faults=[stalled(proxy, Timeout, Busy, Unavailable)],
            within=10.0,
            bound=5.0,
        )
