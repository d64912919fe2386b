"""The application: its routes, its errors, and the gate that every request comes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from statehold.clock import AMBIENT
from statehold.config import Config, ServerConfig
from statehold.errors import StateholdError
from statehold.server.batch import Batch
from statehold.server.console import pages
from statehold.server.health import Health
from statehold.server.openapi import document
from statehold.server.problems import Problem, of_http
from statehold.server.reading import query_of
from statehold.server.service import Service
from statehold.server.states import States, encode
from statehold.server.watch import Watch
from statehold.state import State
from statehold.store import AsyncStore


def create_app(
    source: Config | AsyncStore,
    kinds: Iterable[type[State]] = (),
    *,
    server: ServerConfig | None = None,
) -> FastAPI:
    """The application that serves a configured backend, or the given kinds of an open store.

    A store that it opens itself it closes at shutdown; one that is given stays open. `server` is
    what the configuration says unless it is given. Raises `ConfigError`.
    """
    if isinstance(source, Config):
        known = {**source.kinds, **{cls.__schema__.kind: cls for cls in kinds}}
        service = Service(source.open(), known, server or source.server)
        close = True
    else:
        known = {cls.__schema__.kind: cls for cls in kinds}
        service = Service(source, known, server or ServerConfig())
        close = False

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        sweeping = asyncio.create_task(service.sweeping.run())
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
            service.hub.close()
            if close:
                await service.store.drain(service.config.shutdown_timeout)
                await service.store.close()

    app = FastAPI(
        title="statehold",
        version=version("statehold"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.service = service
    described = document(service.kinds, service.config)
    app.openapi = lambda: described  # type: ignore[method-assign]
    app.router.routes.extend(_routes(service, encode(described)))
    _answer_errors(app, service)
    app.add_middleware(Gate, service=service)
    return app


def _routes(service: Service, described: bytes) -> list[Route]:
    health, states = Health(service), States(service)

    async def openapi(request: Request) -> Response:
        service.access.check(request.headers, "read")
        query_of(request)
        return Response(described, media_type="application/json")

    return [
        _Route("/v1/{kind}/{id}", states.get, methods=["GET"], name="get"),
        _Route("/v1/{kind}/{id}/commit", states.commit, methods=["POST"], name="commit"),
        _Route("/v1/{kind}/batch", Batch(service).run, methods=["POST"], name="batch"),
        _Route("/v1/{kind}/{id}", states.delete, methods=["DELETE"], name="delete"),
        _Route("/v1/{kind}/{id}/watch", Watch(service), methods=["GET"], name="watch"),
        _Route("/v1/{kind}", states.page, methods=["GET"], name="scan"),
        _Route("/v1", health.index, methods=["GET"], name="index"),
        _Route("/healthz", health.alive, methods=["GET"], name="healthz"),
        _Route("/readyz", health.ready, methods=["GET"], name="readyz"),
        _Route("/metrics", health.metrics, methods=["GET"], name="metrics"),
        _Route("/openapi.json", openapi, methods=["GET"], name="openapi"),
        *(_Route(path, page, methods=["GET"], name="console") for path, page in pages().items()),
    ]


def _answer_errors(app: FastAPI, service: Service) -> None:
    retry_after = service.config.retry_after

    async def problem(_request: Request, error: Exception) -> Response:
        found = error if isinstance(error, Problem) else Problem("internal", "see the server's log")
        return found.response(retry_after)

    async def own(_request: Request, error: Exception) -> Response:
        found = Problem.of(error) if isinstance(error, StateholdError) else Problem("internal", "")
        return found.response(retry_after)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  Starlette asks for this one
        return of_http(request, error, service.kinds).response(retry_after)

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(StateholdError, own)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, problem)


class Gate:
    """Counts requests, and has them routed by their path as it was sent.

    Percent-encoding is undone only after routing, so that an id may contain any character, "/"
    included, without being taken for another route.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._count = service.count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        raw: bytes | None = scope.get("raw_path")
        if raw is not None:
            scope["path"] = raw.decode("latin-1")
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        taken: list[str] = []
        scope["statehold.route"] = taken
        started = AMBIENT.perf_counter()
        try:
            await self._app(scope, receive, counted)
        finally:
            name = taken[0] if taken else "none"
            self._count(name, status, AMBIENT.perf_counter() - started)


class _Route(Route):
    """A route that tells the gate its name."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "statehold.route" in scope:
            scope["statehold.route"].append(self.name)
        await super().handle(scope, receive, send)
