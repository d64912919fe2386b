"""`Wrapper`: a driver that passes everything on to another."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from statehold.commits import Commit, Key, Want
from statehold.driver import (
    Cells,
    CommitsTogether,
    Driver,
    InstallsLives,
    Layout,
    Outcome,
    Page,
    Scan,
    Swept,
    WholeLife,
)

R = TypeVar("R")

PassOn: TypeAlias = Callable[[Sequence[Commit], float], Coroutine[Any, Any, list[Outcome]]]
"""A call of the driver below that commits."""


class Wrapper(Driver):
    """A driver over another one, `inner`: whoever subclasses it says only what is otherwise.

    What it declares is what `inner` declares. A subclass that suspends where `inner` does not, or
    promises less, sets `suspends` or `features` after `super().__init__`.
    """

    def __init__(self, inner: Driver) -> None:
        self.inner = inner
        """The driver that is asked."""
        self.features = inner.features
        self.suspends = inner.suspends
        self.ambiguous = inner.ambiguous
        self.gather = inner.gather

    @property
    def skew(self) -> float:
        """See `Driver.skew`."""
        return self.inner.skew

    def earliest(self, monotonic: float) -> float | None:
        """See `Driver.earliest`."""
        return self.inner.earliest(monotonic)

    async def open(self, layout: Layout) -> None:
        """See `Driver.open`."""
        await self.inner.open(layout)

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        """See `Driver.read`."""
        return await self.inner.read(keys, want, now)

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        """See `Driver.commit`."""
        return await self.passed(commits, now, self.inner.commit)

    async def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        """See `CommitsTogether`; only for who sees that it is declared."""
        together = cast("CommitsTogether", self.inner).commit_together
        return await self.passed(commits, now, together)

    async def passed(self, commits: Sequence[Commit], now: float, on: PassOn) -> list[Outcome]:
        """Every write comes by here, whether its commits stand by themselves or together.

        Whoever looks at writes, or changes them, says so here instead of in both calls.
        """
        return await on(commits, now)

    async def lives(self, keys: Sequence[Key], now: float) -> list[WholeLife | None]:
        """See `InstallsLives`; only for who sees that it is declared."""
        return await cast("InstallsLives", self.inner).lives(keys, now)

    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        """See `InstallsLives`; only for who sees that it is declared."""
        return await cast("InstallsLives", self.inner).install(lives, now)

    async def scan(self, asked: Scan, now: float) -> Page:
        """See `Driver.scan`."""
        return await self.inner.scan(asked, now)

    async def sweep(self, now: float, after: str = "") -> Swept:
        """See `Driver.sweep`."""
        return await self.inner.sweep(now, after)

    async def check(self, now: float) -> None:
        """See `Driver.check`."""
        await self.inner.check(now)

    def stats(self) -> Mapping[str, int | float]:
        """See `Driver.stats`."""
        return self.inner.stats()

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  the driver's own
        """See `Driver.drain`."""
        return await self.inner.drain(timeout)

    async def close(self) -> None:
        """See `Driver.close`."""
        await self.inner.close()

    async def within(self, work: Coroutine[Any, Any, R]) -> R:
        """What a coroutine of a driver further down returns, run where this one's calls run."""
        return await work
