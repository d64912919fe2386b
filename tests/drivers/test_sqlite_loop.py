"""What keeps no event loop waiting: large reads, and moving the log into the file."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, Log, Map, State, Store
from statehold.changes import Append, Put
from statehold.commits import EVERYTHING, Commit, Want
from statehold.driver import WouldWait
from statehold.drivers.sqlite import SqliteDriver
from statehold.drivers.sqlite.reading import SHORT
from statehold.engine import run_now
from statehold.sqlitefiles.checkpoints import LOG_PAGES, LONGEST_PAGES

NOW = 1_700_000_000.0


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()
    history = Log(str, keep=10_000, max_bytes=100)
    facts = Map(str, str, keep=9, max_bytes=20_000)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


def key(id):
    return ("", "chat", id)


def fill(driver, id, items=0, entries=0):
    changes = [Append("log", (b"1",) * items, 10_000)] if items else []
    changes += [Put("map", f"{n}", b"1") for n in range(entries)]
    run_now(driver.commit([Commit(key(id), tuple(changes), None)], NOW))


@pytest.mark.parametrize("much", [{"items": SHORT + 1}, {"entries": SHORT + 1}])
def test_a_large_read_is_not_made_in_place(path, much):
    """Where nobody may be kept waiting it is refused, by what the state's row says of it."""
    driver = SqliteDriver(path)
    fill(driver, "large", **much)
    fill(driver, "small", 1, 1)
    with pytest.raises(WouldWait):
        run_now(driver.read([key("large")], EVERYTHING, NOW, wait=False))
    for want in (Want(tail=9, entries={"map": ("1",)}), Want(fields=())):
        assert run_now(driver.read([key("large")], want, NOW, wait=False)) != [None]
    (cells,) = run_now(driver.read([key("large")], EVERYTHING, NOW))
    assert sum(map(len, cells.fields.values())) == SHORT + 1
    for n in range(3):
        fill(driver, f"{n}", SHORT // 2)
    some = [key(f"{n}") for n in range(3)]
    assert len(run_now(driver.read(some[:2], EVERYTHING, NOW, wait=False))) == 2
    with pytest.raises(WouldWait):  # several are together what one is
        run_now(driver.read(some, EVERYTHING, NOW, wait=False))
    run_now(driver.close())


def test_a_large_read_leaves_the_writing_connection_free(path):
    """It is made by another one, from a thread: commits go on meanwhile, and see to it that it is whole."""

    async def play():
        async with AsyncStore.open(f"sqlite:///{path}") as store:
            chats = store.collection(Chat)
            await chats.apply("a", *(Chat.history.append(f"{n}") for n in range(3 * SHORT)))
            reading = [asyncio.create_task(chats.get("a")) for _ in range(3)]
            for _ in range(50):
                await chats.apply("a", Chat.history.append("new"), Chat.turns.add(1))
                await asyncio.sleep(0)
            for read in await asyncio.gather(*reading):
                assert len(read.history) == 3 * SHORT + read.turns
            assert (await chats.get("a", tail=1)).turns == 50
            late = asyncio.create_task(chats.get("a"))
            await asyncio.sleep(0)
            assert await store.drain(20)
            assert late.done()

    asyncio.run(play())
    assert not [t for t in threading.enumerate() if t.name.startswith("statehold-checkpoint")]


def write(store, kilobytes):
    chats = store.collection(Chat)
    for n in range(kilobytes // 10):
        chats.apply(f"{n % 50}", Chat.facts.put(f"{n % 9}", f"{n:010}" * 1000))


def test_the_log_is_moved_in_the_background(path):
    """It begins anew over and over, and is never as long as when a commit would have to do it."""
    log = path.with_name("state.db-wal")
    with Store.open(f"sqlite:///{path}") as store:
        write(store, 60_000)
        assert log.stat().st_size <= 1.2 * LONGEST_PAGES * 1024
        thread = store.driver._file.checkpoints._errand._thread
        if thread is not None:
            thread.join(20)
        assert store.driver._file.checkpoints._due < LOG_PAGES  # as rows take several pages
    assert not log.exists()


def test_the_log_is_moved_once_no_reader_is_in_the_way(path):
    """Whoever reads an older state of the file keeps the log; after that it is moved."""
    log = path.with_name("state.db-wal")
    with Store.open(f"sqlite:///{path}") as store:
        write(store, 100)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM state").fetchall()
            write(store, 30_000)
            grown = log.stat().st_size
            assert grown > LONGEST_PAGES * 1024
            reader.execute("ROLLBACK")
        write(store, 60_000)
        assert log.stat().st_size <= grown + LONGEST_PAGES * 1024


WRITER = """
import sys
from datetime import timedelta
from statehold import Counter, State, Store
class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()
with Store.open(sys.argv[1]) as store:
    chats = store.collection(Chat)
    store.check()
    print(flush=True)
    sys.stdin.readline()
    for n in range(200):
        chats.apply("a", Chat.turns.add(1))
"""


def test_many_processes_write_and_none_is_refused(path):
    """Each gets its turns, with the settings that a store comes with."""
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", WRITER, f"sqlite:///{path}"]
    writers = [subprocess.Popen(command, **pipe) for _ in range(6)]
    for each in writers:
        each.stdout.readline()
    for each in writers:
        each.stdin.write("\n")
        each.stdin.flush()
    for each in writers:
        each.communicate(timeout=100)
        assert each.returncode == 0
    with Store.open(f"sqlite:///{path}") as store:
        assert store.collection(Chat).get("a").turns == 1200
