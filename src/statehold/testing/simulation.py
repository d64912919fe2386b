"""`simulated`: the same run again, from a seed and a clock that is moved by hand."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from statehold.clock import AMBIENT, ManualClock

_ALONE: Final[dict[str, object]] = {}  # "by" whom


@contextmanager
def simulated(seed: int, clock: ManualClock | None = None) -> Generator[ManualClock]:
    """Within it all chance comes from the seed, and time passes as the clock is moved.

    It yields the clock, for the stores in it to be given. What is done in the same order has the same
    incarnations, op ids, pauses and tokens each time. It holds for the whole process, one at a time:
    raises `RuntimeError` for a second. Keys and tokens that are made in it are no secret.

    It is for memory, token stores without servers, folding and middleware. Drivers of servers and files go on
    to wait in the machine's time.
    """
    chance = random.Random(seed)
    clock = ManualClock() if clock is None else clock
    me = object()
    try:
        if _ALONE.setdefault("by", me) is not me:
            raise RuntimeError("a simulation is under way in this process")
        AMBIENT.entropy = chance.randbytes
        AMBIENT.fraction = chance.random
        AMBIENT.monotonic = AMBIENT.perf_counter = clock.monotonic
        yield clock
    finally:
        if _ALONE.get("by") is me:
            AMBIENT.restore()
            _ALONE.clear()
