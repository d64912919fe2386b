"""What each contender implements, and the work that all of them do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import msgspec

KEEP = 20
TTL = 3600.0
MESSAGE_BYTES = 200


class Message(msgspec.Struct, frozen=True):
    """200 bytes as JSON, unless told otherwise."""

    role: str
    content: str


def message(at: int, size: int = MESSAGE_BYTES) -> Message:
    """A message that tells which one it is."""
    frame = len(msgspec.json.encode(Message("user", "")))
    return Message("user", f"{at:09d}".ljust(size - frame, "x"))


class Contender:
    """One way to keep a bounded history, a count and three scalars that expire.

    `append`, `read`, `set3` and `get` may be plain or `async`; the same work for all: `append` adds a
    message, keeps the newest 20, adds one to the count and renews the expiry; `read` gives the
    contents of the newest 20; `set3` sets three scalars and renews; `get` gives the state as the
    contender hands it out, without looking into it.
    """

    name: ClassVar[str]
    package: ClassVar[str] = ""
    """The distribution it comes from; empty for the standard library and statehold itself."""
    lacks: ClassVar[str] = ""
    """What of the work it cannot do."""

    keep = KEEP
    counts: ClassVar[bool] = True
    """Whether `count` goes on past `keep`."""
    append: Callable[..., Any]
    read: Callable[..., Any]
    set3: Callable[..., Any] | None = None
    get: Callable[..., Any]
    count: Callable[..., Any]
    """How many appends it says it has had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def start(self) -> None:
        """Ready for calls."""

    async def fill(self, id: str, count: int) -> None:
        """The state has `count` messages."""
        from bench.measure import maybe

        for at in range(count):
            await maybe(self.append(id, message(at)))

    async def close(self) -> None:
        """Everything is released."""


def present(package: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def split(contenders: list[type[Contender]]) -> tuple[list[type[Contender]], list[str]]:
    """Those that can run here, and the names of those whose package is not installed."""
    here = [c for c in contenders if not c.package or present(c.package) is not None]
    return here, [f"{c.name} ({c.package} is not installed)" for c in contenders if c not in here]


async def works(contender: Contender) -> None:
    """Raise unless it does what is measured."""
    from bench.measure import maybe

    id = "works"
    await contender.fill(id, 25)
    last = list(await maybe(contender.read(id)))
    kept = min(KEEP, contender.keep)
    wanted = [message(at).content for at in range(25 - kept, 25)]
    if last[-kept:] != wanted:
        raise AssertionError(f"{contender.name}: reads {last[-1:]} of {len(last)}, not the newest")
    right = {25} if contender.counts else {25, min(25, contender.keep)}  # bounded or not
    if (count := await maybe(contender.count(id))) not in right:
        raise AssertionError(f"{contender.name}: counts {count} of 25")
    if contender.set3 is not None:
        await maybe(contender.set3(id, "a", 2, 3.5))
    await maybe(contender.get(id))


async def ready(stack: AsyncExitStack, contenders: Iterable[Any], keep: int) -> list[Any]:
    """They keep so many messages, are started until the stack closes, and do what is measured."""
    made: list[Any] = []
    for contender in contenders:
        contender.keep = keep
        await contender.start()
        stack.push_async_callback(contender.close)
        await works(contender)
        made.append(contender)
    return made
