"""Laws of the fields that add up: whatever the order and whoever writes, the sum is the same."""

import itertools
import math
from collections import Counter as Count
from decimal import Context, Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sample import Everything, Message, opened, shown

from statehold import Counter, DecayedMean, ManualClock, Map, State, Store, Tally, Window

YEAR = 365.25 * 86400
NOW = 1_700_000_000.0
LATER = 100 * NOW

exact = Context(prec=50, Emin=-(10**9), Emax=10**9)


def weight_at(time, newest, half_life):
    """2**((time - newest) / half_life), to 50 digits."""
    age = exact.subtract(Decimal(time), Decimal(newest))
    return exact.power(2, exact.divide(age, Decimal(half_life)))


def defining_sum(updates, half_life):
    """The mean by its definition, and the weight as of the newest update, to 50 digits."""
    newest = max(at for _, _, at in updates)
    total, mean = Decimal(0), [Decimal(0), Decimal(0)]
    for vector, weight, at in updates:
        w = exact.multiply(Decimal(weight), weight_at(at, newest, half_life))
        total = exact.add(total, w)
        mean = [
            exact.add(m, exact.multiply(w, Decimal(v))) for m, v in zip(mean, vector, strict=True)
        ]
    return [float(exact.divide(m, total)) for m in mean], float(total), newest


half_lives = st.floats(0, 1).map(lambda x: YEAR**x) | st.sampled_from(
    [1.0, 0.1 + 0.9, 60.0, 3600.0, YEAR]
)
parts = st.floats(0.1, 10)


@st.composite
def spread(draw, times):
    """Updates over ten years: far apart, close together, at the same instant."""
    anchors = draw(st.lists(st.floats(0, 10 * YEAR), min_size=1, max_size=4))
    at = st.one_of(
        st.sampled_from(anchors),
        st.tuples(st.sampled_from(anchors), times).map(lambda pair: min(sum(pair), 10 * YEAR)),
    ).map(lambda x: NOW + x)
    return draw(st.lists(st.tuples(st.tuples(parts, parts), parts, at), min_size=1, max_size=12))


def state_of(**fields):
    return type(State)("Law", (State,), fields, ttl=None)


def committed(cls, edits, writers, times=None):
    """A fresh read after the edits were committed by writers who had all read before anyone wrote.

    `times` are those at which each was made, LATER unless said otherwise.
    """
    clock = ManualClock(0.0)
    with Store.open("memory://", clock=clock) as store:
        states = store.collection(cls)
        sessions = [states.session("a") for _ in range(writers)]
        opened = [session.__enter__() for session in sessions]
        made = times or itertools.repeat(LATER)
        for edit, state, time in zip(edits, itertools.cycle(opened), made, strict=False):
            clock.advance(time - clock.now())
            state._record(edit)
        for session in reversed(sessions):
            session.__exit__(None, None, None)
        yield from opened[:1]
        yield states.get("a")


@settings(max_examples=150)
@given(st.data(), half_lives, st.integers(1, 4))
def test_decayed_mean_is_its_defining_sum_in_any_order(data, half_life, writers):
    updates = data.draw(spread(st.floats(0, 80 * half_life)))
    cls = state_of(mean=DecayedMean(2, half_life))
    edits = [cls.mean.add(v, weight=w, at=at) for v, w, at in data.draw(st.permutations(updates))]
    mean, weight, newest = defining_sum(updates, half_life)
    alone, merged = committed(cls, edits, writers)
    assert math.isclose(merged.mean.weight(at=newest), weight, rel_tol=1e-9)
    for found, want in zip(merged.mean.mean, mean, strict=True):
        assert math.isclose(found, want, rel_tol=1e-9)
    if writers == 1:
        assert alone.mean.mean.tolist() == merged.mean.mean.tolist()


@settings(max_examples=50)
@given(half_lives, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.randoms())
def test_decayed_mean_of_a_long_stream_stays_within_its_values(half_life, values, rng):
    """Ten years of updates of any sign, in any order: no overflow, and the mean is between them."""
    cls = state_of(mean=DecayedMean(1, half_life))
    updates = [((v, 0), 1.0, NOW + rng.random() * 10 * YEAR) for v in values]
    edits = [cls.mean.add([v[0]], at=at) for v, _, at in updates]
    _, state = committed(cls, edits, 3)
    want, _, _ = defining_sum(updates, half_life)
    assert abs(state.mean.mean[0] - want[0]) <= 1e-9 * max(map(abs, values))
    assert min(values) - 1e-3 <= state.mean.mean[0] <= max(values) + 1e-3


