"""Large maps: a row for each entry, counted in the main row; those laid out before go on as they are."""

import asyncio
import random
import time
from datetime import timedelta

import asyncpg
import pytest
from databases import KINDS, database, done, migrate

from statehold import AsyncStore, Map, SetOf, State, Steps, Store, TooLarge
from statehold.changes import Drop, Put
from statehold.commits import EVERYTHING, Want
from statehold.driver import Refused, Written
from statehold.drivers.sql.portable.load import named
from statehold.testing.rig import layout
from tests.sql.sqlbackends import NOW, commit, key, opened, play, portable, rows, tables


class Small(State, ttl=timedelta(hours=1), kind="document"):
    values = Map(str, str, keep=10, max_bytes=2000)
    tags = SetOf(str, keep=100)
    steps = Steps(str, keep=100)


class Large(State, ttl=timedelta(hours=1), kind="document", limit_bytes="1024GiB"):
    values = Map(str, str, keep=100_000, max_bytes=2000)
    tags = SetOf(str, keep=10)
    steps = Steps(str, keep=100)


class Renamed(State, ttl=timedelta(hours=1), kind="document", limit_bytes="1024GiB"):
    texts = Map(str, str, keep=100_000, max_bytes=2000)
    labels = SetOf(str, keep=10)
    stages = Steps(str, keep=100)


RENAMED = [
    word
    for names in ("values=texts", "tags=labels", "steps=stages")
    for word in ("--rename", f"document.{names}")
]


def value(n, size=1000):
    return random.Random(n).randbytes(size // 2).hex()


@pytest.fixture(params=KINDS)
def backend(request, tmp_path):
    return database(request.param, request, tmp_path)


def test_a_large_map_has_a_row_for_each_entry(backend):
    with Store.open(backend.url) as store:
        states = store.collection(Large)
        states.apply("a", *(Large.values.put(f"{n}", "x") for n in range(70)), Large.tags.add("t"))
        states.apply("a", Large.values.put("7", "y"), Large.values.drop("8"))
        assert rows(backend.url, "document__values") == 69
        assert backend.sql("SELECT values__count FROM document") == [("69",)]
        assert "document__tags" not in backend.has()
        assert states.get("a").values["7"] == "y"
        states.apply("a", Large.values.clear())
        assert rows(backend.url, "document__values") == 0
        assert len(states.get("a").values) == 0


@pytest.mark.parametrize(("first", "then"), [(Small, Large), (Large, Small)])
def test_a_map_goes_on_as_it_was_laid_out(backend, first, then, monkeypatch, capsys):
    """Its bound may go beyond that of one column, or back; no table is to be changed for that."""
    few = [first.values.put("a", "1"), first.tags.add("x"), first.steps.put("s", "first")]
    with Store.open(backend.url) as store:
        store.collection(first).apply("one", *few)
    before = backend.has()
    code, out, err = migrate(monkeypatch, capsys, backend.url, then, "--apply")
    assert (code, done(err)) == (0, []), out
    with Store.open(backend.url, create="never") as store:
        states = store.collection(then)
        states.apply("one", then.values.put("b", "2"), then.steps.put("s", "second"))
        state = states.get("one")
        assert (dict(state.values), set(state.tags)) == ({"a": "1", "b": "2"}, {"x"})
        assert dict(state.steps) == {"s": "first"}
    assert backend.has() == before


@pytest.mark.parametrize("first", [Small, Large])
def test_it_is_renamed_as_it_lies(backend, first, monkeypatch, capsys):
    few = [first.values.put("a", "1"), first.tags.add("x"), first.steps.put("s", "first")]
    with Store.open(backend.url) as store:
        store.collection(first).apply("one", *few)
    code, out, err = migrate(monkeypatch, capsys, backend.url, Renamed, *RENAMED, "--apply")
    assert code == 0, out + err
    with Store.open(backend.url, create="never") as store:
        states = store.collection(Renamed)
        states.apply("one", Renamed.texts.put("b", "2"))
        state = states.get("one")
        assert (dict(state.texts), set(state.labels)) == ({"a": "1", "b": "2"}, {"x"})
        assert dict(state.stages) == {"s": "first"}


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request, tmp_path):
    return database(request.param, request, tmp_path).url


