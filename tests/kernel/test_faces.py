"""What callers of a collection may rely on, beside what every driver's conformance tests say."""

import asyncio
import copy
import pickle
import random
from typing import Any

import numpy as np
import pytest
from sample import Everything, Message, opened, shown

from statehold import (
    ABSENT,
    PRESENT,
    AsyncStore,
    Closed,
    Conflict,
    Fenced,
    InDoubt,
    Invalid,
    ManualClock,
    Register,
    Repeated,
    Reused,
    Revision,
    State,
    Store,
    TooLarge,
    Unsupported,
)
from statehold.driver import Feature
from statehold.drivers.memory import MemoryDriver

E = Everything
GOOD = [
    "a",
    "a:messages",
    "{a}",
    "*",
    "%",
    "a%b_",
    "'",
    '"',
    "`",
    "\n",
    "\0",
    " ",
    "..",
    "/",
    "Ünïcødé",
    "😀" * 128,
    "x" * 512,
    "\u202e",
]
BAD = ["", "x" * 513, "é" * 257, "\ud800", "a\udfff", 5, None, b"a", ["a"], 1.5]


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_any_text_names_a_state_a_subject_a_tenant_and_an_operation(name):
    with Store.open("memory://") as store:
        ours, theirs = store.collection(E, tenant=name), store.collection(E)
        theirs.apply("other", E.turns.add(1), subject="other")
        revision = ours.apply(name, E.turns.add(1), op=name[:32], subject=name)
        assert ours.apply(name, E.turns.add(1), op=name[:32]) == revision
        assert ours.get(name).turns == 1
        assert list(ours.get_many([name, "absent"])) == [name, "absent"]
        assert list(ours.scan()) == list(ours.find(name)) == [name]
        assert list(theirs.scan()) == ["other"]
        assert ours.touch(name)
        assert ours.delete(name)
        assert theirs.get("other").turns == 1


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_what_is_no_name_is_refused_everywhere(collection, name):
    for call in (
        lambda: collection.get(name),
        lambda: collection.get_many(["a", name]),
        lambda: collection.apply(name, E.turns.add(1)),
        lambda: collection.commit(name, [E.turns.add(1)]),
        lambda: collection.touch(name),
        lambda: collection.delete(name),
        lambda: collection.session(name).__enter__(),
        lambda: collection.transact(name, lambda _: None),
        lambda: list(collection.find(name)),
    ):
        with pytest.raises(Invalid):
            call()
    if name is not None:
        for call in (
            lambda: collection.scan_page(subject=name),
            lambda: collection.apply("a", E.turns.add(1), subject=[name]),
            lambda: collection.apply("a", E.turns.add(1), op=name),
        ):
            with pytest.raises(Invalid):
                call()
    if name != "":
        with pytest.raises(Invalid, match="tenant"):
            collection._core.store.collection(E, tenant=name)
    (result,) = collection.apply_many([(name, [E.turns.add(1)])])
    assert isinstance(result, Invalid)
    assert list(collection.scan()) == []


def test_ids_are_no_single_text(collection):
    with pytest.raises(Invalid, match="ids"):
        collection.get_many("abc")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (E.turns, "Everything: a field is no edit"),
        (None, "NoneType is no edit"),
        (5, "int is no edit"),
        ("turns", "str is no edit"),
        ([E.turns.add(1)], r"a list is no edit; unpack it \(\*edits\)"),
        (E.turns.holds(1), "a condition is no edit; it goes into where="),
        (State, "no edit"),
        (lambda: None, "no edit"),
    ],
    ids=["a field", "None", "5", "text", "a list", "a condition", "a class", "a function"],
)
def test_what_is_no_edit_is_refused(collection, edit, said):
    with pytest.raises(Invalid, match=said):
        collection.apply("a", E.focus.put("x"), edit)
    assert not collection.get("a").meta.exists


