"""What the SQLite driver makes of files that it cannot use, or not entirely."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from needs import require
from statehold.backends import open_driver
from statehold.changes import Add, Append, Put
from statehold.commits import EVERYTHING, Commit, Want
from statehold.driver import FencedOff, Scan
from statehold.drivers.sqlite import SqliteDriver, from_url, schema
from statehold.engine import run_now
from statehold.errors import (
    Busy,
    ConfigError,
    Corrupted,
    Full,
    NotAStore,
    ReadOnly,
    StateholdError,
    Unavailable,
)

KEY = ("", "chat", "a")
NOW = 1_700_000_000.0


@contextlib.contextmanager
def opened(path, **settings):
    driver = SqliteDriver(path, **settings)
    try:
        yield driver
    finally:
        run_now(driver.close())


def write(driver, *changes, key=KEY, ttl=None):
    return run_now(driver.commit([Commit(key, changes, ttl)], NOW))[0]


def read(driver, want=EVERYTHING, key=KEY):
    return run_now(driver.read([key], want, NOW))[0]


def sql(path, *statements):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        return [conn.execute(statement).fetchall() for statement in statements]


@contextlib.contextmanager
def mounted(folder, *options):
    """A file system of its own on `folder`, or a skip where mounting is not allowed."""
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None:
        require("disk", "cannot mount: there is no program for it")
    made = subprocess.run(
        ["mount", *options, str(folder)], capture_output=True, check=False, text=True
    )
    if made.returncode:
        require("disk", f"cannot mount: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# --------------------------------------------------------------------------- what is not a store


def untouched(path):
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with opened(path) as driver:
        for call in (lambda: read(driver), lambda: write(driver)):
            with pytest.raises(NotAStore) as caught:
                call()
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before
    return str(caught.value)


@pytest.mark.parametrize("content", [b"x", b"no database at all" * 99, b"SQLite format 3\0"])
def test_what_is_no_database_is_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    assert "not a SQLite database" in untouched(path)


@pytest.mark.parametrize("application", [0, 4711])
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_another_applications_database_is_left_alone(tmp_path, application, mode):
    path = tmp_path / "other.db"
    sql(
        path,
        f"PRAGMA journal_mode = {mode}",
        f"PRAGMA application_id = {application}",
        "CREATE TABLE state (id)",
    )
    assert "another application" in untouched(path)


def test_another_applications_log_is_left_alone(tmp_path):
    """Its tables may so far be in its log only."""
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE t (id)")
        assert "another application" in untouched(path)


def test_a_newer_layout_is_left_alone(tmp_path):
    path = tmp_path / "state.db"
    with opened(path) as driver:
        write(driver, Add("n", "", 1))
    sql(path, f"PRAGMA user_version = {schema.VERSION + 1}")
    assert "newer" in untouched(path)


def test_an_empty_file_becomes_a_store(tmp_path):
    path = tmp_path / "state.db"
    path.touch()
    with opened(path) as one, opened(path) as other:
        write(one, Add("n", "", 1))
        write(other, Add("n", "", 1))
        assert read(one).fields == {"n": {"": 2}}


def test_several_make_the_file_at_once(tmp_path):
    """Whoever comes first makes it; the others wait and find a store."""
    for n in range(10):
        with contextlib.ExitStack() as stack:
            drivers = [stack.enter_context(opened(tmp_path / f"{n}.db")) for _ in range(8)]
            threads = [
                threading.Thread(target=write, args=(driver, Add("n", "", 1))) for driver in drivers
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert read(drivers[0]).fields == {"n": {"": 8}}


def test_somebody_else_is_making_the_file(tmp_path):
    """SQLite refuses to change how a file is written while another writes: at once, without waiting."""
    path = tmp_path / "state.db"
    with opened(path) as driver:
        write(driver, Add("n", "", 1))
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with contextlib.closing(other), opened(path) as driver:
        assert other.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        other.execute("BEGIN IMMEDIATE")
        done = threading.Timer(0.2, other.execute, ["COMMIT"])
        done.start()
        write(driver, Add("n", "", 1))
        done.join()
        assert read(driver).fields == {"n": {"": 2}}
        assert path.read_bytes()[18:20] == b"\2\2"  # a log


# ------------------------------------------------------------------------------------- migration


def test_an_older_layout_is_brought_up(tmp_path, monkeypatch):
    """Step by step, in one transaction; a step that fails leaves the file as it was."""
    path = tmp_path / "state.db"
    with opened(path) as driver:
        write(driver, Add("n", "", 1))
    version = schema.VERSION
    steps = {version: lambda conn: conn.execute("ALTER TABLE state ADD COLUMN note")}
    wrong = {version + 1: lambda conn: conn.execute("nonsense")}
    monkeypatch.setattr(schema, "VERSION", version + 2)
    monkeypatch.setattr(schema, "MIGRATIONS", steps | wrong)
    before = path.read_bytes()
    with opened(path) as driver, pytest.raises(Unavailable):
        write(driver)
    assert path.read_bytes() == before
    steps[version + 1] = lambda conn: conn.execute("UPDATE state SET note = 'seen'")
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    with opened(path) as one, opened(path) as other:
        assert read(one).fields == read(other).fields == {"n": {"": 1}}
    assert sql(path, "PRAGMA user_version", "SELECT note FROM state") == [
        [(version + 2,)],
        [("seen",)],
    ]


def as_before_lists_had_positions(path):
    """What the first layouts did not have."""
    sql(path, "UPDATE state SET shape = replace(shape, ',5]', ']')")


def test_a_file_of_the_first_layout_remembers_epochs_from_now_on(tmp_path):
    path = tmp_path / "state.db"
    with opened(path) as driver:
        run_now(driver.commit([Commit(KEY, (Add("n", "", 1),), None, epoch=4)], NOW))
    sql(path, *(f"DROP TABLE {it}" for it in ("about", "gone", "fence")), "PRAGMA user_version = 1")
    with opened(path) as driver:
        assert read(driver).epoch == 4
        run_now(driver.commit([Commit(KEY, (), None, epoch=5, erase=True)], NOW))
        assert run_now(driver.commit([Commit(KEY, (), 60.0, epoch=4)], NOW)) == [FencedOff(5)]
    assert sql(path, "PRAGMA user_version", "SELECT epoch FROM fence") == [
        [(schema.VERSION,)],
        [(5,)],
    ]


def test_lists_of_the_first_layout_get_positions(tmp_path):
    """Which items were trimmed before nobody knows: those that are there are the first."""
    path = tmp_path / "state.db"
    with opened(path) as driver:
        for n in range(5):
            write(driver, Append("log", (b"%d" % n,), 3), Add("n", "", 1))
    as_before_lists_had_positions(path)
    sql(path, *(f"DROP TABLE {it}" for it in ("about", "gone", "fence")), "PRAGMA user_version = 1")
    ((shape,),) = sql(path, "SELECT shape FROM state")[0]
    assert [len(held) for held in json.loads(shape).values() if isinstance(held, list)] == [4]
    with opened(path) as driver:
        log = read(driver).fields["log"]
        assert (list(log), log.first) == ([b"2", b"3", b"4"], 1)
        write(driver, Append("log", (b"5",), 3))
        log = read(driver).fields["log"]
        assert (list(log), log.first) == ([b"3", b"4", b"5"], 2)
        assert read(driver).fields["n"] == {"": 5}
    assert sql(path, "SELECT position FROM items ORDER BY 1")[0] == [(2,), (3,), (4,)]


def test_states_of_an_older_layout_may_be_about_several(tmp_path):
    """What they were about stays, and the view shows it."""
    path = tmp_path / "state.db"
    with opened(path) as driver:
        run_now(driver.commit([Commit(KEY, (), None, subject="ann")], NOW))
    sql(path, "DROP TABLE about", "DROP TABLE gone", "PRAGMA user_version = 3")
    with opened(path) as driver:
        assert read(driver).subject == "ann"
        run_now(driver.commit([Commit(KEY, (), None, subject=("ann", "run 7"))], NOW))
        assert run_now(driver.scan(Scan(*KEY[:2], "run 7"), NOW)).keys == (KEY,)
    assert sql(path, "PRAGMA user_version", "SELECT subject FROM states") == [
        [(schema.VERSION,)],
        [('["ann","run 7"]',)],
    ]


# ---------------------------------------------------------------------------------- in the way


def test_a_locked_file_is_busy(tmp_path):
    """After the busy timeout; reads go on, and so do writes once the lock is gone."""
    path = tmp_path / "state.db"
    with opened(path, busy_timeout_ms=50) as driver:
        write(driver, Add("n", "", 1))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Busy) as caught:
                write(driver, Add("n", "", 1))
            assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
            assert caught.value.retryable
            assert read(driver).fields == {"n": {"": 1}}
        write(driver, Add("n", "", 1))
        assert read(driver).fields == {"n": {"": 2}}


def test_a_full_disk_loses_nothing(tmp_path):
    """What was acknowledged stays, what was not is not there, and room makes it work again."""
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as folder:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(100_000))
        with opened(folder / "state.db") as driver:
            said = 0

            def talk():
                nonlocal said
                for _ in range(1000):
                    item = b"%d" % said + bytes(2000)
                    write(driver, Append("log", (item,), 9999), Add("n", "", 1))
                    said += 1

            with pytest.raises(Full):
                talk()
            assert said > 50
            assert read(driver).fields["n"] == {"": said}
            with pytest.raises(Full):
                write(driver, *(Put("m", str(n), bytes(3000)) for n in range(99)))
            ballast.unlink()
            write(driver, Add("n", "", 1))
            items = read(driver).fields["log"]
            assert [int(item.split(b"\0")[0]) for item in items] == list(range(said))
            assert read(driver).fields["n"] == {"": said + 1}
        with opened(folder / "state.db") as driver:
            assert len(read(driver).fields["log"]) == said


def test_a_file_system_mounted_for_reading(tmp_path):
    """Reads work, also those that would renew; writes say why not."""
    with opened(tmp_path / "state.db") as driver:
        write(driver, Add("n", "", 1), ttl=60.0)
    with mounted(tmp_path / "seen", "--bind", "-o", "ro", str(tmp_path)) as folder:
        with opened(folder / "state.db") as driver:
            assert read(driver, Want(renew=(90.0, None))).deadline == NOW + 60
            assert driver.stats()["renewals_skipped_total"] == 1
            with pytest.raises(ReadOnly):
                read(driver, Want(renew=(90.0, None), insists=True))
            with pytest.raises(ReadOnly):
                write(driver, Add("n", "", 1))
            assert read(driver).fields == {"n": {"": 1}}
        with opened(folder / "new.db") as driver, pytest.raises(ReadOnly, match="none may be made"):
            read(driver)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["state.db"]


def as_nobody(work):
    """What `work()` says in a child process without privileges."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            os.write(writing, repr(work()).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as file:
        return file.read()


