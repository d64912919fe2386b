"""What is sent again to Redis or Valkey: it takes effect once, in its time, or the caller is told."""

import asyncio
import contextlib
import multiprocessing
import time

import pytest

from statehold import Conflict, Counter, InDoubt, Log, State, StateholdError, Timeout
from statehold.testing.proxy import Proxy
from statehold.testing.servers import RedisServer, ValkeyServer
from tests.faults.trials import at

SCRIPT = b"EVALSHA"


class Tab(State, ttl=3600):
    """With the default memory of 128 op ids."""

    count = Counter()
    notes = Log(str, keep=5)


class Brief(State, ttl=0.3):
    notes = Log(str, keep=5)


@pytest.fixture(scope="module", params=[RedisServer, ValkeyServer])
def server(request):
    with request.param.start() as server:
        yield server


@pytest.fixture
def proxy(server):
    server.flush()
    with Proxy(server.port) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def tabs(server, proxy, cls=Tab, **settings):
    """The states as one client sees them behind the proxy, and another one directly."""
    async with (
        at(proxy.through(server.url), **settings)() as through,
        at(server.url)() as direct,
    ):
        one, other = through.collection(cls), direct.collection(cls)
        await one.get("-")
        await other.get("-")
        yield one, other


async def lost(proxy, call, meanwhile):
    """The result of a call that is executed, and sent again only after what happens `meanwhile`."""
    with proxy.cut_reply(when=lambda sent: SCRIPT in sent) as cut:
        proxy.refuse()
        task = asyncio.create_task(call)
        while not cut.count:  # noqa: ASYNC110  counted by a thread
            await asyncio.sleep(0.002)
        await meanwhile()
        proxy.accept()
        return await task


# -------------------------------------------------------------------------------- many on one state


@pytest.mark.parametrize("writers", [129, 200, 400, 3000])
def test_more_writers_than_op_ids_and_one_answer_lost(server, proxy, writers):
    """Each of them is acknowledged and counted once, or told that nobody can know any more."""

    async def main():
        async with tabs(server, proxy) as (one, other):
            with proxy.cut_reply(when=lambda sent: sent.count(SCRIPT) > 1):
                found = await asyncio.gather(
                    *(one.apply("a", Tab.count.add(1)) for _ in range(writers)),
                    return_exceptions=True,
                )
            doubtful = [error for error in found if isinstance(error, StateholdError)]
            assert {type(error) for error in doubtful} <= {InDoubt}
            acknowledged = writers - len(doubtful)
            assert acknowledged <= (await other.get("a")).count <= writers
            if writers <= 400:
                assert acknowledged == writers

    asyncio.run(main())


async def write(url, names, counts, tasks, stop):
    """Add for as long as there is no stop; notes how many were acknowledged and are in doubt."""

    async def work(tab):
        while not stop.is_set():
            try:
                await tab.apply("a", Tab.count.add(1))
                counts[0] += 1
            except StateholdError:
                counts[1] += 1

    async with at(url)() as store:
        tab = store.collection(Tab)
        await tab.get("a")
        names.set()
        await asyncio.gather(*(work(tab) for _ in range(tasks)))


def run_writers(*arguments):
    asyncio.run(write(*arguments))