def test_edits_may_come_from_a_generator(collection):
    written = collection.commit("a", (E.turns.add(n) for n in range(4)))
    assert not written.repeated
    assert collection.get("a").turns == 6
    results = collection.apply_many((str(n), [E.turns.add(n)]) for n in range(3))
    assert [result.number for result in results] == [1, 1, 1]
    assert {id: s.turns for id, s in collection.get_many(str(n) for n in range(3)).items()} == {
        "0": 0,
        "1": 1,
        "2": 2,
    }


def test_one_bad_edit_means_that_nothing_is_written(collection):
    with pytest.raises(TooLarge):
        collection.apply("a", E.focus.put("x"), E.seen.add(1, 2, 3, 4))
    assert not collection.get("a").meta.exists


def test_apply_many_says_for_all_whom_they_are_about_and_how_long_they_live(collection):
    ids = ["a", "b", "c"]
    collection.apply_many([(id, [E.turns.add(1)]) for id in ids], subject=("ann", "bob"), ttl=60)
    assert sorted(collection.find("ann")) == sorted(collection.find("bob")) == ids
    assert collection.get("b").meta.subjects == ("ann", "bob")
    collection.apply_many([("a", [E.turns.add(1)])], ttl=600)
    ends = [collection.get(id).meta.expires for id in ids]
    assert ends[0] - ends[1] == pytest.approx(540, abs=10)
    for wrong in ({"ttl": -1}, {"subject": ""}, {"subject": ("x", 3)}):
        with pytest.raises(Invalid, match=next(iter(wrong))):
            collection.apply_many([("z", [E.turns.add(1)])], **wrong)
    assert not collection.get("z").meta.exists


def test_apply_many_reports_by_key(collection):
    collection.apply("full", E.seen.add(1, 2, 3))
    results = collection.apply_many(
        [
            ("a", [E.turns.add(1)]),
            ("", [E.turns.add(1)]),
            ("full", [E.turns.add(1), E.seen.add(4)]),
            ("a", [E.turns.add(1)]),
            ("b", [5]),
            ("c", []),
        ]
    )
    assert [type(result) for result in results] == [
        Revision,
        Invalid,
        TooLarge,
        Revision,
        Invalid,
        Revision,
    ]
    assert (results[2].field, results[2].key[2]) == ("seen", "full")
    assert collection.get("a").turns == 2
    assert collection.get("full").turns == 0
    assert collection.apply_many([]) == []


def test_returning_is_what_stands_after_the_commit(collection):
    collection.apply("a", E.history.append(*[Message("u", str(n)) for n in range(4)]))
    state = collection.apply(
        "a",
        E.turns.add(1),
        E.history.append(Message("u", "4")),
        returning=[E.turns, "history"],
        tail=2,
    )
    assert state.turns == 1
    assert [m.text for m in state.history] == ["3", "4"]
    assert state.meta.exists
    with pytest.raises(Invalid):
        _ = state.focus


def test_tail_by_number_by_name_and_by_field(collection):
    for n in range(4):
        collection.apply(
            "a", E.history.append(Message("u", str(n))), E.talk.append(Message("u", str(n)))
        )
    for tail, sizes in (
        (1, (1, 1)),
        ({"history": 2}, (2, 3)),
        ({E.talk: 1}, (4, 1)),
        ({}, (4, 3)),
        (99, (4, 3)),
    ):
        state = collection.get("a", tail=tail)
        assert (len(state.history), len(state.talk)) == sizes
        assert state.history[-1].text == state.talk[-1].text == "3"
    for tail in (0, -1, True, 1.5, "1", {"history": 0}, {"nope": 1}, {5: 1}):
        with pytest.raises(Invalid):
            collection.get("a", tail=tail)
    for name in ("turns", E.filters, "seen"):
        with pytest.raises(Invalid, match="tail is for lists"):
            collection.get("a", tail={name: 1})


