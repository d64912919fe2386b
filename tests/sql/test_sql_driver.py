"""What the SQL driver does beyond the contract: statements, tails, sweeps, limits, errors, loops."""

import asyncio
import contextlib
import sqlite3
import threading
from collections import Counter
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from sqlalchemy import event, select

from statehold import AsyncStore, Log, State, Store, Tally
from statehold.changes import Add, Append, Put
from statehold.commits import ABSENT, EVERYTHING, Want
from statehold.driver import Conflicted, Failed, Written
from statehold.drivers.sql.portable import sweep as sweeping
from statehold.drivers.sql.portable import sweeps
from statehold.drivers.sql.portable.sweep import SWEEP_STATES, Sweeper
from statehold.drivers.sql.portable.sweeps import SWEEP_COMMITS
from statehold.errors import (
    Busy,
    Closed,
    ConfigError,
    ReadOnly,
    StateholdError,
    Timeout,
    Unavailable,
)
from statehold.testing.rig import layout
from statehold.testing.servers import Pgbouncer
from tests.sql.sqlbackends import (
    NOW,
    PATIENT,
    commit,
    database,
    key,
    opened,
    play,
    portable,
    rows,
    tables,
)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request, tmp_path):
    return database(request, request.param, tmp_path)


@pytest.fixture(params=["postgresql", "mariadb"])
def server_url(request, tmp_path):
    return database(request, request.param, tmp_path)


@contextlib.contextmanager
def statements(driver):
    """What is sent to the database meanwhile."""
    sent = []

    def note(_connection, _cursor, statement, *_):
        sent.append(statement)

    engine = driver.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


# ------------------------------------------------------------------------------------- what it costs


def test_a_batch_takes_as_many_statements_as_one(url):
    """Statements are for tables, not for commits: 50 states take as many as two do."""
    changes = (Add("sum", "k", 1), Put("note", "", b'"x"'), Append("log", (b'"y"',), 2))

    async def work(driver):
        counts = []
        for call, (size, first) in enumerate(
            [(2, 0), (50, 10), (2, 0), (50, 10), (2, 0), (50, 10)]
        ):
            batch = [commit(*changes, id=f"{first + n}", op=f"{call}") for n in range(size)]
            with statements(driver) as sent:
                await driver.commit(batch, NOW)
            counts.append(len(sent))
        return counts

    counts = play(url, work, settings={"sweep": "off"})
    assert counts[::2] == counts[1::2]
    assert max(counts) <= 13


def test_a_read_takes_a_statement_for_each_table(url):
    """50 states are read by as many statements as one, and those without children by one."""

    async def work(driver):
        changes = (Add("sum", "k", 1), Append("log", (b"1",), 2), Append("trail", (b"1",), 2))
        await driver.commit([commit(*changes, id=f"{n}") for n in range(50)], NOW)
        counts = []
        for size in (1, 50):
            for want in (EVERYTHING, Want(fields=("note", "map"))):
                with statements(driver) as sent:
                    cells = await driver.read([key(f"{n}") for n in range(size)], want, NOW)
                assert None not in cells
                counts.append(len([s for s in sent if s.startswith("SELECT")]))
        return counts

    every, main, all_of_many, main_of_many = play(url, work, settings={"sweep": "off"})
    assert (all_of_many, main_of_many) == (every, main)
    assert main == 1
    assert every == 1 + len(tables().children)


def test_only_the_tail_of_a_list_is_read(url):
    """Rows before the tail are not looked at: that one of them is lost is not noticed."""
    child = tables().children["log"]

    async def work(driver):
        items = tuple(b"%d" % n for n in range(20))
        await driver.commit([commit(Append("log", items, 100))], NOW)
        async with driver.engine.begin() as connection:
            await connection.execute(child.delete().where(child.c.seq == 3))
        tail = (await driver.read([key()], Want(tail=5), NOW))[0]
        whole = (await driver.read([key()], EVERYTHING, NOW))[0]
        return tail, whole

    tail, whole = play(url, work, settings={"sweep": "off"})
    assert list(tail.fields["log"]) == [b"15", b"16", b"17", b"18", b"19"]
    assert whole.corrupted == ("log",)


