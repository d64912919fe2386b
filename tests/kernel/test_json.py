"""States and edits as JSON: what is sent fits the schema, what does not fit is refused by name."""

import jsonschema_rs
import msgspec
import numpy as np
import pytest
from sample import Everything, Message, opened, shown
from test_fields import DONE

from statehold import Invalid, Map, Register, SetOf, State, Tally, TooLarge

FIELDS = Everything.__schema__.fields

GOOD = {
    "focus": [{"put": "x"}, {"put": None}, {"put_if_absent": "x"}, {"drop": True}],
    "basket": [{"put": [1, 2]}, {"put_if_absent": []}, {"drop": True}],
    "turns": [{"add": 1}, {"add": -5}, {"set": 2**63 - 1}, {"drop": True}],
    "spent": [{"add": 1}, {"add": 0.5}, {"set": -1e300}, {"drop": True}],
    "filters": [
        {"put": {"a": "b", "": ""}},
        {"put_if_absent": {"a": "c"}},
        {"drop": ["a", "z"]},
        {"clear": True},
    ],
    "ranks": [
        {"put": {"7": 1, "-1": 0.5}},
        {"put_if_absent": {"7": 1}},
        {"drop": [7, "-1"]},
        {"clear": True},
    ],
    "tags": [{"add": ["a", "b"]}, {"discard": ["a"]}, {"clear": True}],
    "seen": [{"add": [1, 2]}, {"discard": [1, 5]}, {"clear": True}],
    "history": [
        {"append": [{"role": "u", "text": "x"}]},
        {"append": []},
        {"edit": {"position": 1, "item": {"role": "u", "text": "y"}}},
        {"replace": {"old": [], "new": [{"role": "u", "text": "y"}]}},
        {"redact": 1},
        {"pop": 2},
        {"clear": True},
    ],
    "talk": [
        {"append": [{"role": "u", "text": "x"}] * 2},
        {"redact": 1},
        {"pop": 1},
        {"clear": True},
    ],
    "vector": [{"put": [1, 2.5]}, {"drop": True}],
    "taste": [
        {"add": {"vector": [1, 2]}},
        {"add": {"vector": [1, 2], "weight": 0.5, "at": 5}},
        {"add": [1, 2]},
        {"drop": True},
    ],
    "clicks": [{"add": {"a": 1, "b": -2}}, {"drop": ["a"]}, {"clear": True}],
    "scores": [{"add": {"7": 0.5}}, {"drop": [7]}, {"clear": True}],
    "spend": [
        {"add": 2},
        {"add": {"amount": 0.5, "at": 1_700_000_000}},
        {"add": {"amount": 1}},
        {"drop": True},
    ],
    "steps": [{"put": {"pay": {"id": 1}}}, {"drop": ["pay"]}, {"clear": True}],
}

BAD = {
    "focus": [{"put": 5}, {"put": ["x"]}, {"drop": False}, {"drop": 1}, {"drop": None}, {"add": 1}],
    "basket": [{"put": [1, "2"]}, {"put": {}}, {"put": None}],
    "turns": [{"add": 1.5}, {"add": "1"}, {"add": True}, {"add": 2**63}, {"add": None}, {"put": 1}],
    "spent": [{"add": "1"}, {"add": False}, {"set": None}, {"set": [1]}],
    "filters": [
        {"put": {"a": 5}},
        {"put": ["a"]},
        {"put": "a"},
        {"drop": "a"},
        {"drop": [5]},
        {"drop": {"a": 1}},
        {"clear": 1},
    ],
    "ranks": [
        {"put": {"x": 1}},
        {"put": {"1.5": 1}},
        {"put": {"1": "1"}},
        {"drop": ["x"]},
        {"drop": [None]},
    ],
    "tags": [{"add": "ab"}, {"add": [1]}, {"add": {"a": 1}}, {"remove": ["a"]}],
    "seen": [{"add": ["x"]}, {"add": [1.5]}, {"add": [None]}, {"add": 5}],
    "history": [
        {"append": {"role": "u", "text": "x"}},
        {"append": [{"role": "u"}]},
        {"append": ["x"]},
        {"append": None},
        {"pop": 0},
        {"pop": True},
        {"pop": "1"},
        {"replace": [[], []]},
        {"replace": {"old": []}},
        {"replace": {"old": [5], "new": []}},
        {"edit": {"position": 0, "item": {"role": "u", "text": "x"}}},
        {"edit": {"position": 1, "item": 5}},
        {"redact": 2**60},
        {"redact": None},
    ],
    "talk": [{"pop": 0}, {"redact": 0}, {"append": []}, {"append": [5]}, {"append": "x"}],
    "vector": [
        {"put": [1]},
        {"put": ["1", "2"]},
        {"put": [True, 1]},
        {"put": [None, 1]},
        {"put": None},
        {"put": {}},
        {"put": [1e39, 1]},
    ],
    "taste": [
        {"add": [1]},
        {"add": {}},
        {"add": {"vector": [1, 2], "weight": 0}},
        {"add": {"vector": [1, 2], "at": None}},
        {"add": {"vector": [1, 2], "at": -1}},
        {"add": {"vector": [1, 2], "more": 1}},
        {"add": {"vector": ["1", "2"]}},
        {"add": "x"},
    ],
    "clicks": [{"add": {"a": 0.5}}, {"add": {"a": "1"}}, {"add": ["a"]}, {"add": 1}],
    "scores": [{"add": {"x": 1}}, {"add": {"1": None}}, {"add": {"1": True}}],
    "spend": [
        {"add": "1"},
        {"add": None},
        {"add": {}},
        {"add": {"amount": 1, "at": None}},
        {"add": {"amount": 1, "weight": 1}},
        {"add": [1]},
        {"add": True},
    ],
    "steps": [{"put": {"pay": {"id": "x"}}}, {"put": "x"}, {"put_if_absent": {"pay": {}}}],
}


