"""Databases whose own settings change what a statement means: each session sets what it needs."""

from datetime import timedelta

import pytest

from statehold import Counter, Log, State, Store, Tally
from statehold.testing.servers import MariadbServer


class Visit(State, ttl=timedelta(hours=1)):
    clicks = Counter()
    said = Log(str, keep=5)
    likes = Tally(str, keep=10)


def used(url):
    """What a state holds after some writes, of which one is repeated."""
    with Store.open(url, timeout=20.0) as store:
        visits = store.collection(Visit)
        for _ in range(2):
            visits.apply("a", Visit.clicks.add(1), Visit.said.append('it\'s "so" \\'), op="once")
        visits.apply("a", Visit.likes.add("a\\b", 2))
        state = visits.get("a")
        return state.clicks, list(state.said), dict(state.likes)


WHAT = (1, ['it\'s "so" \\'], {"a\\b": 2})


@pytest.mark.parametrize("mode", ["ANSI_QUOTES", "ANSI", "NO_BACKSLASH_ESCAPES"])
def test_mariadb_reads_statements_as_they_are_written(mode):
    """Whatever the server's sql_mode says of quotes and backslashes."""
    with MariadbServer.start(fsync=False, settings={"sql_mode": mode}) as server:
        assert used(server.new_database()) == WHAT


def test_postgresql_reads_statements_as_they_are_written(statehold_postgres):
    """Though the database takes backslashes in strings for escapes."""
    url = statehold_postgres.new_database()
    name = url.rpartition("/")[2]
    statehold_postgres.sql(f"ALTER DATABASE {name} SET standard_conforming_strings = off", url)
    assert used(url) == WHAT
