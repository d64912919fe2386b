"""What a store remembers of the calls that it could not answer: whatever the clock here does."""

import asyncio
import time
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, InDoubt, State, Timeout, Unavailable
from statehold.clock import SystemClock
from statehold.testing.proxy import Proxy

HOUR = 3600.0


class Visit(State, ttl=timedelta(hours=1)):
    clicks = Counter()


class Stepping(SystemClock):
    ahead = 0.0

    def now(self):
        return super().now() + self.ahead


async def repeated(server_url, port, step, *, others):
    clock = Stepping()
    with Proxy(port) as proxy:
        async with (
            AsyncStore.open(proxy.through(server_url), clock=clock, timeout=1.0) as store,
            AsyncStore.open(server_url) as beside,
        ):
            visits, theirs = store.collection(Visit), beside.collection(Visit)
            await theirs.apply("a", Visit.clicks.add(1))
            await visits.get("a")
            clock.ahead = step
            with proxy.cut_reply(None), pytest.raises((Timeout, Unavailable)):
                await visits.apply("a", Visit.clicks.add(1_000_000), op="once")
            if others:
                await asyncio.gather(
                    *(theirs.apply("a", Visit.clicks.add(1)) for _ in range(others))
                )
            else:
                await theirs.delete("a")
            with pytest.raises(InDoubt):
                await visits.apply("a", Visit.clicks.add(1_000_000), op="once")
            return await theirs.get("a")


@pytest.mark.parametrize("step", [-HOUR, 0.0, HOUR])
@pytest.mark.parametrize("others", [0, 2000])
@pytest.mark.parametrize("backend", ["redis", "postgres"])
def test_a_repetition_is_known_as_one(request, backend, others, step):
    """A call that timed out is in doubt for its store, also where the machine's clock was set."""
    server = request.getfixturevalue(f"statehold_{backend}")
    if backend == "redis":
        server.flush()
    url = server.url if backend == "redis" else server.new_database()
    state = asyncio.run(repeated(url, server.port, step, others=others))
    once = {others + 1, others + 1_000_001}  # a statement may be cut off before it
    assert state.clicks in (once if others else {0})


@pytest.mark.parametrize("backend", ["memory", "sqlite", "redis", "postgres", "mariadb"])
def test_a_time_that_is_still_to_come_says_nothing(request, backend, tmp_path):
    """Who noted when he sent it had a clock that was ahead: it is not taken for never sent."""
    if backend == "redis":
        url = request.getfixturevalue("statehold_redis").url
    elif backend in {"postgres", "mariadb"}:
        url = request.getfixturevalue(f"statehold_{backend}").new_database()
    else:
        url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/state.db"}[backend]

    async def main():
        async with AsyncStore.open(url) as store:
            visits = store.collection(Visit)
            await visits.apply("future", Visit.clicks.add(1), op="once")
            await visits.delete("future")
            ahead = time.time() + HOUR
            with pytest.raises(InDoubt):
                await visits.apply("future", Visit.clicks.add(1), op="once", since=ahead)
            return await visits.get("future")

    assert not asyncio.run(main()).meta.exists
