"""A vector that asks to be searched: what drivers are told of it, and that no other backend minds."""

import numpy as np
import pytest
from sample import class_of

from statehold import DecayedMean, SchemaError, State, Store, Vector
from statehold.config.kinds import kinds_of
from statehold.errors import ConfigError


class Reader(State, ttl=None):
    taste = Vector(3, searchable=True)
    other = Vector(3)
    mean = DecayedMean(3, half_life=60)


def dims(state):
    return {field.name: field.dim for field in state.__schema__.layout().fields}


def test_drivers_are_told_how_many_numbers():
    assert dims(Reader) == {"taste": 3, "other": None, "mean": None}
    assert (Reader.taste.searchable, Reader.other.searchable) == (True, False)


def test_nothing_else_of_the_layout_differs():
    asks, other, _ = Reader.__schema__.layout().fields
    assert (asks.field, asks.changes, asks.values) == (other.field, other.changes, other.values)
    assert (asks.bound, asks.max_bytes) == (other.bound, other.max_bytes)


@pytest.mark.parametrize("wrong", ["false", 1, None, 1536])
def test_it_is_a_yes_or_no(wrong):
    """A word that is true would ask for what its author did not want."""
    with pytest.raises(SchemaError, match="searchable"):
        class_of(Vector(3, searchable=wrong))


@pytest.mark.parametrize("backend", ["memory://", "sqlite:///{}/state.db"])
def test_places_that_cannot_search_keep_it(backend, tmp_path):
    with Store.open(backend.format(tmp_path)) as store:
        readers = store.collection(Reader)
        readers.apply("a", Reader.taste.put([0.1, -0.0, 1e-45]))
        found = readers.get("a").taste
        assert found.tobytes() == np.array([0.1, -0.0, 1e-45], "<f4").tobytes()
        readers.apply("a", Reader.taste.drop())
        assert readers.get("a").taste is None


def declared(**settings):
    field = {"type": "vector", "dim": 3, **settings}
    kinds = {"reader": {"ttl": "never", "fields": {"taste": field}}}
    return dims(kinds_of(kinds, "kinds", None)["reader"])


def test_declared_in_toml(tmp_path):
    assert declared() == {"taste": None}
    assert declared(searchable=True) == {"taste": 3}
    with pytest.raises(ConfigError, match="searchable"):
        declared(searchable="perhaps")
