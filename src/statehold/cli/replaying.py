"""`replay`."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from pathlib import Path

import msgspec

from statehold.cli.exits import FAILED, INTERRUPTED, OK, exit_code, one_line
from statehold.cli.progress import progress
from statehold.cli.reaching import reach
from statehold.errors import StateholdError
from statehold.replay import Replay, Source, Summary
from statehold.replay.report import Rejects
from statehold.replay.run import JOBS, PATIENCE

_SHOWN = 10
"""Bad lines that are told one by one."""


def replay(given: Namespace) -> int:
    """Feed the file and print the summary."""
    kept = given.rejects or f"{'stdin' if given.file == '-' else given.file}.rejects.jsonl"
    source = Source(given.file, tenant=given.tenant)
    try:
        with Rejects(Path(kept), append=given.first > 1) as rejects:
            return _run(given, source, rejects)
    finally:
        source.close()


def _run(given: Namespace, source: Source, rejects: Rejects) -> int:
    begun: list[Replay] = []

    def tell(number: int, error: StateholdError) -> None:
        if rejects.count <= _SHOWN:
            _say(f"line {number}: {error.code}: {one_line(error)}")
        if rejects.count == _SHOWN + 1:
            _say(f"more bad lines are in {rejects.path}")

    async def run() -> Summary:
        async with reach(given) as access:
            replay = Replay(
                source,
                access,
                rejects,
                first=given.first,
                jobs=given.jobs or JOBS,
                patience=given.patience or PATIENCE,
                on_reject=tell,
            )
            begun.append(replay)
            async with progress(replay, shown=not given.quiet and sys.stderr.isatty()):
                return await replay.run()

    try:
        summary = asyncio.run(run())
    except (StateholdError, KeyboardInterrupt) as error:
        if given.debug or not begun:
            raise
        return _stopped(begun[0].next_line, error)
    _warn(begun[0], summary)
    result = summary.to_json()
    if rejects.count:
        result["rejects"] = str(rejects.path)
    print(msgspec.json.encode(result).decode())
    return FAILED if rejects.count else OK


def _stopped(line: int, error: StateholdError | KeyboardInterrupt) -> int:
    if isinstance(error, KeyboardInterrupt):
        code, why = INTERRUPTED, "interrupted"
    else:
        code, why = exit_code(error), f"{error.code}: {one_line(error)}"
    _say(f"{why}; stopped at line {line}: run it again, or from there with --from {line}")
    return code


def _warn(replay: Replay, summary: Summary) -> None:
    if replay.outgrown:
        _say(f"{replay.outgrown} keys have more lines than their kind remembers op ids")
    if summary.total.skipped:
        _say(
            f"{summary.total.skipped} lines skipped: {summary.resumed_keys} keys went on after the "
            "newest of their lines that they remember"
        )


def _say(text: str) -> None:
    print(f"statehold: {text}", file=sys.stderr)
