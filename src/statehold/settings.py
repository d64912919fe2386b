"""Settings with units: what a backend or the server can be told, how it is parsed, what it means.

Each part declares its settings once; URLs, TOML and the environment are parsed from there, and the
documentation is tested against it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar

from statehold.errors import ConfigError

Parser: TypeAlias = Callable[[Any], Any]
F = TypeVar("F", bound=Callable[..., Any])

_WITHIN: Final = "statehold_within"

_SIZES = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "": 1}


def size(value: Any) -> int:
    """Bytes: an int, or text such as "64KiB" or "1 GB". At least 1."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]*)\s*", value)
        if match is None or match[2] not in _SIZES:
            raise ValueError(f"not a size: {value!r} (say 65536, 64KiB, 1GB)")
        value = int(match[1]) * _SIZES[match[2]]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"not a size of at least 1 byte: {value!r}")
    return value


def duration(value: Any) -> float:
    """Seconds: a number, a timedelta, or text such as "500ms", "30s", "1h30m", "7d". Over 0."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, str):
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*", value)
        if not parts or "".join(re.split(r"\s+", value)) != "".join(n + u for n, u in parts):
            raise ValueError(f"not a duration: {value!r} (say 30s, 1h30m, 7d)")
        if any(unit not in _SECONDS for _, unit in parts):
            raise ValueError(f"not a duration: {value!r} (units: ms, s, m, h, d)")
        value = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        raise ValueError(f"not a duration over 0: {value!r}")
    return float(value)


def forever_or_duration(value: Any) -> float | None:
    """Like `duration`; None or "never" for no end."""
    return None if value is None or value == "never" else duration(value)


def count(value: Any) -> int:
    """A whole number of at least 1."""
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"not a whole number of at least 1: {value!r}")
    return number


def choice(*options: str) -> Parser:
    """A parser that takes one of `options`, in any case."""

    def parse(value: Any) -> str:
        for option in options:
            if str(value).casefold() == option.casefold():
                return option
        raise ValueError(f"not one of {', '.join(options)}: {value!r}")

    return parse


def boolean(value: Any) -> bool:
    """true/false, yes/no, on/off, 1/0."""
    if isinstance(value, bool):
        return value
    word = str(value).casefold()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise ValueError(f"not true or false: {value!r}")


def text(value: Any) -> str:
    """Text as it is."""
    if not isinstance(value, str):
        raise ValueError(f"not text: {value!r}")  # noqa: TRY004  one error type for every parser
    return value


def within(*names: str) -> Callable[[F], F]:
    """Declares of a driver's factory which of its settings are backends themselves.

    A URL there is opened to a driver before the factory is called. Such a driver needs no address of its
    own: `token:` is a URL.
    """

    def declared(factory: F) -> F:
        setattr(factory, _WITHIN, names)
        return factory

    return declared


def backends_within(factory: Callable[..., Any]) -> tuple[str, ...]:
    """What `within` declared of it."""
    return getattr(factory, _WITHIN, ())


class Settings:
    """The settings of one part: name → (parser, default, what it means)."""

    def __init__(self, part: str, known: Mapping[str, tuple[Parser, Any, str]]) -> None:
        self.part = part
        self.known = known

    def default(self, name: str) -> Any:
        """What a setting is unless it is given."""
        return self.known[name][1]

    def complete(self, given: Mapping[str, object]) -> dict[str, Any]:
        """All settings: those that are given, parsed, and what the others are."""
        return {name: self.default(name) for name in self.known} | self.parse(given)

    def parse(self, given: Mapping[str, object]) -> dict[str, Any]:
        """The given settings, parsed. Raises `ConfigError` naming an unknown or wrong one."""
        parsed: dict[str, Any] = {}
        for name, value in given.items():
            if name not in self.known:
                raise ConfigError(
                    f"{self.part}: no setting {name!r}; there are {', '.join(self.known) or 'none'}",
                    field=name,
                    found=value,
                )
            try:
                parsed[name] = self.known[name][0](value)
            except ValueError as error:
                raise ConfigError(f"{self.part}.{name}: {error}", field=name, found=value) from None
        return parsed
