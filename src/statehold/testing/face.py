"""A store in the hands of a test: the async or the sync API, as plain synchronous calls."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, Final, Literal

from statehold.clock import ManualClock
from statehold.driver import Driver, Feature
from statehold.fields import Counter, DecayedMean, Log, Map, Register, Steps, Tally, Vector
from statehold.state import State
from statehold.store import AsyncStore, Store
from statehold.testing.backend import Backend
from statehold.testing.commits import TTL
from statehold.testing.faults import FaultyDriver

FACES: Final = ("async", "sync")


class _Fields:
    """A bit of everything, for classes that differ in how long their states live."""

    __slots__ = ()

    note = Register(str, default="nothing", max_bytes=100)
    likes = Register(list[str], default=[])
    pages = Log(str, keep=4)
    basket = Map(str, list[str], keep=3)
    clicks = Counter()
    spent = Counter(float)
    steps = Steps(str, keep=3)
    tally = Tally(str, keep=3)
    place = Vector(2)
    taste = DecayedMean(2, half_life=60.0)


@cache
def visit(seconds: float, *, renew_on_read: bool = False) -> Any:
    """A state class with a bit of everything that lives for that long."""
    kind = "visit_renewed" if renew_on_read else "visit"

    class Visit(
        _Fields,
        State,
        ttl=timedelta(seconds=seconds),
        kind=kind,
        renew_on_read=renew_on_read,
        ops=16,
    ):
        pass

    return Visit


class Face:
    """A store over a backend's driver, through the async or the sync API.

    The methods of `visits`, of `short` (the same states, written to live for 4 units of time) and of
    `collection(…)` are those of the collection, called alike whichever API it is: what would be
    awaited is awaited, listings are lists.
    """

    def __init__(
        self,
        backend: Backend,
        name: Literal["async", "sync"],
        wrap: Callable[[Driver], Driver] | None = None,
    ) -> None:
        self.backend = backend
        self.name = name
        self.unit = backend.own_clock or 60.0
        self.clock: Any = ManualClock() if backend.own_clock is None else None
        self._runner: asyncio.Runner | None = None
        store: Any
        if name == "sync":
            self.driver = wrap(backend.open()) if wrap else backend.open()
            store = Store(self.driver, clock=self.clock)
        else:
            self._runner = asyncio.Runner()

            async def make() -> Driver:
                return wrap(backend.open()) if wrap else backend.open()

            self.driver = self._runner.run(make())
            store = AsyncStore(self.driver, clock=self.clock)
        self._store = store
        self.store: Any = self._plain(store)
        self.cls = visit(TTL * self.unit)
        self.visits = self.collection(self.cls)
        self.short = self.collection(visit(4 * self.unit))

    def _plain(self, thing: Any) -> Any:
        return thing if self._runner is None else _Plain(thing, self._runner)

    def collection(self, cls: Any, *, tenant: str = "") -> Any:
        """The store's collection of a class, to be called alike for both APIs."""
        return self._plain(self._store.collection(cls, tenant=tenant))

    def has(self, *features: Feature) -> bool:
        """Whether the driver declares all of these."""
        return self.driver.features.issuperset(features)

    def wait(self, units: float) -> None:
        """Let this much time pass: moved where it can be, else really waited."""
        if self.clock is not None:
            self.clock.advance(units * self.unit)
        else:
            time.sleep(units * self.unit)

    def in_loop(self, play: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        """Run `play(visits)`, with the asynchronous collection itself, in the store's loop."""
        assert self._runner is not None
        self._runner.run(play(self._store.collection(self.cls)))

    def close(self) -> None:
        """Close the store and what runs it."""
        self.store.close()
        if self._runner is not None:
            self._runner.close()


class _Plain:
    """An asynchronous object whose results are waited for."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._settled(found(*args, **kwargs))

        return call

    def _settled(self, result: Any) -> Any:
        if hasattr(result, "__aenter__"):
            return self._block(result)
        if hasattr(result, "__anext__"):
            return self._runner.run(_listed(result))
        if inspect.isawaitable(result):
            return self._runner.run(_awaited(result))
        return result

    @contextmanager
    def _block(self, manager: Any) -> Generator[Any]:
        value = self._runner.run(_awaited(manager.__aenter__()))
        try:
            yield value
        except BaseException as error:
            left = manager.__aexit__(type(error), error, error.__traceback__)
            if not self._runner.run(_awaited(left)):
                raise
        else:
            self._runner.run(_awaited(manager.__aexit__(None, None, None)))


async def _awaited(work: Any) -> Any:
    return await work


async def _listed(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


class Without:
    """Makes a driver not declare a feature: `Without(Feature.SCAN)(driver)`."""

    def __init__(self, *features: Feature) -> None:
        self._features = features

    def __call__(self, driver: Driver) -> Driver:
        """A driver like it that declares less."""
        return FaultyDriver(driver, features=driver.features - set(self._features))


__all__ = ["FACES", "Face", "Without", "visit"]
