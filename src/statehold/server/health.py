"""Whether the process is alive, whether the store can answer, what was counted, what there is."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from statehold.errors import StateholdError, Timeout
from statehold.middleware.metrics import exposition
from statehold.server.access import tenant_of
from statehold.server.problems import Problem
from statehold.server.reading import query_of
from statehold.server.service import Service
from statehold.server.states import answer

CHECK_SECONDS: Final = 5.0
"""How long the store may take to show that it can answer."""


class Health:
    """The routes about the server itself."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def alive(self, request: Request) -> Response:
        """The process answers."""
        query_of(request)
        return answer({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """The store can answer; else 503, whatever the reason."""
        query_of(request)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._service.store.check()
        except TimeoutError as error:
            late = Timeout(f"the store did not answer within {CHECK_SECONDS} s")
            raise Problem.of(late) from error
        except StateholdError as error:
            raise Problem.of(error, status=503) from error
        return answer({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """What was counted, in Prometheus' text format."""
        self._service.access.check(request.headers, "metrics")
        query_of(request)
        text = exposition(self._service.samples())
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def index(self, request: Request) -> Response:
        """The kinds with their fields, and the states last changed through this process."""
        service = self._service
        key = service.access.check(request.headers, "read")
        query_of(request)
        tenant = tenant_of(request.headers, key)
        kinds: list[dict[str, Any]] = []
        for kind, cls in service.kinds.items():
            schema = cls.__schema__
            fields = {name: field.field for name, field in schema.fields.items()}
            kinds.append(
                {
                    "kind": kind,
                    "ttl": schema.ttl,
                    "max_age": schema.max_age,
                    "max_bytes": schema.max_bytes,
                    "ops": schema.ops,
                    "fields": fields,
                }
            )
        recent = service.hub.recent(tenant)
        return answer({"kinds": kinds, "recent": recent, "max_page": service.config.max_page})
