"""Another Redis takes over, under 64 writers: what may be lost, and that the metrics say so."""

import asyncio

from statehold import Timeout
from statehold.testing.proxy import Proxy
from statehold.testing.servers import RedisCluster, RedisSentinel, RedisServer
from statehold.testing.servers.processes import wait_for
from statehold.testing.trial import Ledger
from tests.faults.trials import at, tried


def replaced(sentinel):
    """A fault: the master is killed, and the sentinels choose another."""

    async def fault(_):
        old = sentinel.master()
        await asyncio.to_thread(old.kill)
        await asyncio.to_thread(sentinel.new_master, other_than=old)

    return fault


def test_sentinels_replace_a_killed_master():
    """Replication is asynchronous: what the new master had not heard of is gone, and counted."""
    with RedisSentinel.start(down_after_ms=1500) as sentinel:
        report = tried(at(sentinel.url), faults=[replaced(sentinel)], within=2.0, may_lose=True)
    assert report.stats["failovers_total"] == 1
    assert report.lost <= report.stats["failover_lost_total"]
    assert report.lost_span < 1.0


def unheard(sentinel, meanwhile):
    """A fault: the master dies, and the replicas lack what was written `meanwhile`."""

    async def fault(trial):
        old, replicas = sentinel.master(), sentinel.replicas()
        for replica in replicas:
            replica.pause()
        old.cli("CLIENT", "KILL", "TYPE", "replica")  # or the network would keep it for them
        await meanwhile(trial)
        await asyncio.to_thread(old.kill)
        for replica in replicas:
            replica.resume()
        await asyncio.to_thread(sentinel.new_master, other_than=old)

    return fault


def test_what_a_new_master_has_not_heard_of_is_counted():
    """Commit by commit: what is lost is what the metric says."""
    with RedisSentinel.start(down_after_ms=1500) as sentinel:
        fault = unheard(sentinel, lambda trial: trial.progress(3))
        report = tried(at(sentinel.url), faults=[fault], within=2.0, may_lose=True)
    assert 64 <= report.lost == report.stats["failover_lost_total"]


def test_what_is_sent_to_another_master_hides_no_loss():
    """It is looked at before anything is written there, whose answers may be lost."""

    async def main():
        async with at(proxy.through(server.url), timeout=4.0)() as store:
            ledgers = store.collection(Ledger)

            async def added(count):
                await asyncio.gather(
                    *(ledgers.apply("a", Ledger.count.add(1)) for _ in range(count))
                )

            await added(5)
            server.cli("SAVE")
            await added(7)
            server.kill()
            server.restart()
            with proxy.cut_reply(when=lambda sent: b"\r\nEVALSHA\r\n" in sent):
                await added(40)
            assert (await ledgers.get("a")).count == 45
            return store.driver.stats()

    with (
        RedisServer.start(config={"dbfilename": "dump.rdb"}) as server,
        Proxy(server.port) as proxy,
    ):
        stats = asyncio.run(main())
    assert stats["failover_lost_total"] == 7


def test_what_no_replica_has_heard_of_is_not_acknowledged():
    """With `wait_replicas`, what the new master lacks was a `Timeout`, and is written again."""
    with RedisSentinel.start(down_after_ms=1500) as sentinel:
        fault = unheard(sentinel, lambda trial: trial.failing(Timeout))
        report = tried(
            at(sentinel.url, wait_replicas=1, wait_timeout=0.1), faults=[fault], within=2.0
        )
    assert report.stats["unconfirmed_total"] >= 1
    assert report.stats["failover_lost_total"] == 0


def test_a_confirmed_write_survives_a_failover():
    """With `wait_replicas` 1 the replica that is furthest ahead has it, and that one is chosen.

    No guarantee: sentinels may be cut off from that replica, or it may die as well.
    """
    with RedisSentinel.start(down_after_ms=1500) as sentinel:
        report = tried(
            at(sentinel.url, wait_replicas=1, wait_timeout=0.3),
            faults=[replaced(sentinel)],
            within=2.0,
        )
    assert report.lost == 0
    assert report.stats["failovers_total"] == 1


def test_a_repeated_write_is_confirmed_anew():
    """It stands on the master alone, its answer was a `Timeout`: its repetition is one, too."""

    async def main():
        async with at(sentinel.url, wait_replicas=1, wait_timeout=1.0, timeout=4.0)() as store:
            ledgers = store.collection(Ledger)
            await ledgers.apply("a", Ledger.count.add(1))
            for replica in replicas:
                replica.pause()
            found = await asyncio.gather(repeated(ledgers), repeated(ledgers))
            assert found == [[Timeout] * 3] * 2
            master.cli("CLIENT", "KILL", "TYPE", "normal")
            assert await repeated(ledgers) == [Timeout] * 3
            for replica in replicas:
                replica.resume()
            await asyncio.to_thread(
                wait_for, lambda: master.info("replication")["connected_slaves"] == "2", "replicas"
            )
            assert await repeated(ledgers) == [None] * 3
            assert (await ledgers.get("a")).count == 2

    async def repeated(ledgers):
        """What the same write is answered with again and again."""
        answers = []
        for _ in range(3):
            try:
                await ledgers.apply("a", Ledger.count.add(1), op="once")
            except Timeout as error:
                answers.append(type(error))
            else:
                answers.append(None)
        return answers

    with RedisSentinel.start(down_after_ms=60_000) as sentinel:
        master, replicas = sentinel.master(), sentinel.replicas()
        asyncio.run(main())
        for replica in replicas:
            replica.resume()


def test_a_node_of_a_cluster_is_replaced():
    """Every writer goes on once a replica serves its keys, and no more is lost than was counted."""

    async def replaced_node(_):
        old = cluster.masters()[0]
        await asyncio.to_thread(old.kill)
        await asyncio.to_thread(
            wait_for,
            lambda: len(cluster.masters()) == 3 and cluster._serves(),
            "a replica to be promoted",
        )

    with RedisCluster.start(node_timeout_ms=1500) as cluster:
        report = tried(
            at(cluster.url), faults=[replaced_node], within=2.0, may_lose=True, states=200
        )
    assert report.stats["failovers_total"] == 1
    assert report.lost <= report.stats["failover_lost_total"]
