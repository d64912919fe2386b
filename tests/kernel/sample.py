"""A state with every field, and a store whose time the tests move."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import msgspec

from statehold import (
    Collection,
    Counter,
    DecayedMean,
    Log,
    ManualClock,
    Map,
    Register,
    SetOf,
    State,
    Steps,
    Store,
    Tally,
    Turns,
    Vector,
    Window,
)
from statehold.fields import Field


class Message(msgspec.Struct, frozen=True):
    role: str
    text: str


class Everything(State, ttl=timedelta(hours=1)):
    focus = Register(str | None, default=None, max_bytes=64)
    basket = Register(list[int], default=[])
    turns = Counter()
    spent = Counter(float)
    filters = Map(str, str, keep=4, max_bytes=32)
    ranks = Map(int, float, keep=4)
    tags = SetOf(str, keep=3)
    seen = SetOf(int, keep=3)
    history = Log(Message, keep=5, max_bytes=128)
    talk = Turns(Message, keep=3, max_bytes=256)
    vector = Vector(2)
    taste = DecayedMean(2, timedelta(minutes=10))
    clicks = Tally(str, keep=3)
    scores = Tally(int, float, keep=3)
    spend = Window(timedelta(minutes=1), buckets=6)
    steps = Steps(dict[str, int], keep=3)


@contextmanager
def opened(cls: type[State] = Everything) -> Iterator[tuple[Collection, ManualClock]]:
    """A collection in memory and the clock that it reads."""
    clock = ManualClock()
    with Store.open("memory://", clock=clock) as store:
        yield store.collection(cls), clock


def class_of(field: Field[Any]) -> type[State]:
    """The class `Chat` with this field, called `thing`."""
    return type(State)("Chat", (State,), {"thing": field}, ttl=60)


def shown(state: State) -> object:
    """All that a state shows, for comparing."""
    return msgspec.json.decode(msgspec.json.encode(state.to_json()))
