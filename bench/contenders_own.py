"""statehold itself."""

from __future__ import annotations

from typing import Any

from bench.contender import KEEP, TTL, Contender, Message, message
from statehold import AsyncStore, Clock, Counter, Log, Register, State, Store


class Chat(State, ttl=TTL):
    """The state that everybody keeps."""

    history = Log(Message, keep=KEEP)
    turns = Counter()
    name = Register(str, default="")
    step = Register(int, default=0)
    score = Register(float, default=0.0)


class Long(State, ttl=TTL, limit_bytes="1GiB"):
    """A history that is allowed to grow long."""

    history = Log(Message, keep=200_000, max_bytes=4096)
    turns = Counter()


class Own(Contender):
    """statehold at any backend; `start` opens the store."""

    cls: Any
    store: AsyncStore
    chats: Any

    async def append(self, id: str, message: Message) -> None:
        cls = self.cls
        await self.chats.apply(id, cls.history.append(message), cls.turns.add(1))

    async def read(self, id: str) -> list[str]:
        chat = await self.chats.get(id, fields=["history"], tail=KEEP)
        return [message.content for message in chat.history]

    async def everything(self, id: str) -> list[str]:
        """The contents of all its messages."""
        chat = await self.chats.get(id, fields=["history"])
        return [message.content for message in chat.history]

    async def get(self, id: str) -> Any:
        return await self.chats.get(id)

    async def count(self, id: str) -> int:
        return int((await self.chats.get(id, fields=["turns"])).turns)

    async def close(self) -> None:
        await self.store.close()


class _Own(Own):
    url = "memory://?max_bytes=16GiB"
    clock: Clock | None = None
    cls: Any = Chat

    async def start(self) -> None:
        self.store = AsyncStore.open(self.backend(), clock=self.clock)
        self.chats = self.store.collection(self.cls)

    def backend(self) -> str:
        return self.url

    async def set3(self, id: str, name: str, step: int, score: float) -> None:
        await self.chats.apply(id, Chat.name.put(name), Chat.step.put(step), Chat.score.put(score))

    async def fill(self, id: str, count: int) -> None:
        if self.cls is Chat:
            await super().fill(id, count)
            return
        for first in range(0, count, 500):
            new = [message(at) for at in range(first, min(count, first + 500))]
            await self.chats.apply(id, Long.history.append(*new), Long.turns.add(len(new)))


class Memory(_Own):
    name = "statehold, memory"


class MemorySync(Contender):
    name = "statehold, memory, sync API"

    async def start(self) -> None:
        self.store = Store.open(_Own.url)
        self.chats = self.store.collection(Chat)

    def append(self, id: str, message: Message) -> None:
        self.chats.apply(id, Chat.history.append(message), Chat.turns.add(1))

    def read(self, id: str) -> list[str]:
        chat = self.chats.get(id, fields=["history"], tail=KEEP)
        return [message.content for message in chat.history]

    def set3(self, id: str, name: str, step: int, score: float) -> None:
        self.chats.apply(id, Chat.name.put(name), Chat.step.put(step), Chat.score.put(score))

    def get(self, id: str) -> Any:
        return self.chats.get(id)

    def count(self, id: str) -> int:
        return int(self.chats.get(id).turns)

    async def close(self) -> None:
        self.store.close()


class _Sqlite(_Own):
    synchronous = ""

    def backend(self) -> str:
        return f"sqlite:///{self.folder}/statehold.db?synchronous={self.synchronous}"


class SqliteNormal(_Sqlite):
    name = "statehold, SQLite NORMAL"
    synchronous = "NORMAL"


class SqliteFull(_Sqlite):
    name = "statehold, SQLite FULL"
    synchronous = "FULL"


class LongMemory(Memory):
    cls = Long


class LongSqlite(SqliteNormal):
    cls = Long
