"""The faults of `make mutants` fit the code that they are planted in, and the kit catches them.

All of them take long. Here each one is planted, and the kit runs on one of them, and on none.
"""

import pytest

from mutants.__main__ import PLANTED, main, misfit, try_one
from mutants.mutant import Mutant

EVERY = [mutant for mutants in PLANTED.values() for mutant in mutants]


def test_every_fault_fits_one_place():
    assert len(EVERY) >= 60
    assert [problem for mutant in EVERY if (problem := misfit(mutant))] == []


def test_every_fault_is_another():
    assert len({mutant.planted() for mutant in EVERY}) == len(EVERY)


def test_a_fault_that_does_not_fit_is_told(monkeypatch, capsys):
    odd = Mutant("kind", "a fault", "src/statehold/changes.py", "no such text", "")
    monkeypatch.setitem(PLANTED, "lmdb", [odd])
    monkeypatch.setattr("sys.argv", ["mutants", "--only", "a fault"])
    assert main() == 1
    assert "0 places for 'a fault'" in capsys.readouterr().out


def test_the_kit_catches_a_fault():
    pytest.importorskip("lmdb")
    fault = next(one for one in EVERY if one.fault == "one instant late")
    caught = try_one("lmdb", fault, machine=False)
    assert caught.by, caught.said
    assert caught.promise == "4", caught.said
