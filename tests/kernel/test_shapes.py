"""Arguments of another shape than they must have are refused in words that name the cure."""

from datetime import timedelta

import pytest
from sample import Everything, opened

from statehold import Conflict, Fenced, Invalid, Leased, Revision, Store

E = Everything


@pytest.fixture
def collection():
    with opened() as (collection, _):
        yield collection


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], r"list is no step; unpack it \(\*steps\)"),
        (("a", []), r"tuple is no step; unpack it"),
        (E.turns.add(1), r"Add is no step; a collection's step\(\) makes one"),
        (E.turns.set(1), "Edits is no step"),
        (None, "NoneType is no step"),
        ("text", "str is no step"),
    ],
    ids=range(6),
)
def test_what_is_no_step_is_refused(wrong, said):
    with Store.open("memory://") as store:
        states = store.collection(E)
        step = states.step("a", E.turns.add(1))
        for steps in ([wrong], [step, wrong], [[step, step]]):
            with pytest.raises(Invalid, match=said if wrong in steps else "unpack it") as caught:
                store.apply_together(*steps)
            assert caught.value.field == "steps"
        assert not states.get("a").meta.exists


@pytest.mark.parametrize("edits", [E.turns.add(1), E.turns.set(1), 5, None, "turns"], ids=range(5))
def test_edits_are_a_list(collection, edits):
    with pytest.raises(Invalid, match=f"edits must be a list of edits, not {type(edits).__name__}"):
        collection.commit("a", edits)
    first, refused, last = collection.apply_many(
        [("a", [E.turns.add(1)]), ("b", edits), ("c", [E.turns.add(1)])]
    )
    assert isinstance(refused, Invalid)
    assert isinstance(first, Revision)
    assert isinstance(last, Revision)


@pytest.mark.parametrize(
    "item", ["ab", "abc", 5, None, ("a",), (), ("a", [], "1", 4), {"a": []}], ids=range(8)
)
def test_each_of_many_is_an_id_and_edits(collection, item):
    refused, written = collection.apply_many([item, ["b", [E.turns.add(1)]]])
    assert isinstance(refused, Invalid)
    assert r"(id, edits) or (id, edits, op)" in str(refused)
    assert isinstance(written, Revision)


@pytest.mark.parametrize("wrong", [5, None, "ab", b"ab"], ids=repr)
def test_lists_are_lists(collection, wrong):
    for call in (
        lambda: collection.apply_many(wrong),
        lambda: collection.get_many(wrong),
        lambda: collection.get("a", fields=wrong if wrong is not None else 0),
    ):
        with pytest.raises(Invalid, match="must be a list of"):
            call()


def test_many_of_a_leased_state_are_written_with_its_epoch(collection):
    with collection.lease("a", ttl=30, renews=False) as lease:
        fenced, other = collection.apply_many([("a", [E.turns.add(1)]), ("b", [E.turns.add(1)])])
        assert isinstance(fenced, Fenced)
        assert isinstance(other, Revision)
        many = [("a", [E.turns.add(1)]), ("a", [E.turns.add(2)], "once"), ("a", [], "once")]
        one, two, reused = collection.apply_many(many, epoch=lease.epoch)
        assert (type(one), type(two)) == (Revision, Revision)
        assert not isinstance(reused, Revision)
    assert collection.get("a").turns == 3
    for wrong in (-1, 2**63, True, "1"):
        with pytest.raises(Invalid, match="epoch"):
            collection.apply_many([("a", [E.turns.add(1)])], epoch=wrong)


def test_a_revision_is_made_of_its_text(collection):
    made = collection.apply("a", E.turns.add(1))
    with pytest.raises(Invalid, match=r"not str; Revision\.parse makes one of its text"):
        collection.apply("a", E.turns.add(1), expect=str(made))
    with pytest.raises(Invalid, match="must be a Revision, ABSENT or PRESENT, not int"):
        collection.apply("a", E.turns.add(1), expect=1)
    collection.apply("a", E.turns.add(1), expect=Revision.parse(str(made)))
    with pytest.raises(Conflict):
        collection.apply("a", E.turns.add(1), expect=made)


def test_a_long_prefix_is_not_to_be_hashed(collection):
    """No id begins with the hash of a prefix."""
    with pytest.raises(Invalid, match="prefix of 513 bytes; it must have 0 to 512") as caught:
        list(collection.scan(prefix="x" * 513))
    assert "hashed_id" not in str(caught.value)
    with pytest.raises(Invalid, match="hashed_id shortens"):
        collection.get("x" * 513)


def test_a_lease_is_waited_for_by_a_span(collection):
    with collection.lease("a", ttl=timedelta(seconds=5), renews=False):
        for wait in (timedelta(milliseconds=20), 0.02):
            with pytest.raises(Leased) as caught:
                collection.lease("a", ttl=5, wait=wait).acquire()
            assert caught.value.expected == 0.02
    for wrong in (timedelta(seconds=-1), "1s", None, True):
        with pytest.raises(Invalid, match="wait must be a span or seconds"):
            collection.lease("a", ttl=5, wait=wrong)
