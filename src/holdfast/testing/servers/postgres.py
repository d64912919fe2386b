"""`PostgresServer`: one PostgreSQL as a process of its own."""

from __future__ import annotations

import functools
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final, Self

from holdfast.testing.servers.database import DatabaseServer, Row, SqlError
from holdfast.testing.servers.docker import Container
from holdfast.testing.servers.finding import Source, find, require
from holdfast.testing.servers.pgwire import query
from holdfast.testing.servers.processes import Process, remove_at_end, run
from holdfast.testing.servers.server import (
    HOST,
    Runs,
    free_port,
    new_folder,
    unprivileged,
)

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

    ends_on: ClassVar[signal.Signals] = signal.SIGINT  # which ends sessions, not waits for them

    @classmethod
    def start(
        cls,
        *,
        fsync: bool = True,
        max_connections: int = 100,
        settings: Mapping[str, str | int] | None = None,
        disk_bytes: int | None = None,
        port: int | None = None,
    ) -> Self:
        """A server that answers SELECT 1.

        Args:
            fsync: Whether commits wait for the disk. Without it a server is quicker and still
                keeps what was acknowledged when it is killed, though not when the machine is.
            max_connections: How many sessions there may be, superusers' included.
            settings: Further settings, as in postgresql.conf.
            disk_bytes: The size of its disk, for `full_disk`; None: it is the machine's. Needs root.
            port: At 127.0.0.1; None: a free one.

        Raises:
            Missing, Required: no PostgreSQL is to be had, see `finding.require`.
            DidNotStart: it did not.
        """
        path = find("postgres", SOURCE, docker=disk_bytes is None)
        user = None if path is None else unprivileged(USER)
        with new_folder("postgres", user=user, disk_bytes=disk_bytes) as folder:
            port = free_port() if port is None else port
            chosen: dict[str, str | int] = {
                "listen_addresses": HOST,
                "port": port,
                "max_connections": max_connections,
                "fsync": "on" if fsync else "off",
                "full_page_writes": "on" if fsync else "off",
                "dynamic_shared_memory_type": "mmap",  # in the folder, with which it goes
            }
            chosen |= settings or {}
            if path is None:
                runs: Runs = Container(
                    SOURCE,
                    ("postgres", *arguments(chosen)),
                    options=("--env", "POSTGRES_HOST_AUTH_METHOD=trust"),
                )
            else:
                chosen.setdefault("unix_socket_directories", str(folder))
                run(("cp", "-a", str(template(path)), str(folder / "data")), Path("/"), user=user)
                command = (path, "-D", str(folder / "data"), *arguments(chosen))
                runs = Process(command, folder, user=user, ends_on=signal.SIGQUIT)
            return cls(runs, port=port, folder=folder).begun()

    @property
    def url(self) -> str:
        """`postgresql://postgres@127.0.0.1:port/postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Where clients reach a database."""
        return f"postgresql://{USER}@{self.host}:{self.port}/{database}"

    def _create(self, name: str) -> None:
        # Written through the log rather than copied between two checkpoints: a tenth of the time.
        strategy = " STRATEGY wal_log" if self.version >= 150000 else ""
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0{strategy}")

    @functools.cached_property
    def version(self) -> int:
        """As PostgreSQL counts: 150013 is 15.13."""
        return int(self.sql("SHOW server_version_num")[0][0] or 0)

    def sql(self, statements: str, url: str | None = None, *, timeout: float = 30.0) -> list[Row]:
        """The rows of some statements as text, see `DatabaseServer.sql`."""
        database = "postgres" if url is None else url.rpartition("/")[2]
        address = (self.host, self.port)
        return query(address, statements, user=USER, database=database, timeout=timeout)

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
            return self.sql("SELECT 1") == [("1",)]
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
