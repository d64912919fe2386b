"""The command of `python -m bench` and `python -m bench.scale`: run measurements, print them, write a page."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from bench.part import Effort, Part
from bench.report import REACHED, markdown
from statehold.testing.servers import Missing

Measurements = Mapping[str, Callable[[Effort], Awaitable[Part]]]


def command(
    module: str,
    about: str | None,
    measurements: Measurements,
    target: Path,
    *,
    title: str,
    how: str,
    draw: Callable[[Iterable[Part]], Mapping[str, str]] | None = None,
) -> int:
    """What it exits with. `draw` makes the plots of a page and says where they are."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument(
        "--quick", action="store_true", help="try it in two minutes; no figures to rely on"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=measurements,
        metavar="NAME",
        help=", ".join(measurements),
    )
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args()
    effort = Effort(given.quick)
    begun = time.perf_counter()
    parts: list[Part] = []
    for name in given.only or measurements:
        start = time.perf_counter()
        print(f"{name} …", flush=True)
        parts.append(asyncio.run(_run(name, measurements, effort)))
        print(f"  {time.perf_counter() - start:.0f} s", flush=True)
    writes = not (given.no_write or given.quick or given.only)  # only a whole run makes the page
    text = markdown(
        parts,
        shlex.join(["python", "-m", module, *sys.argv[1:]]),
        time.perf_counter() - begun,
        title=title,
        how=how,
        images=draw(parts) if draw and writes else {},
    )
    print("\n" + text)
    for part in parts:
        for verdict in part.verdicts:
            print(f"{REACHED[verdict.reached]:9} {verdict.target}: {verdict.measured}")
    if writes:
        target.write_text(text)
    return 0


async def _run(name: str, measurements: Measurements, effort: Effort) -> Part:
    try:
        return await measurements[name](effort)
    except Missing as missing:  # a server that cannot be had here
        return Part(name, f"Not measured: {missing}.", absent=[str(missing)])
