"""The kit catches what it is there to catch: broken drivers fail the case that is named for it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from statehold.driver import Doubtful
from statehold.testing import Backend
from statehold.testing.promises import broken
from statehold.testing.stateful import run
from tests.testing.broken import BROKEN
from tests.testing.toys import ToyDriver

SEEN_BY_THE_MACHINE = {
    "AppliesLate": {4},
    "ClaimsMakeStates": {3, 6, 7, 8, 12},
    "DeletesByPrefix": {2, 3, 6, 7, 12},
    "ErasesAgain": {2},
    "ErasuresRepeatCommits": {2},
    "ExpiresLate": {4},
    "ForgetsErasedFences": {7},
    "ForgetsMaxAge": {4},
    "ForgetsOps": {2},
    "GivesOutTwice": {7},
    "HalfApplies": {1, 3, 5},
    "IgnoresBounds": {5},
    "IgnoresConditions": {3},
    "IgnoresEpochs": {7},
    "IgnoresExpect": {3},
    "IgnoresIntents": {2},
    "KeepsOneTooMany": {5},
    "KeepsTheOthers": {1, 3, 6, 8},
    "LeavesOpsBehind": {2},
    "ReplacesAnything": {2, 3},
    "RepeatsRevisions": {6},
    "Resurrects": {3, 4, 6},
    "ServesOtherKinds": {8},
    "SortsItems": {1, 5},
    "TakesForgottenForNew": {2},
}
"""And which promise it says that they break."""


@pytest.fixture(scope="module")
def report():
    """What pytest says of the broken toys."""
    command = "-m pytest tests/testing/broken.py -q -rf --tb=short -p no:cacheprovider --no-header"
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_driver_is_caught_by_name(report, name):
    """Each broken toy fails the case that is named for what it breaks."""
    failed = set(re.findall(rf"^FAILED .*::Test{name}::(\w+)", report, re.MULTILINE))
    assert BROKEN[name][1] in failed, f"{name} was caught by {sorted(failed) or 'nothing'}"


def test_a_failure_names_the_promise(report):
    """Who reads the failure learns which promise is broken, and what the case protects."""
    assert "Broken promise 9, down is not absent" in report
    assert "While the store cannot answer every call raises `Unavailable`" in report


@pytest.mark.parametrize("name", SEEN_BY_THE_MACHINE)
def test_the_machine_sees_it_too(name, monkeypatch):
    """The stateful machine finds by itself what is broken, and says which promise that is.

    With one seed, since which of the promises it sees broken first is a matter of chance.
    """
    monkeypatch.setenv("STATEHOLD_SEED", "9")
    with pytest.raises(AssertionError) as caught:
        run(Backend(BROKEN[name][0], set_back=True), examples=1500)
    assert broken(caught.value) in SEEN_BY_THE_MACHINE[name], str(caught.value)


def test_the_correct_toy_passes_the_machine():
    run(Backend(ToyDriver, set_back=True))


def test_the_machine_plays_a_seed_again(monkeypatch):
    """A failure says its seed, with which the same examples come again, in a tenant of their own."""
    toy = BROKEN["AppliesLate"][0]

    def failure():
        with pytest.raises(AssertionError) as caught:
            run(Backend(toy), examples=300)
        notes = [re.sub(r"t[0-9a-f]{12}|incarnation=\d+", "", n) for n in caught.value.__notes__]
        return [note for note in notes if "commits [" in note], notes[-1]

    monkeypatch.setenv("STATEHOLD_SEED", "7")
    steps, told = failure()
    assert steps
    assert "STATEHOLD_SEED=7" in told
    assert "STATEHOLD_SHRINK=1" in told
    assert failure()[0] == steps


class Undecided(ToyDriver):
    """Where a state is absent, and so anything may have been forgotten, it is in doubt every third time."""

    asked = 0

    def step(self, commit, now):
        if commit.since is not None and commit.claim is None and not self.alive(commit.key, now):
            Undecided.asked += 1
            if Undecided.asked % 3 == 0 and (commit.key, commit.op) not in self.applied:
                return Doubtful()
        return super().step(commit, now)


def test_what_is_drawn_does_not_hang_on_answers(monkeypatch):
    """Of several right answers a driver may give any: the machine goes on, and draws the same."""
    monkeypatch.setenv("STATEHOLD_SEED", "8")
    run(Backend(Undecided, set_back=True), examples=25)
