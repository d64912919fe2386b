"""`RedisSentinel`: a master, two replicas, and three sentinels that choose another master."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import Self

from statehold.testing.servers.group import QUICK, RedisGroup, is_replicating
from statehold.testing.servers.processes import wait_for
from statehold.testing.servers.redis import RedisServer, Setting, quoted, secured
from statehold.testing.servers.resp import ErrorReply
from statehold.testing.servers.server import HOST, free_port, new_folder


class RedisSentinel(RedisGroup):
    """Three servers of which one is the master, and three sentinels that watch over them.

    ```python
    with RedisSentinel.start() as sentinel:
        old = sentinel.master()
        old.kill()
        new = sentinel.new_master(other_than=old)     # when all sentinels know it
    ```
    """

    def __init__(
        self,
        servers: list[RedisServer],
        sentinels: list[RedisServer],
        *,
        name: str,
        password: str | None,
    ) -> None:
        """Use `start`."""
        self.servers = servers
        self.sentinels = sentinels
        self.name = name
        self.password = password

    @classmethod
    def start(
        cls,
        *,
        name: str = "statehold",
        down_after_ms: int = 1000,
        failover_timeout_ms: int = 3000,
        appendonly: bool = False,
        password: str | None = None,
        tls: bool = False,
        config: Mapping[str, Setting] | None = None,
    ) -> Self:
        """Servers that replicate, and sentinels that know them and each other.

        Args:
            name: What the sentinels call the master.
            down_after_ms: How long a server may be silent before a sentinel takes it for down.
            failover_timeout_ms: How long one attempt at a failover may take.
            appendonly: As of `RedisServer.start`.
            password: Of the servers; the sentinels ask for none.
            tls: TLS only, of the sentinels too, all with the certificate in `certificate`.
            config: Further lines of the servers' redis.conf.

        Raises:
            Missing, Required, DidNotStart: as `RedisServer.start`.
        """
        with ExitStack() as stack:
            servers: list[RedisServer] = []
            sentinels: list[RedisServer] = []
            for _ in range(3):
                follows = {"replicaof": f"{HOST} {servers[0].port}"} if servers else {}
                server = RedisServer.start(
                    appendonly=appendonly,
                    password=password,
                    tls=(servers[0].certificate or False) if servers else tls,
                    config={**QUICK, **follows, **(config or {})},
                )
                servers.append(stack.enter_context(server))
            for replica in servers[1:]:
                wait_for(partial(is_replicating, replica), "a replica to follow")
            # They would find each other by themselves, but not within the same second.
            known = [(free_port(), secrets.token_hex(20)) for _ in range(3)]
            for port, identity in known:
                lines: dict[str, Setting] = {
                    "sentinel": [
                        f"myid {identity}",
                        f"monitor {name} {HOST} {servers[0].port} 2",
                        *([] if password is None else [f"auth-pass {name} {quoted(password)}"]),
                        f"down-after-milliseconds {name} {down_after_ms}",
                        f"failover-timeout {name} {failover_timeout_ms}",
                        *(f"known-replica {name} {HOST} {each.port}" for each in servers[1:]),
                        *(
                            f"known-sentinel {name} {HOST} {other} {its}"
                            for other, its in known
                            if other != port
                        ),
                    ]
                }
                certificate = servers[0].certificate
                if certificate is not None:
                    lines |= secured(port, certificate)
                with new_folder("sentinel") as folder:
                    sentinel = RedisServer.launch(
                        folder, port, lines, arguments=("--sentinel",), certificate=certificate
                    )
                sentinels.append(stack.enter_context(sentinel))
            group = cls(servers, sentinels, name=name, password=password)
            wait_for(group._is_ready, "the sentinels to agree")
            stack.pop_all()
        return group

    @property
    def url(self) -> str:
        """`redis+sentinel://host:port,host:port,host:port/name`, the ports being the sentinels'."""
        return f"{self._address('sentinel', self.sentinels)}/{self.name}"

    def master(self) -> RedisServer:
        """The server that the sentinels take for the master, whether or not it is up.

        Raises:
            RuntimeError: no sentinel answers.
        """
        for sentinel in self.sentinels:
            if sentinel.is_paused:
                continue
            with suppress(OSError):
                answer = sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
                assert isinstance(answer, list)
                port = int(str(answer[1]))
                return next(server for server in self.servers if server.port == port)
        raise RuntimeError("no sentinel answers")

    def masters(self) -> list[RedisServer]:
        """The one master."""
        return [self.master()]

    def replicas(self) -> list[RedisServer]:
        """The servers that are not the master."""
        master = self.master()
        return [server for server in self.servers if server is not master]

    def new_master(self, *, other_than: RedisServer, timeout: float = 30.0) -> RedisServer:
        """The master, once all sentinels know it and it is not that one.

        Raises:
            TimeoutError: there is none after `timeout` seconds.
        """
        wait_for(lambda: self._is_agreed(other_than), "a failover", timeout=timeout)
        return self.master()

    def close(self) -> None:
        """All of it is gone, with its data. Again: nothing happens."""
        for sentinel in self.sentinels:
            sentinel.close()
        super().close()

    def _is_agreed(self, old: RedisServer) -> bool:
        master = self.master()
        if master is old or master not in self.answering():
            return False
        answers = [
            sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
            for sentinel in self.sentinels
            if sentinel.is_running() and not sentinel.is_paused
        ]
        ports = {str(answer[1]) for answer in answers if isinstance(answer, list)}
        return ports == {str(master.port)} and master.info("replication")["role"] == "master"

    def _is_ready(self) -> bool:
        try:
            for sentinel in self.sentinels:
                sentinel.cli("SENTINEL", "CKQUORUM", self.name)
        except ErrorReply:
            return False
        return all("slaves=2,sentinels=3" in each.info()["master0"] for each in self.sentinels)
