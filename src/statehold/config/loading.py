"""`Config`: from a file and the environment to something typed, or one line about what is wrong."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from statehold.backends import split
from statehold.config.keys import AccessKey, key_of
from statehold.config.kinds import class_at, kinds_of, one_line, parsed
from statehold.config.shapes import is_list, is_table
from statehold.errors import ConfigError
from statehold.settings import Settings, choice, count, duration, size, text
from statehold.state import State
from statehold.store import AsyncStore

FILE: Final = "statehold.toml"
"""The file that is read, from the current folder, unless another is named."""


def _port(value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 65535:
        raise ValueError(f"not a port: {value!r} (0 to 65535)")
    return number


def _names(value: Any) -> tuple[str, ...]:
    given: Any = value.split(",") if isinstance(value, str) else value
    if not is_list(given) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"not a list of names: {value!r}")
    return tuple(name.strip().lower() for name in given if name.strip())


SERVER: Final = Settings(
    "server",
    {
        "host": (
            text,
            "127.0.0.1",
            "The address to listen on; keys are required unless it is loopback.",
        ),
        "port": (_port, 8100, "The port to listen on; 0: any free one."),
        "max_body_bytes": (size, 1 << 20, "Maximum size of a request body."),
        "max_page": (count, 1000, "Maximum number of ids in one page of a listing."),
        "max_batch": (count, 1000, "Maximum number of commits, and of ids to read, in one batch."),
        "max_watchers": (count, 100, "Maximum number of concurrent watches."),
        "watch_interval": (
            duration,
            1.0,
            "How often a watch polls for changes not made through this server.",
        ),
        "heartbeat": (
            duration,
            15.0,
            "How often an idle watch sends a comment to keep the connection open.",
        ),
        "retry_after": (duration, 1.0, "The Retry-After sent when the store cannot answer."),
        "shutdown_timeout": (
            duration,
            10.0,
            "Maximum time for running requests to finish at shutdown.",
        ),
        "sweep_interval": (
            duration,
            600.0,
            "How long after one look for what has ended, and takes room still, the next one begins.",
        ),
        "allowed_hosts": (
            _names,
            ("127.0.0.1", "::1", "localhost"),
            "Host names accepted in requests when there are no keys.",
        ),
        "log_level": (
            choice("critical", "error", "warning", "info", "debug"),
            "info",
            "What is logged, to standard error.",
        ),
    },
)
"""The settings of `[server]`, and as STATEHOLD_… in capitals, of the environment."""

ENVIRONMENT: Final[dict[str, str]] = {
    "STATEHOLD_CONFIG": f"The file to read instead of {FILE}.",
    "STATEHOLD_BACKEND": "The URL of the backend; overrides the file's `backend`.",
    "STATEHOLD_KINDS": "More kinds: module:Class, separated by commas.",
    "STATEHOLD_SERVER_KEY": "An API key that may read and write, in addition to those of the file.",
    **{f"STATEHOLD_{name.upper()}": known[2] for name, known in SERVER.known.items()},
}
"""The environment variables that are read, and what they say."""


class ServerConfig(msgspec.Struct, frozen=True):
    """The settings of the server; durations in seconds."""

    host: str = SERVER.default("host")
    port: int = SERVER.default("port")
    max_body_bytes: int = SERVER.default("max_body_bytes")
    max_page: int = SERVER.default("max_page")
    max_batch: int = SERVER.default("max_batch")
    max_watchers: int = SERVER.default("max_watchers")
    watch_interval: float = SERVER.default("watch_interval")
    heartbeat: float = SERVER.default("heartbeat")
    retry_after: float = SERVER.default("retry_after")
    shutdown_timeout: float = SERVER.default("shutdown_timeout")
    sweep_interval: float = SERVER.default("sweep_interval")
    allowed_hosts: tuple[str, ...] = SERVER.default("allowed_hosts")
    log_level: str = SERVER.default("log_level")
    keys: tuple[AccessKey, ...] = ()

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def check(self) -> None:
        """Raise `ConfigError` if others could reach it and there are no keys."""
        if not self.loopback and not self.keys:
            raise ConfigError(
                f"server.host: {self.host} can be reached from outside and there are no keys; "
                "declare [[server.keys]], or listen on 127.0.0.1",
                field="host",
                found=self.host,
            )


class Config(msgspec.Struct, frozen=True):
    """The backend, the kinds and the server."""

    backend: str
    """The URL of the backend."""
    kinds: dict[str, type[State]]
    """The classes of the kinds, by kind."""
    settings: dict[str, Any] = {}
    """Settings of the backend beside those in the URL."""
    server: ServerConfig = ServerConfig()
    source: str = "environment"
    """Where it came from: the file's name, or "environment"."""

    def __repr__(self) -> str:
        return f"Config({self.shown_backend!r}, kinds={list(self.kinds)}, source={self.source!r})"

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        *,
        needs_kinds: bool = True,
    ) -> Config:
        """The configuration of a file, the environment having the last word.

        Without `path` it is the file that STATEHOLD_CONFIG names, or else `statehold.toml` in the
        current folder if there is one. Raises `ConfigError`, in one line; also if there are no kinds,
        unless none are needed.
        """
        env = os.environ if env is None else env
        named = path or env.get("STATEHOLD_CONFIG") or None
        file = Path(named or FILE)
        if named is None and not file.exists():
            return _config({}, "environment", Path(), env, needs_kinds=needs_kinds)
        try:
            with file.open("rb") as opened:
                tables = tomllib.load(opened)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{file}: no TOML: {one_line(error)}", field="file") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: cannot be read: {one_line(error)}", field="file") from error
        folder = file.absolute().parent
        return _config(tables, str(file), folder, env, needs_kinds=needs_kinds)

    @property
    def shown_backend(self) -> str:
        """The backend without its password and settings, for logs."""
        parts = split(self.backend)
        where = parts.netloc + parts.path
        if parts.netloc or not parts.scheme:
            where = where.rpartition("@")[2]
        return f"{parts.scheme}://{where}"

    def open(self) -> AsyncStore:
        """The store at the backend, with its settings; it is the caller's to close.

        Without `await` it is `Store.open(config.backend, **config.settings)`. Raises `ConfigError` (also for
        `token:`, which an application opens with its keys), `Unavailable` or `NotAStore`.
        """
        if split(self.backend).scheme == "token":
            raise ConfigError(
                "token: lives in the client; it cannot be served or used from the command line. An"
                ' application opens it by AsyncStore.open("token:", keys=...), and a Jar for each request',
                field="backend",
            )
        try:
            return AsyncStore.open(self.backend, **self.settings)
        except ConfigError as error:
            raise ConfigError(f"{self.source}: backend: {error}", field=error.field) from error