@pytest.mark.parametrize("fast", [True, False])
def test_a_row_that_was_lost_is_reported(url, fast):
    """The count is compared with the rows where all are read, and put right when the field is dropped."""
    child = tables().children["book"]

    async def work(driver):
        await driver.commit([commit(*(Put("book", f"{n}", b"1") for n in range(9)))], NOW)
        async with driver.engine.begin() as connection:
            await connection.execute(child.delete().where(child.c.entry == "3"))
        whole = (await driver.read([key()], EVERYTHING, NOW))[0]
        one = (await driver.read([key()], Want(entries={"book": ("7",)}), NOW))[0]
        mended = commit(Drop("book"), Put("book", "a", b"2"), returning=EVERYTHING)
        return whole, one, (await driver.commit([mended], NOW))[0].returned

    whole, one, mended = play(url, work, open_=opened if fast else portable)
    assert whole.corrupted == ("book",)
    assert (one.fields, one.corrupted) == ({"book": {"7": b"1"}}, ())
    assert (mended.fields, mended.corrupted) == ({"book": {"a": b"2"}}, ())


def test_writers_of_one_map_keep_its_count(statehold_postgres):
    """Alone, together and portably: whoever sees an entry as new counts it, and nobody else does."""
    url = statehold_postgres.new_database()

    async def work():
        drivers = [opened(url), opened(url), portable(url)]
        for driver in drivers:
            await driver.open(layout())
        draw = random.Random(5)

        async def write(driver):
            for _ in range(60):
                change = Put("book", f"{draw.randrange(30)}", b"1", draw.random() < 0.3, bound=20)
                if draw.random() < 0.3:
                    change = Drop("book", f"{draw.randrange(30)}")
                some = [
                    commit(change, op=f"{draw.random()}") for _ in range(draw.choice((1, 1, 3)))
                ]
                for outcome in await driver.commit(some, time.time()):
                    assert isinstance(outcome, Written | Refused)

        await asyncio.gather(*(write(driver) for driver in drivers for _ in range(2)))
        (cells,) = await drivers[0].read([key()], EVERYTHING, time.time())
        for driver in drivers:
            await driver.close()
        return cells

    cells = asyncio.run(work())
    assert cells.corrupted == ()
    assert len(cells.fields["book"]) <= 20


def test_a_full_one_refuses(url):
    class Full(State, ttl=timedelta(hours=1), kind="full"):
        values = Map(str, int, keep=65)

    with Store.open(url) as store:
        states = store.collection(Full)
        states.apply("a", *(Full.values.put(f"{n}", n) for n in range(65)))
        for edits in (
            [Full.values.put("new", 1)],
            [Full.values.put("7", 8), Full.values.put("n", 1)],
        ):
            with pytest.raises(TooLarge, match="66 entries, at most 65"):
                states.apply("a", *edits)
        states.apply("a", Full.values.put("7", 0), Full.values.drop("8"), Full.values.put("new", 1))
        assert len(states.get("a").values) == 65


# ------------------------------------------------------------------------------------ what it writes

BY_HAND = """
CREATE TABLE head(state bigint PRIMARY KEY, tenant text, id text, number bigint,
    updated_at timestamptz, expires_at timestamptz);
ALTER TABLE head SET (fillfactor = 80);
CREATE TABLE entry(state bigint, entry text COLLATE "C", value json, PRIMARY KEY (state, entry));
INSERT INTO head VALUES (1, '', 'a', 1, now(), now());
INSERT INTO entry SELECT 1, entry, value FROM document__values"""


