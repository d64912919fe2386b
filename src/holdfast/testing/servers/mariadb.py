"""`MariadbServer`: one MariaDB as a process of its own."""

from __future__ import annotations

import functools
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from holdfast.testing.servers.database import DatabaseServer, Row
from holdfast.testing.servers.docker import Container
from holdfast.testing.servers.finding import Source, find, on_this_machine, require
from holdfast.testing.servers.mywire import query
from holdfast.testing.servers.processes import Process, remove_at_end, run
from holdfast.testing.servers.server import HOST, Runs, free_port, new_folder, unprivileged

USER: Final = "mysql"
SOURCE: Final = Source("mariadb", ("mariadb-server",), "mariadb:11")
# Small, because every server gets a copy.
LOG_SIZE: Final = "--innodb-log-file-size=16M"
# The user of the urls. The installation itself would let it in by the Unix socket only.
LET_IN = """
CREATE USER IF NOT EXISTS 'root'@'%';
GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
"""


class MariadbServer(DatabaseServer):
    """One MariaDB server, that lets everybody in who can reach 127.0.0.1.

    ```python
    with MariadbServer.start() as server:
        url = server.new_database()
        assert server.sql("SELECT 1", url) == [("1",)]
    ```
    """

    start_timeout = 60.0

    @classmethod
    def start(
        cls,
        *,
        fsync: bool = True,
        max_connections: int = 150,
        settings: Mapping[str, str | int] | None = None,
        disk_bytes: int | None = None,
        port: int | None = None,
    ) -> Self:
        """A server that answers SELECT 1.

        Args:
            fsync: Whether commits wait for the disk. Without it a server is quicker and still
                keeps what was acknowledged when it is killed, though not when the machine is.
            max_connections: How many sessions there may be.
            settings: Further settings, as in my.cnf.
            disk_bytes: The size of its disk, for `full_disk`; None: it is the machine's. Needs root.
            port: At 127.0.0.1; None: a free one.

        Raises:
            Missing, Required: no MariaDB is to be had, see `finding.require`.
            DidNotStart: it did not.
        """
        path = find("mariadbd", SOURCE, docker=disk_bytes is None)
        user = None if path is None else unprivileged(USER)
        with new_folder("mariadb", user=user, disk_bytes=disk_bytes) as folder:
            port = free_port() if port is None else port
            chosen: dict[str, str | int] = {
                "bind-address": HOST,
                "port": port,
                "max-connections": max_connections,
                "character-set-server": "utf8mb4",
                "skip-name-resolve": 1,
            }
            if not fsync:
                chosen |= {"innodb-flush-log-at-trx-commit": 2, "innodb-flush-method": "nosync"}
            chosen |= settings or {}
            arguments = [f"--{name}={value}" for name, value in chosen.items()]
            if path is None:
                runs: Runs = Container(
                    SOURCE,
                    ("mariadbd", *arguments),
                    options=("--env", "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1"),
                )
            else:
                run(("cp", "-a", str(template()), str(folder / "data")), Path("/"), user=user)
                (folder / "let-in.sql").write_text(LET_IN)
                command = (
                    *(path, "--no-defaults", LOG_SIZE, f"--datadir={folder / 'data'}"),
                    *(f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}"),
                    *(f"--init-file={folder / 'let-in.sql'}", *arguments),
                )
                runs = Process(command, folder, user=user, ends_on=signal.SIGKILL)
            return cls(runs, port=port, folder=folder).begun()

    @property
    def url(self) -> str:
        """`mariadb://root@127.0.0.1:port/mysql`."""
        return self.url_of("mysql")

    def url_of(self, database: str) -> str:
        """Where clients reach a database."""
        return f"mariadb://root@{self.host}:{self.port}/{database}"

    def sql(self, statements: str, url: str | None = None, *, timeout: float = 30.0) -> list[Row]:
        """The rows of some statements as text, see `DatabaseServer.sql`."""
        database = "mysql" if url is None else url.rpartition("/")[2]
        address = (self.host, self.port)
        return query(address, statements, user="root", database=database, timeout=timeout)

    def _create(self, name: str) -> None:
        self.sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")

    def _answers(self) -> bool:
        return self.sql("SELECT 1") == [("1",)]


@functools.cache
def template() -> Path:
    """A folder of data as the installation makes it: to be copied for every server."""
    user = unprivileged(USER)
    install = on_this_machine("mariadb-install-db") or require(
        SOURCE.name, "no mariadb-install-db beside mariadbd"
    )
    with new_folder("mariadb-template", user=user) as folder:
        remove_at_end(folder)
        run(
            (
                *(install, "--no-defaults", f"--datadir={folder / 'data'}", LOG_SIZE),
                *(
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    "--skip-name-resolve",
                ),
            ),
            folder,
            user=user,
        )
    return folder / "data"
