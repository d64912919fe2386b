"""The server that `bench/http.py` measures: a route that does nothing, one that appends a message.

Three more say where the difference goes: one only reads the body and decodes it, one appends in
memory, and one does the same work by hand with `sqlite3`. All are routes of one application on one
uvicorn worker and take the same request.
"""

import gc
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec
from fastapi import FastAPI, Request, Response

from statehold import AsyncStore, Log, State


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str


KEEP = 100
TTL = timedelta(hours=1)


class Chat(State, ttl=TTL):
    history = Log(Message, keep=KEEP)


decode = msgspec.json.Decoder(Message).decode


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        AsyncStore.open(os.environ["BENCH_BACKEND"]) as store,
        AsyncStore.open("memory://") as memory,
    ):
        app.state.chats = store.collection(Chat)
        app.state.in_memory = memory.collection(Chat)
        app.state.by_hand = connection = _by_hand(os.environ["BENCH_BY_HAND"])
        gc.collect()
        gc.freeze()  # what was imported stays: the collector need not go through it, for either route
        yield
        connection.close()


app = FastAPI(lifespan=lifespan)


@app.post("/empty/{id}", status_code=204)
async def empty(id: str) -> Response:  # noqa: ARG001  it takes the same request
    return Response(status_code=204)


@app.post("/body/{id}", status_code=204)
async def body(id: str, request: Request) -> Response:  # noqa: ARG001  it takes the same request
    decode(await request.body())
    return Response(status_code=204)


@app.post("/memory/{id}", status_code=204)
async def memory(id: str, request: Request) -> Response:
    message = decode(await request.body())
    await request.app.state.in_memory.apply(id, Chat.history.append(message))
    return Response(status_code=204)


@app.post("/append/{id}", status_code=204)
async def append(id: str, request: Request) -> Response:
    message = decode(await request.body())
    await request.app.state.chats.apply(id, Chat.history.append(message))
    return Response(status_code=204)


def _by_hand(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        """PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
        CREATE TABLE chat (id INTEGER PRIMARY KEY, key TEXT UNIQUE, expires REAL, count INT);
        CREATE TABLE message (id INTEGER PRIMARY KEY, value BLOB);"""
    )
    return connection


@app.post("/by_hand/{id}", status_code=204)
async def by_hand(id: str, request: Request) -> Response:
    body = await request.body()
    decode(body)
    execute = request.app.state.by_hand.execute
    now = time.time()
    execute("BEGIN IMMEDIATE")
    chat, count = execute(
        "INSERT INTO chat (key, expires, count) VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE"
        " SET count = CASE WHEN expires > ? THEN count + 1 ELSE 1 END, expires = excluded.expires"
        " RETURNING id, count",
        (id, now + TTL.total_seconds(), now),
    ).fetchone()
    execute("INSERT OR REPLACE INTO message VALUES (?, ?)", (chat << 20 | count % KEEP, body))
    execute("COMMIT")
    return Response(status_code=204)
