"""What is named in a URL or a configuration, and found in this package or in others.

Others add theirs as entry points of the group. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from statehold.errors import ConfigError


class Plugin:
    """A function by a name. What it cannot import is a `ConfigError` that says what to install."""

    def __init__(
        self, name: str, load: Callable[[], Any], module: str, needs: str, *, ours: bool
    ) -> None:
        self.name = name
        self._load = load
        self._module = module
        self._needs = needs
        self._ours = ours

    def load(self) -> Any:
        """The function."""
        try:
            return self._load()
        except ModuleNotFoundError as error:
            named = self._module == error.name or self._module.startswith(f"{error.name}.")
            if self._ours or not named:
                raise self._lacking(error) from error
            raise self._broken(error) from error
        except Exception as error:  # whatever others do when they are imported
            if self._ours:
                raise
            raise self._broken(error) from error

    def __call__(self, *given: Any) -> Any:
        """What it returns."""
        function = self.load()
        try:
            return function(*given)
        except ModuleNotFoundError as error:
            raise self._lacking(error) from error

    def _lacking(self, error: ModuleNotFoundError) -> ConfigError:
        return ConfigError(
            f"{self.name}: needs {error.name}; pip install {self._needs}",
            field="url",
            found=error.name,
        )

    def _broken(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"{self.name}: its entry point cannot be loaded ({type(error).__name__}: {error})",
            field="url",
            found=self._module,
        )


def plugin(group: str, ours: Mapping[str, str], name: str, what: str, field: str) -> Plugin:
    """The plugin of that name: one of `ours` (name → `module:function`), or an entry point.

    Raises `ConfigError`, which calls it `what`, where there is none.
    """
    target = ours.get(name)
    if target is not None:
        module, _, function = target.partition(":")
        needs = f"'statehold[{module.rpartition('.')[2]}]'"
        return Plugin(
            name,
            lambda: getattr(importlib.import_module(module), function),
            module,
            needs,
            ours=True,
        )
    from importlib.metadata import entry_points  # slow to import, and only needed here

    installed = entry_points(group=group)
    for point in installed.select(name=name):
        package = point.dist.name if point.dist is not None else "what it needs"
        return Plugin(name, point.load, point.module, package, ours=False)
    known = dict.fromkeys([*ours, *sorted(installed.names)])
    raise ConfigError(f"no {what} {name!r}; there are {', '.join(known)}", field=field, found=name)
