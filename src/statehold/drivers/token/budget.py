"""The byte budget: what happens to a record whose token would be too long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from statehold.changes import Cell, Items
from statehold.driver import Layout, Refused
from statehold.drivers.token.record import Record
from statehold.errors import ConfigError

Write = Callable[[Record], str]
"""The token of a record."""


class Rules(msgspec.Struct, frozen=True):
    """What the configuration says of tokens that are too long."""

    budget: int
    """Maximum characters of a token."""
    trim: tuple[str, ...] = ()
    """Logs that lose their oldest turns, in this order: "history" or "chat.history"."""
    spill: tuple[str, ...] = ()
    """Fields that move to the store, in this order; empty: the largest first."""


def check(rules: Rules, layout: Layout) -> None:
    """Raise `ConfigError` for a name that the kind does not have, or a log to trim that is none.

    A name alone is meant for every kind, "chat.history" for this one.
    """
    fields = {field.name.partition("@")[0]: field for field in layout.fields}
    for setting, names in (("trim", rules.trim), ("spill_fields", rules.spill)):
        for name in names:
            kind, _, wanted = name.rpartition(".")
            if kind and kind != layout.kind:
                continue
            field = fields.get(wanted if kind else name)
            if field is None:
                other = "" if kind else "; that of another kind is written kind.field"
                raise ConfigError(
                    f"token: {setting}: {layout.kind} has no field {wanted!r}{other}",
                    field=setting,
                    found=name,
                )
            if setting == "trim" and "append" not in field.changes:
                raise ConfigError(
                    f"token: trim: {layout.kind}.{wanted} is no log", field=setting, found=name
                )


class Trimmed(msgspec.Struct, frozen=True):
    """A record with its token, and how many items it lost."""

    record: Record
    token: str
    items: int = 0


def named(names: Iterable[str], kind: str, fields: Iterable[str]) -> list[str]:
    """Those of the stored fields that the names mean, in the names' order."""
    bases: dict[str, list[str]] = {}
    for field in fields:
        bases.setdefault(field.partition("@")[0], []).append(field)
    found: list[str] = []
    for name in names:
        its, dot, field = name.rpartition(".")
        if not dot or its == kind:
            found += bases.get(field, ())
    return found


def trim(record: Record, token: str, rules: Rules, layout: Layout | None, write: Write) -> Trimmed:
    """The record without the oldest turns of the named logs, as few as it takes.

    The newest turn of each stays. If that is not enough, everything stays as it was.
    """
    best = Trimmed(record, token)
    for name in named(rules.trim, record.key[1], record.fields):
        cell = best.record.fields[name]
        if not isinstance(cell, Items):
            continue
        whole = layout is not None and any(
            field.name == name and field.field == "turns" for field in layout.fields
        )
        starts = range(1, len(cell)) if whole else turn_starts(cell)
        best = _shortest_cut(best, name, cell, starts, rules.budget, write)
        if len(best.token) <= rules.budget:
            return best
    return Trimmed(record, token)


def _shortest_cut(
    before: Trimmed, name: str, cell: Items, starts: Sequence[int], budget: int, write: Write
) -> Trimmed:
    """Cut at the first start that is enough, found by halving; at the last if none is."""

    def cut(start: int) -> Trimmed:
        fields = {**before.record.fields, name: cell.window(start, len(cell) - start)}
        record = msgspec.structs.replace(before.record, fields=fields)
        return Trimmed(record, write(record), before.items + start)

    if not starts:
        return before
    best = cut(starts[-1])
    low, high = 0, len(starts) - 1  # what `high` stands for is in `best`
    while low < high and len(best.token) <= budget:
        middle = (low + high) // 2
        tried = cut(starts[middle])
        if len(tried.token) <= budget:
            best, high = tried, middle
        else:
            low = middle + 1
    return best


def turn_starts(items: Items) -> list[int]:
    """Where a log may be cut so that it still begins with a turn, the first item aside.

    A turn begins with a message of the role "user". In a log without such messages every item is a
    turn of its own.
    """
    roles = [_role(item) for item in items]
    if "user" not in roles:
        return list(range(1, len(roles)))
    return [at for at, role in enumerate(roles) if at and role == "user"]


class _Message(msgspec.Struct):
    role: str = ""


_message = msgspec.json.Decoder(_Message).decode


def _role(item: bytes) -> str:
    try:
        return _message(item).role
    except msgspec.DecodeError:
        return ""


def to_spill(rules: Rules, record: Record) -> list[str]:
    """The fields that may move to the store, in the order in which they do."""
    if rules.spill:
        return named(rules.spill, record.key[1], record.fields)
    return [name for name, _ in sizes(record.fields)]


def refusal(fields: Mapping[str, Cell], found: int, limit: int) -> Refused:
    """That a token is too long, with the sizes by field."""
    largest = sizes(fields)
    about = ", ".join(f"{name} {size} B" for name, size in largest[:8])
    return Refused(
        largest[0][0] if largest else "",
        "budget",
        f"{limit} characters",
        f"the token would have {found} characters ({about})",
    )


def sizes(fields: Mapping[str, Cell]) -> list[tuple[str, int]]:
    """How many bytes each field has before compression, the largest first."""
    found = [(name, nbytes(cell)) for name, cell in fields.items()]
    return sorted(found, key=lambda pair: -pair[1])


def nbytes(cell: Cell) -> int:
    """The bytes of a cell's names and values."""
    if isinstance(cell, Items):
        return cell.nbytes
    values = cell.items()
    return sum(len(n.encode()) + (len(v) if isinstance(v, bytes) else 8) for n, v in values)
