"""`Pgbouncer`: a pooler in front of a `PostgresServer`, as many installations have one."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import ClassVar, Final, Literal, Self

from statehold.testing.servers.finding import Source, find
from statehold.testing.servers.pgwire import query
from statehold.testing.servers.postgres import USER, PostgresServer
from statehold.testing.servers.processes import Process
from statehold.testing.servers.server import HOST, Server, free_port, new_folder, unprivileged

SOURCE: Final = Source("pgbouncer", ("pgbouncer",))


class Pgbouncer(Server):
    """One pgbouncer, which gives a session of PostgreSQL to a client for one transaction at a time.

    ```python
    with PostgresServer.start() as server, Pgbouncer.start(server) as pooler:
        url = pooler.through(server.new_database())
    ```
    """

    ends_on: ClassVar[signal.Signals] = signal.SIGTERM

    @classmethod
    def start(
        cls,
        server: PostgresServer,
        *,
        mode: Literal["session", "transaction", "statement"] = "transaction",
        pool_size: int = 5,
        settings: Mapping[str, str | int] | None = None,
    ) -> Self:
        """A pooler that answers SELECT 1.

        Args:
            server: What is behind it; all its databases, also those that are made later.
            mode: When a client gives its session back.
            pool_size: How many sessions a database gets at most.
            settings: Further settings, as in pgbouncer.ini.

        Raises:
            Missing, Required: no pgbouncer is to be had, see `finding.require`.
            DidNotStart: it did not.
        """
        path = find("pgbouncer", SOURCE)
        assert path is not None  # there is no image that would do instead
        user = unprivileged(USER)
        with new_folder("pgbouncer", user=user) as folder:
            port = free_port()
            chosen: dict[str, str | int] = {
                "listen_addr": HOST,
                "listen_port": port,
                "unix_socket_dir": "",
                "auth_type": "any",
                "pool_mode": mode,
                "default_pool_size": pool_size,
                "max_client_conn": 500,
            }
            chosen |= settings or {}
            lines = [
                "[databases]",
                f"* = host={server.host} port={server.port} user={USER}",
                "[pgbouncer]",
                *(f"{name} = {value}" for name, value in chosen.items()),
            ]
            (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
            runs = Process((path, str(folder / "pgbouncer.ini")), folder, user=user)
            return cls(runs, port=port, folder=folder).begun()

    @property
    def url(self) -> str:
        """`postgresql://postgres@127.0.0.1:port/postgres`."""
        return self.through("/postgres")

    def through(self, url: str) -> str:
        """A url of the server behind it with this pooler in the server's place."""
        return f"postgresql://{USER}@{self.host}:{self.port}/{url.rpartition('/')[2]}"

    def _answers(self) -> bool:
        address = (self.host, self.port)
        return query(address, "SELECT 1", user=USER, database="postgres") == [("1",)]
