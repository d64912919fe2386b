"""The portal ends every call that it began, in every way that it may end itself."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest
from sample import Everything, Message

from statehold import AsyncStore, Closed, Store, Unavailable
from statehold.drivers.memory import MemoryDriver
from statehold.portal import LoopThread, Portal
from statehold.testing.children import in_fork
from tests.suspending import Suspending

E = Everything
M = Message("user", "hello")
NAME = "statehold-portal"


def alive():
    return [thread.name for thread in threading.enumerate()].count(NAME)


def in_thread(work):
    """Run this in a thread; its end, and what came of it."""
    found = []

    def run():
        try:
            found.append(work())
        except BaseException as error:  # noqa: BLE001  it is the answer
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


class Standing(Suspending):
    """A driver whose reads stand still until they are cancelled or released."""

    def __init__(self):
        super().__init__()
        self.reading = threading.Event()
        self.release = None
        self.cancelled = 0

    async def read(self, *args, **kwargs):
        self.release = asyncio.Event()
        self.reading.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().read(*args, **kwargs)


@pytest.fixture
def standing():
    driver = Standing()
    store = Store(driver)
    yield driver, store
    store.close()


def test_a_close_ends_calls_under_way(standing):
    driver, store = standing
    states = store.collection(E)
    waiting = [in_thread(lambda: states.get("a")) for _ in range(4)]
    driver.reading.wait(5)
    store.close()
    for thread, found in waiting:
        thread.join(5)
        assert isinstance(found[0], Closed), found
    assert alive() == 0


def test_many_close_at_once_and_each_returns_after_the_end(standing):
    driver, store = standing
    states = store.collection(E)
    caller, found = in_thread(lambda: states.get("a"))
    driver.reading.wait(5)
    closers = [in_thread(lambda: (store.close(), alive())) for _ in range(8)]
    for thread, (answer,) in [(closer.join(5), found) for closer, found in closers]:
        assert thread is None
        assert answer == (None, 0)
    caller.join(5)
    assert isinstance(found[0], Closed)
    store.close()


def test_a_call_that_races_close_is_answered_or_closed():
    """Each of many calls has an answer, whenever the store is closed."""
    for _ in range(30):
        store = Store(Suspending())
        states = store.collection(E)
        states.apply("a", E.turns.add(1))

        def work(states=states):
            while True:
                states.apply("a", E.turns.add(1))

        callers = [in_thread(work) for _ in range(3)]
        store.close()
        for thread, found in callers:
            thread.join(5)
            assert isinstance(found[0], Closed), found
    assert alive() == 0


class Never(Suspending):
    """A driver whose commits do not end by themselves."""

    async def commit(self, *_args, **_kwargs):
        await asyncio.Event().wait()


def test_closing_from_within_a_call_ends_that_call():
    other = Store(Never())
    states = other.collection(E)
    with pytest.raises(Closed):
        states.transact("a", lambda state: (other.close(), state.history.append(M)))
    with pytest.raises(Closed):
        states.get("a")
    other.close()
    assert alive() == 0


def test_a_store_that_is_closed_as_it_begins():
    """The thread may not have begun when it is told to end."""
    for _ in range(50):
        store = Store(Suspending())
        store.close()
        assert alive() == 0


def test_what_a_function_raises_is_its_callers_even_at_the_end():
    """The program's own errors are not taken for the store's, nor do they end its loop."""
    with Store(Suspending()) as store:
        states = store.collection(E)
        for error in (SystemExit(3), KeyboardInterrupt(), ValueError("mine")):

            def fail(_, error=error):
                raise error

            with pytest.raises(type(error)):
                states.transact("a", fail)
        states.apply("a", E.turns.add(1))
        assert states.get("a").turns == 1


def test_an_interrupted_caller_leaves_a_portal_that_works(standing):
    """Ctrl-C while a call stands still: it is cancelled, and the next one is answered."""
    driver, store = standing
    states = store.collection(E)

    def interrupt():
        driver.reading.wait(5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread, _ = in_thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        states.get("a")
    thread.join(5)
    states.apply("a", E.turns.add(1))
    assert driver.cancelled == 1


def test_a_store_that_is_let_go_of_ends_by_itself():
    driver = Suspending()
    store = Store(driver)
    states = store.collection(E)
    states.apply("a", E.turns.add(1))
    (thread,) = [one for one in threading.enumerate() if one.name == NAME]
    gone = weakref.ref(store._portal)
    del store, states
    gc.collect()
    assert gone() is None
    thread.join(5)
    assert not thread.is_alive()
    assert driver._states.closed


def test_a_loop_that_fails_tells_everyone_and_another_one_begins(standing):
    driver, store = standing
    states = store.collection(E)
    thread, found = in_thread(lambda: states.get("a"))
    driver.reading.wait(5)
    loop_thread = store._portal._thread

    def break_it():
        raise SystemError("broken")

    loop_thread.loop.run_forever = break_it  # for when it is entered again
    loop_thread.soon(loop_thread.loop.stop)
    thread.join(5)
    assert isinstance(found[0], Unavailable)
    assert "broken" in str(found[0])
    states.apply("a", E.turns.add(1))


def test_no_thread_to_be_had_is_unavailable(monkeypatch):
    def none(_):
        raise RuntimeError("can't start new thread")

    with Store(Suspending()) as store:
        monkeypatch.setattr(threading.Thread, "start", none)
        with pytest.raises(Unavailable, match="start new thread"):
            store.collection(E).get("a")
        monkeypatch.undo()
        store.collection(E).apply("a", E.turns.add(1))


def test_the_end_waits_for_what_cancelled_tasks_still_do():
    done = []

    async def slow():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            done.append("cleaned up")

    async def last():
        done.append("last")

    portal = Portal(last)
    thread, found = in_thread(lambda: portal.run(slow()))
    while portal._thread is None or not portal._thread._calls:
        time.sleep(0.001)  # until it is under way
    portal.close()
    thread.join(5)
    assert done in (["cleaned up", "last"], ["last"])  # the latter if it had not begun
    assert isinstance(found[0], Closed)


# --------------------------------------------------------------------------------------- forks


def test_a_fork_leaves_the_parents_loop_alone(standing):
    """In the child the loop is closed to all who ask; in the parent it goes on."""
    driver, store = standing
    states = store.collection(E)
    thread, found = in_thread(lambda: states.get("a"))
    driver.reading.wait(5)
    loop = store._portal._thread.loop

    def child():
        assert loop.is_closed()
        assert not loop.is_running()
        other = Store(MemoryDriver())
        other.close()
        states.apply("b", E.turns.add(1))
        gc.collect()
        store.close()
        return alive()

    assert in_fork(child) == 0
    assert loop.is_running()
    loop.call_soon_threadsafe(driver.release.set)
    thread.join(5)
    assert found[0].turns == 0


def test_a_fork_while_another_thread_holds_the_portals_lock(standing):
    _, store = standing
    states = store.collection(E)
    with store._portal._lock:

        def child():
            return states.apply("a", E.turns.add(1)).number

        assert in_fork(child) == 1


def test_a_fork_from_within_a_thread_and_within_the_portals_own():
    with Store(Suspending()) as store:
        states = store.collection(E)

        def child():
            return states.apply("a", E.turns.add(1)).number

        thread, found = in_thread(lambda: in_fork(child))
        thread.join(60)
        assert found == [1]
        assert states.transact("b", lambda _: in_fork(child)) == 1
        assert states.get("a").turns == 0  # each had a copy


def test_a_signal_handler_that_forks_and_returns_in_the_child(standing):
    """The child, where the loop is not, does not wait for it."""
    driver, store = standing
    states = store.collection(E)
    hears, tells = os.pipe()
    pids = []

    def handler(*_):
        pids.append(os.fork())

    def interrupt():
        driver.reading.wait(5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    thread, _ = in_thread(interrupt)
    try:
        waiting = threading.Timer(1.0, lambda: driver.release and loop_of(store, driver))
        waiting.start()
        try:
            states.get("a")
        except Closed:
            if pids == [0]:
                os.write(tells, b"closed")
                os._exit(0)
            raise
        finally:
            if pids == [0]:
                os._exit(1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    waiting.join()
    thread.join(5)
    os.close(tells)
    assert os.read(hears, 10) == b"closed"
    os.close(hears)
    os.waitpid(pids[0], 0)


def loop_of(store, driver):
    store._portal._thread.loop.call_soon_threadsafe(driver.release.set)


# ------------------------------------------------------------------------------ the interpreter


@pytest.mark.parametrize("flags", [[], ["-X", "dev", "-W", "error"]])
@pytest.mark.parametrize("how", ["kept", "let go", "atexit", "busy"])
def test_the_interpreter_ends_without_a_close_and_without_a_word(flags, how):
    code = f"""
import atexit, threading
from tests.kernel.test_engine import E
from tests.suspending import Suspending
from statehold import Closed, Store
store = Store(Suspending()); states = store.collection(E); states.apply("a", E.turns.add(1))
how = {how!r}
if how == "let go":
    del store, states
elif how == "atexit":
    atexit.register(lambda: (states.apply("a", E.turns.add(1)), store.close()))
elif how == "busy":
    def work():
        try:
            while True:
                states.apply("a", E.turns.add(1))
        except Closed:
            pass
    threading.Thread(target=work, daemon=True).start()
"""
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def held():
    return len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208  it goes on changing


def test_forty_loops_with_one_store_leave_nothing_behind():
    """As with a loop for each task: no descriptor, thread or task stays."""
    store = AsyncStore.open("memory://")
    states = store.collection(E)

    async def work():
        await asyncio.gather(*(states.apply("a", E.turns.add(1)) for _ in range(8)))

    asyncio.run(work())
    before = held()
    for _ in range(40):
        asyncio.run(work())
    assert held() == before
    asyncio.run(store.close())


def test_a_thread_of_a_loop_takes_no_calls_after_its_end():
    thread = LoopThread()
    thread.stop()
    thread.join()
    assert thread.has_ended
    thread.stop()
