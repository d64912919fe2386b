"""From the options to the states: through the library, or through a server."""

from __future__ import annotations

import os
from argparse import Namespace

from statehold.cli.parser import KEY_VARIABLE
from statehold.client import Access, Local
from statehold.config import Config
from statehold.errors import ConfigError


def config(given: Namespace, *, needs_kinds: bool = True) -> Config:
    """The configuration, with the backend that was given instead of its own."""
    env = dict(os.environ)
    if given.backend:
        env["STATEHOLD_BACKEND"] = given.backend
    return Config.load(given.config, env, needs_kinds=needs_kinds)


def reach(given: Namespace) -> Access:
    """Access as the options say. Close it; local access is to be opened in its event loop."""
    if given.server:
        if given.backend or given.config:
            raise ConfigError("--server goes with neither --backend nor --config", field="server")
        from statehold.client.remote import Remote  # brings http.client, slow to import

        return Remote(given.server, key=os.environ.get(KEY_VARIABLE))
    found = config(given)
    return Local(found.open(), found.kinds)
