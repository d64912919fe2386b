"""Threads of one store have its file by turns: each that waits has one, and what fails holds on to nothing."""

import asyncio
import contextlib
import threading
import time
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, State, Store, Unavailable
from tests.garbage import counted


class Visit(State, ttl=timedelta(hours=1)):
    clicks = Counter()


@pytest.mark.parametrize("mode", ["NORMAL", "FULL"])
@pytest.mark.parametrize("loops", [1, 4])
def test_threads_that_never_pause_keep_nobody_out(tmp_path, mode, loops):
    """Each that waits has its turn, though others come again at once: they stand in line."""
    done, over = [0] * 4, threading.Event()
    with Store.open(f"sqlite:///{tmp_path}/state.db", synchronous=mode) as store:
        visits = store.collection(Visit)

        def loop(at):
            while not over.is_set():
                visits.apply(f"loop {at}", Visit.clicks.add(1))

        def polite(at):
            for _ in range(25):
                visits.apply(f"polite {at}", Visit.clicks.add(1))
                done[at] += 1
                time.sleep(0.001)

        looping = [threading.Thread(target=loop, args=(at,), daemon=True) for at in range(loops)]
        others = [threading.Thread(target=polite, args=(at,), daemon=True) for at in range(4)]
        for thread in (*looping, *others):
            thread.start()
        for thread in others:
            thread.join(60)
        over.set()
        for thread in looping:
            thread.join(60)
        assert done == [25] * 4


def test_a_thread_that_never_pauses_keeps_no_event_loop_out(tmp_path):
    """Nor the tasks of one, whose commits go by the queue's thread."""
    over = threading.Event()

    async def run():
        async with AsyncStore.open(f"sqlite:///{tmp_path}/state.db") as store:
            visits, others = store.collection(Visit), store.blocking().collection(Visit)

            def loop():
                while not over.is_set():
                    others.apply("loop", Visit.clicks.add(1))

            looping = asyncio.create_task(asyncio.to_thread(loop))
            try:
                async with asyncio.timeout(60):
                    for n in range(25):
                        await asyncio.gather(
                            *(visits.apply(f"{n}-{at}", Visit.clicks.add(1)) for at in range(8))
                        )
            finally:
                over.set()
                await looping

    asyncio.run(run())


def test_who_is_interrupted_in_line_leaves_it(tmp_path):
    """Those behind have their turn."""
    with Store.open(f"sqlite:///{tmp_path}/state.db") as store:
        visits = store.collection(Visit)
        visits.apply("a", Visit.clicks.add(1))
        file = store.driver._file
        holds, lets = threading.Event(), threading.Event()

        def hold(_cursor, _since):
            holds.set()
            lets.wait(20)

        class Interrupt(BaseException):
            pass

        def waits(call):
            def run():
                with contextlib.suppress(Interrupt):
                    call()

            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            return thread

        def in_line(count):
            until = time.monotonic() + 20
            while len(file._line) < count and time.monotonic() < until:
                time.sleep(0.001)

        holder = waits(lambda: file.use(hold, wait=True))
        assert holds.wait(20)
        left, stand = threading.Event(), file._stand_in_line

        def interrupted(call):
            left.wait(20)
            raise Interrupt

        file._stand_in_line = interrupted
        first = waits(lambda: visits.apply("a", Visit.clicks.add(1)))
        in_line(1)
        file._stand_in_line = stand
        second = waits(lambda: visits.apply("a", Visit.clicks.add(1)))
        in_line(2)
        left.set()
        lets.set()
        for thread in (holder, first, second):
            thread.join(20)
            assert not thread.is_alive()
        assert not file._line
        assert visits.get("a").clicks == 2


@pytest.mark.parametrize("mode", ["NORMAL", "FULL"])
@pytest.mark.parametrize("at_once", [1, 8])
def test_calls_that_fail_leave_nothing_to_the_garbage_collector(tmp_path, mode, at_once):
    """An error that is kept by what it keeps would hold connections, and with them a removed file's room."""
    path = tmp_path / "state.db"

    with Store.open(f"sqlite:///{path}", synchronous=mode) as store:
        visits = store.collection(Visit)
        visits.apply("a", Visit.clicks.add(1))
        path.unlink()

        def fails():
            with contextlib.suppress(Unavailable):
                visits.apply("a", Visit.clicks.add(1))

        with counted() as left:
            # What others leave meanwhile, such as threads of earlier tests, they leave once.
            assert min([(fails(), fails(), fails(), left())[-1] for _ in range(3)]) == 0

    with asyncio.Runner() as runner:
        store = AsyncStore.open(f"sqlite:///{path}", synchronous=mode)
        visits = store.collection(Visit)

        async def write():
            with contextlib.suppress(Unavailable):
                await visits.apply("a", Visit.clicks.add(1))

        async def fail():
            for _ in range(10):
                await asyncio.gather(*(write() for _ in range(at_once)))

        runner.run(write())
        path.unlink()
        runner.run(fail())
        with counted() as left:
            assert min([(runner.run(fail()), left())[-1] for _ in range(3)]) == 0
        runner.run(store.close())
