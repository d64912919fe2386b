"""Kinds declared in TOML: each becomes a `State` class, as if it had been written in Python."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Mapping
from keyword import iskeyword
from pathlib import Path
from typing import Any, Final

import msgspec

from statehold.config.shapes import is_list, is_table
from statehold.errors import ConfigError, SchemaError
from statehold.fields import (
    Counter,
    DecayedMean,
    Field,
    Log,
    Map,
    Register,
    SetOf,
    Steps,
    Tally,
    Turns,
    Vector,
    Window,
)
from statehold.fields.base import BY_TTL, VALUE_BYTES
from statehold.schema import LIMIT_BYTES, OPS
from statehold.settings import (
    Settings,
    boolean,
    choice,
    count,
    duration,
    forever_or_duration,
    size,
    text,
)
from statehold.state import State

_REQUIRED: Final = object()

TYPES: Final[dict[str, Any]] = {
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "object": dict[str, Any],
    "any": Any,
    "bytes": bytes,
}
"""The names of value types."""


def value_type(value: Any) -> Any:
    """The type that TOML declares: a name, ["a list of one"], or {a = "struct", b = "string?"}.

    A `?` behind a name allows null, and lets a struct's field be left out.
    """
    if isinstance(value, str):
        name, optional = value.removesuffix("?"), value.endswith("?")
        if name not in TYPES:
            raise ValueError(f"no type {value!r:.60}; there are {', '.join(TYPES)}")
        return TYPES[name] | None if optional and name != "any" else TYPES[name]
    if is_list(value):
        if len(value) != 1:
            raise ValueError('a list is declared by the type of its items: ["string"]')
        return list[value_type(value[0])]  # type: ignore[misc]
    if is_table(value):
        return _struct(value)
    raise ValueError(f"not a type: {value!r:.60}")


def _struct(table: dict[str, Any]) -> Any:
    fields: list[Any] = []
    rename: dict[str, str] = {}
    for at, (name, declared) in enumerate(table.items()):
        kind = value_type(declared)
        attribute = name if name.isidentifier() and not iskeyword(name) else f"field_{at}"
        rename[attribute] = name
        optional = isinstance(declared, str) and declared.endswith("?")
        fields.append((attribute, kind, None) if optional else (attribute, kind))
    return msgspec.defstruct(
        "Struct", fields, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=rename
    )


def _number(value: Any) -> Any:
    if value not in ("integer", "number"):
        raise ValueError(f"integer or number, not {value!r:.60}")
    return int if value == "integer" else float


def _anything(value: Any) -> Any:
    return value


def _keep(value: Any) -> int:
    return BY_TTL if value == "by_ttl" else count(value)


_KEEP = (
    _keep,
    _REQUIRED,
    'Maximum number of entries or items; "by_ttl": as many as come until the state expires.',
)
_PAST = (
    choice("refuse", "drop_lowest"),
    "refuse",
    "What becomes of a new key past `keep`: it is refused, or the lowest key is dropped.",
)
_BYTES = (size, VALUE_BYTES, "Maximum size of one value.")
_DIM = (count, _REQUIRED, "How many numbers the vector has.")
_KEYS = (value_type, _REQUIRED, "The type of the keys.")
_NUMBER = (_number, int, "What is added up: integer (exact to 64 bits) or number.")
_STORED = (text, None, "The name under which it is kept (default: its own).")


def _field(name: str, make: Callable[..., Field[Any]], **known: Any) -> tuple[Settings, Any]:
    return Settings(name, known | {"stored_as": _STORED}), make


def _taking(name: str, make: Callable[..., Field[Any]]) -> Callable[..., Field[Any]]:
    """Give `make` its first argument under this name."""

    def made(**options: Any) -> Field[Any]:
        return make(options.pop(name), **options)

    return made


def _register(value: Any, default: Any = None, **options: Any) -> Field[Any]:
    if value is bytes and isinstance(default, str):
        try:
            default = msgspec.json.decode(msgspec.json.encode(default), type=bytes)
        except msgspec.ValidationError:
            raise ValueError("default: bytes are written in base64") from None
    optional = default is None and value is not bytes  # which would not be stored as it is
    return Register(value | None if optional else value, default=default, **options)


_FIELDS: Final[dict[str, tuple[Settings, Callable[..., Field[Any]]]]] = {
    "register": _field(
        "register",
        _register,
        value=(value_type, _REQUIRED, "The type of the value."),
        default=(_anything, None, "What it reads as until it is written (default: null)."),
        max_bytes=_BYTES,
    ),
    "counter": _field("counter", Counter, number=_NUMBER),
    "map": _field(
        "map",
        Map,
        keys=(value_type, str, "The type of the keys."),
        values=(value_type, _REQUIRED, "The type of the values."),
        keep=_KEEP,
        max_bytes=_BYTES,
        past=_PAST,
    ),
    "set": _field(
        "set",
        _taking("items", SetOf),
        items=(value_type, _REQUIRED, "The type of the members."),
        keep=_KEEP,
        past=_PAST,
    ),
    "log": _field(
        "log",
        _taking("items", Log),
        items=(value_type, _REQUIRED, "The type of the items."),
        keep=_KEEP,
        max_bytes=_BYTES,
    ),
    "turns": _field(
        "turns",
        _taking("items", Turns),
        items=(value_type, _REQUIRED, "The type of the messages that make up a turn."),
        keep=(_keep, _REQUIRED, "Maximum number of turns; the newest are kept."),
        max_bytes=(size, VALUE_BYTES, "Maximum size of one turn."),
    ),
    "vector": _field(
        "vector",
        Vector,
        dim=_DIM,
        searchable=(
            boolean,
            False,
            "Whether to index it for nearest-neighbour search, where the backend can.",
        ),
    ),
    "decayed_mean": _field(
        "decayed_mean",
        DecayedMean,
        dim=_DIM,
        half_life=(duration, _REQUIRED, "The age at which a vector counts half."),
    ),
    "tally": _field("tally", Tally, keys=_KEYS, number=_NUMBER, keep=_KEEP, past=_PAST),
    "window": _field(
        "window",
        Window,
        span=(duration, _REQUIRED, "How far it looks back."),
        buckets=(count, 60, "In how many slices of time it is kept."),
    ),
    "steps": _field(
        "steps",
        _taking("values", Steps),
        values=(value_type, _REQUIRED, "The type of the results."),
        keep=(_keep, 64, "Maximum number of steps."),
        max_bytes=_BYTES,
    ),
}

FIELDS: Final[dict[str, Settings]] = {name: made[0] for name, made in _FIELDS.items()}
"""The settings of each type of field."""

KIND: Final = Settings(
    "kind",
    {
        "ttl": (
            forever_or_duration,
            _REQUIRED,
            'Time to live after the last write; "never": does not expire.',
        ),
        "max_age": (
            forever_or_duration,
            None,
            "Maximum age of a state, however often it is renewed.",
        ),
        "renew_on_read": (boolean, False, "Whether reading renews the time to live too."),
        "ops": (count, OPS, "How many op ids (idempotency keys) a state remembers."),
        "limit_bytes": (
            size,
            LIMIT_BYTES,
            "Maximum size of a state by its bounds; a kind over it is refused.",
        ),
    },
)
"""The settings of a kind beside its fields."""


def kinds_of(tables: Mapping[str, Any], at: str, folder: Path) -> dict[str, type[State]]:
    """The classes of the tables of `[kinds]`, by kind. Raises `ConfigError` naming what is wrong."""
    return {name: _kind(name, table, f"{at}.{name}", folder) for name, table in tables.items()}


def class_at(target: str, at: str, folder: Path) -> type[State]:
    """The class that `module:Class` names, `folder` being importable. Raises `ConfigError`."""
    module, _, name = target.partition(":")
    if not module or not name:
        raise ConfigError(f"{at}: {target!r:.80} is not module:Class", field="class")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ConfigError(
            f"{at}: {target} cannot be imported: {one_line(error)}", field="class"
        ) from error
    if not isinstance(found, type) or not issubclass(found, State) or found is State:
        raise ConfigError(f"{at}: {target} is no subclass of State", field="class")
    return found


def _kind(name: str, table: Any, at: str, folder: Path) -> type[State]:
    if isinstance(table, str):
        table = {"class": table}
    if not is_table(table):
        raise ConfigError(f"{at}: must be a table or module:Class", field=name)
    if "class" in table:
        if len(table) > 1:
            raise ConfigError(f"{at}: class stands alone; it says the rest itself", field="class")
        found = class_at(str(table["class"]), f"{at}.class", folder)
        if found.__schema__.kind != name:
            raise ConfigError(
                f"{at}.class: {table['class']} is the kind {found.__schema__.kind!r}", field="class"
            )
        return found
    given = dict(table)
    fields = given.pop("fields", None)
    if not is_table(fields) or not fields:
        raise ConfigError(f"{at}.fields: a kind needs at least one field, or class", field="fields")
    options = parsed(KIND, given, at)
    namespace = {
        field: _made(field, declared, f"{at}.fields.{field}") for field, declared in fields.items()
    }
    title = "".join(part.capitalize() for part in name.split("_"))
    try:
        return types.new_class(
            title, (State,), {"kind": name, **options}, lambda space: space.update(namespace)
        )
    except (SchemaError, RuntimeError, ValueError) as error:
        # Before Python 3.12 what __set_name__ raises arrives as the cause of a RuntimeError.
        why = error.__cause__ if isinstance(error.__cause__, SchemaError) else error
        said, field = one_line(why), getattr(why, "field", None)
        of_field = f"{title}: {field}: "
        if said.startswith(of_field):
            at, said = f"{at}.fields.{field}", said.removeprefix(of_field)
        raise ConfigError(f"{at}: {said}", field=name) from error


def _made(name: str, table: Any, at: str) -> Field[Any]:
    if not name.isidentifier():
        raise ConfigError(f"{at}: a field is named by letters, digits and _", field=name)
    if isinstance(table, str):
        table = {"type": table}
    if not is_table(table) or "type" not in table:
        raise ConfigError(f"{at}: needs a type, one of {', '.join(_FIELDS)}", field="type")
    given = dict(table)
    kind = given.pop("type")
    if kind not in _FIELDS:
        raise ConfigError(
            f"{at}.type: no type {kind!r:.60}; there are {', '.join(_FIELDS)}", field="type"
        )
    settings, make = _FIELDS[kind]
    options = parsed(settings, given, at)
    for option, (_, default, _) in settings.known.items():
        if default is str or default is int:
            options.setdefault(option, default)
    try:
        return make(**options)
    except (SchemaError, ValueError, TypeError) as error:
        raise ConfigError(f"{at}: {one_line(error)}", field=kind) from error


def parsed(settings: Settings, given: Mapping[str, Any], at: str) -> dict[str, Any]:
    """The given settings, parsed, none missing that has no default; errors name `at`."""
    for name, (_, default, meaning) in settings.known.items():
        if default is _REQUIRED and name not in given:
            raise ConfigError(f"{at}.{name}: required. {meaning}", field=name)
    try:
        return settings.parse(given)
    except ConfigError as error:
        rest = str(error).removeprefix(settings.part)
        raise ConfigError(f"{at}{rest}", field=error.field, found=error.found) from None


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
