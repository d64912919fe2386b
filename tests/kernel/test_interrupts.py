"""Ctrl-C, a time limit, a signal handler or a finalizer may come after any call of a function."""

import contextlib
import os
import signal
import sys
import threading
import time
from functools import partial

import pytest

from statehold import Busy, Counter, Invalid, Log, Map, State, Store, sqlitefiles
from statehold.driver import WouldWait
from statehold.drivers import memory, sqlite
from statehold.engine import run_now
from statehold.store import lease

FOLDERS = tuple(module.__file__.rpartition("/")[0] for module in (memory, sqlite, sqlitefiles))


class Visit(State, ttl=60):
    clicks = Counter()
    pages = Log(str, keep=3)
    notes = Map(str, str, keep=200)


EDITS = (Visit.clicks.add(1), Visit.pages.append("x"), Visit.notes.put("k", "v"))


class Interrupt(BaseException):
    pass


def at_call(number, work, then, folders=FOLDERS):
    """Do the work, and something else at so many calls of the driver. Whether it came to that.

    That is where Python looks for signals, besides the end of a loop's turn: as a function begins, and
    when one of C has returned. A tracer sees lines and opcodes between which no signal can come, such as
    those from the end of a `with` block to the giving back.
    """
    count = 0

    def watch(frame, event, _):
        nonlocal count
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(folders):
            count += 1
            if count == number:
                then()

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count >= number


def interrupted():
    raise Interrupt