@pytest.mark.parametrize("fast", [True, False])
def test_single_entries_are_looked_up_by_name(url, fast):
    """Other rows are not looked at: that one of them is no number is not noticed."""
    child = tables().children["sum"]

    async def work(driver):
        await driver.commit([commit(*(Add("sum", f"{n}", n) for n in range(20)))], NOW)
        async with driver.engine.begin() as connection:
            wrong = child.update().where(child.c.entry == "3").values(whole=None)
            await connection.execute(wrong)
        want = Want(entries={"sum": ("7", "none", "7")})
        found = [(await driver.read([key()], want, NOW))[0]]
        (written,) = await driver.commit([commit(Add("sum", "7", 1), returning=want)], NOW)
        return *found, written.returned, (await driver.read([key()], EVERYTHING, NOW))[0]

    one, returned, whole = play(
        url, work, open_=opened if fast else portable, settings={"sweep": "off"}
    )
    assert (one.fields, one.corrupted) == ({"sum": {"7": 7}}, ())
    assert (returned.fields, returned.corrupted) == ({"sum": {"7": 8}}, ())
    assert whole.corrupted == ("sum",)


def test_appending_loads_nothing_of_a_list(url):
    """An append to a long list sends as many statements as one to a short list, and reads no item."""

    async def work(driver):
        sents = []
        for length in (1, 1000):
            items = tuple(b"%d" % n for n in range(length))
            await driver.commit([commit(Append("log", items, length), id=f"{length}")], NOW)
            with statements(driver) as sent:
                await driver.commit([commit(Append("log", (b"1",), length), id=f"{length}")], NOW)
            sents.append(sent)
        return sents

    short, long = play(url, work, settings={"sweep": "off"})
    assert long == short
    assert any("basket__log" in s for s in long)
    assert not [s for s in long if s.startswith("SELECT") and "basket__log" in s]


# --------------------------------------------------------------------------------------- the sweep


async def swept(driver, now):
    """A commit that makes a sweep due, and its end."""
    if driver.sweeps.task is not None:
        await driver.sweeps.task
    driver.sweeps.due = 0.0
    with patch.object(sweeps, "SWEEP_COMMITS", 1), patch.object(sweeps, "SWEEP_SECONDS", 0.0):
        await driver.commit([commit(id="live")], now)
        await driver.sweeps.task
    return driver.stats()


@pytest.fixture
def at_once(monkeypatch):
    """What has ended is swept without delay."""
    monkeypatch.setattr(sweeping, "HOLD_SECONDS", 0.0)


def test_expired_states_are_swept_with_all_their_rows(url, at_once):
    """Expired rows go in passing, children and op ids with them, and no others."""
    changes = (Add("sum", "k", 1), Append("log", (b"1",), 9))

    async def work(driver):
        several = {"subject": ("ann", "run 7")}
        await driver.commit([commit(*changes, id="stays", op="o", **several)], NOW)
        batch = [commit(*changes, id=f"{n}", op="o", ttl=0.05, **several) for n in range(100)]
        await driver.commit(batch, NOW)
        await asyncio.sleep(0.06)
        return await swept(driver, NOW + 1)

    stats = play(url, work)
    assert (stats["swept_total"], stats["sweeps_failed_total"]) == (100, 0)
    for table in ("basket", "basket__sum", "basket__log", "basket__ops", "basket__also_about"):
        assert rows(url, table) == (2 if table == "basket" else 1)


