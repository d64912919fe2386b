"""The laws of the waist: what every driver may rely on when it folds."""

import copy
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statehold.changes import (
    Accumulate,
    Add,
    Append,
    Drop,
    Items,
    Put,
    Refusal,
    Splice,
    add_arrays,
    add_numbers,
    fold,
)
from statehold.commits import Revision, deadline
from statehold.testing.naive import apply_all

int64 = st.integers(-(2**63), 2**63 - 1)
small = st.integers(-(2**40), 2**40)
finite = st.floats(allow_nan=False, allow_infinity=False)
modest = st.floats(-1e6, 1e6)
entries = st.sampled_from(["", "a", "b", "c"])
values = st.binary(max_size=3)


def array(*numbers):
    return struct.pack(f"<{len(numbers)}d", *numbers)


def floats(raw):
    return struct.unpack(f"<{len(raw) // 8}d", raw)


pairs = st.tuples(modest, modest).map(lambda pair: array(*pair))

changes = st.one_of(
    st.builds(Put, st.just("map"), entries, values, st.booleans(), st.just(2), st.booleans()),
    st.builds(Add, st.just("sum"), entries, st.one_of(small, int64, modest), st.just(3)),
    st.builds(Add, st.just("window"), entries, small, st.just(2), st.just(True)),
    st.builds(Accumulate, st.just("array"), entries, pairs, st.just(2)),
    st.builds(Append, st.just("log"), st.lists(values, max_size=4).map(tuple), st.integers(1, 5)),
    st.builds(
        Splice,
        st.just("log"),
        st.integers(1, 5),
        st.just(0),
        st.integers(0, 3),
        st.lists(values, max_size=2).map(tuple),
        st.none() | st.lists(values, max_size=1).map(tuple),
    ),
    st.builds(Splice, st.just("log"), st.just(5), st.integers(1, 9), st.just(0), st.tuples(values)),
    st.builds(Drop, st.sampled_from(["map", "sum", "array"]), st.one_of(st.none(), entries)),
    st.builds(Drop, st.sampled_from(["log", "window"])),
)
commits = st.lists(changes, max_size=6)


def plain(cells):
    """Cells as they compare: an empty cell is no cell."""
    return {n: dict(c) if isinstance(c, dict) else list(c) for n, c in cells.items() if c}


def folded(cells, commit):
    """The cells after a commit, which are the same ones if it is refused."""
    try:
        return fold(cells, commit)
    except Refusal:
        return cells


# ------------------------------------------------------------------------------------ fold


@given(st.lists(commits, max_size=5))
def test_fold_of_all_commits_is_the_fold_of_their_folds(many):
    """Commits may be folded one by one or in one go."""
    one_by_one = {}
    joined = []
    for commit in many:
        try:
            one_by_one = fold(one_by_one, commit)
        except Refusal:
            continue
        joined += commit
    assert plain(fold({}, joined)) == plain(one_by_one)


@given(commits, commits)
def test_fold_does_not_touch_its_input(before, commit):
    """What is folded stays as it was, also when the commit is refused half way."""
    cells = folded({}, before)
    was = copy.deepcopy(plain(cells))
    folded(cells, commit)
    assert plain(cells) == was


@given(commits, commits, commits)
def test_a_refused_commit_leaves_no_trace(before, refused, after):
    """What is folded after a refused commit is the same as if it had never been."""
    cells = folded({}, before)
    untouched = copy.deepcopy(cells)
    with pytest.raises(Refusal):
        fold(cells, [*refused, Put("map", "new", b"", bound=0)])
    assert plain(folded(cells, after)) == plain(folded(untouched, after))


@given(commits, st.lists(commits, max_size=3))
def test_versions_that_part_ways_do_not_meet(before, branches):
    """Several commits folded over the same cells, each for itself, do not see each other."""
    cells = folded({}, before)
    apart = [plain(folded(copy.deepcopy(cells), branch)) for branch in branches]
    together = [folded(cells, branch) for branch in branches]
    assert [plain(cells) for cells in together] == apart


@given(st.lists(commits, max_size=4))
def test_fold_agrees_with_the_model(many):
    """The fold that drivers use does what the kit's own oracle does."""
    cells, model = {}, {}
    for commit in many:
        tried = copy.deepcopy(model)
        no = apply_all(tried, commit)
        if no is not None:
            with pytest.raises(Refusal) as caught:
                fold(cells, commit)
            assert (caught.value.field, caught.value.reason) == no
            continue
        model = tried
        cells = fold(cells, commit)
        found = plain(cells)
        for name, cell in found.get("array", {}).items():
            found["array"][name] = floats(cell)
        assert found == {name: cell for name, cell in model.items() if cell}
        if "log" in model:
            assert cells.get("log", Items()).first == model["log"].first


@given(commits, st.integers(0, 5), st.lists(values, max_size=9), st.integers(1, 5))
def test_an_append_may_be_split(before, at, items, keep):
    """Items appended in one change or in two leave the same list."""
    cells = folded({}, before)
    whole = fold(cells, [Append("log", tuple(items), keep)])
    parts = (Append("log", tuple(items[:at]), keep), Append("log", tuple(items[at:]), keep))
    halves = fold(cells, [part for part in parts if part.items])
    assert plain(whole) == plain(halves)


