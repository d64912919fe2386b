"""One client on Redis: latency, processor time, and how an append grows with the history."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from bench import contenders_redis as on
from bench.contender import Contender, message, ready, split
from bench.crowd import at_least, filled
from bench.latency import Calls, compared, timed
from bench.measure import median, number, progress
from bench.operations import STORED, against, at_most
from bench.part import Effort, Part, Table, Verdict
from bench.servers import Placement, placed
from statehold.testing.servers import RedisServer

CONTENDERS: list[type[on.OnRedis]] = [
    on.Statehold,
    on.StateholdCounting,
    on.Pipeline,
    on.Transaction,
    on.GetSetex,
    on.Watch,
    on.LuaBlob,
    on.AgentsRedis,
    on.Starsessions,
]
CASES: list[tuple[int, Placement]] = [(20, "one core"), (20, "own cores"), (100, "one core")]
ON_DISK: list[type[on.OnRedis]] = [on.Statehold, on.Pipeline, on.AgentsRedis]
SERVER = (
    "One Redis with persistence off (no snapshots, no append-only file), shared by all, each in a database of "
    "its own; redis-py's asyncio client with hiredis as its parser. "
)


async def opened(
    stack: AsyncExitStack,
    server: RedisServer,
    classes: Sequence[type[on.OnRedis]],
    keep: int,
    first: int = 0,
) -> list[on.OnRedis]:
    """They are started and do what is measured, in databases from the first; 0: in an empty server."""
    if not first:
        server.cli("FLUSHALL")
    made = (cls(server, database) for database, cls in enumerate(classes, first))
    return await ready(stack, made, keep)


async def redis(effort: Effort) -> Part:
    """Append with expiry, over full sessions."""
    here, absent = split(list[type[Contender]](CONTENDERS))
    found: dict[tuple[int, Placement], dict[str, Calls]] = {}
    part = Part(
        "Redis: one client",
        f"{SERVER}Each call adds a message of 200 bytes, keeps the newest and renews the expiry of one hour; "
        "100 sessions, all of them full. p50 is the median of the rounds' p50, p99 is over the calls of "
        "all rounds; processor time is the client process' and the server's, for each call.",
        absent=absent,
    )
    with RedisServer.start(config={"databases": 64}) as server:
        for keep, placement in CASES:
            about = f"{keep} messages kept; client and server on {placement}."
            table, took = await _case(server, here, keep, placement, effort)
            table.about = about
            part.tables.append(table)
            found[keep, placement] = took
    on_disk = {"databases": 64, "appendonly": "yes", "appendfsync": "everysec"}
    with RedisServer.start(config=on_disk) as server:
        some = [cls for cls in here if cls in ON_DISK]
        table, _ = await _case(server, some, 20, "one core", effort)
        table.about = (
            "20 messages kept, one core, with an append-only file, `appendfsync everysec`."
        )
        part.tables.append(table)
    part.verdicts = _judged(found)
    return part


async def _case(
    server: RedisServer,
    classes: Sequence[type[Contender]],
    keep: int,
    placement: Placement,
    effort: Effort,
) -> tuple[Table, dict[str, Calls]]:
    progress(f"{keep} messages, {placement}, {len(classes)} contenders")
    ids = [f"session-{at}" for at in range(effort.of(100, 10))]
    given = [(ids[at % len(ids)], message(at)) for at in range(2_000)]
    async with AsyncExitStack() as stack:
        contenders = await opened(stack, server, classes, keep)  # type: ignore[arg-type]
        for contender in contenders:
            await filled(contender, ids, keep)
        calls = {one.name: (one.append, given) for one in contenders}
        with placed(server.pid, placement):
            took = await timed(calls, effort.of(11, 3), ms=effort.of(60, 15), pid=server.pid)
    return compared(contenders, took), took


def _judged(found: dict[tuple[int, Placement], dict[str, Calls]]) -> list[Verdict]:
    ours, one = on.Statehold.name, found[20, "one core"]
    p50 = {name: calls.p50 for name, calls in one.items()}
    own_cores = {name: calls.p50 for name, calls in found[20, "own cores"].items()}
    apart = against(own_cores, ours, on.Pipeline)
    return [
        at_most(
            "Redis, append with expiry, one client: p50 at most 0.8× the hand-written pipeline",
            against(p50, ours, on.Pipeline),
            0.8,
            "" if apart is None else f" ({number(apart)}× on own cores)",
        ),
        at_most(
            "Redis, the same: at most 0.5× the pipeline's processor time in the client",
            against({name: calls.client for name, calls in one.items()}, ours, on.Pipeline),
            0.5,
        ),
        at_least(
            "Redis, the same: at least 4× faster than RedisSession",
            p50,
            on.AgentsRedis.name,
            ours,
            4,
        ),
    ]


SIZES = STORED[:4]


async def growth(effort: Effort) -> Part:
    """Append at ever longer histories, each of them full."""
    here, absent = split(list[type[Contender]](CONTENDERS))
    sizes = SIZES[: effort.of(4, 2)]
    figures: dict[str, dict[int, list[float]]] = {cls.name: {} for cls in here}
    with RedisServer.start(config={"databases": 64}) as server:
        async with AsyncExitStack() as stack:
            made: dict[int, list[on.OnRedis]] = {}
            for size in sizes:
                progress(f"filling with {size:,} messages")
                first = len(made) * len(here)
                made[size] = await opened(stack, server, here, size, first)  # type: ignore[arg-type]
                for contender in made[size]:
                    await contender.fill("long", size)
            with placed(server.pid, "one core"):
                for at in range(effort.of(5, 1)):  # so that all sizes meet the same machine
                    progress(f"round {at + 1}")
                    for size in sizes:
                        given = [("long", message(size + at)) for at in range(300)]
                        calls = {one.name: (one.append, given) for one in made[size]}
                        took = await timed(calls, 3, ms=effort.of(25, 15), pid=server.pid)
                        for name, of in took.items():
                            figures[name].setdefault(size, []).extend(of.p50)
    table = Table(["µs, p50", *(f"{size:,}" for size in sizes), "last / first"])
    for name, row in figures.items():
        cells = [number(median(row[size])) for size in sizes]
        grown = median(row[sizes[-1]]) / median(row[sizes[0]])
        table.rows.append([name, *cells, f"{number(grown)}×"])
    ours = figures[on.Statehold.name]
    flat = median([b / a for a, b in zip(ours[sizes[0]], ours[sizes[-1]], strict=True)])
    return Part(
        "Redis: append to long histories",
        f"{SERVER}One session that is full with so many messages; p50 of single appends, client and server on "
        "one core. RedisSession has no bound.",
        [table],
        [
            Verdict(
                "Redis, append: flat within 1.2× from 10 to 10,000 stored messages",
                f"{number(flat)}× at {sizes[-1]:,}",
                flat <= 1.2 if sizes[-1] == SIZES[-1] else None,
            )
        ],
        absent,
    )
