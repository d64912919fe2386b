"""`FaultyDriver`: a driver that fails, answers late or not at all, as a script says.

For testing what a service does when its store is down or slow: put it between the store and any
driver, and tell it what befalls the next calls.

```python
faulty = FaultyDriver(MemoryDriver())
store = AsyncStore(faulty)
faulty.fail(after=True, on="commit")     # the next commit is executed, and its answer lost
with faulty.outage():                    # nothing answers in here
    ...
```
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from statehold.clock import Clock, SystemClock
from statehold.commits import Commit, Key, Want
from statehold.driver import Cells, Driver, Feature, Layout, Outcome, Page, Scan, WholeLife
from statehold.engine import BlockingClock
from statehold.errors import Unavailable
from statehold.middleware.wrapper import PassOn, Wrapper

Result = TypeVar("Result")
Call: TypeAlias = Literal["open", "read", "commit", "scan", "check"]


class Fault(msgspec.Struct, frozen=True):
    """What befalls one call."""

    on: Call | None
    after: bool
    error: Callable[[], Exception] | None = None
    delay: float = 0.0
    hangs: bool = False


def lost() -> Exception:
    """The error of a fault that is told no other."""
    return Unavailable("the store is down (a scripted fault)")


class FaultyDriver(Wrapper):
    """Passes calls on to `driver`, except for what `fail`, `delay`, `hang` and `outage` script.

    Scripted faults are used up in the order in which they were scripted, each by one call. It is
    `ambiguous`, because an answer may get lost: stores give every commit an op id.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        clock: Clock | None = None,
        suspends: bool | None = None,
        features: frozenset[Feature] | None = None,
    ) -> None:
        """Wrap a driver.

        With `suspends=True` calls may hang although the driver never suspends. With `features` it
        declares those instead of the driver's own.
        """
        super().__init__(driver)
        self.driver: Final = driver
        self.ambiguous = True
        self.features = driver.features if features is None else features
        self.suspends = driver.suspends if suspends is None else suspends
        self.clock = clock or (SystemClock() if self.suspends else BlockingClock())
        self.calls: Counter[str] = Counter()
        """How often each call was made, also those that failed."""
        self.script: list[Fault] = []
        """Faults still to come."""
        self.hanging = 0
        """How many calls hang now."""
        self._down: Callable[[], Exception] | None = None

    # -------------------------------------------------------------------------- the script

    def fail(
        self,
        times: int = 1,
        *,
        on: Call | None = None,
        after: bool = False,
        error: Callable[[], Exception] = lost,
    ) -> None:
        """The next `times` calls (of that name) raise; with `after`, once they are executed."""
        self.script += [Fault(on, after, error)] * times

    def delay(
        self, seconds: float, times: int = 1, *, on: Call | None = None, after: bool = False
    ) -> None:
        """The next `times` calls take this much longer, by the driver's `clock`."""
        self.script += [Fault(on, after, delay=seconds)] * times

    def hang(self, times: int = 1, *, on: Call | None = None, after: bool = False) -> None:
        """The next `times` calls never answer; they can only be cancelled.

        Raises ValueError where calls do not suspend, since nothing could end them.
        """
        if not self.suspends:
            raise ValueError("calls that never suspend cannot hang: FaultyDriver(…, suspends=True)")
        self.script += [Fault(on, after, hangs=True)] * times

    @contextmanager
    def outage(self, error: Callable[[], Exception] = lost) -> Generator[None]:
        """While open, every call but `close` raises, and nothing is executed."""
        before, self._down = self._down, error
        try:
            yield
        finally:
            self._down = before

    # --------------------------------------------------------------------------- the calls

    async def _call(self, name: Call, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        self.calls[name] += 1
        if self._down is not None:
            raise self._down()
        fault = next((fault for fault in self.script if fault.on in (None, name)), None)
        if fault is None:
            return await make()
        self.script.remove(fault)
        if not fault.after:
            await self._befall(fault)
        result = await make()
        if fault.after:
            await self._befall(fault)
        return result

    async def _befall(self, fault: Fault) -> None:
        if fault.hangs:
            self.hanging += 1
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.hanging -= 1
        if fault.delay:
            await self.clock.sleep(fault.delay)
        if fault.error is not None:
            raise fault.error()

    async def open(self, layout: Layout) -> None:
        """Make ready for a kind, unless a fault is due."""
        await self._call("open", lambda: self.inner.open(layout))

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        """Read, unless a fault is due."""
        return await self._call("read", lambda: self.inner.read(keys, want, now))

    async def passed(self, commits: Sequence[Commit], now: float, on: PassOn) -> list[Outcome]:
        """Commit, unless a fault is due."""
        return await self._call("commit", lambda: on(commits, now))

    async def lives(self, keys: Sequence[Key], now: float) -> list[WholeLife | None]:
        """Read whole lives, unless a fault is due: one of reads."""
        return await self._call("read", lambda: super(FaultyDriver, self).lives(keys, now))

    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        """Install lives, unless a fault is due: one of commits."""
        return await self._call("commit", lambda: super(FaultyDriver, self).install(lives, now))

    async def scan(self, asked: Scan, now: float) -> Page:
        """Scan, unless a fault is due."""
        return await self._call("scan", lambda: self.inner.scan(asked, now))

    async def check(self, now: float) -> None:
        """Check, unless a fault is due."""
        await self._call("check", lambda: self.inner.check(now))