def _config(
    tables: dict[str, Any],
    source: str,
    folder: Path,
    env: Mapping[str, str],
    *,
    needs_kinds: bool,
) -> Config:
    at = "" if source == "environment" else f"{source}: "
    for name in tables:
        if name not in ("backend", "server", "kinds"):
            raise ConfigError(
                f"{at}no setting {name!r}; there are backend, server, kinds", field=name
            )
    backend, settings = _backend(tables.get("backend"), at, env)
    kinds = kinds_of(_table(tables, "kinds", at), f"{at}kinds", folder)
    for target in filter(None, map(str.strip, env.get("STATEHOLD_KINDS", "").split(","))):
        found = class_at(target, "STATEHOLD_KINDS", folder.absolute())
        if kinds.setdefault(found.__schema__.kind, found) is not found:
            raise ConfigError(
                f"STATEHOLD_KINDS: {found.__schema__.kind!r} is declared already", field="kinds"
            )
    server = _server(tables, at, folder, env)
    if needs_kinds and not kinds:
        raise ConfigError(
            f"{at}kinds: none; declare [kinds.chat] in {FILE}, or set STATEHOLD_KINDS=module:Class",
            field="kinds",
        )
    return Config(backend, kinds, settings, server, source)


def _backend(given: Any, at: str, env: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    if env.get("STATEHOLD_BACKEND"):
        return env["STATEHOLD_BACKEND"], {}
    if given is None:
        raise ConfigError(
            f'{at}backend: required: backend = "sqlite:///state.db", or STATEHOLD_BACKEND',
            field="backend",
        )
    settings = dict(given) if is_table(given) else {"url": given}
    url = settings.pop("url", None)
    if not isinstance(url, str) or not url:
        raise ConfigError(f'{at}backend: needs a url such as "sqlite:///state.db"', field="backend")
    return url, settings


def _server(tables: dict[str, Any], at: str, folder: Path, env: Mapping[str, str]) -> ServerConfig:
    given = dict(_table(tables, "server", at))
    declared = given.pop("keys", [])
    if not is_list(declared):
        raise ConfigError(f"{at}server.keys: must be [[server.keys]]", field="keys")
    options = parsed(SERVER, given, f"{at}server")
    for name in SERVER.known:
        variable = f"STATEHOLD_{name.upper()}"
        # Kubernetes sets NAME_PORT=tcp://… in every pod for each Service, one of this name too.
        if env.get(variable) and not (name == "port" and env[variable].startswith("tcp://")):
            try:
                options[name] = SERVER.known[name][0](env[variable])
            except ValueError as error:
                raise ConfigError(f"{variable}: {error}", field=name) from None
    keys = [
        key_of(table, f"{at}server.keys[{number}]", env, folder)
        for number, table in enumerate(declared, 1)
    ]
    if env.get("STATEHOLD_SERVER_KEY"):
        keys.append(AccessKey.of("STATEHOLD_SERVER_KEY", env["STATEHOLD_SERVER_KEY"]))
    return ServerConfig(**options, keys=tuple(keys))


def _table(tables: Mapping[str, Any], name: str, at: str) -> dict[str, Any]:
    found = tables.get(name, {})
    if not is_table(found):
        raise ConfigError(f"{at}{name}: must be a table", field=name)
    return found
