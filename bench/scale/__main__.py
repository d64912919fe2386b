"""`python -m bench.scale`: how cost grows on each store, up to a million states, and docs/scale.md of it.

A quick or partial run prints only. The whole takes about half an hour.
"""

from __future__ import annotations

import sys

from bench.command import Measurements, command
from bench.scale import burst, collector, crowds, garbage, hot, neighbours, page, population
from bench.scale import processes as many

MEASUREMENTS: Measurements = {
    "population": population.population,
    "garbage": garbage.garbage,
    "burst": burst.burst,
    "neighbours": neighbours.neighbours,
    "hot": hot.hot,
    "processes": many.processes,
    "threads": many.threads,
    "tenants": crowds.tenants,
    "kinds": crowds.kinds,
    "collector": collector.collector,
}

if __name__ == "__main__":
    sys.exit(
        command(
            "bench.scale",
            __doc__,
            MEASUREMENTS,
            page.TARGET,
            title=page.TITLE,
            how=page.HOW,
            draw=page.drawn,
        )
    )