def test_what_lists_a_state_about_several_goes_with_it(url):
    """Erased, expired and met, or about others; one that is about one subject never has any."""
    left = []

    async def work(driver):
        async def write(**options):
            await driver.commit([commit(**options)], NOW)
            left.append(await asyncio.to_thread(rows, url, "basket__also_about"))

        await write(subject="ann")
        await write(subject=("ann", "run 7", "run 8"))
        await write()
        await write(subject=("run 8", "ann"))
        await write(subject="ann")
        await write(subject=("run 8", "ann"))
        await write(subject=())
        await write(subject=("run 8", "ann"))
        await write(erase=True)
        await write(subject=("ann", "run 7"), ttl=0.05)
        await asyncio.sleep(0.06)
        await driver.commit([commit(Add("sum", "k", 1))], NOW + 1)
        left.append(await asyncio.to_thread(rows, url, "basket__also_about"))

    play(url, work)
    assert left == [0, 2, 2, 1, 0, 1, 0, 1, 0, 1, 0]


def test_what_has_ended_is_kept_for_a_while(url, monkeypatch):
    """A row of its own end, and an erasure's op id, until nobody can send anything again."""

    async def work(driver):
        await driver.commit([commit(Add("sum", "k", 1), op="1", ttl=0.05)], NOW)
        await driver.commit([commit(id="b", op="2"), commit(id="b", op="3", erase=True)], NOW)
        await asyncio.sleep(0.06)
        assert (await swept(driver, NOW + 1))["swept_total"] == 0
        kept = await asyncio.to_thread(rows, url, "basket__ended")
        monkeypatch.setattr(sweeping, "HOLD_SECONDS", 0.0)
        assert (await swept(driver, NOW + 1))["swept_total"] == 1
        return kept

    assert play(url, work) == 1
    assert rows(url, "basket__ended") == 0


def test_a_sweep_waits_for_no_writer_and_none_for_it(server_url, at_once):
    """An expired row that a writer holds is left alone; a sweep under way holds no live row."""
    main = tables().main

    async def work(driver):
        expired = [commit(id=f"{n}", ttl=0.05) for n in range(3)]
        await driver.commit([*expired, commit(id="live")], NOW)
        await (
            driver.sweeps.task
        )  # the first of a process; with SQL of others it might meet in a deadlock
        await asyncio.sleep(0.06)
        async with driver.engine.connect() as other, other.begin():
            held = select(main.c.state).where(main.c.tenant == "t", main.c.id == "1")
            await other.execute(held.with_for_update())
            assert (await asyncio.wait_for(swept(driver, NOW), 8))["swept_total"] == 2
        async with driver.engine.begin() as connection:
            await Sweeper().sweep(connection, driver.dialect, tables(), NOW)
            return await asyncio.wait_for(driver.commit([commit(id="live")], NOW), 8)

    assert isinstance(play(server_url, work, settings={"timeout": 20.0})[0], Written)


def test_a_sweep_keeps_no_caller_waiting(request, tmp_path):
    """While it waits for a connection commits are answered, no other begins, and closing ends it."""

    async def work(driver):
        async with driver.engine.connect():
            batch = [commit(id=f"{n}") for n in range(SWEEP_COMMITS)]
            await driver.commit(batch, NOW)
            first = driver.sweeps.task
            driver.sweeps.due = 0.0
            await asyncio.wait_for(driver.commit(batch, NOW), 2)
            assert driver.sweeps.task is first
            assert not first.done()
        await asyncio.wait_for(first, 2)
        driver.sweeps.due = 0.0
        await driver.commit(batch, NOW)
        last = driver.sweeps.task
        await asyncio.wait_for(driver.close(), 2)
        assert last is not first
        assert last.done()

    url = database(request, "postgresql", tmp_path)
    play(url, work, open_=opened, settings={"pool_size": 3})


def test_sweeps_are_some_time_apart(url):
    """However many commits there are meanwhile."""

    async def work(driver):
        batch = [commit(id=f"{n}") for n in range(SWEEP_COMMITS)]
        await driver.commit(batch, NOW)
        first = driver.sweeps.task
        await first
        await driver.commit(batch, NOW)
        assert driver.sweeps.task is first
        driver.sweeps.due = 0.0
        await driver.commit(batch, NOW)
        assert driver.sweeps.task is not first

    play(url, work)


