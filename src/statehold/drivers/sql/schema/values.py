"""FieldStorage bytes ↔ what the columns hold. Whatever was put comes back as the same JSON value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec

from statehold.changes import INT64_MAX, INT64_MIN, Entries, Scalar
from statehold.commits import About
from statehold.drivers.sql.schema.tables import FieldStorage
from statehold.drivers.sql.schema.types import NATIVE, escaped, unescaped
from statehold.drivers.sql.schema.vectors import checked_text
from statehold.errors import Invalid

NULL: Final = b"null"

LONGEST_FLOAT: Final = 17
"""Characters. A number with a point that has more is not written as floats are."""

Rename: TypeAlias = Callable[[str], str]

_objects: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_names: Final = msgspec.json.Decoder(list[str])
_decoders: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    holds: msgspec.json.Decoder(kind) for holds, kind in NATIVE.items()
}
_any: Final = msgspec.json.Decoder()
_raw: Final = msgspec.json.Decoder(msgspec.Raw)
_encode: Final = msgspec.json.Encoder().encode


class Unreadable(Exception):
    """A column holds what cannot be. Internal; the field becomes `Cells.corrupted`."""


def to_column(stored: FieldStorage, raw: Scalar) -> Any:
    """What a `value` or `items` column is set to for an encoded value. Raises `Invalid`."""
    if not isinstance(raw, bytes):
        raise Invalid(f"{stored.name}: a number is no encoded value", field=stored.name)
    if stored.column_type == "bytes":
        return raw
    if stored.column_type == "vector":
        return checked_text(stored.name, stored.dim, raw)
    if stored.column_type == "json":
        return checked_json(stored.name, raw)
    try:
        value = _decoders[stored.column_type].decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid(
            f"{stored.name}: its column holds {stored.column_type}, and this is none",
            field=stored.name,
        ) from error
    if stored.column_type == "int" and not INT64_MIN <= value <= INT64_MAX:
        raise Invalid(f"{stored.name}: {value} is beyond 64 bits", field=stored.name, found=value)
    return value


def from_column(stored: FieldStorage, value: Any) -> bytes:
    """The encoded value that `to_column` was given. Raises `Unreadable`."""
    if stored.column_type in ("bytes", "vector"):
        if isinstance(value, bytes):
            return value
    elif stored.column_type == "json":
        if isinstance(value, str):
            return value.encode()
    elif isinstance(value, NATIVE[stored.column_type]):
        return _encode(value)
    raise Unreadable(stored.name)


def checked_json(field: str, raw: bytes) -> str:
    """Encoded JSON as text. Raises `Invalid` for anything else."""
    try:
        _raw.decode(raw)
        return raw.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid(f"{field}: what is not JSON cannot be stored here", field=field) from error


_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?')
"""A string, which is passed over, or a number."""

_DIGITS: Final = bytes.maketrans(b"123456789E", b"000000000e")
_ZERO: Final = re.compile(r"-0(?![0-9.])|-0\.0")

_LONG: Final = re.compile(rb"\d{17}")

_MINUS_ZERO: Final = "-1e-400"
"""What numeric can hold, and is -0.0 as a float."""


MOST_DIGITS: Final = 16_383
"""How many digits a number may have on either side of its point, as far as its exponent makes them.
PostgreSQL's `numeric` holds no more behind it, and makes 0 of what is smaller without a word."""


def checked_jsonb(field: str, raw: bytes) -> str:
    """Encoded JSON as text for `jsonb`, which keeps numbers as decimals. Raises `Invalid`.

    It would make an int of 1e16, and 0.0 of -0.0. So floats are written with their digits and a
    point, and -0.0 as a number that only a float takes for it. Of members of the same name it would
    keep the last one only.
    """
    text = checked_json(field, raw)
    if b"{" in raw:
        try:
            repeats = _repeats(raw)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"{field}: its column cannot hold this: {error}", field=field) from error
        if repeats:
            raise Invalid(f"{field}: an object has two members of the same name", field=field)
    if b"0e" in raw.translate(_DIGITS) or ("-0" in text and _ZERO.search(text)):
        return _TOKEN.sub(partial(_decimal, field), text)
    return text


