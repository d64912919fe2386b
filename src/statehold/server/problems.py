"""Errors as `application/problem+json` (RFC 9457), with the library's error codes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from statehold.commits import Revision
from statehold.errors import StateholdError

STATUS: Final[dict[str, tuple[int, str]]] = {
    "invalid": (422, "Not acceptable; nothing was written"),
    "too_large": (413, "Over a bound; nothing was written"),
    "conflict": (409, "The state is not at the expected revision; nothing was written"),
    "fenced": (409, "A newer epoch has written the state; nothing was written"),
    "leased": (409, "Another holds the lease; nothing was written"),
    "reused": (422, "The Idempotency-Key stands for something else; nothing was written"),
    "repeated": (409, "It was done before, under this Idempotency-Key; nothing was written now"),
    "in_doubt": (409, "Whether it was written before is not known; nothing was written now"),
    "corrupted": (500, "What is stored is not what it should be"),
    "unsupported": (501, "The backend does not support this"),
    "unavailable": (503, "The store cannot answer"),
    "timeout": (503, "The store did not answer in time; repeat it with the same Idempotency-Key"),
    "busy": (503, "Another writer holds the store; nothing was written"),
    "full": (503, "The store has no room left; nothing was written"),
    "read_only": (503, "The store may be read but not written"),
    "closed": (503, "The store was closed"),
    "not_a_store": (503, "What was opened is not a statehold store"),
    "tampered": (400, "The token cannot be trusted"),
    "stale": (409, "Newer tokens were issued since"),
    "revoked": (403, "The token was revoked"),
    "newer": (409, "The token was written by a newer version"),
    "wrong_thread": (500, "The store was used where it cannot be"),
    "config": (500, "The configuration is wrong"),
    "schema": (500, "A kind is declared wrongly"),
    "error": (500, "Something went wrong"),
}
"""The status and title of each of the library's error codes."""

SERVER_STATUS: Final[dict[str, tuple[int, str]]] = {
    "malformed": (400, "The request cannot be read"),
    "unauthorized": (401, "Missing or unknown API key"),
    "forbidden": (403, "The API key does not allow this"),
    "absent": (404, "State not found"),
    "unknown_kind": (404, "Kind not found"),
    "not_found": (404, "Path not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "unsupported_media_type": (415, "The body must be JSON"),
    "misdirected": (421, "The request is addressed to another host"),
    "too_many_watchers": (503, "No more watches are possible at this time"),
    "internal": (500, "Something went wrong"),
}
"""The status and title of the codes that only the server uses."""

PRECONDITION_FAILED: Final = 412


class Problem(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        field: str | None = None,
        expected: Any = None,
        found: Any = None,
        headers: dict[str, str] | None = None,
        retry: bool = False,
    ) -> None:
        super().__init__(detail)
        known = STATUS.get(code) or SERVER_STATUS[code]
        self.status = known[0] if status is None else status
        self.headers = headers
        self.retry = retry
        self.body: dict[str, Any] = {
            "type": f"urn:statehold:problem:{code}",
            "title": known[1],
            "status": self.status,
            "detail": detail,
            "code": code,
        }
        for name, value in (("field", field), ("expected", expected), ("found", found)):
            shown = _shown(value)
            if shown is not None:
                self.body[name] = shown

    @classmethod
    def of(cls, error: StateholdError, *, status: int | None = None) -> Problem:
        """The answer for one of the library's errors; other than its own status if said."""
        code = next(
            code
            for leaf in type(error).__mro__
            if (code := getattr(leaf, "code", "error")) in STATUS  # one of a third party's own
        )
        return cls(
            code,
            str(error),
            status=status,
            field=error.field,
            expected=error.expected,
            found=error.found,
            retry=error.retryable,
        )

    def response(self, retry_after: float) -> Response:
        """The answer; says when to try again if that may help."""
        headers = dict(self.headers or {})
        if self.retry or self.body["code"] == "too_many_watchers":
            headers["Retry-After"] = str(math.ceil(retry_after))
        return Response(
            msgspec.json.encode(self.body), self.status, headers, "application/problem+json"
        )


def absent(kind: str, id: str) -> Problem:
    """The state was not found."""
    return Problem("absent", f"{kind} {id!r:.120}: not found")


def malformed(detail: str, field: str | None = None) -> Problem:
    """The request cannot be read."""
    return Problem("malformed", detail, field=field)


def of_http(request: Request, error: HTTPException, kinds: Iterable[str]) -> Problem:
    """The answer where there is no route, or not for this method."""
    path = request.scope["path"]
    if error.status_code == 405:
        headers = {"Allow": ", ".join(sorted(_allowed(request)))}
        detail = f"{request.method} is not for {path:.120}"
        return Problem("method_not_allowed", detail, headers=headers)
    if error.status_code == 404:
        return Problem("not_found", f"{path:.120}: not found; kinds are {', '.join(kinds)}")
    return Problem("malformed", str(error.detail), status=error.status_code)


def _allowed(request: Request) -> set[str]:
    """The methods of the routes of this path; of the one with the fewest variables, if several."""
    routes = [
        route
        for route in request.app.routes
        if isinstance(route, Route) and route.path_regex.match(request.scope["path"])
    ]
    paths = {route.path for route in routes}
    nearest = min(paths, key=lambda path: path.count("{"), default="")
    return {method for route in routes if route.path == nearest for method in route.methods or ()}


def _shown(value: Any) -> Any:
    """A value as far as it is safe and short: never one that a caller has sent to be stored."""
    if isinstance(value, Revision):
        return str(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str) and len(value) <= 80 else None
