"""Backends on real Redis servers."""

import contextlib

import pytest

from statehold.backends import open_driver
from statehold.drivers.redis.keys import Keys
from statehold.testing import Backend
from tests.redis.client.linking import TICK


def damage(server, key, field):
    """Put something else in the place of a list, or of a field's entry."""
    _, state = Keys().state(key)
    if field == "log":
        server.cli("SET", state + b":" + field.encode(), "no list", "KEEPTTL")
    else:
        server.cli("HSET", state, f"{field}:k", "12x")


@contextlib.contextmanager
def stalled(proxy):
    """Nobody answers at the other end."""
    proxy.refuse()
    proxy.reset()
    yield
    proxy.accept()


def emptied(request):
    """The server that a fixture's parameter names, with nothing in it."""
    server = request.getfixturevalue(request.param)
    server.flush()
    return server


@pytest.fixture
def redis(statehold_redis):
    """A server with nothing in it."""
    statehold_redis.flush()
    return statehold_redis


@pytest.fixture
def redis_backend(redis):
    """A backend on a server of its own data."""
    from statehold.testing.proxy import Proxy

    with Proxy(redis.port) as proxy:
        url = proxy.through(redis.url)
        yield Backend(
            open=lambda: open_driver(url, timeout=2.0),  # what an outage costs a case, twice or so
            recipe="statehold.backends:open_driver",
            arguments=(url,),
            own_clock=TICK,
            outage=lambda: stalled(proxy),
            corrupt=lambda key, field: damage(redis, key, field),
        )
