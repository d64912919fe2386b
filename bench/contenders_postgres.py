"""Histories on PostgreSQL: statehold, one statement by hand, an ORM, and other libraries.

Everybody keeps the settings of the server: a commit waits for the disk.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import cache
from typing import Any, ClassVar

import msgspec

from bench.contender import KEEP, Contender, Message
from bench.contenders_agents import ADK, AdkMemory, Agents
from bench.contenders_langgraph import LangGraphAsyncSqlite
from bench.contenders_own import Own
from statehold import AsyncStore, Counter, Log, State

POOL = 20
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Message).decode


@cache
def chat(keep: int) -> Any:
    """The state that everybody keeps, with a bound of so many messages."""

    class Chat(State, ttl=timedelta(hours=1), kind=f"chat{keep}", limit_bytes="1GiB"):
        history = Log(Message, keep=keep, max_bytes=4096)
        turns = Counter()

    return Chat


class OnPostgres(Contender):
    """`append` adds a message, keeps the newest, adds one to the count and renews the expiry."""

    pool: ClassVar[int] = POOL
    url: str

    def __init__(self, url: str) -> None:
        self.url = url


class Statehold(Own, OnPostgres):
    name = "statehold, postgresql"

    async def start(self) -> None:
        self.store = AsyncStore.open(self.url)
        self.cls = chat(self.keep)
        self.chats = self.store.collection(self.cls)


# ------------------------------------------------------------------------------------------ by hand

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS chat(
    at bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text UNIQUE NOT NULL,
    turns bigint NOT NULL, last bigint NOT NULL, since bigint NOT NULL, until timestamptz NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS message(
    chat bigint, seq bigint, body json NOT NULL, PRIMARY KEY (chat, seq))""",
)
APPEND = """
WITH state AS (
    INSERT INTO chat(id, turns, last, since, until)
    VALUES ({id}, 1, 1, 0, now() + interval '1 hour')
    ON CONFLICT (id) DO UPDATE SET
        turns = CASE WHEN chat.until > now() THEN chat.turns + 1 ELSE 1 END,
        since = CASE WHEN chat.until > now() THEN chat.since ELSE chat.last END,
        last = chat.last + 1, until = excluded.until
    RETURNING at, last, since
), new AS (INSERT INTO message SELECT at, last, {body} FROM state)
DELETE FROM message USING state
WHERE message.chat = state.at AND message.seq <= greatest(state.last - {keep}, state.since)"""
READ = """
SELECT body FROM message JOIN chat ON message.chat = chat.at
WHERE chat.id = {id} AND until > now() AND seq > since ORDER BY seq DESC LIMIT {keep}"""
COUNT = "SELECT turns FROM chat WHERE id = {id} AND until > now()"
LACKS = "a repeated call appends twice; what expired is dropped only if a job does it"


def dollars(statement: str) -> str:
    return statement.format(id="$1", body="$2", keep="$3" if "{body}" in statement else "$2")


def percents(statement: str) -> str:
    return statement.format(id="%(id)s", body="%(body)s", keep="%(keep)s")


def colons(statement: str) -> str:
    return statement.format(id=":id", body="cast(:body as json)", keep="cast(:keep as bigint)")


class Asyncpg(OnPostgres):
    """One statement, prepared once; connections go back to their pool without a reset query."""

    name = "asyncpg, one statement"
    package = "asyncpg"
    lacks = LACKS
    statements = dollars(APPEND), dollars(READ), dollars(COUNT)

    async def start(self) -> None:
        import asyncpg

        self.alone = asyncio.Lock()
        self.execute = await self.opened(asyncpg)
        for statement in SCHEMA:
            await self.execute.execute(statement)

    async def opened(self, asyncpg: Any) -> Any:
        """One connection."""
        return await asyncpg.connect(self.url)

    async def append(self, id: str, message: Message) -> None:
        await self.execute.execute(self.statements[0], id, encode(message).decode(), self.keep)

    async def read(self, id: str) -> list[str]:
        rows = await self.execute.fetch(self.statements[1], id, KEEP)
        return [decode(row[0]).content for row in reversed(rows)]

    async def get(self, id: str) -> Any:
        return await self.execute.fetch(self.statements[1], id, self.keep)

    async def count(self, id: str) -> int:
        return int(await self.execute.fetchval(self.statements[2], id))

    async def fill(self, id: str, count: int) -> None:
        async with self.alone:  # a connection has one statement under way at a time
            await super().fill(id, count)

    async def close(self) -> None:
        await self.execute.close()


