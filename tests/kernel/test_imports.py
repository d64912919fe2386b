"""`import statehold` is light: what a service does not use it does not load."""

import subprocess
import sys

import pytest

HEAVY = {
    "anyio", "asyncio", "concurrent.futures", "email", "fastapi", "http", "httpx", "multiprocessing", "numpy", "pydantic",
    "pytest", "random", "redis", "rich", "socket", "sqlalchemy", "sqlite3", "ssl", "starlette",
    "unittest", "urllib.request", "uvicorn", "hypothesis",
}  # fmt: skip
ROOMS = {
    "statehold.drivers",
    "statehold.middleware",
    "statehold.testing",
    "statehold.server",
    "statehold.cli",
    "statehold.client",
    "statehold.config",
    "statehold.replay",
}


def loaded(code):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def bare():
    return loaded("pass")


def test_import_loads_no_driver_and_nothing_heavy(bare):
    found = loaded("import statehold") - bare
    assert found & (HEAVY | ROOMS) == set()


def test_a_place_loads_its_own_driver_only(bare):
    code = """
import statehold
class Chat(statehold.State, ttl=1):
    turns = statehold.Counter()
    history = statehold.Log(str, keep=3)
with statehold.Store.open("memory://") as store:
    with store.collection(Chat).session("a") as chat:
        chat.turns += 1
        chat.history.append("x")
"""
    found = loaded(f"exec({code!r})") - bare
    drivers = {name.split(".")[2] for name in found if name.startswith("statehold.drivers.")}
    assert drivers == {"memory"}
    assert found & (HEAVY | ROOMS) == {"statehold.drivers"}


def test_all_that_is_public_is_there():
    import statehold

    assert sorted(statehold.__all__, key=lambda n: (not n.isupper(), n)) == statehold.__all__
    for name in statehold.__all__:
        assert getattr(statehold, name).__doc__ or name.isupper()