def test_a_page_reads_of_each_state_what_it_is_asked_for(collection):
    for id in "ab":
        edits = [E.filters.put(key, id) for key in "xy"]
        collection.apply(id, *edits, *(E.history.append(Message("u", str(n))) for n in range(4)))
    page, cursor = collection.get_page(
        fields=["filters", "history"], entries={"filters": ["x"]}, after={"history": 2}
    )
    assert cursor is None
    assert [one.filters["x"] for one in page] == ["a", "b"]
    assert [[m.text for m in one.history] for one in page] == [["2", "3"]] * 2
    for reach in (lambda: page[0].filters["y"], lambda: page[0].turns):
        with pytest.raises(Invalid):
            reach()
    with pytest.raises(Invalid, match="after is for lists"):
        collection.get_page(after={"turns": 1})


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "1"])
def test_a_take_of_nothing_is_refused_as_a_pop_of_nothing_is(collection, count):
    collection.apply("a", E.history.append(Message("u", "x")))
    state = collection.get("a")
    for call in (state.history.take, E.history.pop):
        with pytest.raises(Invalid, match="count must be a whole number from 1"):
            call(count)
    assert not state.pending


def test_a_log_says_what_to_do_instead_of_putting_into_a_place(collection):
    log = collection.apply("a", E.history.append(Message("u", "x")), returning=["history"]).history
    with pytest.raises(TypeError, match=r"history\.edit\(position, item\)"):
        log[0] = Message("u", "y")
    with pytest.raises(TypeError, match=r"history\.redact\(position\)"):
        del log[0]
    assert not collection.get("a").pending


def test_a_ttl_may_be_text(collection):
    """As it may be in a class and in a configuration."""
    revision = collection.apply("a", E.turns.add(1), ttl="30s")
    found = collection.get("a")
    assert (found.meta.revision, found.meta.expires - found.meta.updated) == (revision, 30)
    assert collection.touch("a", ttl="1m")
    with pytest.raises(Invalid, match="ttl"):
        collection.touch("a", ttl="soon")


def test_entries_that_were_not_asked_for_are_not_said_to_be_absent(collection):
    edits = [E.filters.put(key, key) for key in "abc"]
    collection.apply("a", *edits, E.seen.add(1, 2), E.ranks.put(7, 0.5), E.steps.put("pay", {}))
    state = collection.get(
        "a", entries={"filters": ["a", "z"], E.seen: [2, 3], "ranks": [7], "steps": ["ship"]}
    )
    assert dict(state.filters) == {"a": "a"}
    assert (state.filters.get("z"), 2 in state.seen, 3 in state.seen) == (None, True, False)
    assert (set(state.seen), state.ranks[7], list(state.steps)) == ({2}, 0.5, [])
    assert state.to_json()["filters"].keys() == {"a"}
    assert state.meta.missing == ()
    state = pickle.loads(pickle.dumps(copy.copy(state)))
    for look in (
        lambda: state.filters["b"],
        lambda: "nope" in state.filters,
        lambda: state.filters.pop("b", None),
        lambda: state.filters.setdefault("b", "x"),
        lambda: 1 in state.seen,
        lambda: state.steps.get("pay"),
    ):
        with pytest.raises(Invalid, match="not among those asked for"):
            look()
    assert not state.pending


def test_what_is_written_to_a_field_of_which_some_was_read_stands(collection):
    collection.apply("a", *(E.filters.put(key, key) for key in "abc"))
    with collection.session("a", entries={"filters": ["a"]}) as state:
        state.filters["a"] += "!"
        state.filters["c"] = "blind"
        assert dict(state.filters) == {"a": "a!"}
        with pytest.raises(Invalid):  # it was not read, whatever was written
            _ = state.filters["c"]
        with pytest.raises(Invalid):
            del state.filters["b"]
    assert dict(collection.get("a").filters) == {"a": "a!", "b": "b", "c": "blind"}
    seen = collection.transact("a", lambda s: s.filters["b"], entries={"filters": ["b"]})
    assert seen == "b"


