"""Fixtures of the kernel's tests."""

import contextlib

import pytest
import sample

from statehold import Store

BACKENDS = ["memory", "sqlite", "sqlite+sql", "token", "redis", "postgres", "mariadb"]


@pytest.fixture
def collection():
    """A collection of `sample.Everything` in memory."""
    with sample.opened() as (collection, _):
        yield collection


@pytest.fixture(params=BACKENDS)
def store(request, tmp_path):
    """A store of each backend; where a server is missing the test is skipped, or fails if required."""
    name = request.param
    with contextlib.ExitStack() as stack:
        settings = {}
        if name == "token":
            jars = pytest.importorskip("statehold.tokens")
            settings = {"keys": [jars.Key.new()], "budget": "1MB"}
            url = "token:"
            stack.enter_context(jars.Jar())
        elif name in ("sqlite", "sqlite+sql"):
            url = f"{name}:///{tmp_path}/values.db"
        elif name == "memory":
            url = "memory://"
        else:
            server = request.getfixturevalue(f"statehold_{name}")
            if name == "redis":
                server.flush()  # the classes here have one name
            url = server.url if name == "redis" else server.new_database()
        yield stack.enter_context(Store.open(url, **settings))
