"""One client on PostgreSQL: what a commit takes, and what a session takes on disk."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from bench import contenders_mariadb as mariadb
from bench import contenders_postgres as on
from bench.contender import KEEP, Contender, message, ready, split
from bench.crowd import at_least
from bench.latency import Calls, compared, timed
from bench.measure import progress
from bench.operations import against, at_most
from bench.part import Effort, Part, Table
from statehold.testing.servers import MariadbServer, Missing, PostgresServer

CONTENDERS: list[type[Contender]] = [
    on.Statehold,
    on.Asyncpg,
    on.Psycopg,
    on.Core,
    on.Orm,
    on.LangGraphPostgres,
    on.AgentsSqlalchemy,
    on.AdkPostgres,
]
SERVER = (
    "One PostgreSQL with its default durability (`fsync` and `synchronous_commit` on), shared by all, "
    "each in a database of its own. "
)


def server() -> PostgresServer:
    return PostgresServer.start(max_connections=400)


async def opened(
    stack: AsyncExitStack,
    running: PostgresServer | MariadbServer,
    classes: Sequence[type[Any]],
    keep: int,
) -> list[Any]:
    """They are started and do what is measured, each in a new database."""
    return await ready(stack, (cls(running.new_database()) for cls in classes), keep)


async def postgres(effort: Effort) -> Part:
    """Append with a count."""
    here, absent = split(CONTENDERS)
    with server() as running:
        table, took = await _case(running, here, effort)
    part = Part(
        "PostgreSQL: one client",
        f"{SERVER}Each call adds a message of 200 bytes, keeps the newest 20, adds one to a count and renews "
        "the expiry of one hour; 20 sessions, all of them full. p50 is the median of the rounds' "
        "p50, p99 is over the calls of all rounds. The statement by hand is one with common table "
        "expressions that does all of it, prepared.",
        [table],
        absent=absent,
    )
    ours, p50 = on.Statehold.name, {name: calls.p50 for name, calls in took.items()}
    try:
        with MariadbServer.start() as other:
            others, without = split([mariadb.StateholdOnMariadb, mariadb.Transaction])
            table, _ = await _case(other, others, effort)
    except Missing as missing:
        part.absent.append(str(missing))
    else:
        table.about = (
            "The same on MariaDB, with its default durability, where a commit is a transaction."
        )
        part.tables.append(table)
        part.absent += without
    part.verdicts.append(
        at_most(
            "PostgreSQL commit, one client: p50 at most 1.5× one asyncpg statement",
            against(p50, ours, on.Asyncpg),
            1.5,
        )
    )
    for peer, words in (
        (on.AgentsSqlalchemy, "SQLAlchemySession"),
        (on.AdkPostgres, "ADK's sessions"),
    ):
        target = f"PostgreSQL, the same: at least 4× faster than {words}"
        part.verdicts.append(at_least(target, p50, peer.name, ours, 4))
    return part


async def _case(
    running: PostgresServer | MariadbServer, classes: Sequence[type[Any]], effort: Effort
) -> tuple[Table, dict[str, Calls]]:
    ids = [f"session-{at}" for at in range(effort.of(20, 4))]
    given = [(ids[at % len(ids)], message(at)) for at in range(1_000)]
    async with AsyncExitStack() as stack:
        contenders = await opened(stack, running, classes, KEEP)
        for contender in contenders:
            progress(f"filling {contender.name}")
            for id in ids:
                await contender.fill(id, KEEP)
            if isinstance(running, PostgresServer):
                running.sql("ANALYZE", contender.url)
        if isinstance(running, PostgresServer):
            running.sql("CHECKPOINT")
        calls = {one.name: (one.append, given) for one in contenders}
        took = await timed(calls, effort.of(15, 3), ms=effort.of(100, 30), pid=running.pid)
    return compared(contenders, took), took
