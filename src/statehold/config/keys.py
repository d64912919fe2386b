"""Access keys: only their SHA-256 is held, wherever the key itself comes from."""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from statehold.config.shapes import is_list, is_table
from statehold.errors import ConfigError
from statehold.settings import Settings, text

Scope: TypeAlias = Literal["read", "write", "metrics"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "write", "metrics")

KEY_CHARACTERS: Final = 16
"""Fewest characters of a key."""


def _scopes(value: Any) -> frozenset[Scope]:
    given: Any = [value] if isinstance(value, str) else value
    if not is_list(given) or not given:
        raise ValueError(f"say one or more of {', '.join(SCOPES)}")
    unknown = [scope for scope in given if scope not in SCOPES]
    if unknown:
        raise ValueError(f"no scope {unknown[0]!r}; there are {', '.join(SCOPES)}")
    return frozenset(given)


def _digest(value: Any) -> bytes:
    if not isinstance(value, str) or re.fullmatch(r"[0-9a-fA-F]{64}", value) is None:
        raise ValueError("not the 64 hexadecimal digits of a SHA-256")  # never shows what it is
    return bytes.fromhex(value)


KEY: Final = Settings(
    "key",
    {
        "name": (text, None, "What the key is called in logs."),
        "sha256": (_digest, None, "The SHA-256 of the key, as 64 hexadecimal digits."),
        "env": (text, None, "The environment variable that holds the key."),
        "file": (text, None, "The file that holds the key; only its owner may read it."),
        "scopes": (_scopes, frozenset({"read", "write"}), "What it may do: read, write, metrics."),
        "tenant": (text, None, "The only tenant it may use, and its default."),
    },
)


class AccessKey(msgspec.Struct, frozen=True):
    """A key that a caller may present: its digest, what it may do, and for whom."""

    name: str
    digest: bytes
    scopes: frozenset[Scope] = frozenset({"read", "write"})
    tenant: str | None = None

    def __repr__(self) -> str:
        return f"AccessKey({self.name!r}, scopes={sorted(self.scopes)})"

    @classmethod
    def of(
        cls,
        name: str,
        key: str,
        *,
        scopes: Iterable[Scope] = ("read", "write"),
        tenant: str | None = None,
    ) -> AccessKey:
        """The access key for this secret. Raises `ConfigError` if it is under 16 characters."""
        if len(key) < KEY_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"key {name!r}: must be at least {KEY_CHARACTERS} printable ASCII characters,"
                " without spaces (openssl rand -hex 32 makes a good one)",
                field="key",
            )
        return cls(name, hashlib.sha256(key.encode()).digest(), frozenset(scopes), tenant)


def match(keys: Iterable[AccessKey], presented: bytes) -> AccessKey | None:
    """The key that was presented, if it is one of them; takes as long if it is not."""
    digest = hashlib.sha256(presented).digest()
    found: AccessKey | None = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def key_of(table: Any, at: str, env: Mapping[str, str], folder: Path) -> AccessKey:
    """The key that a `[[server.keys]]` table declares. Raises `ConfigError`, showing no secret."""
    if not is_table(table):
        raise ConfigError(f"{at}: must be a table", field="keys")
    for setting in table:
        if setting not in KEY.known:
            hint = " (keys are not written here in clear)" if setting in {"key", "value"} else ""
            raise ConfigError(
                f"{at}: no setting {setting!r}{hint}; there are {', '.join(KEY.known)}",
                field=setting,
            )
    try:
        given = KEY.parse(table)
    except ConfigError as error:
        raise ConfigError(f"{at}.{str(error).partition('.')[2]}", field=error.field) from None
    name = given.get("name")
    sources = [source for source in ("sha256", "env", "file") if source in given]
    if not name or len(sources) != 1:
        raise ConfigError(f"{at}: needs a name and one of sha256, env, file", field="keys")
    scopes = given.get("scopes", KEY.default("scopes"))
    tenant = given.get("tenant")
    if sources == ["sha256"]:
        return AccessKey(name, given["sha256"], scopes, tenant)
    try:
        if sources == ["env"]:
            secret = _from_env(given["env"], env)
        else:
            secret = _from_file(folder / given["file"])
        return AccessKey.of(name, secret, scopes=scopes, tenant=tenant)
    except (ConfigError, OSError, ValueError) as error:
        raise ConfigError(f"{at}.{sources[0]}: {error}", field=sources[0]) from None


def _from_env(name: str, env: Mapping[str, str]) -> str:
    if not env.get(name):
        raise ConfigError(f"the environment has no {name}")
    return env[name]


def _from_file(path: Path) -> str:
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path} may be read by others; chmod 600 it")
    return path.read_text("ascii").strip()
