"""`DatabaseServer`: what the SQL servers of the kit have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path
from typing import TypeAlias

from holdfast.testing.servers.server import Runs, Server

Row: TypeAlias = tuple[str | None, ...]


class SqlError(RuntimeError):
    """The server refused a connection or a statement; `code` is the SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class DatabaseServer(Server):
    """A server of SQL databases, that lets everybody in who can reach 127.0.0.1."""

    def __init__(self, runs: Runs, *, port: int, folder: Path) -> None:
        """Use `start`."""
        super().__init__(runs, port=port, folder=folder)
        self._databases = 0

    def new_database(self) -> str:
        """The url of a new, empty database, in which text is UTF-8."""
        self._databases += 1
        name = f"test_{os.getpid()}_{self._databases}"
        self._create(name)
        return self.url_of(name)

    @abstractmethod
    def url_of(self, database: str) -> str:
        """Where clients reach a database."""

    @abstractmethod
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

    @abstractmethod
    def _create(self, name: str) -> None:
        """Create a database."""
