"""A first sending that the network still holds when it is sent again, and delivers afterwards."""

import asyncio
import contextlib
import re
import socket
import struct
from collections import Counter as Count
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, State
from statehold.testing.servers import Pgbouncer
from tests.faults.test_faults_sql_once import outcome
from tests.faults.trials import at, portably

BIG = 1_000_000
CALLS = 3


class Visit(State, ttl=timedelta(hours=1)):
    clicks = Counter()


class Stuck:
    """A relay. What its clients send can be held, their side be reset, and all be delivered later."""

    def __init__(self, port):
        self.target = port
        self.holds = None  # whether to begin with these bytes; None: never
        self.held = {}  # what each connection has sent since
        self.through = []  # connections: the client's writer, and the server's
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in (one for both in self.through for one in both):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self.server.wait_closed()

    async def accept(self, reader, writer):
        there, to = await asyncio.open_connection("127.0.0.1", self.target)
        self.through.append((writer, to))
        for pump in (self.up(reader, writer, to), self.down(there, writer)):
            self.tasks.add(asyncio.create_task(pump))

    async def up(self, reader, writer, to):
        """To the server. A client that was reset is not told to it."""
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if writer in self.held or (self.holds is not None and self.holds(data)):
                    self.held.setdefault(writer, [to]).append(data)
                else:
                    to.write(data)
            if writer not in self.held:
                to.close()

    async def down(self, there, writer):
        with contextlib.suppress(OSError):
            while data := await there.read(1 << 16):
                writer.write(data)
            writer.close()

    def reset_clients(self):
        """Those whose bytes are held see a reset; the server sees nothing. Later ones get through."""
        self.holds = None
        for writer in self.held:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def deliver(self):
        for to, *sent in self.held.values():
            to.write(b"".join(sent))


def has_op(data):
    return b"stuck " in data


def is_commit(data):
    return re.search(rb"COMMIT(?!TED)", data) is not None


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  it is the relay that is watched
            await asyncio.sleep(0.001)


class Played:
    """One play, and what its calls came to."""

    def __init__(self, url, opens, holds, settings):
        self.url, self.opens, self.holds, self.settings = url, opens, holds, settings
        self.found = Count()

    def call(self, op):
        return self.visits.apply("a", Visit.clicks.add(BIG), op=op)

    async def run(self, port, others, *, remade=False):
        async with Stuck(port) as relay:
            through = re.sub(r":\d+/", f":{relay.port}/", self.url)
            async with (
                self.opens(through, timeout=10.0, **self.settings)() as store,
                AsyncStore.open(self.url, timeout=20.0) as beside,
            ):
                self.visits, self.theirs = store.collection(Visit), beside.collection(Visit)
                await self.theirs.apply("a", Visit.clicks.add(0))
                # Calls one after the other and at once, so that each way has its statement prepared.
                for _ in range(3):
                    warm = (self.visits.apply("a", Visit.clicks.add(0)) for _ in range(CALLS))
                    await asyncio.gather(*warm)
                relay.holds = self.holds
                calls = [
                    asyncio.ensure_future(outcome(self.call(f"stuck {n}"))) for n in range(CALLS)
                ]
                await until(lambda: relay.held)
                await asyncio.sleep(0.1)  # the others of them, too
                relay.reset_clients()
                return await self.after(relay, calls, others, remade=remade)


class Fast(Played):
    """It is sent again and answered, others come, and then what was held arrives."""

    async def after(self, relay, calls, others, *, remade):
        self.found += Count(await asyncio.gather(*calls))
        assert any(has_op(b"".join(sent)) for _, *sent in relay.held.values())
        for _ in range(others // 100 or 1):
            some = (self.theirs.apply("a", Visit.clicks.add(1)) for _ in range(min(others, 100)))
            await asyncio.gather(*some)
        if remade:
            await self.theirs.delete("a")
            await self.theirs.apply("a", Visit.clicks.add(7))
        relay.deliver()
        await asyncio.sleep(0.3)
        return (await self.theirs.get("a")).clicks


@pytest.mark.parametrize(("others", "remade"), [(10, False), (900, False), (10, True)])
def test_what_is_delivered_late_is_not_applied_again(statehold_postgres, others, remade):
    """However many others came between, and though the state was deleted and made anew."""
    play = Fast(statehold_postgres.new_database(), at, has_op, {})
    clicks = asyncio.run(play.run(statehold_postgres.port, others, remade=remade))
    assert set(play.found) == {"written"}, "its sessions were ended, and so it is known"
    assert clicks == (7 if remade else CALLS * BIG + others)


class Locked(Played):
    """A COMMIT is held: others wait for the rows, and so does what is sent again."""

    async def after(self, relay, calls, others, *, remade):
        theirs = [
            asyncio.ensure_future(self.theirs.apply("a", Visit.clicks.add(1)))
            for _ in range(others)
        ]
        if remade:
            theirs.append(asyncio.ensure_future(self.theirs.delete("a")))
        await asyncio.sleep(0.3)
        assert not any(call.done() for call in theirs)
        relay.deliver()
        self.found += Count(await asyncio.gather(*calls))
        await asyncio.gather(*theirs)
        state = await self.theirs.get("a")
        return state.clicks if state.meta.exists else 0


@pytest.fixture(params=["portable", "pooler", "mariadb"])
def transactional(request):
    """What commits in a transaction: a client of it, and the port that leads there."""
    maria = request.param == "mariadb"
    server = request.getfixturevalue("statehold_mariadb" if maria else "statehold_postgres")
    url = server.new_database()
    if request.param != "pooler":
        yield Locked(url, portably if not maria else at, is_commit, {}), server.port
        return
    with Pgbouncer.start(server) as pooler:
        through = Locked(url, at, is_commit, {"pooler": "transaction"})
        yield through, pooler.port


@pytest.mark.parametrize(("others", "remade"), [(10, False), (900, False), (10, True)])
def test_a_commit_that_is_held_keeps_others_from_its_state(transactional, others, remade):
    """So that it comes before them all, or not at all, and what is sent again can tell."""
    play, port = transactional
    clicks = asyncio.run(play.run(port, others, remade=remade))
    assert set(play.found) <= {"written", "InDoubt"}
    if remade:  # what was sent again came before the deletion, or begins a new life, or is doubtful
        assert clicks <= CALLS * BIG + others
    else:
        assert play.found["written"] * BIG + others <= clicks <= CALLS * BIG + others
