"""Clients whose clocks are an hour apart: the store's own clock decides, and they agree."""

import asyncio
import time
from datetime import timedelta

import pytest

from statehold import Counter, Log, State, Window
from tests.faults.trials import HOUR, Machine, at, lying_time, tried

DATABASES = ["statehold_postgres", "statehold_mariadb"]


class Seen(State, ttl=timedelta(minutes=30)):
    """Shorter than the clocks are apart."""

    items = Log(str, keep=10)
    clicks = Window(timedelta(minutes=10))


class Brief(State, ttl=1.5):
    count = Counter()


@pytest.fixture(params=["statehold_redis", *DATABASES])
def url(request):
    server = request.getfixturevalue(request.param)
    if request.param in DATABASES:
        return server.new_database()
    server.flush()
    return server.url


@pytest.fixture(params=[HOUR, -HOUR], ids=["ahead", "behind"])
def machine(request, monkeypatch):
    """The machine of the other client."""
    monkeypatch.setattr(time, "time", lying_time)
    return Machine(request.param)


def test_expiry_windows_and_ages_agree(url, machine):
    async def main():
        async with at(url)() as right, at(url, clock=machine)() as wrong:
            one, other = right.collection(Seen), wrong.collection(Seen)
            await machine.on_it(other.apply("a", Seen.items.append("other"), Seen.clicks.add(1)))
            await one.apply("a", Seen.items.append("one"), Seen.clicks.add(2))
            await machine.on_it(other.apply("a", Seen.clicks.add(4)))
            seen = [await one.get("a"), await machine.on_it(other.get("a"))]
            for state in seen:
                assert list(state.items) == ["other", "one"]
                assert (state.clicks.count, state.clicks.sum) == (3, 7.0)
                assert 0 <= state.meta.age < 60
                assert 1790 < state.meta.expires - state.meta.updated < 1810
                assert 0 <= state.meta.updated - state.meta.created < 60
            assert abs(seen[0].meta.expires - seen[1].meta.expires) < 0.001

    asyncio.run(main())


def test_an_end_is_an_end_to_both(url, machine):
    """Neither sees a state too early gone, nor too late, nor brings it back."""

    async def main():
        async with at(url)() as right, at(url, clock=machine)() as wrong:
            one, other = right.collection(Brief), wrong.collection(Brief)

            async def both(work):
                return [await work(one), await machine.on_it(work(other))]

            async def count(briefs):
                return (await briefs.get("a")).count

            async def add(briefs):
                await briefs.apply("a", Brief.count.add(1))

            await both(count)  # which makes both ready
            await both(add)
            assert await both(count) == [2, 2]
            await asyncio.sleep(1.6)
            assert await both(count) == [0, 0]
            await both(add)
            assert await both(count) == [2, 2]

    asyncio.run(main())


def test_writers_of_both_lose_nothing(url):
    async def work(trial):
        await trial.progress(5)

    tried(at(url), at(url, clock=Machine(HOUR)), faults=[work], within=2.0)
