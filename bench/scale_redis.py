"""Redis at a million: large neighbours, long listings, many tenants, what indexes keep, one hot state.

`python -m bench.scale_redis`, with `--quick` for trying it; `--only` runs some. The hand-written
baseline is redis-py, if it is installed, over hashes and sorted sets of its own.
"""

# ruff: noqa: RUF001  a multiplication sign is meant; it prints

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
import zlib
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from bench.measure import number, progress
from bench.part import Effort, Part, Table, Verdict
from statehold import AsyncStore, Counter, Log, Map, State, Tally
from statehold.backends import open_driver
from statehold.commits import Commit
from statehold.driver import Scan
from statehold.drivers.redis.keys import Keys
from statehold.testing.servers import RedisServer

LARGE = 100_000
SUBJECT = 10_000
"""States of the subject that is found."""
PAGE = 500


class Chat(State, ttl=86_400, limit_bytes=1 << 30):
    history = Log(str, keep=100)
    filters = Map(str, str, keep=64)
    turns = Counter()
    words = Tally(str, keep=1_000_000)


def by_hand(server: RedisServer) -> Any:
    """redis-py on that server; None where it is not installed."""
    try:
        return import_module("redis.asyncio").from_url(server.url)
    except ImportError:
        return None


async def took(call: Callable[[int], Awaitable[object]], times: int) -> list[float]:
    """Milliseconds of each call, one after the other."""
    found: list[float] = []
    for at in range(times):
        began = time.perf_counter()
        await call(at)
        found.append((time.perf_counter() - began) * 1e3)
    return found


async def rate(call: Callable[[int], Awaitable[object]], total: int, at_once: int) -> list[float]:
    """Calls a second, then milliseconds of each call; the tasks take calls in turn."""
    found: list[float] = []

    async def one(task: int) -> None:
        for at in range(task, total, at_once):
            began = time.perf_counter()
            await call(at)
            found.append((time.perf_counter() - began) * 1e3)

    began = time.perf_counter()
    await asyncio.gather(*(one(task) for task in range(at_once)))
    return [total / (time.perf_counter() - began), *found]


def p99(found: list[float]) -> float:
    return sorted(found)[int(len(found) * 0.99)]


# ---------------------------------------------------------------------------------- large neighbours


async def neighbours(effort: Effort) -> Part:
    """One small field beside a tally of 100,000, against the same in a small state."""
    table = Table(["", "small state", f"beside {LARGE:,}", "×", "p99 beside", "by hand, small"])
    times = effort.of(300, 30)
    worst = 0.0
    with RedisServer.start() as server:
        async with AsyncStore.open(server.url, timeout=30) as store:
            chats = store.collection(Chat)
            for id in ("small", "large"):
                await chats.apply(id, Chat.filters.put("a", "b"), Chat.history.append("x"))
                await chats.apply(id, Chat.turns.add(1), Chat.words.add("w0"))
            for first in range(0, LARGE, 5_000):
                words = (Chat.words.add(f"w{n}") for n in range(first, first + 5_000))
                await chats.apply("large", *words)
            hand = by_hand(server)
            if hand:
                await hand.hset("hand", mapping={"turns": 1, "a": "b"})
            jobs: dict[str, tuple[Any, Any]] = {
                "get a counter": (
                    lambda who: chats.get(who, fields=[Chat.turns]),
                    lambda: hand.hget("hand", "turns"),
                ),
                "get a map of one entry": (
                    lambda who: chats.get(who, fields=[Chat.filters]),
                    lambda: hand.hgetall("hand"),
                ),
                "apply to a counter": (
                    lambda who: chats.apply(who, Chat.turns.add(1)),
                    lambda: hand.hincrby("hand", "turns", 1),
                ),
                "apply to the tally": (
                    lambda who: chats.apply(who, Chat.words.add("w0")),
                    lambda: hand.hincrby("hand", "w0", 1),
                ),
                "the keys' end moves": (
                    lambda who: chats.apply(
                        who, Chat.turns.add(1), ttl=random.choice((20_000, 80_000))
                    ),
                    lambda: hand.expire("hand", random.randrange(20_000, 80_000)),
                ),
            }
            for name, (job, baseline) in jobs.items():
                small: list[float] = []
                large: list[float] = []
                bare: list[float] = []
                for _ in range(times):  # in turns
                    small += await took(lambda _, job=job: job("small"), 1)
                    large += await took(lambda _, job=job: job("large"), 1)
                    if hand:
                        bare += await took(lambda _, baseline=baseline: baseline(), 1)
                ratio = statistics.median(large) / statistics.median(small)
                worst = max(worst, ratio)
                table.rows.append(
                    [
                        name,
                        *(number(statistics.median(each)) for each in (small, large)),
                        number(ratio),
                        number(p99(large)),
                        number(statistics.median(bare)) if bare else "-",
                    ]
                )
            if hand:
                await hand.aclose()
    return Part(
        "Redis: a small field beside a large one",
        "Milliseconds, medians; the states take turns.",
        [table],
        [
            Verdict(
                "one small field beside 100,000: ≤ 2× a small state's", number(worst), worst <= 2
            )
        ],
    )


