"""What the SQLite driver does beyond the contract: its rows, its cursors, its threads."""

import contextlib
import math
import os
import sqlite3
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statehold.changes import Accumulate, Add, Append, Drop, Items, Put, Refusal, Splice, fold
from statehold.commits import ABSENT, EVERYTHING, Commit, Want
from statehold.driver import Refused, Scan, Written
from statehold.drivers.sqlite import SqliteDriver
from statehold.drivers.sqlite.sweeping import SHARE, SWEEP_COMMITS
from statehold.engine import run_now
from statehold.errors import Closed, ConfigError, Corrupted, Invalid

KEY = ("", "chat", "a")
NOW = 1_700_000_000.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
def driver(path):
    driver = SqliteDriver(path)
    yield driver
    run_now(driver.close())


def commit(*changes, key=KEY, ttl=3600.0, **kw):
    return Commit(key, changes, ttl, **kw)


def write(driver, *changes, now=NOW, **kw):
    return run_now(driver.commit([commit(*changes, **kw)], now))[0]


def read(driver, want=EVERYTHING, key=KEY, now=NOW):
    return run_now(driver.read([key], want, now))[0]


def plain(fields):
    return {
        name: list(cell) if isinstance(cell, Items) else cell
        for name, cell in fields.items()
        if len(cell)
    }


def counts(path):
    with contextlib.closing(sqlite3.connect(path)) as conn:
        return {
            table: conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("state", "cell", "item", "op")
        }


# ---------------------------------------------------------------------------- folding into rows

entry = st.sampled_from(["", "a", "b", "é", "\x00"])
value = st.binary(max_size=3)
bounds = st.sampled_from([(None, False), (2, False), (2, True), (3, True)])
number = st.one_of(st.integers(-3, 3), st.floats(-2, 2))
change = st.one_of(
    st.builds(
        lambda e, v, once, b: Put("map", e, v, once, *b), entry, value, st.booleans(), bounds
    ),
    st.builds(lambda e, n, b: Add("sum", e, n, *b), entry, number, bounds),
    st.builds(lambda e, b: Accumulate("array", e, bytes(16), *b), entry, bounds),
    st.builds(
        lambda items, keep: Append("log", tuple(items), keep),
        st.lists(value, min_size=1, max_size=4),
        st.integers(1, 6),
    ),
    st.builds(Drop, st.sampled_from(["map", "sum", "log", "array"]), st.none() | entry),
    st.builds(lambda field: Put(field, "a", b"1"), st.sampled_from(["log", "sum"])),
)


