"""One call of the commit function: the commits that go into it, its arguments, its answer."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from statehold.changes import Drop, Refusal
from statehold.commits import PRESENT, About, Commit, Key, Revision, Want, new_incarnation
from statehold.drivers.sql.postgres.encoding import ENCODED
from statehold.drivers.sql.postgres.merge import (
    DELTAS,
    SET_NULL,
    UNBOUND,
    Delta,
    Entries,
    NextCall,
    NotForFunction,
    Number,
    Object,
    Tail,
    Value,
    same_bound,
)
from statehold.drivers.sql.schema.tables import FieldStorage, lock_order
from statehold.drivers.sql.schema.types import escaped
from statehold.errors import Invalid

LONGEST_SECONDS: Final = 3e11
"""No deadline is later than the year 9999, and PostgreSQL's intervals have an end."""


def _is_special(commit: Commit) -> bool:
    """Whether it says what only the transaction knows."""
    after = None if commit.returning is None else commit.returning.after
    rare = (commit.since, commit.revision, commit.at, commit.claim, after)
    if isinstance(commit.subject, tuple):
        return True
    return commit.where != () or any(said is not None for said in rare)


class Group:
    """The commits of one key."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.places: list[int] = []
        self.deltas: dict[str, Delta] = {}
        self.ops: dict[str, int] = {}
        """Op id → which of the commits, from 1."""
        self.intents: list[int] = []
        """Of each op id."""
        self.epoch = self.last_epoch = 0
        self.expect: Revision | None = None
        self.subject: About | None = None
        self.ttl: float | None = None
        self.max_age: float | None = None
        self.returning: Want | None = None


class FunctionCall:
    """The commits of one kind that go down together."""

    def __init__(self, fields: Mapping[str, FieldStorage]) -> None:
        self._fields = fields
        self._numbers = {name: number for number, name in enumerate(fields, 1)}
        self._groups: dict[Key, Group] = {}
        self._bounds: dict[str, int | None] = {}
        self._ops: int | None = None
        self.groups: list[Group] = []
        """In the order of the arguments, from 0, once they have been made."""

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, place: int, commit: Commit) -> None:
        """Take a commit, or raise `NextCall` or `NotForFunction` and leave everything as it was."""
        if commit.erase or _is_special(commit):
            raise NotForFunction
        group = self._groups.get(commit.key)
        if group is None:
            group = Group(commit.key)
        elif (
            group.returning is not None
            or commit.op in group.ops
            or commit.epoch < group.last_epoch
            or commit.max_age != group.max_age
            or not (commit.expect is None or commit.expect == PRESENT)
        ):
            raise NextCall
        if commit.op and self._ops not in (None, commit.ops):
            raise NextCall
        staged = self._staged(group, commit)
        if not group.places:
            group.epoch = commit.epoch
            group.expect = commit.expect
            self._groups[commit.key] = group
        group.places.append(place)
        group.deltas |= staged
        for name, delta in staged.items():
            if isinstance(delta, Object | Entries) and delta.bound is not UNBOUND:
                self._bounds[name] = delta.bound
        if commit.op:
            self._ops = commit.ops
            group.ops[commit.op] = len(group.places)
            group.intents.append(commit.intent)
        if commit.subject is not None:
            group.subject = commit.subject
        group.last_epoch = commit.epoch
        group.ttl, group.max_age = commit.ttl, commit.max_age
        group.returning = commit.returning

    def _staged(self, group: Group, commit: Commit) -> dict[str, Delta]:
        """What the commit makes of the fields that it touches."""
        staged: dict[str, Delta] = {}
        try:
            for change in commit.changes:
                name = change.field
                stored = self._fields.get(name)
                if stored is None:
                    if isinstance(change, Drop):
                        continue  # nothing was ever stored under that name
                    raise NotForFunction
                delta = staged.get(name)
                if delta is None:
                    merged = group.deltas.get(name)
                    delta = DELTAS[stored.form]() if merged is None else merged.copy()
                    staged[name] = delta
                entry, value = ENCODED[stored.form](stored, change)
                delta.take(change, entry, value)
            self._check_bounds(staged)
        except (Invalid, Refusal) as error:
            raise NotForFunction from error
        except NextCall as later:
            if not self._groups:
                raise NotForFunction from later  # it would be no other in a call of its own
            raise
        return staged

    def _check_bounds(self, staged: Mapping[str, Delta]) -> None:
        """Raises `NextCall` where a field has another bound than it has in the call."""
        for name, delta in staged.items():
            if isinstance(delta, Object | Entries) and delta.bound is not UNBOUND:
                same_bound(self._bounds.get(name, UNBOUND), delta.bound)

    # ----------------------------------------------------------------------------- arguments

    def arguments(self, at: Mapping[str, int], until: float) -> list[Any]:
        """The function's arguments, `at` giving the place of each. It does nothing after `until`."""
        names = lock_order(self._groups)
        groups = self.groups = [self._groups[key] for key in names]
        given: dict[str, Any] = {
            "a_tenant": [tenant for tenant, _ in names.values()],
            "a_id": [id for _, id in names.values()],
            "a_incarnation": [new_incarnation() for _ in groups],
            "a_until": until,
            "a_ttl": [seconds(group.ttl) for group in groups],
            "a_max_age": _unless_none([seconds(group.max_age) for group in groups]),
            "a_subject": _unless_none(
                [escaped(g.subject) if isinstance(g.subject, str) else None for g in groups]
            ),
        }
        commits = [len(group.places) for group in groups]
        if max(commits) > 1:
            given["a_commits"] = commits
        if max([group.last_epoch for group in groups]):
            given["a_epoch"] = [group.epoch for group in groups]
            given["a_last_epoch"] = [group.last_epoch for group in groups]
        expected = [group.expect for group in groups]
        if any(expected):
            given["a_expect_incarnation"] = [e and e.incarnation for e in expected]
            given["a_expect_number"] = [None if e is None else e.number for e in expected]
        if self._ops is not None:
            given["a_ops"] = self._ops
            given |= _op_ids(groups, commits)
        bounds: list[int | None] = [None] * len(self._fields)
        for name in {name: None for group in groups for name in group.deltas}:
            prefix = f"f{self._numbers[name]}_"
            deltas = [group.deltas.get(name) for group in groups]
            for letter, argument in _of_field(self._fields[name], deltas).items():
                if letter == "slack":
                    bound = self._bounds.get(name)
                    bounds[self._numbers[name] - 1] = None if bound is None else bound - argument
                elif letter == "nulling":
                    given["a_nulling"] = True
                else:
                    given[prefix + letter] = argument
        given["a_bounds"] = _unless_none(bounds)
        made: list[Any] = [None] * len(at)
        for name, argument in given.items():
            made[at[name]] = argument
        return made


