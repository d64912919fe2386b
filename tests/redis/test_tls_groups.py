"""Sentinels and clusters that speak nothing but TLS: whom we are sent to must prove himself, too."""

import asyncio

import pytest

from statehold import AsyncStore, Counter, State
from statehold.errors import ConfigError
from statehold.testing.servers import RedisCluster, RedisSentinel
from statehold.testing.servers.certificates import Certificate
from statehold.testing.servers.processes import wait_for


class Visits(State, ttl=600):
    count = Counter()


@pytest.fixture(params=[RedisSentinel, RedisCluster], ids=["sentinel", "cluster"])
def group(request):
    with request.param.start(tls=True, password="sesame 1") as group:
        yield group


def test_a_master_is_replaced(group):
    """Every server is asked over TLS, the new master as the old one, and nothing is plain."""
    assert group.url.startswith("rediss+")
    assert {server.cli("CONFIG", "GET", "port")[1] for server in group.servers} == {"0"}
    ids = [f"v{number}" for number in range(20)]

    async def count_all(visits):
        await asyncio.gather(*(visits.apply(id, Visits.count.add(1)) for id in ids))

    async def main():
        options = {"tls_ca": str(group.certificate.path), "timeout": 20.0}
        async with (
            AsyncStore.open(group.url, **options) as store,
            AsyncStore.open(group.url, **options, wait_replicas=1, wait_timeout=5.0) as confirmed,
        ):
            visits = store.collection(Visits)
            await visits.get("nobody")
            await count_all(confirmed.collection(Visits))
            old = group.masters()[0]
            old.kill()
            await count_all(visits)
            assert [(await visits.get(id)).count for id in ids] == [2] * 20
            # Sentinels and nodes that did not see to it are told.
            await asyncio.to_thread(wait_for, lambda: old not in group.masters(), "the word")

    asyncio.run(main())


def test_a_certificate_of_somebody_else_is_refused(group, tmp_path):
    """Of the sentinel or node that is asked first, before a password is sent."""
    other = Certificate.make(tmp_path)

    async def main():
        async with AsyncStore.open(group.url, tls_ca=str(other.path)) as store:
            await store.collection(Visits).get("v")

    with pytest.raises(ConfigError, match="certificate") as caught:
        asyncio.run(main())
    assert "sesame" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_group_that_speaks_tls_is_not_spoken_to_without(group):
    async def main():
        url = group.url.replace("rediss+", "redis+")
        async with AsyncStore.open(url, timeout=1.0) as store:
            await store.collection(Visits).get("v")

    with pytest.raises(ConfigError, match="it speaks TLS only"):
        asyncio.run(main())
