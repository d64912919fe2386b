"""Where a driver under test keeps its data, and how the kit can lay hands on it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, cast

from statehold.backends import gathering
from statehold.commits import Key
from statehold.driver import Driver


@dataclass(frozen=True)
class Backend:
    """One driver's data and the hooks of its tests; see `statehold.testing` for each of them."""

    open: Callable[[], Driver]
    recipe: str | None = None
    arguments: tuple[Any, ...] = ()
    own_clock: float | None = None
    outage: Callable[[], AbstractContextManager[object]] | None = None
    corrupt: Callable[[Key, str], None] | None = None
    raw: Callable[[], bytes] | None = None
    held: Callable[[], AbstractContextManager[object]] | None = None
    set_back: bool = False

    @classmethod
    def by_url(
        cls,
        url: str,
        *,
        settings: dict[str, Any] | None = None,
        entry_point: str | None = None,
        **hooks: Any,
    ) -> Backend:
        """A driver as users open it: by the URL of its data, and settings (JSON values).

        The scheme is found as that of an installed package, or, with `entry_point`, registered as
        `"module:function"` for the time of the test, in other processes too.
        """
        arguments = (url, settings or {}, entry_point)
        recipe = "statehold.testing.by_url:opened"
        return cls(lambda: cook(recipe, arguments), recipe, arguments, **hooks)

    def gathered(self) -> Backend:
        """This backend, run as `AsyncStore.open` does: commits are gathered above it, if it declares so."""
        recipe, arguments = self.recipe, (self.recipe, list(self.arguments))
        return replace(
            self,
            open=lambda: gathering(self.open()),
            recipe=recipe and "statehold.testing.by_url:gathered",
            arguments=arguments if recipe else (),
        )


def cook(recipe: str, arguments: tuple[Any, ...]) -> Driver:
    """A driver made from a recipe, `"module:callable"`, and its arguments.

    Raises ValueError when the recipe has no colon, ImportError and AttributeError when there is no
    such callable.
    """
    module, colon, name = recipe.partition(":")
    if not colon:
        raise ValueError(f"a recipe is 'module:callable', not {recipe!r}")
    make: Any = importlib.import_module(module)
    for part in name.split("."):
        make = getattr(make, part)
    return cast("Driver", make(*arguments))


def rounds(modest: int) -> int:
    """How often to do something that is modestly done `modest` times: times `STATEHOLD_ROUNDS`."""
    factor = float(os.environ.get("STATEHOLD_ROUNDS", "1"))
    return max(1, round(modest * factor))