@pytest.mark.parametrize("lose", ["resets", "answers"])
def test_two_processes_and_one_of_them_is_disturbed(server, proxy, lose):
    """The other one goes on meanwhile, with thousands of commits a second on the same state."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    urls = [server.url, proxy.through(server.url)]
    ready = [context.Event() for _ in urls]
    counts = [context.Array("q", 2, lock=False) for _ in urls]
    children = [
        context.Process(target=run_writers, args=(url, its, count, 8, stop))
        for url, its, count in zip(urls, ready, counts, strict=True)
    ]
    for child in children:
        child.start()
    try:
        assert all(each.wait(30) for each in ready)
        for _ in range(20):
            time.sleep(0.05)
            if lose == "resets":
                proxy.reset()
            else:
                with proxy.cut_reply(settle=0.002) as cut:
                    end = time.monotonic() + 10
                    while not cut.count and time.monotonic() < end:
                        time.sleep(0.005)
    finally:
        stop.set()
        for child in children:
            child.join(30)
            child.kill()

    async def count():
        async with at(server.url)() as store:
            return (await store.collection(Tab).get("a")).count

    acknowledged = sum(each[0] for each in counts)
    doubtful = sum(each[1] for each in counts)
    assert acknowledged > 500
    assert acknowledged <= asyncio.run(count()) <= acknowledged + doubtful


# --------------------------------------------------------------------------------------- erasures


def test_an_erasure_whose_answer_was_lost_answers_as_it_was(server, proxy):
    """It says that there was something, and is no conflict with itself."""

    async def main():
        async with tabs(server, proxy) as (one, other):
            for expects in (False, True):
                revision = await one.apply("a", Tab.count.add(1))
                with proxy.cut_reply(when=lambda sent: SCRIPT in sent):
                    expect = revision if expects else None
                    assert await one.delete("a", expect=expect) is True
                assert not (await other.get("a")).meta.exists
            with proxy.cut_reply(when=lambda sent: SCRIPT in sent):
                assert await one.delete("a") is False
            revision = await one.apply("b", Tab.count.add(1))
            await one.apply("b", Tab.count.add(1))
            with proxy.cut_reply(when=lambda sent: SCRIPT in sent), pytest.raises(Conflict):
                await one.delete("b", expect=revision)

    asyncio.run(main())


@pytest.mark.parametrize("there", [True, False])
def test_an_erasure_that_is_sent_again_spares_a_later_life(server, proxy, there):
    async def main():
        async with tabs(server, proxy) as (one, other):
            if there:
                await one.apply("a", Tab.count.add(1))

            async def meanwhile():
                assert not (await other.get("a")).meta.exists
                for _ in range(300):
                    await other.apply("a", Tab.count.add(1))

            assert await lost(proxy, one.delete("a"), meanwhile) is there
            assert (await other.get("a")).count == 300
            assert [id async for id in other.scan()] == ["a"]

    asyncio.run(main())


def test_a_commit_that_is_sent_again_brings_nothing_erased_back(server, proxy):
    """Its caller is told that nobody can know, and the state stays away; also one made anew since."""

    async def main():
        async with tabs(server, proxy) as (one, other):

            async def erase():
                assert await other.delete("a") is True

            with pytest.raises(InDoubt):
                await lost(proxy, one.apply("a", Tab.notes.append("private")), erase)
            assert not (await other.get("a")).meta.exists
            assert [id async for id in other.scan()] == []

            async def erase_and_write():
                assert await other.delete("b") is True
                await other.apply("b", Tab.notes.append("new"))

            with pytest.raises(InDoubt):
                await lost(proxy, one.apply("b", Tab.notes.append("private")), erase_and_write)
            assert list((await other.get("b")).notes) == ["new"]

    asyncio.run(main())


def test_a_commit_that_is_sent_again_brings_nothing_expired_back(server, proxy):
    """It was written, and has ended since: that is what its caller is told."""

    async def main():
        async with tabs(server, proxy, Brief) as (one, other):

            async def expire():
                assert (await other.get("a")).meta.exists
                while (await other.get("a")).meta.exists:  # noqa: ASYNC110  the server's clock
                    await asyncio.sleep(0.05)

            revision = await lost(proxy, one.apply("a", Brief.notes.append("private")), expire)
            assert revision.number == 1
            assert not (await other.get("a")).meta.exists

            async def expire_and_write():
                await expire()
                await other.apply("a", Brief.notes.append("new"))

            with pytest.raises(InDoubt):
                await lost(proxy, one.apply("a", Brief.notes.append("private")), expire_and_write)
            assert "private" not in list((await other.get("a")).notes)

    asyncio.run(main())


# ------------------------------------------------------------------------------------- in its time


def test_what_was_given_up_is_not_executed_later(server, proxy):
    """Bytes that were only late arrive after newer writes, and change nothing."""

    async def main():
        async with tabs(server, proxy, timeout=0.5) as (one, other):
            await other.apply("b", Tab.notes.append("old"))
            await other.apply("c", Tab.notes.append("old"))
            proxy.stall(keep=True)
            calls = [
                asyncio.create_task(one.apply("a", Tab.notes.append("late"))),
                asyncio.create_task(one.apply("b", Tab.notes.append("late"))),
                asyncio.create_task(one.delete("c")),
            ]
            for error in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(error, Timeout)
            assert await other.delete("a") is False
            await other.apply("b", Tab.notes.append("new"))
            await asyncio.sleep(0.05)
            proxy.resume()
            for _ in range(20):
                await asyncio.sleep(0.02)
                assert not (await other.get("a")).meta.exists
                assert list((await other.get("b")).notes) == ["old", "new"]
                assert list((await other.get("c")).notes) == ["old"]

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [-30.0, 30.0])
def test_a_clock_that_was_set_costs_no_commit(server, proxy, seconds):
    """What was known of the server's clock proves wrong: calls are answered all the same."""

    async def main():
        async with tabs(server, proxy) as (one, _):
            await one.apply("a", Tab.count.add(1))
            topology, *_ = one.store.driver._client._topologies
            topology.link._clock.ahead += seconds
            topology.link._clock._most += seconds
            for _ in range(3):
                await one.apply("a", Tab.count.add(1))
            assert (await one.get("a")).count == 4

    asyncio.run(main())


def test_bulk_calls_of_any_size(server, proxy):
    """More states in one call than commands may wait at a connection."""

    async def main():
        async with tabs(server, proxy, timeout=30.0) as (one, _):
            ids = [f"{n}" for n in range(12_000)]
            written = await one.apply_many([(id, [Tab.count.add(1)]) for id in ids])
            assert not [each for each in written if isinstance(each, Exception)]
            found = await one.get_many(ids)
            assert list(found) == ids
            assert all(each.count == 1 for each in found.values())

    asyncio.run(main())


def test_epochs_are_exact(server, proxy):
    """A fencing token may be any number of 63 bits, such as a time in nanoseconds."""

    async def main():
        async with tabs(server, proxy) as (one, _):
            for epoch in (2**53, 2**62, 2**63 - 2):
                await one.apply("a", Tab.count.add(1), epoch=epoch + 1)
                with pytest.raises(StateholdError, match=str(epoch + 1)) as caught:
                    await one.apply("a", Tab.count.add(1), epoch=epoch)
                assert caught.value.found == epoch + 1
                assert (await one.get("a")).meta.epoch == epoch + 1
                with pytest.raises(StateholdError, match=str(epoch + 1)):
                    await one.delete("a", epoch=epoch)

    asyncio.run(main())
