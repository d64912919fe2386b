"""`serve`."""

from __future__ import annotations

import os
from argparse import Namespace

from statehold.cli.exits import OK
from statehold.cli.reaching import config
from statehold.errors import ConfigError


def serve(given: Namespace) -> int:
    """Serve until told to stop."""
    if given.host:
        os.environ["STATEHOLD_HOST"] = given.host
    if given.port:
        os.environ["STATEHOLD_PORT"] = given.port
    found = config(given)
    try:
        from statehold.server import run
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"serve needs {error.name}; pip install 'statehold[server]'", field="server"
        ) from error
    run(found)
    return OK