def next_call(
    fields: Mapping[str, FieldStorage],
    commits: Sequence[Commit],
    places: Sequence[int],
    others: set[Key],
    most: int,
) -> tuple[FunctionCall, list[int]]:
    """The next call, of at most so many keys and none of the others; what is left for those after it."""
    call = FunctionCall(fields)
    later: list[int] = []
    waiting: set[Key] = set()
    seen: set[Key] = set()
    for place in places:
        commit = commits[place]
        key = commit.key
        if key in others:
            continue
        if key in waiting or (key not in seen and len(seen) >= most):
            waiting.add(key)
            later.append(place)
            continue
        try:
            call.add(place, commit)
            seen.add(key)
        except NextCall:
            waiting.add(key)
            later.append(place)
        except NotForFunction:
            others.add(key)
    return call, later


def _op_ids(groups: Sequence[Group], commits: Sequence[int]) -> dict[str, Any]:
    """The arguments of op ids. The function takes each key to have one if it is told no more."""
    made: dict[str, Any] = {"a_op": [escaped(op) for group in groups for op in group.ops]}
    intents = [intent for group in groups for intent in group.intents]
    if any(intents):
        made["a_op_intent"] = intents
    counts = [len(group.ops) for group in groups]
    if max(commits) > 1 or min(counts) < 1:
        made |= {
            "a_op_count": counts,
            "a_op_k": [k for k, group in enumerate(groups, 1) for _ in group.ops],
            "a_op_commit": [number for group in groups for number in group.ops.values()],
            "a_op_seq": [n for count in counts for n in range(1, count + 1)],
        }
    return made


def seconds(limit: float | None) -> float | None:
    """A ttl or max age as PostgreSQL can take it."""
    return None if limit is None else min(limit, LONGEST_SECONDS)


def _unless_none(values: list[Any]) -> list[Any] | None:
    return values if any(value is not None for value in values) else None


def _of_field(stored: FieldStorage, deltas: Sequence[Any]) -> dict[str, Any]:
    """The arguments of one field, by their letter."""
    if stored.form == "value":
        return _of_values(deltas)
    if stored.form == "number":
        return _of_numbers(deltas)
    if stored.form == "object":
        return _of_objects(deltas)
    if stored.form == "items":
        return _of_tails(deltas)
    return _of_counted(deltas) if stored.counted else _of_entries(stored, deltas)


