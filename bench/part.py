"""What a measurement hands to the report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Table:
    """Rows under columns; all of it text."""

    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    about: str = ""


Points = list[tuple[float, float]]


@dataclass
class Plot:
    """A picture of a table: lines by name, or bars (a label's number for x) if there are `labels`."""

    name: str
    title: str
    x: str
    y: str
    lines: dict[str, Points] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    limit: float | None = None
    """The target, if it is one figure for all."""
    logarithmic: bool = True
    """Both axes; of bars only the upright one."""


@dataclass
class Verdict:
    """A target, what was measured, and whether that reaches it; None where it could not be told."""

    target: str
    measured: str
    reached: bool | None


@dataclass
class Part:
    """One measurement: a heading, how it was done, tables, and its targets."""

    title: str
    how: str
    tables: list[Table] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)


@dataclass(frozen=True)
class Effort:
    """How much to do: `--quick` is for trying the benchmark, not for figures."""

    quick: bool = False

    def of(self, usual: int, quick: int) -> int:
        return quick if self.quick else usual