# ------------------------------------------------------------------------------------------ listing

FILL = """
local bucket, index, meta, from = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
for i = 3, #ARGV do
  local subject, id = 'u', ARGV[i]
  if string.byte(id, 1) == 115 then subject = 'subject' end
  redis.call('HSET', bucket .. id, '.', meta, '.subject', subject)
  redis.call('ZADD', index, 0, 'i' .. id, 0, 's' .. #subject .. ':' .. subject .. id)
end"""


async def fill(driver: Any, count: int) -> None:
    """So many states with nothing in them, made at the server as commits would have made them."""
    keys = Keys()
    await driver.commit([Commit(("", "chat", "first"), (), None)], time.time())
    _, state = keys.state(("", "chat", "first"))
    meta = (await driver._client.call(0, ("HGET", state, "."), repeatable=True)) or b""
    ids: dict[int, list[str]] = {}
    every = max(1, count // SUBJECT)
    for n in range(count):
        id = f"s{n:08}" if n % every == 0 else f"c{n:08}"
        ids.setdefault(zlib.crc32(id.encode()) & 63, []).append(id)
    for bucket, some in ids.items():
        place = keys.bucket("", "chat", bucket)
        for first in range(0, len(some), 2_000):
            ask = ("EVAL", FILL, 2, place.prefix, place.kept, meta, 0, *some[first : first + 2_000])
            await driver._client.call(place.slot, ask, repeatable=True)


async def listing(effort: Effort, most: int = 1_000_000) -> Part:
    """Pages of scan and find as states become a million."""
    table = Table(["states", "listing", "pages", "p50", "p99", "by hand, a page"])
    worst = 0.0
    sizes = [size for size in (10_000, 100_000, 1_000_000) if size <= most]
    for size in sizes[: effort.of(3, 1)]:
        progress(f"{size:,} states")
        with RedisServer.start() as server:
            driver = open_driver(server.url, timeout=30.0)
            await fill(driver, size)
            hand = by_hand(server)
            bare: list[float] = []
            if hand:
                for first in range(0, size, 5_000):
                    ids = {f"c{n:08}": 0 for n in range(first, first + 5_000)}
                    await hand.zadd("hand", ids)
                start = f"[c{size // 2:08}"
                for _ in range(50):
                    began = time.perf_counter()
                    await hand.zrangebylex("hand", start, "+", 0, PAGE)
                    bare.append((time.perf_counter() - began) * 1e3)
                await hand.aclose()
            for name, about in (
                ("scan", {}),
                ("find, 10,000", {"subject": "subject"}),
                ("prefix", {"prefix": "s"}),
            ):
                found: list[float] = []
                cursor: str | None = None
                for _ in range(effort.of(60, 20)):
                    began = time.perf_counter()
                    asked = Scan("", "chat", cursor=cursor, limit=PAGE, **about)  # type: ignore[arg-type]
                    cursor = (await driver.scan(asked, time.time())).cursor
                    found.append((time.perf_counter() - began) * 1e3)
                    if cursor is None:
                        break
                middle = statistics.median(found)
                worst = max(worst, middle)
                table.rows.append(
                    [
                        f"{size:,}",
                        name,
                        f"{len(found)}",
                        number(middle),
                        number(p99(found)),
                        number(statistics.median(bare)) if bare else "-",
                    ]
                )
            await driver.close()
    return Part(
        "Redis: pages of 500",
        "Milliseconds of a page; by hand: ZRANGEBYLEX of one sorted set, without asking whether they live.",
        [table],
        [Verdict("a page of 500: ≤ 10 ms", f"{number(worst)} ms", worst <= 10)],
    )


# ------------------------------------------------------------------------------------------ tenants


async def tenants(effort: Effort) -> Part:
    """64 at once on 10,000 tenants in turn, against one."""
    table = Table(["", "commits a second, median of rounds", "index keys", "their bytes, each"])
    total = effort.of(10_000, 2_000)
    found: dict[str, list[float]] = {"one tenant": [], "10,000 tenants": []}
    with RedisServer.start() as server:
        async with AsyncStore.open(server.url) as store:
            one = store.collection(Chat)
            many = [store.collection(Chat, tenant=f"tenant {n}") for n in range(total)]
            for _ in range(effort.of(5, 2)):
                for name, chats in (
                    ("one tenant", lambda _: one),
                    ("10,000 tenants", lambda at: many[at]),
                ):

                    def commit(at: int, chats: Any = chats) -> Awaitable[object]:
                        return chats(at).apply(f"{at}", Chat.turns.add(1))  # type: ignore[no-any-return]

                    found[name].append((await rate(commit, total, 64))[0])
            for name, rates in found.items():
                pattern = "sh:{:*}.index" if name == "one tenant" else "sh:{tenant*}.index"
                keys = server.cli("KEYS", pattern)
                sizes = [int(str(server.cli("MEMORY", "USAGE", key))) for key in keys[:50]]  # type: ignore[index,union-attr]
                row = [number(statistics.median(rates)), f"{len(keys)}"]  # type: ignore[arg-type]
                table.rows.append([name, *row, number(statistics.median(sizes))])
    one_rate, many_rate = (statistics.median(rates) for rates in found.values())
    ratio = many_rate / one_rate
    return Part(
        "Redis: many tenants",
        "Each with one state; rounds take turns.",
        [table],
        [Verdict("10,000 tenants: ≥ 0.8× of one", f"{number(ratio)}×", ratio >= 0.8)],
    )


# ---------------------------------------------------------------------------------- what indexes keep


def members(server: RedisServer) -> int:
    """Members of all indexes."""
    keys = server.cli("KEYS", "sh:{*}.index")
    return sum(int(str(server.cli("ZCARD", key))) for key in keys)  # type: ignore[union-attr]


async def index(effort: Effort) -> Part:
    """Each commit makes a state with a short ttl; then nobody does, and a sweep goes round."""
    table = Table(
        ["at once", "made a second", "members / living at 10 ttl", "dead after a sweep", "pieces"]
    )
    ttl = effort.of(2, 1)
    worst, left = 0.0, 0
    for at_once in (1, 64, 1_024):
        progress(f"{at_once} at once")
        with RedisServer.start() as server:
            driver = open_driver(server.url, timeout=30.0)
            made: list[float] = []
            until = time.monotonic() + ttl * effort.of(10, 3)

            async def one(task: int) -> None:
                n = 0
                while time.monotonic() < until:  # noqa: B023
                    key = ("", "chat", f"{task}-{n}")
                    await driver.commit([Commit(key, (), float(ttl))], time.time())  # noqa: B023
                    made.append(time.time())  # noqa: B023
                    n += 1

            await asyncio.gather(*(one(task) for task in range(at_once)))
            held, now = members(server), time.time()
            ratio = held / max(1, sum(at > now - ttl for at in made))
            worst = max(worst, ratio)
            await asyncio.sleep(ttl + 0.1)
            pieces, after = 0, ""
            while after is not None:
                after, pieces = (await driver.sweep(time.time(), after)).after, pieces + 1  # type: ignore[assignment]
            left += members(server)
            await driver.close()
            per_second = number(len(made) / (ttl * effort.of(10, 3)))
            row = [f"{at_once:,}", per_second, number(ratio), f"{members(server)}", f"{pieces}"]
            table.rows.append(row)
    return Part(
        "Redis: what indexes keep",
        f"Each commit makes a state with a ttl of {ttl} s, for ten times that.",
        [table],
        [
            Verdict("index members / living at 10 ttl: ≤ 2.5", number(worst), worst <= 2.5),
            Verdict("dead members after a sweep: 0", f"{left}", left == 0),
        ],
    )


# ---------------------------------------------------------------------------------------- one hot state


async def hot(effort: Effort) -> Part:
    """Append and count on one state, by 1 to 4,096 tasks."""
    table = Table(
        ["tasks", "a second", "p50 ms", "p99 ms", "by hand a second", "fewest / most of a task"]
    )
    rates: dict[int, float] = {}
    with RedisServer.start() as server:
        async with AsyncStore.open(server.url, timeout=30) as store:
            chats = store.collection(Chat)
            hand = by_hand(server)
            for tasks in (1, 64, 512, 4_096):
                progress(f"{tasks} tasks")
                commit = lambda _: chats.apply("hot", Chat.history.append("x"), Chat.turns.add(1))  # noqa: E731
                total = max(effort.of(60_000, 8_192), tasks * 2) if tasks > 1 else 3_000
                await rate(commit, min(total, 4_096), tasks)
                done = [0] * tasks
                until = time.monotonic() + effort.of(4, 1)
                waits: list[float] = []

                async def one(task: int) -> None:
                    while (began := time.monotonic()) < until:  # noqa: B023
                        await commit(task)  # noqa: B023
                        waits.append((time.monotonic() - began) * 1e3)  # noqa: B023
                        done[task] += 1  # noqa: B023

                began = time.monotonic()
                await asyncio.gather(*(one(task) for task in range(tasks)))
                rates[tasks] = sum(done) / (time.monotonic() - began)
                bare = "-"
                if hand and tasks <= 64:

                    async def step(_: int) -> None:
                        async with hand.pipeline(transaction=True) as pipe:
                            pipe.rpush("list", "x").ltrim("list", -100, -1).hincrby(
                                "hash", "turns", 1
                            )
                            await pipe.execute()

                    bare = number((await rate(step, effort.of(4_000, 400), tasks))[0])
                figures = (number(each) for each in (statistics.median(waits), p99(waits)))
                row = [f"{tasks:,}", number(rates[tasks]), *figures, bare]
                table.rows.append([*row, f"{min(done)} / {max(done)}"])
            if hand:
                await hand.aclose()
    ratio = rates[4_096] / rates[64]
    return Part(
        "Redis: one hot state",
        "Append and count; by hand: RPUSH, LTRIM and HINCRBY in MULTI.",
        [table],
        [Verdict("4,096 writers: ≥ 0.6× of 64", f"{number(ratio)}×", ratio >= 0.6)],
    )


MEASUREMENTS: dict[str, Callable[[Effort], Awaitable[Part]]] = {
    "neighbours": neighbours,
    "listing": listing,
    "tenants": tenants,
    "index": index,
    "hot": hot,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale_redis", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="try it; no figures to rely on")
    parser.add_argument("--states", type=int, default=1_000_000, help="most states to list")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS)
    given = parser.parse_args()
    effort = Effort(given.quick)
    for name in given.only or MEASUREMENTS:
        if name == "listing":
            part = asyncio.run(listing(effort, given.states))
        else:
            part = asyncio.run(MEASUREMENTS[name](effort))
        print(f"\n## {part.title}\n\n{part.how}\n")
        for table in part.tables:
            for row in (table.columns, ["---"] * len(table.columns), *table.rows):
                print("| " + " | ".join(row) + " |")
        for verdict in part.verdicts:
            print(f"- {verdict.target}: {verdict.measured} ({'yes' if verdict.reached else 'no'})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
