"""64 tasks at once on PostgreSQL, with the number of lost updates, and the bytes that a session takes."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from bench import contenders_postgres as on
from bench.contender import KEEP, Contender, split
from bench.crowd import Tally, appending, at_least, exactly_once, filled, lost, verify
from bench.measure import maybe, median, progress, spread
from bench.part import Effort, Part, Table, Verdict
from bench.postgres_one import SERVER, opened, server
from statehold.testing.servers import PostgresServer

SESSIONS = 1_000
CONTEST: list[type[Contender]] = [
    on.Statehold,
    on.AsyncpgPool10,
    on.AsyncpgPool20,
    on.AsyncpgPool64,
    on.Psycopg,
    on.Core,
    on.Orm,
    on.LangGraphPostgres,
    on.AgentsSqlalchemy,
    on.AdkPostgres,
]
POOLS = on.AsyncpgPool10, on.AsyncpgPool20, on.AsyncpgPool64


async def load(effort: Effort) -> Part:
    """Appends on one session and on a thousand."""
    here, absent = split(CONTEST)
    part = Part(
        "PostgreSQL: 64 at once",
        f"{SERVER}64 tasks of one event loop call until half a second is over, or 1,000 times each; rounds "
        "in turns. Lost updates are what was acknowledged less what the count (without one: the number of "
        "messages) says when it is read back. asyncpg's pools send no reset query. All tables are analyzed "
        "when they hold the thousand sessions.",
        absent=absent,
    )
    table = Table(
        ["appends a second", "sessions", "median", "refused", "lost", "what it cannot do"]
    )
    part.tables.append(table)
    lost_by_us = doubled = 0
    everyone = [f"session-{at}" for at in range(effort.of(SESSIONS, 30))]
    with server() as running:
        async with AsyncExitStack() as stack:
            contenders: list[Any] = await opened(stack, running, here, KEEP)
            for contender in contenders:
                progress(f"filling {contender.name}")
                await filled(contender, everyone, 1)
                running.sql("ANALYZE", contender.url)
            running.sql("CHECKPOINT")
            for ids in (everyone, everyone[:1]):
                tallies, twice = await _races(contenders, ids, effort)
                part.verdicts.append(_against(tallies, len(ids)))
                lost_by_us += tallies[on.Statehold.name].lost
                doubled += twice
                for contender in contenders:
                    tally = tallies[contender.name]
                    row = [contender.name, f"{len(ids):,}", spread(tally.rates, 1)]
                    table.rows.append([*row, f"{tally.refused:,}", lost(tally), contender.lacks])
        missing, again = await _exactly_once(running, effort)
    part.verdicts.append(
        Verdict(
            "PostgreSQL, lost and doubled updates: 0 and 0",
            f"{lost_by_us + missing:,} and {doubled + again:,}",
            not (lost_by_us or missing or doubled or again),
        )
    )
    return part


def _against(tallies: dict[str, Tally], count: int) -> Verdict:
    """Against the pool size that is best here."""
    rates = {name: tally.rates for name, tally in tallies.items()}
    pools = [cls.name for cls in POOLS if cls.name in rates]
    words, limit = ("1,000 sessions", 1.8) if count > 1 else ("one session", 3)
    target = f"PostgreSQL, 64 at once on {words}: at least {limit}× asyncpg's best pool"
    if not pools:
        return Verdict(target, "the peer is absent", None)
    best = max(pools, key=lambda name: median(rates[name]))
    return at_least(target, rates, on.Statehold.name, best, limit)


async def _races(
    contenders: list[Any], ids: list[str], effort: Effort
) -> tuple[dict[str, Tally], int]:
    tallies = {contender.name: Tally() for contender in contenders}
    before = {one.name: int(await maybe(one.count(ids[0]))) for one in contenders}
    for at in range(effort.of(5, 2)):
        progress(f"{len(ids):,} sessions, round {at + 1}")
        for contender in contenders if at % 2 else contenders[::-1]:
            await appending(contender, ids, effort.of(5, 2) / 10, tallies[contender.name])
    doubled = 0
    for contender in contenders:
        more = await verify(contender, tallies[contender.name], before[contender.name])
        doubled += more if isinstance(contender, on.Statehold) else 0
    return tallies, doubled


async def _exactly_once(running: PostgresServer, effort: Effort) -> tuple[int, int]:
    progress("each message exactly once")
    async with AsyncExitStack() as stack:
        (contender,) = await opened(stack, running, [on.Statehold], 200_000)
        one = await exactly_once(contender, ["session"], effort.of(100, 10))
        many = [f"session-{at}" for at in range(SESSIONS)]
        other = await exactly_once(contender, many, effort.of(100, 10))
    return one[0] + other[0], one[1] + other[1]
