"""Servers that change under a pool: demoted ones, others at the same address, forgotten statements."""

import asyncio
import contextlib
import socket
import threading
import time
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, ReadOnly, State
from statehold.testing.proxy import Proxy
from statehold.testing.servers import MariadbServer, PostgresServer
from tests.faults.trials import at, portably


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()


class Switch:
    """An address that leads to one server after the other. What is connected stays where it is."""

    def __init__(self, *servers):
        self._proxies = [Proxy(server.port) for server in servers]
        self._to = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]

    def __enter__(self):
        for proxy in self._proxies:
            proxy.__enter__()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def to(self, number):
        """New connections lead there."""
        self._to = number

    def _accept(self):
        pumps = []
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                break
            server = socket.create_connection(("127.0.0.1", self._proxies[self._to].port))
            for one, other in ((client, server), (server, client)):
                pumps.append(threading.Thread(target=_pump, args=(one, other)))
                pumps[-1].start()
        for pump in pumps:
            pump.join()

    def __exit__(self, *exc):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for proxy in self._proxies:
            proxy.__exit__(*exc)
        self._thread.join()


def _pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    source.close()


@pytest.fixture(params=["mariadb", "fast", "portable"])
def pair(request):
    """Two servers behind one address, how to demote one, and what opens a client."""
    kind = MariadbServer if request.param == "mariadb" else PostgresServer
    with kind.start(fsync=False) as a, kind.start(fsync=False) as b, Switch(a, b) as switch:
        urls = [server.new_database() for server in (a, b)]
        names = [url.rpartition("/")[2] for url in urls]
        if names[0] != names[1]:
            b.sql(f"CREATE DATABASE {names[0]}")
        url = urls[0].replace(f":{a.port}/", f":{switch.port}/")
        there = urls[1].replace(names[1], names[0])

        def demote(server=a):
            if request.param == "mariadb":
                server.sql("SET GLOBAL read_only = 1")
            else:
                server.sql("ALTER SYSTEM SET default_transaction_read_only = on")
                server.sql("SELECT pg_reload_conf()")

        if request.param == "mariadb":  # root may write to a server that is read-only
            for server in (a, b):
                server.sql("CREATE USER shop@'%'")
                server.sql("GRANT ALL ON *.* TO shop@'%'")
                server.sql("REVOKE SUPER, READ_ONLY ADMIN ON *.* FROM shop@'%'")
            url, there = (one.replace("root@", "shop@") for one in (url, there))
        opens = portably if request.param == "portable" else at
        yield opens(url, timeout=5.0), at(there), switch, demote


def test_a_demoted_server_is_left(pair):
    """Writes go to the server that has taken its place at once; nobody sees `ReadOnly`."""
    opens, at_b, switch, demote = pair

    async def run():
        async with at_b() as other:
            await other.collection(Chat).apply("z", Chat.turns.add(100))
            async with opens() as store:
                chats = store.collection(Chat)
                await asyncio.gather(*(chats.apply("z", Chat.turns.add(1)) for _ in range(3)))
                switch.to(1)
                await asyncio.to_thread(demote)
                await asyncio.sleep(0.2)
                for _ in range(5):
                    await chats.apply("z", Chat.turns.add(1))
                assert (await chats.get("z")).turns == 105

    asyncio.run(run())


def test_a_demoted_server_is_not_read_for_long(pair):
    """A service that only reads notices it, too."""
    opens, at_b, switch, demote = pair

    async def run():
        async with at_b() as other:
            await other.collection(Chat).apply("z", Chat.turns.add(100))
            async with opens() as store:
                chats = store.collection(Chat)
                await asyncio.gather(*(chats.apply("z", Chat.turns.add(1)) for _ in range(3)))
                switch.to(1)
                await asyncio.to_thread(demote)
                began = time.monotonic()
                while (await chats.get("z")).turns != 100:
                    assert time.monotonic() - began < 3.0
                    await asyncio.sleep(0.05)

    asyncio.run(run())


def test_a_server_that_takes_no_writes_is_read_as_it_is(pair):
    """A store that is opened on one answers reads, and says `ReadOnly`, quickly and every time."""
    opens, _, _, demote = pair

    async def run():
        async with opens() as store:
            await store.collection(Chat).apply("z", Chat.turns.add(7))
        await asyncio.to_thread(demote)
        async with opens() as store:
            chats = store.collection(Chat)
            for _ in range(20):
                assert (await chats.get("z")).turns == 7
            began = time.monotonic()
            for _ in range(5):
                with pytest.raises(ReadOnly):
                    await chats.apply("z", Chat.turns.add(1))
            assert time.monotonic() - began < 4.0
            assert (await chats.get("z")).turns == 7

    asyncio.run(run())


@pytest.mark.parametrize("opens", [at, portably], ids=["fast", "portable"])
def test_lost_prepared_statements(statehold_postgres, opens):
    """A connection without them is given up; the calls go on, each applied once."""
    url = statehold_postgres.new_database()

    async def run():
        async with opens(url)() as store:
            chats = store.collection(Chat)
            for n in range(30):
                await chats.apply("a", Chat.turns.add(1))
                assert (await chats.get("a")).turns == n + 1
                if n % 5 == 4:
                    await forget(store.driver)

    async def forget(driver):
        driver = getattr(driver, "inner", driver)
        async with driver.engine.connect() as connection:
            raw = await connection.get_raw_connection()
            await raw.driver_connection.execute("DEALLOCATE ALL")
        if driver.executor is not None:
            await driver.executor.sender.pools.run(lambda c: c.execute("DISCARD ALL"), [])

    asyncio.run(run())


def test_connections_have_a_longest_life(statehold_postgres, statehold_mariadb):
    """After it others take their place."""

    async def run(url, proxy):
        async with AsyncStore.open(proxy.through(url), max_connection_life=0.3) as store:
            chats = store.collection(Chat)
            await chats.apply("a", Chat.turns.add(1))
            before = proxy.accepted
            await asyncio.sleep(1.1)
            await chats.apply("a", Chat.turns.add(1))
            assert proxy.accepted > before

    for server in (statehold_postgres, statehold_mariadb):
        with Proxy(server.port) as proxy:
            asyncio.run(run(server.new_database(), proxy))
