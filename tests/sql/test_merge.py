"""The law of merging: who plays a delta gets what those get who fold one change after the other.

A delta is played here as the commit function plays it, so that what is tried is the merging alone.
"""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statehold.changes import Accumulate, Add, Append, Drop, Items, Put, Refusal, add_arrays
from statehold.drivers.sql.postgres.encoding import ENCODED
from statehold.drivers.sql.postgres.merge import (
    DELTAS,
    SET,
    SET_IF_ABSENT,
    SET_NULL,
    UNBOUND,
    NextCall,
    NotForFunction,
)
from statehold.drivers.sql.schema.tables import FieldStorage

NAMES = st.sampled_from("abc")
VALUES = st.sampled_from([b'"x"', b'"y"', b"null"])
NUMBERS = st.integers(-3, 3)
ARRAYS = st.tuples(NUMBERS, NUMBERS).map(lambda numbers: struct.pack("<2d", *numbers))
DROPS = st.builds(Drop, st.just("f"), st.none() | NAMES)


def puts(values=VALUES, entries=NAMES, bound=None, **options):
    return st.builds(Put, st.just("f"), entries, values, st.booleans(), st.just(bound), **options)


def tally(bound, *, lowest=False):
    """Sums of numbers and arrays, at most so many; the lowest give way, or none does."""
    add = st.builds(Add, st.just("f"), NAMES, NUMBERS, st.just(bound), st.just(lowest))
    array = st.builds(Accumulate, st.just("f"), NAMES, ARRAYS, st.just(bound), st.just(lowest))
    return add | array


APPENDS = st.builds(
    Append, st.just("f"), st.lists(VALUES, max_size=3).map(tuple), st.integers(1, 4)
)
SCALAR = st.just(Drop("f"))
FORMS = {
    "value": (FieldStorage("f", "value", "text"), puts(entries=st.just("")) | SCALAR),
    "number": (
        FieldStorage("f", "number", "int"),
        st.builds(Add, st.just("f"), st.just(""), NUMBERS) | SCALAR,
    ),
    "object": (FieldStorage("f", "object", "json"), puts(bound=2) | DROPS),
    "large map": (FieldStorage("f", "entries", "json"), puts(bound=2) | DROPS),
    "large map whose lowest give way": (
        FieldStorage("f", "entries", "json"),
        puts(bound=2, drop_lowest=st.just(True)) | DROPS,
    ),
    "tally": (FieldStorage("f", "entries", "array", adds=True), tally(2) | DROPS),
    "window": (FieldStorage("f", "entries", "array", adds=True), tally(2, lowest=True) | DROPS),
    "list": (FieldStorage("f", "items", "json"), APPENDS | SCALAR),
}


class Refused(Exception):
    """The function would hand it back."""


def folded(changes, cell):
    """What the changes make of the field's cell, one after the other."""
    cells = {} if cell is None else {"f": cell}
    for change in changes:
        change.into(cells, [])
    return cells.get("f")


def merged(stored, changes):
    """The delta of them, each taken by a copy, as commits are that may not go into the call."""
    delta = DELTAS[stored.form]()
    for change in changes:
        delta = delta.copy()
        delta.take(change, *ENCODED[stored.form](stored, change))
    return delta


def played(stored, delta, cell):
    """What the function makes of the cell. Raises `Refused`."""
    if stored.form == "items":
        return played_on_items(delta, cell)
    old = dict(cell or {})
    if stored.form == "value":
        return played_on_value(delta, old)
    if stored.form == "number":
        if delta.mode == SET:
            return {} if delta.amount is None else {"": delta.amount}
        return old if delta.amount is None else {"": old.get("", 0) + delta.amount}
    return played_on_entries(stored, delta, old)


def played_on_value(delta, old):
    if delta.mode == 0 or (delta.mode == SET_IF_ABSENT and old):
        return old
    if delta.mode == SET_NULL:
        return {"": b"null"}
    return {} if delta.value is None else {"": b'"%b"' % delta.value.encode()}


