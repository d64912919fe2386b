"""The routes of single states and of a kind's listing."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from statehold.changes import BEYOND
from statehold.client.local import shown
from statehold.commits import ABSENT, Revision
from statehold.config import AccessKey, Scope
from statehold.errors import Conflict, Fenced, StateholdError
from statehold.server.access import demand, tenant_of
from statehold.server.problems import PRECONDITION_FAILED, Problem, absent
from statehold.server.reading import (
    EPOCH,
    TAIL,
    about_of,
    at_fault,
    body_of,
    condition_of,
    flag_of,
    id_of,
    keys_of,
    names_of,
    number_of,
    op_of,
    query_of,
    since_of,
    ttl_of,
    unchanged,
)
from statehold.server.service import Service
from statehold.store import AsyncCollection
from statehold.store.names import checked

LIMIT: Final = 100
"""How many ids a page has unless asked otherwise."""

_LISTED: Final = ("limit", "cursor", "subject", "prefix", "newest")
"""What says which page of which listing."""

encode: Final = msgspec.json.Encoder().encode


class Asked:
    """What every request for states of a kind says."""

    __slots__ = ("collection", "key", "kind", "tenant")

    def __init__(self, service: Service, request: Request, scope: Scope | None) -> None:
        headers = request.headers
        self.key: AccessKey = service.access.check(headers, scope)
        self.kind: str = request.path_params["kind"]
        if self.kind not in service.kinds:
            kinds = ", ".join(service.kinds)
            raise Problem("unknown_kind", f"no kind {self.kind!r:.80}; there are {kinds}")
        self.tenant = tenant_of(headers, self.key)
        self.collection: AsyncCollection[Any] = service.collection(self.kind, self.tenant)


def answer(body: Any, revision: Revision | None = None) -> Response:
    """The body as JSON, with the revision as its entity tag."""
    headers = None if revision is None else {"ETag": f'"{revision}"'}
    return Response(encode(body), 200, headers, "application/json")


class States:
    """Reading, changing and deleting one state, and listing ids."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def get(self, request: Request) -> Response:
        """The state, or those of its fields that are asked for."""
        asked = Asked(self._service, request, "read")
        id = id_of(request)
        query = query_of(request, "fields", "tail", "entries", "after", "limit")
        fields = names_of(query.get("fields"))
        tail = number_of(query.get("tail"), "tail", most=TAIL)
        after = number_of(query.get("after"), "after", least=0, most=BEYOND)
        limit = number_of(query.get("limit"), "limit", most=TAIL)
        if fields:
            at_fault(asked.collection.schema.stored_names, fields)
        entries = keys_of(query.get("entries"), asked.collection.schema)
        tail = tail if after is None and limit is None else None
        state = await asked.collection.get(
            id, fields=fields, tail=tail, entries=entries, after=after, limit=limit
        )
        revision = state.meta.revision
        if revision == ABSENT:
            raise absent(asked.kind, id)
        if unchanged(request.headers, revision):
            return Response(status_code=304, headers={"ETag": f'"{revision}"'})
        return answer(
            shown(asked.kind, state, fields, positions=after is not None or limit is not None),
            revision,
        )

    async def commit(self, request: Request) -> Response:
        """All changes of the body stand, or none does."""
        service = self._service
        asked = Asked(service, request, "write")
        collection = asked.collection
        id = id_of(request)
        headers = request.headers
        query = query_of(request, "returning", "tail", "entries")
        returning = names_of(query.get("returning"))
        tail = number_of(query.get("tail"), "tail", most=TAIL)
        if returning is not None:
            demand(asked.key, "read")
            at_fault(collection.schema.stored_names, returning)
        entries = keys_of(query.get("entries"), collection.schema)
        conditions: dict[str, Any] = {
            "op": op_of(headers),
            "since": since_of(headers),
            "epoch": number_of(
                headers.get("statehold-epoch"), "Statehold-Epoch", least=0, most=EPOCH
            )
            or 0,
            "subject": about_of(headers),
        }
        conditions["expect"] = condition_of(headers)
        conditions["ttl"] = ttl_of(headers)
        if conditions["ttl"] is not None:
            at_fault(collection.schema.lifetime, conditions["ttl"])
        changes = await body_of(request, service.config.max_body_bytes)
        edits = collection.schema.edits_from_json(changes)
        body: dict[str, Any] = {"id": id, "kind": asked.kind, "revision": None}
        try:
            done = await collection.commit(
                id, edits, **conditions, returning=returning, tail=tail, entries=entries
            )
        except (Conflict, Fenced) as error:
            raise refused(error, conditional=conditions["expect"] is not None) from error
        revision = done.revision
        body["revision"] = str(revision)
        body["repeated"] = done.repeated
        if done.state is not None:
            body["fields"] = done.state.to_json()
        service.hub.changed((asked.tenant, asked.kind, id), revision, service.store.clock.now())
        return answer(body, revision)

    async def delete(self, request: Request) -> Response:
        """The state is gone."""
        service = self._service
        asked = Asked(service, request, "write")
        id = id_of(request)
        query_of(request)
        headers = request.headers
        epoch = (
            number_of(headers.get("statehold-epoch"), "Statehold-Epoch", least=0, most=EPOCH) or 0
        )
        expect = condition_of(headers)
        try:
            gone = await asked.collection.delete(
                id, op=op_of(headers), since=since_of(headers), expect=expect, epoch=epoch
            )
        except (Conflict, Fenced) as error:
            raise refused(error, conditional=expect is not None) from error
        if not gone:
            raise absent(asked.kind, id)
        service.hub.deleted((asked.tenant, asked.kind, id))
        return Response(status_code=204)

    async def page(self, request: Request) -> Response:
        """Some ids, or the states themselves, and the cursor of the next."""
        config = self._service.config
        asked = Asked(self._service, request, "read")
        query = query_of(request, *_LISTED, "values", "fields", "tail")
        values = flag_of(query.get("values"), "values")
        most = min(config.max_page, config.max_batch) if values else config.max_page
        limit = number_of(query.get("limit"), "limit", most=most)
        subject = query.get("subject")
        if subject is not None:
            at_fault(checked, subject, "subject")
        listing: dict[str, Any] = {
            "cursor": query.get("cursor"),
            "limit": min(LIMIT, most) if limit is None else limit,
            "subject": subject,
            "prefix": query.get("prefix", ""),
            "newest": flag_of(query.get("newest"), "newest"),
        }
        if not values and ("fields" in query or "tail" in query):
            raise Problem("invalid", "fields and tail go with values", status=400, field="values")
        try:
            if values:
                return await self._states(asked, query, listing)
            ids, cursor = await asked.collection.scan_page(**listing)
        except StateholdError as error:
            raise Problem.of(error, status=400 if error.code == "invalid" else None) from error
        return answer({"kind": asked.kind, "ids": ids, "cursor": cursor})

    async def _states(
        self, asked: Asked, query: dict[str, str], listing: dict[str, Any]
    ) -> Response:
        fields = names_of(query.get("fields"))
        tail = number_of(query.get("tail"), "tail", most=TAIL)
        found, cursor = await asked.collection.get_page(**listing, fields=fields, tail=tail)
        states = [shown(asked.kind, state, fields) for state in found]
        ids = [state["id"] for state in states]
        return answer({"kind": asked.kind, "ids": ids, "states": states, "cursor": cursor})


def refused(error: StateholdError, *, conditional: bool) -> Problem:
    """409, or 412 where the request named a condition that did not hold."""
    failed = conditional and isinstance(error, Conflict)
    return Problem.of(error, status=PRECONDITION_FAILED if failed else None)
