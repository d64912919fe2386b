"""Fields lie in columns of their own types, and come back as they were put."""

import asyncio
import math
from datetime import UTC, datetime, timedelta
from enum import Enum

import msgspec
import pytest
from sqlalchemy import text

from statehold import (
    AsyncStore,
    Counter,
    DecayedMean,
    Log,
    Map,
    Register,
    SetOf,
    State,
    Steps,
    Tally,
    Turns,
    Vector,
)
from statehold.changes import Add, Put
from statehold.commits import Commit, Want
from statehold.driver import FieldLayout, Layout, Refused, Written
from statehold.drivers.sql.schema.tables import Description, FieldStorage
from tests.sql.sqlbackends import PATIENT, behind, database, opened

DATABASES = ("sqlite", "postgresql", "mariadb")


@pytest.fixture(params=DATABASES)
def url(request, tmp_path):
    return database(request, request.param, tmp_path)


class Colour(Enum):
    RED = "red"


class Item(msgspec.Struct):
    name: str
    price: float = 1.0


class Everything(State, ttl=timedelta(hours=1)):
    text = Register(str, default="none")
    maybe = Register(str | None, default="none")
    level = Register(int, default=0)
    real = Register(float, default=0.0)
    flag = Register(bool, default=False)
    colour = Register(Colour, default=Colour.RED)
    day = Register(datetime | None, default=None)
    things = Register(list[Item], default=[])
    anything = Register(object, default=None)
    clicks = Counter()
    spent = Counter(float)
    basket = Map(str, list[Item], keep=5)
    tags = SetOf(str, keep=5)
    steps = Steps(dict[str, int])
    tally = Tally(str, keep=5)
    history = Log(Item, keep=5)
    turns = Turns(Item, keep=5)
    place = Vector(3)
    taste = DecayedMean(2, half_life=60.0)


def test_every_field_as_in_memory(url):
    """What a store in memory answers, one in tables does, to the type of each number."""

    async def play(store):
        states = store.collection(Everything)
        async with states.session("a") as state:
            state.text = 'é "quoted" \\ \n 日本語'
            state.maybe = None
            state.level = -(2**63)
            state.real = 1e300
            state.flag = True
            state.day = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
            state.things = [Item("a", 2.5), Item("b")]
            state.anything = {"b": [1, 1.0, None, "x"], "a": {"z": 1, "y": -0.5}}
            state.clicks += 2**53 + 1
            state.spent += 2.0
            state.basket["shoes"] = [Item("x", 10.0)]
            state.basket["\\n"] = []
            state.tags |= {"red", "Red", "a\\b"}
            state.steps["pay"] = {"b": 1, "a": 2}
            state.tally.add("k", 3)
            state.history.append(Item("h"))
            state.turns.append(Item("t1"), Item("t2"))
            state.place = [1.5, -2.0, 0.0]
            state.taste.add([1.0, 3.0], at=1_700_000_000.0)
        async with states.session("a") as state:
            del state.basket["\\n"]
            state.clicks += 1
            state.tally.add("other", -1)
            state.history.append(*(Item(f"{n}") for n in range(6)))
        return msgspec.json.encode((await states.get("a")).to_json())

    async def both():
        async with AsyncStore.open("memory://") as memory, AsyncStore.open(url, **PATIENT) as store:
            return await play(memory), await play(store)

    expected, found = asyncio.run(both())
    shown = [msgspec.json.decode(answer) for answer in (found, expected)]
    for answer in shown:
        answer["tags"].sort()  # a set has no order
    assert shown[0] == shown[1]


def test_columns_are_native(url):
    """People find text, numbers and times in the columns, and JSON where it is JSON."""

    async def write():
        async with AsyncStore.open(url, **PATIENT) as store:
            states = store.collection(Everything)
            async with states.session("a", subject="ann") as state:
                state.text, state.level, state.flag = "hello", 7, True
                state.clicks += 3
                state.spent += 0.5
                state.tags.add("red")
                state.history.append(Item("x"), Item("y"))
                state.tally.add("k", 2)

    asyncio.run(write())

    async def look(connection):
        async def rows(statement):
            found = await connection.execute(text(statement))
            return [tuple(row) for row in found]

        return (
            await rows("SELECT text, level, flag, clicks, spent FROM everything"),
            await rows("SELECT tags FROM everything"),
            await rows("SELECT seq, value FROM everything__history ORDER BY seq"),
            await rows("SELECT whole, real FROM everything__tally".replace("real", "`real`"))
            if "mariadb" in url
            else await rows("SELECT whole, real FROM everything__tally"),
        )

    columns, tags, items, sums = behind(url, look)
    assert columns == [("hello", 7, True, 3, 0.5)]
    assert msgspec.json.decode(tags[0][0]) == {"red": 1}
    assert [(seq, msgspec.json.decode(value)["name"]) for seq, value in items] == [
        (1, "x"),
        (2, "y"),
    ]
    assert sums == [(2, None)]


