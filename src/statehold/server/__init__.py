"""States over HTTP: `create_app` makes the application, `run` serves it until it is told to stop."""

from statehold.server.app import create_app
from statehold.server.running import run

__all__ = ["create_app", "run"]
