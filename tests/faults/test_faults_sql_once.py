"""A commit takes effect at most once, and only between its first sending and its time-out."""

import asyncio
import contextlib
import json
import re
import sys
import time
from collections import Counter as Count
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, Log, State, StateholdError
from statehold.drivers.sql import retrying
from statehold.testing.proxy import Proxy
from tests.faults.trials import at, patiently, portably

COMMITS = re.compile(rb"COMMIT(?!TED)").search


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()
    log = Log(str, keep=5)


@pytest.fixture(params=["fast", "portable", "mariadb"])
def backend(request):
    """What opens a client at a URL, a database, a proxy before it, and what a commit of many holds."""
    name = "statehold_mariadb" if request.param == "mariadb" else "statehold_postgres"
    server = request.getfixturevalue(name)
    opens = portably if request.param == "portable" else at

    def commits(sent):
        return len(sent) > 3000 if request.param == "fast" else COMMITS(sent) is not None

    with Proxy(server.port) as proxy:
        yield opens, f"{server.new_database()}?sweep=off", proxy, commits  # which commits, too


async def counted(url, id="a"):
    async with AsyncStore.open(url) as store:
        state = await store.collection(Chat).get(id)
        return state.turns if state.meta.exists else None


async def outcome(call):
    """What became of a call: its error's name, or "written"."""
    try:
        await call
    except StateholdError as error:
        return type(error).__name__
    return "written"


def test_more_writers_than_any_window_and_a_lost_answer(backend):
    """Four hundred at once on one state, three times; the answer to many of them is lost."""
    opens, url, proxy, commits = backend

    async def run():
        async with opens(proxy.through(url), timeout=20.0)() as store:
            chats = store.collection(Chat)
            await chats.apply("a", Chat.turns.add(0))
            found = Count()
            for _ in range(3):
                with proxy.cut_reply(when=commits):
                    adding = (outcome(chats.apply("a", Chat.turns.add(1))) for _ in range(400))
                    found += Count(await asyncio.gather(*adding))
            assert set(found) <= {"written", "InDoubt"}
            assert found["written"] <= await counted(url) <= 1200
            assert found["written"] == 1200, "so short a time ago is remembered"

    asyncio.run(run())


WORKER = """
import asyncio, json, sys
from collections import Counter as Count
from tests.faults.test_faults_sql_once import Chat, outcome
from tests.faults.trials import at, portably

async def main(opens, url, tasks, times):
    async with {"at": at, "portably": portably}[opens](url, timeout=5.0)() as store:
        chats = store.collection(Chat)
        found = Count()
        while await outcome(chats.get("a")) != "written":
            await asyncio.sleep(0.05)
        async def work():
            for _ in range(int(times)):
                await asyncio.sleep(0.05)
                found[await outcome(chats.apply("a", Chat.turns.add(1)))] += 1
        await asyncio.gather(*(work() for _ in range(int(tasks))))
    print(json.dumps(found))

asyncio.run(main(*sys.argv[1:]))
"""


def test_two_processes_and_resets(backend):
    """One goes on while the other connects anew; each commit is counted once."""
    opens, url, proxy, _ = backend

    async def worker(url):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKER, opens.__name__, url, "40", "12"),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        return Count(json.loads(said))

    async def reset():
        while True:
            await asyncio.sleep(0.4)
            proxy.reset()

    async def run():
        async with AsyncStore.open(url) as store:
            await store.collection(Chat).apply("a", Chat.turns.add(0))
        resetting = asyncio.ensure_future(reset())
        try:
            found = sum(await asyncio.gather(worker(proxy.through(url)), worker(url)), Count())
        finally:
            resetting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await resetting
        assert found.total() == 960
        assert found["written"] <= await counted(url) <= 960
        assert found["written"] > 900, found

    asyncio.run(run())


async def with_lost_answer(proxy, commits, call, meanwhile):
    """What `call` comes to whose answer is lost, if `meanwhile()` is done before it is sent again."""
    with proxy.cut_reply(when=commits) as cut:
        calling = asyncio.ensure_future(call)
        until = time.monotonic() + 5
        while not cut.begun:
            assert time.monotonic() < until
            await asyncio.sleep(0)
        proxy.refuse()  # no other connection is made until then
        while not cut.count:
            assert time.monotonic() < until
            await asyncio.sleep(0.001)
        try:
            await meanwhile()
        finally:
            proxy.accept()
        return await outcome(calling)


