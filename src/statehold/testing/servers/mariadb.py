"""`MariadbServer`: one MariaDB as a process of its own."""

from __future__ import annotations

import functools
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from statehold.testing.servers.database import DatabaseServer
from statehold.testing.servers.docker import Container
from statehold.testing.servers.finding import Source, on_this_machine, require
from statehold.testing.servers.mywire import query
from statehold.testing.servers.processes import Process, remove_at_end, run
from statehold.testing.servers.server import HOST, Runs, new_folder, unprivileged

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

    program = "mariadbd"
    source = SOURCE
    account = USER
    scheme = "mariadb"
    user = "root"
    own = "mysql"
    connections = 150
    query = staticmethod(query)
    start_timeout = 60.0

    @classmethod
    def _settings(cls, port: int, sessions: int, *, fsync: bool) -> dict[str, str | int]:
        settings: dict[str, str | int] = {
            "bind-address": HOST,
            "port": port,
            "max-connections": sessions,
            "character-set-server": "utf8mb4",
            "skip-name-resolve": 1,
        }
        if not fsync:
            settings |= {"innodb-flush-log-at-trx-commit": 2, "innodb-flush-method": "nosync"}
        return settings

    @classmethod
    def _container(cls, settings: Mapping[str, str | int]) -> Runs:
        return Container(
            SOURCE,
            ("mariadbd", *arguments(settings)),
            options=("--env", "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1"),
        )

    @classmethod
    def _process(
        cls, path: str, folder: Path, settings: Mapping[str, str | int], user: str | None
    ) -> Runs:
        run(("cp", "-a", str(template()), str(folder / "data")), Path("/"), user=user)
        (folder / "let-in.sql").write_text(LET_IN)
        # In a folder that servers share, one that starts deletes the temporary tables of the others.
        run(("mkdir", str(folder / "temporary")), Path("/"), user=user)
        command = (
            *(path, "--no-defaults", LOG_SIZE, f"--datadir={folder / 'data'}"),
            f"--tmpdir={folder / 'temporary'}",
            *(f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}"),
            *(f"--init-file={folder / 'let-in.sql'}", *arguments(settings)),
        )
        return Process(command, folder, user=user, ends_on=signal.SIGKILL)

    def _create(self, name: str) -> None:
        self.sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")


def arguments(settings: Mapping[str, str | int]) -> list[str]:
    """Settings as the server's arguments."""
    return [f"--{name}={value}" for name, value in settings.items()]


@functools.cache
def template() -> Path:
    """A folder of data as the installation makes it: to be copied for every server."""
    user = unprivileged(USER)
    install = next(on_this_machine("mariadb-install-db"), None) or require(
        SOURCE.name, "no mariadb-install-db beside mariadbd"
    )
    with new_folder("mariadb-template", user=user) as folder:
        remove_at_end(folder)
        run(
            (
                *(install, "--no-defaults", f"--datadir={folder / 'data'}", LOG_SIZE),
                f"--tmpdir={folder}",  # as above
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