# ------------------------------------------------------------------------------ sessions


def test_a_session_that_does_nothing_writes_nothing():
    with opened() as (collection, clock):
        with collection.session("a", exclusive=True):
            pass
        assert not collection.get("a").meta.exists
        revision = collection.apply("a", E.turns.add(1))
        clock.advance(5)
        with collection.session("a") as state:
            list(state.history)
        meta = collection.get("a").meta
        assert (meta.revision, meta.age) == (revision, 5)


def test_a_session_that_raises_writes_nothing(collection):
    with pytest.raises(ZeroDivisionError), collection.session("a") as state:  # noqa: PT012
        state.turns += 1
        1 / 0  # noqa: B018
    assert not collection.get("a").meta.exists

    def returns():
        with collection.session("a") as state:
            state.turns += 1
            return

    returns()
    assert collection.get("a").turns == 1


def test_a_refused_change_in_a_session_leaves_the_others(collection):
    with collection.session("a") as state:
        state.turns += 1
        with pytest.raises(TooLarge):
            state.focus = "x" * 99
        with pytest.raises(TooLarge):
            state._record(E.seen.add(1, 2, 3, 4))
        assert state.seen == set()
        state.seen.add(5)
    assert (collection.get("a").turns, collection.get("a").seen) == (1, {5})


def test_sessions_merge_what_merges(collection):
    with collection.session("a") as one, collection.session("a") as other:
        one.turns += 1
        other.turns += 2
        one.history.append(Message("one", ""))
        other.history.append(Message("other", ""))
        one.filters["a"] = "1"
        other.filters["b"] = "2"
        assert (one.turns, other.turns, len(one.history), set(other.filters)) == (1, 2, 1, {"b"})
    state = collection.get("a")
    assert (state.turns, set(state.filters)) == (3, {"a", "b"})
    assert [m.role for m in state.history] == ["other", "one"]


def test_exclusive_sessions_conflict(collection):
    for first in (False, True):
        with pytest.raises(Conflict) as caught, collection.session("a", exclusive=True) as state:  # noqa: PT012
            stands = collection.apply("a", E.turns.add(1))
            state.turns += 10
        assert caught.value.found == stands
        assert caught.value.key == ("", "everything", "a")
        assert collection.get("a").turns == 1 + first
    with pytest.raises(Conflict) as caught, collection.session("a", expect=ABSENT) as state:
        state.turns += 1
    with pytest.raises(Conflict) as caught, collection.session("b", expect=PRESENT) as state:
        state.turns += 1
    assert caught.value.found == ABSENT


def test_a_session_can_be_entered_again(collection):
    session = collection.session("a", exclusive=True)
    for n in range(3):
        with session as state:
            assert state.turns == n
            state.turns += 1


def test_what_a_session_shows_is_what_a_read_shows():
    """Random things done in a session, and what a fresh read shows afterwards."""
    rng = random.Random(7)
    edits = [
        lambda: E.focus.put(str(rng.random())),
        E.focus.drop,
        lambda: E.turns.add(rng.randrange(-5, 5)),
        lambda: E.turns.set(rng.randrange(5)),
        lambda: E.filters.put(rng.choice("abcdef"), "x"),
        lambda: E.filters.drop(rng.choice("abcdef")),
        E.filters.clear,
        lambda: E.tags.add(*rng.sample("abcdef", 2)),
        lambda: E.tags.discard(*"abc"),
        lambda: E.history.append(*[Message("u", str(rng.random()))] * rng.randrange(4)),
        E.history.clear,
        lambda: E.talk.append(Message("u", str(rng.random()))),
        lambda: E.clicks.add(rng.choice("abcdef"), rng.randrange(9)),
        lambda: E.clicks.drop(rng.choice("abcdef")),
        lambda: E.spend.add(rng.random(), at=1_700_000_000 + rng.randrange(-59, 10)),
        lambda: E.taste.add([rng.random(), 1], at=1_700_000_000 + rng.randrange(-(10**6), 10)),
        lambda: E.steps.put(rng.choice("abcdef"), {"n": rng.randrange(9)}),
        lambda: E.vector.put([rng.random(), 1]),
    ]
    with opened() as (collection, _):
        for _ in range(300):
            with collection.session("a") as state:
                for _ in range(rng.randrange(1, 8)):
                    try:
                        state._record(rng.choice(edits)())
                    except TooLarge:
                        continue
                mine = shown(state)
            assert shown(collection.get("a")) == mine


