"""What every test may rely on: a Hypothesis profile, real data or a clear skip, no leaks."""

import asyncio
import inspect
import itertools
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import is_hypothesis_test, settings

from statehold.testing.servers.database import DatabaseServer
from tests.again import Again
from tests.needs import require

ROOT = Path(__file__).parent.parent

MEMORY = Path("/dev/shm")
ROOM = 8 << 30
"""Bytes that are to be free there; three workers and their servers were seen to hold 1.2 GB."""

if "TMPDIR" not in os.environ and MEMORY.is_dir():
    # A disk that others use too stands still for seconds, for which servers then keep one waiting.
    there = os.statvfs(MEMORY)
    if there.f_bavail * there.f_frsize >= ROOM and not there.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores it for what runs in the background, and so would every command under test.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the real data files."""
    folder = Path(os.environ.get("STATEHOLD_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        require("data", f"no data files at {folder} (STATEHOLD_DATA names another folder)")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of an installed Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        require("chromium", "not installed (Debian: apt-get install chromium)")
    return path


_databases: list[DatabaseServer] = []


@pytest.fixture(scope="session")
def statehold_postgres(statehold_postgres: DatabaseServer) -> DatabaseServer:
    """The kit's, whose databases end with the test that made them."""
    _databases.append(statehold_postgres)
    return statehold_postgres


@pytest.fixture(scope="session")
def statehold_pgvector(statehold_pgvector: DatabaseServer) -> DatabaseServer:
    """The kit's, whose databases end with the test that made them."""
    _databases.append(statehold_pgvector)
    return statehold_pgvector


@pytest.fixture(scope="session")
def statehold_mariadb(statehold_mariadb: DatabaseServer) -> DatabaseServer:
    """The kit's, whose databases end with the test that made them."""
    _databases.append(statehold_mariadb)
    return statehold_mariadb


@pytest.fixture(autouse=True)
def dropped_databases() -> Iterator[None]:
    """Hundreds of databases are gigabytes, which take a slow disk minutes to delete in the end."""
    yield
    for server in _databases:
        server.drop_databases()


ROUNDS = float(os.environ.get("STATEHOLD_ROUNDS", "1"))
IS_DEEP = ROUNDS > 1

# The folders whose tests take longest, those first: what is left for the end is short, so that no
# worker of pytest-xdist still has a long one when the others have nothing left.
LONGEST = ("faults", "sql", "redis", "testing", "examples", "replay", "server", "drivers")
SAMPLE = 6  # one of so many


def pytest_configure(config: pytest.Config) -> None:
    """What fails beside others is played again alone, where workers play beside each other."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Again(config))


@pytest.hookimpl(tryfirst=True)  # before -m chooses by the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose what is run, mark what grows with STATEHOLD_ROUNDS, and begin with what takes long."""
    left_out = [item for item in items if not IS_DEEP and (is_deep(item) or is_spared(item))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    for item in items:
        asked = {"rounds", "stateful"} & asked_for(item)
        if not asked and not is_hypothesis_test(getattr(item, "function", None)):
            continue
        item.add_marker("rounds")
        if "rounds" in asked or (asked and not settings().derandomize):
            item.add_marker("chance")
        # The kit's machine plays a thousand steps, which takes a database half a minute or more.
        seconds = 500 if item.name == "test_driver_and_model_agree" else 120
        if IS_DEEP or seconds > 120:
            item.add_marker(pytest.mark.timeout(seconds * max(1, ROUNDS)), append=False)
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=place_in_line)


def is_deep(item: pytest.Item) -> bool:
    """Whether it is for `make test-deep` only."""
    return item.get_closest_marker("deep") is not None


def is_spared(item: pytest.Item) -> bool:
    """Whether it is a case of the API that the backend's first way has, and not in the sample."""
    is_variant = getattr(getattr(item, "cls", None), "is_variant", False)
    return (
        is_variant
        and item.name.startswith("test_face_")
        and zlib.crc32(item.nodeid.encode()) % SAMPLE != 0
    )


def asked_for(item: pytest.Item) -> set[str]:
    """What its function asks its module for."""
    function = getattr(item, "function", None)
    return set() if function is None else set(names_in(inspect.unwrap(function).__code__))


def names_in(code: CodeType) -> Iterator[str]:
    """What a function asks its module for, in the functions inside it too."""
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from names_in(const)


def place_in_line(item: pytest.Item) -> tuple[int, bool]:
    """Smaller is earlier."""
    folder = item.path.parent.name
    place = LONGEST.index(folder) if folder in LONGEST else len(LONGEST)
    return place, item.get_closest_marker("rounds") is None


# An audit hook sees every SQLite connection, also those that a driver opens in a thread. Holding
# on to them is what tells a closed connection from one that was merely collected.
_connections: list[sqlite3.Connection] = []


def _on_audit(event: str, args: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect/handle":
        _connections.append(args[0])


sys.addaudithook(_on_audit)


def _is_open(connection: sqlite3.Connection) -> bool:
    try:
        connection.total_changes  # noqa: B018 - raises once closed, from any thread
    except sqlite3.ProgrammingError:
        return False
    return True


SWEEPING = {"Sweeps._work", "AsyncConnection.close"}
"""Of a SQL store that is not closed yet: a sweep under way, and SQLAlchemy's end of it. It ends with its event loop."""


@pytest.fixture(autouse=True)
def leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a task, a thread or an SQLite connection behind."""
    if request.node.get_closest_marker("leaks"):
        yield
        return

    tasks: dict[asyncio.Runner, set[asyncio.Task[Any]]] = {}  # of each runner, after its last run
    run = asyncio.Runner.run

    def watched(runner: asyncio.Runner, *args: Any, **kwargs: Any) -> Any:
        try:
            return run(runner, *args, **kwargs)
        finally:
            left = asyncio.all_tasks(runner.get_loop())
            tasks[runner] = {t for t in left if t.get_coro().__qualname__ not in SWEEPING}

    threads = set(threading.enumerate())
    _connections.clear()
    with patch.object(asyncio.Runner, "run", watched):
        yield
    started = set(threading.enumerate()) - threads
    for thread in started:
        thread.join(5)  # one that was told to stop may still be on its way out
    left = [
        *itertools.chain(*tasks.values()),
        *(thread for thread in started if thread.is_alive()),
        *filter(_is_open, _connections),
    ]
    _connections.clear()
    assert not left, f"left behind: {left}"
