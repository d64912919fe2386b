"""What a URL and the settings say about the servers: where, how secured, as whom, for how long."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import SplitResult, unquote

import msgspec

from statehold.errors import ConfigError
from statehold.settings import Parser, boolean, count, duration, text

Mode = Literal["single", "sentinel", "cluster"]

PORT = 6379
SENTINEL_PORT = 26379


class Address(NamedTuple):
    """A host and a port, 0 for none; as text with brackets round an IPv6 address."""

    host: str
    port: int

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def natural(value: Any) -> int:
    """A whole number of at least 0."""
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"not a whole number of at least 0: {value!r}")
    return number


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a connection, parsed, with their defaults; what each means is in `CONNECTION`."""

    timeout: float = 2.0
    connect_timeout: float = 1.0
    max_pending: int = 10_000
    db: int = 0
    client_name: str = "statehold"
    password_file: str | None = None
    sentinel_username: str | None = None
    sentinel_password_file: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_verify: bool = True
    wait_replicas: int = 0
    wait_timeout: float = 0.5


_DEFAULTS = Options()
_MEANT: dict[str, tuple[Parser, str]] = {
    "timeout": (
        duration,
        "Maximum seconds of a call, waiting for a connection and retries included.",
    ),
    "connect_timeout": (duration, "Maximum seconds of one attempt to connect."),
    "max_pending": (
        count,
        "Maximum commands waiting at one connection; a call beyond that is `Busy`.",
    ),
    "db": (natural, "Number of the database; a cluster has only 0."),
    "client_name": (text, "What `CLIENT LIST` calls the connections; empty for none."),
    "password_file": (
        text,
        "File with the password, read anew for each connection so that it may be changed.",
    ),
    "sentinel_username": (text, "User at the sentinels, if they ask for one."),
    "sentinel_password_file": (text, "File with the password for the sentinels."),
    "tls_ca": (text, "File of the authorities to trust instead of the system's."),
    "tls_cert": (text, "File of the client's certificate."),
    "tls_key": (text, "File of its key, unless that is in `tls_cert`."),
    "tls_verify": (
        boolean,
        "Whether the server must prove who it is; without, anyone in between can read and alter.",
    ),
    "wait_replicas": (natural, "Replicas that must confirm a write before it is acknowledged."),
    "wait_timeout": (
        duration,
        "Maximum seconds to wait for them; a write with fewer confirmations is a `Timeout`.",
    ),
}
CONNECTION: dict[str, tuple[Parser, Any, str]] = {
    name: (parser, getattr(_DEFAULTS, name), meaning) for name, (parser, meaning) in _MEANT.items()
}
"""The settings of a connection: name → (parser, default, what it means)."""


class Login(msgspec.Struct, frozen=True):
    """Who one is to a server. The password never appears in a text."""

    username: str | None = None
    password: str | None = None
    password_file: str | None = None

    def secret(self) -> str | None:
        """The password as it is now. Raises `ConfigError` if its file cannot be read."""
        if self.password_file is None:
            return self.password
        try:
            return Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"redis: the password file cannot be read: {error}", field="password_file"
            ) from error

    def __repr__(self) -> str:
        return f"Login({self.username!r})"

    __str__ = __repr__


class Target(msgspec.Struct, frozen=True):
    """The servers that a URL names."""

    mode: Mode
    addresses: tuple[Address, ...]
    """Of the server, of the sentinels, or of some nodes of the cluster."""
    login: Login
    tls: ssl.SSLContext | None
    db: int
    master: str = ""
    """What the sentinels call it."""
    sentinel_login: Login = Login()


_MODES: dict[str, Mode] = {"": "single", "+sentinel": "sentinel", "+cluster": "cluster"}
_SCHEMES: dict[str, tuple[Mode, bool]] = {
    base + suffix: (mode, base in ("rediss", "valkeys"))
    for base in ("redis", "rediss", "valkey", "valkeys")
    for suffix, mode in _MODES.items()
}
SCHEMES = tuple(_SCHEMES)
"""The schemes of the URLs that `target_of` takes."""


def target_of(url: SplitResult, options: Options) -> Target:
    """What the URL names. Raises `ConfigError`, which never shows the password."""
    mode, secured = _SCHEMES[url.scheme]
    who, _, where = url.netloc.rpartition("@")
    name, _, password = who.partition(":")
    if name and not password and options.password_file is None:
        raise ConfigError(
            "redis: a user without a password (the name is not shown, as it may be one): say"
            f" {url.scheme}://name:password@host, {url.scheme}://:password@host for a password alone,"
            " or password_file",
            field="url",
        )
    if password and options.password_file is not None:
        raise ConfigError(
            "redis: the password is given twice, in the URL and as password_file",
            field="password_file",
        )
    master, db = _path(url, mode, options)
    return Target(
        mode,
        _addresses(where, mode, url.scheme),
        Login(unquote(name) or None, unquote(password) or None, options.password_file),
        _tls(url.scheme, options, secured=secured),
        db,
        master,
        Login(options.sentinel_username, None, options.sentinel_password_file),
    )


def _path(url: SplitResult, mode: Mode, options: Options) -> tuple[str, int]:
    """The name of the master and the number of the database."""
    path = [unquote(part) for part in url.path.split("/")[1:] if part]
    master, db = "", options.db
    if mode == "sentinel":
        if not path:
            raise ConfigError(
                f"{url.scheme}: name the master: {url.scheme}://host1,host2/mymaster", field="url"
            )
        master = path.pop(0)
    if path:
        if len(path) > 1 or not re.fullmatch(r"[0-9]{1,6}", path[0]) or db not in (0, int(path[0])):
            raise ConfigError(
                f"{url.scheme}: after the host may stand the number of one database", field="url"
            )
        db = int(path[0])
    if mode == "cluster" and db:
        raise ConfigError(f"{url.scheme}: a cluster has only database 0", field="db", found=db)
    return master, db


def _addresses(where: str, mode: Mode, scheme: str) -> tuple[Address, ...]:
    port = SENTINEL_PORT if mode == "sentinel" else PORT
    addresses = tuple(_address(part, port) for part in where.split(","))
    if mode == "single" and len(addresses) > 1:
        raise ConfigError(
            f"{scheme}: several hosts need {scheme}+sentinel:// or {scheme}+cluster://", field="url"
        )
    return addresses


def _address(part: str, port: int) -> Address:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:@,/]*))(?::([0-9]{1,5}))?", part)
    if match is None or (match[3] and not 0 < int(match[3]) < 65536):
        raise ConfigError("redis: not a host, host:port or [address]:port", field="url")
    host = match[1] or unquote(match[2]) or "localhost"
    return Address(host, int(match[3]) if match[3] else port)


def _tls(scheme: str, options: Options, *, secured: bool) -> ssl.SSLContext | None:
    if not secured:
        for name in ("tls_ca", "tls_cert", "tls_key"):
            if getattr(options, name) is not None:
                raise ConfigError(
                    f"{scheme}: {name} needs a scheme with TLS, such as rediss://", field=name
                )
        return None
    try:
        context = ssl.create_default_context(cafile=options.tls_ca)
        if options.tls_cert is not None:
            context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"redis: TLS cannot be set up: {error}", field="tls_ca") from error
    if not options.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
