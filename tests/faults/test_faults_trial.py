"""The trial itself: it passes a store that keeps its word, and catches each way of breaking it."""

import asyncio

import msgspec
import pytest

from statehold import AsyncStore, Busy, Closed, Corrupted, Unavailable
from statehold.changes import Add, Append, Put
from statehold.commits import Revision
from statehold.driver import Scan
from statehold.drivers.memory import MemoryDriver
from statehold.testing.faults import FaultyDriver
from statehold.testing.trial import Trial
from tests.faults.trials import put_through

few = {"writers": 16, "states": 4, "patience": 5.0}
changed = msgspec.structs.replace


class Keeps(MemoryDriver):
    """Does one commit in ten otherwise, and may be opened again after it was closed."""

    ambiguous = True
    count = 0

    async def commit(self, commits, now):
        self.count += 1
        if self.count % 10:
            return await super().commit(commits, now)
        return await self.otherwise(commits, now)

    async def otherwise(self, commits, now):
        """In a way that is allowed: the answer is lost."""
        await super().commit(commits, now)
        raise Unavailable("the answer is lost")

    async def close(self):
        pass


class Forgets(Keeps):
    lacks = (Add, Append, Put)

    async def otherwise(self, commits, now):
        some = tuple(change for change in commits[0].changes if type(change) not in self.lacks)
        return await MemoryDriver.commit(self, [changed(commits[0], changes=some)], now)


class ForgetsHalf(Forgets):
    lacks = (Add,)


class Doubles(Keeps):
    async def otherwise(self, commits, now):
        await MemoryDriver.commit(self, [changed(commits[0], op="")], now)
        return await MemoryDriver.commit(self, commits, now)


class Denies(Keeps):
    async def otherwise(self, commits, now):
        await MemoryDriver.commit(self, commits, now)
        raise Busy("nothing was written")


class Invents(Keeps):
    async def otherwise(self, commits, now):
        items = (Append("items", (b'"0 %d"' % (900 + self.count),), 100_000),)
        await MemoryDriver.commit(self, [changed(commits[0], op="", changes=items)], now)
        return await MemoryDriver.commit(self, commits, now)


class Misnumbers(Keeps):
    async def otherwise(self, commits, now):
        (written,) = await MemoryDriver.commit(self, commits, now)
        revision = Revision(written.revision.incarnation, written.revision.number + 1)
        return [changed(written, revision=revision)]


class Mistakes(Keeps):
    async def otherwise(self, commits, now):
        raise Corrupted("no error of a server in trouble")


class Dawdles(Keeps):
    suspends = True

    async def otherwise(self, commits, now):
        await asyncio.sleep(0.1)
        return await MemoryDriver.commit(self, commits, now)


async def work(trial):
    await trial.progress(3)


async def stay_down(trial):
    trial.stores[0].driver.is_down = True


class Stays(Keeps):
    """Down, once it is told."""

    is_down = False

    async def commit(self, commits, now):
        if self.is_down:
            raise Unavailable("it is down")
        return await super().commit(commits, now)


def report_of(driver, fault=work, **options):
    """What a short trial of this driver finds."""
    trial = Trial(lambda: AsyncStore(driver), **few, **options)
    return asyncio.run(put_through(trial, fault, within=2.0))


@pytest.mark.parametrize("repeats", [True, False])
def test_a_store_that_keeps_its_word(repeats):
    report = report_of(Keeps(), repeats=repeats, bound=2.0)
    assert report.acknowledged >= 16 * 6
    assert set(report.errors) == {"Unavailable"}
    assert (report.unknown, report.unknown_written) == (0, 0) or not repeats
    assert report.unknown == report.unknown_written


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        (Forgets, "acknowledged writes are lost"),
        (ForgetsHalf, "the counter says"),
        (Doubles, "are there twice"),
        (Invents, "nobody wrote"),
        (Misnumbers, "was acknowledged as"),
        (Mistakes, "was answered with Corrupted"),
    ],
)
def test_a_store_that_does_not(driver, says):
    with pytest.raises(AssertionError, match=says):
        report_of(driver())


def test_an_error_that_denies_what_was_written():
    """`Busy`, `Full` and `ReadOnly` promise that nothing was."""
    with pytest.raises(AssertionError, match=r"was answered with .*Busy.*, and is there"):
        report_of(Denies(), repeats=False)


def test_a_call_that_takes_too_long():
    with pytest.raises(AssertionError, match="a call took"):
        report_of(Dawdles(), bound=0.09)


def test_a_store_that_does_not_come_back():
    with pytest.raises(AssertionError, match="waited 2 s for every writer"):
        report_of(Stays(), stay_down)


@pytest.mark.parametrize(("times", "begins"), [(3, True), (1_000_000, False)])
def test_a_store_that_is_down_at_first(times, begins):
    """It is waited for; and is closed again where it stays down."""
    driver = FaultyDriver(MemoryDriver())
    driver.fail(times, on="open")

    async def main():
        trial = Trial(lambda: AsyncStore(driver), writers=4, patience=0.3)
        async with trial:
            await trial.progress(3)
        return trial

    if begins:
        assert min(asyncio.run(main()).acknowledged) >= 3
    else:
        with pytest.raises(Unavailable):
            asyncio.run(main())
    with pytest.raises(Closed):
        asyncio.run(driver.driver.scan(Scan("", "any"), 0.0))


class Replicated(MemoryDriver):
    """With a replica that hears of each commit after it was acknowledged, or does not."""

    def __init__(self):
        super().__init__()
        self.replica = MemoryDriver()
        self.hears = True

    async def commit(self, commits, now):
        outcomes = await super().commit(commits, now)
        if self.hears:
            await self.replica.commit(commits, now)
        return outcomes

    async def close(self):
        pass


def test_what_may_be_lost_is_counted():
    driver = Replicated()

    async def fail_over(trial):
        driver.hears = False
        await trial.progress(3)
        driver.__dict__.update(driver.replica.__dict__)

    async def main():
        trial = Trial(lambda: AsyncStore(driver), **few)
        report = await put_through(trial, fail_over, within=2.0, may_lose=True)
        with pytest.raises(AssertionError, match="acknowledged writes are lost"):
            await trial.verify()
        return report

    report = asyncio.run(main())
    assert 48 <= report.lost <= 100
    assert 0 < report.lost_span < 1.0
