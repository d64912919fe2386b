"""`DatabaseServer`: what the SQL servers of the kit have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol, Self, TypeAlias

from statehold.testing.servers.finding import Source, Suits, find
from statehold.testing.servers.server import (
    Runs,
    Server,
    free_port,
    new_folder,
    unprivileged,
)

Row: TypeAlias = tuple[str | None, ...]


class SqlError(RuntimeError):
    """The server refused a connection or a statement; `code` is the SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Query(Protocol):
    """How a kind of server is asked, see `DatabaseServer.sql`."""

    def __call__(
        self,
        address: tuple[str, int],
        statements: str,
        *,
        user: str,
        database: str,
        timeout: float = 30.0,
    ) -> list[Row]:
        """The rows of some statements as text, over a connection of their own."""
        ...


class DatabaseServer(Server):
    """A server of SQL databases, that lets everybody in who can reach 127.0.0.1."""

    program: ClassVar[str]
    source: ClassVar[Source]
    account: ClassVar[str]
    """As whom it runs where this is root."""
    scheme: ClassVar[str]
    user: ClassVar[str]
    """The user of the urls, who may do everything."""
    own: ClassVar[str]
    """The database that is there from the beginning."""
    connections: ClassVar[int]
    """How many sessions there may be, unless `start` is told."""
    query: ClassVar[Query]
    suits: ClassVar[Suits | None] = None
    """Whether the program at a path will do; None: any does."""

    def __init__(self, runs: Runs, *, port: int, folder: Path) -> None:
        """Use `start`."""
        super().__init__(runs, port=port, folder=folder)
        self._databases = 0
        self._kept: list[str] = []

    @classmethod
    def start(
        cls,
        *,
        fsync: bool = True,
        max_connections: int | None = None,
        settings: Mapping[str, str | int] | None = None,
        disk_bytes: int | None = None,
        port: int | None = None,
    ) -> Self:
        """A server that answers SELECT 1.

        Args:
            fsync: Whether commits wait for the disk. Without it a server is quicker and still
                keeps what was acknowledged when it is killed, though not when the machine is.
            max_connections: How many sessions there may be, superusers' included; None: as many as
                `connections` says.
            settings: Further settings, as in the server's own file of them.
            disk_bytes: The size of its disk, for `full_disk`; None: it is the machine's. Needs root.
            port: At 127.0.0.1; None: a free one.

        Raises:
            Missing, Required: no such server is to be had, see `finding.require`.
            DidNotStart: it did not.
        """
        path = find(cls.program, cls.source, docker=disk_bytes is None, suits=cls.suits)
        user = None if path is None else unprivileged(cls.account)
        with new_folder(cls.source.name, user=user, disk_bytes=disk_bytes) as folder:
            port = free_port() if port is None else port
            sessions = cls.connections if max_connections is None else max_connections
            chosen = {**cls._settings(port, sessions, fsync=fsync), **(settings or {})}
            if path is None:
                runs = cls._container(chosen)
            else:
                runs = cls._process(path, folder, chosen, user)
            return cls(runs, port=port, folder=folder).begun()

    @property
    def url(self) -> str:
        """Where clients reach its own database."""
        return self.url_of(self.own)

    def url_of(self, database: str) -> str:
        """Where clients reach a database."""
        return f"{self.scheme}://{self.user}@{self.host}:{self.port}/{database}"

    def new_database(self) -> str:
        """The url of a new, empty database, in which text is UTF-8."""
        self._databases += 1
        name = f"test_{os.getpid()}_{self._databases}"
        self._create(name)
        self._kept.append(name)
        return self.url_of(name)

    def drop_databases(self) -> None:
        """Drop all that `new_database` has made, whoever is connected to them."""
        while self._kept:
            self._drop(self._kept.pop())

    def sql(self, statements: str, url: str | None = None, *, timeout: float = 30.0) -> list[Row]:
        """The rows of some statements, over a connection of their own, which commits.

        Args:
            statements: One, or several with `;`. The columns of their rows are text, None is NULL.
            url: One that `new_database` returned; None: the server's own database.
            timeout: Seconds to wait for the server.

        Raises:
            SqlError: it refused.
            OSError: it does not answer.
        """
        database = self.own if url is None else url.rpartition("/")[2]
        address = (self.host, self.port)
        return self.query(address, statements, user=self.user, database=database, timeout=timeout)

    def _answers(self) -> bool:
        return self.sql("SELECT 1") == [("1",)]

    @classmethod
    @abstractmethod
    def _settings(cls, port: int, sessions: int, *, fsync: bool) -> dict[str, str | int]:
        """What it is always told."""

    @classmethod
    @abstractmethod
    def _container(cls, settings: Mapping[str, str | int]) -> Runs:
        """It in a container, with these settings."""

    @classmethod
    @abstractmethod
    def _process(
        cls, path: str, folder: Path, settings: Mapping[str, str | int], user: str | None
    ) -> Runs:
        """It as a program of this machine, with its data in `folder`."""

    def _drop(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {name}")

    @abstractmethod
    def _create(self, name: str) -> None:
        """Create a database."""
