"""Commits of several callers in one call, and what each of them is told when it fails."""

import asyncio

from statehold.changes import Add, Commit
from statehold.drivers.sql.lanes import Lane
from statehold.errors import Busy


def test_each_caller_has_an_error_of_its_own():
    """What one of them adds to it (a key, a traceback) the others do not have."""
    calls = []

    async def send(commits, now, untils):
        calls.append(len(commits))
        await asyncio.sleep(0)
        raise Busy("locked", field="x") from OSError("why")

    async def main():
        lane = Lane(send, 2, 5.0)
        commit = Commit(("", "chat", "a"), (Add("n", "", 1),), None)
        found = await asyncio.gather(
            *(lane.commit([commit], 0.0) for _ in range(10)), return_exceptions=True
        )
        await lane.drain()
        return found

    errors = asyncio.run(main())
    assert max(calls) > 1
    assert len({id(error) for error in errors}) == 10
    assert {(type(e), str(e), e.field, str(e.__cause__)) for e in errors} == {
        (Busy, "locked", "x", "why")
    }
