"""Sessions of agent frameworks: the OpenAI Agents SDK's `SQLiteSession` and Google ADK's services."""

from __future__ import annotations

import warnings
from typing import Any

from bench.contender import KEEP, Contender, Message, message

ADK = "no expiry; keeps everything; a writer must hold the newest session"


class Agents(Contender):
    """A session of the Agents SDK, wherever it is kept."""

    package = "openai-agents"
    lacks = "no count, no expiry, keeps everything (the newest 20 are read)"

    def session(self, id: str) -> Any:
        """The library's session of this id."""
        raise NotImplementedError

    async def append(self, id: str, message: Message) -> None:
        await self.session(id).add_items([{"role": message.role, "content": message.content}])

    async def read(self, id: str) -> list[str]:
        return [item["content"] for item in await self.session(id).get_items(limit=KEEP)]

    async def get(self, id: str) -> Any:
        return await self.session(id).get_items(limit=KEEP)


class AgentsSqlite(Agents):
    name = "OpenAI Agents SDK, SQLiteSession"

    async def start(self) -> None:
        self.sessions: dict[str, Any] = {}

    def session(self, id: str) -> Any:
        found = self.sessions.get(id)
        if found is None:
            from agents import SQLiteSession

            found = self.sessions[id] = SQLiteSession(id, self.folder / "agents.db")
        return found

    async def count(self, id: str) -> int:
        return len(await self.session(id).get_items(limit=1_000_000))

    async def fill(self, id: str, count: int) -> None:
        items = [{"role": "user", "content": message(at).content} for at in range(count)]
        await self.session(id).add_items(items)

    async def close(self) -> None:
        for session in self.sessions.values():
            session.close()


class AdkMemory(Contender):
    name = "ADK, InMemorySessionService"
    package = "google-adk"
    lacks = ADK

    async def start(self) -> None:
        warnings.simplefilter("ignore")
        from google.adk.events import Event, EventActions
        from google.adk.sessions.base_session_service import GetSessionConfig
        from google.genai import types

        self.event, self.actions, self.types = Event, EventActions, types
        self.newest = GetSessionConfig(num_recent_events=KEEP)
        self.all = GetSessionConfig()
        self.known: set[str] = set()
        self.service: Any = self.open()

    def open(self) -> Any:
        from google.adk.sessions import InMemorySessionService

        return InMemorySessionService()

    async def session(self, id: str, config: Any = None) -> Any:
        if id not in self.known:
            self.known.add(id)
            await self.service.create_session(app_name="bench", user_id="u", session_id=id)
        return await self.service.get_session(
            app_name="bench", user_id="u", session_id=id, config=config or self.newest
        )

    def made(self, message: Message, delta: dict[str, Any]) -> Any:
        content = self.types.Content(
            role=message.role, parts=[self.types.Part(text=message.content)]
        )
        actions = self.actions(state_delta=delta)
        return self.event(author=message.role, content=content, actions=actions)

    async def append(self, id: str, message: Message) -> None:
        session = await self.session(id)
        event = self.made(message, {"turns": session.state.get("turns", 0) + 1})
        await self.service.append_event(session, event)

    async def read(self, id: str) -> list[str]:
        session = await self.session(id)
        return [event.content.parts[0].text for event in session.events if event.content]

    async def set3(self, id: str, name: str, step: int, score: float) -> None:
        session = await self.session(id)
        delta = {"name": name, "step": step, "score": score}
        actions = self.actions(state_delta=delta)
        await self.service.append_event(session, self.event(author="user", actions=actions))

    async def get(self, id: str) -> Any:
        return await self.session(id)

    async def count(self, id: str) -> int:
        return int((await self.session(id)).state.get("turns", 0))


class AdkDatabase(AdkMemory):
    name = "ADK, DatabaseSessionService"

    def open(self) -> Any:
        from google.adk.sessions import DatabaseSessionService

        return DatabaseSessionService(db_url=f"sqlite+aiosqlite:///{self.folder}/adk.db")

    async def close(self) -> None:
        await self.service.close()
