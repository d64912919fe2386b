"""Several processes at one SQLite file, and `kill -9`: nothing acknowledged is lost, nothing damaged."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from statehold import AsyncStore, ConfigError, Counter, Log, State, Store
from statehold.testing.servers.processes import wait_for


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()
    history = Log(str, keep=100)


# ------------------------------------------------------------------- what the other processes do


def _say(text):
    os.write(1, f"{text}\n".encode())


def _serve(url):
    """A service with two kinds of store on one file, and a third that comes and goes."""
    kept = Store.open(url)
    kept.collection(Chat).apply("a", Chat.turns.add(1))
    _say("ack")

    async def requests():
        async with AsyncStore.open(url) as store:
            chats = store.collection(Chat)
            while True:
                await chats.apply("a", Chat.turns.add(1), Chat.history.append("x" * 200))
                _say("ack")
                await asyncio.to_thread(again)

    def again():
        with Store.open(url) as another:
            another.collection(Chat).apply("a", Chat.turns.add(1))
        _say("ack")
        kept.collection(Chat).apply("a", Chat.turns.add(1))
        _say("ack")

    asyncio.run(requests())


def _come_and_go(url):
    """Opens, writes, closes, over and over: each time perhaps the last one at the file."""
    while True:
        with Store.open(url) as store:
            store.collection(Chat).apply("a", Chat.turns.add(1))
            _say("ack")


def _fork(url):
    """Commits, and forks again and again; each child is refused, and ends as Python programs do."""
    with Store.open(url) as store:
        chats = store.collection(Chat)
        while True:
            chats.apply("a", Chat.turns.add(1))
            _say("ack")
            child = os.fork()
            if not child:
                for again in (chats, Store.open(url).collection(Chat)):
                    try:
                        again.apply("a", Chat.turns.add(1))
                    except ConfigError:
                        continue
                    _say("ack, and never should have been")
                sys.exit()
            os.waitpid(child, 0)


def _hold(path):
    """Has the write lock until it is killed."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    _say("ack")
    time.sleep(600)


WORK = {"serve": _serve, "come-and-go": _come_and_go, "fork": _fork, "hold": _hold}

# ------------------------------------------------------------------------------------- the tests


class Process:
    """Another process at this work; `acks` counts what it was told."""

    def __init__(self, work, url, folder):
        self.told = folder / f"{work}-{time.monotonic_ns()}"
        code = "import sys; from tests.faults.test_faults_sqlite import WORK; "
        code += "WORK[sys.argv[1]](sys.argv[2])"
        with self.told.open("wb") as out:
            self.process = subprocess.Popen([sys.executable, "-c", code, work, url], stdout=out)

    @property
    def acks(self):
        return self.told.read_bytes().count(b"ack\n")

    def until(self, count):
        def there():
            assert self.process.poll() is None, "it has ended by itself"
            return self.acks >= count

        wait_for(there, "acknowledged commits", timeout=60)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return self.acks


@pytest.fixture
def start(tmp_path):
    """What starts another process; all are gone afterwards."""
    folder = tmp_path / "told"
    folder.mkdir()
    started = []

    def begin(work, url):
        started.append(Process(work, url, folder))
        return started[-1]

    yield begin
    for one in started:
        one.kill()


def sound(path):
    found = subprocess.run(
        [sys.executable, "-c", _INTEGRITY, str(path)], capture_output=True, check=True, text=True
    )
    return found.stdout.strip()


_INTEGRITY = (
    "import sqlite3, sys;"
    "print(sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone()[0])"
)


@pytest.mark.parametrize(("scheme", "rounds", "each"), [("sqlite", 2, 20), ("sqlite+sql", 1, 10)])
def test_killed_services_lose_nothing(tmp_path, start, scheme, rounds, each):
    """Two of them, each with several stores on the file, and others that come and go."""
    path = tmp_path / "state.db"
    url = f"{scheme}:///{path}"
    acks, flights = 0, 0
    for _ in range(rounds):
        processes = [start("serve", url), start("serve", url), start("come-and-go", url)]
        for one in processes:
            one.until(each)
        acks += sum(one.kill() for one in processes)
        flights += 2 * len(processes)
        assert sound(path) == "ok"
        with Store.open(url) as store:
            turns = store.collection(Chat).get("a").turns
            assert acks <= turns <= acks + flights


def test_a_child_that_was_refused_leaves_its_parent_whole(tmp_path, start):
    """The parent goes on, is killed, and all that it was told is there."""
    path = tmp_path / "state.db"
    forking = start("fork", f"sqlite:///{path}")
    forking.until(5)
    going = start("come-and-go", f"sqlite:///{path}")
    going.until(5)
    acks = forking.kill() + going.kill()
    assert b"never" not in forking.told.read_bytes()
    assert sound(path) == "ok"
    with Store.open(f"sqlite:///{path}") as store:
        assert acks <= store.collection(Chat).get("a").turns <= acks + 2


def test_an_event_loop_goes_on_under_another_process_s_lock(tmp_path, start):
    """Whose process is killed in the end; nothing of what was given up is there twice."""
    path = tmp_path / "state.db"
    url = f"sqlite:///{path}"

    async def play():
        async with AsyncStore.open(url, busy_timeout_ms=60_000) as store:
            chats = store.collection(Chat)
            await chats.apply("a", Chat.turns.add(1))
            holding = start("hold", str(path))
            await asyncio.to_thread(holding.until, 1)
            given_up = 0
            for _ in range(5):
                try:
                    await asyncio.wait_for(chats.apply("a", Chat.turns.add(1)), 0.05)
                except TimeoutError:
                    given_up += 1
                assert (await chats.get("a")).turns == 1
            assert given_up == 5
            waiting = asyncio.gather(*(chats.apply("a", Chat.turns.add(1)) for _ in range(30)))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await asyncio.to_thread(holding.kill)
            await waiting
            return (await chats.get("a")).turns

    turns = asyncio.run(asyncio.wait_for(play(), 60))
    assert 31 <= turns <= 36
    with Store.open(url) as store:
        assert store.collection(Chat).get("a").turns == turns
