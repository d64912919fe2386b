"""One commit on one life: whole states agree with the oracle, partly loaded ones with whole ones."""

import itertools

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from statehold.changes import Accumulate, Add, Append, Drop, Items, Put, Refusal, Splice, fold
from statehold.commits import ABSENT, EVERYTHING, HOLD_SECONDS, PRESENT, Commit, Revision, Want
from statehold.driver import Doubtful, FencedOff, Refused, Reused, Written
from statehold.drivers.memory import MemoryDriver
from statehold.engine import run_now
from statehold.errors import Corrupted, Invalid
from statehold.folding import (
    NEVER_LIVED,
    Applied,
    Ends,
    Part,
    advance,
    cut,
    pack,
    refused,
    remember,
    step,
    unpack,
)
from statehold.testing.model import Model
from statehold.testing.naive import array
from statehold.testing.stateful import ABOUT, OPS, changes, ttls, wants

KEY = ("t", "kind", "a")


@st.composite
def commits(draw, model, now):
    """Any commit, to what the model says is there."""
    life = model.life(KEY, now)
    options = {
        "op": draw(st.sampled_from(OPS)),
        "ops": draw(st.sampled_from((1, 2, 3))),
        "intent": draw(st.sampled_from((0, 0, 0, 1, 2))),
        "epoch": draw(st.sampled_from([model.seen(KEY, now)] * 20 + [0, 1, 2])),
        "expect": draw(
            st.sampled_from(
                [None] * 12
                + [ABSENT, PRESENT]
                + ([life.revision] * 3 if life else [])
                + model.past.get(KEY, [])[-2:]
            )
        ),
    }
    if options["op"] and draw(st.integers(0, 3)) == 0:
        options["since"] = now - draw(st.sampled_from((-1.0, 0.1, 1.0, 9.0, 61.0)))
        options["until"] = now + draw(st.sampled_from((-0.1, 0.0, 1.0)))
    if draw(st.integers(0, 9)) == 0:
        return Commit(KEY, (), None, erase=True, **options)
    if draw(st.integers(0, 9)) == 0:
        options["epoch"] *= draw(st.sampled_from((0, 1)))
        options["returning"] = draw(st.one_of(st.none(), wants))
        return Commit(KEY, (), None, claim=draw(st.sampled_from((0.0, 1.0, 90.0))), **options)
    return Commit(
        KEY,
        tuple(draw(st.lists(changes, max_size=5))),
        draw(ttls),
        max_age=draw(st.sampled_from((None, None, 4.0))),
        subject=draw(st.sampled_from(ABOUT)),
        returning=draw(st.one_of(st.none(), wants)),
        **options,
    )


@settings(max_examples=300, report_multiple_bugs=False)
@given(st.data())
def test_a_whole_state_stepped_is_what_the_oracle_says(data):
    """With ops, since, until, epochs, conditions, erasures, deadlines, and a clock that may step."""
    model, life, now = Model(), NEVER_LIVED, 1000.0
    for _ in range(data.draw(st.integers(1, 25))):
        step_of_clock = data.draw(st.sampled_from((0.0, 0.25, 1.0, 3.0, 70.0, -0.5, -5.0)))
        if step_of_clock < 0:
            model.set_back(now, known=True)
        now += step_of_clock
        commit = data.draw(commits(model, now))
        before, was = life, list(life.fields)
        life, outcome = step(life, commit, now)
        note(f"{now}: {commit} -> {outcome}")
        model.judge(commit, outcome, now)
        assert list(before.fields) == was
        life = life.at(now)  # what is over does not come back when the clock does
        model.check_read(KEY, EVERYTHING, life.cells(EVERYTHING), now)


@settings(max_examples=150, report_multiple_bugs=False)
@given(st.data())
def test_the_memory_driver_which_writes_it_out_does_as_step_does(data):
    """To the last bit of what it answers and keeps, incarnations aside, which each draws itself."""
    driver, model, life, now = MemoryDriver(), Model(), NEVER_LIVED, 1000.0
    for _ in range(data.draw(st.integers(1, 20))):
        step_of_clock = data.draw(st.sampled_from((0.0, 0.25, 1.0, 3.0, 70.0, -0.5, -5.0)))
        if step_of_clock < 0:
            model.set_back(now, known=True)
        now += step_of_clock
        commit = data.draw(commits(model, now))
        (found,) = run_now(driver.commit([commit], now))
        revision = getattr(found, "revision", None)
        life, outcome = step(life, commit, now, lambda: revision.incarnation)  # noqa: B023
        assert found == outcome
        model.judge(commit, outcome, now)  # for `commits`
        if life.at(now) is not life:  # what is over is gone for both, should the clock go back
            run_now(driver.commit([plain(expect=PRESENT)], now))
            life = life.at(now)
        assert run_now(driver.read([KEY], EVERYTHING, now)) == [life.cells(EVERYTHING)]
        model.check_read(KEY, EVERYTHING, life.cells(EVERYTHING), now)


