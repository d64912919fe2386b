"""Tokens as FastAPI dependencies: a lifespan and an `Annotated` alias are the whole of it.

tokens = Tokens(keys="env:SHOP_KEYS")
app = FastAPI(lifespan=tokens.lifespan)
MyChat = Annotated[Chat, tokens.cookie(Chat, "chat")]

@app.post("/say")
async def say(text: str, chat: MyChat) -> Reply: …
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import Depends, Request

from statehold.integrations import starlette
from statehold.integrations.carriers import Body, Carrier, Cookie, Header, SameSite
from statehold.state import State

__all__ = ["Tokens"]


def _nobody() -> None:
    """No session is required: whoever the token says."""


def _no_tenant() -> str:
    """One namespace for all."""
    return ""


class Tokens(starlette.Tokens):
    """See `statehold.integrations.starlette.Tokens`; here carriers are dependencies.

    Each gives the handler a state, opened before it and committed, sealed and sent after it.
    `session` and `tenant` are dependencies of their own: callables that say, from the request,
    whose state it must be, and in which namespace.
    """

    def cookie(
        self,
        cls: type[State],
        name: str,
        *,
        session: Callable[..., Any] = _nobody,
        tenant: Callable[..., Any] = _no_tenant,
        secure: bool = True,
        http_only: bool = True,
        same_site: SameSite = "lax",
        path: str = "/",
        domain: str | None = None,
    ) -> Any:
        """The state travels in a cookie; see `Cookie` for its flags."""
        cookie = Cookie(
            name,
            secure=secure,
            http_only=http_only,
            same_site=same_site,
            path=path,
            domain=domain,
        )
        return self._around(cls, cookie, session, tenant)

    def header(
        self,
        cls: type[State],
        name: str,
        *,
        session: Callable[..., Any] = _nobody,
        tenant: Callable[..., Any] = _no_tenant,
    ) -> Any:
        """The state travels in a header of this name, both ways."""
        return self._around(cls, Header(name), session, tenant)

    def body(
        self,
        cls: type[State],
        field: str,
        *,
        session: Callable[..., Any] = _nobody,
        tenant: Callable[..., Any] = _no_tenant,
    ) -> Any:
        """The state travels in this field of the JSON bodies."""
        return self._around(cls, Body(field), session, tenant)

    def _around(
        self,
        cls: type[State],
        carrier: Carrier,
        session: Callable[..., Any],
        tenant: Callable[..., Any],
    ) -> Any:
        async def opened(
            request: Request,
            whose: str | None = Depends(session),
            where: str = Depends(tenant),
        ) -> AsyncIterator[State]:
            async with self.open(request, cls, carrier, session=whose, tenant=where) as state:
                yield state

        # "function": it ends before the response begins, so that there still are headers to set.
        return Depends(opened, scope="function")
