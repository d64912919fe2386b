"""The two faces say and do the same."""

import asyncio
import inspect
import re

import msgspec
import pytest
from sample import Everything, Message, shown

from statehold import (
    ABSENT,
    PRESENT,
    AsyncCollection,
    AsyncLease,
    AsyncStore,
    Collection,
    Lease,
    ManualClock,
    Revision,
    State,
    StateholdError,
    Store,
)

E = Everything
FACES = [(AsyncStore, Store), (AsyncCollection, Collection)]


def public(cls):
    return {
        name: getattr(cls, name)
        for name in dir(cls)
        if not name.startswith("_") and callable(getattr(cls, name))
    }


METHODS = [(a, s, name) for a, s in FACES for name in public(a) if name in public(s)]


@pytest.mark.parametrize(("asynchronous", "synchronous"), FACES, ids=lambda it: it.__name__)
def test_the_same_methods(asynchronous, synchronous):
    assert public(asynchronous).keys() == public(synchronous).keys()


@pytest.mark.parametrize(
    ("asynchronous", "synchronous", "name"), METHODS, ids=lambda it: getattr(it, "__name__", it)
)
def test_the_same_parameters(asynchronous, synchronous, name):
    def parameters(cls):
        found = inspect.signature(getattr(cls, name)).parameters.values()
        return [(p.name, p.kind, p.default) for p in found]

    assert parameters(asynchronous) == parameters(synchronous)


@pytest.mark.parametrize(
    ("asynchronous", "synchronous", "name"), METHODS, ids=lambda it: getattr(it, "__name__", it)
)
def test_the_sync_docs_point_to_the_async_ones(asynchronous, synchronous, name):
    assert getattr(asynchronous, name).__doc__
    said = re.search(r"`(Async\w+)\.(\w+)`", getattr(synchronous, name).__doc__)
    assert said is not None
    assert said.groups() == (asynchronous.__name__, name)


@pytest.mark.parametrize(
    ("asynchronous", "synchronous"), [*FACES, (AsyncLease, Lease)], ids=lambda it: it.__name__
)
def test_help_on_the_sync_api_says_what_each_does(asynchronous, synchronous):
    """Its first line is that of the async one, and not only where to read it."""
    told = 0
    for name in dir(synchronous):
        one, other = (getattr(cls, name, None) for cls in (asynchronous, synchronous))
        if not name.startswith("_") and inspect.getdoc(one) and inspect.getdoc(other):
            first, same = (inspect.getdoc(each).splitlines()[0] for each in (other, one))
            assert first == same.replace("`async with`", "`with`") or not callable(other), name
            assert not re.match(r"(See|Like) `Async", first), name
            told += 1
    assert told >= 6


@pytest.mark.parametrize(("asynchronous", "synchronous"), FACES, ids=lambda it: it.__name__)
def test_the_same_annotations(asynchronous, synchronous):
    """Results aside, which are awaited or iterated over in one face and there in the other."""
    for name in public(asynchronous):
        one, other = (inspect.signature(getattr(cls, name)) for cls in (asynchronous, synchronous))
        for parameter in one.parameters:
            if (name, parameter) != ("transact", "fn"):  # may be async in one of them
                found = other.parameters[parameter].annotation
                assert found == one.parameters[parameter].annotation, (name, parameter)


