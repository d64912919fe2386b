"""What a driver does not declare the kit does not ask for: with few features it passes, by skipping."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from statehold import Counter, State
from statehold.driver import Feature
from statehold.errors import Unsupported
from statehold.store import Store
from tests.testing.sparse import Least


class Visit(State, ttl=60):
    clicks = Counter()


@pytest.fixture(scope="module")
def report():
    """What pytest says of the drivers with no feature and with single ones, after few rounds."""
    command = "-m pytest tests/testing/sparse.py -q -rf --tb=short -p no:cacheprovider --no-header"
    once = (
        "TestNothing or not async"  # both APIs ask for the same: with single features, the sync one
    )
    done = subprocess.run(
        [sys.executable, *command.split(), "-k", once],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "STATEHOLD_ROUNDS": "0.05", "STATEHOLD_SEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(400)  # on a machine that is busy; half a minute otherwise
def test_what_is_not_declared_is_not_asked_for(report):
    """No case fails, and most of them do run."""
    assert re.findall(r"^FAILED .*", report, re.MULTILINE) == [], report
    passed = re.search(r"(\d+) passed", report)
    assert passed
    assert int(passed[1]) > 150 * (1 + len(Feature))


def test_a_driver_without_listings_needs_no_scan():
    """The least driver has no `scan`, and who lists its states is told that it cannot."""
    with Store(Least()) as store, pytest.raises(Unsupported):
        list(store.collection(Visit).scan())
