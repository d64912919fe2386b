"""The pytest plugin: its fixtures work together, and cost nothing until they are used."""

import subprocess
import sys

import pytest

from statehold import Counter, State
from statehold.errors import Unavailable


class Visit(State, ttl=60):
    clicks = Counter()


def test_the_fixtures_are_one_store(statehold_store, statehold_clock, statehold_driver):
    """The store takes its time from the clock, and goes down with the driver."""
    visits = statehold_store.collection(Visit)
    visits.apply("a", Visit.clicks.add(1))
    with statehold_driver.outage(), pytest.raises(Unavailable):
        visits.get("a")
    statehold_clock.advance(59)
    assert visits.get("a").meta.exists
    statehold_clock.advance(1)
    assert not visits.get("a").meta.exists


def test_both_faces_have_the_same_states(statehold_store, statehold_async_store):
    """What is written through one face is there through the other."""
    statehold_store.collection(Visit).apply("a", Visit.clicks.add(2))
    reading = statehold_async_store.collection(Visit).get("a")
    with pytest.raises(StopIteration) as done:
        reading.send(None)
    assert done.value.value.clicks == 2


def test_loading_the_plugin_loads_little():
    """A session that uses none of the fixtures loads no store, driver or Hypothesis for them."""
    # `import statehold` may load more of its own, so what counts is what the plugin adds to it
    program = (
        "import pytest, sys, statehold; before = set(sys.modules); import statehold.testing.plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == ["statehold.testing", "statehold.testing.plugin"]
