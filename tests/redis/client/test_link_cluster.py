"""A cluster: every slot found, and found again when it has moved."""

import asyncio
from urllib.parse import urlsplit

import pytest

from statehold.drivers.redis.client.address import Address, Options, target_of
from statehold.drivers.redis.client.cluster import Cluster
from statehold.drivers.redis.client.contract import slot_of
from statehold.drivers.redis.client.topology import ClientState
from statehold.errors import ConfigError, Timeout, Unavailable
from statehold.testing.servers import RedisCluster
from statehold.testing.servers.processes import wait_for
from tests.redis.client.linking import (
    counted,
    once,
    opened,
    push,
    replicated,
    settled,
    until,
    writing,
)

TAGS = [f"t{at}" for at in range(60)]


@pytest.fixture
def cluster(statehold_redis_cluster):
    statehold_redis_cluster.flush()
    return statehold_redis_cluster


def identity(server):
    return server.cli("CLUSTER", "MYID")


class Move:
    """A slot on its way from one master to another, in steps."""

    def __init__(self, cluster, tag):
        self.slot = slot_of(tag.encode())
        self.cluster = cluster
        self.source = cluster.master_of(f"{{{tag}}}")
        self.target = next(each for each in cluster.masters() if each is not self.source)

    def begin(self):
        self.target.cli("CLUSTER", "SETSLOT", self.slot, "IMPORTING", identity(self.source))
        self.source.cli("CLUSTER", "SETSLOT", self.slot, "MIGRATING", identity(self.target))

    def keys(self, *keys):
        """Those keys that are still at the source, or all of them, go over."""
        found = keys or self.source.cli("CLUSTER", "GETKEYSINSLOT", self.slot, 1000)
        if found:
            where = ("127.0.0.1", self.target.port)
            self.source.cli("MIGRATE", *where, "", 0, 5000, "KEYS", *found)

    def end(self):
        for each in (self.target, self.source, *self.cluster.masters()):
            each.cli("CLUSTER", "SETSLOT", self.slot, "NODE", identity(self.target))


def test_each_slot_has_its_node(cluster):
    async def main():
        async with opened(cluster.url) as servers:
            found = await servers.call_many([once("a", tag) for tag in TAGS], repeatable=True)
            assert found == [1] * 60
            addresses = {address for address, _ in await servers.ask_all(("PING",))}
            assert addresses == {f"127.0.0.1:{each.port}" for each in cluster.masters()}
            assert servers.stats()["redirects_total"] == 0
            assert servers.stats()["pending"] == 0

    for tag in TAGS[:5]:
        assert slot_of(tag.encode()) == cluster.servers[0].cli("CLUSTER", "KEYSLOT", f"{{{tag}}}:x")
    asyncio.run(main())


def test_what_one_tick_sends_is_one_write_per_node(cluster):
    async def main():
        async with opened(cluster.url) as servers:
            await servers.call_many([once("a", tag) for tag in TAGS], repeatable=True)
            before = servers.stats()["round_trips_total"]
            commands = [push(str(at), tag) for at in range(10) for tag in TAGS]
            assert await servers.call_many(commands, repeatable=True) == [
                at for at in range(1, 11) for _ in TAGS
            ]
            assert servers.stats()["round_trips_total"] - before <= 6

    asyncio.run(main())


def test_seeds_that_are_gone_are_passed_over(cluster):
    async def main():
        url = cluster.url.replace("//", "//127.0.0.1:1,127.0.0.1:2,")
        async with opened(url) as servers:
            assert await servers.call(*once("a"), repeatable=True) == 1
        async with opened("redis+cluster://127.0.0.1:1", timeout=0.3) as servers:
            with pytest.raises(Unavailable, match="cannot connect"):
                await servers.call(*once("a"), repeatable=True)
            with pytest.raises(Unavailable, match="cannot connect"):
                await servers.ask_all(("PING",))

    asyncio.run(main())