# -------------------------------------------------------------------------------- the sums


@given(st.lists(small, max_size=20), st.randoms(use_true_random=False))
def test_int_sums_commute_exactly(amounts, random):
    """In whatever order ints are added, the sum is the same to the last bit."""
    shuffled = random.sample(amounts, len(amounts))
    one, other = (fold({}, [Add("sum", "k", n) for n in order]) for order in (amounts, shuffled))
    assert plain(one) == plain(other)
    if amounts:
        assert one["sum"] == {"k": sum(amounts)}


@given(st.lists(modest, max_size=20), st.randoms(use_true_random=False))
def test_float_sums_commute_within_rounding(amounts, random):
    """In whatever order floats are added, the sum is the same but for rounding."""
    shuffled = random.sample(amounts, len(amounts))
    for order in (amounts, shuffled):
        total = plain(fold({}, [Add("sum", "k", n) for n in order])).get("sum", {"k": 0.0})["k"]
        assert math.isclose(total, math.fsum(amounts), rel_tol=1e-9, abs_tol=1e-6)


@given(st.lists(pairs, max_size=20), st.randoms(use_true_random=False))
def test_array_sums_commute_within_rounding(arrays, random):
    """In whatever order arrays are accumulated, the sum is the same but for rounding."""
    shuffled = random.sample(arrays, len(arrays))
    for order in (arrays, shuffled):
        cells = fold({}, [Accumulate("array", "k", raw) for raw in order])
        total = floats(plain(cells).get("array", {"k": array(0.0, 0.0)})["k"])
        for position in range(2):
            exact = math.fsum(floats(raw)[position] for raw in arrays)
            assert math.isclose(total[position], exact, rel_tol=1e-9, abs_tol=1e-6)


@given(int64, int64)
def test_ints_are_added_exactly_or_refused(a, b):
    """Two ints add up exactly within 64 bits, and are refused beyond."""
    if -(2**63) <= a + b < 2**63:
        total = add_numbers("f", a, b)
        assert (total, type(total)) == (a + b, int)
    else:
        with pytest.raises(Refusal, match="range"):
            add_numbers("f", a, b)


@given(st.one_of(finite, int64), st.one_of(finite, int64))
def test_sums_are_finite_or_refused(a, b):
    """No sum of numbers that are finite is ever infinite or no number."""
    try:
        total = add_numbers("f", a, b)
    except Refusal:
        assert not -(2**63) <= a + b < 2**63
    else:
        assert math.isfinite(total)