# ------------------------------------------------------------------------------ transact


def test_transact_tries_again_until_it_wins():
    with opened() as (collection, clock):
        seen = []

        def spoiled(state):
            seen.append(state.turns)
            if len(seen) < 4:
                collection.apply("a", E.turns.add(100))
            state.turns = state.turns + 1
            return state.turns

        start = clock.now()
        assert collection.transact("a", spoiled) == 301
        assert seen == [0, 100, 200, 300]
        assert 0 < clock.now() - start < 0.1
        with pytest.raises(Conflict):
            collection.transact(
                "a",
                lambda s: (
                    collection.apply("a", E.turns.add(1)),
                    s.history.append(Message("", "")),
                ),
                attempts=3,
            )
        assert (collection.get("a").turns, len(collection.get("a").history)) == (304, 0)


@pytest.mark.parametrize("attempts", [0, -1, True, 1.5, None])
def test_transact_needs_an_attempt(collection, attempts):
    with pytest.raises(Invalid, match="attempts"):
        collection.transact("a", lambda _: None, attempts=attempts)


def test_transact_lets_errors_through(collection):
    with pytest.raises(ZeroDivisionError):
        collection.transact("a", lambda s: s.turns.__iadd__(1) / 0)
    assert not collection.get("a").meta.exists


def test_transact_takes_async_functions():
    async def main():
        async with AsyncStore.open("memory://") as store:
            states = store.collection(E)

            async def fn(state):
                await asyncio.sleep(0)
                state.turns += 1
                return "done"

            assert await states.transact("a", fn) == "done"
            assert await states.transact("a", lambda s: s.turns) == 1

    asyncio.run(main())


# ------------------------------------------------------------------------------ conditions


def test_an_op_id_is_applied_once(collection):
    first = collection.commit("a", [E.turns.add(1)], op="x")
    again = collection.commit("a", [E.turns.add(1)], op="x")
    assert (first.repeated, again.repeated) == (False, True)
    assert again.revision == first.revision
    assert collection.apply("a", E.turns.add(1), op="x", returning=["turns"]).turns == 1
    with collection.session("a", op="x") as state:
        state.turns += 1
    assert collection.get("a").turns == 1
    collection.delete("a")
    collection.apply("a", E.turns.add(1), op="x")
    assert collection.get("a").turns == 1


def test_an_op_id_stands_for_one_thing(collection):
    first = collection.apply("a", E.turns.add(1), op="x")
    with pytest.raises(Reused) as caught:
        collection.apply("a", E.turns.add(50), op="x")
    assert (caught.value.found, caught.value.field) == (first, "op")
    with pytest.raises(Reused):
        collection.delete("a", op="x")
    assert collection.get("a").turns == 1
    with collection.session("a", op="y") as state:  # what follows from a read may differ
        state.turns += 1
    with collection.session("a", op="y") as state:
        state.turns += 7
    assert collection.get("a").turns == 2


def test_an_op_id_of_what_depends_on_the_time_may_be_repeated():
    """The same call a minute later is the same call."""
    with opened() as (collection, clock):
        for _ in range(2):
            edits = E.spend.add(2.5), E.taste.add([1, 2]), E.turns.add(1)
            collection.apply("a", *edits, op="x")
            clock.advance(60)
        assert collection.get("a").turns == 1
        with pytest.raises(Reused):
            collection.apply("a", E.spend.add(7.5), E.taste.add([1, 2]), E.turns.add(1), op="x")


