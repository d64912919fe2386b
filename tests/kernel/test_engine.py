"""One core behind both faces: driven in place, or through a portal where a driver suspends."""

import asyncio
import gc
import threading

import pytest
from sample import Everything, Message

from statehold import AsyncStore, Closed, Conflict, Store, Unavailable, WrongThread
from statehold.drivers.memory import MemoryDriver
from statehold.engine import BlockingClock, run_now
from statehold.portal import Portal
from tests.suspending import Suspending

E = Everything


def test_run_now_gives_the_result_or_the_error():
    async def good():
        return 5

    async def bad():
        raise KeyError("x")

    assert run_now(good()) == 5
    with pytest.raises(KeyError):
        run_now(bad())


def test_run_now_refuses_what_suspends_and_cleans_up():
    cleaned = []

    async def suspends():
        try:
            await asyncio.sleep(0)
        finally:
            cleaned.append(True)

    with pytest.raises(RuntimeError, match="suspends=False"):
        run_now(suspends())
    assert cleaned == [True]


@pytest.fixture
def store():
    with Store(Suspending()) as store:
        yield store


def test_every_call_works_over_a_driver_that_suspends(store):
    states = store.collection(E)
    store.check()
    with states.session("a", exclusive=True) as state:
        state.turns += 1
    states.apply("a", E.turns.add(1), subject="ann")
    assert states.apply("a", E.turns.add(1), returning=["turns"]).turns == 3
    assert states.commit("a", [E.turns.add(1)]).revision.number == 4
    assert states.transact("a", lambda s: s.turns + 1) == 5
    assert states.get_many("ab"[:1].split())["a"].turns == 4
    assert len(states.apply_many([("b", [E.turns.add(1)]), ("c", [])])) == 2
    assert list(states.scan(page_size=1)) == ["a", "b", "c"]
    assert list(states.find("ann")) == ["a"]
    assert states.scan_page(limit=2)[0] == ["a", "b"]
    assert list(states.scan(prefix="b")) == ["b"]
    assert list(states.find("ann", newest=True)) == ["a"]
    assert [state.turns for state in states.get_page(limit=2)[0]] == [4, 1]
    assert states.touch("a")
    assert states.delete("a")


def test_errors_come_through_the_portal(store):
    states = store.collection(E)
    with pytest.raises(Conflict), states.session("a", exclusive=True) as state:  # noqa: PT012
        states.apply("a", E.turns.add(1))
        state.turns += 1
    with pytest.raises(ZeroDivisionError):
        states.transact("a", lambda _: 1 / 0)


def test_threads_share_a_portal_and_nothing_is_lost(store):
    states = store.collection(E)
    barrier = threading.Barrier(8)

    def work():
        barrier.wait()
        for _ in range(20):
            states.apply("a", E.turns.add(1))
            states.transact("a", lambda s: s.history.append(Message("u", "")), attempts=500)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    names = [thread.name for thread in threading.enumerate()]
    for thread in threads:
        thread.join()
    assert states.get("a").turns == 160
    assert names.count("statehold-portal") <= 1


def test_threads_share_a_store_that_needs_no_portal():
    with Store.open("memory://") as store:
        states = store.collection(E)

        def work():
            for _ in range(300):
                states.apply("a", E.turns.add(1), E.history.append(Message("u", "")))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        state = states.get("a")
        assert (state.turns, len(state.history), state.meta.revision.number) == (2400, 5, 2400)


def test_a_function_in_transact_may_call_its_own_store(store):
    """It runs in the thread of who called, and only what the driver does in the portal's."""
    states = store.collection(E)
    states.apply("b", E.turns.add(7))
    found = states.transact("a", lambda _: (states.get("b").turns, threading.current_thread()))
    assert found == (7, threading.current_thread())


def test_a_driver_may_not_call_its_own_store_and_wait_for_ever():
    class Calls(Suspending):
        async def check(self, now):
            store.collection(E).get("a")

    store = Store(Calls())
    with store, pytest.raises(WrongThread):
        store.check()


def test_a_closed_portal_starts_no_thread():
    store = Store(Suspending())
    states = store.collection(E)
    states.apply("a", E.turns.add(1))
    scan = states.scan()
    store.close()
    store.close()
    before = threading.active_count()
    for call in (
        lambda: states.get("a"),
        lambda: next(scan),
        store.check,
        lambda: states.session("a").__enter__(),
    ):
        with pytest.raises(Closed):
            call()
    assert threading.active_count() == before


def test_a_store_never_used_closes(store):
    assert threading.current_thread() is threading.main_thread()
    Store(Suspending()).close()


def test_a_scan_left_half_way_leaves_nothing_behind():
    for driver in (Suspending(), MemoryDriver()):
        with Store(driver) as store:
            states = store.collection(E)
            states.apply_many((str(n), []) for n in range(10))
            for name in states.scan(page_size=2):
                if name == "3":
                    break
            gc.collect()
        gc.collect()


def test_a_portal_runs_in_one_thread_of_its_own():
    portal = Portal()

    async def where():
        return threading.current_thread().name

    assert portal.run(where()) == portal.run(where()) == "statehold-portal"
    portal.close()
    portal.close()
    with pytest.raises(Closed):
        portal.run(where())


def test_the_blocking_clock_suspends_nobody():
    clock = BlockingClock()
    start = clock.monotonic()
    assert run_now(clock.sleep(0.001)) is None
    assert clock.monotonic() - start >= 0.001


def test_a_closing_store_closes_its_portal_even_when_the_driver_cannot():
    class Stuck(Suspending):
        async def close(self):
            raise Unavailable("down")

    store = Store(Stuck())
    store.collection(E).get("a")
    with pytest.raises(Unavailable):
        store.close()
    assert "statehold-portal" not in [thread.name for thread in threading.enumerate()]


def test_many_tasks_on_one_key_lose_nothing():
    async def main(driver):
        async with AsyncStore(driver) as store:
            states = store.collection(E)

            async def session(n):
                async with states.session("a") as state:
                    state.turns += 1
                    state.clicks.add(str(n % 3))

            await asyncio.gather(*(session(n) for n in range(60)))
            await asyncio.gather(
                *(
                    states.transact("b", lambda s: setattr(s, "turns", s.turns + 1), attempts=200)
                    for _ in range(20)
                )
            )
            return await states.get("a"), await states.get("b")

    for driver in (MemoryDriver(), Suspending()):
        one, other = asyncio.run(main(driver))
        assert (one.turns, one.clicks, other.turns) == (60, {"0": 20, "1": 20, "2": 20}, 20)
