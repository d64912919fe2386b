"""Counts what a driver is asked and what it answers, in plain numbers; nothing is formatted here.

Whoever exports metrics reads the numbers when asked for them: see `samples`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from statehold.clock import AMBIENT
from statehold.commits import Commit, Key, Want
from statehold.driver import (
    Cells,
    Conflicted,
    Doubtful,
    Driver,
    FencedOff,
    Late,
    Outcome,
    Page,
    Reused,
    Scan,
    Undone,
    WholeLife,
    Written,
)
from statehold.errors import StateholdError
from statehold.middleware.wrapper import PassOn, Wrapper
from statehold.settings import Settings

BOUNDS: Final = (
    *(0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds of the histograms' buckets, in seconds."""


class Histogram:
    """How long something took: a count for each bucket, and the sum of seconds."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """It took this long once more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Sample(msgspec.Struct, frozen=True):
    """One metric: its name, type and meaning, and a value for each set of labels."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    values: Mapping[tuple[tuple[str, str], ...], int | float | Histogram]


Outcomes: TypeAlias = Literal[
    "written",
    "repeated",
    "conflicted",
    "fenced",
    "refused",
    "reused",
    "in_doubt",
    "late",
    "undone",
    "claimed",
    "held",
]
_OUTCOMES: Final[dict[type, Outcomes]] = {
    Conflicted: "conflicted",
    FencedOff: "fenced",
    Reused: "reused",
    Doubtful: "in_doubt",
    Late: "late",
    Undone: "undone",
}

CALLS: Final = ("read", "commit", "scan", "check")


class Metrics(Wrapper):
    """A driver that counts what goes to another and comes back."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.took = {call: Histogram() for call in CALLS}
        self.errors: Counter[tuple[str, str]] = Counter()
        self.outcomes: Counter[Outcomes] = Counter()
        self.found = 0
        self.absent = 0
        self.corrupted = 0

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        started = AMBIENT.perf_counter()
        try:
            cells = await self.inner.read(keys, want, now)
        except Exception as error:
            self._failed("read", error)
            raise
        finally:
            self.took["read"].observe(AMBIENT.perf_counter() - started)
        for cell in cells:
            if cell is None:
                self.absent += 1
            else:
                self.found += 1
                if cell.corrupted:
                    self.corrupted += len(cell.corrupted)
        return cells

    async def passed(self, commits: Sequence[Commit], now: float, on: PassOn) -> list[Outcome]:
        """Counted alike, whether they stand by themselves or together."""
        return await self._counted(on(commits, now))

    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        """See `InstallsLives`. Counted as commits."""
        return await self._counted(super().install(lives, now))

    async def _counted(self, call: Coroutine[Any, Any, list[Outcome]]) -> list[Outcome]:
        started = AMBIENT.perf_counter()
        try:
            outcomes = await call
        except Exception as error:
            self._failed("commit", error)
            raise
        finally:
            self.took["commit"].observe(AMBIENT.perf_counter() - started)
        counted = self.outcomes
        for outcome in outcomes:
            if isinstance(outcome, Written):
                if outcome.epoch:
                    counted["claimed"] += 1
                else:
                    counted["repeated" if outcome.repeated else "written"] += 1
            elif isinstance(outcome, FencedOff) and outcome.left:
                counted["held"] += 1  # by another
            else:
                counted[_OUTCOMES.get(outcome.__class__, "refused")] += 1
        return outcomes

    async def scan(self, asked: Scan, now: float) -> Page:
        started = AMBIENT.perf_counter()
        try:
            return await self.inner.scan(asked, now)
        except Exception as error:
            self._failed("scan", error)
            raise
        finally:
            self.took["scan"].observe(AMBIENT.perf_counter() - started)

    async def check(self, now: float) -> None:
        started = AMBIENT.perf_counter()
        try:
            await self.inner.check(now)
        except Exception as error:
            self._failed("check", error)
            raise
        finally:
            self.took["check"].observe(AMBIENT.perf_counter() - started)

    def _failed(self, call: str, error: Exception) -> None:
        code = error.code if isinstance(error, StateholdError) else "internal"
        self.errors[call, code] += 1

    def samples(self) -> Iterator[Sample]:
        """All that was counted, and the driver's own numbers."""
        yield Sample(
            "statehold_store_call_seconds",
            "histogram",
            "How long the store took to answer, by call.",
            {(("call", call),): took for call, took in self.took.items()},
        )
        yield Sample(
            "statehold_store_errors_total",
            "counter",
            "Calls that the store did not answer, by call and error code.",
            {
                (("call", call), ("code", code)): count
                for (call, code), count in self.errors.items()
            },
        )
        yield Sample(
            "statehold_commits_total",
            "counter",
            "Commits, by what became of them.",
            {(("outcome", outcome),): self.outcomes[outcome] for outcome in get_args(Outcomes)},
        )
        yield Sample(
            "statehold_reads_total",
            "counter",
            "States asked for, by whether there was one.",
            {(("result", "found"),): self.found, (("result", "absent"),): self.absent},
        )
        for name, value in self.stats().items():
            yield Sample(
                f"statehold_driver_{name}",
                "counter" if name.endswith("_total") else "gauge",
                f"The driver's own: {name.removesuffix('_total').replace('_', ' ')}.",
                {(): value},
            )


def from_settings(driver: Driver, settings: Mapping[str, object]) -> Metrics:
    """See `middleware.choosing`."""
    Settings("metrics", {}).parse(settings)
    return Metrics(driver)


def exposition(samples: Iterator[Sample]) -> bytes:
    """The samples in Prometheus' text format, version 0.0.4."""
    lines: list[str] = []
    for sample in samples:
        lines += (f"# HELP {sample.name} {sample.help}", f"# TYPE {sample.name} {sample.type}")
        for labels, value in sample.values.items():
            if isinstance(value, Histogram):
                lines += _histogram(sample.name, labels, value)
            else:
                lines.append(f"{sample.name}{_labels(labels)} {value}")
    return "\n".join([*lines, ""]).encode()


def _histogram(name: str, labels: tuple[tuple[str, str], ...], took: Histogram) -> Iterator[str]:
    total = 0
    for bound, count in zip((*BOUNDS, "+Inf"), took.counts, strict=True):
        total += count
        yield f"{name}_bucket{_labels((*labels, ('le', str(bound))))} {total}"
    yield f"{name}_sum{_labels(labels)} {took.seconds}"
    yield f"{name}_count{_labels(labels)} {total}"


def _labels(labels: tuple[tuple[str, Any], ...]) -> str:
    def quoted(value: str) -> str:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    return (
        "{" + ",".join(f'{name}="{quoted(value)}"' for name, value in labels) + "}"
        if labels
        else ""
    )


__all__ = ["Histogram", "Metrics", "Sample", "exposition"]
