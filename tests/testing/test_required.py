"""What STATEHOLD_REQUIRE may name is what the code asks for, what CI insists on and what is documented."""

import re
from pathlib import Path

import pytest

from statehold.testing.servers import finding, mariadb, pgbouncer, postgres, redis

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing-servers.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
ASKED = re.compile(r'\brequire\(\s*"(\w+)"')


def sources():
    """The names of the kit's servers."""
    found = set()
    for module in (mariadb, pgbouncer, postgres, redis):
        for thing in vars(module).values():
            source = getattr(thing, "source", thing)
            if isinstance(source, finding.Source):
                found.add(source.name)
    return found


def asked(folder, *but):
    """The names that code in a folder requires in so many words."""
    files = [path for path in (ROOT / folder).rglob("*.py") if path.name not in but]
    return {name for path in files for name in ASKED.findall(path.read_text("utf-8"))}


KIT = sources() | asked("src")
ALL = KIT | asked("tests", "test_servers.py")  # which tries `require` itself


def test_the_kit_asks_for_these():
    """So that the other tests compare something."""
    assert {"redis", "valkey", "postgres", "pgvector", "mariadb", "pgbouncer"} <= KIT
    assert {"disk", "openssl"} <= KIT
    assert {"chromium", "promtool", "data"} <= ALL - KIT


def test_ci_requires_everything():
    """A name that the code asks for and CI does not require is a test that CI may skip in silence."""
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    lines = re.findall(r"STATEHOLD_REQUIRE\+?=([a-z,]+)", script)
    assert set(filter(None, ",".join(lines).split(","))) == ALL


@pytest.mark.parametrize(
    ("text", "names"), [(PAGE, KIT), (CONTRIBUTING, ALL - KIT)], ids=["the kit's", "the tests'"]
)
def test_the_documents_list_everything(text, names):
    """The kit's page has what the kit asks for, CONTRIBUTING what our own tests do besides."""
    (listed,) = re.findall(r"STATEHOLD_REQUIRE=([a-z,]+)", text)
    assert set(listed.split(",")) == names
