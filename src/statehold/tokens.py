"""Tokens for users: the jar, the keys, and what can be done to tokens beside opening them.

In a `with Jar(token) as jar:` block, where `token` is what the client sent (or None), the collections
of a token store find their states in the jar; afterwards `jar.token` is what the client is to keep.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Any, overload

from statehold.driver import Driver
from statehold.drivers.token import Jar, Key, KeyRing, TokenDriver
from statehold.engine import run_now
from statehold.errors import Invalid, Unsupported
from statehold.middleware.wrapper import Wrapper
from statehold.store import AsyncCollection, Collection

__all__ = ["Jar", "Key", "KeyRing", "revoke", "session_of"]


def session_of(states: AsyncCollection[Any] | Collection[Any], token: str) -> str | None:
    """The id of the session that a token belongs to; None if it has expired.

    Raises `Tampered` unless it is a genuine token of this collection's class and tenant.
    """
    core = _core(states)
    driver, _ = _driver(core)
    kind = core.schema.kind
    driver.opener.learn(core.schema.layout())
    return driver.session_of(token, core.tenant, kind, core.store.clock.now())


@overload
def revoke(
    states: AsyncCollection[Any], id: str | None = ..., *, before: datetime | float | None = ...
) -> Awaitable[None]: ...
@overload
def revoke(
    states: Collection[Any], id: str | None = ..., *, before: datetime | float | None = ...
) -> None: ...
def revoke(
    states: AsyncCollection[Any] | Collection[Any],
    id: str | None = None,
    *,
    before: datetime | float | None = None,
) -> Awaitable[None] | None:
    """The tokens of a session, or all that were issued up to a time, are `Revoked` from now on.

    `before` is a datetime with a zone, or epoch seconds. A session that was revoked can begin anew.
    Raises `Unsupported` for a store without a `registry`, `Invalid` unless one of the two is given.
    """
    if (id is None) == (before is None):
        raise Invalid("revoke takes an id or a time", field="before")
    if isinstance(before, datetime):
        if before.tzinfo is None:
            raise Invalid("before: a datetime must have a time zone", field="before")
        before = before.timestamp()
    core = _core(states)
    now = core.store.clock.now()
    schema = core.schema
    lives = [life for life in (schema.ttl, schema.max_age) if life is not None]
    driver, over = _driver(core)
    work = driver.revoke(
        core.tenant,
        schema.kind,
        id,
        before=now if before is None else before,
        life=min(lives, default=None),
        now=now,
    )
    for wrapper in reversed(over):
        work = wrapper.within(work)
    return run_now(work) if isinstance(states, Collection) else work


def _core(states: AsyncCollection[Any] | Collection[Any]) -> AsyncCollection[Any]:
    return states._core if isinstance(states, Collection) else states  # noqa: SLF001  likewise


def _driver(core: AsyncCollection[Any]) -> tuple[TokenDriver, list[Wrapper]]:
    """The driver, and what lies over it."""
    driver: Driver = core.store.driver
    over: list[Wrapper] = []
    while isinstance(driver, Wrapper):
        over.append(driver)
        driver = driver.inner
    if not isinstance(driver, TokenDriver):
        raise Unsupported("the store is not one of tokens", expected="token:")
    return driver, over
