"""What PostgreSQL keeps for a session."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import asyncio

from bench import contenders_postgres as on
from bench.contender import Contender, split
from bench.measure import maybe, number, progress
from bench.part import Effort, Part, Table
from bench.postgres_one import SERVER, server
from bench.redis_held import MESSAGES, worded

CONTENDERS: list[type[Contender]] = [
    on.Statehold,
    on.AsyncpgPool10,
    on.LangGraphPostgres,
    on.AgentsSqlalchemy,
]
SLOW: dict[type[Contender], int] = {on.LangGraphPostgres: 16, on.AgentsSqlalchemy: 32}
"""Whom fewer sessions must do for."""
SIZE = """
SELECT sum(pg_total_relation_size(oid)) FROM pg_class
WHERE relkind = 'r' AND relnamespace NOT IN (
    SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\\_%' OR nspname = 'information_schema')"""


async def held(effort: Effort) -> Part:
    """Sessions of 100 messages, one append each."""
    here, absent = split(CONTENDERS)
    table = Table(["after VACUUM", "bytes a session", "× the messages", "sessions"])
    with server() as running:
        for cls in here:
            progress(cls.name)
            count = effort.of(SLOW.get(cls, 96), 16)
            url = running.new_database()
            contender = cls(url)  # type: ignore[arg-type]
            contender.keep = MESSAGES
            await contender.start()

            async def fill(ids: range, contender: Contender = contender) -> None:
                for each in ids:
                    for at in range(MESSAGES):
                        await maybe(contender.append(f"session-{each}", worded(at)))

            await asyncio.gather(*(fill(range(at, count, 16)) for at in range(16)))
            await contender.close()
            running.sql("VACUUM", url)
            size = int(running.sql(SIZE, url)[0][0] or 0) / count
            row = [
                cls.name.partition(", pool")[0],
                number(size),
                f"{number(size / (MESSAGES * 200))}×",
                str(count),
            ]
            table.rows.append(row)
    return Part(
        "PostgreSQL: bytes held by a session of 100 messages",
        f"{SERVER}Tables and indexes after 100 appends of 200 bytes to each session, and a VACUUM. ADK's "
        "sessions are left out: filling them takes minutes.",
        [table],
        absent=absent,
    )
