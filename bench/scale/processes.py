"""Fifty processes on one store, each with eight tasks; and threads of one process on SQLite, with a flush each."""

# ruff: noqa: RUF001  a multiplication sign is meant

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.contender import message
from bench.measure import interleave, maybe, median, number, progress, quantile, ratios
from bench.part import Effort, Part, Table, Verdict
from bench.scale import by_hand
from bench.scale.places import KINDS, PLACES, Chat, edits, everywhere, started
from bench.scale.tasks import crowd
from statehold import AsyncStore, Store

TASKS = 8
THREADS = (1, 8, 32)


async def processes(effort: Effort, places: Sequence[str] = PLACES[1:]) -> Part:
    count, seconds = effort.of(50, 4), effort.of(6, 1)
    columns = ["", "commits a second", "slowest / median", "errors", "p99 ms", "worst ms"]
    part = Part(
        f"{count} processes",
        f"Each opens the store with its default settings and has {TASKS} tasks that write, each to 50 states of its own, "
        f"for {seconds} s. PostgreSQL lets 100 connections in. By hand each process has one connection to it.",
        [Table(columns)],
    )

    async def measure(name: str) -> None:
        with KINDS[name].home() as (url, _):
            for whose in ("statehold", "by hand"):
                async with AsyncExitStack() as stack:
                    call = await _caller(stack, name, url, whose)
                    if call is None:
                        continue
                    await maybe(call("first"))  # what there is to be made is made
                progress(f"{name}: {count} processes, {whose}")
                told = await asyncio.to_thread(_run, name, url, whose, count, seconds)
                done, errors, p99s, worsts = zip(*told, strict=True)
                share, failed = min(done) / (median(done) or 1), int(sum(errors))
                figures = number(max(p99s)), number(max(worsts))
                rate = number(sum(done) / seconds)
                part.tables[0].rows.append(
                    [f"{name}, {whose}", rate, number(share), f"{failed:,}", *figures]
                )
                if whose == "statehold":
                    of = f"{name}, {count} processes"
                    part.verdicts += [
                        Verdict(f"{of}: errors: 0", f"{failed:,}", not failed),
                        Verdict(
                            f"{of}: the slowest at least 0.5× the median",
                            f"{number(share)}×",
                            share >= 0.5,
                        ),
                    ]

    return await everywhere(part, places, measure)


def _run(name: str, url: str, whose: str, count: int, seconds: float) -> list[list[float]]:
    """Of each process: how many calls were done, how many failed, p99 and worst in ms."""
    command = [sys.executable, "-m", "bench.scale.processes", name, url, whose, str(seconds)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with ExitStack() as stack:
        running: list[subprocess.Popen[str]] = []
        for at in range(count):
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            each = stack.enter_context(subprocess.Popen([*command, str(at)], env=env, **pipes))
            stack.callback(each.kill)
            running.append(each)
        for each in running:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n", "a process did not get ready"
        for each in running:
            assert each.stdin is not None
            with suppress(BrokenPipeError):
                each.stdin.write("\n")
                each.stdin.flush()
        return [
            [float(word) for word in each.communicate(timeout=seconds + 120)[0].split()]
            for each in running
        ]


async def _caller(stack: AsyncExitStack, name: str, url: str, whose: str) -> Any:
    """What writes to a state by its id; None if its package is missing."""
    if whose == "statehold":
        store = await stack.enter_async_context(AsyncStore.open(url))
        return lambda its: store.collection(Chat).apply(its, *edits())
    made = by_hand.AsyncpgOne if name == "PostgreSQL" else KINDS[name].hand
    hand = await started(stack, made(url))
    return None if hand is None else lambda its: hand.append(its, message(0))


async def _process(name: str, url: str, whose: str, seconds: str, me: str) -> None:
    """One of them: it prints what `_run` returns of it."""
    async with AsyncExitStack() as stack:
        call = await _caller(stack, name, url, whose)
        errors = 0

        async def one(task: int, at: int) -> None:
            nonlocal errors
            try:
                await maybe(call(f"{me}-{task}-{at % 50}"))
            except Exception:  # noqa: BLE001  a refusal is an answer; it is counted
                errors += 1

        print("ready", flush=True)
        sys.stdin.readline()
        found = await crowd(one, TASKS, float(seconds))
        print(sum(found.done) - errors, errors, *(quantile(found.ms, part) for part in (0.99, 1)))


# --------------------------------------------------------------------------------------- threads


async def threads(effort: Effort) -> Part:
    seconds = effort.of(10, 3) / 10
    with TemporaryDirectory(prefix="statehold-bench-") as folder:
        jobs: dict[str, Any] = {}
        with Store.open(f"sqlite:///{folder}/state.db", synchronous="FULL") as store:
            chats = store.collection(Chat)
            for count in THREADS:
                ours, hand = _Threads(count, seconds), _Threads(count, seconds)
                jobs[f"statehold {count}"] = lambda many=ours: asyncio.to_thread(
                    many.rate, lambda _: lambda its: chats.apply(its, *edits())
                )
                jobs[f"by hand {count}"] = lambda many=hand: asyncio.to_thread(
                    many.rate, lambda stack: _connected(stack, Path(folder))
                )
            samples = await interleave(jobs, effort.of(7, 2))
    table = Table(["commits a second", *(f"threads: {count}" for count in THREADS), "8 / 1"])
    for whose in ("statehold", "by hand"):
        rates = [median(samples[f"{whose} {count}"]) for count in THREADS]
        ratio = median(ratios(samples, f"{whose} 8", f"{whose} 1"))
        table.rows.append([whose, *map(number, rates), f"{number(ratio)}×"])
    ratio = median(ratios(samples, "statehold 8", "statehold 1"))
    return Part(
        "SQLite: threads, with a flush to disk each",
        "Threads of one process over one `Store` with `synchronous=FULL`, in turns. By hand each has a connection of its own.",
        [table],
        [
            Verdict(
                "SQLite FULL: 8 threads: at least 3× the rate of one",
                f"{number(ratio)}×",
                ratio >= 3,
            )
        ],
    )


def _connected(stack: ExitStack, folder: Path) -> Callable[[str], Any]:
    """A connection by hand, of the thread that calls."""
    hand = by_hand.SqliteFull(folder)
    asyncio.run(hand.start())
    stack.callback(lambda: asyncio.run(hand.close()))
    return lambda its: hand.append(its, message(0))


class _Threads:
    """So many threads at once."""

    def __init__(self, count: int, seconds: float) -> None:
        self.count, self.seconds = count, seconds

    def rate(self, opened: Callable[[ExitStack], Callable[[str], Any]]) -> float:
        """Calls a second; each thread calls what it has `opened`."""
        done, begun = [0] * self.count, threading.Barrier(self.count)

        def work(at: int) -> None:
            with ExitStack() as stack:
                call = opened(stack)
                call(f"{at}-0")
                begun.wait()
                until = time.perf_counter() + self.seconds
                while time.perf_counter() < until:
                    call(f"{at}-{done[at] % 50}")
                    done[at] += 1

        running = [threading.Thread(target=work, args=(at,)) for at in range(self.count)]
        for each in running:
            each.start()
        for each in running:
            each.join()
        return sum(done) / self.seconds


if __name__ == "__main__":
    asyncio.run(_process(*sys.argv[1:]))
