"""Slots of a Redis Cluster move between its nodes while states are written, read, listed, erased."""

import asyncio
import random
import time

import pytest

from statehold import Counter, Log, State, Timeout, Unavailable
from statehold.drivers.redis.keys import Keys
from statehold.testing.servers import RedisCluster
from statehold.testing.trial import Trial
from tests.faults.trials import at, put_through

TTL = 10.0

WHOM = (("ann",), ("bob",), ("bob", "ann"), ())
"""About whom a state may be."""


class Short(State, ttl=TTL):
    """Whose keys' ends have to be moved often."""

    count = Counter()
    notes = Log(str, keep=5)
    trail = Log(str, keep=3)


@pytest.fixture(scope="module")
def cluster():
    with RedisCluster.start() as cluster:
        yield cluster


class Mover:
    """Moves slots to and fro, some keys at a time, as `redis-cli --cluster reshard` does."""

    def __init__(self, cluster, slots, *, keys, pause):
        self.cluster = cluster
        self.slots = slots
        self.keys = keys
        self.pause = pause
        self.names = {each.port: each.cli("CLUSTER", "MYID") for each in cluster.masters()}
        self.masters = list(cluster.masters())
        self.moved = 0

    def _owner(self, slot):
        """Whose it is, once all masters say the same: news of a move takes a moment to get around."""
        end = time.monotonic() + 20
        while True:
            said = {
                port
                for each in self.masters
                for first, last, (_, port, *_), *_ in each.cli("CLUSTER", "SLOTS")
                if first <= slot <= last
            }
            epochs = {
                line
                for each in self.masters
                for line in str(each.cli("CLUSTER", "INFO")).splitlines()
                if line.startswith("cluster_current_epoch")
            }
            if len(said) == len(epochs) == 1:
                return next(each for each in self.masters if each.port in said)
            assert time.monotonic() < end, said
            time.sleep(0.01)

    async def move(self, slot):
        """One slot goes to another master."""
        source = await asyncio.to_thread(self._owner, slot)
        target = random.choice([each for each in self.masters if each is not source])
        await asyncio.to_thread(self._begin, slot, source, target)
        while await asyncio.to_thread(self._some, slot, source, target):  # noqa: ASYNC110
            await asyncio.sleep(self.pause)
        await asyncio.to_thread(self._end, slot, source, target)
        self.moved += 1

    def _begin(self, slot, source, target):
        target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", self.names[source.port])
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", self.names[target.port])

    def _some(self, slot, source, target):
        found = source.cli("CLUSTER", "GETKEYSINSLOT", slot, 100)
        some = random.sample(found, min(self.keys, len(found)))
        if some:
            source.cli("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *some)
        return bool(some)

    def _end(self, slot, source, target):
        for each in dict.fromkeys((target, source, *self.masters)):
            each.cli("CLUSTER", "SETSLOT", slot, "NODE", self.names[target.port])

    async def until(self, stop):
        while not stop.is_set():
            await self.move(random.choice(self.slots))


WAYS = [
    pytest.param({"keys": 10, "pause": 0.0}, id="ten keys at a time"),
    pytest.param({"keys": 1, "pause": 0.02}, id="key by key"),
]


@pytest.mark.parametrize("how", WAYS)
def test_writers_while_slots_move(cluster, how):
    """What was acknowledged is there, once, and each state's fields tell of the same commits."""
    cluster.flush()

    async def main():
        trial = Trial(at(cluster.url, timeout=5.0), writers=64, states=8)
        names = Keys()
        slots = list(
            {names.state(("", "statehold_trial", f"{trial.name}-{n}"))[0] for n in range(8)}
        )

        async def moving(_):
            mover = Mover(cluster, slots, **how)
            for _ in range(12):
                for slot in random.sample(slots, 2):
                    await mover.move(slot)
            assert mover.moved == 24

        report = await put_through(trial, moving, within=5.0)
        assert set(report.errors) <= {"Timeout", "Unavailable"}
        assert report.stats["redirects_total"] > 0

    asyncio.run(main())


class Keeper:
    """Writes to a state of its own and knows what has to be in it."""

    def __init__(self, shorts, id):
        self.shorts = shorts
        self.id = id
        self.notes = []
        self.subjects = ()
        self.number = 0
        self.until = None
        self.errors = []

    async def step(self):
        """One call, and a look at what it did; an error may have done it or not, and never half."""
        before = (self.notes, self.subjects, self.until)
        self.number += 1
        erases = self.notes and random.random() < 0.1
        note, subjects = f"{self.number}", random.choice(WHOM)
        began = time.monotonic()
        try:
            if erases:
                assert await self.shorts.delete(self.id) is True
            else:
                await self.shorts.apply(
                    self.id,
                    Short.count.add(1),
                    Short.notes.append(note),
                    Short.trail.append(note),
                    subject=subjects,
                )
        except (Timeout, Unavailable) as error:
            self.errors.append(error)
            found = await self.read()
            done = not found.meta.exists if erases else (found.meta.exists and note in found.notes)
        else:
            done = True
        if not done:
            self.notes, self.subjects, self.until = before
        elif erases:
            self.notes, self.subjects, self.until = [], (), None
        else:
            self.notes = [*self.notes, note]
            self.subjects, self.until = subjects, began + TTL
        await self.check()

    async def read(self):
        end = time.monotonic() + 20
        while True:
            try:
                return await self.shorts.get(self.id)
            except (Timeout, Unavailable) as error:
                self.errors.append(error)
                assert time.monotonic() < end

    async def check(self):
        """The state is there, with both lists, until its time is over."""
        found = await self.read()
        if self.until is not None and time.monotonic() >= self.until:
            return
        assert found.meta.exists == bool(self.notes), f"{self.id}: {found.meta}"
        assert not found.meta.degraded, f"{self.id}: {found.meta}"
        assert found.count == len(self.notes)
        assert list(found.notes) == self.notes[-5:]
        assert list(found.trail) == self.notes[-3:]

    @property
    def lives(self):
        return self.until is not None and time.monotonic() < self.until - 1.0


async def listed(ids):
    return sorted([id async for id in ids])


async def keep(keeper, stop):
    """Write to a state until there is a stop."""
    while not stop.is_set():
        await keeper.step()
        await asyncio.sleep(random.uniform(0, 0.3))


async def scan(shorts, keepers, stop):
    """Whoever lives all through a scan is listed in it, once."""
    while not stop.is_set():
        before = {keeper.id: keeper.number for keeper in keepers if keeper.lives}
        try:
            found = await listed(shorts.scan())
        except (Timeout, Unavailable):
            continue
        for keeper in keepers:
            if before.get(keeper.id) == keeper.number and keeper.lives:
                assert keeper.id in found
        assert len(set(found)) == len(found)
        await asyncio.sleep(0.05)


async def all_agrees(cluster, shorts, keepers):
    """Fields, listings by id and by subject, and in the end no key of what was erased."""
    for keeper in keepers:
        await keeper.check()
        assert not [error for error in keeper.errors if "non local" in str(error)]
    living = [keeper for keeper in keepers if keeper.lives]
    assert living
    assert {keeper.id for keeper in living} <= set(await listed(shorts.scan()))
    for subject in ("ann", "bob"):
        found = set(await listed(shorts.find(subject)))
        assert {keeper.id for keeper in living if subject in keeper.subjects} <= found
        assert not {keeper.id for keeper in living if subject not in keeper.subjects} & found
    for keeper in keepers:
        await shorts.delete(keeper.id)
    left = [key for each in cluster.masters() for key in each.cli("KEYS", "sh:*")]
    assert not [key for key in left if key.endswith((":notes", ":trail", ":.ops"))]


@pytest.mark.parametrize("how", WAYS)
def test_states_and_listings_while_slots_move(cluster, how):
    """No call is half done: nothing is missing or gone early, nothing is left of what was erased."""
    cluster.flush()

    async def main():
        stop = asyncio.Event()
        async with at(cluster.url, timeout=5.0)() as store:
            shorts = store.collection(Short)
            await shorts.get("-")
            keepers = [Keeper(shorts, f"{n}") for n in range(40)]
            slots = list({Keys().state(("", "short", keeper.id))[0] for keeper in keepers})[:10]
            mover = Mover(cluster, slots, **how)
            work = [*(keep(keeper, stop) for keeper in keepers), scan(shorts, keepers, stop)]
            tasks = [asyncio.create_task(each) for each in (*work, mover.until(stop))]
            await asyncio.wait(tasks, timeout=12, return_when="FIRST_EXCEPTION")
            stop.set()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, BaseException):
                    raise ended
            assert mover.moved > 10
            await all_agrees(cluster, shorts, keepers)

    asyncio.run(main())
