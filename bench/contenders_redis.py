"""Histories on Redis: statehold, what people write by hand with redis-py, and other libraries."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, ClassVar

import msgspec

from bench.contender import KEEP, Contender, Message, message
from bench.contenders_agents import Agents
from bench.contenders_own import Own
from statehold import AsyncStore, Counter, Log, Register, State
from statehold.testing.servers import RedisServer

TTL = 3600
BLOB = "JSON by `json`; grows with what is stored"
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Message).decode


@cache
def chat(keep: int) -> Any:
    """The state that everybody keeps, with a bound of so many messages."""

    class Chat(State, ttl=TTL, kind=f"chat{keep}", limit_bytes="1GiB"):
        history = Log(Message, keep=keep, max_bytes=4096)
        turns = Counter()
        name = Register(str, default="")

    return Chat


class OnRedis(Contender):
    """`append` adds a message, keeps the newest and renews the expiry; there is no count beside it.

    `turn` reads the last 20 messages, appends two and sets one value.
    """

    turn: Any = None

    def __init__(self, server: RedisServer, database: int) -> None:
        self.server, self.database = server, database


class Statehold(Own, OnRedis):
    name = "statehold, redis"

    async def start(self) -> None:
        self.store = AsyncStore.open(f"redis://127.0.0.1:{self.server.port}/{self.database}")
        self.cls = chat(self.keep)
        self.chats = self.store.collection(self.cls)

    async def append(self, id: str, message: Message) -> None:
        await self.chats.apply(id, self.cls.history.append(message))

    async def count(self, id: str) -> int:
        return (await self.chats.get(id, fields=["turns"])).meta.revision.number

    async def turn(self, id: str, one: Message, two: Message, name: str) -> list[Message]:
        chat = await self.chats.get(id, fields=["history"], tail=KEEP)
        last = list(chat.history)
        cls = self.cls
        await self.chats.apply(id, cls.history.append(one, two), cls.name.put(name))
        return last

    async def fill(self, id: str, count: int) -> None:
        if count <= 100:
            await super().fill(id, count)
            return
        for first in range(0, count, 500):
            new = [message(at) for at in range(first, min(count, first + 500))]
            await self.chats.apply(id, self.cls.history.append(*new))


class StateholdCounting(Statehold):
    name = "statehold, redis, with a count"
    append = Own.append


class StateholdSession(Statehold):
    name = "statehold, redis, `session` block"

    async def turn(self, id: str, one: Message, two: Message, name: str) -> list[Message]:
        async with self.chats.session(id) as chat:
            last = list(chat.history[-KEEP:])
            chat.history.append(one)
            chat.history.append(two)
            chat.name = name
        return last


class ByHand(OnRedis):
    """redis-py, asyncio, with hiredis as its parser."""

    package = "redis"
    transaction = False

    async def start(self) -> None:
        import redis.asyncio

        self.client = redis.asyncio.Redis(
            host="127.0.0.1", port=self.server.port, db=self.database, max_connections=1_000
        )

    async def close(self) -> None:
        await self.client.aclose()


class Pipeline(ByHand):
    name = "redis-py: RPUSH, LTRIM, EXPIRE in a pipeline"
    lacks = "not atomic; a repeated call appends twice"

    async def append(self, id: str, message: Message) -> None:
        pipe = self.client.pipeline(transaction=self.transaction)
        pipe.rpush(id, encode(message))
        pipe.ltrim(id, -self.keep, -1)
        pipe.expire(id, TTL)
        await pipe.execute()

    async def read(self, id: str) -> list[str]:
        return [decode(item).content for item in await self.client.lrange(id, -KEEP, -1)]

    async def get(self, id: str) -> Any:
        return await self.client.lrange(id, 0, -1)

    counts: ClassVar[bool] = False

    async def count(self, id: str) -> int:
        return int(await self.client.llen(id))

    async def turn(self, id: str, one: Message, two: Message, name: str) -> list[Message]:
        last = [decode(item) for item in await self.client.lrange(id, -KEEP, -1)]
        pipe = self.client.pipeline(transaction=self.transaction)
        pipe.rpush(id, encode(one), encode(two))
        pipe.ltrim(id, -self.keep, -1)
        pipe.hset(f"{id}:values", "name", name)
        pipe.expire(id, TTL)
        pipe.expire(f"{id}:values", TTL)
        await pipe.execute()
        return last

    async def fill(self, id: str, count: int) -> None:
        for first in range(0, count, 500):
            new = [encode(message(at)) for at in range(first, min(count, first + 500))]
            await self.client.rpush(id, *new)
        await self.client.ltrim(id, -self.keep, -1)


class Transaction(Pipeline):
    name = "the same in MULTI"
    lacks = "a repeated call appends twice"
    transaction = True


class Blob(ByHand):
    """One JSON document under one key."""

    def state(self, blob: bytes | None) -> dict[str, Any]:
        return json.loads(blob) if blob else {"history": [], "turns": 0}

    def changed(self, blob: bytes | None, *new: Message) -> dict[str, Any]:
        state = self.state(blob)
        state["history"] += [{"role": one.role, "content": one.content} for one in new]
        state["history"] = state["history"][-self.keep :]
        state["turns"] += 1
        return state

    async def read(self, id: str) -> list[str]:
        found = self.state(await self.client.get(id))
        return [item["content"] for item in found["history"][-KEEP:]]

    async def get(self, id: str) -> Any:
        return self.state(await self.client.get(id))

    async def count(self, id: str) -> int:
        return int(self.state(await self.client.get(id))["turns"])

    async def fill(self, id: str, count: int) -> None:
        state = self.changed(None, *map(message, range(count))) | {"turns": count}
        await self.client.setex(id, TTL, json.dumps(state))


class GetSetex(Blob):
    name = "redis-py: GET, SETEX of a JSON blob"
    lacks = f"loses updates; {BLOB}"

    async def append(self, id: str, message: Message) -> None:
        state = self.changed(await self.client.get(id), message)
        await self.client.setex(id, TTL, json.dumps(state))

    async def turn(self, id: str, one: Message, two: Message, name: str) -> list[Any]:
        blob = await self.client.get(id)
        last = self.state(blob)["history"][-KEEP:]
        state = self.changed(blob, one, two) | {"name": name}
        await self.client.setex(id, TTL, json.dumps(state))
        return last


class Watch(Blob):
    name = "redis-py: WATCH, GET, SETEX of a JSON blob"
    lacks = f"starves under contention; {BLOB}"

    async def append(self, id: str, message: Message) -> None:
        from redis.exceptions import WatchError

        async with self.client.pipeline() as pipe:
            while True:
                try:
                    await pipe.watch(id)
                    state = self.changed(await pipe.get(id), message)
                    pipe.multi()
                    pipe.setex(id, TTL, json.dumps(state))
                    await pipe.execute()
                except WatchError:
                    continue
                return


LUA = """
local blob = redis.call('GET', KEYS[1])
local state = blob and cjson.decode(blob) or {history = {}, turns = 0}
table.insert(state.history, cjson.decode(ARGV[1]))
while #state.history > tonumber(ARGV[2]) do table.remove(state.history, 1) end
state.turns = state.turns + 1
redis.call('SETEX', KEYS[1], ARGV[3], cjson.encode(state))
"""


class LuaBlob(Blob):
    name = "redis-py: Lua on a JSON blob"
    lacks = f"a repeated call appends twice; numbers are doubles; {BLOB}"

    async def start(self) -> None:
        await super().start()
        self.script = self.client.register_script(LUA)

    async def append(self, id: str, message: Message) -> None:
        await self.script(keys=[id], args=[encode(message), self.keep, TTL])


class AgentsRedis(Agents, ByHand):
    name = "OpenAI Agents SDK, RedisSession"
    lacks = "no bound, no count"
    counts: ClassVar[bool] = False

    async def start(self) -> None:
        await super().start()
        from agents.extensions.memory import RedisSession

        self.make = RedisSession

    def session(self, id: str) -> Any:
        """A new one for each call, as each request makes one."""
        return self.make(id, redis_client=self.client, key_prefix="agents", ttl=TTL)

    async def get(self, id: str) -> Any:
        return await self.session(id).get_items()

    async def count(self, id: str) -> int:
        return int(await self.client.llen(f"agents:{id}:messages"))

    async def turn(self, id: str, one: Message, two: Message, name: str) -> list[Any]:  # noqa: ARG002
        session = self.session(id)
        last: list[Any] = await session.get_items(limit=KEEP)
        new = [{"role": each.role, "content": each.content} for each in (one, two)]
        await session.add_items(new)
        return last

    async def fill(self, id: str, count: int) -> None:
        new = [{"role": "user", "content": message(at).content} for at in range(count)]
        await self.session(id).add_items(new)


class Starsessions(Blob):
    name = "starsessions, RedisStore"
    package = "starsessions"
    lacks = f"loses updates; {BLOB}"

    async def start(self) -> None:
        await super().start()
        from starlette.requests import HTTPConnection
        from starsessions.serializers import JsonSerializer
        from starsessions.session import SessionHandler
        from starsessions.stores.redis import RedisStore

        store, serializer = RedisStore(connection=self.client, prefix=""), JsonSerializer()

        def handler(id: str) -> Any:
            """What its middleware makes for each request."""
            connection = HTTPConnection({"type": "http", "headers": [], "path": "/"})
            return SessionHandler(connection, id, store, serializer, TTL)

        self.handler = handler

    async def append(self, id: str, message: Message) -> None:
        handler = self.handler(id)
        await handler.load()
        session = handler.connection.session
        history = [*session.get("history", []), {"role": message.role, "content": message.content}]
        session["history"] = history[-self.keep :]
        session["turns"] = session.get("turns", 0) + 1
        await handler.save(TTL)

    async def turn(self, id: str, one: Message, two: Message, name: str) -> list[Any]:
        handler = self.handler(id)
        await handler.load()
        session = handler.connection.session
        last: list[Any] = session["history"][-KEEP:]
        new = [{"role": each.role, "content": each.content} for each in (one, two)]
        session["history"] = [*session["history"], *new][-self.keep :]
        session["name"] = name
        await handler.save(TTL)
        return last


class StateholdHeld(Statehold):
    """A session of a history and two values."""

    async def append(self, id: str, message: Message) -> None:
        cls = self.cls
        await self.chats.apply(
            id, cls.history.append(message), cls.turns.add(1), cls.name.put("blue")
        )


class ListAndHash(Pipeline):
    """The same in the least that Redis can keep it in."""

    name = "a bare list and hash"

    async def append(self, id: str, message: Message) -> None:
        pipe = self.client.pipeline(transaction=False)
        pipe.rpush(id, encode(message))
        pipe.ltrim(id, -self.keep, -1)
        pipe.hincrby(f"{id}:values", "turns", 1)
        pipe.hset(f"{id}:values", "name", "blue")
        pipe.expire(id, TTL)
        pipe.expire(f"{id}:values", TTL)
        await pipe.execute()
