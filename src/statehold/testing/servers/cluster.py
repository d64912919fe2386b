"""`RedisCluster`: three masters that share the keys, and a replica of each."""

from __future__ import annotations

import binascii
import itertools
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Final, Self

from statehold.testing.servers.group import QUICK, RedisGroup, is_replicating
from statehold.testing.servers.processes import wait_for
from statehold.testing.servers.redis import RedisServer, Setting
from statehold.testing.servers.resp import ErrorReply
from statehold.testing.servers.server import free_port

SLOTS: Final = 16_384
# Which of the slots each of the masters has at first.
SHARES: Final = ((0, 5460), (5461, 10922), (10923, 16383))


class RedisCluster(RedisGroup):
    """Six nodes: `servers[0]` to `[2]` begin as the masters, `[3]` to `[5]` as their replicas.

    ```python
    with RedisCluster.start() as cluster:
        old = cluster.master_of("a")
        old.kill()
        new = cluster.new_master_of("a", other_than=old)     # when all is served again
    ```
    """

    def __init__(self, servers: list[RedisServer], *, password: str | None) -> None:
        """Use `start`."""
        self.servers = servers
        self.password = password

    @classmethod
    def start(
        cls,
        *,
        node_timeout_ms: int = 1500,
        appendonly: bool = False,
        password: str | None = None,
        tls: bool = False,
        config: Mapping[str, Setting] | None = None,
    ) -> Self:
        """Nodes that know each other, serve all slots and replicate.

        Args:
            node_timeout_ms: How long a node may be silent before the others take it for down.
            appendonly: As of `RedisServer.start`.
            password: Of all nodes.
            tls: TLS only, between the nodes too, all with the certificate in `certificate`.
            config: Further lines of redis.conf.

        Raises:
            Missing, Required, DidNotStart: as `RedisServer.start`.
            TimeoutError: the nodes run, and do not agree.
        """
        with ExitStack() as stack:
            servers: list[RedisServer] = []
            buses: list[int] = []
            for _ in range(6):
                buses.append(free_port())
                lines: dict[str, Setting] = {
                    "cluster-enabled": "yes",
                    "cluster-port": buses[-1],
                    "cluster-node-timeout": node_timeout_ms,
                    "cluster-replica-validity-factor": 0,  # a late replica is better than none
                    **({"tls-cluster": "yes"} if tls else {}),
                    **QUICK,
                    **(config or {}),
                }
                server = RedisServer.start(
                    appendonly=appendonly,
                    password=password,
                    tls=(servers[0].certificate or False) if servers else tls,
                    config=lines,
                )
                servers.append(stack.enter_context(server))
            for number, (server, share) in enumerate(zip(servers, SHARES, strict=False), 1):
                server.cli("CLUSTER", "SET-CONFIG-EPOCH", number)
                server.cli("CLUSTER", "ADDSLOTSRANGE", *share)
            # Introduced to each other; what the nodes tell each other takes seconds to get around.
            for (first, _), (second, bus) in itertools.combinations(
                zip(servers, buses, strict=True), 2
            ):
                first.cli("CLUSTER", "MEET", second.host, second.port, bus)
            cluster = cls(servers, password=password)
            for master, replica in zip(servers[:3], servers[3:], strict=True):
                identity = str(master.cli("CLUSTER", "MYID"))
                wait_for(partial(follows, replica, identity), "nodes to meet")
            wait_for(cluster.is_healthy, "the cluster to be complete")
            stack.pop_all()
        return cluster

    @property
    def url(self) -> str:
        """`redis+cluster://host:port,host:port,…`, all six of them; `rediss+` with TLS."""
        return self._address("cluster", self.servers)

    def masters(self) -> list[RedisServer]:
        """The servers that have slots of their own, of those that answer."""
        return [server for server in self.answering() if slots_of(server)[1]]

    def master_of(self, key: str | bytes) -> RedisServer:
        """The server that has the slot of `key`, of those that answer.

        Raises:
            LookupError: the one that had it is down, and there is no other yet.
        """
        slot = slot_of(key)
        answering = self.answering()
        owners = [
            (epoch, number)
            for number, server in enumerate(self.servers)
            if server in answering
            for epoch, ranges in [slots_of(server)]
            if any(first <= slot <= last for first, last in ranges)
        ]
        if not owners:
            raise LookupError(f"nobody has slot {slot}")
        # One that was down and has not heard yet that it was replaced has the lower epoch.
        return self.servers[max(owners)[1]]

    def new_master_of(
        self, key: str | bytes, *, other_than: RedisServer, timeout: float = 30.0
    ) -> RedisServer:
        """The server that has the slot of `key`, once it is not that one and all is served again.

        Raises:
            TimeoutError: there is none after `timeout` seconds.
        """

        def is_promoted() -> bool:
            try:
                return self.master_of(key) is not other_than and self._serves()
            except LookupError:
                return False

        wait_for(is_promoted, "a replica to be promoted", timeout=timeout)
        return self.master_of(key)

    def is_healthy(self) -> bool:
        """Whether all six nodes run and know the same masters, and every replica follows its own."""
        if len(self.answering()) < len(self.servers) or not self._serves():
            return False
        masters = {server.port for server in self.masters()}
        return all(
            server.port in masters or is_replicating(server) for server in self.servers
        ) and all(known_masters(server) == masters for server in self.servers)

    def _serves(self) -> bool:
        """Whether the nodes that run take the cluster for one that serves every key."""
        return all(
            "cluster_state:ok" in str(server.cli("CLUSTER", "INFO")) for server in self.answering()
        )


def slot_of(key: str | bytes) -> int:
    """The slot of a key: of what is between its first braces, if anything is."""
    key = key.encode() if isinstance(key, str) else key
    _, opened, rest = key.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    return binascii.crc_hqx(tag if opened and closed and tag else key, 0) % SLOTS


def nodes(server: RedisServer) -> list[list[str]]:
    """The words of each line of CLUSTER NODES."""
    return [line.split() for line in str(server.cli("CLUSTER", "NODES")).splitlines()]


def slots_of(server: RedisServer) -> tuple[int, list[tuple[int, int]]]:
    """What a node has to say of itself: its epoch, and the ranges of slots that it owns."""
    mine = next(words for words in nodes(server) if "myself" in words[2])
    if "master" not in mine[2].split(","):
        return 0, []
    ranges = [word.split("-") for word in mine[8:] if not word.startswith("[")]
    return int(mine[6]), [(int(ends[0]), int(ends[-1])) for ends in ranges]


def known_masters(server: RedisServer) -> set[int]:
    """The ports of the nodes that a node takes for masters; of those it has yet to meet, too."""
    return {
        int(words[1].partition("@")[0].rpartition(":")[2])
        for words in nodes(server)
        if "slave" not in words[2].split(",")
    }


def follows(replica: RedisServer, master: str) -> bool:
    """Make a node the replica of another. False: they have not met yet."""
    try:
        replica.cli("CLUSTER", "REPLICATE", master)
    except ErrorReply:
        return False
    return True
