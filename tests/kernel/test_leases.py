"""Leases in one process: waiting, renewing, losing, and what is asked wrongly."""

import asyncio
import threading
import time
from datetime import timedelta

import pytest

from statehold import (
    AsyncStore,
    ConfigError,
    Counter,
    Fenced,
    Invalid,
    Leased,
    ManualClock,
    State,
    Store,
    Unavailable,
    Unsupported,
)
from statehold.drivers.memory import MemoryDriver
from statehold.middleware.wrapper import Wrapper
from statehold.testing import FaultyDriver
from statehold.testing.children import in_fork

LONG = 600.0


class Run(State, ttl=timedelta(hours=1)):
    steps = Counter()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def runs(clock):
    with Store(MemoryDriver(), clock=clock) as store:
        yield store.collection(Run)


def test_whoever_waits_gets_it_when_it_is_given_back():
    async def play():
        async with AsyncStore(MemoryDriver()) as store:
            runs = store.collection(Run)
            order = []

            async def run(name):
                async with runs.lease("a", ttl=LONG, wait=30) as lease:
                    order.append((lease.epoch, name))
                    await asyncio.sleep(0.02)
                    await runs.apply("a", Run.steps.add(1), epoch=lease.epoch)

            await asyncio.gather(*(run(n) for n in range(6)))
            assert len(order) == 6
            assert order == sorted(order)
            assert (await runs.get("a")).steps == 6

    asyncio.run(play())


def test_whoever_waits_gets_it_when_it_runs_out(runs, clock):
    """It sleeps by the store's clock, and no longer than the other has it."""
    lost = runs.lease("a", ttl=10)
    lost.acquire()
    began = clock.now()
    with runs.lease("a", ttl=10, wait=60) as lease:
        assert lease.epoch > lost.epoch
        assert 10 <= clock.now() - began < 10.3
    with pytest.raises(Fenced):
        lost.renew()
    assert lost.lost


def test_it_is_waited_as_long_as_was_said(runs, clock):
    runs.lease("a", ttl=LONG).acquire()
    began = clock.now()
    with pytest.raises(Leased) as caught, runs.lease("a", ttl=LONG, wait=5.0):
        pass
    assert 5 <= clock.now() - began < 5.5
    assert LONG - 6 < caught.value.left < LONG
    assert caught.value.retryable
    assert "wait longer than 5 s" in str(caught.value)


@pytest.mark.parametrize("face", ["async", "sync"])
def test_it_is_renewed_in_the_background(face):
    ttl = 0.3

    async def alone():
        async with AsyncStore(MemoryDriver()) as store:
            runs = store.collection(Run)
            async with runs.lease("a", ttl=ttl) as lease:
                await asyncio.sleep(3 * ttl)
                assert lease.left > 0
                with pytest.raises(Leased):
                    await runs.lease("a", ttl=ttl).acquire()

    if face == "async":
        asyncio.run(alone())
        return
    with Store(MemoryDriver()) as store:
        runs = store.collection(Run)
        before = threading.active_count()
        with runs.lease("a", ttl=ttl) as lease:
            time.sleep(3 * ttl)
            assert lease.left > 0
            with pytest.raises(Leased):
                runs.lease("a", ttl=ttl).acquire()
        assert threading.active_count() == before


def test_it_outlives_a_store_that_cannot_answer_for_a_while():
    async def play():
        driver = FaultyDriver(MemoryDriver())
        async with AsyncStore(driver) as store:
            runs = store.collection(Run)
            async with runs.lease("a", ttl=0.6) as lease:
                driver.fail(1, on="commit")
                await asyncio.sleep(0.5)
                assert not driver.script
                assert lease.left > 0.1
                await runs.apply("a", Run.steps.add(1), epoch=lease.epoch)

    asyncio.run(play())