def test_every_field_is_tried():
    assert GOOD.keys() == BAD.keys() == FIELDS.keys()
    for name, field in FIELDS.items():
        assert {op for doc in GOOD[name] for op in doc} == set(field.operations())


@pytest.mark.parametrize("name", FIELDS)
def test_what_is_sent_fits_the_schema(collection, name):
    schema = FIELDS[name].json_schema()
    jsonschema_rs.meta.validate(schema)
    collection.apply("a", *DONE[name][1]())
    for state in (Everything(), collection.get("a")):
        jsonschema_rs.validate(schema, shown(state)[name])


@pytest.mark.parametrize("name", FIELDS)
def test_operations_take_what_their_schema_says(name):
    for document in GOOD[name]:
        with opened() as (collection, _):
            ((operation, payload),) = document.items()
            jsonschema_rs.validate(FIELDS[name].operations()[operation].schema, payload)
            edits = Everything.__schema__.edits_from_json({name: document})
            if operation in ("edit", "redact"):  # which there must be something for
                collection.apply("a", *Everything.__schema__.edits_from_json({name: GOOD[name][0]}))
            collection.apply("a", *edits)
            repr(collection.get("a"))


@pytest.mark.parametrize("name", FIELDS)
def test_operations_refuse_the_rest_and_name_the_field(name):
    for document in BAD[name]:
        with pytest.raises((Invalid, TooLarge)) as caught:
            Everything.__schema__.edits_from_json({name: document})
        assert caught.value.field == name, document
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "x",
        5,
        {"nope": {"add": 1}},
        {"turns": 1},
        {"turns": [1]},
        {"turns": None},
        {"": {}},
    ],
    ids=repr,
)
def test_what_is_no_document_of_changes_is_refused(document):
    with pytest.raises(Invalid):
        Everything.__schema__.edits_from_json(document)


def test_what_json_says_is_what_python_does(collection):
    collection.apply(
        "json",
        *Everything.__schema__.edits_from_json(
            {
                "focus": {"put": "shoes"},
                "history": {"append": [{"role": "u", "text": "hi"}]},
                "turns": {"add": 2},
                "ranks": {"put": {"7": 1}},
                "seen": {"add": [3]},
                "steps": {"put": {"pay": {"id": 1}}},
                "spend": {"add": {"amount": 2, "at": 1_700_000_000}},
                "taste": {"add": [1, 2]},
                "vector": {"put": [1, 2]},
            }
        ),
    )
    with collection.session("python") as state:
        state.focus = "shoes"
        state.history.append(Message("u", "hi"))
        state.turns += 2
        state.ranks[7] = 1.0
        state.seen.add(3)
        state.steps["pay"] = {"id": 1}
        state.spend.add(2, at=1_700_000_000)
        state.taste.add([1, 2])
        state.vector = np.array([1, 2])
    assert shown(collection.get("json")) == shown(collection.get("python"))


def test_keys_go_out_as_they_come_in():
    class Keyed(State, ttl=60):
        by_int = Map(int, int, keep=3)
        pairs = SetOf(tuple[int, str], keep=3)
        either = Tally(int | str, keep=3)

    state = Keyed()
    state.by_int[5] = 1
    state.pairs.add((1, "a"))
    state.either.add(5)
    out = shown(state)
    assert out == {"by_int": {"5": 1}, "pairs": [[1, "a"]], "either": {"5": 1}}
    back = Keyed()
    for edit in Keyed.__schema__.edits_from_json(
        {
            "by_int": {"put": out["by_int"]},
            "pairs": {"add": out["pairs"]},
            "either": {"add": out["either"]},
        }
    ):
        back._record(edit)
    assert shown(back) == out


def test_a_type_without_a_schema_takes_anything():
    class Loose(State, ttl=60):
        any = Register(object, default=None)

    assert Loose.any.json_schema() == {}
    state = Loose()
    state.any = {"a": [1, None]}
    assert msgspec.json.encode(state.to_json()) == b'{"any":{"a":[1,null]}}'