def test_a_put_writes_little_more_than_a_row_by_hand(statehold_postgres):
    """In bytes of the log, new entries and others, however many there are beside them."""
    url = statehold_postgres.new_database()

    async def work():
        async with AsyncStore.open(url, sweep="off") as store:
            states = store.collection(Large)
            for at in range(0, 3000, 500):
                some = [Large.values.put(f"{n:05}", value(n)) for n in range(at, at + 500)]
                await states.apply("a", *some)
            hand = await asyncpg.connect(url)
            await hand.execute(BY_HAND)
            await hand.execute("VACUUM ANALYZE")

            async def ours(n, text):
                await states.apply("a", Large.values.put(f"{n:05}", text))

            async def by_hand(n, text):
                async with hand.transaction():
                    await hand.execute(
                        "INSERT INTO entry VALUES (1, $1, $2) ON CONFLICT (state, entry)"
                        " DO UPDATE SET value = excluded.value",
                        f"{n:05}",
                        f'"{text}"',
                    )
                    await hand.execute(
                        "UPDATE head SET number = number + 1, updated_at = now(),"
                        " expires_at = now() + interval '1 hour' WHERE state = 1"
                    )

            async def written(put, numbers, seed):
                for n in numbers:  # each page is in the log as a whole when it is first changed
                    await put(n, value(n + seed))
                before = await hand.fetchval("SELECT pg_current_wal_lsn()")
                for n in numbers:
                    await put(n, value(n + seed + 1))
                size = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1)::float8"
                return await hand.fetchval(size, before) / len(numbers)

            await hand.execute("CHECKPOINT")
            old, new = range(0, 3000, 30), range(3000, 3100)
            ratios = []
            for numbers in (old, new):
                figures = [await written(put, numbers, 10_000) for put in (ours, by_hand)]
                ratios.append(figures[0] / figures[1])
            await hand.close()
            return ratios

    assert max(asyncio.run(work())) < 1.5


def test_what_a_put_writes_does_not_grow_with_the_map(statehold_mariadb):
    """On MariaDB, in bytes of InnoDB's log."""
    url = statehold_mariadb.new_database()

    def logged():
        (row,) = statehold_mariadb.sql("SHOW GLOBAL STATUS LIKE 'Innodb_os_log_written'", url)
        return int(row[1])

    with Store.open(url, sweep="off") as store:
        states = store.collection(Large)
        figures = []
        for first, last in ((0, 100), (100, 3000)):
            for at in range(first, last, 100):
                some = [Large.values.put(f"{n:05}", value(n)) for n in range(at, at + 100)]
                states.apply("a", *some)
            before = logged()
            for n in range(50):
                states.apply("a", Large.values.put(f"{n:05}", value(n + last)))
            figures.append((logged() - before) / 50)
    assert figures[1] < 2 * figures[0]
    assert figures[1] < 20 * 1000  # bytes, where the whole map has 3 million


def test_many_entries_of_a_state_are_not_asked_for_as_pairs():
    """PostgreSQL compares each row with each of the pairs, before it knows how many rows a table has."""
    child = tables().children["book"]
    asked = named(child, {1: ["a", "b"], 2: [f"{n}" for n in range(1200)], 3: ["c"]})
    pairs = [given["pairs"] for _, given in asked if "pairs" in given]
    assert pairs == [[(1, "a"), (1, "b"), (3, "c")]]
    of_one = [given for _, given in asked if "names" in given]
    assert {given["owner"] for given in of_one} == {2}
    assert [len(given["names"]) for given in of_one] == [500, 500, 200]


def test_many_entries_of_several_states(url):
    """They are found, changed and counted, few and many of them in one call."""
    names = [f"{n:04}" for n in range(1200)]

    async def go(driver):
        puts = [Put("book", name, b'"x"', bound=5000) for name in names]
        await driver.commit([commit(*puts), commit(*puts[:3], id="b")], NOW)
        again = [Put("book", name, b'"y"', bound=5000) for name in names]
        done = await driver.commit([commit(*again), commit(*again[:4], id="b")], NOW)
        assert all(isinstance(one, Written) for one in done)
        want = Want(entries={"book": tuple(names)})
        many, few = await driver.read([key(), key("b")], want, NOW)
        assert dict(many.fields["book"]) == dict.fromkeys(names, b'"y"')
        assert dict(few.fields["book"]) == dict.fromkeys(names[:4], b'"y"')
        await driver.commit([commit(*(Drop("book", name) for name in names[1:]))], NOW)
        (left,) = await driver.read([key()], EVERYTHING, NOW)
        assert dict(left.fields["book"]) == {"0000": b'"y"'}

    play(url, go)
