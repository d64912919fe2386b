"""What the driver knows of the database's clock, and which errors are the database's."""

import pytest
from sqlalchemy import exc

from statehold import ConfigError
from statehold.drivers.sql.errors import ERRORS, translated
from statehold.drivers.sql.serverclock import ServerClock


def test_the_clock_is_never_thought_later_than_it_is():
    """Whatever the answers' delays: between the bounds of all of them."""
    clock = ServerClock()
    assert clock.earliest(5.0) is None
    clock.learn(1000.3, sent=10.0, received=10.9)  # ahead by 989.4 to 990.3
    assert clock.earliest(10.9) == pytest.approx(1000.3)
    clock.learn(1001.05, sent=11.0, received=11.1)  # by 989.95 to 990.05
    assert clock.earliest(11.1) == pytest.approx(1001.05, abs=0.002)
    clock.learn(1002.0, sent=11.5, received=13.0)  # which says less
    assert 1002.93 < clock.earliest(13.0) <= 1003.0


def test_a_clock_that_was_set_is_learned_anew():
    """Forwards and back."""
    clock = ServerClock()
    clock.learn(1000.0, sent=10.0, received=10.1)
    for said in (5000.0, 20.0):
        clock.learn(said, sent=11.0, received=11.1)
        assert clock.earliest(11.1) == pytest.approx(said)


@pytest.mark.parametrize(
    "error",
    [exc.ArgumentError("x"), exc.CompileError("x"), exc.InvalidRequestError("x"), TypeError("x")],
    ids=lambda error: type(error).__name__,
)
def test_a_mistake_of_the_program_is_not_the_database_being_down(error):
    """It is raised as it is: trying again would not help, and a default would hide it."""
    assert not isinstance(error, ERRORS)


def test_a_statement_that_is_not_taken_is_not_the_database_being_down():
    error = exc.ProgrammingError("SELECT", None, Exception("unknown"))
    assert isinstance(translated(error, "url"), ConfigError)
