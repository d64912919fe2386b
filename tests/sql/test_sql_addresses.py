"""Where a store's tables are, and what stands before the database."""

from datetime import timedelta

import pytest

from statehold import ConfigError, Counter, State, Store
from statehold.testing.servers import Pgbouncer


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()


def turns(url, id="ann"):
    with Store.open(url) as store:
        return store.collection(Chat).get(id).turns


@pytest.fixture
def services(statehold_postgres):
    """A database with the states of one service in `public`; a second one has a schema of its own."""
    server, url = statehold_postgres, statehold_postgres.new_database()
    with Store.open(url) as store:
        store.collection(Chat).apply("ann", Chat.turns.add(7))
    role = "app_" + url.rpartition("/")[2]
    server.sql(f"CREATE ROLE {role} LOGIN", url)
    server.sql(f"CREATE SCHEMA {role} AUTHORIZATION {role}", url)
    yield server, url, url.replace("postgres@", f"{role}@"), role
    server.sql(f"DROP OWNED BY {role}", url)
    server.sql(f"DROP ROLE {role}", url)


@pytest.mark.parametrize("may", [True, False], ids=["may read the other's", "may not"])
def test_two_services_with_a_schema_each_stay_apart(services, may):
    """What is not in one's own schema is not there, whatever the search path goes on to."""
    server, first, second, role = services
    if may:
        rights = "SELECT, INSERT, UPDATE, DELETE"
        server.sql(f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {role}", first)
        server.sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}", first)
    with Store.open(second) as store:
        chats = store.collection(Chat)
        assert not chats.get("ann").meta.exists
        for _ in range(3):
            chats.apply("ann", Chat.turns.add(1))
        assert chats.get("ann").turns == 3
        assert [*chats.scan()] == ["ann"]
    assert turns(first) == 7
    assert turns(second) == 3
    found = server.sql(f"SELECT turns FROM {role}.chat", first)
    assert found == [("3",)]


def test_a_store_goes_on_in_the_schema_in_which_it_began(services):
    """A search path that changes between connections changes nothing."""
    server, first, second, role = services
    with Store.open(second, max_connection_life=0.05) as store:
        chats = store.collection(Chat)
        chats.apply("bob", Chat.turns.add(1))
        server.sql(f"ALTER ROLE {role} SET search_path = public", first)
        for _ in range(5):
            chats.apply("bob", Chat.turns.add(1))
    assert server.sql(f"SELECT turns FROM {role}.chat", first) == [("6",)]


def test_no_schema_at_all(services):
    """It is said, and what to do."""
    server, first, second, role = services
    server.sql(f"ALTER ROLE {role} SET search_path = nowhere", first)
    with Store.open(second) as store, pytest.raises(ConfigError, match="schema"):
        store.collection(Chat).get("ann")


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_a_pooler_that_was_not_said(statehold_postgres, mode):
    """It refuses what comes with the connection; the error says what to set, and is not retried."""
    with Pgbouncer.start(statehold_postgres, pool_size=3, mode=mode) as pooler:
        url = pooler.through(statehold_postgres.new_database())
        with Store.open(url) as store, pytest.raises(ConfigError, match="pooler=transaction"):
            store.collection(Chat).get("ann")


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_that_was_said(statehold_postgres, mode):
    with Pgbouncer.start(statehold_postgres, pool_size=12, mode=mode) as pooler:
        url = pooler.through(statehold_postgres.new_database())
        with Store.open(url, pooler="transaction") as store:
            chats = store.collection(Chat)
            for _ in range(5):
                chats.apply("ann", Chat.turns.add(1))
            assert chats.get("ann").turns == 5


def test_a_pooler_of_statements(statehold_postgres):
    """Nothing can be done there; it is said."""
    with Pgbouncer.start(statehold_postgres, pool_size=3, mode="statement") as pooler:
        url = pooler.through(statehold_postgres.new_database())
        with Store.open(url, pooler="transaction") as store, pytest.raises(ConfigError) as caught:
            store.collection(Chat).apply("ann", Chat.turns.add(1))
        assert "pool no statements" in str(caught.value)
