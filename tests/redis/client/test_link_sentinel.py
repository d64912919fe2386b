"""A master that sentinels watch: found, followed, and never mistaken for a replica."""

import asyncio

import pytest

from statehold.errors import ConfigError, Unavailable
from statehold.testing.servers import RedisSentinel
from tests.redis.client.linking import counted, looked_at, once, opened, replicated, until, writing


@pytest.fixture
def sentinel(statehold_redis_sentinel):
    statehold_redis_sentinel.flush()
    return statehold_redis_sentinel


def test_the_master_is_found(sentinel):
    async def main():
        async with opened(sentinel.url) as servers:
            assert await servers.call(*once("a"), repeatable=True) == 1
            port = sentinel.master().port
            assert await servers.ask_all(("PING",)) == [(f"127.0.0.1:{port}", b"PONG")]
            assert servers.stats()["failovers_total"] == 0

    asyncio.run(main())


def test_a_name_that_no_sentinel_knows(sentinel):
    async def main():
        async with opened(sentinel.url.replace("/statehold", "/other")) as servers:
            with pytest.raises(ConfigError, match="knows no master 'other'"):
                await servers.call(*once("a"), repeatable=True)

    asyncio.run(main())


def test_sentinels_that_are_gone_or_silent_are_passed_over(sentinel):
    """The one that answers is enough, and is waited for only a moment."""

    async def main():
        async with opened(sentinel.url, timeout=3.0) as servers:
            assert await servers.call(*once("a"), repeatable=True) == 1

    first, second, _ = sentinel.sentinels
    first.pause()
    second.kill()
    try:
        asyncio.run(main())
    finally:
        first.resume()
        second.restart()


def test_a_replica_that_a_sentinel_names_is_not_taken_for_the_master(sentinel):
    """A sentinel that was cut off from the others knows yesterday's master."""
    replica = sentinel.replicas()[0].port

    async def stale(reader, writer):
        await reader.read(1 << 16)
        writer.write(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(replica)), replica))
        await writer.drain()
        writer.close()

    async def main():
        async with await asyncio.start_server(stale, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with opened(f"redis+sentinel://127.0.0.1:{port}/m", timeout=1.5) as servers:
                with pytest.raises(Unavailable, match="it is a replica"):
                    await servers.call(*once("a"), repeatable=True)
            others = sentinel.url.partition("//")[2]
            async with opened(f"redis+sentinel://127.0.0.1:{port},{others}") as servers:
                assert await servers.call(*once("a"), repeatable=True) == 1
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_sentinels_and_servers_with_access_lists(sentinel, tmp_path):
    """As little as the documentation says is enough."""
    rules = ("on", "resetkeys", "resetchannels", "-@all")
    for each in sentinel.sentinels:
        listening = ("+sentinel|get-master-addr-by-name", "+subscribe", "&+switch-master")
        each.cli("ACL", "SETUSER", "watch", *rules, ">one", *listening)
    for each in sentinel.servers:
        needed = ("+evalsha", "+evalsha_ro", "+script|load", "+role", "+@read", "+@write", "~{t}:*")
        each.cli("ACL", "SETUSER", "ml", *rules, ">two", "+time", *needed)
    password = tmp_path / "password"
    password.write_text("one")
    options = {"sentinel_username": "watch", "sentinel_password_file": str(password)}

    async def main():
        async with opened(sentinel.url.replace("//", "//ml:two@"), **options) as servers:
            assert await servers.call(*once("a"), repeatable=True) == 1
            topology = next(iter(servers._topologies))
            await until(
                lambda: all(listener._connection is not None for listener in topology._listeners)
            )
        password.write_text("wrong")
        async with opened(sentinel.url, timeout=1.5, **options) as servers:
            with pytest.raises(ConfigError, match="user 'watch'"):
                await servers.call(*once("b"), repeatable=True)

    asyncio.run(main())


def test_no_sentinel_at_all():
    async def main():
        async with opened("redis+sentinel://127.0.0.1:1,127.0.0.1:2/m", timeout=0.3) as servers:
            with pytest.raises(Unavailable, match="cannot connect"):
                await servers.call(*once("a"), repeatable=True)

    asyncio.run(main())


async def through_a_failover(sentinel, cause, **options):
    """The op ids acknowledged by 64 writers, those stored in the end, and how many were counted."""
    done, acknowledged = asyncio.Event(), []
    sentinel.master().cli("SET", "{t}:first", 1)
    # Replicas that just came are sent nothing until they have spoken, once in a second.
    await replicated(sentinel.master(), sentinel.replicas())
    async with opened(sentinel.url, **options) as servers:
        async with asyncio.TaskGroup() as group:
            for at in range(64):
                group.create_task(writing(servers, done, acknowledged, at))
            await asyncio.sleep(0.3)
            old, looks = sentinel.master(), looked_at(servers)
            await asyncio.to_thread(cause, old)
            new = await asyncio.to_thread(sentinel.new_master, other_than=old)
            if old.is_running():
                # It takes writes still, and only the sentinels say that it is the master no more.
                await until(lambda: servers.stats()["failovers_total"] == 1)
                assert old.info("replication")["role"] == "master"
                # They see to it, but after ten seconds.
                old.cli("REPLICAOF", "127.0.0.1", new.port)
            before = len(acknowledged)
            await until(lambda: len(acknowledged) > before + 640)
            done.set()
        after = acknowledged[before + 64 :]
        stored = await servers.call(0, ("SMEMBERS", "{t}:ops"), repeatable=True)
        number = int(await servers.call(*counted(), repeatable=True))
        assert looks
        assert servers.stats()["failovers_total"] == 1
    stored = {op.decode() for op in stored}
    assert len(stored) == number  # nothing twice
    assert not set(after) - stored  # nothing lost once the new master was there
    return set(acknowledged) - stored


def test_a_master_that_is_killed_is_replaced_under_64_writers():
    """What it had acknowledged and not replicated may be gone: that is asynchronous replication."""
    with RedisSentinel.start(down_after_ms=1500) as sentinel:
        lost = asyncio.run(through_a_failover(sentinel, lambda old: old.kill()))
        assert len(lost) < 1000


def test_with_confirmation_a_failover_loses_nothing():
    """Asked for by hand, while the old master still takes writes that it will lose."""

    def cause(old):
        sentinel.sentinels[0].cli("SENTINEL", "FAILOVER", sentinel.name)

    with RedisSentinel.start(down_after_ms=1500) as sentinel:
        options = {"wait_replicas": 2, "wait_timeout": 0.1}
        assert asyncio.run(through_a_failover(sentinel, cause, **options)) == set()
