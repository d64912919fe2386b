"""Ctrl-C, a time limit, a signal handler or a finalizer may come at any line of a call."""

import sys
import time
from functools import partial

import pytest

from statehold import Busy, Counter, Log, Map, State, Store
from statehold.drivers import memory, sqlite
from statehold.engine import run_now

# A tracer can raise where no signal does: between a lock's giving back and the line that says so.
TAKING = {"commit", "commit_together", "_transact", "read", "reader", "done"}
TAKING |= {"install", "_call", "acquire", "release", "__enter__", "__exit__"}
FOLDERS = tuple(module.__file__.rpartition("/")[0] for module in (memory, sqlite))


class Visit(State, ttl=60):
    clicks = Counter()
    pages = Log(str, keep=3)
    notes = Map(str, str, keep=200)


EDITS = (Visit.clicks.add(1), Visit.pages.append("x"), Visit.notes.put("k", "v"))


class Interrupt(BaseException):
    pass


def at_line(number, work, then):
    """Do the work, and something else at so many lines of the driver. Whether it came to that."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        code = frame.f_code
        if not code.co_filename.startswith(FOLDERS) or code.co_name in TAKING:
            return trace if event == "call" else None
        if event == "line":
            count += 1
            if count == number:
                then()
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return count >= number


def interrupted():
    raise Interrupt


@pytest.fixture(params=["memory://", "sqlite:///state.db"])
def url(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return request.param


@pytest.mark.parametrize("prior", [0, 1, 100], ids=["a new state", "a small one", "a large one"])
def test_an_interrupt_at_any_line_leaves_whole_states(url, prior):
    """What was under way was applied or not, and everything goes on."""
    with Store.open(url) as store:
        visits = store.collection(Visit)
        for line in range(1, 400):
            id = f"v{line}"
            if prior:
                visits.apply(id, *(Visit.notes.put(f"n{n}", "v") for n in range(prior)))
                visits.apply(id, Visit.notes.put("n0", "w"), subject="ann")
            try:
                said = partial(visits.apply, id, *EDITS, subject=("bob", "ann"))
                came = at_line(line, said, interrupted)
            except Interrupt:
                came = True
            found = visits.get(id)
            whole = (found.clicks, list(found.pages), found.notes.get("k"))
            assert whole in [(0, [], None), (1, ["x"], "v")], f"line {line}: half of it: {whole}"
            about = visits.get(id).meta.subjects
            assert about in [(), ("ann",), ("bob", "ann")]
            for subject in ("ann", "bob"):
                assert (id in list(visits.find(subject))) == (subject in about), f"line {line}"
            visits.apply(id, *EDITS, subject=["cy", "run"])
            assert visits.get(id).clicks == whole[0] + 1
            assert id in list(visits.find("cy"))
            assert id in list(visits.find("run"))
            assert visits.delete(id)
            assert not visits.get(id).meta.exists
            if not came:
                break
        else:
            pytest.fail("the commit has no end")
        assert list(visits.scan()) == []


@pytest.mark.parametrize("prior", [0, 1, 100], ids=["a new state", "a small one", "a large one"])
def test_an_interrupt_at_any_line_leaves_whole_lives(url, prior):
    """A life that is installed is there as it was, or as it is from now on, with what it remembers."""
    with Store.open(url) as store:
        visits = store.collection(Visit)
        for line in range(1, 400):
            id = f"v{line}"
            if prior:
                visits.apply(id, *(Visit.notes.put(f"n{n}", "v") for n in range(prior)))
                old = whole_of(store, id)
            visits.apply(id, *EDITS, subject="bob", op="op 1")
            life = whole_of(store, id)
            visits.delete(id)
            if prior:
                install(store, old)
            try:
                came = at_line(line, partial(install, store, life), interrupted)
            except Interrupt:
                came = True
            found = visits.get(id)
            whole = (found.clicks, list(found.pages), found.notes.get("k"))
            assert whole in [(0, [], None), (1, ["x"], "v")], f"line {line}: half of it: {whole}"
            again = install(store, life)
            assert again.repeated == bool(whole[0])
            assert whole_of(store, id).ops == life.ops
            assert id in list(visits.find("bob"))
            assert visits.delete(id)
            assert list(visits.find("bob")) == []
            if not came:
                break
        else:
            pytest.fail("the installation has no end")
        assert list(visits.scan()) == []


def whole_of(store, id):
    """The whole life of a visit, which is there."""
    return run_now(store.driver.lives([("", "visit", id)], time.time()))[0]


def install(store, life):
    """What became of a life that is to be installed."""
    return run_now(store.driver.install([life], time.time()))[0]


@pytest.mark.parametrize("prior", [0, 1, 100], ids=["new states", "small ones", "large ones"])
def test_an_interrupt_at_any_line_leaves_all_or_none(url, prior):
    """Of commits that stand together, too: one state is not changed without the others."""
    with Store.open(url) as store:
        visits = store.collection(Visit)
        for line in range(1, 800):
            ids = [f"v{line}", f"w{line}", f"x{line}"]
            if prior:
                for id in ids:
                    visits.apply(id, *(Visit.notes.put(f"n{n}", "v") for n in range(prior)))
                    visits.apply(id, Visit.notes.put("n0", "w"), subject="ann")
            steps = [
                visits.step(ids[0], *EDITS, subject="bob"),
                visits.step(ids[1], delete=True),
                visits.step(ids[2], *EDITS),
            ]
            try:
                came = at_line(line, partial(store.apply_together, *steps), interrupted)
            except Interrupt:
                came = True
            first, gone, last = (visits.get(id) for id in ids)
            whole = (first.clicks, list(first.pages), first.notes.get("k"))
            assert whole in [(0, [], None), (1, ["x"], "v")], f"line {line}: half of it: {whole}"
            assert (last.clicks, list(last.pages)) == whole[:2], f"line {line}: one of two"
            if prior:
                assert gone.meta.exists == (not whole[0]), f"line {line}: one of two"
            store.apply_together(*steps)
            assert visits.get(ids[0]).clicks == visits.get(ids[2]).clicks == whole[0] + 1
            assert ids[0] in list(visits.find("bob"))
            for id in ids:
                visits.delete(id)
            if not came:
                break
        else:
            pytest.fail("the commit has no end")
        assert list(visits.scan()) == []


def test_a_call_in_the_midst_of_another_is_refused(url):
    """A signal handler or finalizer that calls the store does not wait for its own thread."""
    with Store.open(url) as store:
        visits = store.collection(Visit)
        visits.apply("a", *EDITS)
        refused = 0

        def again():
            nonlocal refused
            sys.settrace(None)
            try:
                visits.apply("b", Visit.clicks.add(1))
            except Busy:
                refused += 1

        for line in range(1, 200):
            if not at_line(line, partial(visits.apply, "a", *EDITS), again):
                break
        assert refused
        assert visits.get("a").clicks > 1
