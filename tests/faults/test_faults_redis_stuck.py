"""A first sending that the network still holds when it is sent again, and delivers afterwards."""

import asyncio
import contextlib
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, State
from tests.faults.stuck import Stuck, until
from tests.redis.client.linking import once, opened


class Visit(State, ttl=timedelta(hours=1)):
    clicks = Counter()


@contextlib.asynccontextmanager
async def between(server):
    """A relay to the server, visits through it, and the same visits beside it."""
    async with Stuck(server.port) as relay:
        url = f"redis://127.0.0.1:{relay.port}"
        async with AsyncStore.open(url) as store, AsyncStore.open(server.url) as beside:
            visits = store.collection(Visit)
            await visits.get("a")
            yield relay, visits, beside.collection(Visit)


async def played(server, others):
    async with between(server) as (relay, visits, theirs):
        relay.holds = bool
        call = asyncio.create_task(visits.apply("a", Visit.clicks.add(1_000_000)))
        await until(lambda: relay.held)
        relay.reset_clients()
        await call
        await asyncio.gather(*(theirs.apply("a", Visit.clicks.add(1)) for _ in range(others)))
        if others > 100:  # and its life has ended, too
            await theirs.delete("a")
            await theirs.apply("a", Visit.clicks.add(7))
        relay.deliver()
        await asyncio.sleep(0.2)
        return (await theirs.get("a")).clicks


@pytest.mark.parametrize("others", [10, 3000])
def test_what_is_delivered_late_is_not_applied_again(statehold_redis, others):
    """However many others came between, and though the state was deleted and made anew."""
    statehold_redis.flush()
    clicks = asyncio.run(played(statehold_redis, others))
    assert clicks == (7 if others > 100 else 1_000_000 + others)


async def lost_again(server, given_up):
    """Whether a state that was deleted is there again, once all has been delivered."""
    async with between(server) as (relay, visits, theirs):

        def sent():
            return asyncio.create_task(visits.apply("a", Visit.clicks.add(1), op="once"))

        relay.holds = bool
        call = sent()
        await until(lambda: relay.held)
        if given_up:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            relay.reset_clients()
            await asyncio.sleep(0.2)  # the loss is noticed while nobody waits
            call = sent()
        else:
            relay.reset_clients()
            relay.holds = lambda data: b"EVALSHA" in data or b"KILL" in data
            await until(lambda: len(relay.held) == 2)  # sent again, and that is lost as well
            relay.reset_clients()
        await call
        await visits.delete("a")
        relay.deliver()
        await asyncio.sleep(0.2)
        return (await theirs.get("a")).meta.exists


@pytest.mark.parametrize("given_up", [False, True], ids=["lost twice", "given up"])
def test_every_lost_connection_is_ended(statehold_redis, given_up):
    """Until the server has answered to that; and though its caller waits no longer."""
    statehold_redis.flush()
    assert not asyncio.run(lost_again(statehold_redis, given_up))


async def flapping(server, times):
    """How many lost connections are to be ended, after each of so many losses, and no end was heard of."""

    def holds(data):
        return b"EVALSHA" in data or b"KILL" in data

    known = []
    async with Stuck(server.port) as relay:
        url = f"redis://127.0.0.1:{relay.port}"
        async with opened(url, timeout=0.2) as servers:
            await servers.call(*once("first"), repeatable=True)
            topology = next(iter(servers._topologies))
            relay.holds = holds
            for n in range(times):
                call = asyncio.create_task(servers.call(*once(str(n)), repeatable=False))
                await asyncio.sleep(0.02)
                relay.reset_clients()
                relay.holds = holds
                await asyncio.gather(call, return_exceptions=True)
                known.append(len(topology.link._left))
    return known


def test_what_comes_too_late_anyway_is_forgotten(statehold_redis):
    """However often a connection is lost before the server has heard of it, few are remembered."""
    known = asyncio.run(flapping(statehold_redis, 40))
    assert 1 < max(known) < 12, "not more than are lost in twice the timeout"
