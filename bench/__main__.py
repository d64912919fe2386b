"""`python -m bench`: run the measurements, print them, write docs/benchmarks.md.

A quick or partial run prints only.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from bench import (
    expiry,
    lists,
    load,
    many,
    operations,
    postgres_held,
    postgres_load,
    postgres_map,
    postgres_one,
    redis_held,
    redis_load,
    redis_one,
    starting,
)
from bench.command import Measurements, command
from bench.report import HOW
from bench.scale import short

MEASUREMENTS: Measurements = {
    "memory": operations.memory,
    "sessions": many.sessions,
    "expiry": expiry.expiry,
    "held": many.held,
    "sqlite": operations.sqlite,
    "growth": operations.growth,
    "lists": lists.lists,
    "writers": load.writers,
    "disk": load.disk,
    "faces": starting.faces,
    "import": starting.imports,
    "http": starting.http,
    "redis": redis_one.redis,
    "redis_growth": redis_one.growth,
    "redis_load": redis_load.load,
    "redis_held": redis_held.held,
    "redis_clients": lambda effort: import_module("bench.redis_clients").clients(effort),
    "postgres": postgres_one.postgres,
    "postgres_load": postgres_load.load,
    "postgres_held": postgres_held.held,
    "postgres_map": postgres_map.large_map,
    "scale": short.scale,
    "tokens": lambda effort: import_module("bench.tokens").tokens(effort),  # needs its peers
}
TARGET = Path(__file__).parents[1] / "docs" / "benchmarks.md"

if __name__ == "__main__":
    sys.exit(command("bench", __doc__, MEASUREMENTS, TARGET, title="Benchmarks", how=HOW))
