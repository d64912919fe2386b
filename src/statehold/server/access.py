"""Who may do what: bearer keys with scopes, tenants, and the hosts that requests may name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers

from statehold.config import AccessKey, Scope, ServerConfig
from statehold.config.keys import match
from statehold.errors import Invalid
from statehold.server.problems import Problem
from statehold.store.names import checked

CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="statehold"'}
OPEN: Final = AccessKey("anyone", b"", frozenset({"read", "write", "metrics"}))
"""What a request may do where there are no keys."""

_ENCODED: Final = re.compile("(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")


class Access:
    """Decides from a request's headers."""

    def __init__(self, config: ServerConfig) -> None:
        self._keys: Sequence[AccessKey] = config.keys
        self._hosts = frozenset(config.allowed_hosts)

    @property
    def guarded(self) -> bool:
        """Whether there are keys."""
        return bool(self._keys)

    def check(self, headers: Headers, scope: Scope | None) -> AccessKey:
        """The key that was presented. Raises `Problem` unless it may do this (None: see `demand`).

        Without keys anyone may, but only under an allowed host name: a page from elsewhere that a
        browser shows may not reach a server on the same machine by a name of its own.
        """
        if not self._keys:
            host = _host(headers.get("host", ""))
            if host not in self._hosts:
                raise Problem(
                    "misdirected",
                    f"{host!r:.80} is not among server.allowed_hosts, and there are no keys",
                )
            return OPEN
        method, _, presented = headers.get("authorization", "").partition(" ")
        if method.lower() != "bearer":
            raise Problem(
                "unauthorized",
                "missing API key; send Authorization: Bearer <key>",
                headers=dict(CHALLENGE),
            )
        key = match(self._keys, presented.strip().encode("latin-1"))
        if key is None:
            raise Problem("unauthorized", "unknown API key", headers=dict(CHALLENGE))
        if scope is not None:
            demand(key, scope)
        return key


def demand(key: AccessKey, scope: Scope) -> None:
    """Raise `Problem` unless the key has the scope."""
    if scope not in key.scopes:
        raise Problem("forbidden", f"the API key lacks the scope {scope!r}", expected=scope)


def tenant_of(headers: Headers, key: AccessKey) -> str:
    """The tenant that is asked for, or the key's own. Raises `Problem`."""
    given = headers.get("statehold-tenant")
    if given is None:
        return key.tenant or ""
    tenant = from_header(given, "tenant")
    if key.tenant is not None and tenant != key.tenant:
        raise Problem("forbidden", "the API key is bound to another tenant", field="tenant")
    return tenant


def from_header(value: str, what: str) -> str:
    """The name in a header, which is percent-encoded UTF-8. Raises `Problem`."""
    if _ENCODED.fullmatch(value) is None:
        detail = f"{what}: must be percent-encoded"
        raise Problem("invalid", detail, status=400, field=what)
    try:
        return checked(unquote_to_bytes(value).decode(), what, empty=True)
    except UnicodeDecodeError:
        detail = f"{what}: not percent-encoded UTF-8"
        raise Problem("invalid", detail, status=400, field=what) from None
    except Invalid as error:
        raise Problem.of(error, status=400) from error


def _host(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()
