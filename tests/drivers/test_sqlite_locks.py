"""SQLite's locks: kept whatever else this process opens, and awaited where nobody else has to wait."""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from statehold import AsyncStore, Busy, Closed, ConfigError, Counter, Log, ManualClock, State, Store
from statehold.changes import Add
from statehold.commits import EVERYTHING, Commit
from statehold.drivers.sqlite import SqliteDriver
from statehold.drivers.sqlite.schema import VERSION
from statehold.engine import run_now
from statehold.sqlitefiles.connection import header

KEY = ("", "chat", "a")
NOW = 1_700_000_000.0


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()
    history = Log(str, keep=100)


def write(driver, *changes):
    return run_now(driver.commit([Commit(KEY, changes, None)], NOW))[0]


def read(driver):
    return run_now(driver.read([KEY], EVERYTHING, NOW))[0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@contextlib.contextmanager
def opened(path, **settings):
    driver = SqliteDriver(path, **settings)
    try:
        yield driver
    finally:
        run_now(driver.close())


def locks(*paths):
    """The locks of this process on these files, as the system has them."""
    numbers = {str(Path(path).stat().st_ino) for path in paths}
    found = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sorted(
        (each[5].rpartition(":")[2], each[3], *each[6:])
        for each in found
        if each[4] == str(os.getpid()) and each[5].rpartition(":")[2] in numbers
    )


def elsewhere(path):
    """Another process opens the file, looks, and closes it."""
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
    code += "print(c.execute('SELECT sum(value) FROM entries').fetchone()[0]); c.close()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, check=True, text=True
    )
    return int(done.stdout)


@contextlib.contextmanager
def held(path):
    """Somebody else has the write lock, without whom nobody writes."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


# ------------------------------------------------------------------------- within this process


def spelled(path, way):
    if way == "relative":
        return os.path.relpath(path)
    if way == "link":
        link = path.parent / "link.db"
        link.symlink_to(path)
        return link
    return path


@pytest.mark.parametrize("way", ["same", "relative", "link"])
def test_a_second_store_leaves_the_first_one_its_locks(path, way):
    """Whatever the path is called; so another process does not take away the log."""
    with opened(path) as one:
        write(one, Add("n", "", 1))
        log = Path(f"{path}-wal")
        shared = Path(f"{path}-shm")
        before = locks(path, shared)
        assert len(before) == 2
        with opened(spelled(path, way)) as two:
            write(two, Add("n", "", 1))
            assert locks(path, shared) == before
            assert elsewhere(path) == 2
            assert log.exists()
        assert locks(path, shared) == before
        assert elsewhere(path) == 2
        assert log.exists()
        write(one, Add("n", "", 1))
        assert elsewhere(path) == 3
    assert not log.exists()


def test_a_store_opened_anew_after_trouble_keeps_its_locks(path):
    """A connection that cannot roll back is given up; the others' locks stay."""
    with opened(path) as one, opened(path) as two:
        write(one, Add("n", "", 1))
        write(two, Add("n", "", 1))
        before = locks(path, f"{path}-shm")

        def spoil(cursor, _since):
            cursor.execute("BEGIN IMMEDIATE")
            one._file.recover(cursor)

        one._file.use(spoil, wait=True)
        write(one, Add("n", "", 1))
        assert locks(path, f"{path}-shm") == before
        assert elsewhere(path) == 3


def test_sync_and_async_stores_on_one_file(path):
    """The same with the two kinds of store, whichever opens and closes first."""
    url = f"sqlite:///{path}"

    async def more(count):
        async with AsyncStore.open(url) as store:
            for _ in range(count):
                await store.collection(Chat).apply("a", Chat.turns.add(1))

    with Store.open(url) as store:
        chats = store.collection(Chat)
        chats.apply("a", Chat.turns.add(1))
        asyncio.run(more(5))
        assert elsewhere(path) == 6
        asyncio.run(more(5))
        chats.apply("a", Chat.turns.add(1))
        assert elsewhere(path) == 12


def test_descriptors_do_not_pile_up(path):
    """Those that SQLite could not close at once are used again."""
    with opened(path) as one:
        write(one, Add("n", "", 1))
        for _ in range(3):
            with opened(path) as two:
                read(two)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(10):
            with opened(path) as two:
                read(two)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_header_is_read_while_the_file_grows(path):
    """Of a file that another process makes longer the first page is written first."""
    with opened(path) as driver:
        write(driver, Add("n", "", 1))
    whole = path.read_bytes()
    path.write_bytes(whole[:1024])
    application, version = header(str(path))
    assert (application.to_bytes(4, "big"), version) == (b"STHD", VERSION)


def test_a_file_of_two_names_is_refused(path):
    """SQLite names the log after the file, so that each name would have one of its own."""
    with opened(path) as driver:
        write(driver, Add("n", "", 1))
    os.link(path, path.parent / "also.db")
    for name in (path, path.parent / "also.db"):
        with opened(name) as driver, pytest.raises(ConfigError, match="2 names"):
            read(driver)
    (path.parent / "also.db").unlink()
    with opened(path) as driver:
        assert read(driver).fields == {"n": {"": 1}}


