"""`RedisGroup`: several Redis servers that are one to their clients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from statehold.testing.servers.certificates import Certificate
from statehold.testing.servers.redis import RedisServer, Setting
from statehold.testing.servers.server import Opened

# A replica is served at once, and noticed as gone within a second.
QUICK: Final[Mapping[str, Setting]] = {
    "repl-diskless-sync-delay": 0,
    "repl-ping-replica-period": 1,
}


class RedisGroup(Opened):
    """Several servers, each of which can be killed, paused and restarted by itself."""

    servers: list[RedisServer]
    password: str | None

    @property
    def certificate(self) -> Certificate | None:
        """What its servers show, and what is to be trusted; None: they do not speak TLS."""
        return self.servers[0].certificate

    @abstractmethod
    def masters(self) -> list[RedisServer]:
        """The servers that take writes."""

    def answering(self) -> list[RedisServer]:
        """The servers that are neither down nor paused."""
        return [each for each in self.servers if each.is_running() and not each.is_paused]

    def flush(self) -> None:
        """No data and no scripts are left: for tests that share it."""
        for server in self.masters():
            server.flush()

    def close(self) -> None:
        """All of it is gone, with its data. Again: nothing happens."""
        for server in self.servers:
            server.close()

    def _address(self, kind: str, servers: list[RedisServer]) -> str:
        scheme = f"redis+{kind}" if self.certificate is None else f"rediss+{kind}"
        login = "" if self.password is None else f":{quote(self.password, safe='')}@"
        return f"{scheme}://{login}" + ",".join(f"{each.host}:{each.port}" for each in servers)


def is_replicating(server: RedisServer) -> bool:
    """Whether a server is a replica that has caught up with its master once."""
    return server.info("replication").get("master_link_status") == "up"