@given(
    st.lists(
        st.lists(
            st.tuples(st.lists(change, max_size=4), st.sampled_from([None, EVERYTHING])),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_rows_fold_as_cells_do(tmp_path_factory, batches):
    """Batches of commits leave what the pure fold leaves, also with bounds that change."""
    path = tmp_path_factory.mktemp("fold") / "state.db"
    driver = SqliteDriver(path)
    expected: dict = {}
    exists = False
    try:
        for batch in batches:
            commits = [Commit(KEY, tuple(changes), None, returning=want) for changes, want in batch]
            for commit, outcome in zip(commits, run_now(driver.commit(commits, NOW)), strict=True):
                try:
                    expected = fold(expected, commit.changes)
                except Refusal as no:
                    refused = Refused(no.field, no.reason, no.limit, no.found)
                else:
                    refused = None
                if refused:
                    assert outcome == refused
                    continue
                exists = True
                assert isinstance(outcome, Written)
                if commit.returning:
                    assert plain(outcome.returned.fields) == plain(expected)
            cells = read(driver)
            assert (cells is not None) == exists
            if cells is not None:
                assert plain(cells.fields) == plain(expected)
                assert cells.corrupted == ()
                tail = read(driver, Want(("log", "map"), tail=2)).fields
                said = plain(expected).get("log", [])
                if isinstance(said, list):
                    assert list(tail.get("log", ())) == said[-2:]
    finally:
        run_now(driver.close())
    rows = counts(path)
    kept = plain(expected)
    assert rows["item"] == sum(len(cell) for cell in kept.values() if isinstance(cell, list))
    assert rows["cell"] == sum(len(cell) for cell in kept.values() if isinstance(cell, dict))


def test_single_entries_are_looked_up_by_name(driver, path):
    """The others are not looked at: that one of them is lost is not noticed."""
    write(driver, *(Put("map", f"{n}", b"1") for n in range(20)), Add("sum", "k", 1))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM cell WHERE entry = '3'")
    assert read(driver).corrupted == ("map",)
    cells = read(driver, Want(entries={"map": ("7", "none")}))
    assert (cells.fields, cells.corrupted) == ({"map": {"7": b"1"}, "sum": {"k": 1}}, ())
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE cell SET value = 'text' WHERE entry = '7'")
    assert read(driver, Want(entries={"map": ("7",)})).corrupted == ("map",)


def test_a_list_keeps_its_order_when_its_bound_changes(driver, path):
    """A ring that has gone round is laid out anew for a larger or smaller `keep`."""
    said = []
    for keep in (5, 5, 5, 9, 9, 3, 4, 12, 12):
        for _ in range(4):
            said.append(b"%d" % len(said))
            write(driver, Append("log", (said[-1],), keep))
            said = said[-keep:] if len(said) > keep else said
            assert list(read(driver).fields["log"]) == said
        said = list(read(driver).fields["log"])
    assert counts(path)["item"] == len(said)


def test_several_commits_of_one_state_are_written_once(driver):
    """A batch on one key costs its rows once: how 64 writers of one session stay quick."""
    write(driver, Append("log", (b"0",), 20), Add("n", "", 1))
    statements = []
    driver._file._writer.set_trace_callback(statements.append)
    commits = [Commit(KEY, (Append("log", (b"x",), 20), Add("n", "", 1)), 60.0)] * 64
    run_now(driver.commit(commits, NOW))
    driver._file._writer.set_trace_callback(None)
    assert read(driver).fields["n"] == {"": 65}
    assert len([text for text in statements if "state" in text]) <= 5  # three of them sweep
    assert len([text for text in statements if "cell" in text]) == 2
    assert len([text for text in statements if "item" in text]) == 20


@pytest.mark.parametrize(
    "stored",
    [
        2**63 - 1,
        -(2**63),
        2**53 + 1,
        0,
        1.0,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        b"",
        b"1",
        b"\0",
    ],
)
def test_values_are_never_converted(driver, stored):
    """Type and bits of a value survive, where SQLite would by itself turn 1.0 into 1."""
    adds = Put("f", "", stored) if isinstance(stored, bytes) else Add("f", "", stored)
    write(driver, adds)
    (back,) = read(driver).fields["f"].values()
    assert type(back) is type(stored)
    assert back == stored
    if isinstance(stored, float):
        assert math.copysign(1, back) == math.copysign(1, stored)


@pytest.mark.parametrize("name", ["\x00", "a\x00b", "\U0001f41a" * 128, "a:b{}*%'\"\n;--", " "])
def test_names_are_only_names(driver, name):
    """Tenant, kind, id, field, entry, subject and op id may be any text, NUL included."""
    key = (name, name, name)
    write(driver, Put(name, name, b"1"), key=key, subject=name, op=name)
    assert write(driver, key=key, op=name).repeated
    assert read(driver, key=key).fields == {name: {name: b"1"}}
    for subject in (None, name):
        page = run_now(driver.scan(Scan(name, name, subject), NOW))
        assert page.keys == (key,)
    assert read(driver, key=(name, name, name + "\x00")) is None


def test_what_cannot_be_stored_is_the_outcome_of_its_own_commit(driver):
    """Such as a lone surrogate, in a name or an op id, or a list that is too long."""
    bad = (
        commit(Add("n", "", 1), key=("", "chat", "\ud800")),
        commit(Put("\udfff", "", b"")),
        commit(op="\ud800"),
        commit(Append("log", (b"",), 2**24)),
    )
    for each in bad:
        (outcome,) = run_now(driver.commit([each], NOW))
        assert (type(outcome), outcome.reason) == (Refused, "value")
    batch = [commit(Add("n", "", 1)), *bad, commit(Add("n", "", 1), Put("new", "", b"1"))]
    first, *others, last = run_now(driver.commit(batch, NOW))
    assert [one.reason for one in others] == ["value"] * len(bad)
    assert (first.revision.number, last.revision.number) == (1, 2)
    assert read(driver).fields == {"n": {"": 2}, "new": {"": b"1"}}
    with pytest.raises(Invalid):
        read(driver, key=("", "", "\ud800"))


def test_field_numbers_of_a_rolled_back_transaction_are_given_again(driver, path):
    """A name numbered in a transaction that failed is not taken for numbered."""
    assert isinstance(write(driver, Put("a", "", b"1"), Put("\ud800", "", b"1")), Refused)
    write(driver, Put("b", "", b"2"))
    write(driver, Put("a", "", b"3"))
    run_now(driver.close())
    again = SqliteDriver(path)
    assert read(again).fields == {"b": {"": b"2"}, "a": {"": b"3"}}
    run_now(again.close())


# ----------------------------------------------------------------------------- what is forgotten


def test_only_the_newest_op_ids_are_remembered(driver, path):
    """Exactly `ops` of them count, and hardly more are stored."""
    for n in range(50):
        write(driver, Add("n", "", 1), op=f"op {n}", ops=8)
    assert write(driver, Add("n", "", 1), op="op 42", ops=8).repeated
    assert write(driver, Add("n", "", 1), op="op 42", ops=8).revision.number == 43
    assert not write(driver, Add("n", "", 1), op="op 41", ops=8).repeated
    assert counts(path)["op"] <= 8 + 2


def test_expired_states_are_swept(driver, path):
    """Their rows go while commits of other states pass, a few at a time, without a scan."""
    for n in range(300):
        key = ("", "chat", f"s{n}")
        write(driver, Append("log", (b"1", b"2"), 9), Add("n", "", 1), key=key, ttl=5.0, op="x")
    for _ in range(int(300 / SHARE) + 4 * SWEEP_COMMITS):
        write(driver, key=("", "chat", "other"), now=NOW + 5)
    assert counts(path) == {"state": 1, "cell": 0, "item": 0, "op": 0}
    assert driver.stats()["expired_total"] == 300


def test_a_new_life_has_nothing_of_the_old_one(driver, path):
    """Rows of an expired state go when it starts afresh, op ids included."""
    write(driver, Append("log", (b"1",), 9), Put("m", "k", b"1"), ttl=5.0, op="x", subject="p")
    again = write(driver, Add("n", "", 1), now=NOW + 5, op="x")
    assert (again.repeated, again.revision.number) == (False, 1)
    cells = read(driver, now=NOW + 5)
    assert (cells.fields, cells.subject, cells.created) == ({"n": {"": 1}}, None, NOW + 5)
    assert counts(path) == {"state": 1, "cell": 1, "item": 0, "op": 1}


def test_a_batch_that_drops_and_erases_leaves_no_row(driver, path):
    """A list that was dropped but not yet deleted goes with its state."""
    write(driver, Append("log", (b"1",), 9), Put("m", "k", b"1"))
    drop, erase = Commit(KEY, (Drop("log"), Drop("m")), None), Commit(KEY, (), None, erase=True)
    run_now(driver.commit([drop, erase], NOW))
    assert counts(path) == {"state": 0, "cell": 0, "item": 0, "op": 0}


def test_a_deadline_that_is_past_ends_a_life_within_a_batch(driver, path):
    """`max_age` may lie before now: what follows in the same batch finds nothing."""
    write(driver, Add("n", "", 1), ttl=None)
    late = NOW + 100
    old = Commit(KEY, (Add("n", "", 1),), None, max_age=50.0)
    new = Commit(KEY, (Add("n", "", 1),), None, expect=ABSENT)
    first, second = run_now(driver.commit([old, new], late))
    assert (first.revision.number, second.revision.number) == (2, 1)
    assert read(driver, now=late).fields == {"n": {"": 1}}
    assert counts(path) == {"state": 1, "cell": 1, "item": 0, "op": 0}


def test_what_is_erased_is_gone_from_the_file(driver, path):
    """No byte of it stays in free pages or in the log, once the file is closed."""
    secret = b"secret-" * 300
    write(driver, *(Put("m", f"k{n}", secret) for n in range(9)), Append("log", (secret,), 9))
    write(driver, erase=True)
    run_now(driver.close())
    assert counts(path) == {"state": 0, "cell": 0, "item": 0, "op": 0}
    assert b"secret" not in path.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        Splice("log", 9, take=1),
        Splice("log", 9, at=1, items=(b"null",)),
        Splice("log", 9, take=1, items=(b"other",), same=(b"secret-" * 300,)),
        Drop("log"),
    ],
    ids=["popped", "edited", "replaced", "dropped"],
)
def test_an_item_that_is_taken_away_is_gone_while_the_file_is_open(driver, path, change):
    """From the file and its log, soon, without anything else being written."""
    write(driver, Append("log", (b"secret-" * 300,), 9))
    write(driver, change)
    files = [path, path.with_name(path.name + "-wal")]
    until = time.monotonic() + 20
    while any(b"secret" in file.read_bytes() for file in files if file.exists()):
        assert time.monotonic() < until, "it is there still"
        time.sleep(0.05)


# -------------------------------------------------------------------------- renewing and listing


def test_reads_renew_to_the_instant(driver):
    """A read moves the deadline, but is not written for less than a thousandth of the ttl."""
    write(driver, Add("n", "", 1), ttl=100.0)
    want = Want(renew=(100.0, None))
    assert read(driver, want, now=NOW + 0.1).deadline == NOW + 100
    assert read(driver, want, now=NOW + 0.2).deadline == NOW + 100.2
    assert read(driver, now=NOW + 100.1).revision.number == 1
    assert read(driver, now=NOW + 100.2) is None
    assert read(driver, want, now=NOW + 100.2) is None


def test_cursors_belong_to_their_listing(driver):
    """Another listing's cursor, or none at all, is refused."""
    for n in range(5):
        write(driver, key=("", "chat", f"{n}"), subject="p")

    def scan(cursor, kind="chat", subject=None):
        return run_now(driver.scan(Scan("", kind, subject, cursor=cursor, limit=2), NOW))

    page = scan(None)
    people = scan(None, subject="p")
    for cursor in ("", "x", page.cursor + "!", "0" * 8, people.cursor):
        with pytest.raises(Invalid):
            scan(cursor)
    with pytest.raises(Invalid):
        scan(page.cursor, kind="other")
    seen = [*page.keys]
    while page.cursor:
        page = scan(page.cursor)
        seen += page.keys
    assert [key[2] for key in seen] == ["0", "1", "2", "3", "4"]


# ------------------------------------------------------------------------------- who may use it


def test_threads_read_while_one_writes(driver):
    """Readers find whole commits, on connections of their own, while the writer is busy."""
    write(driver, Add("a", "", 1), Append("log", (b"x",), 100_000))
    torn = []
    stop = threading.Event()

    def look():
        while not stop.is_set():
            cells = read(driver)
            if cells.fields["a"][""] != len(cells.fields["log"]):
                torn.append(cells)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        write(driver, Add("a", "", 1), Append("log", (b"x",), 100_000))
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []
    with driver._file._in_turn:  # the writer is at work: a reader does not wait for it
        assert read(driver).fields["a"] == {"": 301}


def test_a_forked_process_is_told(driver, path):
    """Connections stay with the process that opened them; the child does not wait for its locks."""
    write(driver, Add("n", "", 1))
    with driver._file._in_turn:  # held by another thread, perhaps, when the process forks
        child = os.fork()
        if not child:
            try:
                with pytest.raises(ConfigError, match="fork"):
                    write(driver, Add("n", "", 1))
                run_now(driver.close())
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    write(driver, Add("n", "", 1))
    assert read(driver).fields["n"] == {"": 2}


def test_a_closed_driver_says_so(driver, path):
    """Also when it was never opened; and the log is gone."""
    write(driver, Add("n", "", 1))
    run_now(driver.close())
    run_now(driver.close())
    for call in (lambda: read(driver), lambda: write(driver)):
        with pytest.raises(Closed):
            call()
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]
    never = SqliteDriver(path)
    run_now(never.close())
    with pytest.raises(Closed):
        read(never)


