"""The words of the field are used where users meet them, and the glossary explains our own."""

import argparse
import re
from pathlib import Path

import pytest

import statehold
from statehold.cli.parser import parser
from statehold.config import ENVIRONMENT, FIELDS, KEY, KIND, SERVER
from statehold.drivers.memory import SETTINGS as MEMORY
from statehold.drivers.redis import SETTINGS as REDIS
from statehold.drivers.sql import SETTINGS as SQL
from statehold.drivers.sqlite import SETTINGS as SQLITE
from statehold.drivers.token import SETTINGS as TOKEN
from statehold.fields import Field
from statehold.server.problems import SERVER_STATUS, STATUS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "examples").rglob("*.md"))
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")

INSTEAD = {
    r"must be said|must say|unless said": "required, default",
    r"\b(two|both|either|synchronous|asynchronous) faces?\b": "sync and async API",
    r"if there (is|was) none": "not found",
    r"\bmost (bytes|characters|entries|items|turns|ids|commits|watches|connections)\b": "maximum",
}
WORDS = [
    "state",
    "State",
    "kind",
    "field",
    "ttl",
    "backend",
    "driver",
    "Store",
    "AsyncStore",
    "collection",
    "id",
    "tenant",
    "subject",
    "cell",
    "edit",
    "change",
    "commit",
    "outcome",
    "snapshot",
    "session",
    "revision",
    "incarnation",
    "expect",
    "op",
    "epoch",
    "token",
    "jar",
    "registry",
    "spill",
]


def wrong(text):
    """The words in it that the field has others for."""
    return [
        (found[0], say)
        for said, say in INSTEAD.items()
        if (found := re.search(said, text, re.IGNORECASE))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages(page):
    for line in page.read_text("utf-8").splitlines():
        assert not wrong(line), line


def test_settings_and_titles_of_errors():
    settings = [SERVER, KEY, KIND, *FIELDS.values(), MEMORY, REDIS, SQL, SQLITE, TOKEN]
    told = [meaning for each in settings for _, _, meaning in each.known.values()]
    told += ENVIRONMENT.values()
    told += [title for _, title in {**STATUS, **SERVER_STATUS}.values()]
    assert [text for text in told if wrong(text)] == []


def test_help():
    (found,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    for command in found.choices.values():
        assert not wrong(command.format_help())


def test_the_glossary_has_each_of_our_words():
    columns = [line.split("|") for line in GLOSSARY.splitlines() if line.startswith("| ")]
    usual = {name: row[2].strip() for row in columns for name in re.findall(r"[\w ]+", row[1])}
    fields = {
        name
        for name, its in vars(statehold).items()
        if isinstance(its, type) and issubclass(its, Field) and its is not Field
    }
    assert len(fields) >= 11
    assert {*WORDS, *fields} - usual.keys() == set()
    assert (usual["op"], usual["epoch"]) == ("idempotency key", "fencing token")