def elsewhere(work):
    """In another thread, which a lock that stayed taken would stop."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "a lock stayed taken"


@pytest.fixture(params=["memory://", "sqlite:///state.db", "sqlite:///state.db?synchronous=FULL"])
def url(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return request.param


@pytest.mark.parametrize("prior", [0, 1, 100], ids=["a new state", "a small one", "a large one"])
def test_an_interrupt_at_any_call_leaves_whole_states(url, prior):
    """What was under way was applied or not, and everything goes on."""
    with Store.open(url) as store:
        visits = store.collection(Visit)
        for call in range(1, 400):
            id = f"v{call}"
            if prior:
                visits.apply(id, *(Visit.notes.put(f"n{n}", "v") for n in range(prior)))
                visits.apply(id, Visit.notes.put("n0", "w"), subject="ann")
            try:
                said = partial(visits.apply, id, *EDITS, subject=("bob", "ann"))
                came = at_call(call, said, interrupted)
            except Interrupt:
                came = True
            found = visits.get(id)
            whole = (found.clicks, list(found.pages), found.notes.get("k"))
            assert whole in [(0, [], None), (1, ["x"], "v")], f"call {call}: half of it: {whole}"
            about = visits.get(id).meta.subjects
            assert about in [(), ("ann",), ("bob", "ann")]
            for subject in ("ann", "bob"):
                assert (id in list(visits.find(subject))) == (subject in about), f"call {call}"
            elsewhere(partial(visits.apply, id, *EDITS, subject=["cy", "run"]))
            assert visits.get(id).clicks == whole[0] + 1
            assert id in list(visits.find("cy"))
            assert id in list(visits.find("run"))
            assert visits.delete(id)
            assert not visits.get(id).meta.exists
            if not came:
                break
        else:
            pytest.fail("the commit has no end")
        assert list(visits.scan()) == []


@pytest.mark.parametrize("prior", [0, 1, 100], ids=["a new state", "a small one", "a large one"])
def test_an_interrupt_at_any_call_leaves_whole_lives(url, prior):
    """A life that is installed is there as it was, or as it is from now on, with what it remembers."""
    with Store.open(url) as store:
        visits = store.collection(Visit)
        for call in range(1, 400):
            id = f"v{call}"
            if prior:
                visits.apply(id, *(Visit.notes.put(f"n{n}", "v") for n in range(prior)))
                old = whole_of(store, id)
            visits.apply(id, *EDITS, subject="bob", op="op 1")
            life = whole_of(store, id)
            visits.delete(id)
            if prior:
                install(store, old)
            try:
                came = at_call(call, partial(install, store, life), interrupted)
            except Interrupt:
                came = True
            found = visits.get(id)
            whole = (found.clicks, list(found.pages), found.notes.get("k"))
            assert whole in [(0, [], None), (1, ["x"], "v")], f"call {call}: half of it: {whole}"
            again = install(store, life)
            assert again.repeated == bool(whole[0])
            assert whole_of(store, id).ops == life.ops
            assert id in list(visits.find("bob"))
            assert visits.delete(id)
            assert list(visits.find("bob")) == []
            if not came:
                break
        else:
            pytest.fail("the installation has no end")
        assert list(visits.scan()) == []


def whole_of(store, id):
    """The whole life of a visit, which is there."""
    return run_now(store.driver.lives([("", "visit", id)], time.time()))[0]


def install(store, life):
    """What became of a life that is to be installed."""
    return run_now(store.driver.install([life], time.time()))[0]


@pytest.mark.parametrize("prior", [0, 1, 100], ids=["new states", "small ones", "large ones"])
def test_an_interrupt_at_any_call_leaves_all_or_none(url, prior):
    """Of commits that stand together, too: one state is not changed without the others."""
    with Store.open(url) as store:
        visits = store.collection(Visit)
        for call in range(1, 800):
            ids = [f"v{call}", f"w{call}", f"x{call}"]
            if prior:
                for id in ids:
                    visits.apply(id, *(Visit.notes.put(f"n{n}", "v") for n in range(prior)))
                    visits.apply(id, Visit.notes.put("n0", "w"), subject="ann")
            steps = [
                visits.step(ids[0], *EDITS, subject="bob"),
                visits.step(ids[1], delete=True),
                visits.step(ids[2], *EDITS),
            ]
            try:
                came = at_call(call, partial(store.apply_together, *steps), interrupted)
            except Interrupt:
                came = True
            first, gone, last = (visits.get(id) for id in ids)
            whole = (first.clicks, list(first.pages), first.notes.get("k"))
            assert whole in [(0, [], None), (1, ["x"], "v")], f"call {call}: half of it: {whole}"
            assert (last.clicks, list(last.pages)) == whole[:2], f"call {call}: one of two"
            if prior:
                assert gone.meta.exists == (not whole[0]), f"call {call}: one of two"
            elsewhere(partial(store.apply_together, *steps))
            assert visits.get(ids[0]).clicks == visits.get(ids[2]).clicks == whole[0] + 1
            assert ids[0] in list(visits.find("bob"))
            for id in ids:
                visits.delete(id)
            if not came:
                break
        else:
            pytest.fail("the commit has no end")
        assert list(visits.scan()) == []


def test_a_call_in_the_midst_of_another_is_refused(url):
    """A signal handler or finalizer that calls the store does not wait for its own thread."""
    with Store.open(url) as store:
        visits = store.collection(Visit)
        visits.apply("a", *EDITS)
        refused = 0

        def again():
            nonlocal refused
            sys.setprofile(None)
            try:
                visits.apply("b", Visit.clicks.add(1))
            except Busy:
                refused += 1

        for call in range(1, 200):
            if not at_call(call, partial(visits.apply, "a", *EDITS), again):
                break
        assert refused
        assert visits.get("a").clicks > 1


@pytest.mark.parametrize("work", ["get", "scan"])
def test_an_interrupt_of_a_reader_leaves_its_turn_to_others(url, work):
    """Whoever reads has a turn too."""
    with Store.open(url) as store:
        visits = store.collection(Visit)
        visits.apply("a", *EDITS)
        read = partial(visits.get, "a") if work == "get" else lambda: list(visits.scan())
        for call in range(1, 300):
            try:
                came = at_call(call, read, interrupted)
            except Interrupt:
                came = True
            elsewhere(partial(visits.apply, "a", *EDITS))
            assert visits.get("a").clicks == call + 1
            assert list(visits.scan()) == ["a"]
            if not came:
                break
        else:
            pytest.fail("the reading has no end")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_signals_of_the_system_leave_it_to_others(url):
    """Whenever they come, many of them."""
    if "FULL" in url:
        pytest.skip("open: one in some thousands is lost, or leaves a connection open")

    def stop(*_):
        raise Interrupt

    with Store.open(url) as store:
        visits = store.collection(Visit)
        visits.apply("a", *EDITS)
        before = signal.signal(signal.SIGALRM, stop)
        interrupts, until = 0, time.monotonic() + 1
        try:
            while time.monotonic() < until:
                try:
                    try:
                        signal.setitimer(signal.ITIMER_REAL, 1e-5 + interrupts % 97 * 4e-6)
                        while True:
                            visits.apply("a", *EDITS)
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupt:
                    interrupts += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert interrupts > 20
        elsewhere(partial(visits.apply, "a", *EDITS))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("nth", range(1, 30))
def test_an_interrupt_of_a_fork_leaves_no_lock_taken(url, nth):
    """What is done around it may be interrupted too, and then goes on."""
    with Store.open(url) as store:
        visits = store.collection(Visit)
        visits.apply("a", *EDITS)

        def fork():
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)

        at_call(nth, fork, interrupted)
        elsewhere(partial(visits.apply, "a", *EDITS))
        other = Store.open("sqlite:///other.db")
        elsewhere(partial(other.collection(Visit).apply, "a", *EDITS))
        elsewhere(other.close)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_call_leaves_a_lease_to_others(url):
    """Acquired or not, it is given back, and can be acquired again: by its object and by others."""
    folders = (lease.__file__,)
    with Store.open(url) as store:
        visits = store.collection(Visit)
        visits.apply("a", *EDITS)
        mine = visits.lease("a", ttl=60, renews=False)

        def use():
            with mine:
                pass

        for call in range(1, 200):
            try:
                came = at_call(call, use, interrupted, folders)
            except Interrupt:
                came = True
            with contextlib.suppress(Invalid):
                mine.epoch  # noqa: B018  it is held still, as the release was interrupted
                mine.release()
            with visits.lease("a", ttl=60, renews=False):
                pass
            with mine:
                pass
            if not came:
                break
        else:
            pytest.fail("the lease has no end")


@pytest.mark.parametrize("wait", [True, False])
def test_an_interrupt_at_any_call_of_who_waits_leaves_the_line(tmp_path, wait):
    """Whoever waits for another thread stands in a line, in which nobody may be left who is gone."""
    with Store.open(f"sqlite:///{tmp_path}/state.db") as store:
        visits = store.collection(Visit)
        visits.apply("a", *EDITS)
        file = store.driver._file

        def use(holds, seconds):
            def work(_cursor, _since):
                holds.set()
                time.sleep(seconds)

            return work

        def waits():
            with contextlib.suppress(WouldWait):
                file.use(use(threading.Event(), 0), wait=wait)

        for call in range(1, 200):
            held = threading.Event()
            holder = threading.Thread(
                target=file.use, args=(use(held, 0.004),), kwargs={"wait": True}
            )
            holder.start()
            assert held.wait(10)
            try:
                came = at_call(call, waits, interrupted)
            except Interrupt:
                came = True
            holder.join(10)
            assert not file._line
            assert not file._under_way
            elsewhere(partial(visits.apply, "a", *EDITS))
            if not came:
                break
        else:
            pytest.fail("the waiting has no end")