def test_who_decides_the_incarnation_gets_the_same_revisions():
    """An owner and a follower, or a simulation, may say which number a life has."""
    numbers = itertools.count(7)
    life, revisions = NEVER_LIVED, []
    for commit in (plain(), plain(), erasing(), plain()):
        life, outcome = step(life, commit, 1.0, lambda: next(numbers))
        revisions.append(outcome.revision)
    assert revisions == [Revision(7, 1), Revision(7, 2), Revision(7, 2), Revision(8, 1)]


def plain(*what, **options):
    return Commit(KEY, what, None, **options)


def erasing(**options):
    return Commit(KEY, (), None, erase=True, **options)


def test_an_erasure_repeated_is_known_and_erases_no_later_life():
    life, first = step(NEVER_LIVED, plain(Add("sum", "", 1)), 1.0)
    life, erased = step(life, erasing(op="gone"), 2.0)
    life, second = step(life, plain(), 3.0)
    after, again = step(life, erasing(op="gone", since=2.0), 4.0)
    assert again == Written(first.revision, None, True) == Written(erased.revision, None, True)
    assert after.head.revision == second.revision
    assert step(life, plain(op="gone"), 4.0)[1] == Reused(first.revision)
    late = 2.0 + HOLD_SECONDS
    life, _ = step(life, erasing(op="other"), late)
    assert list(life.erasures) == ["other"]
    assert step(life, erasing(op="gone", since=2.0), late)[1] == Doubtful()


@pytest.mark.parametrize("since", [19.0, 19.5])
def test_what_an_earlier_life_may_have_known_is_in_doubt(since):
    """Up to the time of its last commit, and no longer."""
    life, _ = step(NEVER_LIVED, plain(), 18.0)
    life, _ = step(life, plain(op="x"), 19.0)
    life, _ = step(life, erasing(), 19.75)
    life, _ = step(life, plain(), 20.0)
    _, outcome = step(life, plain(op="x", since=since), 21.0)
    assert isinstance(outcome, Doubtful if since == 19.0 else Written)


@pytest.mark.parametrize("since", [10.0, 10.5])
def test_what_took_the_place_of_an_op_id_leaves_doubt(since):
    life, _ = step(NEVER_LIVED, plain(), 5.0)
    for now, op in ((10.0, "a"), (20.0, "b")):
        life, _ = step(life, plain(op=op, ops=1), now)
    _, outcome = step(life, plain(op="a", since=since), 21.0)
    assert isinstance(outcome, Doubtful if since == 10.0 else Written)


@pytest.mark.parametrize("age", [HOLD_SECONDS, HOLD_SECONDS - 0.5])
def test_an_erasure_that_may_be_forgotten_is_in_doubt(age):
    life, _ = step(NEVER_LIVED, plain(), 5.0)
    _, outcome = step(life, erasing(op="x", since=100.0), 100.0 + age)
    assert isinstance(outcome, Doubtful if age == HOLD_SECONDS else Written)


def test_a_refused_commit_leaves_the_state_as_it_was():
    life, _ = step(NEVER_LIVED, plain(Put("map", "a", b"1"), Append("log", (b"1",), 2)), 1.0)
    same, outcome = step(
        life, plain(Append("log", (b"2",), 2), Put("map", "b", b"2", bound=1), op="x"), 2.0
    )
    assert outcome == Refused("map", "bound", 1, 2)
    assert same == life
    assert list(same.fields["log"]) == [b"1"]
    assert same.ops == {}


def test_op_ids_that_go_are_the_oldest():
    known = {}
    assert [remember(known, n, n, 3) for n in range(5)] == [None, None, None, 0, 1]
    assert remember(known, 9, 9, 1) == 4
    assert known == {9: 9}


def test_the_time_of_a_life_never_goes_back():
    head = advance(plain(), None, 10.0, lambda: 1)
    back = advance(Commit(KEY, (), 5.0), head, 4.0)
    assert (back.created, back.updated, back.deadline) == (10.0, 10.0, 9.0)


def test_what_is_wanted_is_cut_out():
    fields = {"log": Items([b"1", b"2", b"3"]), "map": {"a": 1}}
    assert cut(fields, Want(("log", "none"), 2)) == {"log": Items([b"2", b"3"])}
    assert cut(fields, Want(tail={"log": 1})) == {"log": Items([b"3"]), "map": {"a": 1}}
    single = Want(("log", "map"), entries={"log": ("a",), "map": ("a", "b"), "none": ("a",)})
    assert cut(fields, single) == fields
    assert cut(fields, Want(("map",), entries={"map": ("b",)})) == {}