def _repeats(raw: bytes) -> bool:
    """Whether an object in it has two members of the same name."""
    if b"\\u" not in raw:  # else a colon may be written so
        try:
            return _encode(_any.decode(raw)).count(b":") != raw.count(b":")
        except msgspec.MsgspecError:
            pass  # a number in it is none for a float
    found = False

    def look(members: list[tuple[str, object]]) -> None:
        nonlocal found
        found = found or len(dict(members)) < len(members)

    json.loads(raw, object_pairs_hook=look, parse_int=str, parse_float=str)
    return found


def _decimal(field: str, token: re.Match[str]) -> str:
    text = token[0]
    if text[0] == '"' or ("e" not in text and "E" not in text and not text.startswith("-0")):
        return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("Infinity")
    if number == 0:
        return _MINUS_ZERO if text[0] == "-" else "0.0"
    exponent = number.as_tuple().exponent
    fits = (
        isinstance(exponent, int) and -exponent <= MOST_DIGITS and number.adjusted() <= MOST_DIGITS
    )
    if not fits or number == Decimal(_MINUS_ZERO):
        raise Invalid(f"{field}: {text[:40]} cannot be held by its column", field=field)
    digits = format(number, "f")
    return digits if "." in digits else f"{digits}.0"


def _shortened(raw: bytes) -> bytes:
    """A value out of `jsonb`, with its floats as they are encoded."""
    if not _LONG.search(raw):
        return raw
    return _TOKEN.sub(_short, raw.decode()).encode()


def _short(token: re.Match[str]) -> str:
    """As floats are written, if it is one; else the number as it is, which no float says."""
    text = token[0]
    if text[0] == '"' or "." not in text or len(text) < LONGEST_FLOAT:
        return text
    number = float(text)
    if not math.isfinite(number):
        return text
    short, exact = _encode(number).decode(), Decimal(text)
    return short if exact in (Decimal(short), Decimal(_MINUS_ZERO)) else text


def to_object(field: str, entries: Entries, *, escape: bool) -> str | None:
    """A JSON object of encoded values; None for none. Raises `Invalid`.

    `escape` says that it is for PostgreSQL's `jsonb`.
    """
    if not entries:
        return None
    rename: Rename = escaped if escape else str
    made: dict[str, msgspec.Raw] = {}
    for entry, value in entries.items():
        if not isinstance(value, bytes):
            raise Invalid(f"{field}: a number is no encoded value", field=field)
        text = checked_jsonb(field, value) if escape else checked_json(field, value)
        made[rename(entry)] = msgspec.Raw(text.encode())
    return _encode(made).decode()


def from_object(field: str, text: Any, *, escape: bool, spaced: bool) -> Entries:
    """The entries of a JSON object. Raises `Unreadable`.

    `spaced` says that the database may have put blanks between the tokens.
    """
    if text is None:
        return {}
    try:
        made = _objects.decode(text)
        rename: Rename = unescaped if escape else str
        if spaced:
            found = {rename(k): msgspec.json.format(v, indent=-1) for k, v in made.items()}
            return {k: _shortened(v) if escape else v for k, v in found.items()}
        return {rename(k): bytes(v) for k, v in made.items()}
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise Unreadable(field) from error


def to_others(about: About | None) -> str | None:
    """The column `also_about`: all whom a state is about but the first."""
    return _encode(about[1:]).decode() if isinstance(about, tuple) else None


def from_others(first: str | None, others: Any) -> About | None:
    """Whom a state is about, by the columns; if that of the others cannot be read, only the first."""
    if others is None or first is None:
        return first
    try:
        if isinstance(others, str | bytes):
            return first, *_names.decode(others)
        return first, *msgspec.convert(others, list[str])  # an engine has decoded JSON itself
    except msgspec.MsgspecError:
        return first


def to_nulls(names: Iterable[str]) -> str | None:
    """The column `nulls` for these fields."""
    listed = sorted(names)
    return _encode(listed).decode() if listed else None


def from_nulls(text: Any) -> frozenset[str]:
    """The names in the column `nulls`; none if it cannot be read."""
    if not text:
        return frozenset()
    try:
        return frozenset(_names.decode(text))
    except (msgspec.MsgspecError, TypeError):
        return frozenset()
