"""Every example of the README and of docs/ runs as printed, or says why it does not."""

from pathlib import Path

import pytest

import pages

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
