"""What each backend promises, as the drivers themselves declare it.

`python -m statehold.testing.matrix` prints the page `docs/backends.md`. What a driver declares is proven
by `DriverConformance`: each declared feature has its cases, and what is not declared must be refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Final

from statehold.backends import open_driver
from statehold.driver import Driver, Feature

DRIVERS: Final[Mapping[str, str]] = {
    "[memory](memory.md)": "statehold.drivers.memory:MemoryDriver",
    "[SQLite](sqlite.md)": "statehold.drivers.sqlite:SqliteDriver",
    "[Redis, Valkey](redis.md)": "statehold.drivers.redis:RedisDriver",
    "[SQL](sql.md)": "statehold.drivers.sql:SqlDriver",
    "[token](token.md)": "statehold.drivers.token:TokenDriver",
}
"""Backend, as the page names it → the class of its driver."""

CLUSTERED: Final[Mapping[str, str]] = {
    "[Redis, Valkey](redis.md)": "redis+cluster://localhost",
}
"""Backend → a URL by which it is a cluster, whose driver may declare less. Nothing is connected to."""

FEATURES: Final[Mapping[Feature, str]] = {
    Feature.SHARED: "several processes may use one store",
    Feature.DURABLE: "what was acknowledged survives a killed process",
    Feature.EXPECT: "commits on condition of a revision",
    Feature.EPOCH: "fencing: an older epoch (fencing token) than the state has seen is refused",
    Feature.RETURNING: "fields read in the same step as a commit",
    Feature.SCAN: "listing the ids of a kind",
    Feature.SUBJECT: "listing what is about a person, which is how it is found to be erased",
    Feature.ERASE_ONCE: "an erasure's op id is remembered for a minute after it",
    Feature.CLAIM: "epochs can be claimed, and outlive a state for a minute: leases",
    Feature.TOGETHER: "one commit over several states",
    Feature.WHERE: "commits on condition of a part of the state",
    Feature.WHOLE_LIVES: "a life is read whole, and [installed elsewhere](operations.md#moving-states-to-another-backend) with all that it remembers",
}


def driver(path: str) -> type[Driver]:
    """The class at `module:name`."""
    module, _, name = path.partition(":")
    found: type[Driver] = getattr(importlib.import_module(module), name)
    return found


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _declared(feature: Feature, name: str, its: type[Driver]) -> str:
    answer = _yes(feature in its.features)
    url = CLUSTERED.get(name)
    if url is None or (feature in open_driver(url).features) == (feature in its.features):
        return answer
    return f"{answer}; in a cluster no"


def _event_loop(its: type[Driver]) -> str:
    return _yes(not its.suspends)


def _op_ids(its: type[Driver]) -> str:
    return _yes(its.ambiguous)


def _clock(its: type[Driver]) -> str:
    return "the caller's" if its.skew is Driver.skew else "the store's"


FACTS: Final[Mapping[str, Callable[[type[Driver]], str]]] = {
    "runs without an event loop": _event_loop,
    "a failed call may have taken effect, so each commit carries an op id": _op_ids,
    "whose clock decides expiry": _clock,
}


def page() -> str:
    """The matrix, in Markdown."""
    drivers = {name: driver(path) for name, path in DRIVERS.items()}
    rule = "|---" * (len(drivers) + 1) + "|"
    lines = [HEAD, _row("declared feature", *drivers), rule]
    for feature, meaning in FEATURES.items():
        answers = (_declared(feature, name, its) for name, its in drivers.items())
        lines.append(_row(f"`{feature.name}`: {meaning}", *answers))
    lines += ["", BELOW, "", _row("how it is called", *drivers), rule]
    for fact, of in FACTS.items():
        lines.append(_row(fact, *(of(its) for its in drivers.values())))
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


HEAD: Final = """\
# Backends and what they promise

Every backend keeps the [contract](contract.md): atomic commits, each op id (idempotency key)
applied at most once, exact expiry and bounds, revisions that never repeat, safe names, errors that
tell a store that is down from a state that is absent. What a driver promises beyond that it
declares, and `DriverConformance` holds it to it: a declared feature has cases that must pass, and
what is not declared must be refused with `Unsupported`.

This page is made from the drivers' declarations by `python -m statehold.testing.matrix`.
"""

BELOW: Final = """\
A token is kept by the client, so it cannot be listed and no erasure is remembered; an older token is
refused only if `registry` names a backend that records the newest ones. The SQL backend on SQLite
goes by the caller's clock, since there is no server with another. States of a Redis Cluster have no server in
common, so several in one commit are `Unsupported` there. No backend erases by subject in one call: `find` lists
the states of each kind, and each is deleted, see [how](calls.md#erase-what-is-about-a-person). On every backend
each state is read as of one instant; several, by one `get_many`, need not be of the same."""


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201
