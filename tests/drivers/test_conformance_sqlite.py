"""The SQLite driver keeps the contract, alone and with commits grouped above it."""

import contextlib
import functools
import json
import sqlite3

import pytest

from statehold.drivers.sqlite import SqliteDriver
from statehold.middleware.coalesce import Coalesce
from statehold.testing import Backend, DriverConformance
from tests.variants import Variant


def grouped(path, *, in_thread=False):
    """The driver as a store opens it for asynchronous callers."""
    return Coalesce(SqliteDriver(path), in_thread=in_thread)


def damage(path, key, field):
    """Put text, which is never stored, where the field's values are."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        number, state, shape = conn.execute(
            "SELECT f.number, s.id, s.shape FROM state s, field f"
            " WHERE (tenant, kind, key, name) = (?, ?, ?, ?)",
            (*key, field),
        ).fetchone()
        held = json.loads(shape)[str(number)]
        if isinstance(held, list):
            conn.execute("UPDATE item SET value = 'x' WHERE id >> 24 = ?", (held[0],))
        else:
            conn.execute("UPDATE cell SET value = 'x' WHERE slot = ?", (state << 16 | number,))


def stored(path):
    """Every value of every table."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        tables = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = [row for (name,) in tables for row in conn.execute(f"SELECT * FROM {name}")]
        return repr(rows).encode()


@contextlib.contextmanager
def held(path):
    """Another connection is writing."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        yield


@contextlib.contextmanager
def interrupted(drivers):
    """SQLite gives up whatever it is asked."""
    cursors = [driver._file._cursor for driver in drivers if driver._file._cursor]
    for cursor in cursors:
        cursor.connection.set_progress_handler(lambda: 1, 1)
    yield
    for cursor in cursors:
        cursor.connection.set_progress_handler(None, 1)


class TestSqlite(DriverConformance):
    @pytest.fixture
    def backend(self, tmp_path):
        path = str(tmp_path / "state.db")
        opened = []

        def opening():
            opened.append(SqliteDriver(path, busy_timeout_ms=2000))
            return opened[-1]

        return Backend(
            open=opening,
            recipe="statehold.drivers.sqlite:SqliteDriver",
            arguments=(path,),
            outage=lambda: interrupted(opened),
            corrupt=functools.partial(damage, path),
            raw=lambda: stored(path),
            held=lambda: held(path),
            set_back=True,
        )


class TestGrouped(Variant):
    @pytest.fixture
    def backend(self, tmp_path):
        path = str(tmp_path / "state.db")
        return Backend(lambda: grouped(path), f"{__name__}:grouped", (path,))


class TestGroupedInThread(Variant):
    @pytest.fixture
    def backend(self, tmp_path):
        path = str(tmp_path / "state.db")
        return Backend(lambda: grouped(path, in_thread=True), f"{__name__}:grouped", (path,))
