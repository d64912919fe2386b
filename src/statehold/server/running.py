"""Serving until SIGTERM or SIGINT."""

from __future__ import annotations

import gc
import math
import socket

import uvicorn
from fastapi import FastAPI

from statehold.config import Config, ServerConfig
from statehold.server.app import create_app
from statehold.server.service import Service


class _Server(uvicorn.Server):
    """A server whose watches end when it is told to stop, and not when they are done."""

    def __init__(self, app: FastAPI, config: ServerConfig) -> None:
        self._service: Service = app.state.service
        settings = uvicorn.Config(
            app,
            host=config.host,
            port=config.port,
            log_level=config.log_level,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(config.shutdown_timeout),
        )
        super().__init__(settings)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # All that was imported lives on: without it full collections are ten times shorter.
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.hub.close()
        await super().shutdown(sockets)


def run(config: Config) -> None:
    """Serve what is configured until SIGTERM or SIGINT; running requests end first.

    Raises `ConfigError`, also when others could reach the server and there are no keys.
    """
    config.server.check()
    _Server(create_app(config), config.server).run()