def test_sweeping_can_be_switched_off(tmp_path):
    """With `sweep=off` a service leaves it to others."""

    async def work(driver):
        for n in range(2 * SWEEP_STATES):
            await driver.commit([commit(id=f"{n}", ttl=0.1)], NOW + n)
        return driver.stats()["swept_total"]

    assert play(f"sqlite+sql:///{tmp_path}/s.db", work, settings={"sweep": "off"}) == 0


# ------------------------------------------------------------------------------ limits and errors


def test_an_exhausted_pool_is_busy(url):
    """A call that gets no connection in time is `Busy`, and those after it are answered."""

    async def work(driver):
        async with driver.engine.connect(), driver.engine.connect():
            assert driver.stats()["pool_in_use"] == 2
            calls = (
                driver.commit([commit()], NOW),
                driver.read([key()], EVERYTHING, NOW),
                driver.check(NOW),
            )
            for found in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(found, Busy)
                assert "pool" in str(found)
        assert driver.stats()["pool_in_use"] == 0
        return await answered(lambda: driver.commit([commit(op="1")], NOW))

    # A third of PostgreSQL's is for what the fast path does not do.
    settings = {"pool_size": 6 if url.startswith("postgresql") else 2, "timeout": 5.0}
    assert isinstance(play(url, work, settings=settings)[0], Written)


async def answered(call):
    """What it returns in the end: where its time is short for others' sake, a disk may be slow once."""
    for _ in range(20):
        with contextlib.suppress(Timeout):
            return await call()
    return await call()


def test_a_state_that_is_locked_is_busy(server_url):
    """A commit waits for another writer no longer than the timeout; others are not held up."""
    main = tables().main

    async def work(driver):
        await driver.commit([commit(), commit(id="b")], NOW)
        async with driver.engine.connect() as other, other.begin():
            held = select(main.c.state).where(main.c.tenant == "t", main.c.id == "a")
            await other.execute(held.with_for_update())
            waiting = asyncio.ensure_future(driver.commit([commit()], NOW))
            assert isinstance((await driver.commit([commit(id="b")], NOW))[0], Written)
            with pytest.raises(Unavailable):
                await waiting
        return await answered(lambda: driver.commit([commit(op="2")], NOW))

    outcome = play(server_url, work, settings={"timeout": 1.5})[0]
    assert outcome.revision.number == 2


def test_a_transaction_that_was_undone_does_not_hurry_the_next(server_url):
    """Until when it might be committed is no limit for what its connection does later."""

    async def work(driver):
        await driver.commit([commit()], NOW)
        event.listen(driver.engine.sync_engine, "commit", undone, once=True)
        with pytest.raises(ZeroDivisionError):
            await driver.commit([commit()], NOW)
        await asyncio.sleep(2.5)  # longer than its timeout, and the margin for the clocks
        return await driver.commit([commit()], NOW)

    def undone(_connection):
        raise ZeroDivisionError

    (outcome,) = play(server_url, work, settings={"timeout": 1.5, "pool_size": 1, "sweep": "off"})
    assert isinstance(outcome, Written)


def test_who_is_not_in_the_way_is_not_told_so(statehold_postgres):
    """Of the commits of one call that take several, some stand: nobody is told that none was written.

    The one has a value that no column holds, and is tried by itself, where its row is locked.
    """
    url, main = statehold_postgres.new_database(), tables().main

    async def work(driver):
        await driver.commit([commit(), commit(id="b")], NOW)
        async with driver.engine.connect() as other, other.begin():
            held = select(main.c.state).where(main.c.tenant == "t", main.c.id == "a")
            await other.execute(held.with_for_update())
            calls = [commit(id="b", op="1"), commit(Put("note", "", b'"x\\u0000"'), op="2")]
            found = await driver.commit(calls, NOW)
        return found, (await driver.read([key("b")], EVERYTHING, NOW))[0].revision.number

    (one, other), number = play(url, work, open_=opened, settings={"timeout": 1.5})
    assert (type(one), number) == (Written, 2)
    assert isinstance(other, Failed)
    assert isinstance(other.error, Busy | Timeout)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