# One step each: what is called, with what. `raise` ends a session with an error.
CALLS = [
    ("get", ["a"], {}),
    ("apply", ["a", E.turns.add(1), E.history.append(Message("u", "x"))], {"op": "1", "subject": "ann"}),
    ("apply", ["a", E.turns.add(1)], {"op": "1"}),
    ("apply", ["a", E.turns.add(1)], {"returning": [E.turns, "history"], "tail": 1}),
    ("commit", ["a", [E.turns.add(1)]], {"op": "1"}),
    ("commit", ["b", [E.focus.put("x")]], {"expect": ABSENT}),
    ("commit", ["b", [E.focus.put("x")]], {"expect": ABSENT}),
    ("apply", ["b", E.turns.add(1)], {"expect": PRESENT}),
    ("apply", ["b", E.turns.add(1)], {"epoch": 5}),
    ("apply", ["b", E.turns.add(1)], {"epoch": 4}),
    ("apply", ["b", E.seen.add(1, 2, 3, 4)], {"epoch": 5}),
    ("apply", ["", E.turns.add(1)], {}),
    ("apply", ["a", 5], {}),
    ("apply_many", [[("a", [E.turns.add(1)]), ("", []), ("a", [E.seen.add(1, 2, 3, 4)]), ("c", [])]], {}),
    ("get", ["a"], {"fields": [E.turns]}),
    ("get", ["a"], {"fields": ["nope"]}),
    ("get", ["a"], {"tail": {"history": 1}}),
    ("get", ["a"], {"tail": 0}),
    ("get_many", [["a", "z", "b"]], {"fields": ["turns"]}),
    ("get_many", ["ab"], {}),
    ("scan", [], {"page_size": 1}),
    ("scan", [], {"page_size": 0}),
    ("find", ["ann"], {}),
    ("find", [""], {}),
    ("scan_page", [], {"limit": 2}),
    ("scan_page", [], {"cursor": "no"}),
    ("get_page", [], {"limit": 2, "fields": ["turns"]}),
    ("get_page", [], {"cursor": "no"}),
    ("session", ["a"], {"do": lambda s: s.filters.update(a="b")}),
    ("session", ["a"], {"do": lambda _: None}),
    ("session", ["a"], {"do": lambda s: s.turns / 0}),
    ("session", ["a"], {"do": lambda s: s.tags.add("x"), "expect": ABSENT}),
    ("session", ["a"], {"do": lambda s: s.tags.add("x"), "exclusive": True}),
    ("transact", ["a", lambda s: s.clicks.add("x") or s.clicks["x"]], {}),
    ("transact", ["a", lambda s: s.turns / 0], {}),
    ("transact", ["a", lambda _: None], {"attempts": 0}),
    ("step", ["a", E.turns.add(1)], {"where": E.turns.holds(-1)}),
    ("step", ["a", E.turns.add(1)], {"expect": PRESENT, "epoch": 1}),
    ("step", ["a", E.turns.add(1)], {"delete": True}),
    ("apply", ["a", E.turns.add(1)], {"where": [E.turns.holds(-1)]}),
    ("apply", ["a", E.turns.add(1)], {"where": ["turns"]}),
    ("delete", ["a"], {"where": E.turns.holds(-1)}),
    ("touch", ["a"], {}),
    ("touch", ["a"], {"ttl": 60}),
    ("touch", ["a"], {"ttl": -1}),
    ("apply", ["a", E.turns.add(1)], {"ttl": 1e9}),
    ("session", ["a"], {"do": lambda s: s.tags.add("y"), "ttl": 60}),
    ("transact", ["a", lambda s: s.clicks.add("x") or s.clicks["x"]], {"ttl": 60}),
    ("transact", ["a", lambda s: s.clicks.add("x")], {"ttl": -1}),
    ("lease", ["leased"], {"ttl": 60}),
    ("lease", ["leased"], {"ttl": 60, "wait": -1}),
    ("apply", ["leased", E.turns.add(1)], {}),
    ("touch", ["z"], {}),
    ("delete", ["a"], {"expect": ABSENT}),
    ("delete", ["a"], {}),
    ("delete", ["a"], {}),
    ("get", ["a"], {"on_failure": "default"}),
    ("close", [], {}),
    ("get", ["b"], {}),
]  # fmt: skip


def plain(result):  # noqa: PLR0911  one kind after another
    """What can be compared between two stores, whose incarnations are random."""
    if isinstance(result, State):
        return shown(result), result.meta.exists, result.meta.revision.number, result.meta.subject
    if isinstance(result, Revision):
        return result.number
    if isinstance(result, StateholdError):
        found = result.found.number if isinstance(result.found, Revision) else result.found
        return (
            type(result),
            re.sub(r"[0-9a-f]{8,}\.", "", str(result)),
            result.key,
            result.field,
            found,
        )
    if isinstance(result, Exception):
        return type(result), str(result)
    if isinstance(result, msgspec.Struct):
        return plain(result.revision), result.repeated
    if isinstance(result, list | tuple):
        return [plain(part) for part in result]
    if isinstance(result, dict):
        return {name: plain(part) for name, part in result.items()}
    return result


def synchronously():
    with Store.open("memory://", clock=ManualClock()) as store:
        states = store.collection(E)
        for name, args, options in CALLS:
            given = dict(options)
            do = given.pop("do", None)
            try:
                if name == "session":
                    with states.session(*args, **given) as state:
                        do(state)
                    yield plain(state)
                elif name == "lease":
                    with states.lease(*args, **given) as lease:
                        yield lease.epoch, lease.left, lease.lost
                elif name == "close":
                    yield store.close()
                elif name == "step":
                    yield plain(store.apply_together(states.step(*args, **given)))
                else:
                    result = getattr(states, name)(*args, **given)
                    yield plain(list(result) if name in {"scan", "find"} else result)
            except (StateholdError, ZeroDivisionError) as error:
                yield plain(error)


async def asynchronously():
    found = []
    async with AsyncStore.open("memory://", clock=ManualClock()) as store:
        states = store.collection(E)
        for name, args, options in CALLS:
            given = dict(options)
            do = given.pop("do", None)
            try:
                if name == "session":
                    async with states.session(*args, **given) as state:
                        do(state)
                    found.append(plain(state))
                elif name == "lease":
                    async with states.lease(*args, **given) as lease:
                        found.append((lease.epoch, lease.left, lease.lost))
                elif name == "close":
                    found.append(await store.close())
                elif name == "step":
                    done = await store.apply_together(states.step(*args, **given))
                    found.append(plain(done))
                elif name in {"scan", "find"}:
                    found.append([id async for id in getattr(states, name)(*args, **given)])
                else:
                    found.append(plain(await getattr(states, name)(*args, **given)))
            except (StateholdError, ZeroDivisionError) as error:
                found.append(plain(error))
    return found


def test_the_same_answers():
    one, other = list(synchronously()), asyncio.run(asynchronously())
    assert {name for name, *_ in CALLS} >= public(Collection).keys()
    for call, left, right in zip(CALLS, one, other, strict=True):
        assert left == right, call
