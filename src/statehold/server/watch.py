"""Watching a state: server-sent events, one each time its revision changes.

A watch reads the revision when this process has changed the state, and every `watch_interval` for
what others have done or time has: it sees the latest, not every revision in between. It reads
without renewing, so that what is watched expires as if it were not.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from statehold.client.local import shown
from statehold.commits import ABSENT, Revision
from statehold.errors import StateholdError
from statehold.server.problems import Problem
from statehold.server.reading import TAIL, at_fault, id_of, keys_of, names_of, number_of, query_of
from statehold.server.service import Service
from statehold.server.states import Asked, encode

HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Watch:
    """An endpoint of its own, as it must know when the client has gone."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        request = Request(scope)
        asked = Asked(self._service, request, "read")
        id = id_of(request)
        query = query_of(request, "fields", "tail", "entries")
        fields = names_of(query.get("fields"))
        tail = number_of(query.get("tail"), "tail", most=TAIL)
        if fields:
            at_fault(asked.collection.schema.stored_names, fields)
        entries = keys_of(query.get("entries"), asked.collection.schema)
        want = {"fields": fields, "tail": tail, "entries": entries}
        stream = _Stream(self._service, asked, id, want)
        stream.seen = request.headers.get("last-event-id")
        with self._service.hub.watch((asked.tenant, asked.kind, id)) as changed:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            gone = asyncio.ensure_future(_gone(receive, changed))
            try:
                await stream.run(changed, gone, send)
                await send({"type": "http.response.body", "body": b""})
            finally:
                gone.cancel()


async def _gone(receive: Receive, changed: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    changed.set()


class _Stream:
    """What one watcher has been told."""

    def __init__(
        self,
        service: Service,
        asked: Asked,
        id: str,
        want: dict[str, Any],
    ) -> None:
        self._service = service
        self._asked = asked
        self._id = id
        self._want = want
        self.seen: str | None = None

    async def run(self, changed: asyncio.Event, gone: asyncio.Future[None], send: Send) -> None:
        """Send events until the client has gone or the server ends."""
        config = self._service.config
        clock = asyncio.get_running_loop().time
        said = clock()
        while not gone.done() and not self._service.hub.closed:
            changed.clear()
            event = await self._event()
            if event is None and clock() - said >= config.heartbeat:
                event = b": alive\n\n"
            if event is not None:
                await send({"type": "http.response.body", "body": event, "more_body": True})
                said = clock()
            try:
                async with asyncio.timeout(min(config.watch_interval, config.heartbeat)):
                    await changed.wait()
            except TimeoutError:
                pass

    async def _event(self) -> bytes | None:
        """What there is to say, if anything."""
        asked = self._asked
        try:
            cells = await self._service.peek((asked.tenant, asked.kind, self._id))
            revision = ABSENT if cells is None else cells.revision
            if str(revision) == self.seen:
                return None
            state = None
            if revision != ABSENT:
                state = await asked.collection.get(self._id, **self._want)
                revision = state.meta.revision
            self.seen = str(revision)
            if state is None or revision == ABSENT:
                return _event("absent", revision, {"id": self._id, "kind": asked.kind})
            return _event("state", revision, shown(asked.kind, state, self._want["fields"]))
        except StateholdError as error:
            problem = Problem.of(error)
            if self.seen == problem.body["code"]:
                return None
            self.seen = problem.body["code"]
            return _event("problem", None, problem.body)


def _event(name: str, revision: Revision | None, data: dict[str, Any]) -> bytes:
    text = b"\ndata: ".join(encode(data).splitlines())
    head = f"event: {name}\n" + ("" if revision is None else f"id: {revision}\n")
    return head.encode() + b"data: " + text + b"\n\n"
