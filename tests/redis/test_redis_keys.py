"""What lies in Redis: readable, complete, never without an end unless the state has none."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from statehold.changes import Add, Append, Drop, Put, Refusal, Splice, fold
from statehold.commits import Want
from statehold.driver import Refused, Written
from statehold.drivers.redis.keys import Keys, escaped, field_of, stored_field
from statehold.errors import Corrupted
from statehold.testing import Rig, stateful
from statehold.testing.rig import plain
from tests.redis.conftest import emptied

OPS = "0123456789abcdef01234567"


@pytest.fixture(params=["statehold_redis", "statehold_valkey"])
def redis(request):
    """A server with nothing in it, of either kind."""
    return emptied(request)


@pytest.fixture
def rig(redis_backend):
    rig = Rig(redis_backend)
    yield rig
    rig.close()


def keys(server):
    """Every key in it, by a walk that also collects what is over."""
    found, cursor = [], "0"
    while True:
        cursor, some = server.cli("SCAN", cursor, "COUNT", 1000)
        found += some
        if cursor == "0":
            return sorted(found)


def state_key(rig, id="a"):
    return Keys().state(rig.key(id))[1].decode()


# ------------------------------------------------------------------------------------------ layout


def test_a_state_is_readable(rig, redis):
    """In redis-cli entries are fields of a hash, numbers are text, and a log is a list."""
    rig.write(
        Put("note", "", b'"seen"'),
        Put("map", "k:1", b"7"),
        Add("sum", "n", 3),
        Add("sum", "x", 0.5),
        Append("log", (b'"a"', b'"b"'), 5),
        op=OPS,
        subject="ann",
    )
    state = state_key(rig)
    assert state.startswith("sh:{" + rig.tenant + ":basket:")
    assert state.endswith("}:a")
    assert redis.cli("HGET", state, "note") == '"seen"'
    assert redis.cli("HGET", state, "map:k:1") == " 7"
    assert redis.cli("HGET", state, "sum:n") == "3"
    assert redis.cli("HGET", state, "sum:x") == "0.5"
    assert redis.cli("LRANGE", f"{state}:log", 0, -1) == ['"a"', '"b"']
    index = state.partition("}")[0] + "}.index"
    assert keys(redis) == sorted([index, state, f"{state}:log", f"{state}:.ops"])
    assert redis.cli("ZRANGE", index, 0, -1) == ["ia", "s3:anna"]


@given(st.text(max_size=12))
@settings(max_examples=200)
def test_names_come_back_and_stay_apart(name):
    """Whatever a field is called, its stored name has no mark of ours and leads back to it."""
    stored = stored_field[name]
    assert field_of[stored] == name
    assert stored
    assert b":" not in stored
    assert stored[:1] not in (b".", b"#", b":")
    assert not set(escaped(name)) & set(":{}")


def test_odd_field_names(rig):
    """Fields whose names look like ours are fields like others."""
    changes = [
        change
        for name in (".", ".ops", "#log", ":log", "a:b", "%", "", "log%3A", "log:")
        for change in (Put(f"{name}r", "e", b"1"), Append(f"{name}l", (b"x",), 2))
    ]
    rig.write(*changes)
    assert rig.fields() == plain_of(fold({}, changes))
    rig.write(*(Drop(change.field) for change in changes))
    assert rig.fields() == {}


def plain_of(cells):
    return {
        name: dict(cell) if isinstance(cell, dict) else list(cell)
        for name, cell in cells.items()
        if cell
    }


def test_memory_is_close_to_the_bare_data(rig, redis):
    """A state of 100 messages of 200 bytes takes at most 1.25 times a list and a hash of them."""
    message = b'"' + b"x" * 198 + b'"'
    for n in range(100):
        rig.write(Append("log", (message,), 100), Add("sum", "", 1), op=f"{n:024x}")
    used = sum(redis.cli("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys(redis))
    for _ in range(100):
        redis.cli("RPUSH", "bare", message.decode())
    redis.cli("HSET", "bare hash", "turns", 100, "updated", "1700000000.5")
    bare = sum(redis.cli("MEMORY", "USAGE", key, "SAMPLES", 0) for key in ("bare", "bare hash"))
    assert used <= 1.25 * bare


def calls(server):
    """How often each command was executed since the last look."""
    stats = server.info("commandstats")
    server.cli("CONFIG", "RESETSTAT")
    return {
        name.removeprefix("cmdstat_"): int(value.split(",")[0].removeprefix("calls="))
        for name, value in stats.items()
    }


def test_an_append_costs_the_same_at_any_length(rig, redis):
    """An append to a full log of 10 or of 10,000 executes the same eight commands."""
    for keep in (10, 10_000):
        rig.write(Append("log", (b"x",) * keep, keep), id=f"{keep}", op="first")
        for n in range(140):  # until the op ids go round
            rig.write(Append("log", (b"x",), keep), id=f"{keep}", op=f"{n}")
        calls(redis)
        rig.write(Append("log", (b"y",), keep), id=f"{keep}", op="last")
        done = calls(redis)
        done.pop("config|resetstat", None)
        assert done == {
            "evalsha": 1,
            "time": 1,
            "hmget": 1,
            "getrange": 1,
            "rpush": 1,
            "ltrim": 1,
            "setrange": 2,
            "hset": 1,
        }


# -------------------------------------------------------------------------------------------- ends

lives = st.sampled_from((0.03, 0.06, 0.2, 5.0, None))
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("commit"),
            st.sampled_from("abc"),
            st.lists(stateful.changes, max_size=4).map(tuple),
            lives,
            st.sampled_from((None, "ann", "bob", ("bob", "ann", "run 7"), ())),
            st.sampled_from(("", "op 1", "op 2")),
        ),
        st.tuples(st.just("renew"), st.sampled_from("abc"), lives),
        st.tuples(st.just("erase"), st.sampled_from("abc")),
        st.tuples(st.just("move"), st.sampled_from("abc"), st.sampled_from("abc")),
        st.tuples(st.just("wait"), st.sampled_from((0.01, 0.07))),
    ),
    min_size=1,
    max_size=12,
)


def play(rig, work):
    for step, *arguments in work:
        if step == "commit":
            id, changes, ttl, subject, op = arguments
            commit = rig.commit(*changes, id=id, subject=subject, op=op)
            rig.send(replace_ttl(commit, ttl))
        elif step == "renew":
            id, ttl = arguments
            rig.read(id, Want(renew=(ttl, None)))
        elif step == "erase":
            rig.erase(*arguments)
        elif step == "move":
            source, target = arguments
            life = rig.lives(source)[0]
            if life is not None:
                rig.install(replace(life, key=rig.key(target)))
        else:
            time.sleep(*arguments)


def replace_ttl(commit, ttl):
    return replace(commit, ttl=ttl)


# All of it at one instant, so that nothing ends between two looks.
SNAPSHOT = """
local seen = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
    local kind, names = redis.call('TYPE', key).ok, {}
    if kind == 'hash' then names = redis.call('HKEYS', key) end
    if kind == 'zset' then names = redis.call('ZRANGE', key, 0, -1) end
    seen[#seen + 1] = {key, redis.call('PEXPIRETIME', key), names}
end
return seen
"""


def snapshot(redis):
    """Of each key the millisecond of its end, -1 for none, and the names in it."""
    return {key: (until, names) for key, until, names in redis.cli("EVAL", SNAPSHOT, 0)}


def check_state(rig, found, id):
    """Every part of a state ends when it does, soon after its deadline; its keys and that time."""
    state = state_key(rig, id)
    if state not in found:
        return set(), None
    until, names = found[state]
    lists = {f"{state}{name}" for name in names if name.startswith(":")}
    lists |= {f"{state}{name[1:]}" for name in names if name.startswith("#:")}
    assert lists <= found.keys(), "a list that the state tells of is gone"
    parts = {state, *lists, f"{state}:.ops"}
    for key in parts & found.keys():
        assert found[key][0] == until, "a part ends at another time"
    cells = rig.read(id)
    if cells is not None and cells.deadline is None:
        assert until == -1
    elif cells is not None:
        # Keys stay for a minute after the newest commit, however short a life it made.
        left = max(60.0, cells.deadline - time.time())
        assert max(cells.deadline, cells.updated + 60.0) <= until / 1000
        assert until / 1000 <= time.time() + left * 1.25 + 0.5
    return parts, until


def check_index(found, key, ends):
    """An index of states that end ends after them; that of the others has those that never do."""
    bucket = key.rpartition(".")[0]
    until, members = found[key]
    if key.endswith(".index"):
        assert until > 0, "an index of states that end has no end"
        assert until >= max(some for state, some in ends.items() if state.startswith(bucket))
    else:
        assert until == -1
        never = {f"{bucket}:{member[1:]}" for member in members if member[0] == "i"}
        assert never == {s for s, some in ends.items() if some == -1 and s.startswith(bucket)}


def check_ends(backend, redis, examples):
    """After random work each key belongs to a state and ends soon after it, or never as it does."""

    @given(steps)
    @settings(max_examples=examples)
    def check(work):
        redis.cli("FLUSHALL")
        rig = Rig(backend)
        try:
            play(rig, work)
            found = snapshot(redis)
            known, ends = set(), {}
            for id in "abc":
                parts, until = check_state(rig, found, id)
                known |= parts
                if until is not None:
                    ends[state_key(rig, id)] = until
            for key in found.keys() - known:
                assert key.endswith(("}.index", "}.kept")), "a key belongs to no state"
                # one that only lists what has ended meanwhile is about to end too
                if any(state.startswith(key.rpartition(".")[0]) for state in ends):
                    check_index(found, key, ends)
                else:
                    assert key.endswith("}.index")
                    assert found[key][0] != -1
        finally:
            rig.close()

    check()


def test_every_key_ends_with_its_state(redis_backend, redis):
    """The keys of a state, and those that list it."""
    check_ends(redis_backend, redis, examples=60)


def test_nothing_is_left_of_what_has_ended(rig, redis):
    """Without any further call to them, the keys of states that have ended are collected."""
    for n in range(20):
        changes = (Append("log", (b"x",), 3), Put("map", "k", b"x"))
        subject = ("ann", f"run {n}") if n % 2 else "ann"
        commit = rig.commit(*changes, id=f"{n}", op="op", subject=subject)
        rig.send(replace_ttl(commit, 1.0 + n / 1000))
    found = keys(redis)
    assert len(found) > 60
    soon = 1000 * (time.time() + 70.0)
    for key in found:
        assert 0 < redis.cli("PEXPIRETIME", key) <= soon
    for key in found:  # as time does, and all of them must be among those with an end
        redis.cli("PEXPIRE", key, 1)
    until = time.monotonic() + 10
    while keys(redis) and time.monotonic() < until:
        time.sleep(0.02)
    assert keys(redis) == []


def test_erase_leaves_a_trace_for_a_minute(rig, redis):
    """An erase takes every key of the state, and what lists it, but a small one that soon ends."""
    changes = (Append("log", (b"x",), 3), Append("trail", (b"x",), 3), Put("map", "k", b"x"))
    for ttl in (5.0, None):
        for subject in ("ann", ("bob", "ann", "run 7"), "ann", ("cy", "run 8")):
            commit = rig.commit(*changes, op=f"op {ttl} {subject}", subject=subject)
            assert isinstance(rig.send(replace_ttl(commit, ttl))[0], Written)
        rig.erase(op=f"erase {ttl}")
        state = state_key(rig)
        assert keys(redis) == [state]
        held = redis.cli("HKEYS", state)
        assert {name[:2] for name in held} == {".", ".e"}
        assert 59_000 < redis.cli("PTTL", state) <= 60_001  # the end is rounded up, the time down
        assert redis.cli("MEMORY", "USAGE", state) < 500
    rig.write(id="b")
    rig.erase("b")
    assert redis.cli("HKEYS", state_key(rig, "b")) == ["."]
    rig.erase("c")
    assert not redis.cli("EXISTS", state_key(rig, "c"))


def test_an_index_forgets_the_dead(rig, redis):
    """States that come and go without being erased do not fill the index of those that stay."""
    index = state_key(rig).partition("}")[0] + "}.index"
    bucket = [f"{n}" for n in range(20_000) if state_key(rig, f"{n}").startswith(index[:-6])]
    rig.write(id=bucket[0])
    for id in bucket[1:]:
        rig.send(replace_ttl(rig.commit(id=id), 0.001))
        redis.cli("DEL", state_key(rig, id))
    assert len(bucket) > 200
    assert redis.cli("ZCARD", index) < len(bucket) / 3
    assert rig.ids() == [bucket[0]]


# ------------------------------------------------------------------------------- sums and refusals

amounts = st.one_of(
    st.integers(-5, 5),
    st.integers(-(2**64), 2**64),
    st.sampled_from(
        [sign * (2**e + d) for e in (53, 62, 63) for d in (-1, 0, 1) for sign in (1, -1)]
    ),
    st.floats(allow_nan=True, allow_infinity=True),
)


def folded(cells, changes):
    """How `changes.fold` refuses them, if it does, and the cells then."""
    try:
        return None, fold(cells, changes)
    except Refusal as no:
        return Refused(no.field, no.reason, no.limit, no.found), cells


def test_sums_and_refusals_are_those_of_fold(redis_backend):
    """Whatever is added, in whatever order, the script holds and refuses what `changes.fold` does."""
    rig = Rig(redis_backend)
    entry = st.sampled_from(("", "k", "l"))
    change = st.one_of(
        st.builds(Add, st.just("sum"), entry, amounts, st.sampled_from((None, 0, 1, 2))),
        stateful.changes,
        st.builds(Put, st.sampled_from(("log", "sum", "array")), entry, st.binary(max_size=20)),
        st.builds(Append, st.sampled_from(("map", "log")), st.just((b"x",)), st.just(2)),
        st.builds(
            stateful.Accumulate,
            st.sampled_from(("sum", "array", "log")),
            entry,
            st.binary(max_size=24),
        ),
    )

    @given(st.lists(st.lists(change, max_size=4), max_size=6))
    @settings(max_examples=150)
    def check(commits):
        rig.erase()
        cells = {}
        for changes in commits:
            outcome = rig.try_(*changes)
            expected, cells = folded(cells, changes)
            assert outcome == expected if expected else isinstance(outcome, Written)
        if cells:
            found = rig.fields()
            assert typed(found) == typed(plain_of(cells))

    def typed(fields):
        return {
            name: repr(cell if isinstance(cell, list) else sorted(cell.items()))
            for name, cell in fields.items()
        }

    try:
        check()
    finally:
        rig.close()


def test_numbers_of_numpy(rig):
    """numpy's floats, which are floats, are added as what they are."""
    import numpy as np

    rig.write(Add("sum", "k", np.float64(0.5)), Add("sum", "k", np.float64(1)))
    assert rig.fields() == {"sum": {"k": 1.5}}


def test_many_op_ids(rig, redis):
    """A state remembers as many as it is told, 28 bytes each, also when that changes in its life."""
    for n in range(500):
        rig.write(op=f"op {n}", ops=200)
    assert redis.cli("STRLEN", state_key(rig) + ":.ops") <= 5 * (1 + 5) * 201 * 28
    assert all(rig.write(op=f"op {n}", ops=200).revision.number == n + 1 for n in range(300, 500))
    rig.write(op="fewer", ops=10)
    assert rig.write(op="op 495", ops=10).repeated
    for n in range(30):
        rig.write(op=f"more {n}", ops=40)
    assert all(rig.write(op=f"more {n}", ops=40).repeated for n in range(30))
    assert rig.write(op="fewer", ops=40).repeated


def test_large_commits(rig, redis):
    """A commit of thousands of changes, or of items, is still one commit."""
    items = tuple(b"%d" % n for n in range(20_000))
    rig.write(Append("log", items, 15_000), *(Add("sum", f"{n}", n) for n in range(5_000)))
    assert rig.fields()["log"] == list(items[-15_000:])
    assert rig.fields()["sum"] == {f"{n}": n for n in range(5_000)}
    rig.write(*(Drop("sum", f"{n}") for n in range(4_500)), Append("log", items, 10))
    assert len(rig.fields()["sum"]) == 500
    rig.write(Drop("sum"), Drop("log"))
    assert rig.fields() == {}
    assert set(redis.cli("HKEYS", state_key(rig))) == {".", ".:log"}
    assert redis.cli("HGET", state_key(rig), ".:log") == "40001"


# --------------------------------------------------------------------------- another's hand in it


@pytest.mark.parametrize(
    "harm",
    [
        ("DEL", "{}:log"),
        ("LPOP", "{}:log"),
        ("SET", "{}:log", "no list"),
        ("HSET", "{}", ":log", "many"),
    ],
    ids=lambda harm: harm[0],
)
def test_a_log_that_was_lost_is_reported(rig, redis, harm):
    """A list that is gone, shorter or no list is reported until what was lost would be gone anyhow."""
    rig.write(Append("log", (b"1", b"2", b"3"), 4), Add("sum", "k", 1))
    redis.cli(*(word.format(state_key(rig)) for word in harm))
    for _ in range(2):
        cells = rig.stands()
        assert cells.corrupted == ("log",)
        assert plain(cells) == {"sum": {"k": 1}}
    assert rig.read(want=Want(fields=("log",))).corrupted == ("log",)
    for splice in (
        Splice("log", 4, take=1),
        Splice("log", 4, at=2, items=(b"another",)),
        Splice("log", 4, take=1, items=(b"another",)),
    ):  # which would shift what is there to positions that it never had
        told = rig.try_(splice)
        assert isinstance(told, Refused), f"{told}"
        assert told.reason == "corrupted"
    assert rig.stands().corrupted == ("log",)
    rig.write(*(Append("log", (b"%d" % n,), 4) for n in range(4)))
    assert rig.fields()["log"] == [b"0", b"1", b"2", b"3"]
    assert redis.cli("PTTL", state_key(rig) + ":log") > 0


def test_single_entries_are_looked_up_by_name(rig, redis):
    """A large map is not gone through for a few of its entries, nor for what else is in the state."""
    rig.write(*(Put("map", f"{n}", b"1") for n in range(3000)), Append("log", (b"1",), 4))
    calls = redis.cli("INFO", "commandstats")
    some = tuple(f"{n}" for n in range(2500))
    cells = rig.read(want=Want(("map", "log", "note"), entries={"map": (*some, "", "none")}))
    assert cells.fields == {"map": dict.fromkeys(some, b"1"), "log": cells.fields["log"]}
    assert list(cells.fields["log"]) == [b"1"]
    written = rig.write(Put("map", "1", b"2"), returning=Want(("map",), entries={"map": ("1",)}))
    assert written.returned.fields == {"map": {"1": b"2"}}
    whole = [line for line in calls if "hgetall" in line.lower()]
    after = [line for line in redis.cli("INFO", "commandstats") if "hgetall" in line.lower()]
    assert after == whole


def test_an_entry_that_was_lost_is_reported(rig, redis):
    """A map that lacks an entry it had, or holds a number that is none, is reported."""
    rig.write(
        Put("map", "a", b"1"), Put("map", "b", b"2"), Add("sum", "k", 1), Add("window", "k", 1)
    )
    redis.cli("HDEL", state_key(rig), "map:a")
    redis.cli("HSET", state_key(rig), "sum:k", "12x")
    cells = rig.stands()
    assert cells.corrupted == ("map", "sum")
    assert plain(cells) == {"window": {"k": 1}}
    rig.write(Drop("map"), Drop("sum"))
    assert rig.stands().corrupted == ()


def test_lost_op_ids_begin_anew(rig, redis):
    """When another deletes a state's op ids, the next ones are kept, and end with the state."""
    for n in range(10):
        rig.write(op=f"op {n}")
    redis.cli("DEL", state_key(rig) + ":.ops")
    for n in range(10, 60):
        rig.write(op=f"op {n}")
        assert redis.cli("PTTL", state_key(rig) + ":.ops") > 0
    assert all(rig.write(op=f"op {n}").repeated for n in range(10, 60))
    assert not rig.write(op="op 1").repeated


def test_leftovers_of_a_lost_life_are_not_served(rig, redis):
    """When another deletes a state's hash alone, the next life has nothing of what was left."""
    rig.write(Append("log", (b"old",), 9), op="op 1")
    redis.cli("DEL", state_key(rig))
    assert rig.read() is None
    assert not rig.write(Append("log", (b"new",), 9), op="op 1").repeated
    assert rig.fields() == {"log": [b"new"]}


def test_a_broken_description_is_its_own_commits_affair(rig, redis):
    """The others of the same call stand, and are told so."""
    rig.write(Append("log", (b"old",), 9))
    redis.cli("HSET", state_key(rig), ".", "broken")
    one = Add("sum", "k", 1)
    good, told, best = rig.send(rig.commit(one, id="b"), rig.commit(one), rig.commit(one, id="c"))
    assert isinstance(good, Written)
    assert isinstance(best, Written)
    assert (told.reason, told.field) == ("corrupted", "")


def test_a_broken_description_is_corrupted(rig, redis):
    """A state whose description is broken raises `Corrupted`, can be erased, and begins again."""
    rig.write(Append("log", (b"old",), 9))
    redis.cli("HSET", state_key(rig), ".", "broken")
    with pytest.raises(Corrupted):
        rig.read()
    assert rig.try_(Add("sum", "k", 1)).reason == "corrupted"
    rig.erase()
    assert keys(redis) == [state_key(rig)]
    assert rig.read() is None
    rig.write(Add("sum", "k", 1))
    assert rig.fields() == {"sum": {"k": 1}}
    assert redis.cli("HSTRLEN", state_key(rig), ".") == 64


def test_an_index_forgets_the_dead_but_no_subject_of_the_living(rig, redis):
    """What lists a state by one of several subjects stays, and goes once it is not about that one."""
    index = state_key(rig).partition("}")[0] + "}.index"
    bucket = [f"{n}" for n in range(6_000) if state_key(rig, f"{n}").startswith(index[:-6])]
    about = [f"{n}{'x' * n}" for n in range(8)]
    rig.write(id=bucket[0], subject=tuple(about))
    for id in bucket[1:]:
        rig.send(replace_ttl(rig.commit(id=id, subject=("0", id)), 0.001))
        redis.cli("DEL", state_key(rig, id))
    assert len(bucket) > 60
    assert redis.cli("ZCARD", index) < len(bucket)
    for subject in about:
        assert rig.ids(subject=subject) == [bucket[0]]
    rig.write(id=bucket[0], subject=())
    assert [
        name
        for name in redis.cli("ZRANGE", index, 0, -1)
        if name[-len(bucket[0]) - 1 :] == "x" + bucket[0]
    ] == []
    assert rig.stands(bucket[0]).subject is None
    assert redis.cli("HEXISTS", state_key(rig, bucket[0]), ".subject") == 0
