"""The benchmark runs without its peers, says which are absent, and has made the page in the docs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_runs_without_the_peers():
    """What needs no peer is measured with nothing but holdfast installed."""
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
    assert "| holdfast, memory |" in done.stdout


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
