"""The same on MariaDB: statehold, and a transaction by hand."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from bench.contender import KEEP, Message
from bench.contenders_postgres import OnPostgres, Statehold, decode, encode

SCHEMA = (
    """CREATE TABLE chat(
    at bigint AUTO_INCREMENT PRIMARY KEY, id varchar(200) UNIQUE NOT NULL, turns bigint NOT NULL,
    last bigint NOT NULL, until datetime(6) NOT NULL)""",
    "CREATE TABLE message(chat bigint, seq bigint, body text NOT NULL, PRIMARY KEY (chat, seq))",
)
COUNT = """
INSERT INTO chat(id, turns, last, until) VALUES (%s, 1, 1, now(6) + interval 1 hour)
ON DUPLICATE KEY UPDATE turns = turns + 1, last = last + 1, until = VALUES(until)
RETURNING at, last"""
READ = """
SELECT body FROM message JOIN chat ON message.chat = chat.at
WHERE chat.id = %s AND until > now(6) ORDER BY seq DESC LIMIT %s"""


class StateholdOnMariadb(Statehold):
    name = "statehold, mariadb"


class Transaction(OnPostgres):
    name = "asyncmy, a transaction by hand"
    package = "asyncmy"
    lacks = "a repeated call appends twice; what expired is dropped only if a job does it"

    async def start(self) -> None:
        import asyncmy

        parts = urlsplit(self.url)
        self.connection = await asyncmy.connect(
            host=parts.hostname, port=parts.port, user=parts.username, db=parts.path[1:]
        )
        for statement in SCHEMA:
            await self.execute(statement)

    async def execute(self, statement: str, *given: Any) -> list[Any]:
        async with self.connection.cursor() as cursor:
            await cursor.execute(statement, given or None)
            return list(await cursor.fetchall()) if cursor.description else []

    async def append(self, id: str, message: Message) -> None:
        await self.connection.begin()
        ((at, last),) = await self.execute(COUNT, id)
        body = encode(message).decode()
        await self.execute("INSERT INTO message VALUES (%s, %s, %s)", at, last, body)
        await self.execute(
            "DELETE FROM message WHERE chat = %s AND seq <= %s", at, last - self.keep
        )
        await self.connection.commit()

    async def read(self, id: str) -> list[str]:
        rows = await self.execute(READ, id, KEEP)
        return [decode(body).content for (body,) in reversed(rows)]

    async def get(self, id: str) -> Any:
        return await self.execute(READ, id, self.keep)

    async def count(self, id: str) -> int:
        ((turns,),) = await self.execute("SELECT turns FROM chat WHERE id = %s", id)
        return int(turns)

    async def close(self) -> None:
        self.connection.close()
