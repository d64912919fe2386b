"""PostgreSQL's fast path: one round trip, and what it hands back is written the other way, exactly."""

import asyncio
import random
import struct
import time

import pytest

from statehold.changes import INT64_MAX, Accumulate, Add, Append, Drop, Put
from statehold.commits import ABSENT, EVERYTHING, PRESENT, Commit, Revision, Want
from statehold.driver import Conflicted, FencedOff, Layout, Refused, Written
from statehold.drivers.sql.postgres.executor import LANES
from statehold.testing import Proxy
from statehold.testing.model import Model
from statehold.testing.rig import FIELDS, KIND, layout, plain
from tests.sql.sqlbackends import behind, opened

# What the kit's kind lacks: native columns, a JSON one, counters, a column that may be JSON null.
ODD = Layout(
    "odd kind",
    tuple(
        FIELDS[0].__class__(name, field, frozenset(changes.split()), values, bound, 1 << 20)
        for name, field, changes, values, bound in (
            ("name", "register", "put drop", str | None, 1),
            ("number", "register", "put drop", int, 1),
            ("share", "register", "put drop", float, 1),
            ("flag", "register", "put drop", bool, 1),
            ("doc", "register", "put drop", dict, 1),
            ("vector", "vector", "put drop", bytes, 1),
            ("count", "counter", "add drop", int, 1),
            ("weight", "counter", "add drop", float, 1),
            ("Über@2", "map", "put drop", int, 4),
        )
    ),
    ops=8,
)


class Fixture:
    """A driver on a database of its own; calls are those of one event loop."""

    def __init__(self, url, **settings):
        self.runner = asyncio.Runner()
        self.url = url
        self.ops = 0

        async def make():
            return opened(url, {"sweep": "off"} | settings)

        self.driver = self.runner.run(make())
        self.run = self.runner.run
        self.run(self.driver.open(layout()))

    def commit(self, *changes, id="a", op=None, ttl=1000.0, kind=KIND, **options):
        self.ops += 1
        op = f"op {self.ops}" if op is None else op
        return Commit(("t", kind, id), changes, ttl, op, **options)

    def send(self, *commits):
        return self.run(self.driver.commit(commits, time.time()))

    def write(self, *changes, **options):
        (outcome,) = self.send(self.commit(*changes, **options))
        assert isinstance(outcome, Written), outcome
        return outcome

    def read(self, id="a", want=EVERYTHING, kind=KIND):
        return self.run(self.driver.read([("t", kind, id)], want, time.time()))[0]

    def fields(self, id="a", kind=KIND):
        return plain(self.read(id, kind=kind))

    def counted(self, name):
        return self.driver.stats()[name]

    def close(self):
        self.run(self.driver.close())
        self.runner.close()


@pytest.fixture
def fast(statehold_postgres):
    fixture = Fixture(statehold_postgres.new_database())
    yield fixture
    fixture.close()


def array(*numbers):
    return struct.pack(f"<{len(numbers)}d", *numbers)


PLAIN = {
    "nothing": (),
    "put": (Put("note", "", b'"x"'),),
    "put in a map": (Put("map", "k", b'"x"', bound=9), Drop("map", "other")),
    "put in a large map": (Put("book", "k", b'"x"', bound=9), Drop("book", "other")),
    "put in a large map if absent": (Put("book", "k", b"1", if_absent=True, bound=9),),
    "clear a large map": (Drop("book"), Put("book", "k", b"1", bound=1)),
    "put if absent": (Put("once", "k", b"1", if_absent=True, bound=9),),
    "put bytes": (Put("raw", "", b"\0\xff"),),
    "drop": (Drop("map"), Drop("sum", "k"), Drop("log"), Drop("array"), Drop("never heard of")),
    "add": (Add("sum", "k", 2, 9), Add("sum", "f", 0.5, 9)),
    "accumulate": (Accumulate("array", "k", array(1, 2), 9),),
    "add and accumulate": (
        Add("window", "1", 2, 3, drop_lowest=True),
        Accumulate("window", "2", array(1), 3, drop_lowest=True),
    ),
    "append": (Append("log", (b"1", b"2"), 5), Append("trail", (b"{}",), 1)),
    "odd names": (Put("map", 'a"\\\0\n', b"1"), Add("sum", "\\0\0", 1)),
}


