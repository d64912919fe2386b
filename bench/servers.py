"""Where the servers run, and what they take of a core.

On two cores a round trip costs more when client and server have one each, since each of them has to
be woken, than when they share one; which of them is measured is said beside each table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

Placement = Literal["one core", "own cores", "anywhere"]


@contextmanager
def placed(pid: int, placement: Placement) -> Iterator[None]:
    """This process and a server (its main thread) share a core, or have one each."""
    if placement == "anywhere" or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before, servers = os.sched_getaffinity(0), os.sched_getaffinity(pid)
    cores = sorted(before)
    os.sched_setaffinity(0, cores[-1:])
    os.sched_setaffinity(pid, cores[-1:] if placement == "one core" else cores[:-1] or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        os.sched_setaffinity(pid, servers)


def cpu_us(pid: int) -> float:
    """Microseconds that a process and its children have run; NaN where /proc does not tell."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        stats = [
            (thread / "schedstat").read_text()
            for each in (pid, *children)
            for thread in Path(f"/proc/{each}/task").iterdir()
        ]
    except FileNotFoundError:
        return float("nan")
    return sum(int(stat.split()[0]) for stat in stats) / 1e3
