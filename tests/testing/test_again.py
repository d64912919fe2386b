"""What fails beside others is played again alone: what passes then passes, and is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = """
import pathlib
import pytest

def once(name):
    seen = pathlib.Path(__file__).with_name(name)
    try:
        return not seen.exists()
    finally:
        seen.touch()

def test_that_passes():
    pass

@pytest.mark.parametrize("case", ["a name", "b::[c]"])
def test_that_fails_beside_others(case):
    assert not once("one" + case[0]), "the first time"

"""
BROKEN = "def test_that_is_broken():\n    assert False, 'again'\n"
BY_CHANCE = """
@pytest.mark.chance
def test_by_chance():
    assert not once("chance"), "a Timeout is only spoken of"
"""
LATE = """
from statehold.errors import Timeout

@pytest.mark.chance
@pytest.mark.parametrize("how", ["alone", "among others", "in words"])
def test_that_was_late(how):
    if once(f"late {how}"):
        late = Timeout("no answer within 2 s")
        if how == "in words":
            raise RuntimeError(f"Flaky: {late!r}") from late
        raise late if how == "alone" else ExceptionGroup("some", [late])
"""
FOUND_LATE = """
@pytest.mark.chance
def test_found_late():
    try:
        raise TimeoutError("no answer")
    except TimeoutError:
        assert not once("found late"), "and something was lost"
"""
CRASH = "def test_that_ends_its_worker():\n    if once('crash'): import os; os._exit(3)\n"
MANY = """
@pytest.mark.parametrize("case", range(9))
def test_many(case):
    assert not once(f"many{case}")
"""
CONFTEST = """
from tests.again import Again

def pytest_configure(config):
    config.addinivalue_line("markers", "chance: by chance")
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Again(config))
"""


def play(folder, suite, *arguments):
    """The exit code and output of a run with two workers."""
    (folder / "test_suite.py").write_text(suite)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:valkey\n")
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    ended = subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True
    )
    return ended.returncode, ended.stdout


def test_what_passes_alone_passes_and_is_told(tmp_path):
    code, output = play(tmp_path, SUITE, "-n", "2")
    assert code == 0, output
    (said,) = [line for line in output.splitlines() if "passed when played alone" in line]
    assert "[a name]" in said
    assert "[b::[c]]" in said
    assert "2 passed" in output
    assert "2 failed, 1 passed" in output
    assert "the first time" in output


def test_what_a_time_limit_ended_is_played_again(tmp_path):
    code, output = play(tmp_path, SUITE + LATE, "-n", "2")
    assert code == 0, output
    assert "5 passed" in output


def test_without_workers_nothing_is_played_again(tmp_path):
    code, output = play(tmp_path, SUITE)
    assert code == 1
    assert "alone" not in output


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (BROKEN, "failed again when played alone"),
        (BY_CHANCE, "chance decides"),
        (FOUND_LATE, "chance decides"),
        (CRASH, "a worker crashed"),
        (MANY, "11 are more than 8"),
    ],
    ids=["broken", "by chance", "found late", "a crash", "many"],
)
def test_what_may_be_a_finding_stays_a_failure(tmp_path, more, said):
    code, output = play(tmp_path, SUITE + more, "-n", "2")
    assert code == 1, output
    assert said in output