class AsyncpgPool(Asyncpg):
    """The same through a pool."""

    async def opened(self, asyncpg: Any) -> Any:
        async def nothing(connection: Any) -> None:
            """No reset query: it would be a round trip."""

        size = {"min_size": self.pool, "max_size": self.pool}
        return await asyncpg.create_pool(self.url, **size, reset=nothing)


class AsyncpgPool10(AsyncpgPool):
    name = "asyncpg, one statement each, pool of 10"
    pool = 10


class AsyncpgPool20(AsyncpgPool):
    name = "asyncpg, one statement each, pool of 20"
    pool = 20


class AsyncpgPool64(AsyncpgPool):
    name = "asyncpg, one statement each, pool of 64"
    pool = 64


class Psycopg(OnPostgres):
    name = "psycopg, one statement"
    package = "psycopg"
    lacks = LACKS
    statements = percents(APPEND), percents(READ), percents(COUNT)

    async def start(self) -> None:
        from psycopg_pool import AsyncConnectionPool

        given = {"autocommit": True, "prepare_threshold": 0}
        self.connections = AsyncConnectionPool(
            self.url, min_size=self.pool, max_size=self.pool, kwargs=given, open=False
        )
        await self.connections.open(wait=True)
        for statement in SCHEMA:
            await self.execute(statement)

    async def execute(self, statement: str, given: Any = None) -> Any:
        async with self.connections.connection() as connection:
            return await connection.execute(statement, given)

    async def append(self, id: str, message: Message) -> None:
        given = {"id": id, "body": encode(message).decode(), "keep": self.keep}
        await self.execute(self.statements[0], given)

    async def read(self, id: str) -> list[str]:
        found = await self.execute(self.statements[1], {"id": id, "keep": KEEP})
        return [item["content"] for (item,) in reversed(await found.fetchall())]

    async def get(self, id: str) -> Any:
        found = await self.execute(self.statements[1], {"id": id, "keep": self.keep})
        return await found.fetchall()

    async def count(self, id: str) -> int:
        return int((await (await self.execute(self.statements[2], {"id": id})).fetchone())[0])

    async def close(self) -> None:
        await self.connections.close()


class _Engine(OnPostgres):
    """What has an engine of SQLAlchemy over asyncpg."""

    package = "sqlalchemy"
    options: ClassVar[dict[str, Any]] = {}

    async def start(self) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        url = self.url.replace("postgresql://", "postgresql+asyncpg://")
        size = {"pool_size": self.pool, "max_overflow": 0}
        self.engine = create_async_engine(url, **size, **self.options)

    async def close(self) -> None:
        await self.engine.dispose()


class Core(_Engine):
    """Autocommit, and nothing is rolled back when a connection returns: one round trip."""

    name = "SQLAlchemy Core, one statement"
    lacks = LACKS
    options: ClassVar[dict[str, Any]] = {
        "isolation_level": "AUTOCOMMIT",
        "pool_reset_on_return": None,
    }

    async def start(self) -> None:
        await super().start()
        from sqlalchemy import text

        self.statements = [text(colons(each)) for each in (APPEND, READ, COUNT)]
        for statement in SCHEMA:
            await self.execute(text(statement))

    async def execute(self, statement: Any, given: Any = None) -> Any:
        async with self.engine.connect() as connection:
            return await connection.execute(statement, given)

    async def append(self, id: str, message: Message) -> None:
        given = {"id": id, "body": encode(message).decode(), "keep": self.keep}
        await self.execute(self.statements[0], given)

    async def read(self, id: str) -> list[str]:
        found = await self.execute(self.statements[1], {"id": id, "keep": KEEP})
        return [item["content"] for (item,) in reversed(found.fetchall())]

    async def get(self, id: str) -> Any:
        return (await self.execute(self.statements[1], {"id": id, "keep": self.keep})).fetchall()

    async def count(self, id: str) -> int:
        return int((await self.execute(self.statements[2], {"id": id})).scalar_one())


