"""Several processes of many tasks that write to the same states, while connections break.

Each process keeps a ledger of what it was told: this file is run as a program and prints it. `judge`
holds all ledgers against what stands in the end, and counts what must never be.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter as Counts
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from statehold import AsyncStore, Counter, InDoubt, Log, State, StateholdError, Unavailable
from statehold.testing.proxy import Proxy

ROOT = Path(__file__).parents[2]


TAGS = 1_900_000
"""More than the tasks commit in a minute."""


class Ledger(State, ttl=timedelta(hours=1), kind="storm"):
    """Each commit adds one and appends its tag."""

    count = Counter()
    tags = Log(str, keep=TAGS, max_bytes=32)


@dataclass
class Plan:
    """What a process is to do."""

    url: str
    name: str
    seconds: float
    tasks: int = 100
    states: int = 1
    deletes: float = 0.0
    """How often, of all calls, a state is deleted."""
    pause: float = 0.005
    """The mean pause of a task between two calls, seconds."""
    through_proxy: bool = True
    settings: dict = field(default_factory=dict)
    stream: bool = False
    """Whether the ledger is written as it grows, since the process may be killed."""


class Process:
    """One process: its tasks, its proxy, its ledger."""

    def __init__(self, plan):
        self.plan = plan
        self.lines = []  # (what, state, tag or outcome, incarnation)
        self.errors = Counts()
        self.until = time.monotonic() + plan.seconds

    async def run(self):
        plan = self.plan
        async with contextlib.AsyncExitStack() as stack:
            url = plan.url
            if plan.through_proxy:
                proxy = stack.enter_context(Proxy(urlsplit(url).port))
                url = proxy.through(url)
            store = await stack.enter_async_context(AsyncStore.open(url, **plan.settings))
            states = store.collection(Ledger)
            while not await self.is_ready(states):  # noqa: ASYNC110  a busy machine takes its time
                await asyncio.sleep(0.1)
            self.until = time.monotonic() + plan.seconds
            async with asyncio.TaskGroup() as group:
                for n in range(plan.tasks):
                    group.create_task(self.write(states, n))
                if plan.through_proxy:
                    group.create_task(self.break_connections(proxy))

    async def is_ready(self, states):
        try:
            await states.get("s0")
        except Unavailable:
            return False
        return True

    async def write(self, states, task):
        plan, number = self.plan, 0
        chance = random.Random(f"{plan.name} {task}")
        await asyncio.sleep(chance.random() * 0.1)
        while time.monotonic() < self.until:
            number += 1
            id = f"s{chance.randrange(plan.states)}"
            if chance.random() < plan.deletes:
                await self.delete(states, id)
            else:
                await self.append(states, id, f"{plan.name}.{task}.{number}")
            await asyncio.sleep(chance.random() * 2 * plan.pause)

    def note(self, *line):
        if self.plan.stream:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
        else:
            self.lines.append(line)

    async def append(self, states, id, tag):
        if self.plan.stream:
            self.note("sent", id, tag)
        try:
            revision = await states.apply(id, Ledger.count.add(1), Ledger.tags.append(tag))
        except Unavailable as error:
            self.errors[type(error).__name__] += 1
            self.note("doubtful", id, tag)
            await asyncio.sleep(0 if isinstance(error, InDoubt) else 0.02)
        else:
            self.note("written", id, tag, f"{revision.incarnation:x}")

    async def delete(self, states, id):
        if self.plan.stream:
            self.note("deleting", id)
        try:
            gone = await states.delete(id)
        except StateholdError as error:
            self.errors[f"delete {type(error).__name__}"] += 1
            self.note("deleted", id, "doubt")
        else:
            self.note("deleted", id, "true" if gone else "false")

    async def break_connections(self, proxy):
        chance = random.Random(self.plan.name)
        while time.monotonic() < self.until:
            await asyncio.sleep(chance.uniform(0.1, 0.6))
            what = chance.randrange(4)
            if what == 0:
                proxy.reset()
            elif what == 1:
                with contextlib.suppress(AssertionError), proxy.cut_reply(1):
                    await asyncio.sleep(0.1)
            elif what == 2:
                with contextlib.suppress(AssertionError), proxy.cut_request(1, after_bytes=50):
                    await asyncio.sleep(0.1)
            else:
                proxy.stall(keep=chance.random() < 0.5)
                await asyncio.sleep(chance.choice((0.05, 0.3)))
                proxy.resume()


@dataclass
class Verdict:
    """What became of all calls. The first four must be 0."""

    doubled: int = 0
    lost: int = 0
    resurrected: int = 0
    erased_again: int = 0
    acknowledged: int = 0
    in_doubt: int = 0
    of_which_written: int = 0
    deletes: int = 0
    errors: dict = field(default_factory=dict)

    @property
    def faults(self):
        return (self.doubled, self.lost, self.resurrected, self.erased_again)


def start(plan):
    """A process that carries the plan out; its output is its ledger."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, __file__, json.dumps(asdict(plan))],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )


