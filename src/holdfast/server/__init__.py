"""States over HTTP: `create_app` makes the application, `run` serves it until it is told to stop."""

from holdfast.server.app import create_app
from holdfast.server.running import run

__all__ = ["create_app", "run"]
