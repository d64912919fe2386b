"""Transactions of others in the way, under 64 writers: deadlocks, and rows that stay locked."""

import asyncio

import pytest

from statehold import Busy, Timeout
from statehold.drivers.sql.postgres import executor as fast
from statehold.testing.servers import MariadbServer, PostgresServer, SqlError
from statehold.testing.servers.processes import wait_for
from tests.faults.trials import at, portably, tried

POSTGRES_BEGIN = "BEGIN; SET LOCAL deadlock_timeout = '500ms';"
# What it has written makes it the one that is not given up in a deadlock.
MARIADB_BEGIN = "BEGIN; INSERT INTO ballast SELECT seq FROM seq_1_to_3000;"


class Deadlock(Exception):
    """A foreign transaction was given up."""


class Foreign:
    """Somebody else's transactions on the tables of a trial."""

    def __init__(self, server, url, begin, sleep, deadlocks):
        self.server = server
        self.url = url
        self.begin = begin
        self.sleep = sleep
        self.count = deadlocks

    def deadlocks(self):
        return int(self.server.sql(self.count, self.url)[0][-1])

    async def run(self, *steps):
        """One transaction of these statements."""
        statements = "; ".join((self.begin.rstrip(";"), *steps, "COMMIT"))
        try:
            await asyncio.to_thread(self.server.sql, statements, self.url)
        except SqlError as error:
            if error.code in {"40P01", "40001"}:
                raise Deadlock from error
            raise

    def lock(self, trial, state):
        """The statement that locks the row of a state."""
        return (
            "SELECT state FROM statehold_trial"
            f" WHERE tenant = '' AND id = '{trial.name}-{state}' FOR UPDATE"
        )


@pytest.fixture(scope="module")
def postgres():
    with PostgresServer.start(fsync=False, settings={"deadlock_timeout": "20ms"}) as server:
        yield server


@pytest.fixture(scope="module")
def mariadb():
    with MariadbServer.start(fsync=False) as server:
        yield server


@pytest.fixture(params=["fast", "portable", "mariadb"])
def backend(request):
    """What opens a client, and somebody else at its database."""
    if request.param == "mariadb":
        server = request.getfixturevalue("mariadb")
        url = server.new_database()
        server.sql("CREATE TABLE ballast (i INT)", url)
        count = "SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'"
        return at, Foreign(server, url, MARIADB_BEGIN, "DO SLEEP({})", count)
    server = request.getfixturevalue("postgres")
    url = server.new_database()
    count = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    opens = at if request.param == "fast" else portably
    return opens, Foreign(server, url, POSTGRES_BEGIN, "SELECT pg_sleep({})", count)


def test_deadlocks(backend, monkeypatch):
    """Writers lock the rows of a batch in one order, somebody else in the opposite one.

    A third transaction holds the writers up half-way, so that theirs is the last to wait, and the
    one that the database gives up.
    """
    opens, foreign = backend
    monkeypatch.setattr(fast, "LANES", 1)  # else the rows may be in two batches

    async def deadlock(trial):
        for _ in range(30):
            half_way = foreign.run(foreign.lock(trial, 4), foreign.sleep.format(0.3))
            crossing = foreign.run(
                foreign.lock(trial, 7), foreign.sleep.format(0.1), foreign.lock(trial, 0)
            )
            for error in await asyncio.gather(crossing, half_way, return_exceptions=True):
                # It is given up itself, half of the time.
                assert error is None or isinstance(error, Deadlock), error
            if trial.stores[0].driver.stats()["retried_total"]:
                return
            await trial.progress()

    report = tried(opens(foreign.url, timeout=10.0), faults=[deadlock], within=3.0)
    assert report.stats["retried_total"] >= 1
    wait_for(lambda: foreign.deadlocks() >= 1, "the database to say so")
    assert not report.errors


def test_a_row_locked_for_longer_than_the_timeout(backend):
    """Calls are `Busy` or a `Timeout` when theirs is over; after it the row is written again."""
    opens, foreign = backend

    async def hold(trial):
        await asyncio.gather(
            foreign.run(foreign.lock(trial, 3), foreign.sleep.format(1.2)),
            trial.failing(Busy, Timeout),
        )

    report = tried(
        opens(foreign.url, timeout=0.7), faults=[hold], within=3.0, repeats=False, bound=2.7
    )
    assert set(report.errors) <= {"Busy", "Timeout"}
