"""Drivers whose calls are made elsewhere: in an event loop of another thread.

`Blocking` is for callers without an event loop, `Distant` for those of another one. What is called
runs in its own loop; who calls stays in its own thread, with all that it does between two calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from statehold.commits import Commit, Key, Want
from statehold.driver import Cells, Driver, Layout, Outcome, Page, Peeks, Scan, Swept, WholeLife
from statehold.middleware.wrapper import PassOn, Wrapper

R = TypeVar("R")


class Run(Protocol):
    """Runs a coroutine to its end, and waits for it."""

    def __call__(self, coroutine: Coroutine[Any, Any, R], /) -> R: ...


class Call(Protocol):
    """Runs a coroutine elsewhere, and suspends until its end."""

    def __call__(self, coroutine: Coroutine[Any, Any, R], /) -> Awaitable[R]: ...


class Bridge(Wrapper):
    """Every call is made by `_there`. What can be answered at once is not sent for."""

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        self._peek = inner.peek if isinstance(inner, Peeks) else None

    async def _there(self, work: Coroutine[Any, Any, R]) -> R:
        raise NotImplementedError

    async def open(self, layout: Layout) -> None:
        """See `Driver.open`."""
        await self._there(self.inner.open(layout))

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        """See `Driver.read`."""
        if self._peek is not None:
            found = self._peek(keys, want, now)
            if found is not None:
                return found
        return await self._there(self.inner.read(keys, want, now))

    async def passed(self, commits: Sequence[Commit], now: float, on: PassOn) -> list[Outcome]:
        """See `Driver.commit` and `CommitsTogether`."""
        return await self._there(on(commits, now))

    async def lives(self, keys: Sequence[Key], now: float) -> list[WholeLife | None]:
        """See `InstallsLives`."""
        return await self._there(super().lives(keys, now))

    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        """See `InstallsLives`."""
        return await self._there(super().install(lives, now))

    async def scan(self, asked: Scan, now: float) -> Page:
        """See `Driver.scan`."""
        return await self._there(self.inner.scan(asked, now))

    async def sweep(self, now: float, after: str = "") -> Swept:
        """See `Driver.sweep`."""
        return await self._there(self.inner.sweep(now, after))

    async def check(self, now: float) -> None:
        """See `Driver.check`."""
        await self._there(self.inner.check(now))

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  the driver's own
        """See `Driver.drain`."""
        return await self._there(self.inner.drain(timeout))

    async def within(self, work: Coroutine[Any, Any, R]) -> R:
        """See `Wrapper.within`."""
        return await self._there(work)


class Blocking(Bridge):
    """For callers without an event loop: each call waits, in its caller's thread.

    `end` ends what runs the calls, and `inner` with it.
    """

    def __init__(self, inner: Driver, run: Run, end: Callable[[], None]) -> None:
        super().__init__(inner)
        self.suspends = False
        self.gather = "no"
        self._run = run
        self._end = end

    async def _there(self, work: Coroutine[Any, Any, R]) -> R:
        return self._run(work)

    async def close(self) -> None:
        """Raises what `inner` raised as it was closed."""
        self._end()


class Distant(Bridge):
    """For the tasks of other event loops than the one of `inner`, which it leaves open at the end."""

    def __init__(self, inner: Driver, call: Call) -> None:
        super().__init__(inner)
        self.suspends = True
        self.gather = "no" if inner.gather == "no" else "tick"  # there and back once for them all
        self._call = call

    async def _there(self, work: Coroutine[Any, Any, R]) -> R:
        return await self._call(work)

    async def drain(self, timeout: float) -> bool:  # noqa: ARG002, ASYNC109  the driver's own
        """Whose it is drains it."""
        return True

    async def close(self) -> None:
        """Whose it is closes it."""


class Borrowed(Wrapper):
    """A driver that is left open at the end."""

    async def drain(self, timeout: float) -> bool:  # noqa: ARG002, ASYNC109  the driver's own
        """Whose it is drains it."""
        return True

    async def close(self) -> None:
        """Whose it is closes it."""
