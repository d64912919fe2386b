"""The same work written by hand: a dict, a dict that scans for what has expired, and sqlite3."""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from typing import Any

import msgspec

from bench.contender import KEEP, TTL, Contender, Message, message

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Message).decode


class Session:
    """A session's objects, shared with whoever gets it."""

    __slots__ = ("history", "name", "score", "step", "turns", "until")

    def __init__(self, keep: int) -> None:
        self.history: deque[Message] = deque(maxlen=keep)
        self.turns = 0
        self.until = 0.0
        self.name, self.step, self.score = "", 0, 0.0


class Dict(Contender):
    name = "dict, by hand"
    lacks = "no lock; hands out the stored objects; what expires stays until read"

    async def start(self) -> None:
        self.states: dict[str, Session] = {}

    def state(self, id: str) -> Session:
        state = self.states.get(id)
        if state is None or time.time() >= state.until:
            state = self.states[id] = Session(self.keep)
        return state

    def append(self, id: str, message: Message) -> None:
        state = self.state(id)
        state.history.append(message)
        state.turns += 1
        state.until = time.time() + TTL

    def read(self, id: str) -> list[str]:
        return [message.content for message in list(self.state(id).history)[-KEEP:]]

    def set3(self, id: str, name: str, step: int, score: float) -> None:
        state = self.state(id)
        state.name, state.step, state.score = name, step, score
        state.until = time.time() + TTL

    def get(self, id: str) -> Any:
        state = self.states.get(id)
        return None if state is None or time.time() >= state.until else state

    def count(self, id: str) -> int:
        return self.state(id).turns


class ScanAll(Dict):
    name = "dict, scanning all timestamps"
    lacks = "no lock; hands out the stored objects"

    filling = False

    def state(self, id: str) -> Session:
        if not self.filling:  # or it takes hours
            self.sweep()
        return super().state(id)

    def get(self, id: str) -> Any:
        self.sweep()
        return self.states.get(id)

    def sweep(self) -> None:
        now = time.time()
        for gone in [id for id, state in self.states.items() if now >= state.until > 0]:
            del self.states[gone]


SCHEMA = """
CREATE TABLE chat(
    at INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, turns INTEGER NOT NULL DEFAULT 0,
    last INTEGER NOT NULL DEFAULT 0, name TEXT, step INTEGER, score REAL, until REAL NOT NULL);
CREATE TABLE message(at INTEGER PRIMARY KEY, chat INTEGER NOT NULL, seq INTEGER NOT NULL, body BLOB);
CREATE UNIQUE INDEX message_of ON message(chat, seq);
"""
COUNT = """
INSERT INTO chat(id, turns, last, until) VALUES (?, 1, 1, ?)
ON CONFLICT(id) DO UPDATE SET turns = turns + 1, last = last + 1, until = excluded.until
RETURNING at, last"""
INSERT = "INSERT INTO message(chat, seq, body) VALUES (?, ?, ?)"
TRIM = "DELETE FROM message WHERE chat = ? AND seq <= ?"
READ = """
SELECT body FROM message WHERE chat = (SELECT at FROM chat WHERE id = ? AND until > ?)
ORDER BY seq DESC LIMIT ?"""
SET3 = """
INSERT INTO chat(id, name, step, score, until) VALUES (?, ?, ?, ?, ?)
ON CONFLICT(id) DO UPDATE SET name = excluded.name, step = excluded.step, score = excluded.score,
    until = excluded.until"""
GET = "SELECT turns, name, step, score FROM chat WHERE id = ? AND until > ?"


class Sqlite(Contender):
    """One transaction for each append, on one connection, from the calling thread."""

    synchronous = ""

    async def start(self) -> None:
        self.connection = sqlite3.connect(
            self.folder / "raw.db", isolation_level=None, cached_statements=64
        )
        self.execute = self.connection.execute
        self.execute("PRAGMA journal_mode = WAL")
        self.execute(f"PRAGMA synchronous = {self.synchronous}")
        if not self.execute("SELECT 1 FROM sqlite_schema").fetchone():
            self.connection.executescript(SCHEMA)

    def append(self, id: str, message: Message) -> None:
        execute, now = self.execute, time.time()
        execute("BEGIN IMMEDIATE")
        try:
            ((at, last),) = execute(COUNT, (id, now + TTL)).fetchall()
            execute(INSERT, (at, last, encode(message)))
            execute(TRIM, (at, last - self.keep))
        except BaseException:
            execute("ROLLBACK")
            raise
        execute("COMMIT")

    def read(self, id: str) -> list[str]:
        rows = self.execute(READ, (id, time.time(), KEEP)).fetchall()
        return [decode(body).content for (body,) in reversed(rows)]

    def set3(self, id: str, name: str, step: int, score: float) -> None:
        self.execute("BEGIN IMMEDIATE")
        self.execute(SET3, (id, name, step, score, time.time() + TTL))
        self.execute("COMMIT")

    def get(self, id: str) -> Any:
        now = time.time()
        row = self.execute(GET, (id, now)).fetchone()
        bodies = self.execute(READ, (id, now, self.keep)).fetchall()
        return row, [body for (body,) in reversed(bodies)]

    def count(self, id: str) -> int:
        return int(self.execute(GET, (id, time.time())).fetchone()[0])

    async def fill(self, id: str, count: int) -> None:
        if count <= 100:
            await super().fill(id, count)
            return
        self.append(id, message(0))
        ((at,),) = self.execute("SELECT at FROM chat WHERE id = ?", (id,)).fetchall()
        self.execute("BEGIN")
        rows = ((at, seq + 1, encode(message(seq))) for seq in range(1, count))
        self.connection.executemany(INSERT, rows)
        self.execute("UPDATE chat SET turns = ?, last = ? WHERE at = ?", (count, count, at))
        self.execute("COMMIT")

    async def close(self) -> None:
        self.connection.close()


class SqliteNormal(Sqlite):
    name = "sqlite3 by hand, NORMAL"
    lacks = "blocks; forgets to drop what expired unless a job does it"
    synchronous = "NORMAL"


class SqliteFull(Sqlite):
    name = "sqlite3 by hand, FULL"
    lacks = SqliteNormal.lacks
    synchronous = "FULL"


class LongDict(Dict):
    keep = 200_000


class LongSqlite(SqliteNormal):
    keep = 200_000
