"""Numbers come back as they were, what is too large is said to be, and a bad value spoils no other."""

import json
import math
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from statehold import Counter, Invalid, Log, Map, Register, State, Steps, Store, TooLarge
from statehold.changes import Put
from statehold.commits import EVERYTHING
from statehold.driver import Written
from statehold.testing.servers import MariadbServer
from tests.sql.sqlbackends import NOW, commit, database, key, opened, play, portable

NUMBERS = [
    *(1e16, -1e16, 1e17, 1e22, 1.5e300, 1.7976931348623157e308, 5e-324, 1e-7, -0.0, 0.0, 2.0),
    *(0.30000000000000004, 123456789.12345678, 10**16, -(10**18), 0, 7),
    *({"a": [1e16, -0.0, {"b": 1e22}]}, [1e16, '-0.0 1e16 \\ "1e5"', -0.0], "1e16", "\\"),
]


class Job(State, ttl=timedelta(hours=1)):
    notes = Map(str, Any, keep=50)
    steps = Steps(Any, keep=50)
    real = Register(float, default=1.0)
    anything = Register(Any, default=None)
    log = Log(Any, keep=50)
    whole = Register(int, default=0)
    turns = Counter()


@pytest.fixture(params=["postgresql", "mariadb", "sqlite"])
def url(request, tmp_path):
    return database(request, request.param, tmp_path)


def test_numbers_come_back_by_value_and_type(url):
    """Within maps, steps, registers and logs, alone and with others, read and returned."""
    with Store.open(url) as store:
        jobs = store.collection(Job)
        for n, value in enumerate(NUMBERS):
            jobs.apply("alone", Job.notes.put(f"k{n}", value))
            edits = (Job.steps.put(f"k{n}", value), Job.log.append(value), Job.anything.put(value))
            returned = jobs.apply("both", *edits, returning=["anything", "steps"])
            assert repr(returned.anything) == repr(value)
            assert repr(returned.steps[f"k{n}"]) == repr(value)
        jobs.apply("all", *(Job.notes.put(f"k{n}", value) for n, value in enumerate(NUMBERS)))
        for found in (jobs.get("alone").notes, jobs.get("all").notes, jobs.get("both").steps):
            assert [repr(found[f"k{n}"]) for n in range(len(NUMBERS))] == list(map(repr, NUMBERS))
        assert list(map(repr, jobs.get("both").log)) == list(map(repr, NUMBERS))


EXACT = [
    *(
        b"1e400",
        b"-1E+400",
        b"1e-4000",
        b"0.12345678901234567890123456789",
        b"12345678901234567890.5",
    ),
    *(b'{"a":[1e400,{"b":0.1}],"c":":{"}', b'{"a":{"a":1},"\\u0062":{"a":1}}', b"-0.0", b"1e16"),
]


def exactly(raw):
    """What JSON says, its numbers to the last digit, and of which kind."""
    number = lambda text: (text.lstrip("-").isdigit(), text[0] == "-", Decimal(text))  # noqa: E731
    return json.loads(raw, parse_float=number, parse_int=number)


@pytest.mark.parametrize("open_", [opened, portable])
def test_numbers_that_no_float_says_come_back_as_they_were(url, open_):
    """What is JSON already is stored as it is; -0.0 alone is told from no number that is smaller."""

    async def work(driver):
        for n, value in enumerate(EXACT):
            await driver.commit([commit(Put("map", f"{n}", value, bound=64))], NOW)
        (found,) = await driver.read([key()], EVERYTHING, NOW)
        return [found.fields["map"][f"{n}"] for n in range(len(EXACT))]

    assert list(map(exactly, play(url, work, open_=open_))) == list(map(exactly, EXACT))


NEVER = (
    *(b"1e-200000", b"1e999999999", b"1e99999999999999999999", b"-1e-400"),
    *(b'{"a":1,"a":2}', b'[{"b":{"a":1,"\\u0061":2}}]'),
)


@pytest.mark.parametrize("open_", [opened, portable])
@pytest.mark.parametrize("value", NEVER)
def test_what_jsonb_would_change_is_refused(statehold_postgres, value, open_):
    async def work(driver):
        wrong = commit(Put("map", "k", value, bound=64))
        return await driver.commit([wrong, commit(Put("map", "k", b"1", bound=64), id="b")], NOW)

    refused, written = play(statehold_postgres.new_database(), work, open_=open_)
    assert (refused.field, refused.reason) == ("map", "value")
    assert isinstance(written, Written)


def test_minus_zero_in_a_column(url):
    """-0.0 is told from 0.0, also after the other one."""
    with Store.open(url) as store:
        jobs = store.collection(Job)
        for number in (-0.0, 0.0, 1.5, -0.0, 2.0):
            jobs.apply("a", Job.real.put(number))
            found = jobs.get("a").real
            assert (found, math.copysign(1, found)) == (number, math.copysign(1, number))


def test_a_value_that_cannot_be_stored_leaves_its_neighbours_alone(url):
    """Each commit of a bulk call has an outcome of its own."""
    with Store.open(url) as store:
        jobs = store.collection(Job)
        calls = [(f"s{n}", [Job.turns.add(1)]) for n in range(9)]
        calls[4] = ("bad", [Job.turns.add(1), Job.whole.put(2**70)])
        found = jobs.apply_many(calls)
        assert isinstance(found[4], Invalid)
        assert "64 bits" in str(found[4])
        assert [jobs.get(f"s{n}").turns for n in range(9) if n != 4] == [1] * 8
        assert not jobs.get("bad").meta.exists
        with pytest.raises(Invalid, match="64 bits"):
            jobs.apply("bad", Job.whole.put(2**70))


def test_bulk_calls_of_any_size(url):
    """They go down in pieces, each with the time of a call."""
    with Store.open(url, timeout=3.0) as store:
        jobs = store.collection(Job)
        ids = [f"s{n}" for n in range(3000)]
        assert len(jobs.apply_many([(id, [Job.turns.add(1)]) for id in ids])) == len(ids)
        found = jobs.get_many(ids)
        assert sum(state.turns for state in found.values()) == len(ids)


class Large(State, ttl=timedelta(hours=1), limit_bytes=1 << 30):
    text = Register(str, default="", max_bytes=30_000_000)
    log = Log(str, keep=2, max_bytes=30_000_000)
    many = Map(str, str, keep=10, max_bytes=2_000_000)


@pytest.fixture(scope="module")
def small_packets():
    with MariadbServer.start(fsync=False) as server:
        server.sql("SET GLOBAL max_allowed_packet = 4194304")
        yield server


@pytest.mark.parametrize(
    "edits",
    [
        [Large.text.put("x" * 4_200_000)],
        [Large.text.put('"' * 1_200_000)],
        [Large.log.append("small", "x" * 4_200_000)],
        [Large.many.put(f"k{n}", "x" * 1_500_000) for n in range(3)],
    ],
    ids=["register", "escaped", "log", "map"],
)
def test_what_a_packet_cannot_hold(small_packets, edits):
    """`TooLarge` names field, size and limit, at once; and what fits is written."""
    with Store.open(small_packets.new_database()) as store:
        larges = store.collection(Large)
        with pytest.raises(TooLarge, match="max_allowed_packet") as caught:
            larges.apply("a", *edits)
        assert caught.value.field in {"text", "log", "many"}
        assert not caught.value.retryable
        larges.apply("a", Large.text.put("x" * 4_100_000), Large.log.append("x" * 4_100_000))
        assert len(larges.get("a").text) == 4_100_000
