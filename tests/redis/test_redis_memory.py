"""What a state on Redis remembers of op ids and of lives that have ended."""

import time

import pytest

from statehold.backends import open_driver
from statehold.changes import Add, Append, Put
from statehold.driver import Doubtful, Reused, Scan, Written
from statehold.drivers.redis.commands import MOST_OPS
from statehold.drivers.redis.keys import Keys
from statehold.errors import Invalid
from statehold.testing import Backend, Rig
from tests.redis.client.linking import TICK
from tests.redis.test_redis_keys import keys, replace_ttl, state_key

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


def test_erasures_that_come_quickly_are_put_aside(rig, redis):
    """The state's hash does not grow by them; what holds them ends when none is to be known any more."""
    state = state_key(rig)
    began = time.time()
    for begin in range(0, 1000, 100):
        rig.send(*(rig.commit(erase=True, op=f"erase {n}") for n in range(begin, begin + 100)))
    assert redis.cli("HLEN", state) <= 129
    aside = [key for key in keys(redis) if key != state]
    assert 1 <= len(aside) <= 2
    for key in aside:
        assert key in (state + ":.erased0", state + ":.erased1")
        assert began + 60.0 <= redis.cli("PEXPIRETIME", key) / 1000 <= time.time() + 120.0
    rig.write(COUNT, op="first", ops=16)
    assert redis.cli("HLEN", state) <= 131
    erasures = [rig.commit(erase=True, op=f"erase {n}") for n in range(1000)]
    assert all(outcome.repeated for outcome in rig.send(*erasures))
    assert isinstance(rig.try_(COUNT, op="erase 0"), Reused)
    assert rig.fields() == {"sum": {"k": 1}}
    for key in aside:  # as time does
        redis.cli("DEL", key)
    for n in range(40):  # which looks after them now and then
        rig.write(COUNT, op=f"op {n}", ops=16)
    assert redis.cli("HGET", state, ".")[-1:] == "\x01"
    assert rig.erase(op="erase 999").repeated
    assert rig.fields() == {"sum": {"k": 41}}


def test_erasures_are_not_put_aside_while_their_slot_is_moved(statehold_redis_cluster):
    """They stay where they are until it is: no key can be made at the node that gives it away."""
    cluster = statehold_redis_cluster
    cluster.flush()
    rig = Rig(Backend(open=lambda: open_driver(cluster.url), own_clock=TICK))
    try:
        for n in range(128):
            rig.erase(op=f"erase {n}")
        rig.write(COUNT, op="op")
        slot = Keys().state(rig.key())[0]
        source = next(
            each
            for each in cluster.masters()
            for first, last, (_, port, *_), *_ in each.cli("CLUSTER", "SLOTS")
            if first <= slot <= last and port == each.port
        )
        target = next(each for each in cluster.masters() if each is not source)
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", target.cli("CLUSTER", "MYID"))
        try:
            assert not rig.erase(op="erase 128").repeated
        finally:
            source.cli("CLUSTER", "SETSLOT", slot, "STABLE")
        assert source.cli("HLEN", state_key(rig)) > 128
        rig.write(Add("sum", "k", 10))
        again = [rig.commit(erase=True, op=f"erase {n}") for n in range(129)]
        assert all(outcome.repeated for outcome in rig.send(*again))
        assert rig.fields() == {"sum": {"k": 10}}
        rig.erase(op="erase 129")
        assert source.cli("HLEN", state_key(rig)) < 10
    finally:
        rig.close()


MADE_SHORT = {
    "a ttl of its own": {"ttl": 0.05},
    "a maximum age": {"ttl": 100.0, "max_age": 0.05},
}


@pytest.mark.parametrize("short", MADE_SHORT)
@pytest.mark.parametrize("meanwhile", ["nothing", "a life", "an erasure", "a claim"])
@pytest.mark.parametrize("passed", [13.0, 55.0, 75.0])
def test_a_short_life_is_known_for_as_long_as_a_long_one(rig, redis, short, meanwhile, passed):
    """However short it was, what is sent again later is not applied, though others have written since."""
    options = dict(MADE_SHORT[short])
    ttl = options.pop("ttl")
    rig.send(replace_ttl(rig.commit(COUNT, op="op", **options), ttl))
    rig.send(replace_ttl(rig.commit(COUNT, id="long", op="op"), 100.0))
    rig.send(replace_ttl(rig.commit(COUNT, id="long", op="other", **options), ttl))
    sent = time.time() - passed - 0.2
    time.sleep(0.1)
    for key in keys(redis):  # as time does
        redis.cli("PEXPIREAT", key, redis.cli("PEXPIRETIME", key) - round(1000 * passed))
    for id in ("a", "long"):
        epoch = 0
        if meanwhile == "a life":
            rig.write(Add("sum", "k", 10), id=id)
        elif meanwhile == "an erasure":
            rig.erase(id, op="erasure")
        elif meanwhile == "a claim":
            epoch = rig.write(id=id, claim=1.0).epoch
        outcome = rig.try_(COUNT, id=id, op="op", since=sent, epoch=epoch)
        assert outcome == Doubtful() or outcome.repeated, f"{id}: applied again, {outcome}"
        if meanwhile == "a life":
            assert rig.fields(id) == {"sum": {"k": 10}}
        else:
            assert rig.read(id) is None


@pytest.mark.parametrize(
    ("ttl", "age", "ago", "known"),
    [
        (100.0, None, 30.0, True),
        (100.0, None, 90.0, False),
        (None, None, 30.0, True),
        (None, None, 90.0, False),
        (1.0, None, 50.0, True),
        (1.0, None, 90.0, False),
        (100.0, 50.0, 50.0, True),
        (100.0, 50.0, 90.0, False),
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
