"""The four stores, each opened at a fresh place with what is written by hand beside it.

Whatever lies on disk is in a temporary folder and goes with it, and so do servers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from bench.contender import Message, message, present
from bench.measure import progress
from bench.part import Part
from bench.scale import by_hand
from statehold import AsyncStore, Counter, Log, ManualClock, State
from statehold.testing.servers import Missing, PostgresServer, RedisServer

KEEP = 100
PIECE = 500
"""How many states are made at a time where many are."""


class Chat(State, ttl=timedelta(days=1), kind="bench_chat"):
    """Some messages, and a count."""

    history = Log(Message, keep=KEEP)
    turns = Counter()


MESSAGES = [message(at) for at in range(KEEP)]


def edits(items: int = 1) -> tuple[Any, ...]:
    return Chat.history.append(*MESSAGES[:items]), Chat.turns.add(1)


@dataclass(frozen=True)
class Kind:
    """One of the stores."""

    home: Callable[[], Any]
    """Gives a url, and what counts the states stored there, also those that have ended."""
    hand: Callable[[str], Any]
    """What is written by hand, for a url."""
    settings: dict[str, Any]
    ttl: float = 0.0
    """For how many seconds a state lives that is to end soon; 0 where a clock is moved by hand."""


@dataclass
class Place:
    """A store at a place of its own."""

    name: str
    url: str
    store: AsyncStore
    hand: Any
    """None where its package is missing, or nobody asked for it."""
    stored: Callable[[AsyncStore], int]
    clock: ManualClock | None

    @property
    def chats(self) -> Any:
        return self.store.collection(Chat)

    def count(self) -> int:
        """How many states are stored, also those that have ended."""
        return self.stored(self.store)

    def now(self) -> float:
        return self.clock.now() if self.clock else time.time()

    async def passes(self, seconds: float) -> None:
        """So much time is over: that of a clock moved by hand, or of everybody."""
        if self.clock:
            self.clock.advance(seconds)
        elif seconds > 0:
            await asyncio.sleep(seconds)


# ------------------------------------------------------------------------------------------ where

MEMBERS = """
local sum = 0
for _, key in ipairs(redis.call('KEYS', 'sh:{*}.index')) do sum = sum + redis.call('ZCARD', key) end
return sum"""


@contextmanager
def _memory() -> Iterator[Any]:
    yield "memory://?max_bytes=64GiB", lambda store: len(store.driver._states.slots)


@contextmanager
def _sqlite() -> Iterator[Any]:
    with TemporaryDirectory(prefix="statehold-bench-") as folder:
        yield f"sqlite:///{folder}/state.db", lambda _: rows(Path(folder, "state.db"))


def rows(path: Path) -> int:
    import sqlite3

    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM state").fetchone()[0])
    finally:
        connection.close()


@contextmanager
def _redis() -> Iterator[Any]:
    with RedisServer.start() as server:
        yield server.url, lambda _: int(str(server.cli("EVAL", MEMBERS, 0, timeout=30)))


@contextmanager
def _postgres() -> Iterator[Any]:
    with PostgresServer.start() as server:
        count = f"SELECT count(*) FROM {Chat.__schema__.kind}"
        yield server.url, lambda _: int(server.sql(count)[0][0] or 0)


KINDS = {
    "memory": Kind(_memory, lambda _: by_hand.Dict(Path()), {}),
    "SQLite": Kind(
        _sqlite,
        lambda url: by_hand.Sqlite(Path(urlsplit(url).path).parent),
        {},
    ),
    "Redis": Kind(
        _redis,
        lambda url: by_hand.Redis(SimpleNamespace(port=urlsplit(url).port), 1),  # type: ignore[arg-type]
        {"timeout": 60.0},
        ttl=2.0,
    ),
    "PostgreSQL": Kind(_postgres, by_hand.Asyncpg, {"timeout": 60.0}, ttl=4.0),
}
PLACES = tuple(KINDS)


@asynccontextmanager
async def opened(
    name: str, *, moves: bool = False, hand: bool = False, **settings: Any
) -> AsyncIterator[Place]:
    """The store, until the block ends; with a clock moved by hand, if it `moves` and has none of its own."""
    kind = KINDS[name]
    clock = ManualClock() if moves and not kind.ttl else None
    with kind.home() as (url, stored):
        async with AsyncExitStack() as stack:
            store = AsyncStore.open(url, clock=clock, **kind.settings | settings)
            await stack.enter_async_context(store)
            contender = await started(stack, kind.hand(url)) if hand else None
            yield Place(name, url, store, contender, stored, clock)


async def started(stack: AsyncExitStack, hand: Any) -> Any:
    """It is ready until the stack closes; None if its package is not installed."""
    if hand.package and present(hand.package) is None:
        return None
    hand.keep = KEEP
    await hand.start()
    stack.push_async_callback(hand.close)
    return hand


async def everywhere(
    part: Part, places: Sequence[str], measure: Callable[[str], Awaitable[None]]
) -> Part:
    """Measure at each place; one whose server cannot be had is listed as absent."""
    for name in places:
        progress(name)
        try:
            await measure(name)
        except Missing as missing:
            part.absent.append(f"{name} ({missing})")
    return part


def unheld() -> Any:
    """PostgreSQL keeps what has ended for a minute, for who sends a commit again. Here it does not."""
    from statehold.drivers.sql.portable import sweep

    return patch.object(sweep, "HOLD_SECONDS", 0.0)


# ---------------------------------------------------------------------------------------- states


def id_of(at: int) -> str:
    """The id of a state: those that follow each other lie anywhere, half of them under `a`."""
    return f"{'ab'[at & 1]}{at * 2_654_435_761 % (1 << 32):08x}"


async def fill(
    chats: Any, ids: Sequence[str], until: Callable[[], float] | None = None, **about: Any
) -> None:
    """Each of these states has one message. `until` says how long they are to live, when they are made."""
    given = edits()
    for first in range(0, len(ids), PIECE):
        some = ids[first : first + PIECE]
        if until is None and not about:
            await chats.apply_many([(id, given) for id in some])
            continue
        lives = about if until is None else {**about, "ttl": until()}
        await asyncio.gather(*(chats.apply(id, *given, **lives) for id in some))
