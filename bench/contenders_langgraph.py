"""LangGraph's checkpointers, called as a graph calls them: the newest checkpoint, then a new one."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import Any

from bench.contender import KEEP, Contender, Message, message


class _Saver(Contender):
    package = "langgraph-checkpoint"
    lacks = "no expiry; every step is kept; readers and writers are not kept apart"

    saver: Any

    def config(self, id: str) -> Any:
        return {"configurable": {"thread_id": id, "checkpoint_ns": ""}}

    def values(self, found: Any) -> dict[str, Any]:
        return dict(found.checkpoint["channel_values"]) if found else {"history": [], "turns": 0}

    def step(self, id: str, found: Any, new: dict[str, Any]) -> tuple[Any, ...]:
        """What `put` takes, for a checkpoint that follows `found` with these values changed."""
        from langgraph.checkpoint.base import empty_checkpoint

        old = found.checkpoint["channel_versions"] if found else {}
        versions = {name: self.saver.get_next_version(old.get(name), None) for name in new}
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = self.values(found) | new
        checkpoint["channel_versions"] = {**old, **versions}
        config = found.config if found else self.config(id)
        return config, checkpoint, {"source": "loop", "step": 1, "parents": {}}, versions

    def appended(self, found: Any, *messages: Message) -> dict[str, Any]:
        values = self.values(found)
        new = [{"role": message.role, "content": message.content} for message in messages]
        return {
            "history": [*values["history"], *new][-self.keep :],
            "turns": values["turns"] + len(new),
        }


class LangGraphMemory(_Saver):
    name = "LangGraph, InMemorySaver"

    async def start(self) -> None:
        from langgraph.checkpoint.memory import InMemorySaver

        self.saver = InMemorySaver()

    def append(self, id: str, message: Message) -> None:
        found = self.saver.get_tuple(self.config(id))
        self.saver.put(*self.step(id, found, self.appended(found, message)))

    def read(self, id: str) -> list[str]:
        found = self.saver.get_tuple(self.config(id))
        return [item["content"] for item in self.values(found)["history"][-KEEP:]]

    def set3(self, id: str, name: str, step: int, score: float) -> None:
        found = self.saver.get_tuple(self.config(id))
        self.saver.put(*self.step(id, found, {"name": name, "step": step, "score": score}))

    def get(self, id: str) -> Any:
        return self.saver.get_tuple(self.config(id))

    def count(self, id: str) -> int:
        return int(self.values(self.saver.get_tuple(self.config(id)))["turns"])

    async def fill(self, id: str, count: int) -> None:
        new = self.appended(None, *map(message, range(count)))
        self.saver.put(*self.step(id, None, new))


class LangGraphSqlite(LangGraphMemory):
    name = "LangGraph, SqliteSaver"
    package = "langgraph-checkpoint-sqlite"

    async def start(self) -> None:
        from langgraph.checkpoint.sqlite import SqliteSaver

        self.stack = ExitStack()
        path = str(self.folder / "langgraph.db")
        self.saver = self.stack.enter_context(SqliteSaver.from_conn_string(path))
        self.saver.setup()

    async def close(self) -> None:
        self.stack.close()


class LangGraphAsyncSqlite(_Saver):
    name = "LangGraph, AsyncSqliteSaver"
    package = "langgraph-checkpoint-sqlite"

    async def start(self) -> None:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        self.stack = AsyncExitStack()
        path = str(self.folder / "langgraph-aio.db")
        self.saver = await self.stack.enter_async_context(AsyncSqliteSaver.from_conn_string(path))
        await self.saver.setup()

    async def append(self, id: str, message: Message) -> None:
        found = await self.saver.aget_tuple(self.config(id))
        await self.saver.aput(*self.step(id, found, self.appended(found, message)))

    async def read(self, id: str) -> list[str]:
        found = await self.saver.aget_tuple(self.config(id))
        return [item["content"] for item in self.values(found)["history"][-KEEP:]]

    async def set3(self, id: str, name: str, step: int, score: float) -> None:
        found = await self.saver.aget_tuple(self.config(id))
        await self.saver.aput(*self.step(id, found, {"name": name, "step": step, "score": score}))

    async def get(self, id: str) -> Any:
        return await self.saver.aget_tuple(self.config(id))

    async def count(self, id: str) -> int:
        return int(self.values(await self.saver.aget_tuple(self.config(id)))["turns"])

    async def fill(self, id: str, count: int) -> None:
        new = self.appended(None, *map(message, range(count)))
        await self.saver.aput(*self.step(id, None, new))

    async def close(self) -> None:
        await self.stack.aclose()
