"""Where a driver under test keeps its data, and how the kit can lay hands on it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

from statehold.changes import Key
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
