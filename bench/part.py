"""What a measurement hands to the report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Table:
    """Rows under columns; all of it text."""

    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    about: str = ""


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


@dataclass(frozen=True)
class Effort:
    """How much to do: `--quick` is for trying the benchmark, not for figures."""

    quick: bool = False

    def of(self, usual: int, quick: int) -> int:
        return quick if self.quick else usual
