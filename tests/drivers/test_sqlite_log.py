"""What was erased does not stay in the write-ahead log, either SQLite backend."""

import contextlib
import shutil
import sqlite3
import subprocess
import time
from datetime import timedelta

import pytest

from statehold import Counter, Log, ManualClock, Map, State, Store

SECRET = "KELP-4711"


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()
    history = Log(str, keep=100)
    facts = Map(str, str, keep=9)


@pytest.fixture(params=["sqlite", "sqlite+sql"])
def url(request, tmp_path):
    return f"{request.param}:///{tmp_path}/state.db"


def held(folder):
    """The store's files in which the secret is; read by another process, as they are in use."""
    found = subprocess.run(
        ["grep", "-rl", SECRET, str(folder)], capture_output=True, check=False, text=True
    )
    return sorted(line.rpartition("/")[2] for line in found.stdout.splitlines())


def gone(folder, seconds=20.0):
    until = time.monotonic() + seconds
    while held(folder):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def fill(chats, id="ann"):
    chats.apply(id, Chat.history.append(SECRET), Chat.facts.put("a", SECRET), subject=SECRET)


@pytest.mark.parametrize("how", ["delete", "drop", "clear"])
def test_what_was_erased_leaves_the_log(url, tmp_path, how):
    """Of a quiet store that stays open."""
    with Store.open(url) as store:
        chats = store.collection(Chat)
        if how == "delete":
            fill(chats)
        elif how == "drop":
            chats.apply("ann", Chat.facts.put("a", SECRET))
        else:
            chats.apply("ann", Chat.history.append(SECRET))
        assert held(tmp_path) == ["state.db-wal"]
        if how == "delete":
            chats.delete("ann")
        elif how == "drop":
            chats.apply("ann", Chat.facts.drop("a"))
        else:
            chats.apply("ann", Chat.history.clear())
        assert gone(tmp_path)
        chats.apply("ann", Chat.turns.add(1))  # and it goes on
        assert chats.get("ann").turns == 1


def test_many_erasures_at_once(url, tmp_path):
    """Those that come while the log is emptied count too."""
    with Store.open(url) as store:
        chats = store.collection(Chat)
        for n in range(40):
            fill(chats, f"ann-{n}")
        for n in range(40):
            chats.delete(f"ann-{n}")
            chats.apply("other", Chat.turns.add(1))
        assert gone(tmp_path)
        assert chats.get("other").turns == 40


def test_a_reader_of_the_past_delays_it(url, tmp_path):
    """As long as it reads; nobody waits for it meanwhile."""
    with Store.open(url) as store:
        chats = store.collection(Chat)
        fill(chats)
        with contextlib.closing(
            sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        ) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_master").fetchall()
            chats.delete("ann")
            assert not gone(tmp_path, 0.5)
            chats.apply("other", Chat.turns.add(1))
            reader.execute("ROLLBACK")
            assert gone(tmp_path)
        assert chats.get("other").turns == 1


def test_closing_before_it_was_done(url, tmp_path):
    with Store.open(url) as store:
        chats = store.collection(Chat)
        fill(chats)
        chats.delete("ann")
    assert held(tmp_path) == []


def test_what_a_killed_process_left_in_the_log(url, tmp_path):
    """Whoever opens the file next sees to it."""
    was = tmp_path / "was"
    was.mkdir()
    with Store.open(url) as store:
        chats = store.collection(Chat)
        fill(chats)
        # As a process leaves it that is killed: the copy is made by another one.
        subprocess.run(["cp", *map(str, tmp_path.glob("state.db*")), str(was)], check=True)
    shutil.move(was, tmp_path.parent / f"{tmp_path.name}-was")
    was = tmp_path.parent / f"{tmp_path.name}-was"
    assert held(was) == ["state.db-wal"]
    (was / "state.db-shm").unlink()
    with Store.open(f"{url.partition(':')[0]}:///{was}/state.db") as store:
        assert store.collection(Chat).get("ann").history[0] == SECRET
        until = time.monotonic() + 20
        while (was / "state.db-wal").stat().st_size and time.monotonic() < until:
            time.sleep(0.02)
        assert (was / "state.db-wal").stat().st_size == 0


def test_what_expired_and_was_swept_leaves_the_log(tmp_path):
    clock = ManualClock()
    with Store.open(f"sqlite:///{tmp_path}/state.db", clock=clock) as store:
        chats = store.collection(Chat)
        fill(chats)
        clock.advance(7200)
        for n in range(3 * 64):  # a sweep may begin beyond it
            chats.apply(f"{n}", Chat.turns.add(1))
        assert gone(tmp_path)


def test_writers_are_not_held_up(url, tmp_path):
    """Erasing all the time costs others no commit and no error."""
    with Store.open(url) as store:
        chats = store.collection(Chat)
        until = time.monotonic() + 1.0
        count = 0
        while time.monotonic() < until:
            fill(chats)
            chats.delete("ann")
            chats.apply("other", Chat.turns.add(1))
            count += 1
        assert chats.get("other").turns == count
        assert gone(tmp_path)
