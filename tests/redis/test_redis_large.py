"""Large fields on Redis have hashes of their own, and nobody has to go through them for the rest of the state."""

import pytest
from msgspec.structs import replace

from statehold.backends import open_driver
from statehold.changes import Accumulate, Add, Append, Drop, Put
from statehold.commits import Is, Want
from statehold.driver import Conflicted, Written
from statehold.drivers.redis import lives
from statehold.drivers.redis.keys import Keys
from statehold.drivers.redis.lua.scripts import COMMIT
from statehold.errors import Unavailable
from statehold.testing import Backend, Rig
from statehold.testing.conformance import (
    Commits,
    CommitsTogether,
    Conditions,
    Fences,
    Lifetimes,
    WholeLives,
)
from tests.redis.client.linking import TICK
from tests.redis.conftest import damage, emptied
from tests.redis.smaller import SMALL, open_smaller
from tests.redis.test_redis_conformance import FewerExamples
from tests.redis.test_redis_keys import calls, check_ends, keys, state_key

MANY = 3_000


def place_of(server, **hooks):
    server.flush()
    return Backend(
        open=lambda: open_smaller(server.url),
        recipe="tests.redis.smaller:open_smaller",
        arguments=(server.url,),
        own_clock=TICK,
        **hooks,
    )


@pytest.fixture
def smaller(monkeypatch):
    """Nothing of the smaller driver's stays behind."""
    monkeypatch.setattr(lives, "LARGE", lives.LARGE)


@pytest.mark.usefixtures("smaller")
class TestRedis(Commits, CommitsTogether, Conditions, Lifetimes, Fences, WholeLives, FewerExamples):
    @pytest.fixture
    def backend(self, statehold_redis):
        return place_of(
            statehold_redis, corrupt=lambda key, field: damage(statehold_redis, key, field)
        )


@pytest.mark.usefixtures("smaller")
class TestCluster(Commits, Lifetimes, WholeLives, FewerExamples):
    @pytest.fixture
    def backend(self, statehold_redis_cluster):
        return place_of(statehold_redis_cluster)


@pytest.fixture(params=["statehold_redis", "statehold_valkey"])
def redis(request):
    """A server with nothing in it, of either kind."""
    return emptied(request)


@pytest.fixture
def rig(redis_backend):
    rig = Rig(redis_backend)
    yield rig
    rig.close()


def many(count=MANY, field="map"):
    return tuple(Put(field, f"{n}", b"%d" % n) for n in range(count))


def test_the_smaller_driver_has_other_scripts():
    """Else the classes above would test what others do."""
    assert sum(one.sha == COMMIT.sha for one in SMALL) == 0


@pytest.mark.usefixtures("smaller")
def test_every_key_of_a_large_field_ends_with_its_state(redis):
    """After random work, as for other keys."""
    check_ends(place_of(redis), redis, examples=60)


def cost(redis, work):
    """How often each command is executed for it, by name."""
    calls(redis)
    work()
    done = calls(redis)
    done.pop("config|resetstat", None)
    done.pop("info", None)
    return done


WORK = {
    "a read of a counter": lambda rig: rig.read(want=Want(("sum",))),
    "a read of a map of one entry": lambda rig: rig.read(want=Want(("window",))),
    "a read of single entries": lambda rig: rig.read(want=Want(("map",), entries={"map": ("7",)})),
    "a commit that returns": lambda rig: rig.write(
        Add("sum", "", 1), returning=Want(("sum", "window"))
    ),
    "an entry of its own": lambda rig: rig.write(Put("map", "7", b"x")),
    "a new entry of its own": lambda rig: rig.write(Put("map", "new", b"x")),
    "an end that moves": lambda rig: rig.write(Add("sum", "", 1), ttl=50_000.0),
    "a renewal": lambda rig: rig.read(want=Want(("sum",), renew=(90_000.0, None))),
    "a condition": lambda rig: rig.write(Add("sum", "", 1), where=(Is("map", "8", b"8"),)),
    "its end": lambda rig: rig.write(Drop("map")),
    "the state's end": lambda rig: rig.erase(),
}


def test_a_large_neighbour_costs_nothing(rig, redis):
    """The same commands whether it has 200 entries or 3,000, none of which goes through them."""
    found = {}
    for size in (200, MANY):
        rig.write(*many(size), Add("sum", "", 1), Add("window", "k", 1), Append("log", (b"x",), 3))
        state = state_key(rig)
        assert redis.cli("HLEN", state + ":map") == size
        for what, work in WORK.items():
            if what != "the state's end":
                assert redis.cli("HLEN", state) <= 7, what  # what HKEYS and HGETALL go through
            done = cost(redis, lambda work=work: work(rig))
            assert found.setdefault(what, done) == done, what
            assert "del" not in done, what
        assert "unlink" in found["its end"]
        assert redis.cli("EXISTS", state + ":map") == 0