def test_errors_of_a_commit_are_its_own_outcome():
    assert refused(Refusal("f", "bound", 1, 2)) == Refused("f", "bound", 1, 2)
    assert refused(Invalid("f: no number", field="f")) == Refused("f", "value", "no number", "")
    assert refused(Corrupted("unreadable")) == Refused("", "corrupted", "unreadable", "")
    commit = plain(Add("b", "", 1), Put("a", "", b"1"), Add("b", "", 1))
    assert refused(Invalid("too odd"), commit) == Refused("a, b", "value", "too odd", "")


# -------------------------------------------------------------------------------- partly loaded cells


class Rows(Part):
    """Entries that are elsewhere; what is asked for is counted."""

    def look_up(self, entry):
        self.asked.append(entry)
        return self.elsewhere.get(entry)

    def lowest_other(self):
        gone = self.changed
        return min((n for n in self.elsewhere if gone.get(n, n) is not None), default=None)

    def copy(self):
        made = super().copy()
        made.elsewhere, made.asked = self.elsewhere, self.asked
        return made


def unread(entries):
    made = Rows.of({}, len(entries))
    made.elsewhere, made.asked = entries, []
    return made


names = st.sampled_from(("a", "ab", "b", "b\x00", "é"))
bounds = st.sampled_from(((None, False), (3, False), (3, True), (1, True)))
arrays = st.sampled_from((array(1.0), array(2.5), array(1.0, 2.0)))
stored = st.dictionaries(names, st.one_of(st.integers(-5, 5), st.binary(max_size=2), arrays))


@st.composite
def entry_changes(draw):
    bound, lowest = draw(bounds)
    entry = draw(names)
    kind = draw(st.sampled_from("paasdxc"))
    if kind == "p":
        return Put("f", entry, draw(st.binary(max_size=2)), draw(st.booleans()), bound, lowest)
    if kind == "a":
        return Add("f", entry, draw(st.integers(-3, 3)), bound, lowest)
    if kind == "s":
        return Accumulate("f", entry, draw(arrays), bound, lowest)
    if kind == "c":
        return Append("f", (b"x",), 2)
    return Drop("f", None if kind == "x" and draw(st.booleans()) else entry)


def written_back(rows, cell):
    """The rows after what was folded is written: what a driver does with each kind of cell."""
    if not isinstance(cell, Part):
        return dict(cell or {})
    new = rows | cell.changed
    return {entry: value for entry, value in new.items() if value is not None}


@settings(max_examples=500)
@given(stored, st.lists(st.lists(entry_changes(), max_size=4), max_size=4))
def test_entries_partly_loaded_are_folded_as_whole_ones(rows, batches):
    """The contract of `into`: what it is given may fetch; refused commits leave it as it was."""
    whole = {"f": dict(rows)} if rows else {}
    part = {"f": unread(rows)} if rows else {}
    for batch in batches:
        outcomes = []
        for cells in (whole, part):
            try:
                outcomes.append(fold(cells, batch))
            except Refusal as refusal:
                outcomes.append((refusal.field, refusal.reason))
        if isinstance(outcomes[0], tuple):
            assert outcomes[0] == outcomes[1]
            continue
        whole, part = outcomes
        assert len(whole.get("f", ())) == len(part.get("f", ()))
        if isinstance(whole.get("f"), Items):
            assert list(whole["f"]) == list(part["f"])
        else:
            assert written_back(rows, part.get("f")) == whole.get("f", {})


def test_of_a_large_map_only_what_a_change_names_is_looked_up():
    rows = unread({f"{n:04}": n for n in range(1000)})
    cells = fold({"f": rows}, [Add("f", "0500", 1), Put("f", "new", b"1")])
    assert rows.asked == ["0500", "new"]
    assert cells["f"].changed == {"0500": 501, "new": b"1"}
    cells = fold(cells, [Put("f", "newer", b"1", bound=1001, drop_lowest=True)])
    assert cells["f"].changed["0000"] is None
    assert len(rows.asked) == 4


def test_the_lowest_goes_whether_it_is_loaded_or_not():
    for names, lowest in ((("a", "ab"), "a"), (("ab", "b"), "ab")):
        cells = {"f": unread(dict.fromkeys(names, 1))}
        cells = fold(cells, [Add("f", "ab", 1), Put("f", "c", b"", bound=2, drop_lowest=True)])
        assert [name for name, value in cells["f"].changed.items() if value is None] == [lowest]
        assert len(cells["f"]) == 2


@given(st.integers(0, 8), st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), max_size=6))
def test_of_a_list_its_ends_are_enough_to_append(count, appends):
    whole = {"f": Items(map(str.encode, map(str, range(count))))}
    ends = {"f": Ends(count)}
    number = itertools.count(100)
    for size, keep in appends:
        change = Append("f", tuple(str(next(number)).encode() for _ in range(size)), keep)
        whole, ends = fold(whole, [change]), fold(ends, [change])
        items, end = list(whole["f"]), ends["f"]
        assert len(end) == len(items)
        assert list(end.fresh) == [item for item in items if int(item) >= 100]
        assert change.items == () or end.keep == keep


