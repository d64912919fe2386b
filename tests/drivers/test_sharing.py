"""Both APIs of one store at once, from any thread, on every kind of backend."""

import asyncio
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from statehold import (
    AsyncStore,
    Closed,
    Conflict,
    Counter,
    Invalid,
    Log,
    ManualClock,
    Repeated,
    State,
    Store,
    Unavailable,
    WrongThread,
)
from statehold.drivers.memory import MemoryDriver
from statehold.testing import FaultyDriver
from statehold.testing.children import in_fork
from tests.sql.databases import database
from tests.suspending import Suspending


class Chat(State, ttl=timedelta(hours=1), kind="sharing"):
    turns = Counter()
    history = Log(str, keep=1000)


PLACES = ["memory", "sqlite", "redis", "postgresql"]


@pytest.fixture(params=PLACES)
def url(request, tmp_path):
    """The URL of a backend with nothing in it."""
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    if request.param == "redis":
        server = request.getfixturevalue("statehold_redis")
        server.flush()
        return server.url
    return database("postgresql", request, tmp_path).url


def test_a_synchronous_store_beside_an_asynchronous_one(url):
    """Threads and tasks change the same state at once, and nothing is lost."""

    async def main():
        async with AsyncStore.open(url) as store:
            chats = store.collection(Chat)
            shared = store.blocking().collection(Chat)

            def work(name):
                for n in range(10):
                    shared.apply("a", Chat.turns.add(1), op=f"{name} {n}")
                    with shared.session("a") as chat:
                        chat.history.append(name)
                    shared.transact("b", lambda chat: chat.history.append(name), attempts=500)
                assert shared.get("a", fields=["turns"]).turns >= 10
                return [*shared.scan(page_size=1)]

            async def task(name):
                for n in range(10):
                    await chats.apply("a", Chat.turns.add(1), op=f"{name} {n}")
                    async with chats.session("a") as chat:
                        chat.history.append(name)

            *listed, _, _ = await asyncio.gather(
                *(asyncio.to_thread(work, f"thread {n}") for n in range(3)), task("x"), task("y")
            )
            assert all(sorted(ids) == ["a", "b"] for ids in listed)
            a, b = await chats.get("a"), await chats.get("b")
            assert (a.turns, len(a.history), len(b.history)) == (50, 50, 30)

    asyncio.run(main())


def test_an_asynchronous_store_beside_a_synchronous_one(url):
    """The tasks of two event loops, and threads without one."""
    with Store.open(url) as store:
        chats = store.collection(Chat)
        chats.apply("a")

        def loop():
            async def main():
                async with store.asynchronous() as shared:
                    mine = shared.collection(Chat)
                    await asyncio.gather(*(mine.apply("a", Chat.turns.add(1)) for _ in range(20)))

                    async def slowly(chat):
                        await asyncio.sleep(0)
                        chat.history.append("x")

                    await mine.transact("a", slowly, attempts=500)
                    return [id async for id in mine.scan()], (await mine.get("a")).meta.exists

            return asyncio.run(main())

        with ThreadPoolExecutor() as pool:
            found = [pool.submit(loop) for _ in range(2)]
            for _ in range(20):
                chats.apply("a", Chat.turns.add(1))
            assert [future.result() for future in found] == [(["a"], True)] * 2
        chat = chats.get("a")
        assert (chat.turns, list(chat.history)) == (60, ["x", "x"])


def test_synchronous_nodes_of_an_asynchronous_graph(url):
    """As LangGraph does: a saver's sync methods are called from the threads of sync nodes, with
    their context, while async ones and the graph itself use the store too."""
    who = contextvars.ContextVar("who")

    async def main():
        async with AsyncStore.open(url) as store:
            saver = Saver(store)

            def sync_node(state):
                assert who.get() == "caller"
                saver.put("thread", f"sync {state}")
                return saver.list("thread")

            async def async_node(state):
                await saver.aput("thread", f"async {state}")
                return await saver.alist("thread")

            async def node(fn, state):
                if asyncio.iscoroutinefunction(fn):
                    return await fn(state)
                context = contextvars.copy_context()
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(None, context.run, fn, state)

            who.set("caller")
            for step in range(3):
                found = await asyncio.gather(node(sync_node, step), node(async_node, step))
                assert all(
                    f"{kind} {step}" in one
                    for kind, one in zip(("sync", "async"), found, strict=True)
                )
            assert sorted(await saver.alist("thread")) == sorted(
                f"{kind} {step}" for kind in ("sync", "async") for step in range(3)
            )
            with pytest.raises(WrongThread):
                saver.list("thread")  # in the graph's own thread

    asyncio.run(main())


