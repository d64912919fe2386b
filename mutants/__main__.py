"""Plants each fault in a copy of the project, runs the kit on it, and says which case caught it.

A fault that nothing catches, and one that no longer fits the code, fail the command. The kit runs as
it does for who writes a driver: without this project's own fixtures, limits and settings.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from mutants import of_folding, of_lmdb, of_sqlite
from mutants.mutant import ROOT, Mutant

SECONDS = 180
"""Within which the kit has to have run: a case that hangs has caught nothing."""
MACHINE = "test_driver_and_model_agree"
COPIED = ("src", "examples/on_lmdb.py", "tests/variants.py", "tests/drivers")
KITS = {
    "lmdb": ("tests/drivers/test_conformance_lmdb.py", "TestLmdb and not ByUrl"),
    "sqlite": ("tests/drivers/test_conformance_sqlite.py", "TestSqlite"),
}
ORDER = """
FIRST = "edges instants exactly_once lifetimes bounds commits listing failures face_commits face_lives face_trouble"

def pytest_collection_modifyitems(items):
    names = FIRST.split()
    def place(item):
        name = item.function.__module__.rpartition(".")[2]
        return names.index(name) if name in names else len(names)
    items.sort(key=place)
"""
"""A conftest that has the quick cases come first: the run is the same, and ends the sooner."""
PLANTED: dict[str, list[Mutant]] = {
    "lmdb": [*of_folding.FAULTS, *of_lmdb.FAULTS],
    "sqlite": of_sqlite.FAULTS,
}


class Caught(NamedTuple):
    """What the kit said of one fault."""

    by: str
    """The case that failed first; "" for none."""
    promise: str
    seconds: float
    said: str
    """All that it printed."""


def copied(folder: Path) -> None:
    """What the kit needs of the project, in a folder of its own."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=skip)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "conftest.py").write_text(ORDER)


def run_kit(folder: Path, kit: str, *, machine: bool = True) -> Caught:
    """Run it in this copy, up to the first case that fails."""
    file, cases = KITS[kit]
    chosen = cases if machine else f"{cases} and not {MACHINE}"
    command = ["-m", "pytest", "-x", "-q", "-rfE", "--tb=short", "-p", "no:cacheprovider"]
    command += ["-p", "no:xdist", "-p", "no:valkey", f"--rootdir={folder}", "-k", chosen, file]
    path = os.pathsep.join((f"{folder}/src", str(folder)))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    environment["TMPDIR"] = str(folder)
    begun = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        told = said.decode(errors="replace") if isinstance(said, bytes) else said
        return Caught("", "", SECONDS, f"{told}\nThe kit did not end.")
    took, said = time.monotonic() - begun, done.stdout + done.stderr
    if done.returncode == 0:
        return Caught("", "", took, said)
    failed = re.search(r"^(?:FAILED|ERROR) \S+::(\w+)", said, re.MULTILINE)
    promise = re.search(r"[Pp]romise (\d+), ", said)
    return Caught(failed[1] if failed else "", promise[1] if promise else "", took, said)


def try_one(kit: str, mutant: Mutant, *, machine: bool) -> Caught:
    """Plant one fault, and see what the kit says."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as made:
        folder = Path(made)
        copied(folder)
        (folder / mutant.file).write_text(mutant.planted())
        return run_kit(folder, kit, machine=machine)


def misfit(mutant: Mutant) -> str | None:
    """Why a fault cannot be planted, before anything runs; None if it can."""
    try:
        compile(mutant.planted(), mutant.file, "exec")
    except (ValueError, SyntaxError) as problem:
        return f"{mutant.kind}: {mutant.fault}: {problem}"
    return None


def main() -> int:
    """Returns how many were not caught, or do not fit."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--only", default="", help="faults with this in their words")
    parser.add_argument("--direct", action="store_true", help="leave the machine out")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--said", type=Path, help="a folder for what the kit said of survivors")
    asked = parser.parse_args()
    chosen = [
        (kit, mutant)
        for kit, mutants in PLANTED.items()
        for mutant in mutants
        if asked.only in f"{kit}: {mutant.kind}: {mutant.fault}"
    ]
    unfit = [problem for _, mutant in chosen if (problem := misfit(mutant))]
    if unfit:
        print(*unfit, sep="\n")
        return len(unfit)
    survivors = 0
    with concurrent.futures.ThreadPoolExecutor(asked.at_once) as pool:
        runs = [
            pool.submit(try_one, kit, mutant, machine=not asked.direct) for kit, mutant in chosen
        ]
        for (kit, mutant), run in zip(chosen, runs, strict=True):
            caught = run.result()
            by = f"{caught.by} (promise {caught.promise or '?'})" if caught.by else "NOT CAUGHT"
            print(
                f"{kit:6} {caught.seconds:4.0f} s  {mutant.kind}: {mutant.fault}: {by}", flush=True
            )
            if not caught.by:
                survivors += 1
                if asked.said:
                    name = re.sub(r"\W+", "-", f"{mutant.kind} {mutant.fault}")
                    (asked.said / name).write_text(caught.said)
    print(f"{len(chosen) - survivors} of {len(chosen)} faults were caught")
    return survivors


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
