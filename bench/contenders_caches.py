"""Caches of one process: cachetools behind a lock, theine, cashews."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from bench.contender import KEEP, TTL, Contender, Message
from bench.contenders_raw import Session

SHARES = "hands out the stored objects: whoever changes one changes the store"
SIZE = 2_000_000


class Whole(msgspec.Struct):
    """A session as one value."""

    history: list[Message] = []
    turns: int = 0
    name: str = ""
    step: int = 0
    score: float = 0.0


class Cachetools(Contender):
    name = "cachetools TTLCache behind a lock"
    package = "cachetools"
    lacks = SHARES
    timer: Callable[[], float] = staticmethod(time.monotonic)

    async def start(self) -> None:
        from cachetools import TTLCache

        self.cache: Any = TTLCache(SIZE, TTL, timer=self.timer)
        self.lock = threading.Lock()

    def append(self, id: str, message: Message) -> None:
        with self.lock:
            state = self.cache.get(id)
            if state is None:
                state = Session(self.keep)
            state.history.append(message)
            state.turns += 1
            self.cache[id] = state

    def read(self, id: str) -> list[str]:
        with self.lock:
            return [message.content for message in list(self.cache[id].history)[-KEEP:]]

    def set3(self, id: str, name: str, step: int, score: float) -> None:
        with self.lock:
            state = self.cache[id]
            state.name, state.step, state.score = name, step, score
            self.cache[id] = state

    def get(self, id: str) -> Any:
        with self.lock:
            return self.cache.get(id)

    def count(self, id: str) -> int:
        with self.lock:
            return int(self.cache[id].turns)


class CachetoolsEncoded(Cachetools):
    name = "the same, values encoded"
    lacks = ""

    async def start(self) -> None:
        await super().start()
        self.encode = msgspec.json.Encoder().encode
        self.decode = msgspec.json.Decoder(Whole).decode

    def append(self, id: str, message: Message) -> None:
        with self.lock:
            raw = self.cache.get(id)
            state = Whole() if raw is None else self.decode(raw)
            state.history = [*state.history, message][-self.keep :]
            state.turns += 1
            self.cache[id] = self.encode(state)

    def read(self, id: str) -> list[str]:
        return [message.content for message in self.get(id).history[-KEEP:]]

    def set3(self, id: str, name: str, step: int, score: float) -> None:
        with self.lock:
            state = self.decode(self.cache[id])
            state.name, state.step, state.score = name, step, score
            self.cache[id] = self.encode(state)

    def get(self, id: str) -> Any:
        with self.lock:
            raw = self.cache.get(id)
        return None if raw is None else self.decode(raw)

    def count(self, id: str) -> int:
        return int(self.get(id).turns)


class Theine(Contender):
    name = "theine"
    package = "theine"
    lacks = "no lock around get and set; " + SHARES

    async def start(self) -> None:
        from theine import Cache

        self.cache: Any = Cache(SIZE)
        self.ttl = timedelta(seconds=TTL)

    def append(self, id: str, message: Message) -> None:
        state, found = self.cache.get(id)
        if not found:
            state = Session(self.keep)
        state.history.append(message)
        state.turns += 1
        self.cache.set(id, state, self.ttl)

    def read(self, id: str) -> list[str]:
        return [message.content for message in list(self.cache.get(id)[0].history)[-KEEP:]]

    def set3(self, id: str, name: str, step: int, score: float) -> None:
        state, _ = self.cache.get(id)
        state.name, state.step, state.score = name, step, score
        self.cache.set(id, state, self.ttl)

    def get(self, id: str) -> Any:
        return self.cache.get(id)[0]

    def count(self, id: str) -> int:
        return int(self.cache.get(id)[0].turns)

    async def close(self) -> None:
        self.cache.close()


class Cashews(Contender):
    name = "cashews, memory"
    package = "cashews"
    lacks = "no atomic change without its lock; " + SHARES

    async def start(self) -> None:
        from cashews import Cache

        self.cache: Any = Cache()
        self.cache.setup("mem://", size=SIZE, check_interval=0)  # its sweep is measured by itself
        await self.cache.init()

    async def append(self, id: str, message: Message) -> None:
        state = await self.cache.get(id)
        if state is None:
            state = Session(self.keep)
        state.history.append(message)
        state.turns += 1
        await self.cache.set(id, state, expire=TTL)

    async def read(self, id: str) -> list[str]:
        state = await self.cache.get(id)
        return [message.content for message in list(state.history)[-KEEP:]]

    async def set3(self, id: str, name: str, step: int, score: float) -> None:
        state = await self.cache.get(id)
        state.name, state.step, state.score = name, step, score
        await self.cache.set(id, state, expire=TTL)

    async def get(self, id: str) -> Any:
        return await self.cache.get(id)

    async def count(self, id: str) -> int:
        return int((await self.cache.get(id)).turns)

    async def close(self) -> None:
        await self.cache.close()