class Orm(_Engine):
    name = "SQLAlchemy ORM, get or create"
    lacks = "loses updates; what expired is dropped only if a job does it"

    async def start(self) -> None:
        await super().start()
        import sqlalchemy as sa
        from sqlalchemy import orm
        from sqlalchemy.ext.asyncio import async_sessionmaker

        base = orm.declarative_base()

        class Saved(base):  # type: ignore[misc,valid-type]
            __tablename__ = "chat"
            at = sa.Column(sa.BigInteger, primary_key=True)
            id = sa.Column(sa.Text, unique=True, nullable=False)
            turns = sa.Column(sa.BigInteger, nullable=False, default=0)
            last = sa.Column(sa.BigInteger, nullable=False, default=0)
            until = sa.Column(sa.DateTime(timezone=True))

        class Item(base):  # type: ignore[misc,valid-type]
            __tablename__ = "message"
            at = sa.Column(sa.BigInteger, primary_key=True)
            chat = sa.Column(sa.BigInteger, nullable=False, index=True)
            seq = sa.Column(sa.BigInteger, nullable=False)
            body = sa.Column(sa.JSON, nullable=False)

        self.sa, self.saved, self.item = sa, Saved, Item
        self.until = sa.func.now() + sa.text("interval '1 hour'")
        self.session = async_sessionmaker(self.engine, expire_on_commit=False)
        async with self.engine.begin() as connection:
            await connection.run_sync(base.metadata.create_all)

    async def append(self, id: str, message: Message) -> None:
        sa, saved, item = self.sa, self.saved, self.item
        async with self.session() as session:
            chat = await session.scalar(sa.select(saved).where(saved.id == id))
            if chat is None:
                chat = saved(id=id, turns=0, last=0)
                session.add(chat)
                await session.flush()
            chat.turns += 1
            chat.last += 1
            chat.until = self.until
            body = {"role": message.role, "content": message.content}
            session.add(item(chat=chat.at, seq=chat.last, body=body))
            old = sa.delete(item).where(item.chat == chat.at, item.seq <= chat.last - self.keep)
            await session.execute(old.execution_options(synchronize_session=False))
            await session.commit()

    async def read(self, id: str) -> list[str]:
        sa, saved, item = self.sa, self.saved, self.item
        newest = (
            sa.select(item.body)
            .join(saved, saved.at == item.chat)
            .where(saved.id == id, saved.until > sa.func.now())
            .order_by(item.seq.desc())
            .limit(KEEP)
        )
        async with self.session() as session:
            return [body["content"] for body in (await session.scalars(newest)).all()][::-1]

    async def get(self, id: str) -> Any:
        return await self.read(id)

    async def count(self, id: str) -> int:
        async with self.session() as session:
            found = self.sa.select(self.saved.turns).where(self.saved.id == id)
            return int(await session.scalar(found))


# ------------------------------------------------------------------------------------ other libraries


class AgentsSqlalchemy(Agents, _Engine):
    name = "OpenAI Agents SDK, SQLAlchemySession"

    async def start(self) -> None:
        await super().start()
        self.sessions: dict[str, Any] = {}
        await self.session("first", create_tables=True).get_items()

    def session(self, id: str, **options: Any) -> Any:
        """One for each id: a new one for each call would compile its statements again."""
        found = self.sessions.get(id)
        if found is None:
            from agents.extensions.memory import SQLAlchemySession

            found = self.sessions[id] = SQLAlchemySession(id, engine=self.engine, **options)
        return found

    async def count(self, id: str) -> int:
        return len(await self.session(id).get_items())


class AdkPostgres(AdkMemory):
    name = "ADK, DatabaseSessionService"
    lacks = ADK

    def __init__(self, url: str) -> None:
        self.url = url

    def open(self) -> Any:
        from google.adk.sessions import DatabaseSessionService

        url = self.url.replace("postgresql://", "postgresql+asyncpg://")
        return DatabaseSessionService(db_url=url, pool_size=POOL, max_overflow=0)

    async def close(self) -> None:
        await self.service.close()


class LangGraphPostgres(LangGraphAsyncSqlite):
    name = "LangGraph, AsyncPostgresSaver"
    package = "langgraph-checkpoint-postgres"

    def __init__(self, url: str) -> None:
        self.url = url

    async def start(self) -> None:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool

        self.stack = AsyncExitStack()
        given = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        pool = AsyncConnectionPool(self.url, min_size=POOL, max_size=POOL, kwargs=given, open=False)
        await self.stack.enter_async_context(pool)
        self.saver = AsyncPostgresSaver(pool)  # type: ignore[arg-type]
        await self.saver.setup()
