"""What listings on Redis look at, what their indexes hold, and how these are swept."""

import time

import pytest
from msgspec.structs import replace

from statehold.backends import open_driver
from statehold.changes import Add
from statehold.commits import Want
from statehold.driver import Scan
from statehold.drivers.redis import keys as naming
from statehold.drivers.redis.keys import Keys
from statehold.drivers.redis.sweeping import MOST
from statehold.errors import Invalid
from statehold.testing import Backend, Rig
from tests.redis.client.linking import TICK
from tests.redis.conftest import emptied
from tests.redis.test_redis_keys import calls, keys, state_key


@pytest.fixture(params=["statehold_redis", "statehold_valkey"])
def redis(request):
    """A server with nothing in it, of either kind."""
    return emptied(request)


@pytest.fixture
def rig(redis_backend):
    rig = Rig(redis_backend)
    yield rig
    rig.close()


def fill(rig, count, prefix="", **about):
    """So many states; those of one call leave together."""
    for first in range(0, count, 500):
        ids = range(first, min(first + 500, count))
        rig.send(*(rig.commit(id=f"{prefix}{n:06}", **about) for n in ids))


# As if the time of all states that end was over: their deadline is long ago.
OVER = """
for _, key in ipairs(redis.call('KEYS', 'sh:*}:*')) do
  local meta = redis.call('TYPE', key).ok == 'hash' and redis.call('HGET', key, '.')
  if meta and struct.unpack('<d', meta, 28) ~= 0 then
    redis.call('HSET', key, '.', string.sub(meta, 1, 27) .. struct.pack('<d', 2) .. string.sub(meta, 36))
  end
end
"""


def pages(rig, redis, **listing):
    """Every page of a listing: its keys, and how many states were looked at for it."""
    cursor = None
    while True:
        calls(redis)
        asked = Scan(rig.tenant, "basket", cursor=cursor, **listing)
        page = rig.run(rig.driver.scan(asked, 0.0))
        yield page.keys, calls(redis).get("hmget", 0)
        cursor = page.cursor
        if cursor is None:
            return


@pytest.mark.parametrize("listing", [{}, {"subject": "ann"}, {"prefix": "0"}])
def test_a_page_looks_at_about_what_it_returns(rig, redis, listing):
    """Not at so many in each of the buckets."""
    fill(rig, 6_000, subject="ann")
    found = list(pages(rig, redis, limit=500, **listing))
    assert len({key for some, _ in found for key in some}) == 6_000
    assert [len(some) for some, _ in found] == [500] * 12
    for at, (_, looked) in enumerate(found):
        assert looked <= (2_500 if listing and at == 0 else 1_100)


def test_pages_of_few_states_take_few_round_trips(rig, redis):
    """And look at no more than there is."""
    fill(rig, 40, subject="ann")
    for listing in ({}, {"subject": "ann"}):
        ((some, looked),) = pages(rig, redis, **listing)
        assert len(some) == 40
        assert looked <= 45


def test_a_page_is_full_though_most_of_what_it_meets_is_dead(rig, redis):
    """Until so many were looked at that it would take long."""
    fill(rig, 3_200)
    redis.cli("EVAL", OVER, 0)
    fill(rig, 3_200, prefix="living ")
    sizes = [len(some) for some, _ in pages(rig, redis, limit=200)]
    assert sum(sizes) == 3_200
    assert sizes[:-1] == [200] * (len(sizes) - 1)


# ----------------------------------------------------------------------------------------- names


def test_names_are_made_when_they_are_asked_for(monkeypatch):
    """One bucket for each state, whatever the number of tenants; of too many the oldest go."""
    monkeypatch.setattr(naming, "_MOST_BUCKETS", 64)
    made = []
    real = naming._bucket
    monkeypatch.setattr(naming, "_bucket", lambda tag: made.append(tag) or real(tag))
    keys = Keys()
    for n in range(64):
        keys.state((f"tenant {n}", "kind", "a"))
    assert len(made) == 64
    for n in range(64):
        keys.state((f"tenant {n}", "kind", "a"))
    assert len(made) == 64
    keys.state(("another", "kind", "a"))
    for n in range(8, 64):
        keys.state((f"tenant {n}", "kind", "a"))
    assert len(made) == 65
    keys.state(("tenant 0", "kind", "a"))
    assert len(made) == 66


# ---------------------------------------------------------------------------------------- sweeping


def listed(server):
    """How many members all indexes have."""
    found = [key for key in keys(server) if key.endswith(("}.index", "}.kept"))]
    return sum(server.cli("ZCARD", key) for key in found)