def test_what_lists_a_state_about_several_goes_with_it(driver, path):
    """Erased, expired and met, or swept; of one that is about one subject there is nothing."""

    def listed():
        with contextlib.closing(sqlite3.connect(path)) as conn:
            return conn.execute("SELECT subject FROM about ORDER BY subject").fetchall()

    write(driver, key=("", "chat", "alone"), subject="ann")
    assert listed() == []
    several = ("ann", "run 7")
    write(driver, subject=several)
    assert listed() == [("ann",), ("run 7",)]
    write(driver, subject=("run 8", "ann"))
    assert listed() == [("ann",), ("run 8",)]
    write(driver, erase=True)
    assert listed() == []
    write(driver, subject=several, ttl=1.0)
    write(driver, now=NOW + 1)
    assert (read(driver, now=NOW + 1).subject, listed()) == (None, [])
    write(driver, key=("", "chat", "b"), subject=several, ttl=1.0)
    for n in range(2 * SWEEP_COMMITS):
        write(driver, key=("", "chat", f"{n % 3}"), now=NOW + 2)
    assert listed() == []


def test_subjects_that_cannot_be_read_are_said(driver, path):
    write(driver, subject=("ann", "run 7"))
    with contextlib.closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("UPDATE state SET subject = x'5b31'")
    with pytest.raises(Corrupted, match="about"):
        read(driver)