class Saver:
    """An adapter with both APIs, that does not ask which store it was given."""

    def __init__(self, store):
        self._sync = store.blocking().collection(Chat)
        self._async = store.asynchronous().collection(Chat)

    def put(self, id, text):
        self._sync.apply(id, Chat.history.append(text))

    async def aput(self, id, text):
        await self._async.apply(id, Chat.history.append(text))

    def list(self, id):
        return [*self._sync.get(id).history]

    async def alist(self, id):
        return [*(await self._async.get(id)).history]


def test_an_adapter_works_over_either_store(url):
    with Store.open(url) as store:
        saver = Saver(store)
        saver.put("a", "x")
        asyncio.run(saver.aput("a", "y"))
        assert saver.list("a") == asyncio.run(saver.alist("a")) == ["x", "y"]


def test_a_call_from_the_loops_own_thread_is_refused_on_every_backend(url):
    async def main():
        async with AsyncStore.open(url) as store:
            shared = store.blocking()
            chats = shared.collection(Chat)
            await asyncio.to_thread(chats.apply, "a", Chat.turns.add(1))
            for call in (
                lambda: chats.get("a"),
                lambda: chats.apply("a", Chat.turns.add(1)),
                lambda: chats.apply("a", Chat.turns.add(1), op="1"),
                lambda: chats.transact("a", lambda _: None),
                lambda: [*chats.scan()],
                lambda: chats.session("a").__enter__(),
                shared.check,
            ):
                with pytest.raises(WrongThread, match=r"asyncio\.to_thread"):
                    call()
            assert (await store.collection(Chat).get("a")).turns == 1

    asyncio.run(main())


def test_without_an_event_loop_there_is_none_to_share(url):
    store = AsyncStore.open(url)
    with pytest.raises(WrongThread, match="event loop"):
        store.blocking()
    asyncio.run(store.close())


def test_a_shared_store_is_closed_with_the_one_it_is_of(url):
    async def main():
        async with AsyncStore.open(url) as store:
            with store.blocking() as first:  # closing it ends nothing else
                chats = first.collection(Chat)
                await asyncio.to_thread(chats.apply, "a", Chat.turns.add(1))
            async with store.asynchronous() as other:
                theirs = other.collection(Chat)
                assert (await theirs.get("a")).turns == 1
            for call in (lambda: asyncio.to_thread(chats.get, "a"), lambda: theirs.get("a")):
                with pytest.raises(Closed):
                    await call()
            again = store.blocking().collection(Chat)
            assert (await asyncio.to_thread(again.get, "a")).turns == 1
            theirs = store.asynchronous().collection(Chat)
            await theirs.get("a")
        for call in (lambda: asyncio.to_thread(again.get, "a"), lambda: theirs.get("a")):
            with pytest.raises(Closed):
                await call()
        return again

    left = asyncio.run(main())
    with pytest.raises(Closed):
        left.get("a")

    with Store.open(url) as store:
        shared = store.asynchronous()
        asyncio.run(shared.collection(Chat).apply("b"))
        one = store.blocking().collection(Chat)
        one.apply("b")
        with store.blocking() as other:
            other.collection(Chat).apply("b")
        assert store.collection(Chat).get("b").meta.revision.number == 3
    with pytest.raises(Closed):
        asyncio.run(shared.collection(Chat).get("b"))
    with pytest.raises(Closed):
        one.get("b")


