"""A fault, and how it is planted."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Mutant(NamedTuple):
    """One fault of a driver: a small piece of its text that reads otherwise."""

    kind: str
    """What of the contract it is about."""
    fault: str
    """What the driver does wrong, in words."""
    file: str
    """Where, from the root of the project."""
    old: str
    new: str

    def planted(self) -> str:
        """The file's text with the fault. Raises ValueError unless it fits exactly one place."""
        text = (ROOT / self.file).read_text()
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.file} has {found} places for {self.fault!r}: {self.old!r}")
        return text.replace(self.old, self.new)