@settings(max_examples=100)
@given(
    st.floats(1, 10 * 86400) | st.integers(1, 10_000),
    st.integers(1, 3) | st.integers(1, 90),
    st.lists(
        st.tuples(
            st.integers(0, 3000).map(lambda n: n / 1000),
            st.integers(-50, 50),
            st.integers(0, 999).map(lambda n: n / 1000),
        ),
        min_size=1,
        max_size=40,
    ),
    st.floats(0, 1.5),
    st.integers(1, 3),
)
def test_window_agrees_with_brute_force_to_its_bucket_width(span, buckets, amounts, later, writers):
    """Amounts that come late by any part of the span, so in any order."""
    cls = state_of(window=Window(span, buckets=buckets))
    width = span / buckets
    came = sorted(
        (NOW + (share + late) * span, NOW + share * span, n) for share, n, late in amounts
    )
    added = [(at, amount) for _, at, amount in came]
    now = came[-1][0] + later * span
    edits = [cls.window.add(amount, at=at) for at, amount in added]
    _, state = committed(cls, edits, writers, [time for time, _, _ in came])
    count, total = state.window.at(now)
    sure = [amount for at, amount in added if at > now - span]
    perhaps = [
        amount for at, amount in added if now - span - width * (1 + 1e-6) <= at <= now - span
    ]
    assert len(sure) <= count <= len(sure) + len(perhaps)
    left = total - sum(sure)
    lost = sum(a for a in perhaps if a < 0), sum(a for a in perhaps if a > 0)
    assert lost[0] - 1e-6 <= left <= lost[1] + 1e-6
    if not perhaps:
        assert (count, total) == (len(sure), sum(sure))


@given(st.sampled_from([1, 2, 3, 6, 20]), st.integers(0, 99), st.integers(0, 99))
def test_window_forgets_nothing_young_when_every_bucket_is_full(buckets, phase, later):
    """Wherever the buckets' edges fall: this takes one bucket more than the span has."""
    cls = state_of(window=Window(60, buckets=buckets))
    step = 60 / buckets / 3
    added = [NOW + step * (n + phase / 100) for n in range(9 * buckets)]
    now = added[-1] + step * later / 100
    _, state = committed(cls, [cls.window.add(1, at=at) for at in added], 1, added)
    young = sum(at > now - 60 for at in added)
    assert young <= state.window.at(now)[0] <= sum(at > now - 60 - 3 * step - 1e-6 for at in added)


@given(st.lists(st.floats(0, 200), min_size=1, max_size=30), st.floats(0, 200))
def test_window_slides_with_the_clock(times, until):
    """Added as time goes by, with nothing said of when."""
    cls = state_of(window=Window(60, buckets=6))
    clock = ManualClock(NOW)
    with Store.open("memory://", clock=clock) as store:
        states = store.collection(cls)
        now = 0.0
        for at in sorted(times):
            clock.advance(at - now)
            now = at
            states.apply("a", cls.window.add(2))
        clock.advance(until)
        now += until
        state = states.get("a")
        young = sum(at > now - 60 + 1e-6 for at in times)
        old = sum(at > now - 70 - 1e-6 for at in times)
        assert young <= state.window.count <= old
        assert state.window.sum == 2 * state.window.count


# ------------------------------------------------------------------- releases that cut time otherwise


class Releases:
    """Classes of one kind over the same states, and the time by which they go."""

    def __init__(self, *fields):
        self.clock = ManualClock(NOW)
        self.classes = [type(State)("Law", (State,), {"f": f}, ttl=None) for f in fields]
        self.driver = Store.open("memory://").driver
        self.states = [Store(self.driver, clock=self.clock).collection(c) for c in self.classes]

    def add(self, which, *args, **more):
        self.states[which].apply("a", self.classes[which].f.add(*args, **more))

    def read(self, which):
        return self.states[which].get("a").f


spans = st.sampled_from([60.0, 90.0, 600.0, 3600.0])