SYSTEM = ("xmin", "xmax", "cmin", "cmax", "ctid", "tableoid", "oid")
"""What every table of PostgreSQL's has."""

ODD = Layout(
    "odd",
    tuple(
        FieldLayout(name, field, frozenset(changes.split()), values, 1, 1 << 20)
        for name, field, changes, values in (
            ("number", "register", "put drop", int),
            ("words", "register", "put drop", str),
            ("maybe", "register", "put drop", str | None),
            ("count", "counter", "add drop", int),
            ("subject", "register", "put drop", str),
            ("Name", "register", "put drop", str),
            ("na me", "register", "put drop", str),
            *((name, "register", "put drop", str) for name in SYSTEM),
            ("x@2", "log", "append drop", str),
            ("ops", "log", "append drop", str),
        )
    ),
    ops=16,
)


def driven(url, play, layout=ODD):
    async def run():
        driver = opened(url)
        try:
            await driver.open(layout)
            return await play(driver)
        finally:
            await driver.close()

    return asyncio.run(run())


def commit(*changes, id="a", **options):
    return Commit(("t", "odd", id), changes, None, **options)


def test_a_null_is_not_absent(url):
    """JSON's null in a column of text is kept apart from no value, also when others change."""

    async def play(driver):
        key = ("t", "odd", "a")
        await driver.commit([commit(Put("maybe", "", b"null"), Put("words", "", b'""'))], 0.0)
        await driver.commit([commit(Put("words", "", b'"x"'))], 0.0)
        first = (await driver.read([key], Want(fields=("maybe",)), 0.0))[0]
        await driver.commit([commit(Put("maybe", "", b'"null"'))], 0.0)
        second = (await driver.read([key], Want(), 0.0))[0]
        return first.fields, second.fields

    first, second = driven(url, play)
    assert first == {"maybe": {"": b"null"}}
    assert second == {"maybe": {"": b'"null"'}, "words": {"": b'"x"'}}


@pytest.mark.parametrize(
    "change",
    [
        Put("number", "", b"9223372036854775808"),
        Put("number", "", b"1.5"),
        Put("words", "", b"1"),
        Put("words", "", b"\xff"),
        Put("words", "more", b'"x"'),
        Put("nobody", "", b'"x"'),
    ],
)
def test_what_no_column_holds_is_invalid(url, change):
    """A value that is not of its column's type is refused, and nothing of the commit is written."""

    async def play(driver):
        (outcome,) = await driver.commit([commit(Add("count", "", 1), change)], 0.0)
        assert (outcome.field, outcome.reason) == (change.field, "value")
        return await driver.read([("t", "odd", "a")], Want(), 0.0)

    assert driven(url, play) == [None]


def test_a_counter_of_ints_stays_one(url):
    """A float added to a column of ints is refused, not rounded."""

    async def play(driver):
        return await driver.commit(
            [commit(Add("count", "", 1)), commit(Add("count", "", 0.5))], 0.0
        )

    written, refused = driven(url, play)
    assert isinstance(written, Written)
    assert (refused.field, refused.reason) == ("count", "type")
    assert isinstance(refused, Refused)


def test_names_that_are_none_for_a_column(url):
    """Fields may be named like columns and tables of ours, or like nothing that SQL takes."""
    names = ("subject", "Name", "na me", *SYSTEM)

    async def play(driver):
        await driver.commit([commit(*(Put(n, "", b'"%s"' % n.encode()) for n in names))], 0.0)
        return (await driver.read([("t", "odd", "a")], Want(), 0.0))[0]

    cells = driven(url, play)
    assert cells.fields == {name: {"": b'"%s"' % name.encode()} for name in names}
    assert cells.subject is None


def test_a_deadline_beyond_the_calendar(url):
    """A ttl of ten thousand years is one until the end of the year 9999."""

    async def play(driver):
        await driver.commit([Commit(("t", "odd", "a"), (), 3.2e11)], 1.7e9)
        return (await driver.read([("t", "odd", "a")], Want(), 1.7e9))[0].deadline

    assert 2.5e11 < driven(url, play) < math.inf


def test_nul_in_postgresql(statehold_postgres):
    """PostgreSQL's text cannot hold NUL: it is refused, and the other commits of a store go on."""
    url = statehold_postgres.new_database()

    async def play(driver):
        (refused,) = await driver.commit([commit(Put("words", "", b'"a\\u0000b"'))], 0.0)
        assert refused.reason == "value"
        return await driver.commit([commit(Put("words", "", b'"a"'))], 0.0)

    assert isinstance(driven(url, play)[0], Written)


def test_a_description_says_what_earlier_releases_read():
    """Its words are a format: those that were written stay readable, and older releases read these."""
    said = msgspec.json.encode(
        Description((FieldStorage("turns", "items", "json", "turns__end", "chat__turns"),))
    )
    assert said == (
        b'{"fields":[{"name":"turns","lies":"items","holds":"json","column":"turns__end",'
        b'"table":"chat__turns"}],"format":2}'
    )
