"""States through a statehold server."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from statehold.client.base import Access, Applied
from statehold.commits import ABSENT, PRESENT, Key, Revision
from statehold.errors import (
    Closed,
    ConfigError,
    Conflict,
    Invalid,
    StateholdError,
    Timeout,
    Unavailable,
)
from statehold.store.names import Subjects

CONNECTIONS: Final = 16
"""Connections to the server at once."""

SECONDS: Final = 30.0
"""How long an answer may take."""


class Denied(StateholdError, PermissionError):
    """The server does not do this for us: the key is missing, wrong or not for this."""

    code = "denied"


_FORBIDDEN: Final = "forbidden"
_DENIALS: Final = {"unauthorized", _FORBIDDEN, "misdirected"}
_REQUESTS: Final = {"malformed", "unknown_kind", "unsupported_media_type"}


_PAGE: Final = 100
_UNAVAILABLE: Final = http.client.SERVICE_UNAVAILABLE


class _Kind(msgspec.Struct):
    kind: str
    ops: int | None = None


class _Index(msgspec.Struct):
    kinds: list[_Kind]


def _address(url: str) -> tuple[tuple[str, str, int | None], str]:
    """Scheme, host and port of a server, and the path below which it answers. Raises `ConfigError`."""
    with suppress(ValueError):  # which would show what may be a password
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname:
            return (parts.scheme, parts.hostname, parts.port), parts.path.rstrip("/")
    raise ConfigError(
        "not a server's URL (it is not shown, since there may be a password in it); say e.g."
        " http://localhost:8100",
        field="server",
    )


class _Answer(NamedTuple):
    status: int
    body: bytes


class Remote(Access):
    """The states behind a server's URL, over connections that are kept open."""

    def __init__(self, url: str, *, key: str | None = None, timeout: float = SECONDS) -> None:
        self._address, self._base = _address(url)
        self._timeout = timeout
        self._headers = {"Accept": "application/json"}
        if key:
            if not key.isascii() or not key.isprintable():  # http.client's error would show it
                raise ConfigError("the key has characters that no key has", field="key")
            self._headers["Authorization"] = f"Bearer {key}"
        self._ops: dict[str, int] | None = None
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        """Threads and connections are this process's: one that is forked off begins anew."""
        self._process = os.getpid()
        self._threads = ThreadPoolExecutor(CONNECTIONS, "statehold-client")
        self._connections: list[http.client.HTTPConnection] = []
        self._free: list[http.client.HTTPConnection] = []  # the one used last is the last

    async def get(
        self,
        key: Key,
        *,
        fields: Sequence[str] | None = None,
        tail: int | None = None,
        entries: Any = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> dict[str, Any] | None:
        """See `Access.get`."""
        query: dict[str, str] = {}
        if fields is not None:
            query["fields"] = ",".join(fields)
        for name, number in (("tail", tail), ("after", after), ("limit", limit)):
            if number is not None:
                query[name] = str(number)
        if entries is not None:
            query["entries"] = msgspec.json.encode(entries).decode()
        answer = await self._ask("GET", _path(key), query=query, headers=_tenant(key[0]))
        if answer.status == http.client.NOT_FOUND:
            return None
        found: dict[str, Any] = msgspec.json.decode(answer.body)
        return found

    async def commit(
        self,
        key: Key,
        changes: Mapping[str, Any],
        *,
        op: str | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: Subjects | None = None,
        ttl: float | None = None,
    ) -> Applied:
        """See `Access.commit`."""
        headers = _tenant(key[0]) | _conditions(expect, epoch) | _key(op)
        if subject is not None:
            headers["Statehold-Subject"] = _listed(subject)
        if ttl is not None:
            headers["Statehold-TTL"] = repr(float(ttl))
        answer = await self._ask(
            "POST", f"{_path(key)}/commit", headers=headers, body=msgspec.json.encode(changes)
        )
        found = msgspec.json.decode(answer.body)
        return Applied(Revision.parse(found["revision"]), found["repeated"])

    async def delete(
        self,
        key: Key,
        *,
        op: str | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
    ) -> bool:
        """See `Access.delete`."""
        headers = _tenant(key[0]) | _conditions(expect, epoch) | _key(op)
        answer = await self._ask("DELETE", _path(key), headers=headers)
        return answer.status != http.client.NOT_FOUND

    async def scan(
        self,
        tenant: str,
        kind: str,
        *,
        subject: str | None = None,
        prefix: str = "",
        newest: bool = False,
        cursor: str | None = None,
        limit: int = 500,
    ) -> tuple[list[str], str | None]:
        """See `Access.scan`."""
        query = _listing(subject, prefix, cursor, limit, newest=newest)
        page = await self._page(tenant, kind, query)
        return page["ids"], page["cursor"]

    async def page(
        self,
        tenant: str,
        kind: str,
        *,
        subject: str | None = None,
        prefix: str = "",
        newest: bool = False,
        cursor: str | None = None,
        limit: int = 100,
        fields: Sequence[str] | None = None,
        tail: int | None = None,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """See `Access.page`."""
        query = _listing(subject, prefix, cursor, limit, newest=newest) | {"values": "true"}
        if fields is not None:
            query["fields"] = ",".join(fields)
        if tail is not None:
            query["tail"] = str(tail)
        page = await self._page(tenant, kind, query)
        return page["states"], page["cursor"]

    async def _page(self, tenant: str, kind: str, query: dict[str, str]) -> Any:
        path = f"/v1/{quote(kind, safe='')}"
        answer = await self._ask("GET", path, query=query, headers=_tenant(tenant))
        return msgspec.json.decode(answer.body)

    async def check(self) -> None:
        """See `Access.check`. A key that the server does not know is `Denied`."""
        await self._ask("GET", "/readyz")
        try:
            await self._ask("GET", "/v1")
        except Denied as denied:
            if denied.found != _FORBIDDEN:  # it may be for writing only
                raise

    async def ops(self, kind: str) -> int | None:
        """See `Access.ops`. A server says it to those who may read."""
        if self._ops is None:
            try:
                index = msgspec.json.decode((await self._ask("GET", "/v1")).body, type=_Index)
            except Denied:
                index = _Index([])
            self._ops = {known.kind: known.ops for known in index.kinds if known.ops}
        return self._ops.get(kind)

    async def close(self) -> None:
        """See `Access.close`. Calls that are under way end with `Closed`."""
        self._closed = True
        if self._process != os.getpid():
            self._begin()  # nothing is ended that is the parent's
        for connection in self._connections:
            if connection.sock is not None:
                with suppress(OSError):  # ends what may still be waiting for an answer
                    connection.sock.shutdown(socket.SHUT_RDWR)
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        body: bytes | None = None,
    ) -> _Answer:
        if self._closed:
            raise Closed("the client is closed")
        if self._process != os.getpid():
            self._begin()
        target = self._base + path + (f"?{urlencode(query)}" if query else "")
        sent: dict[str, str | bytes] = {**self._headers, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        loop = asyncio.get_running_loop()
        ask = partial(self._exchange, method, target, sent, body)
        try:
            asked = loop.run_in_executor(self._threads, ask)
        except RuntimeError as error:  # it was closed, just now
            raise Closed("the client is closed") from error
        answer = await asked
        if answer.status >= http.client.BAD_REQUEST:
            _judge(answer)
        return answer

    def _exchange(
        self, method: str, target: str, headers: dict[str, str | bytes], body: bytes | None
    ) -> _Answer:
        if self._closed:
            raise Closed("the client was closed during the call")
        try:
            connection = self._free.pop()
        except IndexError:
            connection = self._connect()
        try:
            return self._over(connection, method, target, headers, body)
        finally:
            self._free.append(connection)

    def _over(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: dict[str, str | bytes],
        body: bytes | None,
    ) -> _Answer:
        reused = connection.sock is not None
        while True:
            try:
                connection.request(method, target, body, headers)
                if self._closed:  # which did not see this connection, perhaps
                    raise ConnectionAbortedError
                response = connection.getresponse()
                return _Answer(response.status, response.read())
            except TimeoutError as error:
                connection.close()
                raise Timeout(f"{self}: no answer within {self._timeout:g} s") from error
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # The server may close a connection that was idle, and every request that it may
                # have seen before can be sent again: a commit that matters carries its op id.
                if self._closed:
                    raise Closed("the client was closed during the call") from error
                if not (reused and (method != "POST" or "Idempotency-Key" in headers)):
                    raise Unavailable(f"{self}: {str(error) or type(error).__name__}") from error
                reused = False

    def _connect(self) -> http.client.HTTPConnection:
        scheme, host, port = self._address
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        connection = kind(host, port, timeout=self._timeout)
        self._connections.append(connection)
        return connection

    def __str__(self) -> str:
        scheme, host, port = self._address
        return f"{scheme}://{host}" + (f":{port}" if port else "") + self._base


def _path(key: Key) -> str:
    return f"/v1/{quote(key[1], safe='')}/{quote(key[2], safe='')}"


def _listed(subject: Subjects) -> str:
    """The header's value: percent-encoded names with commas between them, and one alone for none."""
    names = [subject] if isinstance(subject, str) else list(subject)
    return ",".join(map(quote, names)) or ("," if not names else "")


def _listing(
    subject: str | None, prefix: str, cursor: str | None, limit: int, *, newest: bool
) -> dict[str, str]:
    """What a listing's page is asked for by."""
    query: dict[str, str] = {}
    if limit < _PAGE:  # more than its usual page the server may refuse
        query["limit"] = str(limit)
    if subject is not None:
        query["subject"] = subject
    if prefix:
        query["prefix"] = prefix
    if newest:
        query["newest"] = "true"
    if cursor is not None:
        query["cursor"] = cursor
    return query


def _tenant(tenant: str) -> dict[str, str]:
    return {"Statehold-Tenant": quote(tenant)} if tenant else {}


def _key(op: str | None) -> dict[str, str | bytes]:
    if op is None:
        return {}
    if op != op.strip() or not op.isprintable():
        raise Invalid(f"op: {op!r:.80} cannot be sent in a header", field="op", found=op)
    return {"Idempotency-Key": op.encode()}


def _conditions(expect: Revision | None, epoch: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    if expect == ABSENT:
        headers["If-None-Match"] = "*"
    elif expect is not None:
        headers["If-Match"] = "*" if expect == PRESENT else f'"{expect}"'
    if epoch:
        headers["Statehold-Epoch"] = str(epoch)
    return headers


def _errors(
    root: type[StateholdError] = StateholdError,
) -> Iterator[tuple[str, type[StateholdError]]]:
    yield root.code, root
    for leaf in root.__subclasses__():
        yield from _errors(leaf)


def _judge(answer: _Answer) -> None:
    """Raise the library's error that the server's answer stands for; a state's absence is none."""
    try:
        problem = msgspec.json.decode(answer.body)
        code, detail = problem["code"], problem["detail"]
        field, found = problem.get("field"), problem.get("found")
    except (ValueError, KeyError, TypeError, AttributeError):
        if answer.status < http.client.INTERNAL_SERVER_ERROR:
            raise ConfigError(f"no statehold server: it answered {answer.status}") from None
        raise Unavailable(f"the server answered {answer.status}") from None
    if code == "absent":
        return
    if code in _DENIALS:
        raise Denied(detail, field=field, found=code)
    if code in _REQUESTS:
        raise Invalid(detail, field="kind" if code == "unknown_kind" else field, found=found)
    kind = dict(_errors()).get(code)
    if kind is None or (answer.status >= _UNAVAILABLE and not issubclass(kind, Unavailable)):
        kind = Unavailable if answer.status >= _UNAVAILABLE else StateholdError
    if issubclass(kind, Conflict) and isinstance(found, str):
        found = Revision.parse(found)
    raise kind(detail, field=field, found=found)