def test_a_field_moves_once_and_stays(rig, redis):
    """Into a hash of its own when it has over 128 entries, which ends with the state, until it has none."""
    state = state_key(rig)
    rig.write(*many(128), Add("sum", "k", 1), ttl=500.0)
    assert redis.cli("EXISTS", state + ":map") == 0
    rig.write(Put("map", "more", b"x"), Drop("map", "3"), Put("map", "4", b"new"), ttl=500.0)
    left = {f"{n}": b"%d" % n for n in range(128) if n != 3} | {"more": b"x", "4": b"new"}
    assert redis.cli("HLEN", state + ":map") == 128
    assert sorted(redis.cli("HKEYS", state)) == ["#:map", "#sum", ".", "sum:k"]
    assert rig.fields() == {"map": left, "sum": {"k": 1}}
    ends = {redis.cli("PEXPIRETIME", key) for key in keys(redis)}
    assert len(ends) == 1
    rig.write(*(Drop("map", entry) for entry in left if entry != "4"))
    assert redis.cli("HKEYS", state + ":map") == ["4"]
    rig.write(Drop("map", "4"))
    assert redis.cli("EXISTS", state + ":map") == 0
    rig.write(Put("map", "again", b"x"))
    assert redis.cli("HGET", state, "map:again") == "x"
    assert rig.fields() == {"map": {"again": b"x"}, "sum": {"k": 1}}


def test_a_field_is_replaced_whole_in_one_commit(rig, redis):
    """Dropped and filled again, with more or with less, or with a list in its place."""
    rig.write(*many(200))
    rig.write(Put("map", "gone", b"x"), Drop("map"), *many(300))
    assert rig.fields() == {"map": {f"{n}": b"%d" % n for n in range(300)}}
    rig.write(Drop("map"), *many(2))
    assert rig.fields() == {"map": {"0": b"0", "1": b"1"}}
    assert redis.cli("EXISTS", state_key(rig) + ":map") == 0
    rig.write(*many(200))
    rig.write(Drop("map"), Append("map", (b"x",), 3))
    assert rig.fields() == {"map": [b"x"]}
    rig.write(Drop("map"), *many(200))
    assert len(rig.fields()["map"]) == 200


def test_the_lowest_entry_gives_way_in_a_hash_of_its_own(rig):
    """And the bound is kept there."""
    rig.write(*many(200))
    rig.write(Put("map", "zz", b"x", bound=200, drop_lowest=True))
    found = rig.fields()["map"]
    assert len(found) == 200
    assert "0" not in found
    assert rig.try_(Put("map", "zzz", b"x", bound=200)).reason == "bound"


def test_an_installed_life_has_its_large_fields_apart(rig, redis):
    """A life that is read whole is installed with them, over one that has others."""
    rig.write(*many(300), Add("sum", "", 1), Accumulate("array", "a", b"\0" * 8))
    life = rig.lives("a")[0]
    rig.install(replace(life, key=rig.key("b")))
    assert rig.fields("b") == rig.fields("a")
    assert redis.cli("HLEN", state_key(rig, "b") + ":map") == 300
    rig.write(*(Drop("map", f"{n}") for n in range(100)))
    later = rig.lives("a")[0]
    assert isinstance(rig.install(replace(later, key=rig.key("b")))[0], Written)
    assert rig.fields("b") == rig.fields("a")
    assert redis.cli("PTTL", state_key(rig, "b") + ":map") > 0


def test_an_own_hash_that_was_lost_is_reported(rig, redis):
    """When another deletes it, or a part of it, whole or by single entries; never that it is empty."""
    rig.write(*many(200), Add("sum", "k", 1))
    for harm in (("HDEL", "{}:map", "7"), ("DEL", "{}:map"), ("SET", "{}:map", "no hash")):
        redis.cli(*(word.format(state_key(rig)) for word in harm))
        for want in (Want(), Want(("map",)), Want(("map",), entries={"map": ("3",)})):
            assert rig.read(want=want).corrupted == ("map",)
    rig.write(Drop("map"))
    assert rig.fields() == {"sum": {"k": 1}}


# ------------------------------------------------------------------------------ the layout before

# What the layout before had: all entries in the hash of the state.
BEFORE = """
local state = KEYS[1]
for _, name in ipairs(redis.call('HKEYS', state)) do
  if string.sub(name, 1, 2) == '#:' then
    local field = string.sub(name, 3)
    local held = redis.call('HGETALL', state .. ':' .. field)
    for i = 1, #held, 2 do redis.call('HSET', state, field .. ':' .. held[i], held[i + 1]) end
    redis.call('HSET', state, '#' .. field, redis.call('HGET', state, name))
    redis.call('HDEL', state, name)
    redis.call('DEL', state .. ':' .. field)
  end
end
local meta = redis.call('HGET', state, '.')
redis.call('HSET', state, '.', string.sub(meta, 1, 59) .. '\\0' .. string.sub(meta, 61))
"""

