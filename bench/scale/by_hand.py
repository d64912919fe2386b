"""What people write instead of each store, with two more things to do: to be filled, and to be listed by pages."""

from __future__ import annotations

import time
from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Any

from bench import contenders_postgres as postgres
from bench import contenders_raw as raw
from bench import contenders_redis as redis
from bench.contender import TTL, message

MANY = 1_000
"""From so many on it is worth doing otherwise."""
BODY = raw.encode(message(0))


class Dict(raw.Dict):
    """A dict, and its ids in order beside it."""

    async def start(self) -> None:
        await super().start()
        self.ids: list[str] = []

    def fill_all(self, ids: Sequence[str]) -> None:
        for id in ids:
            self.append(id, message(0))
            if len(ids) < MANY:
                insort(self.ids, id)
        if len(ids) >= MANY:
            self.ids = sorted([*self.ids, *ids])

    def page(self, after: str, limit: int) -> list[str]:
        at = bisect_right(self.ids, after)
        return self.ids[at : at + limit]


class Sqlite(raw.SqliteNormal):
    """sqlite3."""

    name = "sqlite3 by hand"

    def fill_all(self, ids: Sequence[str]) -> None:
        until = time.time() + TTL
        self.execute("BEGIN IMMEDIATE")
        ((last,),) = self.execute("SELECT coalesce(max(at), 0) FROM chat").fetchall()
        rows = ((id, 1, 1, until) for id in ids)
        self.connection.executemany(
            "INSERT INTO chat(id, turns, last, until) VALUES (?, ?, ?, ?)", rows
        )
        self.execute(
            "INSERT INTO message(chat, seq, body) SELECT at, 1, ? FROM chat WHERE at > ?",
            (BODY, last),
        )
        self.execute("COMMIT")

    def page(self, after: str, limit: int) -> list[Any]:
        listing = "SELECT id FROM chat WHERE id > ? ORDER BY id LIMIT ?"
        return [id for (id,) in self.execute(listing, (after, limit))]


class SqliteFull(Sqlite):
    synchronous = "FULL"


class Redis(redis.Transaction):
    """redis-py: what belongs together in MULTI, and a sorted set of all ids."""

    name = "redis-py by hand"
    counts = True

    def _append(self, pipe: Any, id: str, body: bytes) -> None:
        pipe.rpush(id, body).ltrim(id, -self.keep, -1).expire(id, redis.TTL)
        pipe.incr(f"{id}:turns").expire(f"{id}:turns", redis.TTL).zadd("ids", {id: 0})

    async def append(self, id: str, message: Any) -> None:
        pipe = self.client.pipeline(transaction=True)
        self._append(pipe, id, redis.encode(message))
        await pipe.execute()

    async def get(self, id: str) -> Any:
        pipe = self.client.pipeline(transaction=True)
        return await pipe.lrange(id, 0, -1).get(f"{id}:turns").execute()

    async def count(self, id: str) -> int:
        return int(await self.client.get(f"{id}:turns"))

    async def fill_all(self, ids: Sequence[str]) -> None:
        for first in range(0, len(ids), MANY):
            pipe = self.client.pipeline(transaction=False)
            for id in ids[first : first + MANY]:
                self._append(pipe, id, BODY)
            await pipe.execute()

    async def page(self, after: str, limit: int) -> list[str]:
        first = f"({after}" if after else "-"
        return [id.decode() for id in await self.client.zrangebylex("ids", first, "+", 0, limit)]


class Asyncpg(postgres.AsyncpgPool10):
    """asyncpg, one statement each."""

    name = "asyncpg by hand"
    births = """
WITH new AS (
    INSERT INTO chat(id, turns, last, since, until)
    SELECT id, 1, 1, 0, now() + interval '1 hour' FROM unnest($1::text[]) AS id RETURNING at)
INSERT INTO message SELECT at, 1, $2 FROM new"""

    async def fill_all(self, ids: Sequence[str]) -> None:
        for first in range(0, len(ids), 20 * MANY):
            await self.execute.execute(self.births, ids[first : first + 20 * MANY], BODY.decode())

    async def page(self, after: str, limit: int) -> list[str]:
        listing = "SELECT id FROM chat WHERE id > $1 ORDER BY id LIMIT $2"
        return [row[0] for row in await self.execute.fetch(listing, after, limit)]


class AsyncpgOne(Asyncpg):
    """One connection for each process: the server has a hundred."""

    pool = 1