@pytest.mark.parametrize(
    ("what", "looked"),
    [("file", "{'n': {'': 1}}"), ("folder", "ReadOnly"), ("nothing", "Unavailable")],
)
def test_without_permission(what, looked):
    """As a user who may not write, or not even read: said as such; reads work where SQLite can."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "state.db"
    with opened(path) as driver:
        write(driver, Add("n", "", 1), ttl=60.0)
    path.chmod(0 if what == "nothing" else 0o444)
    folder.chmod(0o777 if what == "file" else 0o555)

    def said(call):
        try:
            return call().fields
        except StateholdError as error:
            return type(error).__name__

    def work():
        with opened(path) as driver:
            want = Want(renew=(90.0, None))
            return said(lambda: read(driver, want)), said(lambda: write(driver))

    wrote = "Unavailable" if what == "nothing" else "ReadOnly"
    try:
        assert as_nobody(work).replace('"', "") in (
            f"({looked}, '{wrote}')",
            f"('{looked}', '{wrote}')",
        )
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_where_there_is_no_file_to_be(tmp_path):
    """A missing folder, a folder in the file's place, and no path at all are configuration."""
    for path in (tmp_path / "no" / "state.db", tmp_path):
        with opened(path) as driver, pytest.raises(ConfigError, match="folder"):
            read(driver)
    for path in ("", ":memory:"):
        with pytest.raises(ConfigError):
            SqliteDriver(path)
    for wrong in ({"synchronous": "OFF"}, {"busy_timeout_ms": 0}):
        with pytest.raises(ConfigError):
            SqliteDriver(tmp_path / "state.db", **wrong)


