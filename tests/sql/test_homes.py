"""Many kinds on PostgreSQL: which connections serve them, and that nobody waits for ever for one."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statehold import AsyncStore, Counter, State
from statehold.drivers.sql.postgres import homes
from statehold.drivers.sql.postgres.homes import KINDS, Homes
from statehold.drivers.sql.postgres.pool import Pool, asyncpg
from statehold.drivers.sql.room import Room
from tests.sql.sqlbackends import NOW, commit, opened, play

SIZE = 5


@given(st.integers(1, 12), st.integers(1, 300))
def test_every_kind_has_a_home_and_every_connection_its_share(size, count):
    """All serve all up to a number; beyond, no connection serves much more than that, or its share."""
    found = Homes(size)
    for n in range(count):
        found.add(f"{n}")
        found.add(f"{n}")  # is the same
    places = [found.of(f"{n}") for n in range(count)]
    if count <= KINDS:
        assert places == [None] * count
        return
    served = [sum(place in some for some in places) for place in range(size)]
    assert all(places)
    assert max(served) - min(served) <= size
    assert max(served) <= max(KINDS, -(-count // size)) + size


class Server:
    """Makes connections that do nothing, as many as it has left."""

    def __init__(self):
        self.left = 100

    async def connect(self):
        await asyncio.sleep(0)
        if not self.left:
            raise asyncpg.TooManyConnectionsError("none left")
        self.left -= 1
        return Connection(self)


class Connection:
    def __init__(self, server):
        self._server = server
        self._closed = False

    def is_closed(self):
        return self._closed

    def terminate(self):
        self._server.left += not self._closed
        self._closed = True

    def get_server_pid(self):
        return 1

    def get_settings(self):
        return None

    async def close(self, *, timeout):  # noqa: ASYNC109
        self.terminate()


def pool(server, room=None):
    return Pool(server.connect, SIZE, 60.0, room or Room())


def test_who_wants_a_place_gets_no_other():
    """Whatever else is idle; and the same connection again."""

    async def run():
        mine = pool(Server())
        made = [await mine.take(frozenset({n})) for n in (3, 0, 3 + 1)]
        assert [one.place for one in made] == [3, 0, 4]
        waits = asyncio.create_task(mine.take(frozenset({0})))
        anyone = asyncio.create_task(mine.take())
        await asyncio.sleep(0.01)
        assert not waits.done()
        assert (await anyone).place in (1, 2)
        mine.give(made[0])
        await asyncio.sleep(0.01)
        assert not waits.done()
        mine.give(made[1])
        assert await waits is made[1]
        assert mine.idle(frozenset({0})) is None
        assert mine.idle(frozenset({3})) is made[0]
        await mine.close()

    asyncio.run(run())


class Trouble:
    """Callers of a pool, and what may go wrong for them, as a seed draws it."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.server, self.room = Server(), Room()
        self.pool = pool(self.server, self.room)
        self.served = 0

    async def call(self):
        draw = self.draw
        places = draw.choice((None, frozenset({draw.randrange(SIZE)}), frozenset({1, 2})))
        for _ in range(20):
            made = await self.pool.take(places)
            try:
                await asyncio.sleep(draw.choice((0, 0.0005)))
            finally:
                draw.choice((self.pool.give,) * 4 + (self.pool.drop,))(made)
            self.served += 1

    async def leave(self):
        leaving = asyncio.create_task(self.call())
        await asyncio.sleep(0.001)
        leaving.cancel()

    async def go_on(self):
        for _ in range(40):
            await asyncio.sleep(0.001)
            self.server.left = self.draw.choice((0, 100))
            what = self.draw.randrange(5)
            if what == 0:
                self.pool.shrink()
            elif what == 1:
                self.room._until = 0.0  # the server is short no more
            elif what == 2:
                self.pool.retire()
            elif what == 3:
                await self.leave()
        self.server.left, self.room._until = 100, 0.0


@pytest.mark.parametrize("seed", range(20))
def test_nobody_waits_for_ever(seed):
    """Connections that are lost, callers that give up, a server that has none left: all are served."""

    async def run():
        trouble = Trouble(seed)
        async with asyncio.timeout(20):
            await asyncio.gather(*(trouble.call() for _ in range(30)), trouble.go_on())
        assert trouble.served >= 600
        await asyncio.sleep(0)
        assert trouble.pool.in_use == 0
        await trouble.pool.close()

    asyncio.run(run())


def test_what_could_not_be_sent_is_sent_again(statehold_postgres):
    """No connection could be made for a commit that comes alone: that it was sent is in no doubt."""

    async def work(driver):
        await driver.commit([commit()], NOW)
        mine, refused = driver.executor.sender.pools.here(), []
        mine.retire()
        connect = mine._connect

        async def refusing():
            if len(refused) < 2:
                refused.append(1)
                raise ConnectionRefusedError("it starts again")
            return await connect()

        mine._connect = refusing
        (outcome,) = await driver.commit([commit()], NOW)
        return outcome.revision.number, len(refused)

    assert play(statehold_postgres.new_database(), work, open_=opened) == (2, 2)


def test_many_kinds_on_few_connections(statehold_postgres, monkeypatch):
    """Each is committed to and read; no process at the server knows all of them."""
    monkeypatch.setattr(homes, "KINDS", 4)
    kinds = [
        type(f"Kind{n}", (State,), {"turns": Counter()}, kind=f"kind{n}", ttl=60) for n in range(20)
    ]
    url = statehold_postgres.new_database()

    async def run():
        async with AsyncStore.open(f"{url}?pool_size=6&timeout=60") as store:
            every = [store.collection(kind) for kind in kinds]

            async def work(n):
                for at in range(40):
                    its = every[(n + at) % len(every)]
                    await its.apply(f"{n % 3}", its.cls.turns.add(1))
                    await its.get(f"{n % 3}")

            await asyncio.gather(*(work(n) for n in range(30)))
            states = [await its.get_many(["0", "1", "2"]) for its in every]
            assert sum(state.turns for some in states for state in some.values()) == 30 * 40
            pools = store.driver.executor.sender.pools
            mine, known = pools.here(), []
            made = [one for one in (mine.idle() for _ in range(6)) if one is not None]
            for one in made:
                rows = await one.connection.fetch("SELECT statement FROM pg_prepared_statements")
                text = " ".join(row[0] for row in rows)
                known.append(sum(f'"kind{n}' in text for n in range(10, 20)))
                mine.give(one)
            assert len(known) == 4
            # Each of these ten is known to one, or more of those that came when there were few.
            assert sum(known) <= 20
            assert max(known) <= 6

    asyncio.run(run())
