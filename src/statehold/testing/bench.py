"""What the calls of a driver take: `python -m statehold.testing.bench my_package:MyDriver ARGUMENTS…`.

The callable makes an open driver, as the recipe of a `Backend` does; an argument that is JSON is that,
any other one is text. Prints the median and the 99th percentile of a commit and a read of a small
state in microseconds: of one caller alone, at the driver itself, and of 64 callers at once, as
`AsyncStore.open` runs it. What it has written it erases.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from statehold.backends import gathering
from statehold.changes import Add, Append, Put
from statehold.commits import EVERYTHING, Commit, Key
from statehold.driver import Driver, Written
from statehold.testing.backend import cook
from statehold.testing.commits import KIND
from statehold.testing.rig import Runner, layout

AT_ONCE: Final = 64
STATES: Final = 256
Call = Callable[[int], Awaitable[object]]


class Took(NamedTuple):
    """Of some calls, in microseconds, and how many there were in a second."""

    p50: float
    p99: float
    per_second: float


class Bench:
    """The calls that are measured, on states of a tenant of its own."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        tenant = f"bench-{secrets.token_hex(6)}"
        self.keys: list[Key] = [(tenant, KIND, f"{n}") for n in range(STATES)]

    async def commit(self, n: int) -> None:
        """One commit: a number, an item, a value. Raises RuntimeError if it is not written."""
        changes = (
            Add("sum", "clicks", 1),
            Append("log", (b'{"item":%d}' % n,), 20),
            Put("note", "", b'"seen"'),
        )
        commit = Commit(self.keys[n % STATES], changes, 3600.0)
        (outcome,) = await self.driver.commit([commit], time.time())
        if not isinstance(outcome, Written):
            raise RuntimeError(f"a commit was not written: {outcome}")  # noqa: TRY004  no type of a caller

    async def read(self, n: int) -> None:
        """One state, whole. Raises RuntimeError if it is not there."""
        (cells,) = await self.driver.read([self.keys[n % STATES]], EVERYTHING, time.time())
        if cells is None:
            raise RuntimeError("a state that was written is not there")

    async def prepare(self) -> None:
        """Make the states."""
        await self.driver.open(layout())
        for n in range(STATES):
            await self.commit(n)

    async def clear(self) -> None:
        """Erase them."""
        gone = [Commit(key, (), None, erase=True) for key in self.keys]
        await self.driver.commit(gone, time.time())


async def several(call: Call, seconds: float, callers: int) -> Took:
    """So many callers at once, each of which calls again as soon as it has its answer."""
    took: list[float] = []
    begun = time.perf_counter()

    async def caller(first: int) -> None:
        n = first
        while (start := time.perf_counter()) - begun < seconds:
            await call(n)
            took.append(time.perf_counter() - start)
            n += callers
            if callers > 1:
                await asyncio.sleep(0)  # a driver that never suspends would serve one of them alone

    await asyncio.gather(*(caller(first) for first in range(callers)))
    return _of(took, time.perf_counter() - begun)


def _alone(run: Runner, call: Callable[[int], Any], seconds: float) -> Took:
    """One caller, without a loop where the driver needs none."""
    if run.driver.suspends:
        result: Took = run(several(call, seconds, 1))
        return result
    took: list[float] = []
    begun = time.perf_counter()
    while (start := time.perf_counter()) - begun < seconds:
        run(call(len(took)))
        took.append(time.perf_counter() - start)
    return _of(took, time.perf_counter() - begun)


def _of(took: list[float], seconds: float) -> Took:
    took.sort()
    p50, p99 = (took[int(len(took) * share)] * 1e6 for share in (0.5, 0.99))
    return Took(p50, p99, len(took) / seconds)


def measure(make: Callable[[], Driver], seconds: float = 1.0) -> dict[str, Took]:
    """What commits and reads take: of one caller alone, and of 64 at once."""
    found: dict[str, Took] = {}
    run = Runner(make)
    bench = Bench(run.driver)
    try:
        run(bench.prepare())
        for name, call in (("commit", bench.commit), ("read", bench.read)):
            found[f"{name}, alone"] = _alone(run, call, seconds)
        run(bench.clear())
    finally:
        run.close()

    async def together() -> None:
        driver = gathering(make())
        bench = Bench(driver)
        try:
            await bench.prepare()
            for name, call in (("commit", bench.commit), ("read", bench.read)):
                found[f"{name}, {AT_ONCE} at once"] = await several(call, seconds, AT_ONCE)
            await bench.clear()
        finally:
            await driver.close()

    asyncio.run(together())
    return found


def _argument(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m statehold.testing.bench", description="What the calls of a driver take."
    )
    parser.add_argument("recipe", metavar="module:callable", help="what makes the driver")
    parser.add_argument("arguments", nargs="*", help="what it is called with: JSON, or text")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (1)")
    asked = parser.parse_args(given)
    arguments = tuple(map(_argument, asked.arguments))
    found = measure(lambda: cook(asked.recipe, arguments), asked.seconds)
    print(f"{'':24}{'p50 µs':>12}{'p99 µs':>12}{'per second':>12}")  # noqa: T201
    for name, took in found.items():
        print(f"{name:24}{took.p50:12.1f}{took.p99:12.1f}{took.per_second:12.0f}")  # noqa: T201


if __name__ == "__main__":
    main()
