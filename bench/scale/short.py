"""A small piece of it, for `make bench`: whether the shapes still hold."""

from __future__ import annotations

from bench.part import Effort, Part
from bench.scale.burst import burst
from bench.scale.garbage import garbage
from bench.scale.hot import hot
from bench.scale.population import population

EMBEDDED = "memory", "SQLite"


async def scale(effort: Effort) -> Part:  # noqa: ARG001  there is nothing less to do
    """Small amounts, on the two stores that need no server."""
    whole = Part(
        "Scale, in short",
        "`python -m bench.scale` measures what a million states do, on four stores. These are the same measurements "
        "with the small amounts of its `--quick`, in memory and on SQLite.",
    )
    for measure in (population, garbage, burst, hot):
        part = await measure(Effort(quick=True), EMBEDDED)
        for table in part.tables:
            table.about = f"{part.title}{', ' if table.about else '.'}{table.about}"
        whole.tables += part.tables
        whole.verdicts += part.verdicts
    return whole
