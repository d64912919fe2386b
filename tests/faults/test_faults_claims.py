"""A claim that outlasts its state, on servers whose clock nobody can set: over a minute is waited, once for all."""

import asyncio
import time

from statehold import Counter, State
from statehold.backends import open_driver
from statehold.changes import Add
from statehold.commits import HOLD_SECONDS, Commit
from statehold.driver import FencedOff, Written

LONG = HOLD_SECONDS + 60


class Job(State, ttl=100):
    done = Counter()


def commit(id, **options):
    options = {"ttl": None} | options
    changes = () if "claim" in options else (Add("done", "", 1),)
    return Commit(("", Job.__schema__.kind, id), changes, **options)


async def claims(url):
    """What becomes of others, once the states have ended by more than is remembered of a mere epoch."""
    driver = open_driver(url, timeout=20.0)
    await driver.open(Job.__schema__.layout())

    async def do(id, **options):
        (outcome,) = await driver.commit([commit(id, **options)], time.time())
        return outcome

    try:
        await do("claimed later", ttl=1.0)
        given = {}
        for id in ("claimed later", "claimed first", "shortened"):
            given[id] = (await do(id, claim=LONG, op=f"{id} 1")).epoch
        await do("shortened", claim=1.0, op="shortened 2", epoch=given["shortened"])
        for id in ("claimed first", "shortened"):
            assert isinstance(await do(id, ttl=1.0, epoch=given[id]), Written)
        await asyncio.sleep(HOLD_SECONDS + 3)
        for id, epoch in given.items():
            assert await do(id, epoch=1) == FencedOff(epoch), f"a deposed writer began {id!r} anew"
        for id in ("claimed first", "claimed later"):
            found = await do(id, claim=1.0, op=f"{id} 3")
            assert isinstance(found, FencedOff), f"{id!r} was given to another while it was held"
            assert 0 < found.left < LONG - HOLD_SECONDS
        assert (await do("shortened", claim=1.0, op="another")).epoch > given["shortened"]
    finally:
        await driver.close()


def test_a_claim_outlasts_its_state(
    statehold_redis, statehold_valkey, statehold_postgres, statehold_mariadb
):
    """It bars others for as long as it was claimed, and is remembered for a minute after that."""
    urls = [statehold_redis.url, statehold_valkey.url]
    urls += [statehold_postgres.new_database(), statehold_mariadb.new_database()]

    async def all_at_once():
        async with asyncio.TaskGroup() as group:
            for url in urls:
                group.create_task(claims(url))

    asyncio.run(all_at_once())
