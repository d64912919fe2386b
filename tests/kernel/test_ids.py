"""Ids made of text that may be longer than an id."""

import re
from datetime import timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statehold import Counter, Invalid, State, Store, hashed_id
from statehold.store.names import ID_BYTES, checked


class Seen(State, ttl=timedelta(hours=1)):
    times = Counter()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300).map(lambda t: t * 3))
def test_it_is_an_id_and_short_ones_stay_as_they_are(text):
    made = hashed_id(text)
    assert checked(made, "id", empty=True) == made
    assert made == hashed_id(text)
    if len(text.encode()) <= ID_BYTES and "~" not in text:
        assert made == text


@pytest.mark.parametrize("letter", ["a", "é", "日", "\U0001f600"])
@pytest.mark.parametrize("size", [511, 512, 513, 514, 515, 516, 2000])
def test_a_long_one_begins_alike_and_ends_in_its_hash(letter, size):
    text = "x" * (size % len(letter.encode())) + letter * (size // len(letter.encode()))
    made = hashed_id(text)
    if size <= 512:
        assert made == text
        return
    start, _, digest = made.rpartition("~")
    assert digest == sha256(text.encode()).hexdigest()
    assert text.startswith(start)
    assert 512 - 3 <= len(made.encode()) <= 512


def test_different_texts_have_different_ids_also_those_made_up_to_collide():
    long = "a" * 600
    texts = [long, long + "b", hashed_id(long), hashed_id(hashed_id(long)), "~" + "0" * 64]
    assert len({hashed_id(text) for text in texts}) == len(texts)
    almost = ["~" + "0" * 63, "~" + "0" * 65, "~" + "A" * 64, "~" + "0" * 64 + "\n"]
    assert [hashed_id(text) for text in almost] == almost


def test_the_error_names_it_and_its_ids_name_states():
    text = "a path/" * 100
    with Store.open("memory://") as store:
        seen = store.collection(Seen)
        with pytest.raises(
            Invalid,
            match=re.escape("id of 700 bytes; it must have 1 to 512; statehold.hashed_id shortens"),
        ):
            seen.apply(text, Seen.times.add(1))
        seen.apply(hashed_id(text), Seen.times.add(1), subject=hashed_id(text))
        assert seen.get(hashed_id(text)).times == 1
        assert list(seen.find(hashed_id(text))) == [hashed_id(text)]
        with pytest.raises(Invalid, match=r"1 to 512$"):
            seen.get("")
        with pytest.raises(Invalid, match=r"1 to 128$"):
            seen.apply("a", Seen.times.add(1), op="x" * 129)


@pytest.mark.parametrize("given", ["\ud800", b"bytes", 7, None])
def test_what_is_no_text_is_refused(given):
    with pytest.raises(Invalid, match=r"Unicode text|made of text"):
        hashed_id(given)
