"""Redis in trouble, under 64 writers: nothing acknowledged is lost, nothing is there twice."""

import asyncio

import pytest

from statehold import Busy, Full, Timeout, Unavailable
from statehold.testing.proxy import Proxy
from statehold.testing.servers import RedisServer
from statehold.testing.trial import NOT_WRITTEN, Ledger
from tests.faults.trials import at, cut, killed, paused, reset, stalled, tried

SCRIPT = b"EVALSHA"


def test_killed_and_started_again():
    with RedisServer.start(appendonly=True) as server:
        faults = [killed(server), killed(server)]
        report = tried(at(server.url, timeout=2.0), faults=faults, within=2.0, bound=4.0)
    assert report.stats["reconnects_total"] == 2


def test_killed_while_it_writes_to_disk_every_second():
    """What may be lost then is the writes of the last second, two when the disk is busy."""
    config = {"appendfsync": "everysec"}
    with RedisServer.start(appendonly=True, config=config) as server:
        report = tried(
            at(server.url, timeout=2.0), faults=[killed(server)], within=2.0, may_lose=True
        )
    assert report.lost_span <= 2.0


@pytest.mark.parametrize("repeats", [True, False])
def test_standing_still_for_five_seconds(repeats):
    """Every call fails within its bound meanwhile."""
    seconds = 5.0 if repeats else 1.0
    with RedisServer.start() as server:
        report = tried(
            at(server.url, timeout=0.5, connect_timeout=0.3),
            faults=[paused(server, Timeout, seconds=seconds)],
            within=2.0,
            repeats=repeats,
            bound=2.5,
        )
    assert set(report.errors) <= {"Timeout", "Unavailable"}
    assert sum(report.errors.values()) >= 64
    assert (report.unknown == 0) == repeats


@pytest.mark.parametrize("repeats", [True, False])
def test_answers_lost_after_execution(repeats):
    with RedisServer.start() as server, Proxy(server.port) as proxy:
        report = tried(
            at(proxy.through(server.url)),
            faults=[cut(proxy, times=8)],
            within=2.0,
            repeats=repeats,
        )
    assert report.stats["repeated_total"] >= 8


def test_reset_again_and_again():
    with RedisServer.start() as server, Proxy(server.port) as proxy:
        faults = [reset(proxy)]
        report = tried(at(proxy.through(server.url)), faults=faults, within=2.0)
    assert report.stats["reconnects_total"] >= 3


def test_half_open():
    """Nothing gets through any more, and no one says so."""
    with RedisServer.start() as server, Proxy(server.port) as proxy:
        tried(
            at(proxy.through(server.url), timeout=0.5, connect_timeout=0.3),
            faults=[stalled(proxy, Timeout)],
            within=2.0,
            bound=2.5,
        )


@pytest.mark.parametrize("repeats", [True, False])
def test_more_writers_than_may_wait(repeats):
    """Those who are refused have written nothing, and the others are not disturbed."""

    async def busy(trial):
        await trial.failing(Busy)

    with RedisServer.start() as server:
        tried(
            at(server.url, max_pending=8),
            faults=[busy],
            within=3.0,
            pause=0.0,
            repeats=repeats,
        )


@pytest.mark.parametrize("repeats", [True, False])
def test_out_of_memory(repeats):
    """With noeviction a commit that does not fit is `Full`, and nothing of it is written."""

    async def fill(trial):
        used = int(server.info("memory")["used_memory"])
        server.cli("CONFIG", "SET", "maxmemory", used + 200_000)
        await trial.failing(Full)
        await asyncio.sleep(0.3)
        server.cli("CONFIG", "SET", "maxmemory", 0)

    with RedisServer.start() as server:
        tried(at(server.url), faults=[fill], within=2.0, repeats=repeats)


def test_an_answer_lost_as_memory_runs_out():
    """The repetition is refused for want of memory, which must not pass for "nothing was written"."""

    async def main():
        async with at(proxy.through(server.url))() as store:
            ledgers = store.collection(Ledger)
            await ledgers.apply("a", Ledger.count.add(1))
            with proxy.cut_reply(when=lambda sent: SCRIPT in sent, settle=1.0):
                call = asyncio.create_task(ledgers.apply("a", Ledger.count.add(1)))
                await asyncio.sleep(0.1)
                server.cli("CONFIG", "SET", "maxmemory", 1)
                with pytest.raises(Unavailable) as caught:
                    await call
            assert type(caught.value) not in NOT_WRITTEN
            assert (await ledgers.get("a")).count == 2

    with RedisServer.start() as server, Proxy(server.port) as proxy:
        asyncio.run(main())


def test_disk_full():
    """It takes no commits until there is room again, and then goes on by itself."""

    async def fill(trial):
        with server.full_disk():
            await trial.failing(Full)
            await asyncio.sleep(0.3)

    config = {"appendfsync": "everysec"}
    with RedisServer.start(appendonly=True, config=config, disk_bytes=16 << 20) as server:
        tried(at(server.url), faults=[fill], within=4.0)


def test_disk_full_with_every_write_on_disk():
    """Rather than acknowledge what is not on disk, Redis ends; started again, it has it all."""

    async def fill(trial):
        with server.full_disk():
            await trial.failing(Unavailable)
        assert not server.is_running()
        await asyncio.to_thread(server.restart)

    with RedisServer.start(appendonly=True, disk_bytes=16 << 20) as server:
        tried(at(server.url, timeout=0.5), faults=[fill], within=2.0)