@pytest.mark.parametrize("face", ["async", "sync"])
def test_it_outlives_a_store_that_lets_nobody_in_for_a_while(face):
    """A password that changes, a right that is missing: as long as nobody else has it, it is renewed again."""

    class Barred(Wrapper):
        barred = 0

        async def commit(self, commits, now):
            if self.barred:
                self.barred -= 1
                raise ConfigError("the server lets nobody in", field="password")
            return await super().commit(commits, now)

    async def play():
        driver = Barred(MemoryDriver())
        async with AsyncStore(driver) as store:
            runs = store.collection(Run)
            async with runs.lease("a", ttl=0.6) as lease:
                driver.barred = 2
                await asyncio.sleep(0.7)
                assert driver.barred == 0
                assert lease.left > 0
                await runs.apply("a", Run.steps.add(1), epoch=lease.epoch)

    def play_in_threads():
        driver = Barred(MemoryDriver())
        with Store(driver) as store:
            runs = store.collection(Run)
            with runs.lease("a", ttl=0.6) as lease:
                driver.barred = 2
                time.sleep(0.7)
                assert driver.barred == 0
                assert lease.left > 0
                runs.apply("a", Run.steps.add(1), epoch=lease.epoch)

    asyncio.run(play()) if face == "async" else play_in_threads()


def test_renewing_ends_with_its_store():
    """And with nothing else to renew: no task goes on asking."""

    async def play():
        store = AsyncStore(MemoryDriver())
        lease = store.collection(Run).lease("a", ttl=0.06)
        async with lease:
            task = lease._task
            await store.close()
            await asyncio.wait_for(asyncio.wait([task]), 5)

    asyncio.run(play())


def test_a_synchronous_lease_where_an_event_loop_runs(
    tmp_path, statehold_redis, statehold_postgres, statehold_mariadb
):
    """As in a notebook: the thread's own event loop is not the store's, and has no part in it."""
    urls = ["memory://", f"sqlite:///{tmp_path / 'state.db'}", statehold_redis.url]
    urls += [server.new_database() for server in (statehold_postgres, statehold_mariadb)]

    async def cell():
        for url in urls:
            with Store.open(url) as store:
                runs = store.collection(Run)
                with runs.lease("a", ttl=LONG) as lease:
                    runs.apply("a", Run.steps.add(1), epoch=lease.epoch)
                    with pytest.raises(Leased):
                        runs.lease("a", ttl=LONG).acquire()
                lease.acquire()
                lease.renew()
                lease.release()
                left = runs.lease("a", ttl=LONG)
                left.acquire()
                assert store.drain(5)
                assert left.left == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(cell())


@pytest.mark.parametrize("face", ["async", "sync"])
def test_who_did_not_hear_that_it_was_given_has_it_when_asking_again(face, clock):
    driver = FaultyDriver(MemoryDriver())

    async def play():
        async with AsyncStore(driver, clock=clock) as store:
            lease = store.collection(Run).lease("a", ttl=10)
            driver.fail(1, on="commit", after=True)
            with pytest.raises(Unavailable):
                await lease.acquire()
            await lease.acquire()
            await lease.release()

    def play_in_threads():
        with Store(driver, clock=clock) as store:
            lease = store.collection(Run).lease("a", ttl=10)
            driver.fail(1, on="commit", after=True)
            with pytest.raises(Unavailable):
                lease.acquire()
            lease.acquire()
            lease.release()
            store.collection(Run).lease("a", ttl=10).acquire()
            with pytest.raises(Leased):  # it was given back, so it knows nothing of it any more
                lease.acquire()

    asyncio.run(play()) if face == "async" else play_in_threads()


def test_the_answer_to_a_claim_was_lost(clock):
    """It was made all the same, and nobody has it: it runs out."""
    driver = FaultyDriver(MemoryDriver())
    with Store(driver, clock=clock) as store:
        runs = store.collection(Run)
        driver.fail(1, on="commit", after=True)
        with pytest.raises(Unavailable):
            runs.lease("a", ttl=10).acquire()
        with pytest.raises(Leased):
            runs.lease("a", ttl=10).acquire()
        clock.advance(10)
        with runs.lease("a", ttl=10) as lease:
            driver.fail(1, on="commit")  # giving it back
        assert lease.left == 0


def test_what_is_lost_is_said_at_the_end_but_hides_no_error(runs, clock):
    with pytest.raises(ZeroDivisionError), runs.lease("a", ttl=1):  # noqa: PT012  a block
        clock.advance(1)
        runs.lease("a", ttl=1).acquire()
        raise ZeroDivisionError
    clock.advance(1)
    with pytest.raises(Fenced, match="lost") as caught, runs.lease("a", ttl=1) as lease:  # noqa: PT012
        clock.advance(1)
        other = runs.lease("a", ttl=1)
        other.acquire()
        assert not lease.lost
    assert caught.value.found == other.epoch


