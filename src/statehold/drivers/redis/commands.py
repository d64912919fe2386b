"""Commits as commands, and the replies as outcomes. commit.lua and erase.lua tell the format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from statehold.changes import Accumulate, Add, Append, Change, Drop, Put, Splice
from statehold.commits import (
    ABSENT,
    PRESENT,
    Commit,
    Is,
    Revision,
    digest_of,
    new_incarnation,
    required,
)
from statehold.driver import (
    Cells,
    Conflicted,
    Doubtful,
    FencedOff,
    Late,
    Outcome,
    Refused,
    Reused,
    Written,
)
from statehold.drivers.redis.cells import cells_of, wanted
from statehold.drivers.redis.client import UNSTAMPED, Command
from statehold.drivers.redis.keys import field_of, stored_field
from statehold.drivers.redis.lua.scripts import CLAIM, COMMIT, ERASE, TOGETHER
from statehold.drivers.redis.values import (
    made_in,
    packed_about,
    revision_of,
    stored,
)
from statehold.errors import Invalid

Arguments: TypeAlias = list[bytes | str | int]

MOST_OPS = 1_000_000
"""Op ids that a state may be told to remember; each takes 28 bytes in one string."""

# Each writes one change: its key if it has one, the field of the hash that it is about, and its
# arguments. By the change's class: one look-up, where a `match` tries class after class.


def _append(change: Append, state: bytes, keys: Arguments, about: Arguments) -> Arguments:
    field = stored_field[change.field]
    if change.keep < 1:
        raise _too_few(change.field, "keep", change.keep)
    listed = b":" + field
    keys.append(state + listed)
    about.append(listed)
    return ["a", field, change.keep, len(change.items), *change.items]


def _splice(change: Splice, state: bytes, keys: Arguments, about: Arguments) -> Arguments:
    field, same = stored_field[change.field], change.same
    listed = b":" + field
    keys.append(state + listed)
    about.append(listed)
    there: Arguments = [-1] if same is None else [len(same), *same]
    head: Arguments = ["e", field, change.keep, change.at, change.take]
    return [*head, *there, len(change.items), *change.items]


def _put(change: Put, _: bytes, __: Arguments, about: Arguments) -> Arguments:
    field, entry = stored_field[change.field], change.entry.encode()
    about.append(b"%b:%b" % (field, entry) if entry else field)
    kind = "i" if change.if_absent else "p"
    return [kind, field, entry, stored(change.value), _bound(change)]


def _add(change: Add, _: bytes, __: Arguments, about: Arguments) -> Arguments:
    field, entry = stored_field[change.field], change.entry.encode()
    about.append(b"%b:%b" % (field, entry) if entry else field)
    return ["n", field, entry, number_text(change.amount), _bound(change)]


def number_text(amount: float) -> str:
    """A number as it is stored."""
    # numpy's float64 is a float, but has a way of its own to show itself
    return int.__repr__(amount) if isinstance(amount, int) else float.__repr__(amount)


def _accumulate(change: Accumulate, _: bytes, __: Arguments, about: Arguments) -> Arguments:
    field, entry = stored_field[change.field], change.entry.encode()
    about.append(b"%b:%b" % (field, entry) if entry else field)
    return ["v", field, entry, change.array, _bound(change)]


def _drop(change: Drop, state: bytes, keys: Arguments, about: Arguments) -> Arguments:
    field = stored_field[change.field]
    if change.entry is None:
        keys.append(b"%b:%b" % (state, field))
        about.append(b":" + field)
        return ["x", field]
    entry = change.entry.encode()
    about.append(b"%b:%b" % (field, entry) if entry else field)
    return ["d", field, entry]


def _bound(change: Put | Add | Accumulate) -> str | int:
    bound = change.bound
    if bound is None:
        return ""
    if bound < 0:  # 0 is refused by what it bounds
        raise _too_few(change.field, "bound", bound)
    return f"-{bound}" if change.drop_lowest else bound


def _too_few(field: str, what: str, found: int) -> Invalid:
    least = 0 if what == "bound" else 1
    return Invalid(
        f"{field}: {what} must be at least {least}, not {found}",
        field=field,
        expected=least,
        found=found,
    )


_WRITERS: dict[type[Change], Callable[[Any, bytes, Arguments, Arguments], Arguments]] = {
    Append: _append,
    Put: _put,
    Add: _add,
    Accumulate: _accumulate,
    Drop: _drop,
    Splice: _splice,
}


def micros(seconds: float | None) -> str | int:
    """Microseconds, at least 1; "" for None."""
    return "" if seconds is None else max(1, round(seconds * 1_000_000))


def command_of(commit: Commit, state: bytes) -> Command:
    """The command that applies a commit to the state whose key this is. Raises UnicodeError."""
    if commit.erase:
        return _erasing(commit, state)
    if commit.claim is not None:
        return _claiming(commit, state, commit.claim)
    keys: Arguments = [state, state + b":.ops"]
    about: Arguments = []
    changes: Arguments = []
    for change in commit.changes:
        changes += _WRITERS[change.__class__](change, state, keys, about)
    options = _options(commit)
    return (
        "EVALSHA",
        COMMIT.sha,
        len(keys),
        *keys,
        op_id(commit.op, commit.intent),
        (new_incarnation() if commit.revision is None else commit.revision.incarnation).to_bytes(
            8, "little"
        ),
        micros(commit.ttl),
        len(options),
        len(about),
        *about,
        *options,
        *changes,
        UNSTAMPED,
    )


def _options(commit: Commit) -> Arguments:
    """What few commits say, by name."""
    options: Arguments = []
    if commit.ops != 128:
        options += ("ops", many_ops(commit.ops))
    if commit.epoch:
        options += ("epoch", commit.epoch.to_bytes(8))
    if commit.max_age is not None:
        options += ("age", micros(commit.max_age))
    if commit.subject is not None:
        options += ("subject", packed_about(commit.subject))
    if commit.expect is not None or commit.revision is not None or commit.where:
        options += _barring(commit)
    if commit.returning is not None:
        options += ("want", wanted(commit.returning) or _EVERYTHING)
    if commit.since is not None:
        options += ("since", _instant(commit.since))
    if commit.until is not None:
        options += ("until", _instant(commit.until))
    if commit.at is not None:
        options += ("at", _instant(commit.at))
    return options


def _barring(commit: Commit) -> Arguments:
    """What is to stand."""
    barring: Arguments = []
    stands = required(commit)
    if stands is not None:
        expect, number = _expected(stands)
        barring += ("expect", expect, "number", number)
    if commit.where:
        barring += ("where", _conditions(commit.where))
    return barring


def many_ops(ops: int) -> int:
    """So many op ids, if a state can remember them. Raises `Invalid`."""
    if ops > MOST_OPS:
        raise Invalid(
            f"redis: a state remembers at most {MOST_OPS} op ids",
            field="ops",
            expected=MOST_OPS,
            found=ops,
        )
    return ops


def op_id(op: str, intent: int) -> bytes:
    """An op id and its intent as they are stored, in 13 and 4 bytes.

    Op ids that stores make are kept as they are, others as a digest; see `commits.digest_of`.
    """
    if not op:
        return b""
    told = digest_of(op)
    mark = b"=" if len(told) == 24 else b"#"  # of a digest its name stands before it
    return bytes.fromhex(told[-24:]) + mark + (intent.to_bytes(4) if intent else _NO_INTENT)


_NO_INTENT = bytes(4)


def _instant(seconds: float) -> int:
    """Microseconds since the epoch; never the 0 that says nothing, which nobody can mean."""
    return max(1, min(round(seconds * 1_000_000), 1 << 53))


_EVERYTHING = b"\x80"  # an empty map


def _erasing(commit: Commit, state: bytes) -> Command:
    expect, number = ("", 0) if commit.expect is None else _expected(commit.expect)
    return (
        "EVALSHA",
        ERASE.sha,
        2,
        state,
        state + b":.ops",
        op_id(commit.op, commit.intent),
        commit.epoch.to_bytes(8),
        expect,
        number,
        "" if commit.since is None else _instant(commit.since),
        "" if commit.until is None else _instant(commit.until),
        _conditions(commit.where) if commit.where else "",
        UNSTAMPED,
    )


def _claiming(commit: Commit, state: bytes, seconds: float) -> Command:
    expect, number = ("", 0) if commit.expect is None else _expected(commit.expect)
    want = commit.returning
    return (
        "EVALSHA",
        CLAIM.sha,
        2,
        state,
        state + b":.ops",
        op_id(commit.op, commit.intent),
        commit.epoch.to_bytes(8),
        round(seconds * 1_000_000),
        expect,
        number,
        "" if commit.until is None else _instant(commit.until),
        "" if want is None else wanted(want) or _EVERYTHING,
        UNSTAMPED,
    )


def together(commands: Sequence[Command]) -> Command:
    """The command of several commits that stand or fall together, made of those of each."""
    keys: Arguments = []
    arguments: Arguments = []
    for command in commands:
        _, sha, count, *rest = command
        number = int(count)
        keys += rest[:number]
        own = rest[number:-1]
        arguments += ("e" if sha == ERASE.sha else "c", number, len(own), *own)
    return (
        "EVALSHA",
        TOGETHER.sha,
        len(keys),
        *keys,
        len(commands),
        *arguments,
        UNSTAMPED,
    )


def _conditions(where: Sequence[Is]) -> bytes:
    """Conditions, as `unmet` in life.lua takes them."""
    return b"".join(map(_condition, where))


def _condition(one: Is) -> bytes:
    field = stored_field[one.field]
    value = one.value
    kind, said = "b", b""
    if isinstance(value, bytes):
        said = value if one.entry is None else stored(value)
    elif value is not None:
        kind, said = "g" if one.least else "n", number_text(value).encode()
    if one.entry is None:
        # A number is no item, so that no item is one.
        kind, name = "l" if kind == "b" else "L", b":" + field
    else:
        entry = one.entry.encode()
        name = b"%b:%b" % (field, entry) if entry else field
    if value is None or (one.least and kind != "g"):
        kind = kind.upper()
    how = kind + ("+" if one.absent or value is None else "-")
    parts = (len(part).to_bytes(4, "little") + part for part in (field, name, said))
    return b"".join((how.encode(), *parts))


def _expected(expect: Revision) -> tuple[str | bytes, int]:
    if expect == ABSENT:
        return "absent", 0
    if expect == PRESENT:
        return "present", 0
    if not 0 <= expect.incarnation < 1 << 64:
        return b"\0" * 8, 0  # no state has it
    return expect.incarnation.to_bytes(8, "little"), expect.number


def outcome_of(reply: Any, now: float) -> Outcome:
    """What became of a commit, or of a life that was to be installed."""
    if reply.__class__ is bytes:
        return written(reply)
    return _REPLIES[reply[0]](reply, now)


def written(meta: bytes, returned: Cells | None = None) -> Written:
    """The outcome of a commit that has made this."""
    revision, updated, deadline = made_in(meta)
    return Written(revision, returned, False, updated, deadline)


def _repeated(reply: list[Any], now: float) -> Written:
    revision = _first(reply)
    return Written(revision, _returned(reply[3] if len(reply) > 3 else None, now), repeated=True)


def _first(reply: list[Any]) -> Revision:
    """The revision that an op id made before, or erased."""
    return Revision(int.from_bytes(reply[1][:8], "little"), reply[2])


def _refused(reply: list[Any], _: float) -> Refused:
    _, field, reason, limit, found = reply
    return Refused(field_of[field], reason.decode(), _plain(limit), _plain(found))


def _corrupted(reply: list[Any], _: float) -> Refused:
    """Of a field some items are gone; or the state itself cannot be read."""
    if len(reply) > 1:
        return Refused(field_of[reply[1]], "corrupted", "not all of its items are there", "")
    return Refused("", "corrupted", "the description of the stored state cannot be read", "")


def _claimed(reply: list[Any], now: float) -> Written:
    returned = _returned(reply[3] if len(reply) > 3 else None, now)
    return Written(_stood(reply[1]), returned, epoch=int.from_bytes(reply[2]))


def _fenced(reply: list[Any], _: float) -> FencedOff:
    left: int = reply[2] if len(reply) > 2 else 0
    return FencedOff(int.from_bytes(reply[1]), left / 1e6)


def _stood(meta: bytes) -> Revision:
    return revision_of(meta) if meta else ABSENT


_REPLIES: dict[bytes, Callable[[list[Any], float], Outcome]] = {
    b"written": lambda reply, now: written(reply[1], _returned(reply[2], now)),
    b"repeated": _repeated,
    b"erased": lambda reply, _: Written(_stood(reply[1])),
    b"conflict": lambda reply, _: Conflicted(
        _stood(reply[1]), field_of[reply[2]] if len(reply) > 2 else ""
    ),
    b"stands": lambda _, __: Written(ABSENT),
    b"fenced": _fenced,
    b"claimed": _claimed,
    b"reused": lambda reply, _: Reused(_first(reply)),
    b"doubtful": lambda _, __: Doubtful(),
    b"late": lambda _, __: Late(),
    b"refused": _refused,
    b"corrupted": _corrupted,
}


def _returned(held: list[Any] | None, now: float) -> Cells | None:
    return None if held is None else cells_of(held, now)


def _plain(value: bytes | int) -> str | int:
    return value if isinstance(value, int) else value.decode()
