"""Commits to several states whose answer is lost, or that meet others on the same states."""

import asyncio
import re
import time

import pytest

from statehold import Counter, InDoubt, Log, State
from statehold.drivers.sql import retrying
from statehold.testing.proxy import Proxy
from tests.faults.trials import at, portably


class Account(State, ttl=3600):
    credits = Counter()
    lines = Log(str, keep=1000)


class Job(State, ttl=3600, kind="job"):
    runs = Counter()


@pytest.fixture(params=["fast", "portable", "mariadb", "redis", "valkey"])
def place(request):
    """What opens a client at a URL, the place's URL, a proxy before it, and what decides a commit."""
    opens = portably if request.param == "portable" else at
    if request.param in ("redis", "valkey"):
        server = request.getfixturevalue(f"statehold_{request.param}")
        server.flush()
        url, decides = server.url, re.compile(rb"EVALSHA\r\n").search
    else:
        name = "statehold_mariadb" if request.param == "mariadb" else "statehold_postgres"
        server = request.getfixturevalue(name)
        url = f"{server.new_database()}?sweep=off"  # which commits, too
        decides = re.compile(rb"COMMIT(?!TED)").search
    with Proxy(server.port) as proxy:
        yield opens, url, proxy, lambda sent: decides(sent) is not None


def steps(accounts, jobs, n=1):
    return [
        accounts.step("ann", Account.credits.add(-n), Account.lines.append(f"{n}")),
        jobs.step("j", Job.runs.add(n)),
    ]


def test_an_answer_that_was_lost_is_found_again(place):
    """All of it stands once, whether the driver sends it again by itself or the caller does."""
    opens, url, proxy, decides = place

    async def run():
        async with opens(proxy.through(url), timeout=20.0)() as store:
            accounts, jobs = store.collection(Account), store.collection(Job)
            await store.apply_together(*steps(accounts, jobs))
            for op in (None, "op 1"):
                with proxy.cut_reply(when=decides) as cut:
                    await store.apply_together(*steps(accounts, jobs), op=op)
                assert cut.begun or cut.count
            done = await store.apply_together(*steps(accounts, jobs), op="op 1")
            assert [one.repeated for one in done] == [True, True]
            ann, job = await accounts.get("ann"), await jobs.get("j")
            assert (ann.credits, list(ann.lines), job.runs) == (-3, ["1"] * 3, 3)

    asyncio.run(run())


def test_what_was_erased_before_it_is_sent_again_stays_so(place, monkeypatch):
    """The answer is lost and one of the states erased: nothing is done again, and that is said."""
    opens, url, proxy, decides = place
    monkeypatch.setattr(retrying, "LOST_CONNECTIONS", 10_000)  # while it cannot connect

    async def run():
        async with opens(proxy.through(url), timeout=20.0)() as store, opens(url)() as direct:
            accounts, jobs = store.collection(Account), store.collection(Job)
            await store.apply_together(*steps(accounts, jobs))
            await direct.collection(Job).get("j")
            with proxy.cut_reply(when=decides) as cut:
                proxy.refuse()
                sending = asyncio.ensure_future(store.apply_together(*steps(accounts, jobs)))
                until = time.monotonic() + 10
                while not cut.count:
                    assert time.monotonic() < until
                    await asyncio.sleep(0.005)
                await direct.collection(Job).delete("j")
                proxy.accept()
                with pytest.raises(InDoubt):
                    await sending
            assert not (await jobs.get("j")).meta.exists
            assert (await accounts.get("ann")).credits == -2

    asyncio.run(run())


def test_alone_and_together_on_the_same_states(place):
    """Commits of one state and of several, in any order of these, from two clients: all are counted."""
    opens, url, _, _ = place
    ids = ["a", "b", "c"]

    async def run():
        async with opens(url, timeout=20.0)() as one, opens(url, timeout=20.0)() as other:
            for store in (one, other):
                await store.collection(Account).get("-")
                await store.collection(Job).get("-")

            async def together(store, n):
                accounts, jobs = store.collection(Account), store.collection(Job)
                order = ids[n % 3 :] + ids[: n % 3]
                group = [accounts.step(id, Account.credits.add(1)) for id in order]
                group.insert(n % 4, jobs.step("j", Job.runs.add(1)))
                await store.apply_together(*group)

            async def alone(store, n):
                await store.collection(Account).apply(ids[n % 3], Account.credits.add(1))

            for _ in range(3):
                await asyncio.gather(
                    *(work(store, n) for store in (one, other) for n in range(12)
                      for work in (together, alone))
                )  # fmt: skip
            accounts = one.collection(Account)
            found = [(await accounts.get(id)).credits for id in ids]
            assert found == [3 * 2 * (12 + 4)] * 3
            assert (await one.collection(Job).get("j")).runs == 72

    asyncio.run(run())
