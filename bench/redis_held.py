"""What Redis holds for a session."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import asyncio
import random

from bench import contenders_redis as on
from bench.contender import Contender, Message, split
from bench.measure import maybe, number, progress
from bench.part import Effort, Part, Table, Verdict
from statehold.testing.servers import RedisServer

MESSAGES = 100
CONTENDERS: list[type[Contender]] = [
    on.StateholdHeld,
    on.ListAndHash,
    on.GetSetex,
    on.AgentsRedis,
]


def worded(at: int) -> Message:
    """200 bytes that are not the same letter, for stores that compress."""
    return Message("user", random.Random(at).randbytes(86).hex())


USAGE = """
local sum = 0
for _, key in ipairs(redis.call('KEYS', '*')) do
  sum = sum + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0)
end
return sum"""


async def held(effort: Effort) -> Part:
    """Sessions of 100 messages, one append each."""
    here, absent = split(CONTENDERS)
    table = Table(
        ["bytes a session", "MEMORY USAGE", "× a list and hash", "× the messages", "used_memory"]
    )
    found: dict[str, tuple[float, float]] = {}
    with RedisServer.start() as server:
        for cls in here:
            progress(cls.name)
            count = effort.of(50 if cls is on.AgentsRedis else 500, 50)
            server.cli("FLUSHALL")
            before = int(server.info("memory")["used_memory"])
            contender = cls(server, 0)  # type: ignore[call-arg,arg-type]
            contender.keep = MESSAGES
            await contender.start()
            for first in range(0, count, 50):  # together, or it takes long

                async def fill(id: str, contender: Contender = contender) -> None:
                    for at in range(MESSAGES):
                        await maybe(contender.append(id, worded(at)))

                await asyncio.gather(*(fill(f"session-{first + at}") for at in range(50)))
            await contender.close()
            used = int(server.info("memory")["used_memory"]) - before
            found[cls.name] = (int(str(server.cli("EVAL", USAGE, 0))) / count, used / count)
    bare = found.get(on.ListAndHash.name)
    for name, (usage, used) in found.items():
        share = "-" if bare is None else f"{number(usage / bare[0])}×"
        raw = f"{number(usage / (MESSAGES * 200))}×"
        table.rows.append([name, number(usage), share, raw, number(used)])
    part = Part(
        "Redis: memory held by a session of 100 messages",
        "500 sessions (50 of RedisSession), made by 100 appends of 200 bytes each; a count and one value beside them. MEMORY "
        "USAGE, with SAMPLES 0, is summed over all keys, indexes and op ids included; `used_memory` is "
        "what the server says it has more than before.",
        [table],
        absent=absent,
    )
    target = "Redis, memory of a session of 100 messages: at most 1.25× a bare list and hash"
    if bare is None:
        part.verdicts.append(Verdict(target, "the peer is absent", None))
    else:
        share_of = found[on.StateholdHeld.name][0] / bare[0]
        part.verdicts.append(Verdict(target, f"{number(share_of)}×", share_of <= 1.25))
    return part
