"""Why a value does not fit its type: one sentence that says nothing of the value."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Any, Final, cast

import msgspec

from statehold.comparing import place, walk
from statehold.formats import json_schema, members

_VALUE: Final = re.compile(r"^Invalid (enum )?value .*?(?= - at `[^`]*`$|$)", re.DOTALL)
_UNKNOWN: Final = re.compile(r"unknown field `.*?`(?= - at |$)", re.DOTALL)


_PARTS: Final = 10_000
"""Of a value that is refused, at most so many parts are looked at for what to say."""


def refusal(error: BaseException, kind: Any, value: object) -> str:
    """Why a value cannot be put where this type is declared."""
    for path, part in islice(walk(value), _PARTS):
        cls: type[Any] = cast("Any", type(part))
        if cls.__module__ != "builtins" and cls.__name__ in _classes(kind):
            its = _classes(kind)[cls.__name__]
            if cls not in its:
                return (
                    f"{place(path)} is of another class that is called {cls.__name__} too, "
                    "which was defined before it or elsewhere"
                )
        if cls is bytes and "invalid utf-8" in str(error) and not _is_text(cast("bytes", part)):
            return (
                f"{place(path)} is not UTF-8, as which Pydantic writes bytes; "
                "ser_json_bytes and val_json_bytes of its config can say 'base64'"
            )
    return reason(error, kind)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@lru_cache(maxsize=64)
def _classes(kind: Any) -> dict[str, set[type]]:
    """The classes in a type, by name."""
    found: dict[str, set[type]] = {}

    def look(part: Any) -> None:
        cls = typing.get_origin(part) or part
        if isinstance(cls, type) and cls not in found.setdefault(cls.__name__, set()):
            found[cls.__name__].add(cls)
            for hint in members(cls):
                look(hint)
        for inside in typing.get_args(part):
            look(inside)

    look(kind)
    return found


def reason(error: BaseException, kind: Any) -> str:  # noqa: PLR0911  one error after another
    """Why a value does not fit its type: one sentence that says nothing of the value."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeError):
        return "it is not valid Unicode"
    if isinstance(error, msgspec.ValidationError) and error.__cause__ is not None:
        return f"its class refuses it ({type(error.__cause__).__name__})"
    if isinstance(error, msgspec.MsgspecError):
        return _UNKNOWN.sub("unknown field", _VALUE.sub("Invalid value", str(error)))
    if isinstance(error, TypeError):
        return str(error)
    if type(error).__module__.partition(".")[0] == "pydantic_core":
        return _pydantic_reason(error, kind)
    if isinstance(error, ValueError) and "digits" in str(error):
        return "an int of too many digits"
    return type(error).__name__


def _pydantic_reason(error: Any, kind: Any) -> str:
    if not hasattr(error, "errors"):  # what could not be written
        found = re.search(r"field_name='(\w+)'", str(error))
        return f"{found[1] if found else 'something in it'} is not of its declared type"
    known = _names(kind)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    at = ""
    for step in first["loc"]:
        shown = f"[{step}]" if isinstance(step, int) else "[…]"
        at += f".{step}" if step in known else shown
    text = first["msg"]
    if first["type"] == "union_tag_invalid":
        text = "no such tag"
    elif first["type"] not in _said_by_pydantic():
        text = "its class refuses it"
    more = error.error_count() - 1
    return f"{at.lstrip('.')}: {text}".lstrip(": ") + (f", and {more} more" if more else "")


@lru_cache(maxsize=1)
def _said_by_pydantic() -> frozenset[str]:
    """The types of errors whose words are Pydantic's own, and show no value."""
    from pydantic_core import core_schema

    known = frozenset(typing.get_args(core_schema.ErrorType))
    return known - {"value_error", "assertion_error"}


@lru_cache(maxsize=64)
def _names(kind: Any) -> frozenset[object]:
    """The names that a type gives its members; what else stands in a path is of the value."""
    found: set[object] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            its = cast("dict[str, Any]", node)
            found.update(its.get("properties", ()))
            for inside in its.values():
                walk(inside)
        elif isinstance(node, list):
            for inside in cast("Iterable[Any]", node):
                walk(inside)

    walk(json_schema(kind))
    return frozenset(found)
