"""Nothing lost, nothing doubled: several processes with many tasks each, while connections break.

A few seconds in each run; `STATEHOLD_ROUNDS=20` makes it a minute.
"""

import contextlib
import random
import sqlite3
import time
from dataclasses import replace

import pytest

from statehold.testing.backend import rounds
from tests.faults.storm import Plan, storm

SECONDS = max(3.0, rounds(30) / 10)
"""How long each storm lasts, from when its processes have opened their stores."""

SHAPES = {
    "one state": {"states": 1},
    "one state, deleted now and then": {"states": 1, "deletes": 0.01},
    "a hundred states, deleted now and then": {"states": 100, "deletes": 0.02},
}


def plans(url, shape, **options):
    """Four processes of a hundred tasks."""
    return [Plan(url, f"p{n}", SECONDS, **SHAPES[shape], **options) for n in range(4)]


def nothing_went_wrong(url, shape, *, disturb=None, **options):
    verdict = storm(
        url, plans=plans(url, shape, **options), states=SHAPES[shape]["states"], disturb=disturb
    )
    assert verdict.faults == (0, 0, 0, 0), verdict
    assert verdict.acknowledged > 100, verdict
    assert shape == "one state" or verdict.deletes, verdict


@pytest.mark.parametrize("shape", SHAPES)
def test_redis(statehold_redis, shape):
    statehold_redis.flush()
    nothing_went_wrong(statehold_redis.url, shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_valkey(statehold_valkey, shape):
    statehold_valkey.flush()
    nothing_went_wrong(statehold_valkey.url, shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_cluster(statehold_redis_cluster, shape):
    """No proxy stands before the nodes, so their connections are killed."""

    def kill(until):
        while time.monotonic() < until:
            time.sleep(random.uniform(0.3, 0.9))
            node = random.choice(statehold_redis_cluster.masters())
            node.cli("CLIENT", "KILL", "TYPE", "normal")

    for node in statehold_redis_cluster.masters():
        node.flush()
    nothing_went_wrong(statehold_redis_cluster.url, shape, disturb=kill, through_proxy=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_postgres(statehold_postgres, shape):
    nothing_went_wrong(statehold_postgres.new_database(), shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_mariadb(statehold_mariadb, shape):
    nothing_went_wrong(statehold_mariadb.new_database(), shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_sqlite_with_killed_processes(tmp_path, shape, synchronous):
    """Every commit that was acknowledged is there, and the file is whole, after kill -9."""
    path = tmp_path / "state.db"
    url, options = f"sqlite:///{path}", {"through_proxy": False, "tasks": 16, "pause": 0.002}
    options["settings"] = {"synchronous": synchronous}
    some = [replace(plan, stream=True) for plan in plans(url, shape, **options)]
    verdict = storm(url, plans=some, states=SHAPES[shape]["states"], kills=6)
    assert verdict.faults == (0, 0, 0, 0), verdict
    assert verdict.acknowledged > 50, verdict
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
