"""Every example of the README and of docs/ runs as printed, or says why it does not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pages
from commands import environment

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages.run(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_not_run_says_why(page):
    silent = [
        f"{block.where}: {block.note}"
        for block in pages.blocks(page)
        if block.note.startswith("not") and not block.reason
    ]
    assert not silent


def test_the_first_example_is_a_script(tmp_path):
    """What the README shows first runs as it stands, put into a file."""
    (first, *_) = (block for block in pages.blocks(ROOT / "README.md") if block.kind == "python")
    (tmp_path / "ten.py").write_text(first.body)
    done = subprocess.run(
        [sys.executable, "ten.py"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("2 blue Show me blue ones\n", "")


def test_links_lead_somewhere():
    """Every link of a page to another one, or to a heading, as they are read in a clone."""
    broken = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in target:
                continue
            name, _, heading = target.partition("#")
            where = page if not name else page.parent / name
            if not where.exists() or (heading and heading not in anchors(where)):
                broken.append(f"{page.name}: {target}")
    assert not broken


def anchors(page):
    """The names by which the headings of a page are linked to."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