@pytest.mark.parametrize("instead", [None, b"", b"another"])
def test_a_file_that_was_removed_is_noticed(tmp_path, instead):
    """Nothing is acknowledged into a file that nobody finds any more."""
    path = tmp_path / "state.db"
    with opened(path) as driver:
        write(driver)
        run_now(driver.check(NOW))
        path.rename(tmp_path / "away.db")
        if instead is not None:
            path.write_bytes(instead)
        for call in (
            lambda: run_now(driver.check(NOW)),
            lambda: write(driver),
            lambda: run_now(driver.read([("", "k", "a")], Want(), NOW)),
            lambda: run_now(driver.scan(Scan("", "k"), NOW)),
        ):
            with pytest.raises(Unavailable, match="while in use"):
                call()


def test_urls(tmp_path, monkeypatch):
    """Three slashes and a relative path, four and an absolute one; any character, escaped."""
    monkeypatch.chdir(tmp_path)
    for url, path in (
        ("sqlite:///a%20%3f%23b.db?synchronous=full", tmp_path / "a ?#b.db"),
        (f"sqlite:///{tmp_path}/c.db", tmp_path / "c.db"),
    ):
        driver = open_driver(url)
        assert isinstance(driver, SqliteDriver)
        assert driver.path == path
        write(driver)
        assert path.exists()
        run_now(driver.close())
    for url in ("sqlite://", "sqlite:///", "sqlite://host/x.db", "sqlite:///x.db?nonsense=1"):
        with pytest.raises(ConfigError):
            open_driver(url)
    assert from_url.__module__ == "statehold.drivers.sqlite.driver"


