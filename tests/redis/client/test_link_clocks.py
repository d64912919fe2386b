"""What time it is at a server, by what it answers."""

import math

import pytest

from statehold.drivers.redis.client.clocks import ServerClock


def test_a_server_s_clock_is_known_ever_more_closely():
    """Each answer bounds it; one that contradicts the others means that it was set."""
    clock = ServerClock()
    assert clock.ahead == -math.inf
    clock.learn(100.0, 0.0, 1.0)
    assert clock.ahead == 99.0
    clock.learn(101.0, 1.0, 1.2)
    assert clock.ahead == pytest.approx(99.8)
    clock.learn(110.5, 10.0, 15.0)  # slow, and says nothing new
    assert clock.ahead == pytest.approx(99.8)
    clock.learn(80.0, 20.0, 20.1)  # set back
    assert clock.ahead == pytest.approx(59.9)
    clock.learn(500.0, 21.0, 21.1)  # set forward
    assert clock.ahead == pytest.approx(478.9)
    clock.correct(600.0, 30.0)
    assert clock.ahead == 570.0