@pytest.mark.parametrize("changes", PLAIN.values(), ids=PLAIN)
def test_a_commit_is_one_round_trip(statehold_postgres, changes):
    """Also the first of a state, one that renews a life, carries an op id, an epoch, a condition."""
    with Proxy(statehold_postgres.port) as proxy:
        fast = Fixture(proxy.through(statehold_postgres.new_database()))

        def written(id):
            first = fast.write(*changes, id=id, subject="me", epoch=3, expect=ABSENT, max_age=99.0)
            fast.write(*changes, id=id, epoch=3, expect=PRESENT)
            second = Revision(first.revision.incarnation, 2)
            fast.write(*changes, id=id, op="", epoch=4, expect=second)
            return first, fast.write(*changes, id=id, epoch=4, ttl=None, returning=EVERYTHING)

        written("other")  # prepares the statements
        fast.read(id="other")
        before = proxy.round_trips
        first, last = written("a")
        returned = last.returned
        assert proxy.round_trips - before == 4
        read = fast.read()
        assert proxy.round_trips - before == 5
        assert plain(read) == plain(returned)
        assert read.revision == Revision(first.revision.incarnation, 4)
        assert (read.subject, read.epoch, read.deadline) == ("me", 4, None)
        assert fast.read(want=Want(renew=(500.0, None))).deadline is not None
        assert fast.counted("fast_handed_back_total") == 0
        fast.close()


