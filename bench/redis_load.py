"""64 tasks at once on Redis: appends, updates lost, whole turns of a chat, and the server's own limit."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import subprocess
from contextlib import AsyncExitStack

from bench import contenders_redis as on
from bench.contender import KEEP, Contender, message, split
from bench.crowd import Tally, appending, at_least, crowd, exactly_once, filled, lost, verify
from bench.measure import progress, spread
from bench.operations import LONG_KEEP
from bench.part import Effort, Part, Table, Verdict
from bench.redis_one import SERVER, opened
from bench.servers import placed
from statehold.testing.servers import RedisServer

SESSIONS = 1_000
SECONDS = 0.4
CONTEST: list[type[Contender]] = [
    on.Statehold,
    on.Pipeline,
    on.Transaction,
    on.LuaBlob,
    on.Watch,
    on.GetSetex,
    on.AgentsRedis,
    on.Starsessions,
]
TALKERS: list[type[Contender]] = [
    on.Statehold,
    on.StateholdSession,
    on.Pipeline,
    on.GetSetex,
    on.AgentsRedis,
    on.Starsessions,
]
BY_LENGTH = on.Pipeline, on.Transaction, on.AgentsRedis
THREE = "redis.call('RPUSH',KEYS[1],ARGV[1]) redis.call('LTRIM',KEYS[1],-20,-1) redis.call('EXPIRE',KEYS[1],3600)"


async def load(effort: Effort) -> Part:
    """Appends on one session and on a thousand, then turns on a thousand."""
    part = Part(
        "Redis: 64 at once",
        f"{SERVER}64 tasks of one event loop call until 0.4 s are over, or 1,000 times each; rounds in turns; "
        "client and server have a core each. Lost updates are what was acknowledged less what is there "
        "when it is read back: by the revision (statehold), by the length of the list, which is not "
        "trimmed here, so that it tells (pipeline, MULTI, RedisSession), by the count in the blob.",
    )
    rates: dict[int, dict[str, list[float]]] = {}
    with RedisServer.start(config={"databases": 64}) as server, placed(server.pid, "own cores"):
        table = Table(
            ["appends a second", "sessions", "median", "refused", "lost", "what it cannot do"]
        )
        lost_by_us = doubled = 0
        for count in (1, SESSIONS):
            ids = [f"session-{at}" for at in range(effort.of(count, min(count, 30)))]
            tallies, twice = await _races(server, ids, effort, part)
            rates[count] = {name: tally.rates for name, (_, tally) in tallies.items()}
            lost_by_us += tallies[on.Statehold.name][1].lost
            doubled += twice
            for name, (lacks, tally) in tallies.items():
                row = [name, f"{len(ids):,}", spread(tally.rates, 1), f"{tally.refused:,}"]
                table.rows.append([*row, lost(tally), lacks])
        turns, rates_of_turns = await _turns(server, effort, part)
        missing, again = await _exactly_once(server, effort)
        part.tables = [table, turns, _limit(server, effort)]
    ours = on.Statehold.name
    for count in (SESSIONS, 1):
        words = "1,000 sessions" if count > 1 else "one session"
        part.verdicts.append(
            at_least(
                f"Redis, 64 at once on {words}: at least 5× the hand-written pipelines",
                rates[count],
                ours,
                on.Pipeline.name,
                5,
            )
        )
    part.verdicts += [
        at_least(
            "Redis, 64 at once on one session: at least 500× the WATCH loop",
            rates[1],
            ours,
            on.Watch.name,
            500,
        ),
        at_least(
            "Redis, a chat turn, 64 at once: at least 10× RedisSession's turns a second",
            rates_of_turns,
            ours,
            on.AgentsRedis.name,
            10,
        ),
        Verdict(
            "Redis, lost and doubled updates: 0 and 0",
            f"{lost_by_us + missing:,} and {doubled + again:,}",
            not (lost_by_us or missing or doubled or again),
        ),
    ]
    return part


async def _races(
    server: RedisServer, ids: list[str], effort: Effort, part: Part
) -> tuple[dict[str, tuple[str, Tally]], int]:
    here, part.absent = split(CONTEST)
    tallies = {cls.name: (cls.lacks, Tally()) for cls in here}
    async with AsyncExitStack() as stack:
        contenders = await opened(stack, server, here, KEEP)  # type: ignore[arg-type]
        for contender in contenders:
            if isinstance(contender, BY_LENGTH):
                contender.keep = LONG_KEEP
            await filled(contender, ids, 1)
        for at in range(effort.of(5, 2)):
            progress(f"{len(ids):,} sessions, round {at + 1}")
            for contender in contenders if at % 2 else contenders[::-1]:
                tally = tallies[contender.name][1]
                await appending(contender, ids, effort.of(4, 2) / 10, tally)
        doubled = 0
        for contender in contenders:
            more = await verify(contender, tallies[contender.name][1])
            doubled += more if isinstance(contender, on.Statehold) else 0
    return tallies, doubled


async def _turns(
    server: RedisServer, effort: Effort, part: Part
) -> tuple[Table, dict[str, list[float]]]:
    here, absent = split(TALKERS)
    part.absent += [name for name in absent if name not in part.absent]
    ids = [f"session-{at}" for at in range(effort.of(SESSIONS, 30))]
    tallies = {cls.name: Tally() for cls in here}
    one, two = message(1), message(2)
    async with AsyncExitStack() as stack:
        contenders = await opened(stack, server, here, KEEP)  # type: ignore[arg-type]
        for contender in contenders:
            await filled(contender, ids, KEEP)
            last = await contender.turn("session-0", one, two, "blue")
            if len(last) != KEEP:
                raise AssertionError(f"{contender.name}: reads {len(last)} of {KEEP}")
            if (await contender.read("session-0"))[-2:] != [one.content, two.content]:
                raise AssertionError(f"{contender.name}: the turn is not there")
        for at in range(effort.of(5, 2)):
            progress(f"turns, round {at + 1}")
            for contender in contenders if at % 2 else contenders[::-1]:

                async def turn(id: str, call: object = contender.turn) -> None:
                    await call(id, one, two, "blue")  # type: ignore[operator]

                await crowd(turn, ids, effort.of(4, 2) / 10, tallies[contender.name])
    table = Table(["turns a second", "sessions", "median", "refused"])
    table.about = (
        "A turn reads and decodes the last 20 messages, appends two and sets one value (RedisSession has "
        "no place for one)."
    )
    for name, tally in tallies.items():
        row = [name, f"{len(ids):,}", spread(tally.rates, 1), f"{tally.refused:,}"]
        table.rows.append(row)
    return table, {name: tally.rates for name, tally in tallies.items()}


async def _exactly_once(server: RedisServer, effort: Effort) -> tuple[int, int]:
    progress("each message exactly once")
    async with AsyncExitStack() as stack:
        (contender,) = await opened(stack, server, [on.Statehold], LONG_KEEP)
        one = await exactly_once(contender, ["session"], effort.of(100, 10))
        many = [f"session-{at}" for at in range(SESSIONS)]
        other = await exactly_once(contender, many, effort.of(100, 10))
    return one[0] + other[0], one[1] + other[1]


def _limit(server: RedisServer, effort: Effort) -> Table:
    """What the server can do if a client costs nothing: redis-benchmark, 64 commands in a pipeline."""
    table = Table(["redis-benchmark -P 64, commands a second", "a second"])
    table.about = (
        "The server's own limit, from a client in C that waits for 64 answers at a time; the last line "
        "does RPUSH, LTRIM and EXPIRE in one script."
    )
    server.cli("FLUSHALL")
    sha = str(server.cli("SCRIPT", "LOAD", THREE))
    body, key = "x" * 200, "key:__rand_int__"
    for name, command in {
        "RPUSH": ("RPUSH", key, body),
        "LTRIM": ("LTRIM", key, "-20", "-1"),
        "EXPIRE": ("EXPIRE", key, "3600"),
        "EVALSHA of the three": ("EVALSHA", sha, "1", key, body),
    }.items():
        done = subprocess.run(
            ["redis-benchmark", "-p", str(server.port), "-n", str(effort.of(200_000, 20_000)),
             "-c", "4", "-P", "64", "-r", "1000", "--csv", *command],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        rate = done.stdout.splitlines()[-1].split('","')[1]
        table.rows.append([name, f"{float(rate):,.0f}"])
    server.cli("FLUSHALL")
    return table