@pytest.mark.parametrize("amount", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("old", [None, 1, 0.5])
def test_what_is_no_finite_number_is_never_added(old, amount):
    """NaN and infinities are refused, to an entry that is there and to one that is not."""
    with pytest.raises(Refusal, match="range"):
        fold({} if old is None else {"sum": {"k": old}}, [Add("sum", "k", amount)])


@given(st.lists(finite, max_size=4), st.lists(finite, max_size=4))
def test_arrays_add_elementwise_or_are_refused(a, b):
    """Arrays of one length add up element by element; others, and infinite sums, are refused."""
    sums = [x + y for x, y in zip(a, b, strict=False)]
    if len(a) != len(b):
        with pytest.raises(Refusal, match="shape"):
            add_arrays("f", array(*a), array(*b))
    elif not all(map(math.isfinite, sums)):
        with pytest.raises(Refusal, match="range"):
            add_arrays("f", array(*a), array(*b))
    else:
        assert list(floats(add_arrays("f", array(*a), array(*b)))) == sums


# ------------------------------------------------------------------------------------ items


@given(st.data(), st.lists(values, max_size=6), st.integers(1, 6))
def test_items_are_immutable_lists(data, first, keep):
    """Versions of a list share a buffer and never show: each stays the list that it was."""
    versions = [(Items(first), list(first))]
    for _ in range(data.draw(st.integers(0, 25))):
        items, model = data.draw(st.sampled_from(versions[-4:]))
        match data.draw(st.sampled_from(["append", "append", "append", "tail", "fork"])):
            case "append":
                new = data.draw(st.lists(values, max_size=5))
                versions.append((items.appended(new, keep), [*model, *new][-keep:]))
            case "tail":
                count = data.draw(st.integers(1, 7))
                versions.append((items.tail(count), model[-count:]))
            case "fork":
                versions.append((items.fork(), model))
    cut = st.one_of(st.none(), st.integers(-9, 9))
    piece = slice(data.draw(cut), data.draw(cut), data.draw(st.sampled_from([None, 1, 2, -1, -3])))
    for items, model in versions:
        assert list(items) == model
        assert len(items) == len(model)
        assert list(items[piece]) == model[piece]
        assert [items[i] for i in range(-len(model), len(model))] == model * 2
        assert list(reversed(items)) == model[::-1]
        assert items == Items(model)
        assert items.nbytes == sum(map(len, model))
        assert list(items.tail(0)) == []
        for beyond in (len(model), -len(model) - 1):
            with pytest.raises(IndexError):
                items[beyond]


def test_a_long_list_does_not_hold_on_to_what_fell_out():
    """However many items pass through a list, its buffer stays in proportion to what it keeps."""
    items = Items()
    for n in range(10_000):
        items = items.appended((b"%d" % n,), 20)
    assert len(items._buffer) <= 60


# --------------------------------------------------------------------------- revision, time


@given(st.integers(1, 2**63 - 1), st.integers(1, 2**53))
def test_a_revision_is_what_it_prints(incarnation, number):
    """`Revision.parse` undoes `str`."""
    revision = Revision(incarnation, number)
    assert Revision.parse(str(revision)) == revision


@pytest.mark.parametrize("text", ["", ".", "1", "1.", ".1", "x.1", "1.x", "1.-1", "1.1.1", "1.1 "])
def test_what_is_no_revision_is_refused(text):
    """Anything else is a ValueError."""
    with pytest.raises(ValueError, match=r"revision|invalid literal"):
        Revision.parse(text)


moments = st.floats(0, 4e9)
spans = st.one_of(st.none(), st.floats(0.001, 4e9))


@given(moments, spans, spans, spans)
def test_a_deadline_is_the_earlier_one(created, since, ttl, max_age):
    """A state expires its ttl after the renewal, or its max age after its creation."""
    now = created + (since or 0.0)
    ends = [] if ttl is None else [now + ttl]
    ends += [] if max_age is None else [created + max_age]
    assert deadline(created, now, ttl, max_age) == (min(ends) if ends else None)


@pytest.mark.parametrize("bound", [0, -1])
@pytest.mark.parametrize("drop_lowest", [False, True])
def test_a_bound_below_one_is_refused(bound, drop_lowest):
    """There is no entry that could give way."""
    more = {"bound": bound, "drop_lowest": drop_lowest}
    for change in (
        Add("w", "k", 1, **more),
        Put("w", "k", b"1", **more),
        Accumulate("w", "k", struct.pack("<d", 1.0), **more),
        Append("w", (b"1",), bound),
    ):
        for cells in (
            {},
            fold({}, [Append("w", (b"0",), 3)] if change.__class__ is Append else []),
        ):
            with pytest.raises(Refusal) as caught:
                fold(cells, [change])
            assert (caught.value.reason, caught.value.limit) == ("bound", bound)


@pytest.mark.parametrize("entry", ["9", "25", "0"])
def test_a_bound_that_shrinks_drops_down_to_it(entry):
    """In the kernel and in the model that drivers are held to; the growth that is told is right."""
    before = fold({}, [Add("w", str(n), 1) for n in range(6) if str(n) != entry])
    change = Add("w", entry, 1, 3, drop_lowest=True)
    oracle = {"w": {str(n): 1 for n in range(6) if str(n) != entry}}
    assert apply_all(oracle, (change,)) is None
    after = dict(before)
    growth = change.into(after, [])
    assert after == oracle
    assert len(after["w"]) == (5 if entry == "0" else 3)  # the lowest of all moves nothing
    assert growth == sum(len(k) + 8 for k in after["w"]) - sum(len(k) + 8 for k in before["w"])


# --------------------------------------------------------------------------------- long lists

long_changes = st.one_of(
    st.builds(Append, st.just("log"), st.lists(values, max_size=300).map(tuple), st.just(900)),
    st.builds(Append, st.just("log"), st.lists(values, max_size=3).map(tuple), st.integers(1, 900)),
    st.builds(
        Splice,
        st.just("log"),
        st.just(900),
        st.just(0),
        st.one_of(st.integers(0, 3), st.integers(0, 700)),
        st.lists(values, max_size=3).map(tuple),
    ),
    st.builds(
        Splice, st.just("log"), st.just(900), st.integers(1, 1500), st.just(0), st.tuples(values)
    ),
    st.just(Drop("log")),
)


@given(st.lists(st.tuples(long_changes, st.integers(1, 400)), max_size=8), st.data())
def test_long_lists_that_share_what_they_have_agree_with_the_model(many, data):
    """Whatever is patched and joined, no version changes under who has it."""
    cells = {"log": Items([b"%d" % n for n in range(800)])}
    model = {}
    apply_all(model, (Append("log", tuple(cells["log"]), 900),))
    versions = []
    for change, times in many:
        for _ in range(times if isinstance(change, Splice) else 1):
            if apply_all(model, (change,)) is not None:
                break
            cells = fold(cells, [change])
        items, want = cells["log"], model["log"]
        assert (items.first, len(items), items.nbytes) == (
            want.first,
            len(want),
            sum(map(len, want)),
        )
        assert list(items) == want
        begin, end = sorted(data.draw(st.tuples(st.integers(0, 900), st.integers(0, 900))))
        assert items[begin:end] == want[begin:end]
        assert [items[at] for at in range(begin, min(end, len(items)), 97)] == want[begin:end][::97]
        assert items[::-7] == want[::-7]
        versions.append((items, list(want)))
    for items, want in versions:
        assert list(items) == want