def test_a_node_is_not_taken_for_a_server_alone_nor_the_other_way_round(cluster, redis):
    async def main():
        other = next(each for each in cluster.masters() if each is not cluster.master_of("{t}"))
        async with opened(other.url) as servers:
            with pytest.raises(ConfigError, match=r"redis\+cluster://"):
                await servers.call(*once("a"), repeatable=True)
        async with opened(redis.url.replace("redis:", "redis+cluster:"), timeout=1.5) as servers:
            with pytest.raises(ConfigError, match="cluster support disabled"):
                await servers.call(*once("a"), repeatable=True)

    asyncio.run(main())


def test_a_slot_that_moves_is_followed_step_by_step(cluster):
    """MOVED and ASK; and TRYAGAIN, while one key of a command is here and the other there."""

    async def main():
        async with opened(cluster.url, timeout=5.0) as servers:
            generation = servers.generation
            assert await servers.call(*once("a"), repeatable=False) == 1
            move = Move(cluster, "t")
            move.begin()
            assert await servers.call(*once("b"), repeatable=False) == 1
            move.keys("{t}:ops")
            waiting = asyncio.create_task(servers.call(*once("c"), repeatable=False))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            move.keys()
            assert await waiting == 1
            found = await servers.call_many([once(str(at)) for at in range(50)], repeatable=False)
            assert found == [1] * 50
            assert servers.stats()["redirects_total"] >= 51
            found = await servers.call_many([push(str(at)) for at in range(50)], repeatable=False)
            assert found == list(range(1, 51))
            assert servers.generation == generation
            move.end()
            redirects = servers.stats()["redirects_total"]
            found = await servers.call_many([push(str(at)) for at in range(50)], repeatable=False)
            assert found == list(range(51, 101))
            assert servers.stats()["redirects_total"] - redirects == 50
            assert servers.generation > generation
            assert await servers.call(*counted(), repeatable=False) == b"53"
            assert servers.stats()["redirects_total"] - redirects == 50
            items = await servers.call(
                slot_of(b"t"), ("LRANGE", "{t}:list", 0, -1), repeatable=True
            )
            assert items == [b"%d" % at for at in range(50)] * 2
            assert servers.stats()["failovers_total"] == 0

    asyncio.run(main())


def test_slots_that_move_under_64_writers(cluster):
    """Nothing is lost and nothing counted twice."""

    async def main():
        done, acknowledged = asyncio.Event(), []
        async with opened(cluster.url, timeout=10.0) as servers:
            async with asyncio.TaskGroup() as group:
                for at in range(64):
                    group.create_task(writing(servers, done, acknowledged, at))
                for _ in range(10):
                    await asyncio.sleep(0.02)
                    move = Move(cluster, "t")
                    for step in (move.begin, move.keys, move.end):
                        await asyncio.to_thread(step)
                done.set()
            stored = await servers.call(slot_of(b"t"), ("SMEMBERS", "{t}:ops"), repeatable=True)
            number = await servers.call(*counted(), repeatable=True)
            assert {op.decode() for op in stored} == set(acknowledged)
            assert int(number) == len(stored)

    asyncio.run(main())


async def through_a_failover(cluster, cause):
    """The op ids acknowledged by 64 writers and those stored in the end."""
    done, acknowledged = asyncio.Event(), []
    old = cluster.master_of("{t}")
    old.cli("SET", "{t}:first", 1)
    await replicated(old, [each for each in cluster.servers if replicates(each, old)])
    async with opened(cluster.url) as servers:
        async with asyncio.TaskGroup() as group:
            for at in range(64):
                group.create_task(writing(servers, done, acknowledged, at))
            await asyncio.sleep(0.3)
            generation = servers.generation
            await asyncio.to_thread(cause, old)
            await asyncio.to_thread(cluster.new_master_of, "{t}", other_than=old)
            before = len(acknowledged)
            await until(lambda: len(acknowledged) > before + 640)
            done.set()
        stored = await servers.call(slot_of(b"t"), ("SMEMBERS", "{t}:ops"), repeatable=True)
        number = int(await servers.call(*counted(), repeatable=True))
        assert servers.generation > generation
        assert servers.stats()["failovers_total"] >= 1
    stored = {op.decode() for op in stored}
    assert len(stored) == number
    assert not set(acknowledged[before + 64 :]) - stored
    return set(acknowledged) - stored


