"""Where requests bring tokens and responses take them: cookie, header, field of a JSON body."""

from __future__ import annotations

from abc import ABC, abstractmethod
from http.cookies import CookieError, SimpleCookie
from typing import Any, ClassVar, Final, Literal, cast

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from statehold.errors import ConfigError, Tampered

SameSite = Literal["lax", "strict", "none"]


class Issued(msgspec.Struct, frozen=True):
    """A token to send: None for the client to forget its own. `seconds` it may be kept."""

    carrier: Carrier
    token: str | None
    seconds: float | None


class Carrier(ABC):
    """A way for a token to travel."""

    @abstractmethod
    async def read(self, request: Request) -> str | None:
        """The token that the request brings."""

    def write_headers(self, headers: MutableHeaders, issued: Issued) -> None:  # noqa: B027
        """Put it into the response's headers, if that is where it goes."""

    def write_body(self, body: dict[str, Any], issued: Issued) -> None:  # noqa: B027
        """Put it into the response's JSON object, if that is where it goes."""

    in_body: ClassVar[bool] = False


class Cookie(Carrier):
    """A cookie that only this host gets back: over TLS, not for scripts, not from other sites.

    The name gets the prefix `__Host-` where its rules hold (secure, path "/", no domain). A page may
    read it only with `http_only=False`, which is of use for tokens that are signed and readable.
    """

    def __init__(
        self,
        name: str,
        *,
        secure: bool = True,
        http_only: bool = True,
        same_site: SameSite = "lax",
        path: str = "/",
        domain: str | None = None,
    ) -> None:
        if same_site == "none" and not secure:
            raise ConfigError("cookie: same_site='none' needs secure=True", field="same_site")
        host_only = secure and path == "/" and domain is None
        self.name = f"__Host-{name}" if host_only else name
        self._attributes: dict[str, Any] = {"path": path, "samesite": same_site}
        if secure:
            self._attributes["secure"] = True
        if http_only:
            self._attributes["httponly"] = True
        if domain is not None:
            self._attributes["domain"] = domain
        try:
            self._write("", None)
        except CookieError as error:
            raise ConfigError(f"cookie: {error}", field="name") from None

    async def read(self, request: Request) -> str | None:
        """The token in the cookie; None if there is none."""
        return request.cookies.get(self.name) or None

    def write_headers(self, headers: MutableHeaders, issued: Issued) -> None:
        """Add a `Set-Cookie` with the token, or one that has the client forget it."""
        text = (
            self._write("", 0.0)
            if issued.token is None
            else self._write(issued.token, issued.seconds)
        )
        headers.append("set-cookie", text)

    def _write(self, value: str, seconds: float | None) -> str:
        cookie: SimpleCookie = SimpleCookie()
        cookie[self.name] = value
        morsel = cookie[self.name]
        for name, attribute in self._attributes.items():
            morsel[name] = attribute
        if seconds is not None:
            morsel["max-age"] = str(max(0, int(seconds)))
        return morsel.OutputString()


class Header(Carrier):
    """A header of this name, in the request and in the response; empty: to be forgotten."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def read(self, request: Request) -> str | None:
        """The token in the header; None if there is none."""
        return request.headers.get(self.name) or None

    def write_headers(self, headers: MutableHeaders, issued: Issued) -> None:
        """Set the header to the token, or to nothing where the client is to forget it."""
        headers[self.name] = issued.token or ""


class Body(Carrier):
    """A field of the JSON object in the request's body, and of that in the response's.

    Null or no field is no token; anything else that is no text is refused. The response must not be
    compressed where the token is put in: compress around the application, not within it.
    """

    in_body: ClassVar[bool] = True

    def __init__(self, field: str) -> None:
        self.field = field

    async def read(self, request: Request) -> str | None:
        """The token in the field; None if there is none. Raises `Tampered` for what is no text."""
        try:
            body = msgspec.json.decode(await request.body() or b"null")
        except (msgspec.DecodeError, RecursionError):
            return None  # for the handler to refuse
        found = cast("dict[str, Any]", body).get(self.field) if isinstance(body, dict) else None
        if not isinstance(found, str | None):
            raise Tampered("the token is not to be trusted: not a text", found="form")
        return found or None

    def write_body(self, body: dict[str, Any], issued: Issued) -> None:
        """Set the field to the token, or to null where the client is to forget it."""
        body[self.field] = issued.token


_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Issuing:
    """Around an application: responses carry the tokens that their request's scope lists."""

    SCOPE: ClassVar = "statehold.issued"

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; what `scope` lists by then goes with the response."""
        if scope["type"] == "http":
            issue: list[Issued] = []
            scope = {**scope, self.SCOPE: issue}
            send = _Response(send, issue)
        await self._app(scope, receive, send)


class _Response:
    """Passes a response on, with the tokens added; a JSON object that gets one is held back whole."""

    def __init__(self, send: Send, issue: list[Issued]) -> None:
        self._send = send
        self._issue = issue
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._issue:
            headers = MutableHeaders(scope=message)
            for issued in self._issue:
                issued.carrier.write_headers(headers, issued)
            headers["cache-control"] = "no-store"
            if any(issued.carrier.in_body and issued.token for issued in self._issue):
                encoding = headers.get("content-encoding", "identity")
                if encoding != "identity":
                    raise RuntimeError(
                        f"a token in the body needs a response without content-encoding ({encoding}): "
                        "compress around the application, not within it"
                    )
                self._start = message
                return
        elif message["type"] == "http.response.body" and self._start is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._rewritten(self._start)
            return
        await self._send(message)

    async def _rewritten(self, start: Message) -> None:
        try:
            body: dict[str, Any] = dict(_object(bytes(self._body)))
        except msgspec.DecodeError:
            raise ConfigError(
                "a token in the body needs a response that is a JSON object"
            ) from None
        for issued in self._issue:
            issued.carrier.write_body(body, issued)
        data = msgspec.json.encode(body)
        MutableHeaders(scope=start)["content-length"] = str(len(data))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": data})
