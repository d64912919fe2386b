"""The benchmark runs without its peers, says which are absent, and has made the page in the docs."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import ablation
from bench.contender import present
from statehold.testing.servers import PostgresServer, RedisServer

ROOT = Path(__file__).parents[1]


def test_runs_without_the_peers():
    """What needs no peer is measured with nothing but statehold installed."""
    command = [
        sys.executable,
        "-m",
        "bench",
        "--quick",
        "--only",
        "faces",
        "--only",
        "held",
        "--no-write",
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "| append |" in done.stdout
    assert "| statehold, memory |" in done.stdout


def test_names_the_absent(monkeypatch):
    """A contender whose package is missing is listed, never silently dropped."""
    from bench import contender, contenders_caches, contenders_raw

    monkeypatch.setattr(contender, "present", lambda package: None)
    here, absent = contender.split([contenders_raw.Dict, contenders_caches.Theine])
    assert here == [contenders_raw.Dict]
    assert absent == ["theine (theine is not installed)"]


def test_the_page_was_made_by_the_command():
    """docs/benchmarks.md is output, all measurements in one run, and not edited by hand."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert page.startswith("<!-- made by: python -m bench -->\n")
    assert "## Targets" in page


def test_the_page_of_scale_was_made_by_the_command():
    """docs/scale.md is output too: all measurements in one run, with a picture for each plot."""
    from bench.scale.__main__ import MEASUREMENTS

    path = ROOT / "docs" / "scale.md"
    if not path.exists():
        pytest.skip("nobody has made a whole run of bench.scale yet")
    page = path.read_text()
    assert page.startswith("<!-- made by: python -m bench.scale -->\n")
    assert page.count("\n## ") == 1 + len(MEASUREMENTS)
    assert "Not measured" not in page
    pictures = {file.name for file in (ROOT / "docs" / "images").glob("scale-*.svg")}
    assert pictures == set(re.findall(r"\]\(images/(scale-[^)]*)\)", page))


def test_scale_runs_without_servers_and_peers():
    """What is in the process itself is measured, beside what is written by hand, and nothing is written."""
    command = [sys.executable, "-m", "bench.scale", "--quick", "--only", "threads"]
    done = subprocess.run(
        [*command, "--only", "collector"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| by hand |" in done.stdout
    assert "the budget spent: worst call at 10,000" in done.stdout


def test_counts_what_lives_and_what_is_left():
    """A store whose garbage outgrows what lives, or outlasts its sweeps, is found out."""
    from bench.part import Effort
    from bench.scale import garbage

    part = asyncio.run(garbage.garbage(Effort(quick=True), ["memory"]))
    assert [verdict.reached for verdict in part.verdicts] == [True, True]
    kept = []

    class Keeps(garbage.Place):
        def count(self):
            kept.append(super().count())
            return len(kept) * 10_000

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.scale.places.Place", Keeps)
        part = asyncio.run(garbage.garbage(Effort(quick=True), ["memory"]))
    assert [verdict.reached for verdict in part.verdicts] == [False, False]


def test_plots_are_alike_each_time_and_are_left_out_without_matplotlib(tmp_path, monkeypatch):
    from bench.part import Part, Plot
    from bench.scale import page

    monkeypatch.setattr(page, "DOCS", tmp_path)
    monkeypatch.setattr(page, "IMAGES", tmp_path)
    lines = Plot("lines", "Lines", "states", "ms", {"memory, get": [(1, 2), (10, 3)]}, limit=3)
    bars = Plot("bars", "Bars", "", "ms", {"Redis": [(0, 2), (1, 3)]}, labels=["a", "b"])
    part = Part("", "", plots=[lines, bars])
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "matplotlib", None)
        assert page.drawn([part]) == {}
    pytest.importorskip("matplotlib")
    assert page.drawn([part]) == {"lines": "scale-lines.svg", "bars": "scale-bars.svg"}
    first = [file.read_bytes() for file in sorted(tmp_path.iterdir())]
    page.drawn([part])
    assert [file.read_bytes() for file in sorted(tmp_path.iterdir())] == first
    assert all(b"<text" in picture and b"dc:date" not in picture for picture in first)


def test_counts_what_is_lost(tmp_path):
    """A store that loses updates of 64 tasks is found out, and one that does not is not accused."""
    from bench import crowd
    from bench.contender import Contender

    class Careless(Contender):
        name = "reads, waits, writes"
        kept = 1

        async def append(self, id, message):
            kept = self.kept
            await asyncio.sleep(0)
            self.kept = kept + 1

        def count(self, id):
            return self.kept

    class Careful(Careless):
        async def append(self, id, message):
            await asyncio.sleep(0)
            self.kept += 1

    async def raced(contender, doubled=0):
        tally = crowd.Tally()
        await crowd.appending(contender, ["a"], 0.05, tally)
        contender.kept += doubled
        return await crowd.verify(contender, tally), tally.lost

    doubled, lost = asyncio.run(raced(Careless(tmp_path)))
    assert not doubled
    assert lost
    assert asyncio.run(raced(Careful(tmp_path))) == (0, 0)
    assert asyncio.run(raced(Careful(tmp_path), doubled=3)) == (3, 0)


def test_each_clever_part_can_be_left_out():
    """`bench.ablation` still finds what it takes away."""
    RedisServer.start().close()  # or this is skipped
    PostgresServer.start(fsync=False).close()
    command = [sys.executable, "-m", "bench.ablation", "--rounds", "1", "--seconds", "0.05"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in (*ablation.REDIS, *ablation.POSTGRESQL):
        assert f"| {name.name} |" in done.stdout


def test_measures_on_a_real_server():
    """What needs a server starts its own, and says so where the peer beside it is absent."""
    RedisServer.start().close()  # or this is skipped
    command = [sys.executable, "-m", "bench", "--quick", "--only", "redis_held", "--no-write"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "| statehold, redis |" in done.stdout
    beside = "| a bare list and hash |" if present("redis") else "the peer is absent"
    assert beside in done.stdout
