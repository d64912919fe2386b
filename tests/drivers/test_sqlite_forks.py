"""A file that was open at a fork is refused in the child, which has none of SQLite's locks."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest

from statehold import ConfigError, Store
from tests.drivers.test_sqlite_locks import Chat, elsewhere, locks, spelled


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


def in_child(work):
    """What `work()` says in a forked process, which must not take long over it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    until = time.monotonic() + 20
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("it hangs")
        time.sleep(0.01)
    with os.fdopen(reading) as file:
        return file.read()


def said(call):
    try:
        return str(call())
    except ConfigError as error:
        return "retryable" if error.retryable else str(error)


@pytest.mark.parametrize("used", ["sqlite", "sqlite+sql"])
@pytest.mark.parametrize("new", ["sqlite", "sqlite+sql", "link"])
def test_a_file_that_was_open_before_a_fork_is_refused_in_the_child(path, used, new):
    """By the same store and by a new one, under any name: SQLite would take no locks there."""
    scheme = "sqlite+sql" if new == "sqlite+sql" else "sqlite"
    other = spelled(path, "link" if new == "link" else "same")
    store = Store.open(f"{used}:///{path}")
    chats = store.collection(Chat)
    chats.apply("a", Chat.turns.add(1))

    def again():
        with Store.open(f"{scheme}:///{other}") as another:
            return another.collection(Chat).get("a").turns

    def work():
        answers = [said(lambda: chats.get("a").turns), said(again), said(again)]
        store.close()
        return "|".join(answers)

    assert [answer.count("fork") for answer in in_child(work).split("|")] == [3, 3, 3]
    before = locks(path, f"{path}-shm")
    assert len(before) == 2
    chats.apply("a", Chat.turns.add(1))
    assert chats.get("a").turns == 2
    store.close()


CHILD = """
import gc, os, sys
from statehold.drivers.sqlite import SqliteDriver
from statehold.engine import run_now

def descriptors():
    found = os.listdir("/proc/self/fd")
    names = [os.readlink(f"/proc/self/fd/{n}") for n in found if os.path.exists(f"/proc/self/fd/{n}")]
    return sum(name.startswith(sys.argv[1]) for name in names)

driver = SqliteDriver(sys.argv[1])
run_now(driver.check(0.0))
child = os.fork()
if not child:
    before = descriptors()
    del driver
    gc.collect()
    print(before, descriptors(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_child_closes_nothing_of_its_parent_s(path):
    """Not even when nobody there knows of it any more, as at the end of the program."""
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, check=True, text=True
    )
    before, after = map(int, ran.stdout.split())
    assert before == after >= 2


def test_a_fork_while_another_thread_commits(path):
    """The child is told, and does not hang."""
    with Store.open(f"sqlite:///{path}") as store:
        chats = store.collection(Chat)
        chats.apply("a", Chat.turns.add(1))
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                chats.apply("a", Chat.turns.add(1), Chat.history.append("x" * 500))
                chats.get("a")

        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads:
            thread.start()
        answers = [in_child(lambda: said(lambda: chats.get("a"))) for _ in range(10)]
        stop.set()
        for thread in threads:
            thread.join()
        assert all("fork" in answer for answer in answers)
        turns = chats.get("a").turns
        assert elsewhere(path) == turns
    assert elsewhere(path) == turns


def test_a_store_that_was_not_used_before_a_fork_works_in_the_child(path):
    """And one that was closed: then nothing was open."""
    store = Store.open(f"sqlite:///{path}")
    chats = store.collection(Chat)
    with Store.open(f"sqlite:///{path}") as other:
        other.collection(Chat).apply("a", Chat.turns.add(1))

    def work():
        chats.apply("a", Chat.turns.add(1))
        assert len(locks(path, f"{path}-shm")) == 2
        store.close()
        return "fine"

    assert in_child(work) == "fine"
    assert chats.get("a").turns == 2
    store.close()


def _added(url):
    with Store.open(url) as store:
        store.collection(Chat).apply("a", Chat.turns.add(1))


def test_multiprocessing_pools(path):
    """Workers open their own store, forked before any is open, or spawned."""
    url = f"sqlite:///{path}"
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            pool.map(_added, [url] * 8)
            pool.close()
            pool.join()
    with Store.open(url) as store:
        assert store.collection(Chat).get("a").turns == 16
