"""Work that is done once for all who wait for it."""

import asyncio

import pytest

from statehold.errors import Unavailable
from statehold.together import Together


class Work:
    """Counts how often it is done; each time it ends when it is told to."""

    def __init__(self, error=None):
        self.error, self.times, self.end = error, 0, asyncio.Event()

    async def __call__(self):
        self.times += 1
        await self.end.wait()
        if self.error is not None:
            raise self.error
        return self.times


async def gathered(work, count):
    """The tasks of so many who came while it was under way."""
    together = Together()
    tasks = [asyncio.create_task(together.do("it", work)) for _ in range(count)]
    await asyncio.sleep(0)
    return together, tasks


def test_it_is_done_once_for_all_who_come_meanwhile():
    """And again for who comes afterwards; nobody who leaves takes it from the others."""

    async def main():
        work = Work()
        together, tasks = await gathered(work, 5)
        tasks[0].cancel()
        await asyncio.sleep(0)
        work.end.set()
        assert await asyncio.gather(*tasks[1:]) == [1] * 4
        assert tasks[0].cancelled()
        assert await together.do("it", work) == 2
        assert await together.do("something else", work) == 3

    asyncio.run(main())


def test_each_gets_an_error_of_its_own():
    """With what caused it; whoever adds a note adds it to his own."""

    async def main():
        cause = OSError("no route")
        error = Unavailable("it cannot answer")
        error.__cause__ = cause
        work = Work(error)
        work.end.set()
        _, tasks = await gathered(work, 3)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [Unavailable] * 3
        assert len({id(one) for one in found}) == 3
        assert all(one.__cause__ is cause for one in found)

    asyncio.run(main())


def test_nobody_has_to_hear_of_its_error():
    """Though all have left, the loop has nothing to complain of."""

    async def main():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
        work = Work(Unavailable("it cannot answer"))
        _, (task,) = await gathered(work, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        work.end.set()
        for _ in range(3):
            await asyncio.sleep(0)
        del work, task
        assert complaints == []

    asyncio.run(main())
