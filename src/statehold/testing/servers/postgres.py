"""`PostgresServer`: one PostgreSQL as a process of its own."""

from __future__ import annotations

import functools
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from statehold.testing.servers.database import DatabaseServer, SqlError
from statehold.testing.servers.docker import Container
from statehold.testing.servers.finding import Source, require
from statehold.testing.servers.pgwire import query
from statehold.testing.servers.processes import Process, remove_at_end, run
from statehold.testing.servers.server import HOST, Runs, new_folder, unprivileged

USER: Final = "postgres"
SOURCE: Final = Source("postgres", ("postgresql",), "postgres:17")


class PostgresServer(DatabaseServer):
    """One PostgreSQL server, that trusts whoever can reach 127.0.0.1.

    ```python
    with PostgresServer.start() as server:
        url = server.new_database()
        server.kill()
        server.restart()
        assert server.sql("SELECT 1", url) == [("1",)]
    ```
    """

    program = "postgres"
    source = SOURCE
    account = USER
    scheme = "postgresql"
    user = USER
    own = "postgres"
    connections = 100
    query = staticmethod(query)
    ends_on = signal.SIGINT  # which ends sessions, not waits for them

    @classmethod
    def _settings(cls, port: int, sessions: int, *, fsync: bool) -> dict[str, str | int]:
        return {
            "listen_addresses": HOST,
            "port": port,
            "max_connections": sessions,
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
            "dynamic_shared_memory_type": "mmap",  # in the folder, with which it goes
        }

    @classmethod
    def _container(cls, settings: Mapping[str, str | int]) -> Runs:
        return Container(
            SOURCE,
            ("postgres", *arguments(settings)),
            options=("--env", "POSTGRES_HOST_AUTH_METHOD=trust"),
        )

    @classmethod
    def _process(
        cls, path: str, folder: Path, settings: Mapping[str, str | int], user: str | None
    ) -> Runs:
        run(("cp", "-a", str(template(path)), str(folder / "data")), Path("/"), user=user)
        chosen = {"unix_socket_directories": str(folder), **settings}
        command = (path, "-D", str(folder / "data"), *arguments(chosen))
        return Process(command, folder, user=user, ends_on=signal.SIGQUIT)

    def _create(self, name: str) -> None:
        # Written through the log rather than copied between two checkpoints: quicker.
        strategy = " STRATEGY wal_log" if self.version >= 150000 else ""
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0{strategy}")

    def _drop(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @functools.cached_property
    def version(self) -> int:
        """As PostgreSQL counts: 150013 is 15.13."""
        return int(self.sql("SHOW server_version_num")[0][0] or 0)

    def close(self) -> None:
        """It is gone, and so are its folder and its data. Again: nothing happens."""
        self._runs.kill()
        # The kernel keeps a few bytes of shared memory for one that was killed, to be named here.
        with suppress(FileNotFoundError, IndexError):
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
            subprocess.run(  # noqa: PLW1510 - it may be gone already
                ("ipcrm", "--shmem-id", lines[6].split()[1]),  # noqa: S607
                stderr=subprocess.DEVNULL,
            )
        super().close()

    def _answers(self) -> bool:
        try:
            return super()._answers()
        except SqlError as problem:
            if problem.code == "57P03":  # it is starting up
                return False
            raise


def arguments(settings: Mapping[str, str | int]) -> list[str]:
    """Settings as the server's arguments."""
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


@functools.cache
def template(postgres: str) -> Path:
    """A folder of data as initdb makes it: to be copied, which is quicker than making another."""
    user = unprivileged(USER)
    initdb = Path(postgres).with_name("initdb")
    if not initdb.exists():
        require(SOURCE.name, f"no initdb beside {postgres}")
    with new_folder("postgres-template", user=user) as folder:
        remove_at_end(folder)
        run(
            (
                *(str(initdb), "--pgdata", str(folder / "data"), "--username", USER),
                *("--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8"),
                *("--no-sync", "--no-instructions"),
            ),
            folder,
            user=user,
        )
    return folder / "data"
