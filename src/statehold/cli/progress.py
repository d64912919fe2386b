"""The progress of a replay, on a terminal: with rich if it is there, else as a plain line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from statehold.replay import Replay


@asynccontextmanager
async def progress(replay: Replay, *, shown: bool) -> AsyncGenerator[None]:
    """A bar on standard error while the block runs, if it is to be shown."""
    if not shown:
        yield
        return
    draw, end = _rich() or _plain()

    async def follow() -> None:
        while True:
            draw(replay.done, replay.size)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        draw(replay.done, replay.size)
        end()


_Bar = tuple[Callable[[int, int], None], Callable[[], None]]


def _rich() -> _Bar | None:
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TaskID,
            TextColumn,
            TimeRemainingColumn,
        )
    except ModuleNotFoundError:
        return None
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.start()
    task: TaskID = bar.add_task("", total=None, rate="")

    def draw(done: int, size: int) -> None:
        speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
        bar.update(task, completed=done, total=size or None, rate=f"{speed:,.0f}" if speed else "…")

    return draw, bar.stop


def _plain() -> _Bar:
    def draw(done: int, size: int) -> None:
        print(f"\r{done:,} of {size:,} lines", end="", file=sys.stderr, flush=True)

    return draw, lambda: print(file=sys.stderr)
