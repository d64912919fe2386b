"""Every setting, variable, error code, route and metric is documented, and none that is not there."""

import asyncio
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import pages
from statehold import AsyncStore, Collection, Counter, State, Store, errors
from statehold.config import ENVIRONMENT, FIELDS, KEY, KIND, SERVER
from statehold.drivers.memory import SETTINGS as MEMORY
from statehold.drivers.redis import SETTINGS as REDIS
from statehold.drivers.sql import SETTINGS as SQL
from statehold.drivers.sqlite import SETTINGS as SQLITE
from statehold.errors import StateholdError
from statehold.server import create_app
from statehold.server.problems import SERVER_STATUS, STATUS

DOCS = Path(__file__).parent.parent / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text("utf-8")
HTTP = (DOCS / "http.md").read_text("utf-8")

SETTINGS = {
    "[server]": SERVER.known,
    "Keys": KEY.known,
    "[kinds]": KIND.known,
}
BACKENDS = {"memory": MEMORY, "sqlite": SQLITE, "redis": REDIS, "sql": SQL}


def rows(text, column=0):
    """The names in backquotes in a column of the tables."""
    found = []
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            cells = line.replace(r"\|", "").strip("|").split("|")
            found += re.findall(r"`([^`]+)`", cells[column])
    return found


def section(title, text=CONFIGURATION):
    parts = re.split(r"^##+ ", text, flags=re.MULTILINE)
    (found,) = (part for part in parts if part.splitlines()[0].strip("`") == title)
    return found


@pytest.mark.parametrize("title", SETTINGS)
def test_every_setting(title):
    known = SETTINGS[title]
    told = rows(section(title))
    assert set(told) - {"fields"} == set(known)
    for name in known:
        assert told.count(name) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_setting_of_every_backend(backend):
    """The page of a backend has one table of its settings, with what each means."""
    page = (DOCS / f"{backend}.md").read_text("utf-8")
    table = page[page.index("| setting |") :].partition("\n\n")[0]
    told = rows(table)
    assert sorted(told) == sorted(BACKENDS[backend].known)


def test_every_setting_of_every_type_of_field():
    told = {}
    kind = ""
    for line in section("Fields").splitlines():
        if line.startswith("| ") and "meaning" not in line:
            first, setting = line.strip("|").split("|")[:2]
            kind = first.strip(" `") or kind
            told.setdefault(kind, set()).add(setting.strip(" `"))
    known = {name: set(settings.known) - {"stored_as"} for name, settings in FIELDS.items()}
    assert told == known
    assert "`stored_as`" in section("Fields")


def test_every_parameter_of_a_class():
    told = rows(section("The class", (DOCS / "fields.md").read_text("utf-8")))
    known = inspect.signature(State.__init_subclass__).parameters.values()
    assert sorted(told) == sorted(one.name for one in known if one.kind is one.KEYWORD_ONLY)


CALLS = (DOCS / "calls.md").read_text("utf-8")


@pytest.mark.parametrize("its", [Store, Collection])
def test_every_call(its):
    """It is in the table of calls, and in an example."""
    examples = "".join(block.body for block in pages.blocks(DOCS / "calls.md"))
    for name, method in vars(its).items():
        if not name.startswith("_") and inspect.isroutine(method):
            assert re.search(rf"\.{name}\(", examples), name
            if name not in {"open", "collection"}:
                assert re.search(rf"\| .*`(store\.)?{name}`", CALLS), name


@pytest.mark.parametrize("name", ["get", "apply", "delete", "scan_page", "get_page", "find"])
def test_every_argument_of_a_call(name):
    for argument in inspect.signature(getattr(Collection, name)).parameters:
        if argument not in {"self", "id", "edits"}:
            assert re.search(rf"\b{argument}\b", CALLS), (name, argument)


def test_every_error():
    """The page on failures lists each that can be raised, with its code."""
    page = (DOCS / "failures.md").read_text("utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page, re.MULTILINE))
    leaves = [leaf for leaf in vars(errors).values() if isinstance(leaf, type)]
    known = {
        leaf.__name__: leaf.code
        for leaf in leaves
        if issubclass(leaf, StateholdError) and leaf is not StateholdError
    }
    assert told == known


def test_every_extra():
    """The README says which there are."""
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text("utf-8"))["project"]
    told = re.search(r"with the same extras \((.*?)\)", readme, re.DOTALL)[1]
    extras = set(project["optional-dependencies"]) - {"example"}
    assert set(re.findall(r"`(\w+)`", told)) == extras


def test_every_variable():
    assert set(re.findall(r"`(STATEHOLD_[A-Z_]+[A-Z])`", CONFIGURATION)) == set(ENVIRONMENT)


def test_every_error_code_and_its_status():
    table = section("Errors", HTTP)
    told = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            codes, statuses = line.strip("|").split("|")[:2]
            told |= dict.fromkeys(re.findall(r"`(\w+)`", codes), statuses)
    known = {**STATUS, **SERVER_STATUS}
    assert set(told) == set(known)
    for code, (status, _) in known.items():
        assert str(status) in told[code], code


def test_every_error_of_the_library_has_a_status():
    leaves = [leaf for leaf in vars(errors).values() if isinstance(leaf, type)]
    codes = {leaf.code for leaf in leaves if issubclass(leaf, StateholdError)}
    assert codes == set(STATUS)


class Documented(State, ttl=1):
    n = Counter()


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres"])
def service(request, tmp_path):
    servers = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/documented.db"}
    url = servers.get(request.param)
    if url is None:
        server = request.getfixturevalue(f"statehold_{request.param}")
        url = server.url if request.param == "redis" else server.new_database()

    async def made():
        async with AsyncStore.open(url) as store:
            app = create_app(store, [Documented])
            found = app.state.service
            await found.collection("documented", "").apply("a", Documented.n.add(1))
            return app, [sample.name for sample in found.samples()]

    return asyncio.run(made())


def test_every_metric(service):
    told = set(rows(section("GET /metrics", HTTP))) | set(rows(section("GET /metrics", HTTP), 1))
    assert set(service[1]) <= told


def test_no_metric_that_is_not_there():
    """A page that names a metric names one that the table of metrics has."""
    for page in sorted(DOCS.glob("*.md")):
        for name in re.findall(
            r"\bstatehold_[a-z_]+_(?:total|seconds|bytes)\b", page.read_text("utf-8")
        ):
            assert f"`{name}`" in HTTP, (page.name, name)


def test_every_route(service):
    for route in service[0].routes:
        if not route.path.startswith("/console"):
            for method in route.methods - {"HEAD"}:
                where = (
                    "http://127.0.0.1:8100/`" if route.path == "/" else f"`{method} {route.path}`"
                )
                assert where in HTTP, where
