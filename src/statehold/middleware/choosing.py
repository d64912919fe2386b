"""Middleware by name: what a URL or a configuration puts over a driver.

Each is a function that is given the driver and its settings, and returns the driver over it. Others
add theirs as entry points of the group `statehold.middleware`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

from statehold.driver import Driver
from statehold.errors import ConfigError
from statehold.middleware.wrapper import Wrapper
from statehold.plugins import plugin

MIDDLEWARE: dict[str, str] = {"metrics": "statehold.middleware.metrics:from_settings"}
"""Name → `module:function(Driver, settings) -> Driver`."""

SETTING: Final = "middleware"
"""The setting of every backend that names it."""

D = TypeVar("D", bound=Driver)


Over: TypeAlias = Callable[[Driver], Driver]
"""What makes a driver over a driver."""


def chosen(asked: object) -> Over:
    """What puts over a driver the middleware that is asked for; what is named first is called first.

    `asked` is text with commas, or a list of names and of tables with a `name` and settings. Raises
    `ConfigError` for what is neither, and for a name that nobody has, before there is a driver.
    """
    named = [
        (plugin("statehold.middleware", MIDDLEWARE, name, "middleware", SETTING), settings)
        for name, settings in reversed(_named(asked))
    ]

    def over(driver: Driver) -> Driver:
        for make, settings in named:
            made = make(driver, settings)
            if not isinstance(made, Driver):
                raise ConfigError(
                    f"{make.name}: made no driver, but {type(made).__name__}", field=SETTING
                )
            driver = made
        return driver

    return over


def layer(driver: Driver, kind: type[D]) -> D | None:
    """The driver itself or the one of those under it that is of this kind; None if none is."""
    while not isinstance(driver, kind):
        if not isinstance(driver, Wrapper):
            return None
        driver = driver.inner
    return driver


def _named(asked: object) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(asked, str):
        asked = [name.strip() for name in asked.split(",") if name.strip()]
    if not isinstance(asked, Sequence):
        raise ConfigError(f"{SETTING}: not a list of names: {asked!r:.60}", field=SETTING)
    named: list[tuple[str, dict[str, Any]]] = []
    for each in cast("Sequence[object]", asked):
        if isinstance(each, str):
            named.append((each, {}))
        elif isinstance(each, Mapping) and isinstance(cast("Any", each).get("name"), str):
            settings = dict(cast("Mapping[str, Any]", each))
            named.append((settings.pop("name"), settings))
        else:
            raise ConfigError(
                f"{SETTING}: neither a name nor a table with a name: {each!r:.60}", field=SETTING
            )
    return named
