"""`serve`."""

from __future__ import annotations

import os
from argparse import Namespace

from holdfast.cli.exits import OK
from holdfast.cli.reaching import config
from holdfast.errors import ConfigError


def serve(given: Namespace) -> int:
    """Serve until told to stop."""
    if given.host:
        os.environ["HOLDFAST_HOST"] = given.host
    if given.port:
        os.environ["HOLDFAST_PORT"] = given.port
    found = config(given)
    try:
        from holdfast.server import run
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"serve needs {error.name}; pip install 'holdfast[server]'", field="server"
        ) from error
    run(found)
    return OK
