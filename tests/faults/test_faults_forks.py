"""A store in a process that is forked, and one that is closed under its callers: nobody hangs."""

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from statehold import Closed, Counter, Log, State, Store
from statehold.testing.children import in_fork

CALLERS = 8


class Chat(State, ttl=timedelta(hours=1), kind="forked_chat"):
    turns = Counter()
    history = Log(str, keep=1000)


@pytest.fixture(params=["redis", "postgresql", "mariadb"])
def url(request):
    """A real server with nothing in it."""
    if request.param == "redis":
        server = request.getfixturevalue("statehold_redis")
        server.flush()
        return server.url
    name = {"postgresql": "statehold_postgres", "mariadb": "statehold_mariadb"}[request.param]
    return request.getfixturevalue(name).new_database()


def add(chats, times, name):
    for n in range(times):
        chats.apply("a", Chat.turns.add(1), Chat.history.append(f"{name} {n}"))
    return times


def busy(chats, stop):
    """Threads that call without a pause, and how often each was answered."""
    counts = [0] * CALLERS
    errors = []

    def work(n):
        try:
            while not stop.is_set():
                chats.apply("b", Chat.turns.add(1))
                counts[n] += 1
        except Exception as error:  # noqa: BLE001  it is looked at
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(CALLERS)]
    for thread in threads:
        thread.start()
    return threads, counts, errors


def test_forks_under_load_lose_nothing_on_either_side(url):
    """Prefork workers, each with a child of its own, while the parent's threads go on calling."""
    with Store.open(url) as store:
        chats = store.collection(Chat)
        written = add(chats, 2, "parent")
        stop = threading.Event()
        threads, counts, errors = busy(chats, stop)
        try:
            for n in range(4):

                def child(n=n):
                    done = add(chats, 3, f"child {n}")
                    gc.collect()  # of what was the parent's, too
                    done += in_fork(lambda: add(chats, 3, f"grandchild {n}"))
                    done += add(chats, 3, f"child {n} again")
                    store.close()
                    return done

                written += in_fork(child)
                written += add(chats, 1, f"parent {n}")
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        assert errors == []
        chat = chats.get("a")
        assert (chat.turns, len(set(chat.history))) == (written, written)
        assert chats.get("b").turns == sum(counts)
        stats = store.driver.stats()
        assert stats.get("reconnects_total", 0) == 0, "a child has ended the parent's connection"


def test_children_that_only_end_end_nothing_of_the_parents(url):
    """A child that is collected to the last, and closes, sends no good-bye in the parent's name."""
    with Store.open(url) as store:
        chats = store.collection(Chat)
        add(chats, 2, "before")
        before = store.driver.stats().get("connections_total")

        def child():
            store.close()
            store.driver.__dict__.clear()  # so that all of it is collected
            gc.collect()
            return True

        for n in range(3):
            assert in_fork(child)
            add(chats, 2, f"after {n}")
        assert chats.get("a").turns == 8
        assert store.driver.stats().get("connections_total") == before


shared = {}


def worked(name):
    add(shared["chats"], 5, name)
    return os.getpid()


def test_a_pool_of_forked_workers(url):
    """`multiprocessing` forks by default on Linux, until Python 3.14."""
    with Store.open(url) as store:
        chats = shared["chats"] = store.collection(Chat)
        add(chats, 1, "before")
        with multiprocessing.get_context("fork").Pool(3) as pool:
            pids = pool.map_async(worked, "abcdef", chunksize=1).get(60)
        assert os.getpid() not in pids
        assert chats.get("a").turns == 31


def test_a_preloaded_service_ends_in_good_order(url):
    """The application is made before the workers, which end as programs do; no word on stderr."""
    code = f"""
import os, sys
from tests.faults.test_faults_forks import Chat, Store, add
store = Store.open({url!r})
store.check()
chats = store.collection(Chat)
add(chats, 1, "master")
pids = []
for n in range(2):
    pid = os.fork()
    if pid == 0:
        add(chats, 5, f"worker {{n}}")
        sys.exit(0)
    pids.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
add(chats, 1, "master again")
assert chats.get("a").turns == 12
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def one_more(chat):
    chat.turns += 1


@pytest.mark.parametrize("how", ["apply", "transact"])
def test_closed_under_its_callers(url, how, capfd):
    """Every caller has an answer at once, no connection or thread stays, nothing is logged."""
    for _ in range(3):
        store = Store.open(url)
        chats = store.collection(Chat)
        add(chats, 1, "before")
        started = threading.Semaphore(0)
        answers = []

        def work(chats=chats, started=started, answers=answers):
            try:
                while True:
                    if how == "apply":
                        chats.apply("a", Chat.turns.add(1))
                    else:
                        chats.transact("a", one_more, attempts=1000)
                    started.release()
            except BaseException as error:  # noqa: BLE001  it is the answer
                answers.append(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            assert started.acquire(timeout=30)
        store.close()
        for thread in threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in threads)
        assert {type(answer) for answer in answers} == {Closed}, answers
    assert capfd.readouterr() == ("", "")
