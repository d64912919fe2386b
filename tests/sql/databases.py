"""An empty database of each kind for a test, what is in it, and `statehold migrate` upon it."""

import asyncio
import sqlite3
import time
from contextlib import closing

import msgspec

from statehold import AsyncStore
from statehold.cli import main
from statehold.commits import Want
from statehold.testing.servers import MariadbServer, PostgresServer

KINDS = ("postgresql", "mariadb", "sqlite")
SERVERS = {
    "postgresql": "statehold_postgres",
    "pgvector": "statehold_pgvector",
    "mariadb": "statehold_mariadb",
}


class Database:
    """A fresh database: its URL, and SQL without statehold."""

    def __init__(self, kind, url, sql):
        self.kind = kind
        self.url = url
        self._sql = sql

    def sql(self, text):
        """The rows, values as text."""
        return self._sql(text)

    def has(self):
        """All tables with their columns and types, as the database itself tells it."""
        if self.kind == "sqlite":
            names = [row[0] for row in self.sql("SELECT name FROM sqlite_master")]
            return {n: self.sql(f"SELECT name, type FROM pragma_table_info('{n}')") for n in names}
        schema = "current_schema()" if self.kind == "postgresql" else "DATABASE()"
        rows = self.sql(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            f" WHERE table_schema = {schema} ORDER BY 1, ordinal_position"
        )
        found = {}
        for table, *column in rows:
            found.setdefault(table, []).append(tuple(column))
        return found


def database(kind, request, tmp_path):
    """A fresh one."""
    if kind == "sqlite":
        path = tmp_path / "states.db"

        def sql(text):
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                return [
                    tuple(None if value is None else str(value) for value in row)
                    for row in connection.execute(text)
                ]

        return Database(kind, f"sqlite+sql:///{path}", sql)
    server: PostgresServer | MariadbServer = request.getfixturevalue(SERVERS[kind])
    url = server.new_database()
    return Database(server.scheme, url, lambda text: server.sql(text, url))


def migrate(monkeypatch, capsys, url, state, *options):
    """What `statehold migrate` does for a class: exit code, standard output and error."""
    monkeypatch.setenv("STATEHOLD_KINDS", f"{state.__module__}:{state.__name__}")
    monkeypatch.setenv("STATEHOLD_BACKEND", url)
    capsys.readouterr()
    code = main(["migrate", *options])
    return code, *capsys.readouterr()


def cells(url, state, id="ada", **settings):
    """Everything that is stored of a state, in bytes, by stored name."""

    async def read():
        async with AsyncStore.open(url, **settings) as store:
            await store.driver.open(state.__schema__.layout())
            key = ("", state.__schema__.kind, id)
            (found,) = await store.driver.read([key], Want(), time.time())
        return found and dict(found.fields)

    return asyncio.run(read())


def done(output):
    """What an `--apply` says that it did, step by step."""
    return [step for line in output.splitlines() for step in msgspec.json.decode(line)["done"]]


__all__ = ["KINDS", "Database", "cells", "database", "done", "migrate"]