class Book:
    """All ledgers, by state."""

    def __init__(self):
        self.written = {}  # state → {tag: incarnation}
        self.doubtful = {}  # state → tags
        self.deletes = {}  # state → Counts of "true", "false", "doubt"
        self.errors = Counts()

    def read(self, out):
        """Take a process's ledger over. What was begun when it was killed is in doubt."""
        begun = Counts()
        for line in out.splitlines():
            if not line.endswith("]"):
                continue  # it was killed as it wrote
            what, id, *rest = json.loads(line)
            if what == "errors":
                self.errors.update(id)
            elif what == "written":
                self.written.setdefault(id, {})[rest[0]] = rest[1]
                self.doubtful.get(id, set()).discard(rest[0])
            elif what in ("sent", "doubtful"):
                self.doubtful.setdefault(id, set()).add(rest[0])
            elif what == "deleting":
                begun[id] += 1
            else:
                begun[id] -= 1
                self.deletes.setdefault(id, Counts())[rest[0]] += 1
        for id, left in begun.items():
            if left > 0:
                self.deletes.setdefault(id, Counts())["doubt"] += left


def ledger_of(process, within, *, killed=False):
    """What the process says. Raises AssertionError if it failed."""
    out, _ = process.communicate(timeout=within)
    ended = process.returncode == 0 or (killed and process.returncode == -signal.SIGKILL)
    assert ended, f"a process of the storm ended with {process.returncode}"
    return out


async def judge(url, book, states, settings=None):
    """Hold the ledgers against what stands. Returns the verdict."""
    verdict = Verdict(errors=dict(book.errors))
    async with AsyncStore.open(url, **(settings or {})) as store:
        found = store.collection(Ledger)
        for n in range(states):
            id = f"s{n}"
            state = await found.get(id)
            one_state(verdict, book, id, state)
    return verdict


def one_state(verdict, book, id, state):
    """Judge one state."""
    written, doubtful = book.written.get(id, {}), book.doubtful.get(id, set())
    deletes = book.deletes.get(id, Counts())
    tags = list(state.tags) if state.meta.exists else []
    stands = f"{state.meta.revision.incarnation:x}" if state.meta.exists else ""
    assert len(tags) < TAGS, "commits beyond what the log keeps cannot be judged"
    held = Counts(tags)
    verdict.acknowledged += len(written)
    verdict.in_doubt += len(doubtful)
    verdict.of_which_written += sum(tag in held for tag in doubtful)
    verdict.deletes += deletes.total()
    verdict.doubled += sum(count - 1 for count in held.values())
    if state.meta.exists:  # sums and revisions tell of what was doubled, too
        verdict.doubled += abs(state.count - len(tags))
        verdict.doubled += abs(state.meta.revision.number - len(tags))
    verdict.lost += sum(life == stands and tag not in held for tag, life in written.items())
    verdict.resurrected += sum(written.get(tag, stands) != stands for tag in held)
    verdict.resurrected += sum(tag not in written and tag not in doubtful for tag in held)
    ended = {*written.values()} - {stands}
    by_someone = deletes["true"] + deletes["doubt"]
    verdict.erased_again += max(0, len(ended) - by_someone)


def storm(url, *, plans, states, disturb=None, kills=0, settings=None):
    """Run the plans side by side and judge them.

    `disturb(until)` may break things meanwhile. `kills`: so many times a process is killed, and
    another begins in its place.
    """
    longest = max(plan.seconds for plan in plans)
    until = time.monotonic() + longest
    running, book = [start(plan) for plan in plans], Book()
    started = list(running)
    try:
        for nth in range(kills):
            time.sleep(max(0.5, longest / (kills + 1)))
            at = nth % len(plans)
            running[at].kill()
            book.read(ledger_of(running[at], 10, killed=True))
            left = max(0.5, until - time.monotonic())
            running[at] = start(replace(plans[at], name=f"{plans[at].name}k{nth}", seconds=left))
            started.append(running[at])
        if disturb is not None:
            disturb(until)
        for process in running:
            book.read(ledger_of(process, longest + 60))
    finally:
        for process in started:
            process.kill()
            process.wait()
    verdict = asyncio.run(judge(url, book, states, settings))
    sys.stdout.write(f"{verdict}\n")
    return verdict


if __name__ == "__main__":
    it = Process(Plan(**json.loads(sys.argv[1])))
    asyncio.run(it.run())
    it.note("errors", it.errors)
    for line in it.lines:
        sys.stdout.write(json.dumps(line) + "\n")
