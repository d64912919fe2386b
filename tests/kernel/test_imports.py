"""`import holdfast` is light: what a service does not use it does not load."""

import subprocess
import sys

import pytest

HEAVY = {
    "anyio", "asyncio", "concurrent.futures", "email", "fastapi", "http", "httpx", "multiprocessing", "numpy", "pydantic",
    "pytest", "random", "redis", "rich", "socket", "sqlalchemy", "sqlite3", "ssl", "starlette",
    "unittest", "urllib.request", "uvicorn", "hypothesis",
}  # fmt: skip
ROOMS = {
    "holdfast.drivers",
    "holdfast.middleware",
    "holdfast.testing",
    "holdfast.server",
    "holdfast.cli",
    "holdfast.client",
    "holdfast.config",
    "holdfast.replay",
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
    found = loaded("import holdfast") - bare
    assert found & (HEAVY | ROOMS) == set()


def test_a_place_loads_its_own_driver_only(bare):
    code = """
import holdfast
class Chat(holdfast.State, ttl=1):
    turns = holdfast.Counter()
    history = holdfast.Log(str, keep=3)
with holdfast.Store.open("memory://") as store:
    with store.collection(Chat).session("a") as chat:
        chat.turns += 1
        chat.history.append("x")
"""
    found = loaded(f"exec({code!r})") - bare
    drivers = {name.split(".")[2] for name in found if name.startswith("holdfast.drivers.")}
    assert drivers == {"memory"}
    assert found & (HEAVY | ROOMS) == {"holdfast.drivers"}


def test_all_that_is_public_is_there():
    import holdfast

    assert sorted(holdfast.__all__, key=lambda n: (not n.isupper(), n)) == holdfast.__all__
    for name in holdfast.__all__:
        assert getattr(holdfast, name).__doc__ or name.isupper()
