"""A driver made of two others keeps what both promise."""

import pytest

from statehold.changes import Add
from statehold.commits import Commit
from statehold.driver import Failed, Feature, Written
from statehold.drivers.memory import MemoryDriver
from statehold.drivers.sqlite import SqliteDriver
from statehold.testing import Backend, DriverConformance
from statehold.testing.rig import drive
from tests.testing.layered import Halves
from tests.testing.toys import ToyDriver


class TestHalves(DriverConformance):
    """One half in memory, one in a file: neither shared nor durable."""

    @pytest.fixture
    def backend(self, tmp_path):
        path = str(tmp_path / "state.db")
        toys = []

        def opening():
            toys.append(ToyDriver())
            return Halves(toys[-1], SqliteDriver(path))

        return Backend(opening)


def halves_of_files(one, other):
    return Halves(SqliteDriver(one), SqliteDriver(other))


class TestHalvesOfFiles(DriverConformance):
    """Both halves in files: all that a file promises."""

    @pytest.fixture
    def backend(self, tmp_path):
        paths = (str(tmp_path / "one.db"), str(tmp_path / "other.db"))
        return Backend(lambda: halves_of_files(*paths), f"{__name__}:halves_of_files", paths)


def test_it_promises_what_both_promise(tmp_path):
    both = Halves(MemoryDriver(), SqliteDriver(str(tmp_path / "state.db")))
    promised = MemoryDriver.features & SqliteDriver.features
    assert both.features == promised - {Feature.SUBJECT, Feature.TOGETHER, Feature.WHOLE_LIVES}
    assert Feature.DURABLE not in both.features


def test_where_one_half_is_down_the_other_one_answers():
    one, other = ToyDriver(), ToyDriver()
    both = Halves(one, other)
    commits = [Commit(("t", "kind", f"{n}"), (Add("sum", "k", 1),), None) for n in range(8)]
    with other.outage():
        outcomes = drive(both.commit(commits, 1000.0))
    assert {type(outcome) for outcome in outcomes} == {Written, Failed}
    written = sum(isinstance(outcome, Written) for outcome in outcomes)
    assert (len(one.states), len(other.states)) == (written, 0)
