"""Drivers opened as users open them: by a URL, through their entry point, with commits gathered."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from statehold.backends import gathering, open_driver
from statehold.driver import Driver


def opened(url: str, settings: dict[str, Any], entry_point: str | None = None) -> Driver:
    """The driver of a URL. With `entry_point`, its scheme is registered as that for this process."""
    if entry_point is not None:
        register(url.partition(":")[0], entry_point)
    return open_driver(url, **settings)


def gathered(recipe: str, arguments: Sequence[Any]) -> Driver:
    """What a recipe makes, as `AsyncStore.open` runs it."""
    from statehold.testing.backend import cook

    return gathering(cook(recipe, tuple(arguments)))


@functools.cache
def register(scheme: str, entry_point: str) -> None:
    """Have this process find an entry point, `"module:function"`, as of a package that is installed."""
    made = tempfile.TemporaryDirectory(prefix="statehold-")
    _made.append(made)  # it is there until the process ends
    folder = Path(made.name) / f"statehold_testing_{scheme.replace('+', '_')}-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: statehold-testing\nVersion: 0\n")
    told = f"[statehold.drivers]\n{scheme} = {entry_point}\n"
    (folder / "entry_points.txt").write_text(told)
    sys.path.append(made.name)


_made: list[tempfile.TemporaryDirectory[str]] = []
