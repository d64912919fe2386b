"""Commits of several callers in one call, and what each of them is told when it fails."""

import asyncio

from statehold.changes import Add
from statehold.commits import Commit
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


def test_who_is_cancelled_is_left_out_or_told_of():
    """What was not sent yet never is; of what is under way it is said in which task, if not his own."""
    sent, left, go = [], [], asyncio.Event()

    async def send(commits, now, untils):
        sent.append([commit.key[2] for commit in commits])
        await go.wait()
        return list(commits)

    async def main():
        lane = Lane(send, 1, 5.0, lambda commits, task: left.append((commits[0].key[2], task)))

        def call(id):
            commit = Commit(("", "chat", id), (Add("n", "", 1),), None)
            return asyncio.ensure_future(lane.commit([commit], 0.0))

        async def cancelled(task):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        alone = call("alone")
        await asyncio.sleep(0)
        waiting = [call(id) for id in ("unsent", "b", "c")]
        await asyncio.sleep(0)
        await cancelled(waiting[0])
        await cancelled(alone)  # and so the others leave
        await asyncio.sleep(0.01)
        await cancelled(waiting[1])
        go.set()
        await waiting[2]
        await lane.drain()

    asyncio.run(main())
    assert sent == [["alone"], ["b", "c"]]
    assert [id for id, _ in left] == ["alone", "b"]
    assert left[0][1] is None
    assert left[1][1].done()
