"""Pauses before another try."""

import pytest

from statehold.clock import AMBIENT, pause


@pytest.fixture(params=[0.0, 0.5, 1 - 2**-53])
def fraction(request, monkeypatch):
    monkeypatch.setattr(AMBIENT, "fraction", lambda: request.param)
    return request.param


def test_pauses_double_up_to_the_longest(fraction):
    found = [pause(tries, 0.001, 0.25) for tries in (0, 1, 2, 7, 8, 9, 10**6)]
    assert found == [most * fraction for most in (0.001, 0.002, 0.004, 0.128, 0.25, 0.25, 0.25)]


def test_a_part_of_a_pause_is_waited_in_any_case(fraction):
    assert pause(3, 0.01, 0.5, least=0.5) == pytest.approx(0.04 + 0.04 * fraction)
    assert 0.25 <= pause(50, 0.01, 0.5, least=0.5) <= 0.5


def test_pauses_differ():
    assert len({pause(0, 1.0, 1.0) for _ in range(9)}) > 1
