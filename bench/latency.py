"""What single calls to a server take: p50, p99, and processor time here and there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.contender import Contender
from bench.measure import fitting, interleave, median, number
from bench.part import Table
from bench.servers import cpu_us


@dataclass
class Calls:
    """Of one contender, round by round; everything in microseconds."""

    p50: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    @property
    def p99(self) -> float:
        """Of the calls of all rounds."""
        return sorted(self.took)[int(len(self.took) * 0.99)]

    def cells(self) -> list[str]:
        """p50, p99, processor time of the client and of the server."""
        figures = median(self.p50), self.p99, median(self.client), median(self.server)
        return [number(figure) for figure in figures]


async def timed(
    calls: dict[str, tuple[Callable[..., Any], Sequence[tuple[Any, ...]]]],
    rounds: int,
    *,
    ms: float,
    pid: int,
) -> dict[str, Calls]:
    """Each contender's calls in turns, for about so many ms in each round."""
    found = {name: Calls() for name in calls}

    def job(name: str, call: Callable[..., Any], given: Sequence[tuple[Any, ...]]) -> Any:
        async def run() -> float:
            clock, to = time.perf_counter_ns, found[name]
            took: list[float] = []
            theirs, mine = cpu_us(pid), time.process_time_ns()
            for arguments in given:
                start = clock()
                await call(*arguments)
                took.append((clock() - start) / 1e3)
            to.client.append((time.process_time_ns() - mine) / 1e3 / len(took))
            to.server.append((cpu_us(pid) - theirs) / len(took))
            to.p50.append(median(took))
            to.took += took
            return to.p50[-1]

        return run

    jobs = {}
    for name, (call, given) in calls.items():
        jobs[name] = job(name, call, given[: await fitting(call, given, ms)])
    await interleave(jobs, rounds)
    return found


def compared(contenders: Sequence[Contender], took: dict[str, Calls]) -> Table:
    """A row for each contender."""
    table = Table(["µs", "p50", "p99", "client CPU", "server CPU", "what it cannot do"])
    for contender in contenders:
        table.rows.append([contender.name, *took[contender.name].cells(), contender.lacks])
    return table
