"""Ten thousand tenants on Redis against one, and two hundred kinds on PostgreSQL against one."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.contender import message
from bench.measure import interleave, median, number, progress, ratios
from bench.part import Effort, Part, Table, Verdict
from bench.scale.by_hand import Asyncpg
from bench.scale.places import Chat, edits, opened, started
from bench.scale.tasks import crowd
from statehold import AsyncStore, Counter, Log, Map, Register, State
from statehold.testing.servers import PostgresServer

AT_ONCE = 64


async def tenants(effort: Effort) -> Part:
    total = effort.of(10_000, 1_000)
    async with opened("Redis", hand=True) as place:
        one = place.chats
        many = [place.store.collection(Chat, tenant=f"tenant {at}") for at in range(total)]
        calls: dict[str, Any] = {
            "one": lambda at: one.apply(f"state {at}", *edits()),
            "many": lambda at: many[at].apply(f"state {at}", *edits()),
        }
        if hand := place.hand:
            calls["by hand"] = lambda at: hand.append(f"tenant {at}:state", message(0))
        jobs = {name: _job(call, total, effort) for name, call in calls.items()}
        samples = await interleave(jobs, effort.of(7, 2))
    ratio = median(ratios(samples, "many", "one"))
    names = {"one": "one tenant", "many": f"{total:,} tenants", "by hand": "redis-py by hand"}
    rows = [[names[name], number(median(rates))] for name, rates in samples.items()]
    return Part(
        f"Redis: {total:,} tenants",
        f"{AT_ONCE} at once write to {total:,} states: of one tenant, or each of a tenant of its own; in turns.",
        [Table(["", "commits a second"], rows)],
        [
            Verdict(
                f"Redis: {total:,} tenants: at least 0.8× the rate of one",
                f"{number(ratio)}×",
                ratio >= 0.8,
            )
        ],
    )


def _job(call: Any, count: int, effort: Effort) -> Any:
    """Calls a second, with each number below `count` in turn."""

    async def job() -> float:
        one = lambda task, at: call((at * AT_ONCE + task) % count)  # noqa: E731
        return (await crowd(one, AT_ONCE, effort.of(15, 3) / 10)).rate

    return job


def _kind(at: int) -> Any:
    class Kind(State, ttl=timedelta(hours=1), kind=f"kind_{at}"):
        history = Log(str, keep=100)
        notes = Map(str, str, keep=64)
        turns = Counter()
        name = Register(str, default="")

    return Kind


async def kinds(effort: Effort) -> Part:
    count = effort.of(200, 20)
    names = {"one": "one kind", "many": f"{count} kinds", "by hand": "asyncpg by hand"}
    jobs: dict[str, Any] = {}
    urls: dict[str, str] = {}
    with PostgresServer.start() as server:
        async with AsyncExitStack() as stack:
            classes = [_kind(at) for at in range(count)]
            for name, its in (("one", classes[:1]), ("many", classes)):
                urls[name] = server.new_database()
                store = await stack.enter_async_context(AsyncStore.open(urls[name], timeout=60.0))
                progress(f"PostgreSQL: making the tables of {names[name]}")
                jobs[name] = await _on(store, its, effort)
            urls["by hand"] = server.new_database()
            if hand := await started(stack, Asyncpg(urls["by hand"])):
                one = lambda at: hand.append(f"state {at}", message(0))  # noqa: E731
                jobs["by hand"] = _job(one, 1_000, effort)
            samples = await interleave(jobs, effort.of(7, 2))
            held = {name: _private_mb(server, urls[name]) for name in samples}
    rows = [
        [
            names[name],
            number(median(rates)),
            f"{len(held[name])}",
            number(max(held[name], default=float("nan"))),
        ]
        for name, rates in samples.items()
    ]
    ratio, most = median(ratios(samples, "many", "one")), max(held["many"], default=None)
    return Part(
        f"PostgreSQL: {count} kinds",
        f"{AT_ONCE} at once write to 1,000 states of four fields: of one kind, or of {count} in turn. Each process of the server "
        "serves one connection; its private memory is what /proc says of it afterwards.",
        [Table(["", "commits a second", "processes", "private MB of the largest"], rows)],
        [
            Verdict(
                f"PostgreSQL: {count} kinds: at least 0.5× the rate of one",
                f"{number(ratio)}×",
                ratio >= 0.5,
            ),
            Verdict(
                f"PostgreSQL: {count} kinds: at most 30 MB of private memory in a process",
                "not to be seen" if most is None else f"{number(most)} MB",
                None if most is None else most <= 30,
            ),
        ],
    )


async def _on(store: AsyncStore, classes: list[Any], effort: Effort) -> Any:
    places = [(cls, store.collection(cls)) for cls in classes]

    async def call(at: int) -> None:
        cls, states = places[at % len(places)]
        await states.apply(f"state {at}", cls.history.append("x" * 100), cls.turns.add(1))

    for at in range(len(places)):
        await call(at)
    return _job(call, 1_000, effort)


def _private_mb(server: PostgresServer, url: str) -> list[float]:
    """The private memory of each process that serves this database; none where nobody may look."""
    database = url.rpartition("/")[2]
    asked = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND backend_type = 'client backend'"
    found: list[float] = []
    for (pid,) in server.sql(asked):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return []
        found.append(sum(int(line.split()[1]) for line in lines if line[:8] == "Private_") / 1024)
    return found
