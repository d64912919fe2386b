"""The kit's real databases start, fail as they are told to, and come back with what they had."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from statehold.testing.servers import (
    DidNotStart,
    MariadbServer,
    Pgbouncer,
    PostgresServer,
    SqlError,
)
from statehold.testing.servers.pgwire import query
from statehold.testing.servers.processes import children, is_alive


@pytest.fixture(params=[PostgresServer, MariadbServer], ids=["postgres", "mariadb"])
def database(request):
    with request.param.start() as server:
        yield server


@pytest.fixture(params=["statehold_postgres", "statehold_mariadb"])
def shared(request):
    return request.getfixturevalue(request.param)


def test_a_database_survives_being_killed(database):
    """With all of its processes, on the same port, with everything that it acknowledged."""
    url = database.new_database()
    database.sql("CREATE TABLE a (x int)", url)
    for number in range(10):
        database.sql(f"INSERT INTO a VALUES ({number})", url)
    port = database.port
    pids = [database.pid, *children(database.pid)]
    database.kill()
    assert not any(map(is_alive, pids))
    with pytest.raises(ConnectionRefusedError):
        database.sql("SELECT 1")
    database.restart()
    assert database.port == port
    assert database.sql("SELECT count(*) FROM a", url) == [("10",)]
    database.restart()
    assert database.sql("SELECT count(*) FROM a", url) == [("10",)]


def test_a_paused_database_goes_on_where_it_was(database):
    """With all of its processes."""
    database.pause()
    with pytest.raises(TimeoutError):
        database.sql("SELECT 1", timeout=0.1)
    database.resume()
    assert database.sql("SELECT 1") == [("1",)]
    database.pause()
    pid = database.pid
    database.close()
    assert not is_alive(pid)
    assert not database.folder.exists()


def test_new_databases_know_nothing_of_each_other(shared):
    """So that tests can share a server."""
    one, other = shared.new_database(), shared.new_database()
    shared.sql("CREATE TABLE a (x int)", one)
    with pytest.raises(SqlError) as caught:
        shared.sql("SELECT * FROM a", other)
    assert caught.value.code in {"42P01", "42S02"}


def test_databases_are_dropped(database):
    """Those that were made, though somebody is connected to them, and none that is made later."""
    url = database.new_database()
    sleep, databases = {
        "postgresql": ("SELECT pg_sleep(60)", "SELECT datname FROM pg_database"),
        "mariadb": ("SELECT sleep(60)", "SHOW DATABASES"),
    }[database.scheme]
    with ThreadPoolExecutor() as threads:
        busy = threads.submit(database.sql, sleep, url, timeout=90.0)
        name = (url.rpartition("/")[2],)
        assert name in database.sql(databases)
        database.drop_databases()
        assert name not in database.sql(databases)
        assert database.sql("SELECT 1", database.new_database()) == [("1",)]
        database.close()
        assert busy.exception() is not None


def test_rows_are_text(shared):
    """Null, nothing, other alphabets, long values, several statements."""
    rows = shared.sql(
        "CREATE TABLE a (x int, y text); INSERT INTO a VALUES (1, 'ä€😀'), (2, NULL), (3, '');"
        "SELECT x, y FROM a ORDER BY x; SELECT 4, repeat('x', 70000)",
        shared.new_database(),
    )
    assert rows == [("1", "ä€😀"), ("2", None), ("3", ""), ("4", "x" * 70_000)]


def test_a_statement_that_fails_undoes_nothing_else(shared):
    """Its error is raised, and the server lives."""
    url = shared.new_database()
    with pytest.raises(SqlError) as caught:
        shared.sql("SELECT 1; SELEC", url)
    assert caught.value.code in {"42601", "42000"}
    assert shared.sql("SELECT 1", url) == [("1",)]


@pytest.mark.parametrize(
    ("kind", "settings", "question"),
    [
        (PostgresServer, {"work_mem": "5MB"}, "SELECT current_setting('work_mem')"),
        (MariadbServer, {"wait-timeout": 5}, "SELECT concat(@@wait_timeout, 'MB')"),
    ],
)
def test_settings_reach_the_server(kind, settings, question):
    """And its own means are not lost for it."""
    with kind.start(fsync=False, max_connections=17, settings=settings) as server:
        assert server.sql(question) == [("5MB",)]
        assert ("17",) in [row[-1:] for row in server.sql(MOST[kind])]


MOST = {PostgresServer: "SHOW max_connections", MariadbServer: "SELECT @@max_connections"}


@pytest.mark.parametrize("kind", [PostgresServer, MariadbServer])
def test_a_database_that_does_not_start_says_why(kind):
    """Its log is in the error."""
    with pytest.raises(DidNotStart, match="bogus"):
        kind.start(settings={"bogus": 1})


def test_a_pooler_shares_sessions(statehold_postgres):
    """Many clients, one session of the server."""
    with Pgbouncer.start(statehold_postgres, pool_size=1) as pooler:
        url = pooler.through(statehold_postgres.new_database())
        name = url.rpartition("/")[2]
        address = (pooler.host, pooler.port)
        pids = {
            query(address, "SELECT pg_backend_pid()", user="postgres", database=name)[0]
            for _ in range(3)
        }
        assert len(pids) == 1
        pooler.kill()
        pooler.restart()
        assert query(address, "SELECT 1", user="postgres", database=name) == [("1",)]


@pytest.mark.parametrize("kind", [PostgresServer, MariadbServer])
def test_a_database_whose_disk_is_full(kind):
    """It refuses what does not fit, keeps what it has, and goes on when there is room again."""
    with kind.start(disk_bytes=200 << 20) as server:
        url = server.new_database()
        server.sql("CREATE TABLE a (x text); INSERT INTO a VALUES ('first')", url)
        big = "'" + "".join(f"{number:x}" for number in range(2_000)) + "'"
        with server.full_disk(), pytest.raises(SqlError) as caught:
            insert(server, url, big)
        assert caught.value.code in {"53100", "HY000"}
        server.sql(f"INSERT INTO a VALUES ({big})", url)
        assert server.sql("SELECT count(*) FROM a WHERE x = 'first'", url) == [("1",)]
        folder = server.folder
    assert not folder.exists()


def insert(server, url, value):
    for _ in range(500):
        server.sql(f"INSERT INTO a VALUES ({value})", url)
