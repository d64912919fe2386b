"""No call leaves objects that only the garbage collector can free: made statements did."""

import pytest

from statehold.changes import Append, Put, Splice
from statehold.commits import EVERYTHING, Is
from tests.garbage import counted
from tests.sql.sqlbackends import NOW, commit, database, key, opened, play

CALLS = {
    "apply": (commit(Append("log", (b'"y"',), 9), Put("book", "k", b'"v"', bound=100)),),
    "edit": (commit(Splice("log", 9, 0, 1, (b'"y"',), (b'"y"',))),),
    "where": (commit(Append("log", (b'"y"',), 9), where=(Is("log", None, b'"y"'),)),),
    "delete": (commit(id="b", erase=True), commit(Append("log", (b'"y"',), 9), id="b")),
}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_calls_leave_nothing_to_the_garbage_collector(kind, request, tmp_path):
    async def left(call):
        for _ in range(3):
            await call()
        with counted() as collected:
            # What others leave meanwhile, such as threads of earlier tests, they leave once.
            return min([await left_by_twenty(call, collected) for _ in range(3)]) / 20

    async def left_by_twenty(call, collected):
        collected()
        for _ in range(20):
            await call()
        return collected()

    async def work(driver):
        await driver.commit(list(CALLS["apply"]), NOW)
        found = {"get": await left(lambda: driver.read([key()], EVERYTHING, NOW))}
        for name, commits in CALLS.items():

            async def call(commits=commits):
                for one in commits:
                    await driver.commit([one], NOW)

            found[name] = await left(call)
        return found

    off = {"sweep": "off"}  # which leaves some beside the calls
    found = play(database(request, kind, tmp_path), work, open_=opened, settings=off)
    assert {name: count for name, count in found.items() if count >= 5} == {}