NEXT = {
    "another field": (Add("sum", "k", 1),),
    "an entry that is there": (Put("map", "7", b"new"),),
    "an entry that is new": (Put("map", "new", b"x"),),
    "less": (Drop("map", "7"), Drop("map", "9")),
    "nothing of it": (Drop("map"),),
    "all anew": (Drop("map"), *many(150)),
    "little anew": (Drop("map"), Put("map", "x", b"1")),
}


@pytest.mark.parametrize("what", NEXT)
def test_a_state_of_the_layout_before_is_read_and_moved_when_it_is_written(rig, redis, what):
    """Whatever is read, and whichever commit comes next; what is moved once is not looked at again."""
    for id in "ab":
        rig.write(*many(), *many(3, "window"), Add("sum", "k", 1), Append("log", (b"x",), 3), id=id)
    redis.cli("EVAL", BEFORE, 1, state_key(rig))
    state = state_key(rig)
    assert redis.cli("EXISTS", state + ":map") == 0
    assert redis.cli("HLEN", state) > MANY
    assert rig.fields() == rig.fields("b")
    for want in (Want(("map",)), Want(("window",)), Want(("map",), entries={"map": ("7", "x")})):
        assert rig.read(want=want).fields == rig.read("b", want=want).fields
    held = rig.try_(Add("sum", "k", 0), where=(Is("map", "7", b"8"),))
    assert isinstance(held, Conflicted)
    for id in "ab":
        rig.write(*NEXT[what], id=id)
    assert rig.fields() == rig.fields("b")
    assert redis.cli("HLEN", state) < 20
    assert redis.cli("HKEYS", state) != []
    ends = {redis.cli("PEXPIRETIME", key) for key in keys(redis) if key.startswith(state)}
    assert len(ends) == 1
    done = cost(redis, lambda: rig.write(Add("sum", "k", 1)))
    assert "hlen" not in done
    assert "hkeys" not in done


def test_an_ended_state_of_the_layout_before_leaves_nothing(rig, redis):
    """It is erased, and begins anew, as any other."""
    rig.write(*many())
    redis.cli("EVAL", BEFORE, 1, state_key(rig))
    rig.erase()
    rig.write(Put("map", "x", b"1"))
    assert rig.fields() == {"map": {"x": b"1"}}
    assert redis.cli("HLEN", state_key(rig)) < 6


# ------------------------------------------------------------------------- while its slot is moved


def test_no_large_field_is_half_moved_while_its_slot_is(statehold_redis_cluster):
    """It is written where it is whole; a hash that would be made, or is at another node, is waited for."""
    cluster = statehold_redis_cluster
    cluster.flush()
    rig = Rig(Backend(open=lambda: open_driver(cluster.url, timeout=0.7), own_clock=TICK))
    try:
        rig.write(*many(128), *many(200, "window"), Add("sum", "k", 1), op="first")
        before = rig.fields()
        slot = Keys().state(rig.key())[0]
        source = next(
            each
            for each in cluster.masters()
            for first, last, (_, port, *_), *_ in each.cli("CLUSTER", "SLOTS")
            if first <= slot <= last and port == each.port
        )
        target = next(each for each in cluster.masters() if each is not source)
        target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", source.cli("CLUSTER", "MYID"))
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", target.cli("CLUSTER", "MYID"))
        rig.write(Put("window", "7", b"x"), Drop("window", "8"), op="second")
        before["window"] = {**before["window"], "7": b"x"}
        del before["window"]["8"]
        for change in (Put("map", "more", b"x"), Drop("window")):
            with pytest.raises(Unavailable):
                rig.write(Add("sum", "k", 1), change, *many(200, "window"), op="never")
        assert rig.fields() == before
        own = state_key(rig) + ":window"
        source.cli("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", own)
        for call in (
            lambda: rig.write(Add("sum", "k", 1), Put("window", "9", b"x"), op="no"),
            lambda: rig.write(Add("sum", "k", 1), where=(Is("window", "7", b"x"),), op="nor"),
            lambda: rig.read(want=Want(("window",))),
            lambda: rig.read(want=Want(("window",), entries={"window": ("7",)})),
        ):
            with pytest.raises(Unavailable):
                call()
        assert rig.read(want=Want(("sum",))).fields == {"sum": {"k": 1}}
        rest = source.cli("CLUSTER", "GETKEYSINSLOT", slot, 100)
        source.cli("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *rest)
        for each in (target, source, *cluster.masters()):
            each.cli("CLUSTER", "SETSLOT", slot, "NODE", target.cli("CLUSTER", "MYID"))
        assert rig.fields() == before
        rig.write(Put("map", "more", b"x"), Drop("window"), *many(200, "window"), op="last")
        assert len(rig.fields()["map"]) == 129
        assert len(rig.fields()["window"]) == 200
    finally:
        rig.close()
