"""What has ended takes no more room than what lives, and to delete it holds nobody up."""

import contextlib
import itertools
import sqlite3
import subprocess
import sys
import time

import pytest

from statehold.changes import Add, Append, Drop, Put
from statehold.commits import EVERYTHING, HOLD_SECONDS, Commit
from statehold.driver import Swept
from statehold.drivers.sqlite import SqliteDriver, erasing, sweeping
from statehold.engine import run_now
from statehold.errors import Invalid

NOW = 1_700_000_000.0
LARGE = 3 * erasing.AT_ONCE
SECRET = b"KELP-4711"
LATER = NOW + 60
"""When what was to live for 5 s has ended, also if its commit had to wait: that counts."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@contextlib.contextmanager
def opened(path):
    driver = SqliteDriver(path)
    try:
        yield driver
    finally:
        run_now(driver.close())


@pytest.fixture
def driver(path):
    with opened(path) as driver:
        yield driver


def key(id):
    return ("", "chat", str(id))


def counts(path):
    with contextlib.closing(sqlite3.connect(path)) as conn:
        return {
            table: conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("state", "cell", "item", "op", "erased", "fence")
        }


def rows_changed(driver, commits, now=NOW):
    """How many rows a call inserts, changes and deletes; there are a few more, of other tables."""
    writer = driver._file._writer
    before = writer.total_changes
    run_now(driver.commit(commits, now))
    return writer.total_changes - before


def gone(path, seconds=20.0):
    """Whether the secret leaves the file and its log; read by another process, as they are in use."""
    until = time.monotonic() + seconds
    while True:
        found = subprocess.run(
            ["grep", "-rlc", SECRET.decode(), str(path.parent)], capture_output=True, check=False
        )
        if not found.stdout or time.monotonic() > until:
            return not found.stdout
        time.sleep(0.02)


def large(id="large", ttl=None, **kw):
    items = [SECRET + b" %d" % n for n in range(LARGE)]
    entries = [Put("map", f"{n}", b"%d" % n) for n in range(50)]
    return Commit(key(id), (Append("log", tuple(items), LARGE), *entries), ttl, **kw)


# ------------------------------------------------------------------------------------- how much


@pytest.mark.parametrize(
    ("together", "items"), [(1, 1), (1, 100), (64, 20), (256, 1), (256, 20), (1024, 1)]
)
def test_what_has_ended_is_no_more_than_what_lives(driver, path, together, items):
    """With any number of commits in a call, and of items in a commit that makes a state."""
    lives = max(128, together)
    added = (Append("log", tuple(b"%d" % n for n in range(items)), 100),)
    ids, now, most = itertools.count(), NOW, 0.0
    for _ in range(8 * lives // together):
        commits = [Commit(key(next(ids)), added, float(lives)) for _ in range(together)]
        run_now(driver.commit(commits, now))
        now += together
        if now > NOW + 4 * lives and (now - NOW) % lives == 0:
            most = max(most, counts(path)["state"] / lives)
    assert most <= 2.5
    assert counts(path)["item"] <= 2.5 * lives * items


def test_what_is_remembered_of_erasures_and_epochs_is_bounded_by_time(driver, path):
    """By what was erased within the last minute, and as much again, however many at once."""
    now, together = NOW, 80
    for n in range(25):
        ids = [f"{n}.{k}" for k in range(together)]
        made = [Commit(key(id), (Add("n", "", 1),), None, epoch=1) for id in ids]
        erased = [Commit(key(id), (), None, op="x", epoch=1, erase=True) for id in ids]
        run_now(driver.commit(made, now))
        run_now(driver.commit(erased, now))
        now += HOLD_SECONDS / 10
    found = counts(path)
    assert found["state"] == 0
    assert max(found["erased"], found["fence"]) <= 2 * 10 * together


def test_a_burst_is_deleted_a_share_with_each_commit(driver, path):
    """What ends at once goes by and by: no commit deletes more than were made, and a share."""
    for begin in range(0, 1000, 500):
        some = range(begin, begin + 500)
        run_now(driver.commit([Commit(key(n), (Add("n", "", 1),), 5.0) for n in some], NOW))
    left = counts(path)["state"]
    while left > 1:
        hot = [Commit(key("hot"), (Add("n", "", 1),), 60.0)] * 64
        run_now(driver.commit(hot, NOW + 10))
        left, before = counts(path)["state"], left
        assert before - left <= 2 * 64 * sweeping.SHARE + 1
        assert left < before or left > 1
    assert driver.stats()["expired_total"] == 1000


# --------------------------------------------------------------------------------- one large state


@pytest.mark.parametrize("how", ["delete", "anew", "sweep", "clear"])
def test_a_large_state_ends_in_a_few_rows(path, how):
    """Whoever ends it pays for its name; nothing of it is seen any more, and soon it is gone."""
    with opened(path) as driver:
        run_now(driver.commit([large(ttl=5.0)], NOW))
        if how == "sweep":
            other = [Commit(key("other"), (Add("n", "", 1),), 60.0)] * 300
            changed = rows_changed(driver, other, NOW + 5)  # it may begin beyond it
            changed = max(changed, rows_changed(driver, other, NOW + 5))
        else:
            commit = {
                "delete": Commit(key("large"), (), None, erase=True),
                "anew": Commit(key("large"), (Append("log", (b"new",), LARGE),), 60.0),
                "clear": Commit(key("large"), (Drop("log"), Append("log", (b"new",), 9)), 60.0),
            }[how]
            changed = rows_changed(driver, [commit], NOW + 5 * (how == "anew"))
        assert changed < 20
        (cells,) = run_now(driver.read([key("large")], EVERYTHING, NOW + 5))
        if how in ("anew", "clear"):
            assert list(cells.fields["log"]) == [b"new"]
            assert ("map" in cells.fields) == (how == "clear")
        else:
            assert cells is None
        with contextlib.closing(sqlite3.connect(path)) as conn:
            for view in ("states", "entries", "items"):
                assert not conn.execute(f"SELECT * FROM {view} WHERE id IS NULL").fetchall()
        run_now(driver.commit([Commit(key("next"), (Append("log", (b"1",), 9),), None)], NOW + 5))
        assert gone(path)
        (cells,) = run_now(driver.read([key("next")], EVERYTHING, NOW + 5))
        assert list(cells.fields["log"]) == [b"1"]
    found = counts(path)
    assert found["item"] == 1 + (how in ("anew", "clear"))
    assert found["cell"] == {"clear": 50, "sweep": 1}.get(how, 0)


def test_a_large_state_that_was_erased_is_gone_when_the_store_is_closed(path):
    with opened(path) as driver:
        run_now(driver.commit([large()], NOW))
        run_now(driver.commit([Commit(key("large"), (), None, erase=True)], NOW))
    assert gone(path, 0)
    assert set(counts(path).values()) == {0}


KILLED = """
import os, sys
from statehold.commits import Commit
from statehold.drivers.sqlite import SqliteDriver
from statehold.engine import run_now
driver = SqliteDriver(sys.argv[1])
run_now(driver.commit([Commit(("", "chat", "large"), (), None, erase=True)], 1.7e9))
os._exit(0)
"""


def test_what_a_killed_process_left_of_a_large_state_is_deleted(path):
    """By whoever opens the file next."""
    with opened(path) as driver:
        run_now(driver.commit([large()], NOW))
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=True)
    with opened(path) as driver:
        assert run_now(driver.read([key("large")], EVERYTHING, NOW)) == [None]
        assert gone(path)


# ------------------------------------------------------------------------------ when it is asked for


def test_a_sweep_that_is_asked_for_goes_over_everything_in_pieces(driver, path):
    """No piece looks at more than so many; at the end nothing is left of what has ended."""
    states = 2 * sweeping.PIECE + 10
    one = (Append("log", (b"1",), 9),)
    every = [Commit(key(n), one, 5.0 if n % 500 else None) for n in range(states)]
    run_now(driver.commit(every, NOW))
    run_now(driver.commit([large("huge", 5.0)], NOW))
    gone_before = driver.stats()["expired_total"]
    after, removed, pieces = "", 0, 0
    while after is not None:
        swept = run_now(driver.sweep(LATER, after))
        assert isinstance(swept, Swept)
        assert swept.removed <= sweeping.PIECE
        after, removed, pieces = swept.after, removed + swept.removed, pieces + 1
    assert removed + gone_before == states + 1 - 5
    assert 3 <= pieces <= 8
    assert {name: n for name, n in counts(path).items() if n} == {"state": 5, "item": 5}
    assert run_now(driver.sweep(LATER)) == Swept(0, None)


def test_a_sweep_goes_on_only_where_one_ended(driver):
    with pytest.raises(Invalid, match="sweep"):
        run_now(driver.sweep(NOW, "a redis cursor"))


def test_a_file_gives_back_what_it_does_not_need(driver, path):
    """A piece with each part of a sweep, as long as more than half of it is free."""
    item = b"x" * 900
    for begin in range(0, 6000, 1000):
        some = range(begin, begin + 1000)
        every = [Commit(key(n), (Append("log", (item,), 9),), 5.0) for n in some]
        run_now(driver.commit(every, NOW))
    before = path.stat().st_size + path.with_name("state.db-wal").stat().st_size
    assert before > 6_000_000
    after = ""
    while after is not None:
        after = run_now(driver.sweep(LATER, after)).after
    run_now(driver.close())
    assert path.stat().st_size < 2 * sweeping.PAGES * 1024


def test_half_a_megabyte_is_given_back_at_a_time(driver, path):
    """In one piece, so that what waits for the last of them, such as the emptying of the log, need not wait long."""
    commits = [Commit(key(n), (Put("text", "", bytes(1000)),), 5.0) for n in range(4000)]
    run_now(driver.commit(commits, NOW))
    run_now(driver.close())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("DELETE FROM cell")

        def free():
            return conn.execute("PRAGMA freelist_count").fetchone()[0]

        before = free()
        assert before > 4 * sweeping.PAGES
        assert sweeping.tidy(conn)
        assert before - free() == sweeping.PAGES