# ------------------------------------------------------------------------------------------ damage


def damaged(path, table):
    """Overwrite the leaves of a table with rubbish."""
    pages = dict(sql(path, "SELECT name, rootpage FROM sqlite_master")[0])
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(18)[16:18], "big")
        file.seek((pages[table] - 1) * size)
        file.write(b"\xaa" * size)


@pytest.mark.parametrize(("table", "lost", "kept"), [("cell", "n", "log"), ("item", "log", "n")])
def test_damage_is_contained(tmp_path, table, lost, kept):
    """A field whose pages are damaged is named; the others are served."""
    path = tmp_path / "state.db"
    with opened(path) as driver:
        write(driver, Add("n", "", 1), Append("log", (b"x",), 9))
    damaged(path, table)
    with opened(path) as driver:
        cells = read(driver)
        assert cells.corrupted == (lost,)
        assert list(cells.fields) == [kept]
        assert write(driver, Add("n", "", 1), Append("log", (b"x",), 9)).reason == "corrupted"


def test_a_damaged_index_of_states_is_corrupted_not_absent(tmp_path):
    path = tmp_path / "state.db"
    with opened(path) as driver:
        write(driver, Add("n", "", 1))
    damaged(path, "state_key")
    with opened(path) as driver:
        with pytest.raises(Corrupted):
            read(driver)
        assert write(driver).reason == "corrupted"


def test_rows_that_are_missing_are_reported(tmp_path):
    """Somebody deleted a row: what is left of the field is not passed off as all of it."""
    path = tmp_path / "state.db"
    with opened(path) as driver:
        write(driver, Put("m", "a", b"1"), Put("m", "b", b"1"), Append("log", (b"1", b"2"), 9))
        sql(
            path,
            "DELETE FROM item WHERE value = CAST('2' AS BLOB)",
            "DELETE FROM cell WHERE entry = 'a'",
        )
        assert set(read(driver).corrupted) == {"m", "log"}
