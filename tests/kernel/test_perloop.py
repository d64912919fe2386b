"""What belongs to one event loop: made there once, ended there, given up when the loop cannot do it any more."""

import asyncio
import threading

import pytest

from statehold.errors import Closed
from statehold.perloop import PerLoop


class Thing:
    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.became = "made"


@pytest.fixture
def things():
    """A `PerLoop`, and all that it has made."""
    made = []

    def make():
        made.append(Thing())
        return made[-1]

    async def end(thing):
        assert asyncio.get_running_loop() is thing.loop
        thing.became = "ended"

    def abandon(thing):
        thing.became = "abandoned"

    per_loop = PerLoop(make, end, abandon)
    per_loop.made = made
    return per_loop


def test_each_loop_has_one_and_ends_it(things):
    async def work():
        first = things.here
        await asyncio.sleep(0)
        assert things.here is first is things.found
        assert first.became == "made"

    asyncio.run(work())
    asyncio.run(work())
    assert [thing.became for thing in things.made] == ["ended", "ended"]
    assert list(things) == []


def test_what_a_closed_loop_left_is_given_up_when_another_comes(things):
    async def work():
        return things.here

    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(work())
    loop.close()  # without ending its asynchronous generators
    assert left.became == "made"
    asyncio.run(work())
    assert left.became == "abandoned"


def test_closing_ends_those_of_other_loops_where_they_run(things):
    ready = threading.Event()

    async def elsewhere():
        stop = things.here.stop = asyncio.Event()
        ready.set()
        await stop.wait()

    async def here():
        assert things.here
        await things.close()
        assert [thing.became for thing in things.made] == ["ended", "ended"]
        with pytest.raises(Closed):
            _ = things.here

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    ready.wait()
    try:
        asyncio.run(here())
    finally:
        other = things.made[0]
        other.loop.call_soon_threadsafe(other.stop.set)
        thread.join()


def test_a_child_process_has_none_of_its_parents(things):
    async def work():
        parents = things.here
        things._in_child()
        assert things.found is None
        assert things.here is not parents
        assert list(things) == [things.here]
        await things.close()
        assert [thing.became for thing in things.made] == ["made", "ended"]

    asyncio.run(work())