# ------------------------------------------------------------------------------- for people's eyes


def test_the_views_show_what_is_stored(driver, path):
    """Whoever opens the file reads names and values as text, a list in its order."""
    for n in range(5):
        write(driver, Append("log", (b'"%d"' % n,), 3), Put("m", "k", b'{"a":1}'), subject="ann")
    write(driver, Add("n", "", 7), Accumulate("v", "", b"\xff" * 4 + bytes(4)))
    run_now(driver.close())
    with contextlib.closing(sqlite3.connect(path)) as conn:
        assert conn.execute("SELECT kind, id, expires, subject FROM states").fetchall() == [
            ("chat", "a", "2023-11-14 23:13:20", "ann")
        ]
        assert conn.execute("SELECT id, field, entry, value FROM entries").fetchall() == [
            ("a", "m", "k", '{"a":1}'),
            ("a", "n", "", 7),
            ("a", "v", "", "xFFFFFFFF00000000"),
        ]
        assert conn.execute(
            "SELECT field, position, value FROM items ORDER BY position"
        ).fetchall() == [
            ("log", 3, '"2"'),
            ("log", 4, '"3"'),
            ("log", 5, '"4"'),
        ]


@pytest.mark.parametrize("size", [1024, 2048])
def test_turns_fill_the_file(driver, path, size):
    """400 turns of 2 KB, in one item or two, take at most 1.3 times their bytes."""
    for _ in range(400):
        write(driver, Append("log", tuple(os.urandom(size) for _ in range(2048 // size)), 1000))
    run_now(driver.close())
    assert path.stat().st_size <= 1.3 * 400 * 2048
