"""Where the time of an `apply` in memory goes, step by step: `python -m bench.steps`.

Each step is timed alone, the best of several rounds; what a step calls is in its figure too.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import msgspec

from statehold import Counter, Log, State, Store
from statehold.commits import Commit
from statehold.drivers.memory import MemoryDriver
from statehold.engine import run_now

NUMBER = 50_000


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str


class Chat(State, ttl=timedelta(hours=1)):
    history = Log(Message, keep=20)
    turns = Counter()


async def nothing() -> None:
    """What a coroutine costs that does nothing."""


def main() -> None:
    driver = MemoryDriver()
    core = Store(driver).collection(Chat)._core
    message = Message("user", "x" * 170)
    now = time.time()
    edits = (Chat.history.append(message), Chat.turns.add(1))
    commit = Commit(("", "chat", "a"), edits, 3600.0)
    cells: dict[str, Any] = {}

    def fold() -> None:
        for change in edits:
            change.into(cells, [])

    def ran(coroutine: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
        return lambda: run_now(coroutine())

    steps: dict[str, Callable[[], Any]] = {
        "a coroutine that does nothing": ran(nothing),
        "encode the message, decode it again, compare": lambda: Chat.history._codec.encode(message),
        "both edits, the encoding included": lambda: (
            Chat.history.append(message),
            Chat.turns.add(1),
        ),
        "check that the edits are this class's": lambda: core.schema.changes(edits, now),
        "fold both changes": fold,
        "the driver's commit, the fold included": ran(lambda: driver.commit((commit,), now)),
        "apply of edits made beforehand": ran(lambda: core.apply("a", *edits)),
        "apply, all of it": ran(
            lambda: core.apply("a", Chat.history.append(message), Chat.turns.add(1))
        ),
    }
    for _ in range(100):
        run_now(core.apply("a", *edits))
    for name, step in steps.items():
        best = min(timeit.repeat(step, number=NUMBER, repeat=7)) / NUMBER * 1e6
        print(f"{best:6.2f} µs  {name}")


if __name__ == "__main__":
    main()
