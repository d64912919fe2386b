"""Calls that never suspend let an event loop's other tasks run now and then."""

import asyncio
from datetime import timedelta

import pytest

from statehold import AsyncStore, Counter, State, Store
from statehold.store import turns


class Chat(State, ttl=timedelta(hours=1)):
    n = Counter()


async def session(chats):
    async with chats.session("a") as chat:
        chat.n += 1


async def listed(chats):
    assert [id async for id in chats.scan()] in ([], ["a"])


CALLS = {
    "session": session,
    "transact": lambda chats: chats.transact("a", lambda chat: chat.n),
    "scan": listed,
    "get_page": lambda chats: chats.get_page(),
    "get": lambda chats: chats.get("a"),
    "apply": lambda chats: chats.apply("a", Chat.n.add(1)),
    "commit": lambda chats: chats.commit("a", [Chat.n.add(1)]),
    "get_many": lambda chats: chats.get_many(["a", "b"]),
    "apply_many": lambda chats: chats.apply_many([("a", [Chat.n.add(1)])]),
    "touch": lambda chats: chats.touch("a"),
    "delete": lambda chats: chats.delete("a"),
    "scan_page": lambda chats: chats.scan_page(),
}


@pytest.fixture(params=["memory", "sqlite", "FULL"])
def url(request, tmp_path):
    if request.param == "memory":
        return "memory://"
    synchronous = "FULL" if request.param == "FULL" else "NORMAL"
    return f"sqlite:///{tmp_path}/state.db?synchronous={synchronous}"


@pytest.mark.parametrize("call", CALLS)
def test_others_have_their_turn(url, call, monkeypatch):
    """With no time at all between two turns, after so many calls at the most."""
    monkeypatch.setattr(turns, "TURN_S", 0.0)

    async def play():
        ticks = 0

        async def ticking():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        async with AsyncStore.open(url) as store:
            chats = store.collection(Chat)
            await chats.get("a")
            other = asyncio.create_task(ticking())
            await asyncio.sleep(0)
            before = ticks
            for _ in range(20 * turns.CALLS):
                await CALLS[call](chats)
            other.cancel()
            assert ticks - before >= 18

    asyncio.run(play())


def test_slow_calls_are_followed_by_a_turn_each(monkeypatch):
    """As those that read a large state; and of quick ones no more than few ask."""

    class Told:
        now = 0.0

        def perf_counter(self):
            return self.now

    told, ticks = Told(), []
    monkeypatch.setattr(turns, "AMBIENT", told)

    async def ticking():
        while True:
            ticks.append(told.now)
            await asyncio.sleep(0)

    async def play():
        other, its = asyncio.create_task(ticking()), turns.Turns()
        for each, after in ((1e-6, turns.CALLS), (0.1, 0), (1e-6, turns.CALLS), (4.8e-5, 20)):
            for _ in range(8):
                calls = await its.take()
                told.now += each * (1 + calls)
            before = len(ticks)
            for _ in range(10):
                calls = await its.take()
                assert calls == after
                told.now += each * (1 + calls)
            assert (len(ticks) - before >= 9) == (each == 0.1)
        other.cancel()

    asyncio.run(play())


def test_a_loop_of_calls_can_be_cancelled(url):
    """Without company, too: `wait_for` is such another task."""

    async def endless(chats):
        while True:
            await chats.apply("a", Chat.n.add(1))
            await chats.get("a")

    async def play():
        async with AsyncStore.open(url) as store:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(endless(store.collection(Chat)), 0.1)

    asyncio.run(play())


def test_loops_in_several_threads_have_turns_of_their_own():
    """A turn that one loop takes is none of the others'."""

    async def work():
        ticks = 0

        async def ticking():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(ticking())
        chats = store.collection(Chat)
        for _ in range(3000):
            await chats.get("a")
        other.cancel()
        return ticks

    async def several():
        return await asyncio.gather(*(asyncio.to_thread(asyncio.run, work()) for _ in range(3)))

    store = AsyncStore.open("memory://")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "TURN_S", 0.0)
        assert min(asyncio.run(several())) > 20
    asyncio.run(store.close())


def test_synchronous_callers_have_no_turns_to_take(url, monkeypatch):
    """Nothing suspends there, however long it goes on."""
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    with Store.open(url) as store:
        chats = store.collection(Chat)
        for _ in range(5 * turns.CALLS):
            chats.get("a")
            chats.apply("a", Chat.n.add(1))
        assert chats.get("a").n == 5 * turns.CALLS
