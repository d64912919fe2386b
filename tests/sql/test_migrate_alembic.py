"""What Alembic itself makes of the tables, and of the scripts that are written for it."""

import asyncio
import re

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from databases import KINDS, cells, database, migrate
from sqlalchemy.ext.asyncio import create_async_engine
from visits import Renamed, Small, Visit, edits

from statehold import Store
from statehold.backends import open_driver


@pytest.fixture(params=KINDS)
def backend(request, tmp_path):
    return database(request.param, request, tmp_path)


@pytest.fixture
def run(backend, monkeypatch, capsys):
    return lambda state, *options: migrate(monkeypatch, capsys, backend.url, state, *options)


def on(url, work):
    """The result of `work(connection, driver)` in a transaction."""

    async def within():
        driver = open_driver(url)
        engine = create_async_engine(driver.engine.url)  # theirs: ours leaves JSON as text
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(work, driver)
        finally:
            await engine.dispose()
            await driver.close()

    return asyncio.run(within())


def test_alembic_sees_no_difference(backend, run):
    """Its own comparison, which shares nothing with ours, agrees that a migrated table fits."""

    def differences(connection, driver):
        wanted = driver.tables_of(Visit.__schema__.layout()).metadata
        options = {
            "include_name": lambda name, kind, _: kind != "table" or name != "statehold_kinds",
            # MariaDB calls JSON and booleans otherwise.
            "compare_type": backend.kind != "mariadb",
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), wanted)

    run(Small, "--apply")
    assert on(backend.url, differences)
    run(Visit, "--apply")
    assert on(backend.url, differences) == []


ENV = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""


@pytest.fixture
def scripts(tmp_path):
    """A team's own Alembic, with a revision of theirs."""
    folder = tmp_path / "migrations"
    versions = folder / "versions"
    versions.mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    (versions / "0001_theirs.py").write_text(
        'revision = "0001"\ndown_revision = None\n'
        "from alembic import op\nimport sqlalchemy as sa\n\n\ndef upgrade():\n"
        '    op.create_table("customers", sa.Column("id", sa.Integer, primary_key=True))\n'
    )
    return versions


def upgrade(url, scripts):
    config = Config()
    config.set_main_option("script_location", str(scripts.parent))
    config.set_main_option("path_separator", "os")

    def to_the_head(connection, _driver):
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    on(url, to_the_head)


def test_written_for_alembic(backend, run, scripts):
    """Revisions that a team runs with its own come to the same as `--apply`, renaming included."""
    code, out, _ = run(Small, "--write", str(scripts))
    assert code == 0
    (first,) = set(scripts.glob("*.py")) - {scripts / "0001_theirs.py"}
    assert str(first) in out
    assert 'down_revision = "0001"' in first.read_text().replace("'", '"')
    upgrade(backend.url, scripts)
    assert run(Small, "--plan")[:2] == (0, "")
    with Store.open(backend.url, create="never") as store:
        store.collection(Small).apply("ada", Small.turns.add(1), Small.history.append("a"))

    run(Visit, "--write", str(scripts))
    upgrade(backend.url, scripts)
    assert run(Visit, "--plan")[0] == 0
    found = cells(backend.url, Visit)
    assert (found["turns"], list(found["history"])) == ({"": 1}, [b'"a"'])
    with Store.open(backend.url, create="never") as store:
        store.collection(Visit).apply("ada", *edits(Visit))

    options = ("--rename=visit.turns=rounds", "--rename=visit.history=past")
    run(Renamed, "--write", str(scripts), *options)
    upgrade(backend.url, scripts)
    assert run(Renamed, "--plan")[0] == 0
    found = cells(backend.url, Renamed)
    assert (found["rounds"], list(found["past"])) == (
        {"": 2**53 + 2},
        [b'"a"', b'"hello"', b'"again"'],
    )
    assert "customers" in backend.has()


def test_a_script_stands_by_itself(backend, run, scripts):
    """It goes on working, whatever becomes of statehold's own column types."""
    run(Visit, "--write", str(scripts))
    (script,) = set(scripts.glob("*statehold*.py"))
    text = script.read_text()
    assert not re.search(r"^(import|from) statehold", text, re.MULTILINE)
    assert "statehold.drivers" not in text


def test_nothing_to_write(backend, run, scripts):
    run(Small, "--apply")
    assert run(Small, "--write", str(scripts))[:2] == (0, "")
    assert len(list(scripts.glob("*.py"))) == 1


def test_where_it_cannot_be_written(backend, run, scripts):
    code, _, error = run(Small, "--write", str(scripts / "nowhere"))
    assert (code, "folder not found" in error) == (2, True)
    (scripts / "0002_other.py").write_text('revision = "0002"\ndown_revision = None\n')
    code, _, error = run(Small, "--write", str(scripts))
    assert (code, "several heads" in error) == (2, True)