# ------------------------------------------------------------------------- who waits, and where


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_no_lock_stops_an_event_loop(path, synchronous):
    """Another process has it: callers wait, and may give up; everything else goes on."""

    async def play():
        url = f"sqlite:///{path}?synchronous={synchronous}"
        clock = ManualClock(NOW)
        async with AsyncStore.open(url, busy_timeout_ms=20_000, clock=clock) as store:
            chats = store.collection(Chat)
            await chats.apply("a", Chat.turns.add(1))
            clock.advance(100)
            with held(path):
                for _ in range(3):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(chats.apply("gone", Chat.turns.add(1)), 0.05)
                waiting = [
                    asyncio.create_task(chats.apply("a", Chat.turns.add(1))) for _ in range(20)
                ]
                touching = asyncio.create_task(chats.touch("a"))
                for _ in range(20):
                    assert (await chats.get("a")).turns == 1
                    await asyncio.sleep(0.005)
                assert not any(task.done() for task in (*waiting, touching))
            await asyncio.gather(*waiting)
            assert await touching
            assert (await chats.get("a")).turns == 21
            await chats.apply("a", Chat.turns.add(1))
            assert (await chats.get("a")).turns == 22

    asyncio.run(asyncio.wait_for(play(), 15))


def test_a_lock_for_longer_than_the_time_out_is_busy(path):
    """For each of many callers, together and not one after the other."""

    async def play():
        async with AsyncStore.open(f"sqlite:///{path}", busy_timeout_ms=100) as store:
            chats = store.collection(Chat)
            await chats.apply("a", Chat.turns.add(1))
            with held(path):
                calls = [chats.apply("a", Chat.turns.add(1)) for _ in range(50)]
                answers = await asyncio.gather(*calls, return_exceptions=True)
                assert {type(answer) for answer in answers} == {Busy}
            assert (await chats.get("a")).turns == 1

    asyncio.run(asyncio.wait_for(play(), 15))


def test_threads_wait_for_another_process_together(path):
    """Each for the busy timeout at most, though they wait for one another as well."""
    with opened(path, busy_timeout_ms=400) as driver:
        write(driver, Add("n", "", 1))
        took = []

        def call():
            began = time.monotonic()
            with pytest.raises(Busy):
                write(driver, Add("n", "", 1))
            took.append(time.monotonic() - began)

        with held(path):
            threads = [threading.Thread(target=call) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(took) == 6
        assert max(took) < 1.6  # and not six times 0.4
        write(driver, Add("n", "", 1))
        assert read(driver).fields == {"n": {"": 2}}


def test_opening_does_not_stop_an_event_loop(path):
    """Somebody has the file all to himself when it is to be opened."""
    with opened(path) as driver:
        write(driver, Add("n", "", 1))

    async def play():
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            async with AsyncStore.open(f"sqlite:///{path}", busy_timeout_ms=5000) as store:
                checking = asyncio.create_task(store.check())
                for _ in range(20):
                    await asyncio.sleep(0.005)
                assert not checking.done()
                other.close()
                await checking

    asyncio.run(asyncio.wait_for(play(), 15))


# --------------------------------------------------------------------------------------- closing


def test_closing_ends_every_call_of_a_thread(path):
    """With its result or with `Closed`; no connection stays behind."""
    for _ in range(5):
        store = Store.open(f"sqlite:///{path}")
        chats = store.collection(Chat)
        chats.apply("a", Chat.turns.add(1))
        wrong = []

        def call(chats=chats, wrong=wrong):
            try:
                while True:
                    chats.apply("a", Chat.turns.add(1))
                    chats.get("a")
                    chats.scan_page()
            except Closed:
                pass
            except BaseException as error:  # noqa: BLE001  told below
                wrong.append(error)

        threads = [threading.Thread(target=call) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.02)
        store.close()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]


@pytest.mark.parametrize("busy_ms", [200, 1])
@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_closing_ends_every_call_of_a_task(path, synchronous, busy_ms):
    """Those that wait for another process as well."""

    async def play():
        clock = ManualClock(NOW)
        url = f"sqlite:///{path}?synchronous={synchronous}"
        store = AsyncStore.open(url, busy_timeout_ms=busy_ms, clock=clock)
        chats = store.collection(Chat)
        await chats.apply("a", Chat.turns.add(1))
        clock.advance(100)
        with held(path):
            tasks = [asyncio.create_task(chats.apply("a", Chat.turns.add(1))) for _ in range(9)]
            tasks.append(asyncio.create_task(chats.touch("a")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await store.close()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(answer) for answer in answers} <= {Busy, Closed}
        with pytest.raises(Closed):
            await chats.get("a")

    asyncio.run(asyncio.wait_for(play(), 15))
