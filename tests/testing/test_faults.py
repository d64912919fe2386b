"""`FaultyDriver` does what its script says, and nothing else."""

import asyncio

import pytest

from statehold import AsyncStore, Counter, State, Store
from statehold.clock import ManualClock
from statehold.drivers.memory import MemoryDriver
from statehold.errors import Full, Unavailable
from statehold.testing import FaultyDriver


class Visit(State, ttl=60):
    clicks = Counter()


@pytest.fixture
def faulty():
    return FaultyDriver(MemoryDriver(), clock=ManualClock())


@pytest.fixture
def visits(faulty):
    with Store(faulty, clock=faulty.clock) as store:
        yield store.collection(Visit)


def click(visits):
    return visits.apply("a", Visit.clicks.add(1))


def test_a_failure_before_executes_nothing(faulty, visits):
    """A scripted failure is used up by one call, and nothing of that call is executed."""
    faulty.fail()
    with pytest.raises(Unavailable):
        click(visits)
    click(visits)
    assert visits.get("a").clicks == 1


def test_a_failure_after_loses_the_answer(faulty, visits):
    """With `after` the call is executed and its answer lost."""
    faulty.fail(after=True, on="commit")
    with pytest.raises(Unavailable):
        click(visits)
    assert visits.get("a").clicks == 1


def test_faults_wait_for_their_call(faulty, visits):
    """A fault for one call leaves the others alone, and comes as often as it was scripted."""
    faulty.fail(2, on="read", error=lambda: Full("no room"))
    click(visits)
    for _ in range(2):
        with pytest.raises(Full):
            visits.get("a")
    assert visits.get("a").clicks == 1
    assert not faulty.script
    assert faulty.calls == {"open": 1, "commit": 1, "read": 3}


def test_an_outage_ends(faulty, visits):
    """Inside an outage nothing answers; after it, all is as before."""
    click(visits)
    with faulty.outage():
        with pytest.raises(Unavailable):
            click(visits)
        with pytest.raises(Unavailable):
            visits.get("a")
    assert visits.get("a").clicks == 1


def test_a_delay_is_by_the_clock(faulty, visits):
    """A delayed call takes that much longer by the driver's clock."""
    faulty.delay(30, on="read")
    click(visits)
    before = faulty.clock.now()
    assert visits.get("a").clicks == 1
    assert faulty.clock.now() == before + 30


def test_a_hanging_call_can_be_cancelled():
    """A call that hangs ends when it is cancelled, and only then; the next one answers."""
    faulty = FaultyDriver(MemoryDriver(), suspends=True)

    async def play():
        visits = AsyncStore(faulty).collection(Visit)
        faulty.hang(on="commit", after=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(visits.apply("a", Visit.clicks.add(1)), 0.01)
        assert faulty.hanging == 0
        return (await visits.get("a")).clicks

    assert asyncio.run(play()) == 1


def test_what_never_suspends_cannot_hang(faulty):
    """Where nothing could end it, a hang is refused when it is scripted."""
    with pytest.raises(ValueError, match="suspends=True"):
        faulty.hang()
