"""What a request says: its path, query, conditions and body. Everything wrong is a `Problem`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request

from statehold.commits import ABSENT, PRESENT, Revision
from statehold.config.shapes import is_table
from statehold.errors import Invalid, StateholdError
from statehold.schema import OP_BYTES, Schema
from statehold.server.access import from_header
from statehold.server.problems import PRECONDITION_FAILED, Problem, malformed
from statehold.store.names import checked, checked_about

R = TypeVar("R")

_DIGITS: Final = 18
"""Maximum digits of a number in a request."""

_SUBJECT: Final = "Statehold-Subject"

EPOCH: Final = 2**63 - 1
"""The largest epoch."""

TAIL: Final = 10**9
"""Maximum items of a list that can be asked for."""


def at_fault(read: Callable[..., R], *given: Any, **named: Any) -> R:
    """What `read` returns; what it finds `Invalid` is the fault of the URL or a header: 400."""
    try:
        return read(*given, **named)
    except StateholdError as error:
        raise Problem.of(error, status=400) from error


def id_of(request: Request) -> str:
    """The id in the path, which may hold any character percent-encoded."""
    try:
        id = unquote_to_bytes(request.path_params["id"]).decode()
    except UnicodeDecodeError:
        raise Problem("invalid", "id: not UTF-8", status=400, field="id") from None
    return at_fault(checked, id, "id")


def query_of(request: Request, *known: str) -> dict[str, str]:
    """The query's parameters. Raises `Problem` for one that is unknown, given twice or no UTF-8."""
    if not request.scope["query_string"]:
        return {}
    try:
        text = request.scope["query_string"].decode()
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Problem("invalid", "the query: not UTF-8", status=400, field="query") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise Problem(
                "invalid",
                f"no parameter {name!r:.80}; there are {', '.join(known) or 'none'}",
                status=400,
                field=name[:80],
            )
        if name in found:
            raise Problem("invalid", f"{name}: given twice", status=400, field=name)
        found[name] = value
    return found


def number_of(
    text: str | None, what: str, *, most: int | None = None, least: int = 1
) -> int | None:
    """A whole number, if there is one. Raises `Problem`."""
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= _DIGITS + 1:
        number = int(text)
        if least <= number and (most is None or number <= most):
            return number
    limits = f"from {least} on" if most is None else f"from {least} to {most}"
    raise Problem(
        "invalid", f"{what}: must be a whole number {limits}", status=400, field=what, expected=most
    )


def flag_of(text: str | None, what: str) -> bool:
    """Whether it is "true"; "false" if it is not there. Raises `Problem`."""
    if text in (None, "false", "true"):
        return text == "true"
    raise Problem("invalid", f"{what}: must be true or false", status=400, field=what)


def names_of(text: str | None) -> tuple[str, ...] | None:
    """Names separated by commas, if any were given."""
    if text is None:
        return None
    return tuple(text.split(",")) if text else ()


def keys_of(text: str | None, schema: Schema) -> dict[str, list[Any]] | None:
    """By field the keys of single entries, if any were given: JSON. Raises `Problem`."""
    if text is None:
        return None
    try:
        given = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise malformed(f"entries: not JSON: {error}"[:200], "entries") from None
    keys = at_fault(schema.keys_from_json, given)
    at_fault(schema.stored_entries, keys or {})
    return keys


def condition_of(headers: Headers) -> Revision | None:
    """What `If-Match` or `If-None-Match` demand of the state before a change."""
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is not None and none_match is not None:
        detail = "If-Match and If-None-Match cannot both hold"
        raise Problem("conflict", detail, status=PRECONDITION_FAILED)
    if match is not None:
        return PRESENT if match.strip() == "*" else revision_of(match)
    if none_match is None:
        return None
    if none_match.strip() != "*":
        raise malformed("If-None-Match: only * is possible here", "If-None-Match")
    return ABSENT


def revision_of(tag: str, field: str = "If-Match") -> Revision:
    """The revision that an entity tag, or its bare text, stands for."""
    text = tag.strip().removeprefix("W/").strip('"')
    try:
        return Revision.parse(text)
    except ValueError:
        detail = f"{field}: no state is at {text!r:.60}"
        raise Problem("conflict", detail, status=PRECONDITION_FAILED, field=field) from None


def unchanged(headers: Headers, revision: Revision) -> bool:
    """Whether `If-None-Match` names this revision."""
    given = headers.get("if-none-match")
    if given is None:
        return False
    tags = (tag.strip().removeprefix("W/").strip('"') for tag in given.split(","))
    return given.strip() == "*" or str(revision) in tags


def about_of(headers: Headers) -> list[str] | None:
    """Whom a state is to be about: names with commas between them, one alone for nobody."""
    given = headers.getlist(_SUBJECT)
    if not given:
        return None
    text = ",".join(given)
    if text.strip() == ",":
        return []
    about = [from_header(one.strip(), _SUBJECT) for one in text.split(",")]
    if "" in about:
        detail = f"{_SUBJECT}: a name is empty; a comma alone says that it is about nobody"
        raise Problem("invalid", detail, status=400, field=_SUBJECT)
    at_fault(checked_about, about)
    return about


def op_of(headers: Headers) -> str | None:
    """The op id: `Idempotency-Key` as it is, in UTF-8."""
    given = headers.get("idempotency-key")
    if given is None:
        return None
    try:
        op = given.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise malformed("Idempotency-Key: not UTF-8", "Idempotency-Key") from None
    return at_fault(checked, op, "Idempotency-Key", limit=OP_BYTES)


def since_of(headers: Headers) -> float | None:
    """When the request was first sent, epoch seconds: `Statehold-Since`. None without a key."""
    given = headers.get("statehold-since")
    if given is None:
        return None
    try:
        since = float(given)
    except ValueError:
        since = math.nan
    if not 0 <= since < math.inf:
        raise malformed("Statehold-Since: not epoch seconds", "Statehold-Since")
    return since if "idempotency-key" in headers else None


def ttl_of(headers: Headers) -> float | None:
    """How long the state is to live from now on, in seconds: `Statehold-TTL`."""
    given = headers.get("statehold-ttl")
    if given is None:
        return None
    try:
        return float(given)
    except ValueError:
        raise malformed("Statehold-TTL: not seconds", "Statehold-TTL") from None


async def body_of(request: Request, limit: int) -> Any:
    """The JSON of the body, of at most `limit` bytes. Raises `Problem`."""
    headers = request.headers
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        raise Problem(
            "unsupported_media_type", "say Content-Type: application/json", found=media or None
        )
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem("unsupported_media_type", "a compressed body is not read")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:_DIGITS]) > limit:
        raise _too_long(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_long(limit)
        chunks.append(chunk)
    try:
        return msgspec.json.decode(b"".join(chunks))
    except (ValueError, RecursionError) as error:
        raise malformed(f"not JSON: {error}"[:200], "body") from None


def _too_long(limit: int) -> Problem:
    return Problem(
        "too_large",
        f"a body of more than {limit} bytes",
        field="body",
        expected=limit,
        headers={"Connection": "close"},
    )


def table(value: Any, what: str) -> dict[str, Any]:
    """The value, if it is an object. Raises `Invalid`."""
    if not is_table(value):
        raise Invalid(f"{what}: must be an object", field=what)
    return value
