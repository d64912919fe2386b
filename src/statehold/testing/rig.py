"""A driver in the hands of a test: plain synchronous calls, time that can be moved, short names."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

from statehold.changes import Change
from statehold.commits import EVERYTHING, Commit, Key, Want
from statehold.driver import (
    Cells,
    CommitsTogether,
    Driver,
    Feature,
    FieldLayout,
    InstallsLives,
    Layout,
    Outcome,
    Scan,
    WholeLife,
    Written,
)
from statehold.testing.backend import Backend
from statehold.testing.commits import KIND, Commits

Result = TypeVar("Result")


def _field(name: str, field: str, changes: str, values: object, bound: int = 1000) -> FieldLayout:
    return FieldLayout(name, field, frozenset(changes.split()), values, bound, 1 << 20)


FIELDS: Final = (
    _field("note", "register", "put drop", str, 1),
    _field("map", "map", "put drop", str, 64),
    _field("raw", "vector", "put drop", bytes),
    _field("sum", "tally", "add drop", float),
    _field("once", "steps", "put drop", str, 64),
    _field("array", "posterior", "accumulate drop", bytes),
    _field("window", "window", "add accumulate drop", float),
    _field("log", "log", "append splice drop", str),
    _field("trail", "log", "append splice drop", str),
    _field("book", "map", "put drop", str),
)
"""What a state of the kit holds; every change has a field, and no value is of a class of ours."""


def layout(kind: str = KIND) -> Layout:
    """The layout that the kit opens a kind with."""
    return Layout(kind, FIELDS, ops=128)


class Runner:
    """Runs the coroutines of one driver from ordinary code.

    What does not suspend is driven by hand, and it is an error if it suspends after all.
    """

    def __init__(self, make: Callable[[], Driver]) -> None:
        self._loop = asyncio.Runner()

        async def inside() -> Driver:
            return make()

        self.driver = self._loop.run(inside())

    def __call__(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The coroutine's result."""
        if self.driver.suspends:
            return self._loop.run(work)
        return drive(work)

    def together(self, *works: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
        """Run them at the same time: as tasks, or in threads where the driver does not suspend.

        An exception is returned in the place of the result.
        """
        if self.driver.suspends:

            async def gather() -> list[Any]:
                return await asyncio.gather(*(work() for work in works), return_exceptions=True)

            return self._loop.run(gather())
        results: list[Any] = [None] * len(works)

        def run(place: int, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
            try:
                results[place] = drive(work())
            except BaseException as error:  # noqa: BLE001  it is the answer
                results[place] = error

        threads = [
            threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(works)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def close(self) -> None:
        """Close the driver, and the loop that it ran in."""
        try:
            self(self.driver.close())
        finally:
            self._loop.close()


def drive(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that never suspends. Raises AssertionError if it does."""
    try:
        work.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    work.close()
    raise AssertionError("the driver declares `suspends = False`, and suspended")


class Rig(Commits):
    """A driver of a backend, with a tenant of its own and a clock that `wait` moves.

    `ttl` and `wait` are in units of time: a minute where the driver believes the clock that it is
    given, `backend.own_clock` seconds, really waited, where it has its own.
    """

    def __init__(self, backend: Backend, *, like: Rig | None = None) -> None:
        self.backend = backend
        tenant = like.tenant if like else f"t{secrets.token_hex(6)}"
        super().__init__(tenant, backend.own_clock or 60.0)
        self.exact = backend.own_clock is None
        self._now = like.now if like else 1_700_000_000.0
        self.waited = 0.0  # in units
        self.took = 0.0
        """Seconds that the last commits or reads took."""
        self._followers: list[Rig] = []
        self.kinds: list[str] = []
        self.run = Runner(backend.open)
        for kind in like.kinds if like else (KIND,):
            self.open_kind(kind)

    @property
    def driver(self) -> Driver:
        """The driver itself, open."""
        return self.run.driver

    def has(self, *features: Feature) -> bool:
        """Whether the driver declares all of these."""
        return self.driver.features.issuperset(features)

    # ------------------------------------------------------------------------------ time

    @property
    def now(self) -> float:
        """Epoch seconds, as the driver should see them."""
        return self._now if self.exact else time.time()

    def wait(self, units: float) -> None:
        """Let this much time pass, for this rig and the others on its data."""
        self.waited += units
        if self.exact:
            self._now += units * self.unit
            for rig in self._followers:
                rig.wait(units)
        else:
            time.sleep(units * self.unit)

    # ----------------------------------------------------------------------------- calls

    def _timed(self, work: Coroutine[Any, Any, Result]) -> Result:
        began = time.monotonic()
        try:
            return self.run(work)
        finally:
            self.took = time.monotonic() - began

    def open_kind(self, kind: str) -> None:
        """Make a further kind ready."""
        self.kinds.append(kind)
        self.run(self.driver.open(layout(kind)))

    def send(self, *commits: Commit) -> list[Outcome]:
        """What became of each, handed over in one call."""
        outcomes = self._timed(self.driver.commit(commits, self.now))
        assert len(outcomes) == len(commits), "there must be one outcome for each commit"
        return outcomes

    def send_together(self, *commits: Commit) -> list[Outcome]:
        """What became of each, handed over to stand or fall together."""
        driver = cast("CommitsTogether", self.driver)
        outcomes = self._timed(driver.commit_together(commits, self.now))
        assert len(outcomes) == len(commits), "there must be one outcome for each commit"
        return outcomes

    def lives(self, *ids: str | Key) -> list[WholeLife | None]:
        """The whole life of each, in order."""
        keys = [self.key(id) if isinstance(id, str) else id for id in ids]
        found = self.run(cast("InstallsLives", self.driver).lives(keys, self.now))
        assert len(found) == len(keys), "there must be one answer for each key read"
        return found

    def life(self, id: str | Key = "a") -> WholeLife:
        """The whole life of a state that must be there."""
        life = self.lives(id)[0]
        assert life is not None, f"the state {id!r} must be there, and is absent"
        return life

    def install(self, *lives: WholeLife) -> list[Outcome]:
        """What became of each life that is to be installed."""
        outcomes = self.run(cast("InstallsLives", self.driver).install(lives, self.now))
        assert len(outcomes) == len(lives), "there must be one outcome for each life"
        return outcomes

    def try_(self, *changes: Change, **options: Any) -> Outcome:
        """What became of one commit."""
        return self.send(self.commit(*changes, **options))[0]

    def write(self, *changes: Change, **options: Any) -> Written:
        """Commit, and insist that it stands."""
        outcome = self.try_(*changes, **options)
        assert isinstance(outcome, Written), f"a good commit was not written: {outcome}"
        return outcome

    def erase(self, id: str | Key = "a", **options: Any) -> Outcome:
        """Delete one state."""
        return self.try_(id=id, ttl=None, erase=True, **options)

    def read(self, id: str | Key = "a", want: Want = EVERYTHING) -> Cells | None:
        """The cells of one state, None when absent."""
        return self.read_many([id], want)[0]

    def read_many(self, ids: Sequence[str | Key], want: Want = EVERYTHING) -> list[Cells | None]:
        """The cells of each, in order."""
        keys = [self.key(id) if isinstance(id, str) else id for id in ids]
        found = self._timed(self.driver.read(keys, want, self.now))
        assert len(found) == len(keys), "there must be one answer for each key read"
        return found

    def stands(self, id: str | Key = "a") -> Cells:
        """The cells of a state that must be there."""
        cells = self.read(id)
        assert cells is not None, f"the state {id!r} must be there, and is absent"
        return cells

    def fields(self, id: str | Key = "a") -> dict[str, Any]:
        """What a state that must be there holds, as plain dicts and lists."""
        return plain(self.stands(id))

    def ids(
        self,
        kind: str = KIND,
        *,
        subject: str | None = None,
        prefix: str = "",
        newest: bool = False,
        limit: int = 3,
        tenant: str = "",
    ) -> list[str]:
        """The ids that a scan finds, page by page; sorted, unless it is to be newest first."""
        found: list[str] = []
        cursor: str | None = None
        for _ in range(10_000):
            page = self.run(
                self.driver.scan(
                    Scan(self.tenant + tenant, kind, subject, prefix, newest, cursor, limit),
                    self.now,
                )
            )
            assert len(page.keys) <= limit, f"a page of {limit} has {len(page.keys)} keys"
            for key in page.keys:
                assert key[:2] == (self.tenant + tenant, kind), f"a scan served a foreign key {key}"
                found.append(key[2])
            cursor = page.cursor
            if cursor is None:
                return found if newest else sorted(found)
        raise AssertionError("a scan must come to an end")

    # ----------------------------------------------------------------------- more drivers

    def another(self) -> Rig:
        """A second driver on the same data; it sees time move with this one."""
        rig = Rig(self.backend, like=self)
        self._followers.append(rig)
        return rig

    def reopen(self) -> None:
        """Close the driver and go on with a new one on the same data."""
        with self.closed():
            pass

    @contextmanager
    def closed(self) -> Generator[None]:
        """The driver is closed meanwhile, and a new one on the same data goes on."""
        self.run.close()
        try:
            yield
        finally:
            kinds, self.kinds = self.kinds, []
            self.run = Runner(self.backend.open)
            for kind in kinds:
                self.open_kind(kind)

    def close(self) -> None:
        """Close the driver, and those that `another` opened."""
        for rig in self._followers:
            rig.close()
        self.run.close()


def plain(cells: Cells) -> dict[str, Any]:
    """The fields as plain dicts and lists, empty ones left out (empty is the same as absent)."""
    return {
        name: dict(cell) if isinstance(cell, dict) else list(cell)
        for name, cell in cells.fields.items()
        if cell
    }