def test_a_deletion_takes_an_op_id(collection):
    collection.apply("a", E.turns.add(1))
    assert collection.delete("a", op="d")
    collection.apply("a", E.turns.add(5))
    assert collection.delete("a", op="d")
    assert collection.get("a").turns == 5
    assert not collection.delete("b", op="d")
    collection.apply("b", E.turns.add(1))
    assert not collection.delete("b", op="d")
    assert collection.get("b").meta.exists


def test_commits_of_many_take_op_ids(collection):
    some = [("a", [E.turns.add(1)], "x"), ("b", [E.turns.add(1)], "x"), ("a", [E.turns.add(1)])]
    first = collection.apply_many(some)
    again = collection.apply_many(some[:2])
    assert again == first[:2]
    assert (collection.get("a").turns, collection.get("b").turns) == (2, 1)
    wrong = collection.apply_many([("a", [E.turns.add(9)], "x"), ("b", [E.turns.add(1)], "")])
    assert [type(error) for error in wrong] == [Reused, Invalid]


def test_a_value_however_deep_is_known_again():
    """What an idempotency key stands for is worked out in as many steps as the value has parts."""

    class Anything(State, ttl=60):
        value = Register(Any, default=None)

    deep = {"x": [1, 2.0, None]}
    for _ in range(60):
        deep = [deep]
    with Store(MemoryDriver()) as store:
        things = store.collection(Anything)
        first = things.apply("a", Anything.value.put(deep), op="once")
        assert things.apply("a", Anything.value.put(deep), op="once") == first
        with pytest.raises(Reused):
            things.apply("a", Anything.value.put([deep]), op="once")


def test_since_when_a_call_is_a_repetition():
    with opened() as (collection, clock):
        collection.apply("a", E.turns.add(1), op="first")
        clock.advance(60)
        sent = clock.now()
        clock.advance(60)
        for n in range(200):
            collection.apply("a", E.turns.add(1), op=f"other {n}")
        with pytest.raises(InDoubt) as caught:
            collection.apply("a", E.turns.add(1), op="late", since=sent)
        assert not caught.value.retryable
        assert collection.get("a").turns == 201
        clock.advance(60)
        recent = clock.now()
        clock.advance(60)
        collection.apply("a", E.turns.add(1), op="late", since=recent)
        assert collection.get("a").turns == 202
        for wrong in (True, "now", float("nan")):
            with pytest.raises(Invalid):
                collection.apply("a", E.turns.add(1), op="x", since=wrong)
        with pytest.raises(Invalid, match="since goes with op"):
            collection.apply("a", E.turns.add(1), since=sent)


def test_epochs_only_grow(collection):
    collection.apply("a", E.turns.add(1), epoch=5)
    for epoch in (0, 4):
        with pytest.raises(Fenced) as caught:
            collection.apply("a", E.turns.add(1), epoch=epoch)
        assert caught.value.found == 5
        with pytest.raises(Fenced):
            collection.delete("a", epoch=epoch)
    for epoch in (-1, 2**63, 1.5, "1", True):
        with pytest.raises(Invalid, match="epoch"):
            collection.apply("a", E.turns.add(1), epoch=epoch)
    assert collection.get("a").turns == 1


@pytest.mark.parametrize("expect", [1, "1.1", (1, 1), True])
def test_expect_is_a_revision(collection, expect):
    with pytest.raises(Invalid, match="expect"):
        collection.apply("a", E.turns.add(1), expect=expect)