def _of_values(deltas: Sequence[Value | None]) -> dict[str, Any]:
    modes = [delta.mode if delta else None for delta in deltas]
    made: dict[str, Any] = {"v": [delta.value if delta else None for delta in deltas], "m": modes}
    if SET_NULL in modes:
        made["nulling"] = True
    return made


def _of_numbers(deltas: Sequence[Number | None]) -> dict[str, Any]:
    made: dict[str, Any] = {"v": [delta.amount if delta else None for delta in deltas]}
    if any(delta and delta.mode for delta in deltas):
        made["m"] = [delta.mode if delta else None for delta in deltas]
    return made


def _of_objects(deltas: Sequence[Object | None]) -> dict[str, Any]:
    return {
        "p": _unless_none([delta and delta.put_text() for delta in deltas]),
        "x": _unless_none([delta and delta.rare_text() for delta in deltas]),
        "slack": max(delta.slack for delta in deltas if delta),
    }


def _of_tails(deltas: Sequence[Tail | None]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "n": [delta.appended if delta else None for delta in deltas],
        "c": _unless_none([delta.stay if delta else None for delta in deltas]),
    }
    keys: list[int] = []
    places: list[int] = []
    values: list[Any] = []
    for k, delta in enumerate(deltas, 1):
        if delta and delta.items:
            count = len(delta.items)
            keys += [k] * count
            places += range(delta.appended - count + 1, delta.appended + 1)
            values += delta.items
    if keys:
        made["v"] = values
        if len(keys) != len(deltas) or max(places) > 1:
            made |= {"k": keys, "o": places}
    return made


def _of_drops(deltas: Sequence[Entries | None]) -> dict[str, Any]:
    """Which entries are dropped first, and how much fuller a field was meanwhile."""
    dropped: list[tuple[int, str | None]] = []
    for k, delta in enumerate(deltas, 1):
        if delta is not None:
            dropped += [(k, None)] * delta.clear
            dropped += [(k, entry) for entry in delta.drops]
    made: dict[str, Any] = {"slack": max(delta.slack for delta in deltas if delta)}
    if dropped:
        made |= {"dk": [k for k, _ in dropped], "de": [entry for _, entry in dropped]}
    return made


def _of_counted(deltas: Sequence[Entries | None]) -> dict[str, Any]:
    made = _of_drops(deltas)
    some = [(k, delta) for k, delta in enumerate(deltas, 1) if delta]
    puts = [(k, *put) for k, delta in some for put in delta.raws.items()]
    firsts = [(k, *put) for k, delta in some for put in delta.firsts.items()]
    for letter, listed in (("", puts), ("i", firsts)):
        if listed:
            made[f"{letter}k"] = [k for k, _, _ in listed]
            made[f"{letter}e"] = [entry for _, entry, _ in listed]
            made[f"{letter}v"] = [value.decode() for _, _, value in listed]
    return made


def _of_entries(stored: FieldStorage, deltas: Sequence[Entries | None]) -> dict[str, Any]:
    numbers: list[tuple[int, str, int | float]] = []
    raws: list[tuple[int, str, bytes]] = []
    for k, delta in enumerate(deltas, 1):
        if delta is not None:
            numbers += [(k, entry, amount) for entry, amount in delta.numbers.items()]
            raws += [(k, entry, raw) for entry, raw in delta.raws.items()]
    made = _of_drops(deltas)
    if not numbers and not raws:
        return made
    none = [None] * len(raws)
    made["k"] = [k for k, _, _ in numbers] + [k for k, _, _ in raws]
    made["e"] = [entry for _, entry, _ in numbers] + [entry for _, entry, _ in raws]
    if numbers:
        made["w"] = [n if isinstance(n, int) else None for _, _, n in numbers] + none
        made["r"] = [n if isinstance(n, float) else None for _, _, n in numbers] + none
    if raws and stored.column_type == "bytes":
        made["v"] = [None] * len(numbers) + [raw for _, _, raw in raws]
    elif stored.column_type == "array":
        ends: list[int] = []
        flat: list[float] = []
        for _, _, raw in raws:
            ends.append(len(flat))
            flat.extend(struct.unpack(f"<{len(raw) // 8}d", raw))
        made["a"] = flat
        made["o"] = [None] * len(numbers) + ends
        made["l"] = [None] * len(numbers) + [len(raw) // 8 for _, _, raw in raws]
    return made
