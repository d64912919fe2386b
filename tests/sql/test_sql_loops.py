"""What belongs to an event loop or a process ends with it, and is not another's."""

import asyncio
import gc
import os
import threading
import time
import warnings
from datetime import timedelta
from pathlib import Path

import pytest

from statehold import AsyncStore, Counter, State, Store
from tests.sql.sqlbackends import database


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()


KINDS = ["postgresql", "mariadb", "sqlite"]


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    return database(request, request.param, tmp_path)


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def counted(url):
    with Store.open(url) as store:
        return store.collection(Chat).get("a").turns


def test_nothing_stays_when_an_event_loop_ends(url):
    """A worker that runs each task in a loop of its own, with one store: no connection, no thread."""
    store = AsyncStore.open(
        url, sweep="off"
    )  # which may be under way when a loop ends, and ends with it
    chats = store.collection(Chat)
    before = descriptors()
    for _ in range(40):
        asyncio.run(chats.apply("a", Chat.turns.add(1)))
    assert descriptors() <= before + 1
    assert threading.active_count() <= 2
    asyncio.run(store.close())
    assert counted(url) == 40


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_a_loop_left_that_was_closed_without_ceremony_is_ended(url):
    """The next loop that comes ends it."""
    store = AsyncStore.open(url)
    chats = store.collection(Chat)
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(20):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(chats.apply("a", Chat.turns.add(1)))
            loop.close()
        asyncio.run(store.close())
        gc.collect()
        for _ in range(100):
            if descriptors() <= before + 1 and threading.active_count() <= 2:
                break
            time.sleep(0.05)
    assert descriptors() <= before + 1
    assert threading.active_count() <= 2
    assert counted(url) == 20


def child_of(work, seconds=30):
    """What `work()` returned in a forked child, or its error; it must end."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
        pid = os.fork()
    if pid == 0:
        try:
            try:
                said = work()
            except BaseException as error:  # noqa: BLE001  told to the parent
                said = f"{type(error).__name__}: {error}"
            os.write(write, said.encode()[:4000])
        finally:
            os._exit(0)
    os.close(write)
    end = time.monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(read)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read().decode()


def test_a_used_store_after_a_fork(url):
    """It works in the child, over connections of its own; or, with SQLite, says what to do."""
    store = AsyncStore.open(url)
    chats = store.collection(Chat)

    async def both():
        await chats.apply("a", Chat.turns.add(1))
        return (await chats.get("a")).turns

    def in_the_child():
        # A loop was running when the process was forked; the child's thread is in it no longer.
        asyncio.events._set_running_loop(None)

        async def work():
            return [await both() for _ in range(5)][-1]

        return str(asyncio.run(work()))

    async def parent():
        await both()
        said = child_of(in_the_child)
        found = await asyncio.gather(*(both() for _ in range(5)))
        await store.close()
        return said, max(found)

    said, found = asyncio.run(parent())
    if url.startswith("sqlite"):
        assert said.startswith("ConfigError: ")
        assert "use the store after the fork only" in said
        assert found == 6
    else:
        assert said == "6"
        assert found == 11
