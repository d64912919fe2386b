"""The command line. Results are JSON on standard output, everything else is on standard error.

`main` runs the command that is named; only its module is imported:

    parser       the commands and their options
    states       get, apply, scan, delete: one state, or the listing of a kind
    checking     check: whether the store can answer
    serving      serve: the server
    replaying    replay: a file of commits, with `progress` on a terminal
    measuring    bench: what the configured backend does
    sweeping     sweep: what has ended, cleared away where nobody writes
    migrating    migrate: the tables of a SQL database, made to fit the classes
    keying       keys: the keys of tokens, new, rotated, listed
    reaching     from the options to the states, through the library or through a server
    exits        what the exit codes mean
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from statehold.cli.exits import INTERRUPTED, exit_code, one_line, told
from statehold.cli.parser import parser
from statehold.errors import StateholdError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = parser().parse_args(arguments)
    module, _, name = given.run.partition(":")
    try:
        # Only the module of the command that is named gets imported.
        code = getattr(importlib.import_module(f"statehold.cli.{module}"), name)(given)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("statehold: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if given.debug:
            raise
        found = told(error)
        if isinstance(found, StateholdError):
            what = f"{found.code}: {one_line(found)}"
        else:
            what = f"error: {type(found).__name__}: {one_line(found)} (--debug shows where)"
        print(f"statehold: {what}", file=sys.stderr)
        return exit_code(found)
    return int(code)


__all__ = ["main"]
