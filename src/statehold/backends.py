"""From a URL to a driver. Only the module of the backend that is named gets imported."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from statehold.driver import Driver
from statehold.errors import ConfigError

BACKENDS: dict[str, str] = {
    "memory": "statehold.drivers.memory:from_url",
    "sqlite": "statehold.drivers.sqlite:from_url",
    "postgresql": "statehold.drivers.sql:from_url",
    "mysql": "statehold.drivers.sql:from_url",
    "mariadb": "statehold.drivers.sql:from_url",
    "sqlite+sql": "statehold.drivers.sql:from_url",
    "token": "statehold.drivers.token:from_url",
    **{
        scheme + servers: "statehold.drivers.redis:from_url"
        for scheme in ("redis", "rediss", "valkey", "valkeys")
        for servers in ("", "+sentinel", "+cluster")
    },
}
"""Scheme → `module:function(SplitResult, settings) -> Driver`. Others add theirs as entry points of
the group `statehold.drivers`."""

WITHIN: dict[str, tuple[str, ...]] = {"token": ("registry", "spill")}
"""Scheme → settings that are backends themselves: a URL there is opened to a driver."""


def open_driver(url: str, **settings: object) -> Driver:
    """The driver for a URL such as `sqlite:///state.db?synchronous=FULL`.

    Settings may stand in the URL's query or be given by name, not both. Raises `ConfigError`.
    """
    from urllib.parse import parse_qsl, urlsplit  # slow to import, and only needed here

    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"not a backend: {error}", field="url", found=_shown(url)) from error
    if not parts.scheme or ("://" not in url and parts.scheme not in WITHIN):
        shown = _shown(url)
        raise ConfigError(
            f"not a backend: {shown!r}; say e.g. sqlite:///state.db", field="url", found=shown
        )
    found = parse_qsl(parts.query, keep_blank_values=True)
    query: dict[str, object] = dict(found)
    twice = [name for name in query if name in settings or sum(n == name for n, _ in found) > 1]
    if twice:
        raise ConfigError(f"{parts.scheme}: {twice[0]} is given twice", field=twice[0])
    factory = _factory(parts.scheme)
    given = query | settings
    for name in WITHIN.get(parts.scheme, ()):
        within = given.get(name)
        if isinstance(within, str):
            given[name] = open_driver(within)
    return factory(parts, given)


def _shown(url: str) -> str:
    """The URL without what may be a password."""
    before, at, after = url.rpartition("@")
    return f"{before.partition(':')[0]}:…{at}{after}" if at else url


def _factory(scheme: str) -> Callable[..., Driver]:
    target = BACKENDS.get(scheme)
    if target is None:
        from importlib.metadata import entry_points  # likewise

        for point in entry_points(group="statehold.drivers", name=scheme):
            found: Any = point.load()
            return found  # type: ignore[no-any-return]
        raise ConfigError(
            f"no backend {scheme!r}; there are {', '.join(BACKENDS)}", field="url", found=scheme
        )
    module, _, name = target.partition(":")

    def open_it(*given: Any) -> Driver:
        try:
            found: Driver = getattr(importlib.import_module(module), name)(*given)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{scheme}: needs {error.name}; pip install "
                f"'statehold[{module.rpartition('.')[2]}]'",
                field="url",
            ) from error
        return found

    return open_it
