"""The report: targets first, then every table."""

from __future__ import annotations

import datetime as dt
import os
import platform
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.contender import present
from bench.part import Part, Table

PACKAGES = (
    "statehold",
    "msgspec",
    "cachetools",
    "theine",
    "cashews",
    "openai-agents",
    "langgraph-checkpoint",
    "langgraph-checkpoint-sqlite",
    "google-adk",
    "sqlalchemy",
    "aiosqlite",
    "redis",
    "hiredis",
    "starsessions",
    "asyncpg",
    "asyncmy",
    "psycopg",
    "langgraph-checkpoint-postgres",
    "fastapi",
    "uvicorn",
)
REACHED = {True: "yes", False: "**no**", None: "not told"}


HOW = (
    "Contenders take turns, round by round; a figure is the median of the rounds, with the lowest and the "
    "highest, and a ratio is taken within a round before its median is. A call in memory is the mean of "
    "25 in a row, and of these the median; a call on a file is the median of single ones. Garbage "
    "collection is on for everyone; what was there before the rounds is frozen, the rest collected before "
    "each timed block. Before it is measured each contender is checked: the newest 20 messages are the "
    "right ones and the count is right."
)


def machine() -> list[str]:
    """What it ran on, line by line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    versions = ", ".join(f"{name} {present(name) or 'absent'}" for name in PACKAGES)
    return [
        f"- {model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; load {load} at the end",
        f"- Python {platform.python_version()} ({sys.implementation.name}), SQLite {sqlite3.sqlite_version}",
        f"- {versions}",
    ]


def markdown(
    parts: list[Part],
    command: str,
    seconds: float,
    *,
    title: str,
    how: str,
    images: Mapping[str, str],
) -> str:
    """The page of some measurements; `images` says where their plots lie."""
    now = dt.datetime.now(dt.UTC)
    lines = [
        f"<!-- made by: {command} -->",
        "",
        f"# {title}",
        "",
        f"Made by `{command}` on {now:%Y-%m-%d} in {seconds / 60:.1f} minutes, all of it in one run:",
        "",
        *machine(),
        "",
        how,
        "",
        "## Targets",
        "",
    ]
    targets = Table(["target", "measured", "reached"])
    for part in parts:
        for verdict in part.verdicts:
            targets.rows.append([verdict.target, verdict.measured, REACHED[verdict.reached]])
    lines += table(targets)
    for part in parts:
        lines += ["", f"## {part.title}", "", part.how]
        for one in part.tables:
            lines += ["", one.about, "", *table(one)] if one.about else ["", *table(one)]
        for plot in part.plots:
            if plot.name in images:
                lines += ["", f"![{plot.title}]({images[plot.name]})"]
        if part.absent:
            lines += ["", f"Absent: {'; '.join(part.absent)}."]
    return "\n".join(lines) + "\n"


def table(one: Table) -> list[str]:
    """A Markdown table."""
    rows = [one.columns, ["---"] * len(one.columns), *one.rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
