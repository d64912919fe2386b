"""SQLite at a million: garbage, bursts, large states, the event loop, many processes, threads.

`python -m bench.scale_sqlite` prints it; `--quick` does so in less than a minute. `SIZES` says how much of
each. Beside what waits for others or for the disk stands sqlite3 by hand: one upsert and one insert, in a
transaction of its own, with the busy timeout of 5 s that the driver has.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

from statehold import AsyncStore, Busy, Counter, Log, ManualClock, State, Store

TEXT = "x" * 95
HOUR = 3600.0


class Chat(State, ttl=timedelta(hours=1), kind="bench_chat"):
    """A session whose end is near."""

    messages = Log(str, keep=100)
    turns = Counter()


class Hot(State, ttl=timedelta(days=10), kind="bench_hot", limit_bytes=2**30):
    """A session that goes on, and may be large."""

    messages = Log(str, keep=100_000, max_bytes=2000)
    turns = Counter()


class Sizes(NamedTuple):
    """How much of each."""

    burst: int
    large: int
    writers: Sequence[int]
    items: Sequence[int]
    processes: Sequence[int]
    threads: Sequence[int]
    seconds: float


FULL = Sizes(1_000_000, 30_000, (1, 64, 256, 1024), (1, 20, 100), (1, 8, 50), (1, 8, 32), 5.0)
QUICK = Sizes(20_000, 10_000, (1, 256), (1, 20), (1, 8), (1, 8), 1.0)


@contextlib.contextmanager
def _file() -> Generator[Path, None, None]:
    with tempfile.TemporaryDirectory(prefix="statehold-bench-") as folder:
        yield Path(folder) / "state.db"


def _say(*words: object) -> None:
    print(*words, flush=True)


def _rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as conn:
        return int(conn.execute("SELECT count(*) FROM state").fetchone()[0])


class Lag:
    """How late the event loop comes to what is due each millisecond."""

    def __init__(self) -> None:
        self.ms: list[float] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.ms.append((time.perf_counter() - began) * 1e3 - 1)

    def said(self) -> str:
        """p99 and worst, in milliseconds."""
        return f"loop lag p99 {_p(self.ms, 0.99):.1f}, worst {max(self.ms, default=0.0):.1f} ms"


def _p(values: list[float], part: float) -> float:
    return sorted(values)[int(part * (len(values) - 1))] if values else 0.0


async def garbage(writers: int, items: int) -> None:
    """Rows against what lives, when each commit makes a session: over 10 lives, worst and last."""
    clock, lives, made = ManualClock(), max(1000, 2 * writers), 0
    found: list[float] = []
    edits = [Chat.messages.append(TEXT) for _ in range(items)]
    with _file() as path:
        async with AsyncStore.open(f"sqlite:///{path}", clock=clock) as store:
            chats = store.collection(Chat)
            for _ in range(10 * lives // writers):
                ids = [f"s{made + n}" for n in range(writers)]
                await asyncio.gather(*(chats.apply(id, *edits) for id in ids))
                made += writers
                clock.advance(HOUR * writers / lives)
                if made > 2 * lives and made // (lives // 4) != (made - writers) // (lives // 4):
                    found.append(_rows(path) / lives)
    _say(
        f"garbage, {writers} at once, {items} items: rows / living worst {max(found):.2f},"
        f" last {found[-1]:.2f}"
    )


async def _hot(store: AsyncStore, seconds: float, label: str) -> float:
    """64 writers on 1,000 living sessions: commits a second."""
    hot, took, until = store.collection(Hot), list[float](), time.perf_counter() + seconds

    async def task(at: int) -> None:
        n = 0
        while (began := time.perf_counter()) < until:
            id = f"h{(at * 31 + n * 7) % 1000}"
            await hot.apply(id, Hot.messages.append(TEXT), Hot.turns.add(1))
            took.append((time.perf_counter() - began) * 1e3)
            n += 1

    async with Lag() as lag:
        await asyncio.gather(*map(task, range(64)))
    rate = len(took) / seconds
    _say(
        f"{label}: {rate:,.0f}/s, p99 {_p(took, 0.99):.1f}, worst {max(took):.1f} ms; {lag.said()}"
    )
    return rate


async def burst(count: int, seconds: float) -> None:
    """So many sessions end at once while 64 writers go on with 1,000 that live."""
    clock = ManualClock()
    with _file() as path:
        async with AsyncStore.open(f"sqlite:///{path}", clock=clock) as store:
            chats = store.collection(Chat)
            for begin in range(0, count, 500):
                edits = [Chat.messages.append(TEXT), Chat.turns.add(1)]
                await chats.apply_many([(f"s{n}", edits) for n in range(begin, begin + 500)])
            before = await _hot(store, seconds, "burst, before")
            clock.advance(HOUR + 1)
            rate = await _hot(store, seconds, f"burst, {count:,} ended")
            _say(f"burst: {rate / before:.2f}x of before, {_rows(path):,} rows left")


async def large(items: int) -> None:
    """A large session is read and deleted while others write."""
    with _file() as path:
        async with AsyncStore.open(f"sqlite:///{path}") as store:
            hot = store.collection(Hot)
            for _ in range(0, items, 1000):
                await hot.apply("large", *(Hot.messages.append("y" * 1000) for _ in range(1000)))
            for what in ("read", "delete"):
                async with Lag() as lag:
                    began = time.perf_counter()
                    if what == "read":
                        await hot.get("large")
                    else:
                        await hot.delete("large")
                    took = (time.perf_counter() - began) * 1e3
                    for _ in range(100):
                        await hot.apply("other", Hot.turns.add(1))
                        await asyncio.sleep(0.001)
                _say(f"large, {what} of {items:,} x 1 KB: {took:.1f} ms; {lag.said()}")


WRITER = """
import sys
from bench.scale_sqlite import writer
writer(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4])
"""


def writer(path: str, me: str, seconds: float, whose: str) -> None:
    """One process of many: prints how many commits, errors, and the p99 and worst in milliseconds."""
    with contextlib.ExitStack() as stack:
        call = _by_hand(path, stack) if whose == "hand" else _ours(path, stack, "NORMAL")
        _say("ready")
        sys.stdin.readline()
        took: list[float] = []
        errors, until = 0, time.time() + seconds
        while time.time() < until:
            began = time.perf_counter()
            try:
                call(f"{me}-{len(took) % 50}")
            except (Busy, sqlite3.OperationalError):
                errors += 1
            took.append((time.perf_counter() - began) * 1e3)
        _say(len(took) - errors, errors, _p(took, 0.99), max(took))


def _ours(path: str, stack: contextlib.ExitStack, synchronous: str) -> Callable[[str], Any]:
    store = stack.enter_context(Store.open(f"sqlite:///{path}?synchronous={synchronous}"))
    chats = store.collection(Chat)
    store.check()
    return lambda at: chats.apply(at, Chat.messages.append(TEXT), Chat.turns.add(1))


def _by_hand(
    path: str, stack: contextlib.ExitStack, synchronous: str = "NORMAL"
) -> Callable[[str], Any]:
    conn = sqlite3.connect(path, 5.0, isolation_level=None, check_same_thread=False)
    stack.enter_context(contextlib.closing(conn))
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute(f"PRAGMA synchronous = {synchronous}")
    conn.execute("CREATE TABLE IF NOT EXISTS chat (id PRIMARY KEY, turns)")
    conn.execute("CREATE TABLE IF NOT EXISTS message (id, at, body, PRIMARY KEY (id, at))")
    lock = threading.Lock()

    def call(id: str) -> None:
        with lock:
            conn.execute("BEGIN IMMEDIATE")
            ((turns,),) = conn.execute(
                "INSERT INTO chat VALUES (?, 1) ON CONFLICT DO UPDATE SET turns = turns + 1"
                " RETURNING turns",
                (id,),
            ).fetchall()
            conn.execute("REPLACE INTO message VALUES (?, ?, ?)", (id, turns % 100, TEXT))
            conn.execute("COMMIT")

    return call


def processes(count: int, seconds: float, whose: str) -> None:
    """So many processes write to one file: their rates, and how far apart they are."""
    with _file() as path:
        command = [sys.executable, "-c", WRITER, str(path)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        all_ = [
            subprocess.Popen(
                [*command, str(n), str(seconds), whose],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=env,
            )
            for n in range(count)
        ]
        for each in all_:
            assert each.stdout is not None
            each.stdout.readline()
        for each in all_:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        told = [[float(word) for word in each.communicate()[0].split()] for each in all_]
    done = [each[0] for each in told]
    _say(
        f"processes, {whose}, {count}: {sum(done) / seconds:,.0f}/s, slowest / median"
        f" {min(done) / (median(done) or 1):.2f}, {sum(each[1] for each in told):.0f} errors,"
        f" p99 {max(each[2] for each in told):.0f}, worst {max(each[3] for each in told):.0f} ms"
    )


def threads(count: int, seconds: float, synchronous: str, whose: str) -> float:
    """So many threads of one process commit through the synchronous API: commits a second."""
    done = [0] * count
    with _file() as path, contextlib.ExitStack() as stack:
        made = _by_hand if whose == "hand" else _ours
        call = made(str(path), stack, synchronous)
        until = time.perf_counter() + seconds

        def work(at: int) -> None:
            while time.perf_counter() < until:
                call(f"{at}-{done[at] % 50}")
                done[at] += 1

        all_ = [threading.Thread(target=work, args=(at,)) for at in range(count)]
        for each in all_:
            each.start()
        for each in all_:
            each.join()
    rate = sum(done) / seconds
    _say(f"threads, {whose} {synchronous}, {count}: {rate:,.0f}/s")
    return rate


def _garbage(sizes: Sizes) -> None:
    for writers in sizes.writers:
        for items in sizes.items:
            asyncio.run(garbage(writers, items))


def _processes(sizes: Sizes) -> None:
    for count in sizes.processes:
        for whose in ("statehold", "hand"):
            processes(count, sizes.seconds, whose)


def _threads(sizes: Sizes) -> None:
    for whose in ("statehold", "hand"):
        rates = [threads(count, sizes.seconds, "FULL", whose) for count in sizes.threads]
        _say(f"threads, {whose}: {rates[1] / rates[0]:.1f}x one thread")


ALL: dict[str, Callable[[Sizes], None]] = {
    "garbage": _garbage,
    "burst": lambda sizes: asyncio.run(burst(sizes.burst, sizes.seconds)),
    "large": lambda sizes: asyncio.run(large(sizes.large)),
    "processes": _processes,
    "threads": _threads,
}


def main(arguments: Sequence[str] = ()) -> None:
    """Measure all of it, or what is named: see `ALL`."""
    sizes = QUICK if "--quick" in arguments else FULL
    named = [name for name in arguments if not name.startswith("-")]
    for name in named or ALL:
        ALL[name](sizes)


if __name__ == "__main__":
    main(sys.argv[1:])