def test_epochs_are_higher_after_everything_was_forgotten(runs, clock):
    with runs.lease("a", ttl=1) as lease:
        first = lease.epoch
    clock.advance(100_000)
    for n in range(100):
        runs.apply(f"other {n}", Run.steps.add(1))
    with runs.lease("a", ttl=1) as lease:
        assert lease.epoch > first
        with pytest.raises(Fenced):
            runs.apply("a", Run.steps.add(1), epoch=first)


def test_leases_of_others_do_not_count(runs):
    with runs.lease("a", ttl=LONG), runs.lease("b", ttl=LONG) as lease:
        runs.apply("b", Run.steps.add(1), epoch=lease.epoch)


@pytest.mark.parametrize(
    ("options", "field"),
    [({"ttl": 0}, "ttl"), ({"ttl": "soon"}, "ttl"), ({"ttl": 1, "wait": -1}, "wait"),
     ({"ttl": 1, "wait": float("nan")}, "wait"), ({"ttl": 1, "wait": None}, "wait")],
)  # fmt: skip
def test_what_is_asked_wrongly_is_invalid(runs, options, field):
    with pytest.raises(Invalid) as caught:
        runs.lease("a", **options)
    assert caught.value.field == field
    with pytest.raises(Invalid):
        runs.lease("", ttl=1)
    with pytest.raises(Invalid, match="not held"):
        _ = runs.lease("a", ttl=1).epoch


def test_what_the_backend_cannot_do_is_unsupported(clock):
    driver = FaultyDriver(MemoryDriver(), features=frozenset())
    with Store(driver, clock=clock) as store, pytest.raises(Unsupported):
        store.collection(Run).lease("a", ttl=1).acquire()


def test_one_lease_is_for_one_holder(runs):
    """Who holds it is not given it again, and loses nothing by asking."""
    lease = runs.lease("a", ttl=LONG)
    with lease:
        epoch = lease.epoch
        with pytest.raises(Invalid, match="in use"):
            lease.acquire()
        assert (lease.epoch, lease.lost) == (epoch, False)
        with pytest.raises(Leased):
            runs.lease("a", ttl=LONG).acquire()
    with lease:  # given back, it may be had again
        assert lease.epoch > epoch


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/a.db", "sqlite+sql:///{}/b.db"])
def test_two_do_not_acquire_one_lease_at_once(url, tmp_path):
    async def tasks(store):
        lease = store.collection(Run).lease("a", ttl=LONG)
        inside, most, refused = 0, 0, 0

        async def hold():
            nonlocal inside, most, refused
            try:
                async with lease:
                    inside += 1
                    most = max(most, inside)
                    await asyncio.sleep(0.01)
                    inside -= 1
            except Invalid:
                refused += 1

        await asyncio.gather(*(hold() for _ in range(5)))
        assert (most, refused) == (1, 4)

    async def play():
        async with AsyncStore.open(url.format(tmp_path)) as store:
            await tasks(store)

    asyncio.run(play())
    with Store.open(url.format(tmp_path)) as store:
        lease = store.collection(Run).lease("b", ttl=LONG)
        got = []

        def hold():
            try:
                lease.acquire()
                got.append(lease.epoch)
            except Invalid:
                got.append(0)

        threads = [threading.Thread(target=hold) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(bool, got)) == [False] * 4 + [True]
        lease.release()


def test_a_forked_process_gives_nothing_back(tmp_path):
    """It leaves the block of its parent, which goes on to hold the lease."""
    url = f"sqlite:///{tmp_path}/a.db"
    with Store.open(url) as store:
        runs = store.collection(Run)
        with runs.lease("a", ttl=LONG, renews=False) as lease:

            def child():
                with pytest.raises(Invalid, match="forked"):
                    lease.renew()
                lease.release()
                return "left"

            assert in_fork(child) == "left"
            with Store.open(url) as other, pytest.raises(Leased):
                other.collection(Run).lease("a", ttl=LONG).acquire()
            runs.apply("a", Run.steps.add(1), epoch=lease.epoch)