A, B = (Address("127.0.0.1", port) for port in (1, 2))


@pytest.mark.parametrize(
    ("before", "after", "failovers"),
    [
        ([(0, 16383, A, {B})], [(0, 16383, B, set())], 1),
        ([(0, 16383, A, set())], [(0, 16383, B, {A})], 1),  # of which nobody had heard yet
        ([(0, 16383, A, {B})], [(0, 99, B, set()), (100, 16383, A, set())], 1),
        ([(0, 16383, A, set())], [(0, 99, B, set()), (100, 16383, A, set())], 0),
        ([(0, 99, A, set()), (100, 16383, B, set())], [(0, 16383, B, set())], 0),
        ([(0, 16383, A, {B})], [(0, 16383, A, set())], 0),
    ],
)
def test_another_master_is_told_from_slots_that_moved(before, after, failovers):
    async def main():
        options = Options()
        target = target_of(urlsplit("redis+cluster://127.0.0.1:1"), options)
        shared = ClientState(target, options, [])
        topology = Cluster(shared, shared.handshaker(asyncio.get_running_loop()))
        await topology._adopt(before)
        assert shared.tally.failovers == 0
        await topology._adopt(after)
        await topology.close()
        return shared.tally.failovers

    assert asyncio.run(main()) == failovers


def test_failovers_under_64_writers():
    """On request none is lost; of a killed master's, what had not reached its replica may be."""

    def on_request(old):
        new = next(each for each in cluster.servers if replicates(each, old))
        new.cli("CLUSTER", "FAILOVER")

    with RedisCluster.start(node_timeout_ms=1000) as cluster:
        assert asyncio.run(through_a_failover(cluster, on_request)) == set()
        wait_for(cluster.is_healthy, "the cluster", timeout=20)
        cluster.flush()
        lost = asyncio.run(through_a_failover(cluster, lambda old: old.kill()))
        assert len(lost) < 1000


def replicates(server, master):
    found = server.info("replication")
    return found["role"] == "slave" and found["master_port"] == str(master.port)


def test_a_cluster_with_access_lists(cluster):
    """As little as the documentation says is enough, also for a slot on its way."""
    rules = ("resetkeys", "resetchannels", "-@all", "+@read", "+@write", "~{t}:*", "+cluster|slots")
    for each in cluster.servers:
        more = ("+evalsha", "+evalsha_ro", "+script|load", "+asking", "+time")
        each.cli("ACL", "SETUSER", "ml", "on", ">pw", *rules, *more)

    async def main():
        async with opened(cluster.url.replace("//", "//ml:pw@")) as servers:
            assert await servers.call(*once("a"), repeatable=True) == 1
            move = Move(cluster, "t")
            move.begin()
            move.keys()
            assert await servers.call(*once("b"), repeatable=True) == 1
            move.end()
            assert await servers.call(*counted(), repeatable=True) == b"2"
        async with opened(cluster.url.replace("//", "//ml:wrong@")) as servers:
            with pytest.raises(ConfigError, match="'ml'"):
                await servers.call(*once("a"), repeatable=True)

    asyncio.run(main())


def test_one_node_that_stalls_does_not_hold_up_the_others(cluster):
    async def main():
        async with opened(cluster.url, timeout=1.5) as servers:
            await servers.call_many([once("a", tag) for tag in TAGS], repeatable=True)
            stalled = cluster.master_of("{t}")
            others = [tag for tag in TAGS if cluster.master_of(f"{{{tag}}}") is not stalled]
            stalled.pause()
            try:
                found = await settled(
                    [servers.call(*once("b", tag), repeatable=True) for tag in ["t", *others]]
                )
            finally:
                stalled.resume()
            assert isinstance(found[0], Timeout)
            assert found[1:] == [1] * len(others)
            assert await servers.call(*once("b"), repeatable=True) in (0, 1)

    asyncio.run(main())
