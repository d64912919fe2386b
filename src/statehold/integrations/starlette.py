"""Tokens around the handlers of a Starlette application.

`Tokens` opens a token store for the life of an application. A *carrier* says where a request brings
its token and its response takes the new one: a cookie, a header, or a field of a JSON body.

A state is opened before the handler and committed after it, before the response begins; so a commit
that fails is answered with an error, and a handler that raises has changed nothing. Once the
response has begun no token can follow it: a state that is changed then, by a streaming body or
a background task, raises RuntimeError there.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Literal, NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request

from statehold.changes import Change
from statehold.clock import AMBIENT, Clock
from statehold.errors import (
    ConfigError,
    Conflict,
    Newer,
    Revoked,
    Stale,
    StateholdError,
    Tampered,
    TooLarge,
    Unavailable,
)
from statehold.integrations.carriers import Body, Carrier, Cookie, Header, Issued, Issuing
from statehold.state import S
from statehold.store import AsyncCollection, AsyncStore
from statehold.tokens import Jar, session_of

__all__ = ["Body", "Carrier", "Cookie", "Header", "Tokens"]

_STATUS: Final[tuple[tuple[type[StateholdError], int], ...]] = (
    (Revoked, 403),
    (Tampered, 400),
    (Newer, 409),
    (Stale, 409),
    (Conflict, 409),
    (TooLarge, 413),
    (Unavailable, 503),
)
_NOT_TO_BE_HAD: Final = (Tampered, Stale, Revoked, Newer)


def _useless(error: StateholdError) -> bool:
    """Whether the client is told to forget its token.

    A stale or newer one may have been overtaken by one that is good, or be good elsewhere; one of
    an unknown key may be good with another replica.
    """
    return isinstance(error, Tampered | Revoked) and error.found != "key"


class Tokens:
    """A token store that lives as long as an application.

    Takes what `AsyncStore.open("token:", …)` takes. `on_refused="error"` answers a token that
    cannot be had with 400 (altered), 403 (revoked) or 409 (stale, or newer than the class);
    "fresh" begins a new state instead.
    """

    def __init__(
        self,
        *,
        on_refused: Literal["error", "fresh"] = "error",
        clock: Clock | None = None,
        **settings: object,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._fresh = on_refused == "fresh"
        self._store: AsyncStore | None = None

    @property
    def store(self) -> AsyncStore:
        """The open store. Raises `ConfigError` while the application does not run."""
        if self._store is None:
            raise ConfigError("the tokens are not open: give the application their lifespan")
        return self._store

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncGenerator[None]:
        """The store is open, and responses of the application carry the tokens."""
        stack = app.middleware_stack or app.build_middleware_stack()
        async with AsyncStore.open("token:", clock=self._clock, **self._settings) as store:
            self._store = store
            app.middleware_stack = Issuing(stack)
            try:
                yield
            finally:
                app.middleware_stack = stack
                self._store = None

    @asynccontextmanager
    async def open(
        self,
        request: Request,
        cls: type[S],
        carrier: Carrier,
        *,
        session: str | None = None,
        tenant: str = "",
    ) -> AsyncGenerator[S]:
        """The state that the request brings, committed at the end and sent with the response.

        `session` is whose it must be (a token of another one is refused); without it the state is
        whose the token says, and a client without a token gets an id that no one can guess.
        Raises HTTPException where the state cannot be had or committed; nothing is issued then,
        nor if the block raises.
        """
        issue: list[Issued] = request.scope.setdefault(Issuing.SCOPE, [])
        states = self.store.collection(cls, tenant=tenant)
        try:
            try:
                token = await carrier.read(request)
                jar, block, state = await _begin(states, token, session)
            except _NOT_TO_BE_HAD:
                if not self._fresh:
                    raise
                jar, block, state = await _begin(states, None, session)
        except StateholdError as error:
            if _useless(error):
                issue.append(Issued(carrier, None, None))
            _answer(error)
        try:
            with jar:
                yield state
                await block.__aexit__(None, None, None)
        except StateholdError as error:
            _answer(error)
        state._todo = _Over(state._todo)  # noqa: SLF001  so that no change is lost in silence
        if jar.changed:
            left = None if jar.expires is None else jar.expires - self.store.clock.now()
            issue.append(Issued(carrier, jar.token, left))


def _new_session() -> str:
    """An id that no one else makes or guesses: 128 random bits in 22 characters."""
    return urlsafe_b64encode(AMBIENT.entropy(16)).rstrip(b"=").decode()


async def _begin(
    states: AsyncCollection[S], token: str | None, session: str | None
) -> tuple[Jar, AbstractAsyncContextManager[S], S]:
    if session is None:
        session = session_of(states, token) if token else None
        if session is None:  # there is none, or its time is over
            token, session = None, _new_session()
    jar = Jar(token)
    block = states.session(session)
    with jar:
        return jar, block, await block.__aenter__()


def _answer(error: StateholdError) -> NoReturn:
    """The error as a response that says nothing of the token. Other errors pass as they are."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            headers = {"Retry-After": "1"} if status == 503 else None
            raise HTTPException(status, f"{error.code}: {error}", headers) from error
    raise error


class _Over(list[Change]):
    """The changes of a state whose token has been issued."""

    def extend(self, _changes: Iterable[Change]) -> None:
        raise RuntimeError("the response has begun, and its token with it: change states before")