def test_a_release_says_that_it_was_lost(runs, clock):
    lost = runs.lease("a", ttl=1)
    lost.acquire()
    clock.advance(1)
    with runs.lease("a", ttl=1) as lease:
        with pytest.raises(Fenced, match="lost") as caught:
            lost.release()
        assert caught.value.found == lease.epoch
    lost.acquire()
    lost.release()


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/a.db", "sqlite+sql:///{}/b.db"])
def test_who_is_cancelled_leaves_no_lease_behind(url, tmp_path):
    """At whatever step: while it is claimed, within the block, while it is given back."""

    async def play():
        async with AsyncStore.open(url.format(tmp_path)) as store:
            runs = store.collection(Run)
            await runs.apply("warm", Run.steps.add(1))
            cancelled = 0
            for nth in range(60):
                lease = runs.lease(f"{nth}", ttl=LONG)

                async def block(lease=lease):
                    async with lease:
                        await asyncio.sleep(0)

                task = asyncio.get_running_loop().create_task(block())
                for _ in range(nth % 12):
                    await asyncio.sleep(0 if nth % 2 else 0.0002)
                task.cancel()
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                cancelled += task.cancelled()
                async with runs.lease(f"{nth}", ttl=LONG, wait=1.0):
                    pass
                await lease.acquire()
                await lease.release()
            assert cancelled > 10

    asyncio.run(play())


class Slow(Wrapper):
    """Each call takes a while, and the first `lost` answers to claims are lost."""

    def __init__(self, lost=0):
        super().__init__(MemoryDriver())
        self.claims, self.lost = [], lost
        self.opening, self.claiming = asyncio.Event(), asyncio.Event()

    async def open(self, layout):
        self.opening.set()
        await asyncio.sleep(0.05)
        await self.inner.open(layout)

    async def commit(self, commits, now):
        self.claims.append(commits[0].claim)
        self.claiming.set()
        await asyncio.sleep(0.05)
        outcomes = await self.inner.commit(commits, now)
        if commits[0].claim and self.lost:
            self.lost -= 1
            raise Unavailable("the answer was lost")
        return outcomes


async def _cancelled(lease, at):
    task = asyncio.get_running_loop().create_task(lease.acquire())
    await at.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_what_was_never_claimed_is_not_given_back():
    """Who is cancelled while the store is opened, or while they wait for another, leaves no epoch."""

    async def play():
        driver = Slow()
        async with AsyncStore(driver) as store:
            await _cancelled(store.collection(Run).lease("a", ttl=LONG), driver.opening)
            assert driver.claims == []
            async with store.collection(Run).lease("a", ttl=LONG):
                driver.claiming.clear()
                await _cancelled(
                    store.collection(Run).lease("a", ttl=LONG, wait=30), driver.claiming
                )
                assert driver.claims == [LONG, LONG]

    asyncio.run(play())


def test_who_is_cancelled_before_the_answer_is_lost_gives_back_what_it_may_have():
    async def play():
        driver = Slow(lost=1)
        async with AsyncStore(driver) as store:
            runs = store.collection(Run)
            await _cancelled(runs.lease("a", ttl=LONG), driver.claiming)
            async with runs.lease("a", ttl=LONG):
                pass

    asyncio.run(play())


@pytest.mark.parametrize("face", ["async", "sync", "shared"])
def test_drain_gives_leases_back(face, tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    if face == "sync":
        with Store.open(url) as store:
            lease = store.collection(Run).lease("a", ttl=LONG)
            with lease:
                assert store.drain(5)
                assert lease.left == 0
    else:

        async def play():
            async with AsyncStore.open(url) as store:
                mine = store.asynchronous() if face == "shared" else store
                async with mine.collection(Run).lease("a", ttl=LONG) as lease:
                    assert await store.drain(5)
                    assert lease.left == 0

        asyncio.run(play())
    with Store.open(url) as store, store.collection(Run).lease("a", ttl=LONG):
        pass


def test_a_write_without_the_epoch_is_told_how(runs):
    with runs.lease("a", ttl=LONG), pytest.raises(Fenced, match=r"epoch=lease\.epoch"):
        runs.apply("a", Run.steps.add(1))