def played_on_items(delta, cell):
    old = Items() if cell is None else cell
    seen = len(old) if delta.stay is None else min(len(old), delta.stay)
    kept = list(old)[len(old) - seen :]
    end = old.first + len(old) - 1 + delta.appended
    return [*kept, *(value.encode() for value in delta.items)], end


def played_on_entries(stored, delta, old):
    """Entries are dropped, then put or added to; then the bound is looked at."""
    held = {} if delta.clear else {e: v for e, v in old.items() if e not in delta.drops}
    before = len(held)
    for entry, value in delta.firsts.items():
        held.setdefault(entry, raw(value))
    if stored.form == "object":
        held |= {entry: raw(value) for entry, value in delta.puts.items()}
    else:
        for entry, value in (*delta.numbers.items(), *delta.raws.items()):
            found = held.get(entry)
            if stored.adds and found is not None:
                held[entry] = added(found, value)
            else:
                held[entry] = value
    bound = None if delta.bound in (UNBOUND, None) else delta.bound - delta.slack
    if bound is None or len(held) <= abs(bound) or len(held) <= before:
        return held
    if bound > 0 or before > -bound:
        raise Refused
    return {entry: held[entry] for entry in sorted(held)[len(held) + bound :]}


def added(found, value):
    if isinstance(found, bytes) is not isinstance(value, bytes):
        raise Refused
    return add_arrays("f", found, value) if isinstance(value, bytes) else found + value


def raw(value):
    return value.encode() if isinstance(value, str) else value


def shown(stored, cell):
    """A list's items and where it ends; other cells without what is nothing."""
    if stored.form == "items":
        some = Items() if cell is None else cell
        return list(some), some.first + len(some) - 1
    return cell or {}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_merged_is_what_is_folded(form, data):
    """If the merged changes can be played they do what the changes do, and none of these is refused."""
    stored, changes = FORMS[form]
    before = data.draw(st.lists(changes, max_size=4))
    some = data.draw(st.lists(changes, min_size=1, max_size=5))
    try:
        cell = folded(before, None)
        delta = merged(stored, some)
        found = played(stored, delta, cell)
    except (NextCall, NotForFunction, Refusal, Refused):
        return  # these go one by one, or the other way
    assert found == shown(stored, folded(some, cell))


PLAIN = {
    "value": [Put("f", "", b'"x"'), Put("f", "", b'"y"', if_absent=True), Drop("f")],
    "number": [Add("f", "", 1), Add("f", "", 2), Drop("f"), Add("f", "", 3)],
    "object": [Put("f", "a", b"1", bound=9), Drop("f", "b"), Put("f", "b", b"1", bound=9)],
    "large map": [Put("f", "a", b"1", bound=9), Put("f", "a", b"2", if_absent=True, bound=9)],
    "tally": [Add("f", "a", 1, 9), Accumulate("f", "b", struct.pack("<d", 1.0), 9)],
    "list": [Append("f", (b"1",), 3), Append("f", (b"2",) * 4, 3), Drop("f")],
}


@pytest.mark.parametrize("form", PLAIN)
def test_what_is_plain_is_merged(form):
    """Else the law would hold of nothing."""
    stored, _ = FORMS[form]
    found = played(stored, merged(stored, PLAIN[form]), None)
    assert found == shown(stored, folded(PLAIN[form], None))


@pytest.mark.parametrize("form", ["object", "large map", "tally"])
def test_an_entry_too_many_is_refused_though_another_is_dropped_after_it(form):
    stored, _ = FORMS[form]
    put = Add if form == "tally" else Put
    one, two, three = (put("f", name, 1 if put is Add else b"1", bound=2) for name in "abc")
    cell = folded([one, two], None)
    with pytest.raises(Refusal):
        folded([three, Drop("f", "a")], cell)
    with pytest.raises((NextCall, Refused)):
        played(stored, merged(stored, [three, Drop("f", "a")]), cell)
    kept = played(stored, merged(stored, [Drop("f", "a"), three]), cell)
    assert kept == folded([Drop("f", "a"), three], cell)
