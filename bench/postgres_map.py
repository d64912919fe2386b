"""One entry put into a large map on PostgreSQL: what it takes, and what it writes to the log."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, ClassVar

from bench.contender import Contender, split
from bench.latency import compared, timed
from bench.measure import number, progress
from bench.operations import against, at_most
from bench.part import Effort, Part, Table, Verdict
from bench.postgres_one import SERVER, server
from statehold import AsyncStore, Map, State
from statehold.testing.servers import PostgresServer

VALUE_BYTES = 1_000
ENTRIES = 10_000
ID = "thread"


class Thread(State, ttl=timedelta(hours=1), kind="thread", limit_bytes="1024GiB"):
    """A conversation's documents by name."""

    values = Map(str, str, keep=1_000_000, max_bytes=4096)


class Puts(Contender):
    """Puts an entry, counts the commit and renews the expiry."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.entries = 0

    def named(self, new: bool) -> str:
        """The entry that is put next."""
        self.turn = getattr(self, "turn", 0) + 1
        if new:
            self.entries += 1
            return f"{self.entries:07d}"
        return f"{1 + self.turn * 37 % self.entries:07d}"

    async def put(self, text: str, new: bool) -> None:
        """The entry has this value; it is a new one, or one that is there."""
        raise NotImplementedError


class Statehold(Puts):
    name = "statehold, postgresql"

    async def start(self) -> None:
        self.store = AsyncStore.open(self.url)
        self.threads = self.store.collection(Thread)

    async def put(self, text: str, new: bool) -> None:
        await self.threads.apply(ID, Thread.values.put(self.named(new), text))

    async def close(self) -> None:
        await self.store.close()


SCHEMA = """
CREATE TABLE thread(state bigint PRIMARY KEY, id text UNIQUE, number bigint, until timestamptz)
    WITH (fillfactor = 80);
CREATE TABLE entry(state bigint, name text COLLATE "C", value json, PRIMARY KEY (state, name));
INSERT INTO thread VALUES (1, 'thread', 0, now())"""
PUT = (
    "INSERT INTO entry VALUES (1, $1, to_json($2::text))"
    " ON CONFLICT (state, name) DO UPDATE SET value = excluded.value"
)
HEAD = "UPDATE thread SET number = number + 1, until = now() + interval '1 hour' WHERE state = 1"


class Transaction(Puts):
    name = "asyncpg, two statements"
    package = "asyncpg"
    lacks = "no bound; a repeated call counts twice"

    async def start(self) -> None:
        import asyncpg

        self.connection: Any = await asyncpg.connect(self.url)
        await self.connection.execute(SCHEMA)

    async def put(self, text: str, new: bool) -> None:
        async with self.connection.transaction():
            await self.connection.execute(PUT, self.named(new), text)
            await self.connection.execute(HEAD)

    async def close(self) -> None:
        await self.connection.close()


class OneStatement(Transaction):
    name = "asyncpg, one statement"
    text: ClassVar[str] = f"WITH e AS ({PUT}) {HEAD}"

    async def put(self, text: str, new: bool) -> None:
        await self.connection.execute(self.text, self.named(new), text)


CONTENDERS: list[type[Contender]] = [Statehold, Transaction, OneStatement]


async def large_map(effort: Effort) -> Part:
    """A put beside 10,000 entries."""
    here, absent = split(CONTENDERS)
    size = effort.of(ENTRIES, 500)
    part = Part(
        f"PostgreSQL: one entry put into a map of {size:,}",
        f"{SERVER}Each call puts one entry of 1 KB into the map of one state and renews its expiry. Bytes are "
        "what the log (WAL) grew by, a VACUUM and a checkpoint before; by hand there is a row for the "
        "state and one for each entry. statehold also remembers the call's op id, with which it can be repeated.",
        absent=absent,
    )
    async with AsyncExitStack() as stack:
        running = stack.enter_context(server())
        contenders: list[Puts] = []
        for cls in here:
            progress(f"filling {cls.name}")
            contender: Any = cls(running.new_database())  # type: ignore[arg-type]
            await contender.start()
            stack.push_async_callback(contender.close)
            for at in range(size):
                await contender.put(_text(at), True)
            contenders.append(contender)
        for new, words in ((True, "a new entry"), (False, "an entry that is there")):
            table, verdicts = await _case(running, contenders, effort, new, words)
            part.tables.append(table)
            part.verdicts += verdicts
    return part


def _text(at: int) -> str:
    """A value that no other is like."""
    import random

    return random.Random(at).randbytes(VALUE_BYTES // 2).hex()


async def _case(
    running: PostgresServer, contenders: list[Puts], effort: Effort, new: bool, words: str
) -> tuple[Table, list[Verdict]]:
    for one in contenders:
        running.sql("VACUUM ANALYZE", one.url)
    running.sql("CHECKPOINT")
    given = [(_text(1_000_000 + at), new) for at in range(1_000)]
    wrote: dict[str, float] = {}
    for one in contenders:
        for text, _ in given[:300]:  # a page is in the log as a whole when it is first changed
            await one.put(text, new)
        before = _logged(running)
        for text, _ in given[300:]:
            await one.put(text, new)
        wrote[one.name] = (_logged(running) - before) / len(given[300:])
    took = await timed(
        {one.name: (one.put, given) for one in contenders},
        effort.of(15, 3),
        ms=effort.of(100, 30),
        pid=running.pid,
    )
    table = compared(contenders, took)
    table.about = f"{words[0].upper()}{words[1:]}:"
    table.columns.insert(1, "bytes of log")
    for row in table.rows:
        row.insert(1, number(wrote[row[0]]))
    peer = Transaction.name
    ratio = wrote[Statehold.name] / wrote[peer] if peer in wrote else None
    p50 = {name: calls.p50 for name, calls in took.items()}
    return table, [
        at_most(f"{words} of a large map: at most 1.5× the bytes of rows by hand", ratio, 1.5),
        at_most(
            f"{words} of a large map: p50 at most 1.5× a transaction by hand",
            against(p50, Statehold.name, Transaction),
            1.5,
        ),
    ]


def _logged(running: PostgresServer) -> float:
    return float(running.sql("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")[0][0] or 0)