def test_what_one_knows_the_other_knows():
    """A kind's definition, and op ids whose calls were lost."""

    class Other(State, ttl=None, kind="sharing"):
        turns = Log(str, keep=3)

    async def main(driver):
        async with AsyncStore(driver) as store:
            shared = store.blocking()
            chats = shared.collection(Chat)
            with pytest.raises(Invalid, match="another definition"):
                store.collection(Other)
            driver.fail(after=True, on="commit")
            with pytest.raises(Unavailable):
                await asyncio.to_thread(chats.apply, "a", Chat.turns.add(1), op="1")
            assert store._doubts is shared._async._doubts
            assert store._doubts.since(("", "sharing", "a"), "1", time.time()) is not None
            done = await store.collection(Chat).commit("a", [Chat.turns.add(1)], op="1")
            assert done.repeated
            with pytest.raises(Repeated):
                await asyncio.to_thread(chats.transact, "a", lambda _: None, op="1")
            with pytest.raises(Conflict) as caught:
                await asyncio.to_thread(chats.apply, "a", expect=Chat_NEVER)
            assert caught.value.key == ("", "sharing", "a")

    from statehold import ABSENT as Chat_NEVER  # noqa: N811

    asyncio.run(main(FaultyDriver(MemoryDriver())))
    asyncio.run(main(FaultyDriver(Suspending())))


def test_the_clock_is_the_same_one():
    for driver in (MemoryDriver, Suspending):
        clock = ManualClock()

        async def main(driver=driver, clock=clock):
            async with AsyncStore(driver(), clock=clock) as store:
                chats = store.blocking().collection(Chat)
                await asyncio.to_thread(chats.apply, "a")
                clock.advance(3601)
                assert not (await asyncio.to_thread(chats.get, "a")).meta.exists

        asyncio.run(main())


class Standing(Suspending):
    """Its reads never end."""

    def __init__(self):
        super().__init__()
        self.reading = threading.Event()

    async def read(self, *args, **kwargs):
        self.reading.set()
        await asyncio.Event().wait()


@pytest.mark.leaks("its loop is closed around a task that does not end")
def test_a_loop_that_ends_ends_the_calls_of_other_threads():
    """Whether it cancels its tasks at the end, as `asyncio.run` does, or does not."""
    for ending in (asyncio.run, crude):
        driver = Standing()
        found = []

        async def main(driver=driver, found=found):
            chats = AsyncStore(driver).blocking().collection(Chat)

            def work():
                try:
                    chats.get("a")
                except Closed as error:
                    found.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            await asyncio.to_thread(driver.reading.wait)
            return thread

        ending(main()).join(5)
        assert len(found) == 1, ending


def crude(work):
    loop = asyncio.new_event_loop()
    found = loop.run_until_complete(work)
    loop.run_until_complete(loop.shutdown_default_executor())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False
    loop.close()
    return found


def test_in_a_forked_process_the_loop_is_not():
    async def main():
        async with AsyncStore(Suspending()) as store:
            chats = store.blocking().collection(Chat)
            await asyncio.to_thread(chats.apply, "a")

            def child():
                try:
                    chats.get("a")
                except Closed as error:
                    return str(error)

            return await asyncio.to_thread(in_fork, child)

    assert "process" in asyncio.run(main())


class Cache(FaultyDriver):
    """Memory behind a driver that suspends, which answers at once what it has."""

    def peek(self, keys, want, now):
        self.calls["peek"] += 1
        if keys[0][2] != "known":
            return None
        return asyncio_free(self.inner.inner.read(keys, want, now))


def asyncio_free(work):
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it suspended")


class Slowly(FaultyDriver):
    async def read(self, *args):
        await asyncio.sleep(0)
        return await super().read(*args)


def test_what_is_at_hand_is_not_sent_for():
    """A hit of a driver that can `peek` is answered in the caller's thread."""
    cache = Cache(Slowly(MemoryDriver()), suspends=True)
    with Store(cache) as store:
        chats = store.collection(Chat)
        chats.apply("known", Chat.turns.add(1))
        reads = cache.calls["read"]
        assert chats.get("known").turns == 1
        assert cache.calls["read"] == reads
        assert not chats.get("other").meta.exists
        assert cache.calls["read"] == reads + 1
        shared = store.asynchronous().collection(Chat)
        assert asyncio.run(shared.get("known")).turns == 1
        assert (cache.calls["read"], cache.calls["peek"]) == (reads + 1, 3)