def test_what_a_driver_does_not_declare_is_unsupported():
    class Poor(MemoryDriver):
        features = frozenset({Feature.SCAN})

    with Store(Poor()) as store:
        poor = store.collection(E)
        poor.apply("a", E.turns.add(1))
        for call in (
            lambda: poor.apply("a", E.turns.add(1), expect=ABSENT),
            lambda: poor.apply("a", E.turns.add(1), epoch=1),
            lambda: poor.apply("a", E.turns.add(1), subject="s"),
            lambda: poor.apply("a", E.turns.add(1), returning=["turns"]),
            lambda: list(poor.find("s")),
            lambda: poor.transact("a", lambda s: s.history.append(Message("", ""))),
        ):
            with pytest.raises(Unsupported):
                call()
        assert list(poor.scan()) == ["a"]
        assert poor.touch("a")  # a renewal is no commit, and needs nothing declared
        assert poor.get("a").turns == 1


def test_touch_renews_and_is_no_commit():
    with opened() as (collection, clock):
        revision = collection.apply("a", E.turns.add(1))
        clock.advance(3599)
        assert collection.touch("a")
        clock.advance(3599)
        meta = collection.get("a").meta
        assert (meta.exists, meta.revision, meta.age) == (True, revision, 7198)
        clock.advance(1)
        assert not collection.touch("a")
        assert not collection.get("a").meta.exists


def test_pages_go_on_from_a_cursor(collection):
    ids = [f"{n:03d}" for n in range(25)]
    collection.apply_many((id, [E.turns.add(1)]) for id in reversed(ids))
    found, cursor = [], None
    while True:
        page, cursor = collection.scan_page(cursor=cursor, limit=10)
        found += page
        if cursor is None:
            break
    assert found == ids == list(collection.scan(page_size=1))
    for limit in (0, -1, True, 1.5, None):
        with pytest.raises(Invalid, match="limit"):
            collection.scan_page(limit=limit)
    for cursor in ("", "nonsense", 5, b"+a"):
        with pytest.raises(Invalid, match="cursor"):
            collection.scan_page(cursor=cursor)


def test_closed_is_closed():
    store = Store.open("memory://")
    collection = store.collection(E)
    collection.apply("a", E.turns.add(1))
    late = store.collection(E, tenant="never used")
    store.close()
    store.close()
    for states in (collection, late):
        for call in (
            lambda states=states: states.get("a"),
            lambda states=states: states.get("a", on_failure="default"),
            lambda states=states: states.get_many(["a"]),
            lambda states=states: states.apply("a", E.turns.add(1)),
            lambda states=states: states.apply_many([("a", [E.turns.add(1)])]),
            lambda states=states: states.touch("a"),
            lambda states=states: states.delete("a"),
            lambda states=states: list(states.scan()),
            lambda states=states: states.session("a").__enter__(),
            store.check,
        ):
            with pytest.raises(Closed):
                call()


def test_two_stores_over_one_driver_close_it_for_both():
    driver = MemoryDriver()
    with Store(driver, clock=ManualClock()) as one:
        one.collection(E).apply("a", E.turns.add(1))
    with pytest.raises(Closed):
        Store(driver).collection(E).get("a")


# ------------------------------------------------------------------------------ aliasing


def test_what_was_written_or_read_is_nobodys_to_change(collection):
    basket, vector = [1, 2], np.array([1.0, 2.0])
    job = {"id": 1}
    collection.apply(
        "a", E.basket.put(basket), E.vector.put(vector), E.steps.put("x", job), E.taste.add(vector)
    )
    basket.append(3)
    vector[:] = 9
    job["id"] = 9
    with collection.session("a") as state:
        state.basket.append(9)
        with pytest.raises(ValueError, match="read-only"):
            state.vector[:] = 9
        state.taste.mean[:] = 9
        state.steps["x"]["id"] = 9
        state.history[:].append(Message("", ""))
        assert state.pending == ()
    state = collection.get("a")
    assert (state.basket, state.vector.tolist(), state.steps["x"]) == ([1, 2], [1, 2], {"id": 1})
    assert state.taste.mean.tolist() == [1, 2]