@pytest.fixture
def a_and_b(backend, request, monkeypatch):
    """Two clients, A behind the proxy; what runs a test with their collections; the proxy."""
    monkeypatch.setattr(retrying, "LOST_CONNECTIONS", 10_000)  # it waits until it can connect
    opens, url, proxy, _ = backend
    kind = request.node.callspec.params["backend"]

    def commits(sent):
        if kind != "fast":
            return COMMITS(sent) is not None
        # A commit, or an erasure by one statement: its argument is the id, after its length.
        return b"op of A" in sent or b"\0\0\0\1x" in sent

    def run(test, **settings):
        async def main():
            a = opens(proxy.through(url), pool_size=2, **settings)()
            async with a, opens(url)() as b:
                chats = a.collection(Chat), b.collection(Chat)
                for each in reversed(chats):
                    await patiently(lambda each=each: each.get("x"))
                if kind == "fast":  # the way of what is sent again: it is to be connected then
                    await a.driver.engine.dispose()
                await test(*chats)

        asyncio.run(main())

    return run, proxy, commits


def test_a_repeated_erasure_leaves_a_later_life_alone(a_and_b):
    """A deletes, and the answer is lost; B writes anew, acknowledged; A's deletion is sent again."""
    run, proxy, commits = a_and_b

    async def test(a, b):
        await b.apply("x", Chat.turns.add(1))

        async def meanwhile():
            assert not (await b.get("x")).meta.exists
            await b.apply("x", Chat.turns.add(5))

        assert await with_lost_answer(proxy, commits, a.delete("x"), meanwhile) == "written"
        assert (await b.get("x")).turns == 5

    run(test)


@pytest.mark.parametrize("first", [True, False], ids=["that was there", "that it made"])
def test_a_repeated_commit_brings_no_erased_state_back(a_and_b, first):
    """A writes, and the answer is lost; B deletes; A's commit is sent again, and is in doubt."""
    run, proxy, commits = a_and_b

    async def test(a, b):
        if first:
            await b.apply("x", Chat.turns.add(1))

        async def meanwhile():
            assert await b.delete("x")

        call = a.apply("x", Chat.log.append("private"), op="op of A")
        assert await with_lost_answer(proxy, commits, call, meanwhile) == "InDoubt"
        assert not (await b.get("x")).meta.exists

    run(test)


def test_a_repeated_commit_that_was_not_erased_is_one(a_and_b):
    """Others write meanwhile, more than a state remembers; A's commit counts once."""
    run, proxy, commits = a_and_b

    async def test(a, b):
        await b.apply("x", Chat.turns.add(1))

        async def meanwhile():
            await asyncio.gather(*(b.apply("x", Chat.turns.add(1)) for _ in range(300)))

        call = a.apply("x", Chat.turns.add(1000), op="op of A")
        assert await with_lost_answer(proxy, commits, call, meanwhile) == "written"
        assert (await b.get("x")).turns == 1301

    run(test, timeout=20.0)


def test_what_timed_out_is_not_executed_later(a_and_b):
    """Bytes are held up, not lost, until after A's time-out and what B did; then they arrive."""
    run, proxy, _ = a_and_b

    async def test(a, b):
        await b.apply("y", Chat.log.append("v1"))
        await patiently(lambda: a.apply("z", Chat.turns.add(1), op="made"))
        proxy.stall(keep=True)
        calls = [
            outcome(a.apply("x", Chat.log.append("late"))),
            outcome(a.apply("y", Chat.log.append("late"))),
            outcome(a.delete("z")),
        ]
        assert set(await asyncio.gather(*calls)) <= {"Timeout", "Busy"}
        await b.delete("x")
        await b.apply("y", Chat.log.append("v2"))
        await b.apply("z", Chat.turns.add(1))
        proxy.resume()
        await asyncio.sleep(1.0)
        assert not (await b.get("x")).meta.exists
        assert list((await b.get("y")).log) == ["v1", "v2"]
        assert (await b.get("z")).turns == 2

    run(test, timeout=1.0, connect_timeout=1.0)


def test_a_row_that_others_hold_is_busy_and_nothing_is_written_later(a_and_b):
    """Every caller hears that nothing was written, and that is true also after the row is free."""
    run, _, _ = a_and_b

    async def test(a, b):
        await b.apply("x", Chat.turns.add(1))
        its = getattr(b.store.driver, "inner", b.store.driver)
        main = its.tables_of(Chat.__schema__.layout()).main
        async with its.engine.begin() as connection:
            await connection.execute(main.select().where(main.c.id == "x").with_for_update())
            found = Count()
            for _ in range(5):  # where the machine stands still, a call hears of its time-out only
                adding = (outcome(a.apply("x", Chat.turns.add(1))) for _ in range(8))
                found += Count(await asyncio.gather(*adding))
                if found["Busy"]:
                    break
        assert set(found) <= {"Busy", "Timeout"}
        assert found["Busy"] >= 1
        await asyncio.sleep(0.5)
        assert (await b.get("x")).turns == 1

    run(test, timeout=1.5)
