"""What is named in a URL or a configuration, and found in this package or in others.

Others add theirs as entry points of the group. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from statehold.errors import ConfigError


class Plugin:
    """A function by a name. What it cannot import is a `ConfigError` that says what to install."""

    def __init__(self, name: str, load: Callable[[], Any], needs: str, *, ours: bool) -> None:
        self.name = name
        self._load = load
        self._needs = needs
        self._ours = ours

    def load(self) -> Any:
        """The function."""
        with self._told():
            return self._load()

    def __call__(self, *given: Any) -> Any:
        """What it returns."""
        with self._told():
            return self._load()(*given)

    @contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{self.name}: needs {error.name}; pip install {self._needs}",
                field="url",
                found=error.name,
            ) from error
        except (ImportError, AttributeError) as error:
            if self._ours:
                raise
            raise ConfigError(
                f"{self.name}: its entry point cannot be loaded ({error})", field="url"
            ) from error


def plugin(group: str, ours: Mapping[str, str], name: str, what: str, field: str) -> Plugin:
    """The plugin of that name: one of `ours` (name → `module:function`), or an entry point.

    Raises `ConfigError`, which calls it `what`, where there is none.
    """
    target = ours.get(name)
    if target is not None:
        module, _, function = target.partition(":")
        needs = f"'statehold[{module.rpartition('.')[2]}]'"
        return Plugin(
            name, lambda: getattr(importlib.import_module(module), function), needs, ours=True
        )
    from importlib.metadata import entry_points  # slow to import, and only needed here

    installed = entry_points(group=group)
    for point in installed.select(name=name):
        package = point.dist.name if point.dist is not None else "what it needs"
        return Plugin(name, point.load, package, ours=False)
    known = dict.fromkeys([*ours, *sorted(installed.names)])
    raise ConfigError(f"no {what} {name!r}; there are {', '.join(known)}", field=field, found=name)
