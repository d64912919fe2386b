"""Drivers that declare few features, or none, and refuse what they do not: the kit must not ask for it.

`test_sparse.py` runs the kit on them. To watch it: `pytest tests/testing/sparse.py -k Nothing`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from statehold.commits import Commit, Key, Revision, Want
from statehold.driver import Cells, Doubtful, Driver, Feature, Outcome, Page, Scan, Written
from statehold.drivers.sqlite import SqliteDriver
from statehold.errors import Unsupported
from statehold.folding import NO_FENCE, Fence
from statehold.middleware.wrapper import Wrapper
from statehold.testing import Backend, DriverConformance
from tests.testing.toys import ToyDriver

CUT = frozenset({Feature.SHARED, Feature.DURABLE})
"""What a dict has not, and a file does."""


class Sparse(Wrapper):
    """Raises `Unsupported` for whatever is asked that it does not declare."""

    def __init__(self, inner: Driver, *features: str) -> None:
        super().__init__(inner)
        self.features = frozenset(map(Feature, features))

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        self.check_commits(commits)
        return await super().commit(commits, now)

    async def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        self.needs(Feature.TOGETHER)
        self.check_commits(commits)
        return await super().commit_together(commits, now)

    async def scan(self, asked: Scan, now: float) -> Page:
        self.needs(Feature.SCAN if asked.subject is None else Feature.SUBJECT)
        return await super().scan(asked, now)

    def check_commits(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            if commit.expect is not None or commit.revision is not None:
                self.needs(Feature.EXPECT)
            if commit.epoch:
                self.needs(Feature.EPOCH)
            if commit.subject is not None:
                self.needs(Feature.SUBJECT)
            if commit.returning is not None:
                self.needs(Feature.RETURNING)
            if commit.claim is not None:
                self.needs(Feature.CLAIM)
            if commit.where:
                self.needs(Feature.WHERE)

    def needs(self, feature: Feature) -> None:
        if feature not in self.features:
            raise Unsupported(f"it does not declare {feature}", expected=feature)


class Forgetful(ToyDriver):
    """Knows no epoch of a state that is gone, and of an erasure only when there was one."""

    def fence(self, key: Key, now: float) -> Fence:
        return NO_FENCE

    def __init__(self) -> None:
        super().__init__()
        self.erased: dict[tuple[Key, str], float] = {}  # when

    def remember(self, commit: Commit, revision: Revision, at: float) -> None:
        if not commit.erase:
            super().remember(commit, revision, at)

    def step(self, commit: Commit, now: float) -> Outcome:
        at = commit.key, commit.op
        known = at in self.applied or commit.since is None
        if not known and self.erased.get(at, -math.inf) >= (commit.since or 0.0):
            return Doubtful()
        outcome = super().step(commit, now)
        if commit.erase and isinstance(outcome, Written):
            self.erased[at] = now
        return outcome


class Least(Driver):
    """A driver with nothing but what must be there."""

    features = frozenset()

    def __init__(self) -> None:
        self.toy = Forgetful()

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        return await self.toy.read(keys, want, now)

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        return await self.toy.commit(commits, now)

    async def close(self) -> None:
        await self.toy.close()


def with_only(*features: Feature) -> Driver:
    """A driver in memory that declares these."""
    if not features:
        return Sparse(Least())
    kept = {Feature.CLAIM, Feature.ERASE_ONCE}.intersection(features)
    return Sparse(ToyDriver() if kept else Forgetful(), *features)


def on_file(path: str, *features: str) -> Driver:
    return Sparse(SqliteDriver(path), *features)


class Cut(DriverConformance):
    """Every case, on a driver that declares `features`."""

    features: tuple[Feature, ...] = ()

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        if CUT.intersection(self.features):
            arguments = (str(tmp_path / "state.db"), *self.features)
            return Backend(lambda: on_file(*arguments), f"{__name__}:on_file", arguments)
        return Backend(lambda: with_only(*self.features))


class TestNothing(Cut):
    """The least that a driver can be."""


for feature in Feature:
    name = f"TestOnly{feature.name.title().replace('_', '')}"
    globals()[name] = type(name, (Cut,), {"features": (feature,)})