@settings(max_examples=100)
@given(
    st.lists(st.tuples(spans, st.integers(1, 90)), min_size=2, max_size=3),
    st.lists(
        st.tuples(st.floats(0, 0.4), st.floats(0, 0.999), st.integers(1, 50), st.integers(0, 2)),
        min_size=1,
        max_size=30,
    ),
)
def test_windows_of_several_releases_count_what_each_has_added(declared, added):
    """Whoever added it: for as long as both the window that it was added to and this one look back."""
    releases = Releases(*(Window(span, buckets=n) for span, n in declared))
    known = []
    for step, late, amount, drawn in added:
        which = drawn % len(declared)
        span, _ = declared[which]
        releases.clock.advance(step * span)
        at = releases.clock.now() - late * span
        releases.add(which, amount, at=at)
        known.append((at, amount, span))
        now = releases.clock.now()
        widest = max(span / n for span, n in declared)
        for reader, (span, _) in enumerate(declared):
            sure = [(at, n) for at, n, its in known if at > now - min(span, its)]
            more = [(at, n) for at, n, _ in known if at > now - span - widest * (1 + 1e-6)]
            window = releases.read(reader)
            assert len(sure) <= window.count <= len(more)
            assert sum(n for _, n in sure) - 1e-6 <= window.sum <= sum(n for _, n in more) + 1e-6


CHANGES = [
    ((60, 60), (3600, 60)),
    ((600, 60), (600, 10)),
    ((600, 10), (600, 90)),
    ((60, 60), (60, 6)),
]


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("declared", CHANGES, ids=str)
def test_a_window_that_is_cut_otherwise_loses_nothing(declared, back):
    """Each bucket of the older release in use, then both side by side, through two spans."""
    one, other = reversed(declared) if back else declared
    releases = Releases(*(Window(span, buckets=n) for span, n in (one, other)))
    shortest = min(one[0], other[0])
    step = min(one[0] / one[1], other[0] / other[1])
    times = []

    def check():
        now = releases.clock.now()
        for reader, (span, _) in enumerate((one, other)):
            for its in (0, 1):
                reach = min(span, (one, other)[its][0])
                young = sum(at > now - reach for at, which in times if which == its)
                assert releases.read(reader).count >= young

    for n in range(min(3000, int(2.5 * max(one[0], other[0]) / step))):
        which = n % 2 if n * step > 1.5 * one[0] else 0
        releases.add(which)
        times.append((releases.clock.now(), which))
        if n % 7 == 0:
            check()
        releases.clock.advance(step)
    check()
    releases.clock.advance(shortest)
    assert releases.read(0).count <= len(times)


@settings(max_examples=60)
@given(
    st.tuples(half_lives, half_lives),
    st.lists(
        st.tuples(
            st.tuples(parts, parts), parts, st.floats(0, 30), st.floats(0, 30), st.integers(0, 1)
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_means_of_two_half_lives_count_each_vector_by_that_of_its_release(lives, added):
    releases = Releases(*(DecayedMean(2, half_life) for half_life in lives))
    known = []
    for vector, weight, step, late, which in added:
        releases.clock.advance(step * min(lives))
        at = max(0.0, releases.clock.now() - late * lives[which])
        releases.add(which, vector, weight=weight, at=at)
        known.append((vector, weight, at, lives[which]))
    now = releases.clock.now()
    weights = [
        exact.multiply(Decimal(weight), weight_at(at, now, life)) for _, weight, at, life in known
    ]
    total = sum(weights, Decimal(0))
    for reader in (0, 1):
        found = releases.read(reader)
        assert math.isclose(found.weight(now), float(total), rel_tol=1e-6)
        for n in (0, 1):
            want = sum(
                (w * Decimal(row[0][n]) for w, row in zip(weights, known, strict=True)), Decimal(0)
            )
            assert math.isclose(found.mean[n], float(want / total), rel_tol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(60.0, 3600.0), (3600.0, 60.0)])
def test_a_mean_of_another_half_life_counts_what_is_added_from_then_on(before, after):
    releases = Releases(DecayedMean(1, before), DecayedMean(1, after))
    for _ in range(500):
        releases.clock.advance(60)
        releases.add(0, [1.0])
    old = releases.read(1).weight()
    assert releases.read(1).mean[0] == 1.0
    for _ in range(50):
        releases.add(1, [3.0])
    for reader in (0, 1):
        assert math.isclose(releases.read(reader).weight(), old + 50, rel_tol=1e-9)
        assert math.isclose(releases.read(reader).mean[0], (old + 150) / (old + 50), rel_tol=1e-9)


amounts = st.integers(-(2**40), 2**40)


@given(st.lists(amounts, max_size=40), st.integers(1, 5))
def test_counters_add_up_exactly(numbers, writers):
    cls = state_of(n=Counter())
    _, state = committed(cls, [cls.n.add(number) for number in numbers], writers)
    assert state.n == sum(numbers)


@given(st.lists(st.tuples(st.sampled_from("abcd"), amounts), max_size=40), st.integers(1, 5))
def test_tallies_add_up_exactly(pairs, writers):
    cls = state_of(n=Tally(str, keep=4))
    _, state = committed(cls, [cls.n.add(key, number) for key, number in pairs], writers)
    want = Count()
    for key, number in pairs:
        want[key] += number
    assert dict(state.n) == dict(want)


@given(
    st.lists(st.integers(-(2**50), 2**50).map(lambda n: n / 1024), max_size=40), st.integers(1, 5)
)
def test_float_counters_add_up(numbers, writers):
    cls = state_of(n=Counter(float), by=Tally(str, float, keep=1))
    _, state = committed(
        cls,
        [e for number in numbers for e in (cls.n.add(number), cls.by.add("k", number))],
        writers,
    )
    assert math.isclose(state.n, math.fsum(numbers), rel_tol=1e-12, abs_tol=1e-3)
    assert state.by["k"] == state.n


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 9)), max_size=30))
@example([("a", 1), ("a", 2)])
def test_an_op_id_applied_twice_is_applied_once(sent):
    """Through every way of sending it, and with the first one's revision as the answer."""
    with opened() as (collection, _):
        first, amounts = {}, {}
        for n, (op, any_amount) in enumerate(sent):
            amount = amounts.setdefault(op, any_amount)
            if n % 3 == 0:
                written = collection.commit("k", [Everything.turns.add(amount)], op=op)
                assert written.repeated == (op in first)
                revision = written.revision
            elif n % 3 == 1:
                revision = collection.apply("k", Everything.turns.add(amount), op=op)
            else:
                with collection.session("k", op=op) as state:
                    state.turns += amount
                revision = first[op][0] if op in first else collection.get("k").meta.revision
            first.setdefault(op, (revision, amount))
            assert revision == first[op][0]
        assert collection.get("k").turns == sum(amount for _, amount in first.values())
        assert collection.get("k").meta.revision.number == len(first)