def test_nobody_there_is_unavailable(scheme, unused_tcp_port_number):
    """Without a server every call is `Unavailable`, and no error shows the password."""
    backend = f"{scheme}://ann:sesame@127.0.0.1:{unused_tcp_port_number}/shop"

    async def run():
        driver = opened(backend)
        assert "sesame" not in repr(driver)
        for call in (driver.open(layout()), driver.check(NOW)):
            with pytest.raises(Unavailable) as caught:
                await call
            assert "sesame" not in str(caught.value)
        await driver.close()

    asyncio.run(run())


@pytest.fixture
def unused_tcp_port_number():
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_missing_database_is_a_wrong_setting(server_url):
    """What only the configuration can mend is `ConfigError`."""

    async def run():
        driver = opened(server_url.rpartition("/")[0] + "/nowhere")
        with pytest.raises(ConfigError, match="database not found"):
            await driver.open(layout())
        await driver.close()

    asyncio.run(run())


def test_a_read_only_database(statehold_postgres):
    """Where nothing can be written reads are served, without renewing, and writes are `ReadOnly`."""
    url = statehold_postgres.new_database()
    play(url, lambda driver: driver.commit([commit(Add("sum", "k", 1), ttl=60)], NOW))
    name = urlsplit(url).path[1:]
    statehold_postgres.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')

    async def work(driver):
        with pytest.raises(ReadOnly):
            await driver.commit([commit()], NOW)
        with pytest.raises(ReadOnly):
            await driver.read([key()], Want(renew=(3600.0, None), insists=True), NOW)
        cells = await driver.read([key()], Want(renew=(3600.0, None)), NOW)
        return cells[0].fields, driver.stats()["renewals_skipped_total"]

    assert play(url, work) == ({"sum": {"k": 1}}, 1)


def test_a_user_who_may_only_read(statehold_postgres):
    """It is served as by a database that nobody may write to."""
    url = statehold_postgres.new_database()
    play(url, lambda driver: driver.commit([commit(Add("sum", "k", 1), ttl=60)], NOW), open_=opened)
    statehold_postgres.sql("DROP ROLE IF EXISTS reader")
    statehold_postgres.sql("CREATE ROLE reader LOGIN")
    statehold_postgres.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", url)
    place = urlsplit(url)

    async def work(driver):
        for want in (Want(renew=(3600.0, None)), Want()):
            cells = await driver.read([key()], want, NOW)
            assert cells[0].fields == {"sum": {"k": 1}}
        with pytest.raises(ReadOnly):
            await driver.read([key()], Want(renew=(3600.0, None), insists=True), NOW)
        with pytest.raises(ReadOnly):
            await driver.commit([commit(Add("sum", "k", 1))], NOW)

    for tiers in (opened, portable):
        play(f"postgresql://reader@{place.hostname}:{place.port}{place.path}", work, open_=tiers)


def test_an_erased_file_or_a_wrong_one(tmp_path):
    """A SQLite file of something else is `NotAStore`; a folder that is not there, `ConfigError`."""
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at" * 10)
    for path, code in (("text.db", "not_a_store"), ("nowhere/x.db", "config")):

        async def work(driver):
            raise AssertionError("it opened")

        with pytest.raises(StateholdError) as caught:
            play(f"sqlite+sql:///{tmp_path}/{path}", work)
        assert caught.value.code == code


# ------------------------------------------------------------------------------ loops and threads


class Chat(State, ttl=3600):
    history = Log(str, keep=5)
    likes = Tally(str, keep=5)


def test_the_synchronous_face_from_many_threads(url):
    """Threads share one store; every effect is there."""
    with Store.open(url, **PATIENT) as store:
        chats = store.collection(Chat)
        chats.get("a")

        def work(number):
            for _ in range(5):
                chats.apply("a", Chat.likes.add(f"{number}", 1))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert dict(chats.get("a").likes) == {f"{n}": 5 for n in range(4)}