def swept(rig):
    """How much a whole round removes, and in how many pieces."""
    removed, pieces, after = 0, 0, ""
    while after is not None:
        piece = rig.run(rig.driver.sweep(0.0, after))
        removed, pieces, after = removed + piece.removed, pieces + 1, piece.after
        assert piece.removed <= MOST + 128
    return removed, pieces


def test_a_sweep_takes_out_what_has_ended(rig, redis):
    """All of it, piece by piece; of what lives nothing, whoever it is about and whether it ends."""
    fill(rig, 2_000, subject=("ann", "bob"))
    redis.cli("EVAL", OVER, 0)
    for n, ttl in enumerate((600.0, None) * 20):
        commit = rig.commit(id=f"stays {n}", subject=("ann", f"run {n}"))
        rig.send(replace(commit, ttl=ttl))
    dead = listed(redis) - 3 * 40
    assert dead > 3_000
    removed, pieces = swept(rig)
    assert removed == dead
    assert pieces >= dead // MOST
    assert listed(redis) == 3 * 40
    assert len(rig.ids(subject="ann")) == 40
    assert swept(rig)[0] == 0
    fill(rig, 10)  # whose keys are there still
    assert len(rig.ids()) == 50


def test_a_sweep_looks_at_few_in_a_piece(rig, redis):
    """However many there are."""
    fill(rig, 3_000)
    calls(redis)
    rig.run(rig.driver.sweep(0.0))
    assert calls(redis)["hmget"] <= MOST + 128


def test_a_sweep_of_many_tenants(rig, redis):
    """An index for each is many small ones."""
    commits = [rig.commit(id="a") for _ in range(600)]
    rig.send(*(replace(c, key=(f"t{n}", *c.key[1:]), ttl=0.001) for n, c in enumerate(commits)))
    time.sleep(0.01)
    assert swept(rig)[0] == 600
    assert listed(redis) == 0


def test_a_sweep_goes_over_all_masters(statehold_redis_cluster):
    """Each has a part of the indexes."""
    cluster = statehold_redis_cluster
    cluster.flush()
    rig = Rig(Backend(open=lambda: open_driver(cluster.url), own_clock=TICK))
    try:
        fill(rig, 500)
        for each in cluster.masters():
            each.cli("EVAL", OVER, 0)
        fill(rig, 20)
        assert min(listed(each) for each in cluster.masters()) > 0
        dead = sum(listed(each) for each in cluster.masters()) - 20
        assert swept(rig)[0] == dead > 200
        assert sum(listed(each) for each in cluster.masters()) == len(rig.ids()) == 20
    finally:
        rig.close()


def test_where_a_sweep_goes_on_is_its_own_affair(rig):
    """What it did not say itself is refused."""
    for foreign in ("x", "AAAA", "é"):
        with pytest.raises(Invalid):
            rig.run(rig.driver.sweep(0.0, foreign))


# ------------------------------------------------------------------------------- without a sweep


def of_one_bucket(rig, count):
    """The ids of so many states in one bucket, and the key of its index."""
    index = state_key(rig, "0").partition("}")[0] + "}.index"
    ids = []
    n = 0
    while len(ids) < count:
        if state_key(rig, f"{n}").startswith(index[:-6]):
            ids.append(f"{n}")
        n += 1
    return ids, index


def test_births_keep_an_index_small(rig, redis):
    """While all that is made ends at once, though its keys are there for a minute."""
    ids, index = of_one_bucket(rig, 400)
    for first in range(0, 400, 20):
        rig.send(*(replace(rig.commit(id=id), ttl=0.001) for id in ids[first : first + 20]))
        time.sleep(0.002)
    assert redis.cli("ZCARD", index) <= 60


def test_commits_clean_an_index_in_which_nothing_is_born(rig, redis):
    """A state that goes on takes out what ended around it."""
    ids, index = of_one_bucket(rig, 100)
    rig.write(id=ids[0])
    rig.send(*(replace(rig.commit(id=id), ttl=0.2) for id in ids[1:]))
    time.sleep(0.3)
    assert redis.cli("ZCARD", index) == 100
    for _ in range(20):
        rig.send(*(rig.commit(Add("sum", "", 1), id=ids[0]) for _ in range(128)))
    assert redis.cli("ZCARD", index) <= 5
    assert rig.ids() == [ids[0]]
    assert rig.read(ids[0], want=Want(("sum",))).fields == {"sum": {"": 2560}}
