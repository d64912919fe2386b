"""Many commits and reads of one kind in one request, each with a result of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from statehold.client.local import shown
from statehold.commits import ABSENT, PRESENT, Revision
from statehold.config.shapes import is_list
from statehold.errors import Invalid, StateholdError, TooLarge, Unavailable
from statehold.server.access import demand
from statehold.server.problems import Problem, absent, malformed
from statehold.server.reading import TAIL, body_of, query_of, table
from statehold.server.service import Service
from statehold.server.states import Asked, answer, refused
from statehold.store.names import checked, checked_epoch, checked_time

COMMIT: Final = ("id", "changes", "op", "since", "expect", "epoch", "subject", "ttl")
READ: Final = ("ids", "fields", "tail", "entries")


class Batch:
    """`{"commit": [{"id", "changes", …}], "read": {"ids": […], "fields": […], "tail": 20}}`.

    The commits are made in the order given, then the states are read. One that fails leaves the
    others alone.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def run(self, request: Request) -> Response:
        """What became of each."""
        asked = Asked(self._service, request, None)
        query_of(request)
        if "idempotency-key" in request.headers:
            raise malformed(
                "Idempotency-Key: a batch has one for each commit, its `op`", "Idempotency-Key"
            )
        given = table(await body_of(request, self._service.config.max_body_bytes), "body")
        known(given, ("commit", "read"), "body")
        commits = self._listed(given.get("commit", []), "commit")
        reads = table(given.get("read", {"ids": []}), "read")
        known(reads, READ, "read")
        ids = self._listed(reads.get("ids", []), "ids")
        wanted = _wanted(asked, reads)
        if commits:
            demand(asked.key, "write")
        if ids:
            demand(asked.key, "read")
        results: dict[str, list[dict[str, Any]]] = {"commit": [], "read": []}
        if commits:
            results["commit"] = await self._commits(asked, commits)
        if ids:
            results["read"] = await self._reads(asked, ids, **wanted)
        everything = [*results["commit"], *results["read"]]
        if everything and all(result["status"] == 503 for result in everything):
            detail = "none of it could be answered; repeat it with the same op ids"
            raise Problem(everything[0]["code"], detail, retry=True)
        return answer(results)

    def _listed(self, value: Any, what: str) -> list[Any]:
        if not is_list(value):
            raise Invalid(f"{what}: must be a list", field=what)
        most = self._service.config.max_batch
        if len(value) > most:
            raise TooLarge(
                f"{what}: {len(value)} of them, at most {most} in one batch",
                field=what,
                expected=most,
                found=len(value),
            )
        return value

    async def _commits(self, asked: Asked, commits: list[Any]) -> list[dict[str, Any]]:
        if self._service.metrics.suspends:  # then they go down together, in this order
            return list(await asyncio.gather(*(self._commit(asked, item) for item in commits)))
        return [await self._commit(asked, item) for item in commits]

    async def _commit(self, asked: Asked, item: Any) -> dict[str, Any]:
        service = self._service
        id: Any = None
        expect: Revision | None = None
        try:
            table(item, "commit")
            known(item, COMMIT, "commit")
            id = checked(item.get("id"), "id")
            edits = asked.collection.schema.edits_from_json(item.get("changes", {}))
            expect = expected(item.get("expect"))
            epoch = 0 if item.get("epoch") is None else whole(item["epoch"])
            checked_epoch(epoch)
            since = item.get("since")
            if since is not None:
                since = checked_time(since, "since")
            written = await asked.collection.commit(
                id,
                edits,
                op=item.get("op"),
                since=None if item.get("op") is None else since,
                expect=expect,
                epoch=epoch,
                subject=item.get("subject"),
                ttl=lifetime_of(item.get("ttl")),
            )
        except StateholdError as error:
            return failed(id, refused(error, conditional=expect is not None))
        key = (asked.tenant, asked.kind, id)
        service.hub.changed(key, written.revision, service.store.clock.now())
        return {
            "status": 200,
            "id": id,
            "revision": str(written.revision),
            "repeated": written.repeated,
        }

    async def _reads(
        self, asked: Asked, ids: list[Any], fields: tuple[str, ...] | None, **rest: Any
    ) -> list[dict[str, Any]]:
        results: list[dict[str, Any] | None] = []
        good: list[str] = []
        for id in ids:
            try:
                good.append(checked(id, "id"))
                results.append(None)
            except Invalid as error:
                results.append(failed(id, Problem.of(error)))
        try:
            states = await asked.collection.get_many(dict.fromkeys(good), fields=fields, **rest)
        except Unavailable as error:
            return [
                result or failed(id, Problem.of(error))
                for id, result in zip(ids, results, strict=True)
            ]
        return [
            result or _read(asked.kind, id, states[id], fields)
            for id, result in zip(ids, results, strict=True)
        ]


def _wanted(asked: Asked, reads: Mapping[str, Any]) -> dict[str, Any]:
    """Which fields and how much of them. Raises `Invalid`."""
    schema = asked.collection.schema
    entries = schema.keys_from_json(reads.get("entries"))
    schema.stored_entries(entries or {})
    fields, tail = reads.get("fields"), whole(reads.get("tail"))
    if tail is not None and (
        isinstance(tail, bool) or not isinstance(tail, int) or not 1 <= tail <= TAIL
    ):
        raise Invalid(f"tail: must be from 1 to {TAIL}", field="tail", expected=TAIL)
    if fields is None:
        return {"fields": None, "tail": tail, "entries": entries}
    if not is_list(fields) or not all(isinstance(name, str) for name in fields):
        raise Invalid("fields: must be a list of names", field="fields")
    schema.stored_names(fields)
    return {"fields": tuple(fields), "tail": tail, "entries": entries}


def _read(kind: str, id: str, state: Any, fields: tuple[str, ...] | None) -> dict[str, Any]:
    if not state.meta.exists:
        return failed(id, absent(kind, id))
    return {"status": 200, **shown(kind, state, fields)}


def known(given: Mapping[str, Any], names: tuple[str, ...], what: str) -> None:
    """Raise `Invalid` unless all that was given is among the names."""
    for name in given:
        if name not in names:
            raise Invalid(f"{what}: no {name!r:.80}; there are {', '.join(names)}", field=name[:80])


def expected(value: Any) -> Revision | None:
    """The condition that a batch's commit names. Raises `Invalid`."""
    if value is None:
        return None
    if value in ("absent", "present"):
        return ABSENT if value == "absent" else PRESENT
    try:
        return Revision.parse(value)
    except (ValueError, AttributeError):
        raise Invalid("expect: a revision, absent or present", field="expect") from None


def whole(value: Any) -> Any:
    """The value, as an int if it is a whole number: 1.0 is 1 to other languages, and in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def lifetime_of(value: Any) -> Any:
    """The ttl that a batch's commit names: a number. Raises `Invalid`."""
    if isinstance(value, str):  # which a class may say, as "30s"
        raise Invalid("ttl: must be seconds", field="ttl", found=value)
    return value


def failed(id: Any, problem: Problem) -> dict[str, Any]:
    """The result of what could not be done."""
    return {**problem.body, "id": id if isinstance(id, str) else None}