def test_a_list_dropped_and_made_anew_goes_on_where_it_ended():
    for whole in (Ends(9), Items([b"x"] * 9)):
        cells = fold({"f": whole}, [Drop("f"), Append("f", (b"1",), 3)])
        assert (list(cells["f"]), cells["f"].first) == ([b"1"], 10)
        cells = fold({"f": whole}, [Drop("f")])
        assert (len(cells["f"]), cells["f"].first) == (0, 10)
        assert fold(cells, [Put("f", "a", b"1")]) == {"f": {"a": b"1"}}


def saved_after(rows, ends):
    """The items by position, once a list's ends are written: what a driver does with them."""
    kept = {at: item for at, item in rows.items() if ends.floor < at <= ends.left}
    kept |= {at: item for at, item in ends.edits.items() if at > ends.floor}
    kept |= dict(enumerate(ends.fresh, ends.end - len(ends.fresh) + 1))
    return kept


letters = st.binary(min_size=1, max_size=1)
few = st.lists(letters, max_size=3).map(tuple)
list_changes = st.one_of(
    st.builds(Append, st.just("f"), few, st.integers(1, 6)),
    st.builds(Splice, st.just("f"), st.just(6), st.just(0), st.integers(0, 4), few),
    st.builds(Splice, st.just("f"), st.just(6), st.integers(1, 9), st.just(0), st.tuples(letters)),
    st.just(Drop("f")),
)


@settings(max_examples=500)
@given(st.lists(letters, max_size=6), st.integers(0, 3), st.lists(list_changes, max_size=6))
def test_a_list_of_which_the_ends_are_known_is_folded_as_a_whole_one(items, floor, changes):
    """And so it is where a splice says what it expects to find."""
    rows = dict(enumerate(items, floor + 1))
    whole = {"f": Items(items, floor + 1)}
    ends = {"f": Ends(floor + len(items), floor, look_up=rows.__getitem__)}
    for change in changes:
        if isinstance(change, Splice):
            was = whole["f"]
            found = was[-change.take :] if change.take else []
            if change.at and 0 <= change.at - was.first < len(was):
                found = [was[change.at - was.first]]
            change = replace(change, same=tuple(found))  # noqa: PLW2901
        outcomes = []
        for cells in (whole, ends):
            try:
                outcomes.append(fold(cells, [change]))
            except Refusal as refusal:
                outcomes.append(refusal.reason)
        if isinstance(outcomes[0], str):
            assert outcomes[0] == outcomes[1] == "gone"
            continue
        whole, ends = outcomes
        assert list(ends["f"]) == list(whole["f"])
        assert ends["f"].first == whole["f"].first
        assert saved_after(rows, ends["f"]) == dict(enumerate(whole["f"], whole["f"].first))


@pytest.mark.parametrize("change", [Put("f", "a", b"1"), Add("f", "a", 1)])
def test_a_list_takes_no_entries_and_entries_no_items(change):
    with pytest.raises(Refusal, match="type"):
        fold({"f": Ends(2)}, [change])
    with pytest.raises(Refusal, match="type"):
        fold({"f": Part.of({}, 2)}, [Append("f", (b"1",), 3)])


def test_an_op_id_that_stands_for_something_else_is_refused():
    life, first = step(NEVER_LIVED, plain(op="x", intent=1), 1.0)
    assert life.applied("x") == Applied(first.revision, 1)
    assert step(life, plain(op="x", intent=2), 1.0)[1] == Reused(first.revision)
    assert step(life, plain(op="x"), 1.0)[1].repeated
    assert step(life, erasing(op="x"), 1.0)[1] == Reused(first.revision)


def test_a_life_is_kept_for_as_long_as_its_epoch_is_to_be_remembered():
    """By who keeps it whole, and through a record."""
    life, _ = step(NEVER_LIVED, Commit(KEY, (), None, claim=100.0, epoch=7), 1000.0)
    assert (life.head, life.needed()) == (None, 1160.0)
    life, _ = step(unpack(pack(life)), Commit(KEY, (), 5.0, epoch=7), 1000.0)
    assert life.needed() == 1160.0
    life, _ = step(life, Commit(KEY, (), 200.0, epoch=8), 1001.0)
    assert life.needed() == 1261.0
    assert unpack(pack(life)) == life
    life = life.at(1201.0)
    assert (life.head, life.needed()) == (None, 1261.0)
    assert step(life, plain(epoch=7), 1260.0)[1] == FencedOff(8)
    assert isinstance(step(life, plain(), 1261.0)[1], Written)
