"""Fields that nothing bounds but the end of their state, on every backend."""

from datetime import timedelta

import pytest
from sample import class_of

from statehold import (
    BY_TTL,
    ConfigError,
    Log,
    Map,
    Register,
    SchemaError,
    SetOf,
    State,
    Steps,
    Tally,
    Turns,
)
from statehold.config.kinds import kinds_of

HOUR = timedelta(hours=1)


class Run(State, ttl=HOUR):
    events = Log(str, keep=BY_TTL, max_bytes=100)
    turns = Turns(str, keep=BY_TTL)
    blobs = Map(str, str, keep=BY_TTL)
    seen = SetOf(int, keep=BY_TTL)
    counts = Tally(str, keep=BY_TTL)
    done = Steps(int, keep=BY_TTL)
    focus = Register(str, default="")


def test_it_holds_what_comes(store):
    runs = store.collection(Run)
    for start in range(0, 1200, 400):
        names = [str(n) for n in range(start, start + 400)]
        runs.apply(
            "r",
            Run.events.append(*names),
            Run.blobs.update(dict.fromkeys(names, "x")),
            Run.seen.add(*map(int, names)),
            Run.counts.update(dict.fromkeys(names, 1)),
            Run.done.put(names[0], start),
            Run.turns.append(*names[:2]),
        )
    found = runs.get("r")
    assert list(found.events) == [str(n) for n in range(1200)]
    assert len(found.blobs) == len(found.seen) == len(found.counts) == 1200
    assert dict(found.done) == {"0": 0, "400": 400, "800": 800}
    assert len(found.turns.turns) == 3
    runs.apply("r", Run.events.append("last"))  # by itself, which databases do another way
    assert list(runs.get("r", tail=2).events) == ["1199", "last"]


def test_the_class_has_to_end():
    with pytest.raises(
        SchemaError, match=r"Kept: log is kept BY_TTL.*a ttl or a max_age"
    ) as caught:

        class Kept(State, ttl=None):
            log = Log(str, keep=BY_TTL)

    assert caught.value.field == "log"

    class Aged(State, ttl=None, max_age=HOUR):
        log = Log(str, keep=BY_TTL)

    with pytest.raises(SchemaError, match="Inherits: log is kept BY_TTL"):

        class Inherits(Aged, max_age=None):
            pass


def test_there_is_no_worst_case():
    with pytest.raises(SchemaError, match="Run has no worst case: events is kept BY_TTL"):
        _ = Run.max_bytes
    assert Run.__schema__.max_bytes is None
    with pytest.raises(SchemaError, match=r"Huge: .* \(other: \d+\), over the limit"):

        class Huge(State, ttl=HOUR):
            log = Log(str, keep=BY_TTL)
            other = Log(str, keep=2000)


def test_what_drivers_are_told():
    bounds = {field.name: field.bound for field in Run.__schema__.layout().fields}
    assert bounds.pop("focus") == 1
    assert set(bounds.values()) == {BY_TTL} == {2**24 - 1}
    assert Run.events.append("x").keep == Run.blobs.put("a", "b").bound == BY_TTL


def test_nothing_is_dropped_past_it():
    with pytest.raises(SchemaError, match="BY_TTL has no bound past which"):
        class_of(Map(str, int, keep=BY_TTL, past="drop_lowest"))


def test_it_is_declared_in_toml(tmp_path):
    def kind(**options):
        fields = {"log": {"type": "log", "items": "string", "keep": "by_ttl"}}
        return kinds_of({"run": {"fields": fields, **options}}, "kinds", tmp_path)["run"]

    assert kind(ttl="1h").log.keep == BY_TTL
    with pytest.raises(ConfigError, match="log is kept BY_TTL"):
        kind(ttl="never")