def test_op_ids_are_remembered_as_many_as_the_class_says():
    class Brief(State, ttl=60, ops=3):
        n = Counter()

    with opened(Brief) as (states, _):
        for op in "abcd":
            states.apply("k", Brief.n.add(1), op=op)
        for op in "bcd":
            states.apply("k", Brief.n.add(1), op=op)
        assert states.get("k").n == 4
        states.apply("k", Brief.n.add(1), op="a")  # forgotten: the documented limit
        assert states.get("k").n == 5


texts = st.text("abc", max_size=2)  # few, so that they meet
edits = st.one_of(
    st.builds(Everything.focus.put, st.none() | texts),
    st.builds(Everything.turns.add, st.integers(-9, 9)),
    st.builds(Everything.turns.set, st.integers(-9, 9)),
    st.builds(Everything.filters.put, texts, texts),
    st.builds(Everything.filters.drop, texts),
    st.builds(Everything.tags.add, texts, texts),
    st.builds(Everything.history.append, st.builds(Message, texts, texts)),
    st.builds(
        Everything.talk.append, st.builds(Message, texts, texts), st.builds(Message, texts, texts)
    ),
    st.builds(Everything.clicks.add, texts, st.integers(-9, 9)),
    st.builds(Everything.taste.add, st.tuples(parts, parts), at=st.floats(0, 10 * YEAR)),
    st.builds(Everything.spend.add, parts, at=st.floats(NOW - 59, NOW)),
    st.builds(Everything.steps.put, texts, st.just({"a": 1})),
    st.sampled_from(
        [
            Everything.history.clear(),
            Everything.filters.clear(),
            Everything.taste.drop(),
            Everything.focus.drop(),
        ]
    ),
)


@settings(max_examples=60)
@given(st.lists(st.lists(edits, max_size=6), max_size=6))
def test_what_a_session_showed_is_what_a_fresh_read_shows(sessions):
    with opened() as (collection, _):
        for session in sessions:
            with collection.session("a") as state:
                for edit in session:
                    try:
                        state._record(edit)
                    except ValueError:  # over a bound: it is as if it had not been tried
                        continue
                mine = shown(state)
            assert shown(collection.get("a")) == mine


@given(st.dictionaries(st.integers() | st.booleans().map(int), st.integers(), max_size=6))
def test_a_map_is_the_dict_that_was_put(entries):
    cls = state_of(m=Map(int, int, keep=6))
    _, state = committed(cls, [cls.m.update(entries)], 1)
    assert dict(state.m) == entries
    assert list(state.m.values()) == list(entries.values())