def test_many_commits_are_one_round_trip(statehold_postgres):
    """A batch of several keys, with several commits on some, is one statement."""
    with Proxy(statehold_postgres.port) as proxy:
        fast = Fixture(proxy.through(statehold_postgres.new_database()))
        fast.send(fast.commit(), fast.commit(id="b"))  # prepares the statement
        before = proxy.round_trips
        outcomes = fast.send(
            *(
                fast.commit(Append("log", (b"%d" % n,), 3), Add("sum", "k", n), id=f"s{n % 7}")
                for n in range(70)
            )
        )
        assert proxy.round_trips - before == 1
        assert [outcome.revision.number for outcome in outcomes] == [n // 7 + 1 for n in range(70)]
        for n in range(7):
            assert fast.fields(f"s{n}") == {
                "log": [b"%d" % (49 + n), b"%d" % (56 + n), b"%d" % (63 + n)],
                "sum": {"k": sum(range(n, 70, 7))},
            }
        fast.close()


def test_callers_who_coincide_share_transactions(fast):
    """In each lane the first caller's commit leaves alone, and those of the others together."""
    fast.send(fast.commit())
    before = fast.counted("transactions_total")

    async def at_once():
        commits = [fast.commit(Add("sum", "k", 1), id=f"s{n}") for n in range(64)]
        return await asyncio.gather(
            *(fast.driver.commit([commit], time.time()) for commit in commits)
        )

    outcomes = fast.run(at_once())
    assert all(isinstance(outcome[0], Written) for outcome in outcomes)
    assert fast.counted("transactions_total") - before <= 2 * LANES
    assert fast.counted("fast_handed_back_total") == 0


def test_columns_of_every_kind(fast):
    """Native columns, JSON null apart from absent, counters, if_absent upon each."""
    fast.run(fast.driver.open(ODD))
    puts = {
        "name": b'"\xc3\xa9\\u0001"',
        "number": b"-9223372036854775808",
        "share": b"1e300",
        "flag": b"true",
        "doc": b'{"b": 1,  "a":[1.0,"\\u0000"]}',
        "vector": b"\0\1",
    }
    put = [Put(name, "", value) for name, value in puts.items()]
    fast.write(*put, Add("count", "", 2), Add("weight", "", 0.5), kind=ODD.kind)
    fast.write(Add("count", "", 2), Add("weight", "", 2), kind=ODD.kind)
    expected = {name: {"": value} for name, value in puts.items()}
    expected["name"] = {"": '"é\\u0001"'.encode()}
    expected |= {"count": {"": 4}, "weight": {"": 2.5}}
    assert fast.fields(kind=ODD.kind) == expected
    fast.write(Put("name", "", b"null"), Put("number", "", b"null"), kind=ODD.kind)
    for name, value in (("name", b'"7"'), ("number", b"7"), ("doc", b"7")):
        fast.write(Put(name, "", value, if_absent=True), kind=ODD.kind)
    expected |= {"name": {"": b"null"}, "number": {"": b"null"}}
    assert fast.fields(kind=ODD.kind) == expected
    fast.write(Put("name", "", b'"x"'), Drop("number"), Drop("count"), kind=ODD.kind)
    fast.write(
        Put("number", "", b"1", if_absent=True),
        Put("number", "", b"2", if_absent=True),
        Drop("weight"),
        Add("weight", "", 1),
        kind=ODD.kind,
    )
    del expected["count"]
    expected |= {"name": {"": b'"x"'}, "number": {"": b"1"}, "weight": {"": 1.0}}
    assert fast.fields(kind=ODD.kind) == expected
    for n in range(3):
        fast.write(Put("Über@2", f"{n}", b"%d" % n, bound=3), kind=ODD.kind)
    assert fast.fields(kind=ODD.kind)["Über@2"] == {"0": b"0", "1": b"1", "2": b"2"}
    fast.write(Drop("Über@2", "1"), Put("Über@2", "9", b"9", bound=3), kind=ODD.kind)
    assert fast.counted("fast_handed_back_total") == 0
    fast.write(Put("Über@2", "0", b"[]", bound=3), Drop("Über@2", "9"), kind=ODD.kind)
    assert fast.fields(kind=ODD.kind)["Über@2"] == {"0": b"[]", "2": b"2"}


def refused(field, reason):
    return lambda outcome: (
        isinstance(outcome, Refused) and (outcome.field, outcome.reason) == (field, reason)
    )


def first_is_repeated(outcome):
    return isinstance(outcome, Written) and outcome.repeated and outcome.revision.number == 1


ODDITIES = {
    "a repeated op id": ({"op": "first"}, (), first_is_repeated),
    "an old epoch": ({"epoch": 4}, (), lambda o: o == FencedOff(5)),
    "absent": ({"expect": ABSENT}, (), lambda o: isinstance(o, Conflicted)),
    "a revision": ({"expect": Revision(1, 1)}, (), lambda o: isinstance(o, Conflicted)),
    "a full map": ({}, (Put("map", "new", b"1", bound=1),), refused("map", "bound")),
    "a full tally": ({}, (Add("sum", "new", 1, 1),), refused("sum", "bound")),
    "full for a moment": (
        {},
        (Put("map", "new", b"1", bound=1), Drop("map", "new")),
        refused("map", "bound"),
    ),
    "beyond int64": ({}, (Add("sum", "k", INT64_MAX),), refused("sum", "range")),
    "a large float": ({}, (Add("sum", "big", 1.7e308),), refused("sum", "range")),
    "not a number": ({}, (Add("sum", "nan", float("nan")),), refused("sum", "range")),
    "another length": ({}, (Accumulate("array", "k", array(1)),), refused("array", "shape")),
    "an array that is too large": (
        {},
        (Accumulate("array", "k", array(1.7e308, 0)),),
        refused("array", "range"),
    ),
    "a number to an array": ({}, (Add("window", "1", 1),), refused("window", "type")),
    "an array to a number": (
        {},
        (Accumulate("window", "2", array(1)),),
        refused("window", "type"),
    ),
    "put, then dropped": (
        {},
        (Put("map", "n", b"1", bound=9), Drop("map", "n")),
        lambda o: isinstance(o, Written),
    ),
    "an erasure": ({"erase": True}, (), lambda o: isinstance(o, Written)),
}


@pytest.mark.parametrize(("options", "changes", "right"), ODDITIES.values(), ids=ODDITIES)
def test_what_is_unusual_is_decided_exactly(fast, options, changes, right):
    """In the midst of a batch; the others are written, and its key's commits stay in order."""
    fast.write(
        Put("map", "k", b'"old"'),
        Add("sum", "k", 1),
        Add("sum", "big", 1.7e308),
        Accumulate("array", "k", array(1.7e308, 2)),
        Accumulate("window", "1", array(1)),
        Add("window", "2", 1),
        op="first",
        epoch=5,
    )
    before = fast.counted("fast_handed_back_total")
    common = {"epoch": 5}
    outcomes = fast.send(
        fast.commit(Append("log", (b"0",), 9), **common),
        fast.commit(Append("log", (b"1",), 9), id="b"),
        fast.commit(*changes, **(common | options)),
        fast.commit(Append("log", (b"2",), 9), Append("log", (b"3",), 9), **common),
        fast.commit(Append("log", (b"4",), 9), id="c"),
    )
    assert right(outcomes[2]), outcomes[2]
    written = [outcomes[n] for n in (0, 1, 3, 4)]
    assert all(isinstance(outcome, Written) and not outcome.repeated for outcome in written)
    erased = options.get("erase", False)
    assert fast.fields("a")["log"] == ([] if erased else [b"0"]) + [b"2", b"3"]
    assert (fast.fields("b"), fast.fields("c")) == ({"log": [b"1"]}, {"log": [b"4"]})
    stands = isinstance(outcomes[2], Written) and not outcomes[2].repeated
    assert fast.read().revision.number == (1 if erased else 3 + stands)
    assert 2 <= fast.counted("fast_handed_back_total") - before <= 3


def test_a_value_that_no_column_holds_is_found(fast):
    """One in a large batch: it alone is refused, as if it had come alone."""
    commits = [fast.commit(Put("map", "k", b'"x"'), id=f"s{n}") for n in range(40)]
    commits[17] = fast.commit(Put("map", "k", b'"\\ud800"'), id="s17")
    answers = fast.run(fast.driver.executor.commit(commits, time.time()))
    assert [place for place, answer in enumerate(answers) if isinstance(answer, Commit)] == [17]
    (refused,) = fast.send(commits[17])
    assert refused.reason == "value"
    assert fast.read("s17") is None
    assert fast.fields("s39") == {"map": {"k": b'"x"'}}


def test_one_subject_after_several(fast):
    """It is written the other way, which unlists the others; what says none goes the short one."""
    listed = 'SELECT subject FROM "basket__also_about"'
    for op in ("", None):  # alone, by a statement or by the function, and in a batch
        fast.write(Add("sum", "k", 1), subject=("ann", "run 7"))
        handed_back = fast.counted("fast_handed_back_total")
        fast.write(Add("sum", "k", 1), op=op)
        fast.send(fast.commit(Add("sum", "k", 1)), fast.commit(Add("sum", "k", 1), id="b"))
        assert fast.counted("fast_handed_back_total") == handed_back
        assert (fast.read().subject, rows(fast, listed)) == (("ann", "run 7"), ["run 7"])
        fast.write(Add("sum", "k", 1), op=op, subject="bob")
        assert fast.counted("fast_handed_back_total") == handed_back + 1
        assert (fast.read().subject, rows(fast, listed)) == ("bob", [])
        fast.write(subject=("ann", "run 7"))
        fast.send(
            fast.commit(Add("sum", "k", 1), subject="eve"),
            fast.commit(Add("sum", "k", 1), id="b", subject="eve"),
        )
        assert (fast.read().subject, rows(fast, listed)) == ("eve", [])
        assert fast.read(id="b").subject == "eve"


def test_a_new_life_is_about_none_of_the_old_ones(fast):
    """The function that begins it deletes what listed the old one, without handing it back."""
    fast.write(Add("sum", "k", 1), ttl=0.5, subject=("ann", "run 7"))
    fast.write(Add("sum", "k", 1), id="b", subject=("ann", "run 8"))
    handed_back = fast.counted("fast_handed_back_total")
    time.sleep(0.55)
    fast.write(Add("sum", "k", 1))
    assert fast.counted("fast_handed_back_total") == handed_back
    assert fast.read().subject is None
    assert rows(fast, 'SELECT subject FROM "basket__also_about"') == ["run 8"]


def test_a_new_life_is_a_new_row(fast):
    """With nothing of the old one in any table, and the op ids of the old one unknown."""
    others = ("odd names", "drop", "clear a large map")
    several = [some for name, some in PLAIN.items() if name not in others]
    fast.write(*(change for some in several for change in some), op="again", ttl=1.0, subject="me")
    old = fast.read()
    query = 'SELECT state FROM "basket"'
    (state,) = rows(fast, query)
    time.sleep(1.05)
    assert fast.read() is None
    assert fast.read(want=Want(renew=(99.0, None))) is None
    first, second = fast.send(
        fast.commit(Append("log", (b'"new"',), 5), op="again"), fast.commit(Add("sum", "k", 1))
    )
    assert first.revision.incarnation != old.revision.incarnation
    assert (first.revision.number, second.revision.number) == (1, 2)
    assert (first.repeated, fast.fields()) == (False, {"log": [b'"new"'], "sum": {"k": 1}})
    assert (fast.read().subject, fast.read().epoch) == (None, 0)
    assert rows(fast, query) != [state]
    for table in ("log", "sum", "array", "window", "ops", "trail", "book"):
        assert rows(fast, f'SELECT state FROM "basket__{table}" WHERE state = {state}') == []
    assert fast.counted("fast_handed_back_total") == 0


def rows(fast, query):
    async def ask(connection):
        return (await connection.exec_driver_sql(query)).scalars().all()

    return behind(fast.url, ask)


def test_plans_stay_good_and_rows_in_backend(fast):
    """Statements planned for empty tables never scan a table, and main rows keep their page."""
    for n in range(0, 600, 60):
        fast.send(*(fast.commit(*ONE_OF_MANY, id=f"s{m}") for m in range(n, n + 60)))
    fast.send(*(fast.commit(*ONE_OF_MANY, id=f"s{m % 50}") for m in range(400)))
    fast.read("s5")
    made, elsewhere = updates(fast)
    for n in range(500):
        fast.write(ONE_OF_MANY[0], ONE_OF_MANY[2], id=f"s{n % 50}")
    made_later, elsewhere_later = updates(fast)
    assert made_later - made >= 500
    assert elsewhere_later - elsewhere < 50  # rows move when they are made, and stay
    scans = (
        "SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE relname ~ 'basket'"
    )
    assert rows(fast, scans) == [0]


def updates(fast):
    """How many there were of main rows, as far as the server has counted, and how many off their page."""
    statistics = "SELECT pg_stat_force_next_flush()"
    pools = fast.driver.executor.sender.pools
    fast.run(pools.run(lambda connection: connection.fetchval(statistics), []))
    time.sleep(0.2)
    query = "SELECT unnest(ARRAY[n_tup_upd, n_tup_upd - n_tup_hot_upd]) FROM pg_stat_user_tables"
    return rows(fast, f"{query} WHERE relname = 'basket'")


ONE_OF_MANY = (Append("log", (b"1",), 5), Add("sum", "k", 1), Put("map", "k", b"1", bound=9))


@pytest.mark.parametrize("seed", range(3))
def test_batches_and_the_model_agree(fast, seed):
    """Random batches with much on few keys: outcomes and cells are those of the kit's model."""
    chance = random.Random(seed)
    model = Model(exact=False)
    revisions = [ABSENT, PRESENT]
    for _ in range(60):
        commits = [some_commit(fast, chance, revisions) for _ in range(chance.randint(1, 12))]
        now = time.time()
        outcomes = fast.send(*commits)
        for commit, outcome in zip(commits, outcomes, strict=True):
            model.judge(commit, outcome, now)
            if isinstance(outcome, Written):
                revisions.append(outcome.revision)
        for id in "abc":
            model.check_read(("t", KIND, id), EVERYTHING, fast.read(id), time.time())
    assert fast.counted("fast_commits_total") > 100  # so both ways were gone
    assert fast.counted("fast_handed_back_total") > 50


def some_commit(fast, chance, revisions):
    options = {}
    if chance.random() < 0.1:
        options["expect"] = chance.choice([*revisions[-6:], ABSENT, PRESENT])
    if chance.random() < 0.1:
        options["op"] = f"op {chance.randint(1, fast.ops + 1)}"
    if chance.random() < 0.1:
        options["returning"] = EVERYTHING
    if chance.random() < 0.03:
        return fast.commit(id=chance.choice("abc"), erase=True, **options)
    changes = [some_change(chance) for _ in range(chance.randint(0, 3))]
    return fast.commit(*changes, id=chance.choice("abc"), **options)


def some_change(chance):  # noqa: PLR0911  one for each kind of change
    entry = chance.choice(("", "a", "b", "c", "\\", "\0") if chance.random() < 0.1 else "abc")
    bound, low = 3, True
    match chance.randrange(9):
        case 0:
            return Put("note", "", b'"%d"' % chance.randrange(9), chance.random() < 0.3)
        case 1:
            return Put("map", entry, b"%d" % chance.randrange(9), False, bound)
        case 2:
            return Put("once", entry, b"%d" % chance.randrange(9), True, bound)
        case 3:
            return Add(
                "sum",
                entry,
                chance.choice((1, -1, 5, 0.5) if chance.random() < 0.9 else (-(2**63), 2**62)),
                bound,
            )
        case 4:
            return Accumulate(
                "array", entry, array(*[1.0] * (2 + (chance.random() < 0.1))), bound, low
            )
        case 5:
            return Add("window", entry.lower(), chance.choice((1, 2.5)), bound, low)
        case 6:
            return Accumulate("window", entry.upper(), array(1.0, 2.0), bound, low)
        case 7:
            items = tuple(b"%d" % chance.randrange(99) for _ in range(chance.randrange(4)))
            return Append("log", items, chance.choice((1, 3, 5)))
        case _:
            field = chance.choice(("note", "map", "once", "sum", "array", "window", "log"))
            return Drop(field, None if field == "log" else chance.choice((None, "", "a", "b")))
