"""What a state class declares: its fields, its times, its worst case, and how older values read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol, TypeAlias, cast

import msgspec

from statehold.changes import Cell, Change, Entries, Items, Refusal, Scalar, said_of
from statehold.codec import as_json
from statehold.commits import Is, Key, Want, fingerprint, is_kind
from statehold.driver import Layout, Refused
from statehold.errors import Conflict, Corrupted, Invalid, SchemaError, StateholdError, TooLarge
from statehold.fields.base import Edit, Edits, Field, Operation, stored_name
from statehold.settings import duration

OPS: Final = 128
"""How many op ids a state remembers unless its class says otherwise."""

OP_BYTES: Final = 128
"""Maximum size of an op id, in bytes."""

Lifetime: TypeAlias = timedelta | float | str
"""How long a state lives from a write on: a span, seconds, or text such as "30s", "1h30m", "7d"."""

Where: TypeAlias = Is | Sequence[Is] | None
"""Conditions on parts of a state, or one, as fields make them; None: no condition."""

LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Maximum size of the worst case of a state, in bytes, by default."""


class Timed(Protocol):
    """What can be asked for the time."""

    def now(self) -> float:
        """Seconds since the epoch, by the store's clock."""
        ...


class Schema:
    """What a state class declares."""

    def __init__(
        self,
        name: str,
        kind: str,
        fields: dict[str, Field[Any]],
        ttl: float | None,
        max_age: float | None,
        renew_on_read: bool,
        ops: int,
        limit_bytes: int,
    ) -> None:
        if not is_kind(kind):
            raise SchemaError(
                f"{name}: kind {kind!r} must be lower-case letters, digits and _, at most 63",
                found=kind,
            )
        self.name = name
        self.kind = kind
        self.fields = fields
        self.ttl = ttl
        self.max_age = max_age
        self.limit_bytes = limit_bytes
        self.renew = (ttl, max_age) if renew_on_read else None
        self.ops = ops
        # What a field of this class made has its very name, as an object; see `fields.base.own_text`.
        self._made = frozenset(id(one) for f in fields.values() for one in (f.stored, *f.older))
        self._asked = frozenset(id(f.asked) for f in fields.values())
        self._operations: dict[str, dict[str, Operation]] = {}
        self.versioned = [field for field in fields.values() if field.older]
        self.bases = {field.stored.partition("@")[0]: field for field in fields.values()}
        taken: set[str] = set()
        for field in fields.values():
            for stored in (field.stored, *field.older):
                if stored in taken:
                    raise SchemaError(f"{name}: two fields are stored as {stored!r}", found=stored)
                taken.add(stored)
        self.by_ttl = tuple(field.name for field in fields.values() if field.by_ttl)
        if self.by_ttl and ttl is None and max_age is None:
            raise SchemaError(
                f"{name}: {self.by_ttl[0]} is kept BY_TTL, and nothing would ever bound it: give the"
                " class a ttl or a max_age, or the field a keep",
                field=self.by_ttl[0],
            )
        known = [field for field in fields.values() if not field.by_ttl]
        most = ops * OP_BYTES + sum(field.bytes_at_most() for field in known)
        if most > limit_bytes:
            largest = max(known, key=lambda field: field.bytes_at_most())
            raise SchemaError(
                f"{name}: a state may take {most} bytes ({largest.name}: "
                f"{largest.bytes_at_most()}), over the limit of {limit_bytes}; lower keep or "
                "max_bytes, or raise limit_bytes",
                field=largest.name,
                expected=limit_bytes,
                found=most,
            )
        self.max_bytes = None if self.by_ttl else most
        """The worst case of a state; None where a field has no bound but the state's end."""

    def layout(self) -> Layout:
        """What its driver is told."""
        fields = tuple(field.layout() for field in self.fields.values())
        return Layout(self.kind, fields, self.ops)

    def lifetime(self, ttl: Lifetime) -> float:
        """A ttl given for one write, in seconds. Raises `Invalid` unless it is within the class's."""
        try:
            seconds = duration(ttl)
        except ValueError as error:
            raise Invalid(f"ttl: {error}", field="ttl", found=ttl) from None
        if self.ttl is not None and seconds > self.ttl:
            raise Invalid(
                f"ttl: {seconds:g} s is longer than the {self.ttl:g} s of {self.name}, which are the"
                " most; raise the class's ttl, and say for other writes what it was",
                field="ttl",
                expected=self.ttl,
                found=seconds,
            )
        return seconds

    def changes(self, edits: tuple[Edit, ...], clock: Timed) -> tuple[Change, ...]:
        """The changes of the edits. Raises `Invalid` if one is not of this class's fields.

        The clock is asked only where an edit goes by the time.
        """
        made = self._made
        try:
            for edit in edits:
                if id(edit.field) not in made:
                    return self._expanded(edits, clock.now())
        except AttributeError:
            return self._expanded(edits, clock.now())
        changes: Any = edits  # a cast is a call
        return changes  # type: ignore[no-any-return]

    def _expanded(self, edits: tuple[Edit, ...], now: float) -> tuple[Change, ...]:
        """The changes of the edits, where `Edits` are among them, or what is no edit at all."""
        changes: list[Change] = []
        for edit in edits:
            if isinstance(edit, Edits):
                changes += edit.at(now)
            else:
                changes.append(edit)
        for change in changes:
            if id(getattr(change, "field", None)) not in self._made:
                raise self._foreign(change)
        return tuple(changes)

    def conditions(self, where: Where) -> tuple[Is, ...]:
        """The conditions, none for None. Raises `Invalid` if one is not of this class's fields."""
        if where is None:
            return ()
        given = cast("object", where)
        listed = isinstance(given, Sequence) and not isinstance(given, str | bytes)
        conditions = cast("tuple[Is, ...]", tuple(cast("Any", where)) if listed else (where,))
        for one in conditions:
            if not isinstance(one, Is):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise Invalid(
                    f"where: {type(one).__name__} is no condition; the fields of {self.name} make"
                    f" those, as in {self._condition()}",
                    field="where",
                    found=type(one),
                )
            if id(one.field) not in self._asked:
                raise self._foreign(one)
        return conditions

    def _condition(self) -> str:
        """How a condition of this class is made, by the first field that makes any."""
        made = {"holds": "holds(…)", "is_empty": "is_empty()"}
        for name, field in self.fields.items():
            for method, call in made.items():
                if hasattr(field, method):
                    return f"{self.name}.{name}.{call}"
        return "Chat.turns.holds(5)"

    def intent(self, edits: tuple[Edit, ...]) -> int:
        """The fingerprint of what is asked for, whenever it is asked; 0 if that cannot be said."""
        said: list[object] = []
        for edit in edits:
            if not isinstance(edit, Edits):
                said.append(said_of(edit))
            elif edit.said is None:
                return 0
            else:
                said += edit.said
        return fingerprint(said)

    def _foreign(self, made: object) -> Invalid:
        """The error for what is no edit of this class, or no condition. It shows no value."""
        kind = type(made)
        what, field = kind.__name__, None
        if isinstance(made, Is) and id(made.field) in self._asked:
            why = f"{self.name}: a condition is no edit; it goes into where="
        elif isinstance(made, Change | Is):
            known = self.bases.get(made.field.partition("@")[0])
            if known is None:
                why = f"{self.name} has no field for this {what}, which is of {made.field!r:.80}"
            else:
                field = known.name
                why = (
                    f"{field}: this {what} was made by a field of that name, but not by"
                    f" {self.name}.{field}, whose type and bounds it must keep"
                )
        elif isinstance(made, Field):
            why = f"{self.name}: a field is no edit; its methods make those"
        elif isinstance(made, list | tuple):
            why = f"{self.name}: a {what} is no edit; unpack it (*edits)"
        else:
            why = f"{self.name}: {what} is no edit; the methods of its fields make those"
        return Invalid(why, field=field, expected=self.name, found=kind)

    def edits_from_json(self, given: Any) -> list[Edit]:
        """Edits from `{"history": {"append": […]}, "turns": {"add": 1}}`.

        Raises `Invalid` or `TooLarge` naming the field.
        """
        edits: list[Edit] = []
        for name, operations in _object(given, "changes").items():
            field = self.fields.get(name)
            if field is None:
                raise Invalid(
                    f"{name!r:.80}: no such field; {self.kind} has {', '.join(self.fields)}",
                    field=str(name)[:80],
                )
            known = self._operations.get(name)
            if known is None:
                known = self._operations[name] = field.operations()
            for operation, payload in _object(operations, name).items():
                if operation not in known:
                    raise Invalid(
                        f"{name}: a {field.field} has no {operation!r:.80}; it has "
                        f"{', '.join(known)}",
                        field=name,
                        found=operation,
                    )
                edits.append(known[operation].make(payload))
        return edits

    def stored_names(self, names: Iterable[str]) -> tuple[str, ...]:
        """The cells that hold these fields. Raises `Invalid` for an unknown one."""
        stored: list[str] = []
        for name in names:
            field = self.fields.get(name)
            if field is None:
                raise Invalid(f"{name!r:.80}: {self.name} has no such field", field=name)
            stored += (field.stored, *field.older)
        return tuple(stored)

    def stored_entries(self, entries: Mapping[str, Iterable[Any]]) -> dict[str, tuple[str, ...]]:
        """By cell, what the entries of these keys are called. Raises `Invalid` and `TooLarge`."""
        found: dict[str, tuple[str, ...]] = {}
        for name, keys in entries.items():
            cells = self.stored_names([name])
            if isinstance(keys, str | bytes):
                raise Invalid(f"{name}: entries must be a list of keys", field=name)
            some = tuple({self.fields[name].entry_of(key): None for key in keys})
            found |= dict.fromkeys(cells, some)
        return found

    def keys_from_json(self, entries: Any) -> dict[str, list[Any]] | None:
        """By field the keys that JSON asks for: an object of lists. Raises `Invalid`."""
        if entries is None:
            return None
        keys: dict[str, list[Any]] = {}
        for name, listed in _object(entries, "entries").items():
            self.stored_names([name])
            if not isinstance(listed, list):
                raise Invalid(f"entries: {name} must have a list of keys", field="entries")
            given = cast("Iterable[Any]", listed)
            keys[name] = [self.fields[name].key_from_json(key) for key in given]
        return keys

    def upgraded(self, cells: dict[str, Cell], want: Want) -> dict[str, Cell]:
        """The cells with the values of older versions brought up to the newest."""
        out = dict(cells)
        for field in self.versioned:
            for version in range(field.version - 1, 0, -1):
                old = out.pop(stored_name(field.stored.partition("@")[0], version), None)
                if old is not None:
                    out[field.stored] = _merged(field, version, old, out.get(field.stored))
            cell, tail = out.get(field.stored), want.tail_of(field.stored)
            if isinstance(cell, Items) and tail is not None:
                out[field.stored] = cell.tail(tail)
        return out

    def newer(self, cells: Mapping[str, Cell]) -> tuple[str, ...]:
        """Fields of which a newer version has left values."""
        found: list[str] = []
        for stored, cell in cells.items():
            base, at, version = stored.partition("@")
            field = self.bases.get(base)
            if (
                cell
                and at
                and field is not None
                and version.isdecimal()
                and int(version) > field.version
            ):
                found.append(field.name)
        return tuple(found)


