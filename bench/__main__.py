"""`python -m bench`: run the measurements, print them, write docs/benchmarks.md.

A quick or partial run prints only.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import time
from collections.abc import Awaitable, Callable
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
from bench.part import Effort, Part
from bench.report import REACHED, markdown
from statehold.testing.servers import Missing

MEASUREMENTS: dict[str, Callable[[Effort], Awaitable[Part]]] = {
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
    "tokens": lambda effort: import_module("bench.tokens").tokens(effort),  # needs its peers
}
TARGET = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="try it in two minutes; no figures to rely on"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=MEASUREMENTS,
        metavar="NAME",
        help=", ".join(MEASUREMENTS),
    )
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args()
    effort = Effort(given.quick)
    begun = time.perf_counter()
    parts: list[Part] = []
    for name in given.only or MEASUREMENTS:
        start = time.perf_counter()
        print(f"{name} …", flush=True)
        parts.append(asyncio.run(_run(name, effort)))
        print(f"  {time.perf_counter() - start:.0f} s", flush=True)
    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    text = markdown(parts, command, time.perf_counter() - begun)
    print("\n" + text)
    for part in parts:
        for verdict in part.verdicts:
            print(f"{REACHED[verdict.reached]:9} {verdict.target}: {verdict.measured}")
    if not (given.no_write or given.quick or given.only):  # only a whole run makes the page
        TARGET.write_text(text)
    return 0


async def _run(name: str, effort: Effort) -> Part:
    try:
        return await MEASUREMENTS[name](effort)
    except Missing as missing:  # a server that cannot be had here
        return Part(name, f"Not measured: {missing}.", absent=[str(missing)])


if __name__ == "__main__":
    sys.exit(main())
