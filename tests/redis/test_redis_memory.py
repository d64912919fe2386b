"""What a state on Redis remembers of op ids and of lives that have ended, and what clocks say."""

import math
import time

import pytest

from statehold.changes import Add, Append, Put
from statehold.driver import Doubtful, Scan, Written
from statehold.drivers.redis.clocks import ServerClock
from statehold.drivers.redis.committing import MOST_OPS
from statehold.errors import Invalid
from statehold.testing import Rig
from tests.redis.test_redis_keys import replace_ttl, state_key

COUNT = Add("sum", "k", 1)


@pytest.fixture
def rig(redis_backend):
    rig = Rig(redis_backend)
    yield rig
    rig.close()


def test_rounds_of_a_busy_state_are_kept_for_what_is_sent_again(rig, redis):
    """More than a state is told to remember, as long as they come quickly; not for ever."""
    sent = time.time() - 0.5
    for n in range(0, 1000, 100):
        rig.send(*(rig.commit(COUNT, op=f"op {m}") for m in range(n, n + 100)))
    again = [rig.commit(COUNT, op=f"op {n}", since=sent) for n in range(1000)]
    assert all(isinstance(found, Written) and found.repeated for found in rig.send(*again))
    for n in range(1000, 3000, 100):
        rig.send(*(rig.commit(COUNT, op=f"op {m}") for m in range(n, n + 100)))
    assert rig.try_(COUNT, op="op 1", since=sent) == Doubtful()
    assert rig.try_(COUNT, op="never", since=sent) == Doubtful()
    assert isinstance(rig.try_(COUNT, op="new", since=time.time()), Written)
    assert rig.fields() == {"sum": {"k": 3001}}
    assert redis.cli("STRLEN", state_key(rig) + ":.ops") <= 9 * 129 * 28


def test_few_op_ids_of_many_lives(rig):
    """A state that is erased and made again tells the erasures of a minute apart."""
    for n in range(100):
        rig.write(COUNT, op=f"op {n}")
        rig.erase(op=f"erase {n}")
    rig.write(COUNT, op="last")
    for n in range(100):
        assert rig.erase(op=f"erase {n}").repeated
    assert rig.fields() == {"sum": {"k": 1}}


def test_more_erasures_than_are_remembered_make_doubts(rig, redis):
    """No hash grows without an end; what was forgotten is then not known, rather than done again."""
    sent = time.time() - 1.0
    for n in range(150):
        rig.erase(op=f"erase {n}")
    assert redis.cli("HLEN", state_key(rig)) <= 130
    rig.write(COUNT)
    assert rig.erase(op="erase 0", since=sent) == Doubtful()
    assert rig.erase(op="erase 149").repeated
    assert rig.fields() == {"sum": {"k": 1}}


@pytest.mark.parametrize(
    ("ttl", "age", "ago", "known"),
    [
        (100.0, None, 30.0, True),
        (100.0, None, 90.0, False),
        (None, None, 30.0, True),
        (1.0, None, 5.0, True),
        (1.0, None, 30.0, False),
        (100.0, 50.0, 30.0, False),
    ],
)
def test_how_long_ago_nothing_is_known_of(rig, ttl, age, ago, known):
    """Of a state of which nothing is left: as long as its keys, or its trace, would be there."""
    since = time.time() - ago
    for id in "ab":
        commit = replace_ttl(rig.commit(COUNT, id=id, op="op", since=since, max_age=age), ttl)
        if id == "b":  # somebody else's life has begun
            rig.send(replace_ttl(rig.commit(COUNT, id=id, op="other", max_age=age), ttl))
        (outcome,) = rig.send(commit)
        assert isinstance(outcome, Written if known else Doubtful)


def test_what_no_place_can_keep_is_refused_before_it_is_sent(rig):
    """Each of these was an error of the script's, which looked as if it might pass."""
    for change in (
        Append("log", (b"x",), 0),
        Append("log", (), -1),
        Put("map", "k", b"x", bound=-1),
        Add("sum", "k", 1, bound=-1),
    ):
        with pytest.raises(Invalid) as caught:
            rig.write(change)
        assert caught.value.field == change.field
    with pytest.raises(Invalid, match="op ids"):
        rig.write(COUNT, op="op", ops=MOST_OPS + 1)
    with pytest.raises(Invalid, match="limit"):
        rig.run(rig.driver.scan(Scan(rig.tenant, "basket", limit=0), 0.0))
    assert rig.ids() == []


def test_a_server_s_clock_is_known_ever_more_closely():
    """Each answer bounds it; one that contradicts the others means that it was set."""
    clock = ServerClock()
    assert clock.ahead == -math.inf
    clock.learn(100.0, 0.0, 1.0)
    assert clock.ahead == 99.0
    clock.learn(101.0, 1.0, 1.2)
    assert clock.ahead == pytest.approx(99.8)
    clock.learn(110.5, 10.0, 15.0)  # slow, and says nothing new
    assert clock.ahead == pytest.approx(99.8)
    clock.learn(80.0, 20.0, 20.1)  # set back
    assert clock.ahead == pytest.approx(59.9)
    clock.learn(500.0, 21.0, 21.1)  # set forward
    assert clock.ahead == pytest.approx(478.9)
    clock.correct(600.0, 30.0)
    assert clock.ahead == 570.0