def test_one_driver_in_two_event_loops(url):
    """Each event loop has connections of its own; closing in one closes those of the other."""

    async def use(driver):
        return (await driver.commit([commit(Add("sum", "k", 1))], NOW))[0].revision.number

    with asyncio.Runner() as first, asyncio.Runner() as second:
        driver = first.run(_made(url))
        assert first.run(use(driver)) == 1
        second.run(driver.open(layout()))
        assert second.run(use(driver)) == 2
        assert first.run(use(driver)) == 3
        second.run(_dispose(driver))
        first.run(driver.close())
        with pytest.raises(Closed):
            first.run(driver.check(NOW))


async def _made(url):
    driver = opened(url)
    await driver.open(layout())
    return driver


async def _dispose(driver):
    """What a program does whose event loop ends before the driver is closed."""
    await driver.engine.dispose()
    if driver.executor is not None:
        await driver.executor.sender.pools.here().close()


def test_conflicts_through_grouped_commits(url):
    """Of tasks that commit in one tick on condition of absence one wins, whatever the batch."""

    async def run():
        async with AsyncStore.open(url, **PATIENT) as store:
            await store._ready(layout())
            one = [commit(Add("sum", "k", 1), op=f"{n}") for n in range(20)]
            first = commit(Add("sum", "k", 100), expect=ABSENT, op="first", id="b")
            second = commit(Add("sum", "k", 100), expect=ABSENT, op="second", id="b")
            answers = await asyncio.gather(
                *(store.driver.commit([c], NOW) for c in (*one, first, second))
            )
            return [answer[0] for answer in answers], await store.driver.read(
                [key(), key("b")], EVERYTHING, NOW
            )

    outcomes, cells = asyncio.run(run())
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds[:20] == [Written] * 20
    assert Counter(kinds[20:]) == {Written: 1, Conflicted: 1}
    assert [one.fields["sum"]["k"] for one in cells] == [20, 100]


def test_somebody_else_is_making_the_file(tmp_path):
    """SQLite refuses to change how a file is written while another writes: at once, without waiting."""
    url, path = f"sqlite+sql:///{tmp_path}/s.db", tmp_path / "s.db"
    play(url, lambda driver: driver.commit([commit()], NOW))
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with contextlib.closing(other):
        assert other.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        other.execute("BEGIN IMMEDIATE")
        done = threading.Timer(0.2, other.execute, ["COMMIT"])
        done.start()
        outcome = play(url, lambda driver: driver.commit([commit()], NOW))[0]
        done.join()
        assert outcome.revision.number == 2
        assert path.read_bytes()[18:20] == b"\2\2"  # a log


def test_the_file_is_a_plain_sqlite_database(tmp_path):
    """SQLite's own tools read it."""
    play(
        f"sqlite+sql:///{tmp_path}/s.db", lambda d: d.commit([commit(Put("note", "", b'"x"'))], NOW)
    )
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as file:
        assert file.execute("SELECT tenant, id, note FROM basket").fetchall() == [("t", "a", "x")]


@pytest.mark.parametrize("open_", [opened, portable])
def test_behind_a_transaction_pooler(statehold_postgres, open_):
    """With `pooler=transaction` clients share fewer sessions than they are, and leave nothing there."""
    url = statehold_postgres.new_database()
    with Pgbouncer.start(statehold_postgres, pool_size=2) as pooler:

        async def work(driver):
            changes = (Add("sum", "k", 1), Append("log", (b"1",), 1000), Put("note", "", b'"x"'))
            batches = [[commit(*changes, id=f"{n % 3}", op=f"{n}")] for n in range(60)]
            outcomes = await asyncio.gather(*(driver.commit(batch, NOW) for batch in batches))
            assert all(isinstance(one[0], Written) for one in outcomes)
            cells = await driver.read([key(f"{n}") for n in range(3)], EVERYTHING, NOW)
            return [(one.fields["sum"]["k"], len(one.fields["log"])) for one in cells]

        settings = {"pooler": "transaction", "timeout": 20.0}
        found = play(pooler.through(url), work, open_=open_, settings=settings)
    assert found == [(20, 20)] * 3
