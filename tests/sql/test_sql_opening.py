"""How a kind is made ready: tables are made if there are none, and never touched otherwise."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text

from statehold.changes import Add, Append, Put
from statehold.commits import EVERYTHING
from statehold.driver import FieldLayout, Layout, Written
from statehold.drivers.sql import from_url
from statehold.drivers.sql.migrating import opening
from statehold.drivers.sql.migrating.locking import locked
from statehold.drivers.sql.schema import tables
from statehold.errors import ConfigError, Unavailable
from statehold.testing.rig import layout
from tests.sql.sqlbackends import NOW, behind, commit, database, key, opened, play, rows


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request, tmp_path):
    return database(request, request.param, tmp_path)


def test_tables_of_others_are_left_alone(url):
    """A table that statehold did not make is refused; a prefix makes room."""

    async def make(connection):
        await connection.execute(text("CREATE TABLE basket (id INTEGER PRIMARY KEY)"))

    behind(url, make)
    with pytest.raises(ConfigError, match="table_prefix"):
        play(url, lambda driver: driver.commit([commit()], NOW))
    settings = {"table_prefix": "shop_"}
    outcomes = play(url, lambda driver: driver.commit([commit()], NOW), settings=settings)
    assert isinstance(outcomes[0], Written)
    assert rows(url, "shop_basket") == 1


def test_tables_are_not_made_unasked(url):
    """With `create=never` a kind without tables is refused, naming the command that makes them."""
    with pytest.raises(ConfigError, match="statehold migrate"):
        play(url, lambda driver: driver.check(NOW), settings={"create": "never"})


@pytest.mark.parametrize("kind", ["xmin", "ctid", "oid", "sqlite_x", "sqlite"])
def test_kinds_that_are_called_like_what_databases_have(url, kind):
    """They are kept, or refused before anything is made, saying that the name is taken."""

    async def work(driver):
        await driver.open(layout(kind))
        return await driver.commit([commit(Append("log", (b"1",), 9), kind=kind)], NOW)

    taken = url.startswith("sqlite") and kind.startswith("sqlite")
    if taken:
        with pytest.raises(
            ConfigError, match="give the kind another name, or set a `table_prefix`"
        ):
            play(url, work)
    (outcome,) = play(url, work, settings={"table_prefix": "my_"} if taken else None)
    assert isinstance(outcome, Written)


def test_a_column_that_was_named_before_it_was_known_to_be_taken(tmp_path, monkeypatch):
    """Other databases than PostgreSQL have some that are called like its own."""
    url = database(None, "sqlite", tmp_path)
    field = FieldLayout("ctid", "register", frozenset({"put", "drop"}), str, 1, 1 << 20)
    old = Layout("old", (field,), ops=8)

    async def write(driver):
        await driver.open(old)
        await driver.commit([commit(Put("ctid", "", b'"x"'), kind="old")], NOW)

    async def look(driver):
        await driver.open(old)
        (found,) = await driver.read([("t", "old", "a")], EVERYTHING, NOW)
        return found.fields

    with monkeypatch.context() as patch:
        patch.setattr(tables, "_RESERVED_COLUMNS", tables._RESERVED_COLUMNS - tables._SYSTEM)
        play(url, write)
    assert play(url, look) == {"ctid": {"": b'"x"'}}
    assert rows(url, "old WHERE ctid = 'x'") == 1


def test_a_schema_of_its_own(statehold_postgres):
    """`schema` puts the tables there, and other schemas do not see them."""
    url = statehold_postgres.new_database()
    statehold_postgres.sql("CREATE SCHEMA shop", url)
    settings = {"schema": "shop"}
    play(url, lambda driver: driver.commit([commit(Add("sum", "k", 1))], NOW), settings=settings)
    assert statehold_postgres.sql("SELECT count(*) FROM shop.basket", url) == [("1",)]
    assert play(url, lambda driver: driver.read([key()], EVERYTHING, NOW)) == [None]


def test_two_that_open_at_once(url):
    """Replicas that start together on an empty database both come up."""

    async def run():
        drivers = [opened(url) for _ in range(4)]
        try:
            await asyncio.gather(*(driver.open(layout()) for driver in drivers))
            return [(await driver.commit([commit()], NOW))[0] for driver in drivers]
        finally:
            for driver in drivers:
                await driver.close()

    assert [outcome.revision.number for outcome in asyncio.run(run())] == [1, 2, 3, 4]


def test_tables_half_made_are_waited_for(statehold_mariadb):
    """What another process is making shows bit by bit; what nobody is making is still missing."""
    url = statehold_mariadb.new_database()

    async def run():
        maker, comer = opened(url), opened(url)
        try:
            await maker.open(layout())
            async with maker.engine.begin() as connection:
                lock = await connection.run_sync(hold)
                await connection.execute(text("RENAME TABLE basket__ops TO not_yet"))
                opening = asyncio.create_task(comer.open(layout()))
                await asyncio.sleep(0.3)
                assert not opening.done()
                await connection.execute(text("RENAME TABLE not_yet TO basket__ops"))
                await connection.run_sync(lambda _: lock.close())
            await opening
            return (await comer.commit([commit()], NOW))[0]
        finally:
            await maker.close()
            await comer.close()

    def hold(connection):
        stack = ExitStack()
        stack.enter_context(locked(connection))
        return stack

    assert isinstance(asyncio.run(run()), Written)
    statehold_mariadb.sql("DROP TABLE basket__ops", url)
    with pytest.raises(ConfigError, match="basket__ops is missing"):
        play(url, lambda driver: driver.check(NOW))


@pytest.mark.parametrize(
    ("url", "settings", "word"),
    [
        ("postgresql://localhost", {}, "database"),
        ("sqlite+sql://", {}, "database"),
        ("sqlite+sql://host/file.db", {}, "database"),
        ("sqlite+sql:///:memory:", {}, "database"),
        ("postgresql://localhost:x/shop", {}, "port"),
        ("postgresql://localhost/shop", {"pool_size": 0}, "pool_size"),
        ("postgresql://localhost/shop", {"table_prefix": "Shop-"}, "table_prefix"),
        ("postgresql://localhost/shop", {"sslmode": "require"}, "sslmode"),
    ],
)
def test_a_wrong_setting_is_named(url, settings, word):
    with pytest.raises(ConfigError, match=word):
        from_url(urlsplit(url), settings)


def test_many_first_calls_share_one_look(url, monkeypatch):
    """Tasks that all make the first call of a kind wait for one look at its tables, not each its own;
    one that gives up leaves it to the others."""

    async def run():
        driver = opened(url)
        looks = []
        placed = opening.placed

        def counted(connection, wanted):
            looks.append(wanted)
            return placed(connection, wanted)

        monkeypatch.setattr(opening, "placed", counted)
        try:
            tasks = [asyncio.ensure_future(driver.open(layout())) for _ in range(20)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await driver.commit([commit()], NOW)
        finally:
            await driver.close()
        return looks, ended

    looks, ended = asyncio.run(run())
    assert len(looks) == 1
    assert isinstance(ended[0], asyncio.CancelledError)
    assert ended[1:] == [None] * 19


def test_a_table_that_is_being_made_is_waited_for(statehold_mariadb):
    """MariaDB does not describe a table just then, which says nothing about it."""
    url = statehold_mariadb.new_database()
    play(url, lambda driver: driver.commit([commit()], NOW))

    async def drop(connection):
        await connection.execute(text("DROP TABLE basket"))

    async def make(connection):
        await connection.execute(text("CREATE TABLE basket AS SELECT SLEEP(1)"))
        await connection.execute(text("DROP TABLE basket"))

    behind(url, drop)

    async def use(driver):
        return await driver.commit([commit(Add("sum", "k", 1))], NOW)

    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(behind, url, make)
        time.sleep(0.3)
        outcomes = play(url, use)
        making.result()
    assert isinstance(outcomes[0], Written)


@pytest.mark.parametrize("losses", [1, 5])
def test_a_session_that_ends_while_it_is_set_up(statehold_postgres, monkeypatch, losses):
    """It is made again; and what is raised in the end is an error of statehold."""
    url = statehold_postgres.new_database()
    play(url, lambda driver: driver.commit([commit()], NOW))
    set_up, left = asyncpg.Connection.set_type_codec, [losses]

    async def ended(self, *given, **options):
        if left[0] > 0:
            left[0] -= 1
            ending = f"SELECT pg_terminate_backend({self.get_server_pid()})"
            await asyncio.to_thread(statehold_postgres.sql, ending)
            await asyncio.sleep(0.05)
        return await set_up(self, *given, **options)

    monkeypatch.setattr(asyncpg.Connection, "set_type_codec", ended)

    async def use(driver):
        await driver.open(layout())
        assert left == [0]

    if losses == 1:
        play(url, use)
    else:
        with pytest.raises(Unavailable):
            play(url, use)
