"""Coming to an end in peace: what was begun is finished, nothing new is taken."""

import asyncio
import threading
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from statehold import AsyncStore, Closed, Counter, Invalid, State, Store
from statehold.commits import Commit
from statehold.config import Config
from statehold.drivers.memory import MemoryDriver
from statehold.drivers.token import TokenDriver
from statehold.middleware.coalesce import Coalesce
from statehold.middleware.wrapper import Wrapper
from statehold.server.app import create_app
from statehold.tokens import Jar, Key, KeyRing


class Seen(State, ttl=timedelta(hours=1)):
    times = Counter()


async def until(event):
    for _ in range(5000):
        if event.is_set():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


class Slow(Wrapper):
    """Commits when it is let; a driver as one beyond a network, that knows of its calls."""

    def __init__(self):
        super().__init__(MemoryDriver())
        self.suspends = True
        self.reached = threading.Event()
        self.go = threading.Event()
        self.drained = []

    async def commit(self, commits, now):
        self.reached.set()
        await until(self.go)
        return await self.inner.commit(commits, now)

    async def read(self, keys, want, now):
        self.reached.set()
        await until(self.go)
        return await self.inner.read(keys, want, now)

    async def drain(self, timeout):  # noqa: ASYNC109  the driver's own
        self.drained.append(timeout)
        return True


@pytest.fixture(params=["sqlite", "sqlite FULL", "sqlite+sql", "redis", "postgres", "mariadb"])
def url(request, tmp_path):
    name, _, synchronous = request.param.partition(" ")
    if name.startswith("sqlite"):
        query = f"?synchronous={synchronous}" if synchronous else ""
        return f"{name}:///{tmp_path}/drained.db{query}"
    server = request.getfixturevalue(f"statehold_{name}")
    if name == "redis":
        server.flush()
    return server.url if name == "redis" else server.new_database()


def test_what_was_begun_is_finished_and_nothing_new_is_taken(url):
    async def run():
        async with AsyncStore.open(url) as store:
            seen = store.collection(Seen)
            await seen.apply("a", Seen.times.add(1))
            tasks = [asyncio.create_task(seen.apply("a", Seen.times.add(1))) for _ in range(50)]
            for _ in range(3):  # a call may let others have a turn before it begins
                await asyncio.sleep(0)
            assert await store.drain() is True
            assert all(task.done() for task in tasks)
            done = await asyncio.gather(*tasks)
            assert sorted(one.number for one in done) == list(range(2, 52))
            for call in (seen.get("a"), seen.apply("a", Seen.times.add(1)), store.check()):
                with pytest.raises(Closed):
                    await call
            assert await store.drain() is True, "again"
        async with AsyncStore.open(url) as store:
            assert (await store.collection(Seen).get("a")).times == 51

    asyncio.run(run())


def test_commits_of_several_states_are_finished_too(url):
    """They are calls like the others: waited for, and none begins at the driver afterwards."""

    async def run():
        async with AsyncStore.open(url) as store:
            seen = store.collection(Seen)
            for id in "ab":
                await seen.apply(id, Seen.times.add(1))
            task = asyncio.create_task(
                store.apply_together(*(seen.step(id, Seen.times.add(1)) for id in "ab"))
            )
            for _ in range(3):  # it has reached the driver
                await asyncio.sleep(0)
            assert await store.drain() is True
            assert task.done()
            assert [one.revision.number for one in await task] == [2, 2]
            commits = [Commit(("", "seen", id), (), None) for id in "ab"]
            if store.driver.suspends:
                with pytest.raises(Closed):
                    await store.driver.commit_together(commits, 1.0)

    asyncio.run(run())


def test_it_waits_no_longer_than_it_is_told_and_cancels_nothing():
    async def run():
        slow = Slow()
        token = TokenDriver(KeyRing([Key.new()]), registry=slow, owned=[slow])
        with Jar():
            async with AsyncStore(token) as store:
                seen = store.collection(Seen)
                task = asyncio.create_task(seen.apply("a", Seen.times.add(1)))
                await until(slow.reached)
                loop = asyncio.get_running_loop()
                began = loop.time()
                assert await store.drain(0.05) is False
                assert 0.05 <= loop.time() - began < 1
                assert not task.done()
                assert slow.drained == []
                slow.go.set()
                assert await store.drain(timedelta(seconds=5)) is True
                assert (await task).number == 1
                assert len(slow.drained) == 1
                assert 0 < slow.drained[0] <= 5
                for wrong in (0, -1, "soon"):
                    with pytest.raises(Invalid, match="timeout"):
                        await store.drain(wrong)

    asyncio.run(run())


def test_what_gathers_waits_no_longer_either():
    async def run():
        slow = Slow()
        driver = Coalesce(slow)
        async with AsyncStore(driver) as store:
            task = asyncio.create_task(store.collection(Seen).apply("a", Seen.times.add(1)))
            await asyncio.sleep(0.01)
            assert await store.drain(0.02) is False
            slow.go.set()
            assert await store.drain(5) is True
            assert (await task).number == 1
            assert len(slow.drained) == 1

    asyncio.run(run())


def test_calls_of_other_threads_are_finished(statehold_redis):
    statehold_redis.flush()
    store = Store.open(statehold_redis.url)
    seen = store.collection(Seen)
    done, refused = [], []

    def work():
        try:
            while True:
                done.append(seen.apply("a", Seen.times.add(1)).number)
        except Closed as error:
            refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(done) < 20:
        pass
    assert store.drain(5) is True
    for thread in threads:
        thread.join(5)
    store.close()
    assert len(refused) == 4
    assert not any("during the call" in text for text in refused), refused
    with Store.open(statehold_redis.url) as again:
        assert again.collection(Seen).get("a").times == len(done)


def test_a_store_that_shares_drains_itself_alone():
    async def run():
        async with AsyncStore(Slow()) as store:
            store.driver.go.set()
            other = store.asynchronous()
            seen = other.collection(Seen)
            await seen.apply("a", Seen.times.add(1))
            assert await other.drain() is True
            with pytest.raises(Closed):
                await seen.get("a")
            assert store.driver.drained == []
            assert (await store.collection(Seen).apply("a", Seen.times.add(1))).number == 2

    asyncio.run(run())


def test_a_driver_that_never_suspends_has_nothing_to_finish():
    with Store.open("memory://") as store:
        seen = store.collection(Seen)
        seen.apply("a", Seen.times.add(1))
        assert store.drain() is True
        with pytest.raises(Closed):
            seen.get("a")


def test_the_server_drains_its_store(tmp_path, monkeypatch):
    file = tmp_path / "statehold.toml"
    file.write_text(
        'backend = "memory://"\n[server]\nshutdown_timeout = "3s"\n[kinds.seen]\nttl = "1h"\n'
        '[kinds.seen.fields]\ntimes = "counter"\n'
    )
    slow = Slow()
    monkeypatch.setattr("statehold.store.stores.open_for_tasks", lambda _url: slow)
    with TestClient(create_app(Config.load(file, env={}))) as client:
        assert client.get("/readyz").status_code == 200
        assert slow.drained == []
    assert slow.drained == [3.0]
