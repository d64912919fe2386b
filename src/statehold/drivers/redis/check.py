"""Whether the servers are as states need them: they keep what they hold, and permit what is done."""

from __future__ import annotations

import warnings
from typing import Any

from statehold.drivers.redis.client import Client
from statehold.drivers.redis.lua.scripts import RIGHTS
from statehold.errors import ConfigError
from statehold.settings import Parser, choice

EVICTION: dict[str, tuple[Parser, Any, str]] = {
    "eviction": (
        choice("refuse", "warn"),
        "refuse",
        "What to do when a server may evict keys, and so parts of a state: refuse it, or warn.",
    ),
}


async def inspect(client: Client, eviction: str) -> None:
    """Raise `ConfigError` unless every master keeps what it holds and permits what is needed."""
    denied = await client.ask_all(("EVALSHA_RO", RIGHTS.sha, 0, "sh:{}:"))
    for address, commands in denied:
        if commands:
            names = ", ".join(command.decode().lower() for command in commands)
            raise ConfigError(
                f"redis at {address}: the user may not do {names} on keys that begin with sh:",
                field="url",
                found=names,
            )
    await _inspect_eviction(client, eviction)


async def _inspect_eviction(client: Client, eviction: str) -> None:
    try:
        replies = await client.ask_all(("CONFIG", "GET", "maxmemory*"))
    except ConfigError:  # not permitted, as it often is where somebody else runs the servers
        replies = await client.ask_all(("INFO", "memory"))
    for address, reply in replies:
        told = _settings(reply)
        policy, limit = told.get("maxmemory-policy"), told.get("maxmemory")
        if policy is None or limit is None:
            warnings.warn(
                f"redis at {address}: it does not say whether it evicts keys; it should not"
                " (maxmemory-policy noeviction)",
                stacklevel=2,
            )
        elif policy != "noeviction" and limit != "0":
            message = (
                f"redis at {address}: maxmemory-policy {policy} may evict parts of a state;"
                " set it to noeviction (CONFIG SET maxmemory-policy noeviction)"
            )
            if eviction == "refuse":
                raise ConfigError(message, field="eviction", expected="noeviction", found=policy)
            warnings.warn(message, stacklevel=2)


def _settings(reply: Any) -> dict[str, str]:
    """The pairs of CONFIG GET, or the lines of INFO."""
    if isinstance(reply, bytes):
        lines = reply.decode().splitlines()
        pairs = (line.split(":", 1) for line in lines if ":" in line)
        return {name.replace("_", "-"): value for name, value in pairs}
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))