def test_a_snapshot_does_not_change_under_its_reader(collection):
    collection.apply("a", *_some(0))
    before = collection.get("a")
    seen = shown(before)
    for n in range(12):
        collection.apply("a", *_some(n))
        with collection.session("a") as state:
            for edit in _some(n + 100):
                state._record(edit)
    collection.delete("a")
    collection.apply("a", *_some(5))
    assert shown(before) == seen


def _some(n):
    return (
        E.turns.add(1),
        E.filters.put("k", str(n)),
        E.tags.discard("0"),
        E.history.append(Message("u", str(n))),
        E.talk.append(Message("u", str(n))),
        E.clicks.add("k", n),
        E.taste.add([n, 1], at=n * 10**6),
        E.spend.add(n, at=1_700_000_000 - n % 50),
    )


def test_a_session_appends_to_a_list_of_its_own(collection):
    """Its thread holds no lock of the store's, whose list others go on appending to."""
    collection.apply("a", E.history.append(Message("u", "0")))
    kept = collection._core._driver._states.slots["", "everything", "a"].cells.fields["history"]
    size = len(kept._buffer)
    state = collection.get("a")
    for _ in range(3):
        state.history.append(Message("u", "mine"))
    state._record(E.history.append(Message("u", "x"), Message("u", "y")))
    assert len(kept._buffer) == size
    assert len(state.history) == 5


def test_memory_hands_out_nothing_that_it_keeps(collection):
    """Cells that a driver returned are not the ones it goes on changing."""
    driver = collection._core._driver
    collection.apply("a", *_some(0))
    slot = driver._states.slots["", "everything", "a"]
    old = collection.get("a")._cells
    held = {
        name: (list(cell) if not isinstance(cell, dict) else dict(cell))
        for name, cell in old.fields.items()
    }
    for n in range(20):
        collection.apply("a", *_some(n))
    now = {
        name: (list(cell) if not isinstance(cell, dict) else dict(cell))
        for name, cell in old.fields.items()
    }
    assert now == held
    assert slot.cells.fields != held


def test_a_transaction_is_made_once_for_its_op_id(collection):
    """What its function returned then is not known, so a repetition is told that it is one."""

    def take(state):
        if state.turns >= 1:
            return "sold out"
        state.turns += 1
        return "yours"

    assert collection.transact("seat", take, op="order-7") == "yours"
    with pytest.raises(Repeated) as caught:
        collection.transact("seat", take, op="order-7")
    assert (caught.value.field, caught.value.found) == ("op", collection.get("seat").meta.revision)
    assert collection.transact("seat", take, op="order-8") == "sold out"
    assert collection.get("seat").turns == 1


def test_a_session_says_whether_it_repeats(collection):
    for repeated in (False, True):
        with collection.session("a", op="x") as state:
            state.turns += 10
        assert (state.meta.repeated, state.meta.committed.number) == (repeated, 1)
    assert collection.get("a").turns == 10


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (E.basket.put([1, 2]), E.basket.put([2, 1])),
        (E.tags.add("a", "b", "c"), E.tags.add("c", "a", "b")),
        (E.steps.put("s", {"a": 1, "b": 2}), E.steps.put("s", {"b": 2, "a": 1})),
    ],
)
def test_the_order_of_members_is_not_what_a_call_stands_for(collection, one, same):
    """Sets have another order in each process; so a repetition by another one is still the same."""
    first = collection.apply("a", one, op="x")
    assert collection.apply("a", same, op="x") == first


@pytest.mark.parametrize("size", [2**53 + 1, 2**63, 2**64, 10**30])
def test_more_than_any_backend_can_count_is_invalid(collection, size):
    """And not an error of the backend's, nor one that is called retryable."""
    calls = [
        lambda: collection.get("a", tail=size),
        lambda: collection.get("a", after=0, limit=size),
        lambda: collection.scan_page(limit=size),
        lambda: list(collection.scan(page_size=size)),
        lambda: collection.get_page(limit=size),
    ]
    for call in calls:
        with pytest.raises(Invalid, match=r"at most 2\^53"):
            call()
