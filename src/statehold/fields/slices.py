"""Slices of time: how the entries of `Window` and `DecayedMean` are named.

A name says until when its slice matters, then which slice it is, of what length. So those that
matter least sort first, and are what a bound drops; and releases that cut time in different ways
write side by side, each into its own entries, and read each other's.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import msgspec

NAME_BYTES: Final = 64
"""Most bytes of a name."""

_LAST: Final = 10**18 - 1
"""The last millisecond that is told from later ones: names are compared as text."""


class Slice(msgspec.Struct, frozen=True, gc=False):
    """One slice of time: the `number`-th of its length since 1970."""

    number: int
    length: float
    """Seconds."""

    @property
    def start(self) -> float:
        """When it began, epoch seconds."""
        return self.number * self.length


class Slices:
    """Time cut into slices of `length` seconds, each of which matters for `after` once it ended."""

    __slots__ = ("_after", "length")

    def __init__(self, length: float, after: float) -> None:
        self.length = length
        self._after = length + after

    def name(self, at: float) -> str:
        """The name of the slice that holds this time."""
        number = int(at // self.length)
        return f"{moment(number * self.length + self._after)}~{number}~{self.length!r}"


def moment(time: float) -> str:
    """What the names of slices that cease to matter at this time begin with."""
    return f"{min(max(0, int(time * 1000)), _LAST):018d}"


@lru_cache(maxsize=4096)  # states of a class have slices of the same times
def slice_of(entry: str) -> Slice | None:
    """The slice of that name, whoever wrote it; None if it is no such name."""
    try:
        _, number, length = entry.split("~")
        found = Slice(int(number), float(length))
    except ValueError:
        return None
    return found if 0 < found.length < math.inf and found.number >= 0 else None