def _merged(field: Field[Any], version: int, old: Cell, new: Cell | None) -> Cell:
    def upcast(raw: Scalar) -> bytes:
        if not isinstance(raw, bytes):
            return b""  # not JSON: reported when it is decoded
        try:
            return msgspec.json.encode(field.upcasted(msgspec.json.decode(as_json(raw)), version))
        except Exception:  # noqa: BLE001  it stays as it is and is reported when it is decoded
            return raw

    if isinstance(old, Items):
        newer = new if isinstance(new, Items) else Items()
        items = Items([*map(upcast, old), *newer], newer.first - len(old))
        return items.tail(field.keep)
    entries: Entries = {entry: upcast(raw) for entry, raw in old.items()}
    if not isinstance(new, dict):
        return entries
    return new | entries if field.first_wins else entries | new


def refused(schema: Schema, key: Key, why: Refusal | Refused) -> StateholdError:
    """The error for a `Refusal` or an outcome `Refused`."""
    field = schema.bases.get(why.field.partition("@")[0])
    name = why.field if field is None else field.name
    error, message = {
        "bound": (TooLarge, f"{why.found} entries, at most {why.limit} are kept"),
        "changed": (Conflict, f"the list has {why.found}, and not {why.limit}"),
        "gone": (Conflict, f"there is no item in position {why.found}: it has {why.limit}"),
        "range": (TooLarge, f"{why.found} is beyond {why.limit}"),
        "budget": (TooLarge, f"{why.found}; there is room for {why.limit}"),
        "value": (Invalid, f"{why.limit}"),
        "corrupted": (Corrupted, f"{why.limit}"),
    }.get(why.reason, (Corrupted, f"{why.found} is stored where {why.limit} was expected"))
    text = f"{name}: {message}" if name else message
    return error(text, key=key, field=name or None, expected=why.limit, found=why.found)


def _object(given: Any, name: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise Invalid(f"{name}: must be an object, not {type(given).__name__}", field=name)
    return cast("dict[str, Any]", given)
