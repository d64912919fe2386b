"""The commands and their options. Kept free of everything that is slow to import."""

from __future__ import annotations

import argparse
from typing import Final

from statehold import __version__
from statehold.cli.exits import MEANINGS

KEY_VARIABLE: Final = "STATEHOLD_KEY"
"""The environment variable with the key that is shown to a server."""


_FOREVER_S: Final = 1e6


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


_natural.__name__ = "whole number of at least 0"
_positive.__name__ = "whole number of at least 1"  # as argparse calls it in its errors


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise ValueError(text)
    return number


_seconds.__name__ = "number of seconds"


def _duration(text: str) -> float:
    from statehold.settings import duration  # only where it is needed

    return duration(text if not text.replace(".", "", 1).isdecimal() else float(text))


_duration.__name__ = "duration"


def _reading(get: argparse.ArgumentParser) -> None:
    """What of a state is read."""
    get.add_argument("--fields", metavar="A,B", help="only these fields")
    get.add_argument("--tail", metavar="N", type=_positive, help="only the newest N items of lists")
    get.add_argument(
        "--entries", metavar="JSON", help='only these entries of fields, as {"values": ["a", "b"]}'
    )
    get.add_argument("--after", metavar="P", type=_natural, help="only items after position P")
    get.add_argument("--limit", metavar="N", type=_positive, help="at most N items after that")


def parser() -> argparse.ArgumentParser:
    """The parser; what it parses has `run`, "module:function" of the command."""
    codes = "\n".join(f"  {code:<4} {meaning}" for code, meaning in MEANINGS.items())
    root = argparse.ArgumentParser(
        prog="statehold",
        description="State for ML services, kept wherever the configuration says.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"statehold {__version__}")
    shared = _shared()
    reach = _reach(shared)
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: str, summary: str, *, parent: argparse.ArgumentParser = reach
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=summary, parents=[parent])
        made.set_defaults(run=run)
        return made

    def key(of: argparse.ArgumentParser) -> None:
        of.add_argument("kind", metavar="KIND", help="the kind of state")
        of.add_argument("id", metavar="ID", help="its id (after -- if it begins with a dash)")

    serve = command("serve", "serving:serve", "Serve the states over HTTP.", parent=shared)
    serve.add_argument("--host", help="the address to listen on")
    serve.add_argument("--port", help="the port to listen on")

    get = command("get", "states:get", "Print a state.")
    key(get)
    _reading(get)

    apply = command("apply", "states:apply", "Apply changes to a state, all or none.")
    key(apply)
    _changing(apply)

    scan = command("scan", "states:scan", "Print the ids of a kind, one JSON text on each line.")
    scan.add_argument("kind", metavar="KIND", help="the kind of state")
    scan.add_argument("--subject", help="only the states about this subject")
    scan.add_argument("--prefix", default="", help="only the states whose ids begin with this")
    scan.add_argument(
        "--newest", action="store_true", help="with --subject: the last updated first"
    )
    scan.add_argument("--values", action="store_true", help="print the states, not their ids")
    scan.add_argument("--limit", metavar="N", type=_positive, help="maximum number of ids")

    delete = command("delete", "states:delete", "Delete a state.")
    key(delete)
    _deletion(delete)

    replay = command("replay", "replaying:replay", "Feed a file of commits to the store, once.")
    replay.add_argument("file", metavar="FILE", help="JSON lines, .gz too; - is standard input")
    replay.add_argument(
        "--rejects", metavar="PATH", help="where to keep bad lines (default: FILE.rejects.jsonl)"
    )
    replay.add_argument(
        "--from", dest="first", metavar="LINE", type=_positive, default=1, help="begin at this line"
    )
    replay.add_argument(
        "--jobs", metavar="N", type=_positive, help="maximum number of commits under way at once"
    )
    replay.add_argument(
        "--patience",
        metavar="SECONDS",
        type=_seconds,
        help="how long to retry a store that cannot answer (default: 15)",
    )
    replay.add_argument("--quiet", action="store_true", help="no progress bar")

    bench = command(
        "bench",
        "measuring:bench",
        "Measure the backend in a few seconds, on states of its own that are deleted again.",
        parent=shared,
    )
    bench.add_argument(
        "--seconds",
        metavar="S",
        type=_seconds,
        default=1.0,
        help="how long each part takes (default: 1)",
    )

    sweep = command(
        "sweep",
        "sweeping:sweep",
        "Clear away what has ended, where few or none write any more.",
        parent=shared,
    )
    sweep.add_argument(
        "--seconds",
        metavar="S",
        type=_seconds,
        default=_FOREVER_S,
        help="how long at most (default: until everything was looked at)",
    )

    keys = command("keys", "keying:keys", "Make, rotate or list the keys of tokens.", parent=shared)
    keys.add_argument("action", choices=["new", "rotate", "list"], help="what to do")
    keys.add_argument("file", metavar="FILE", help="the file; with new, - prints a key instead")
    keys.add_argument(
        "--prepare", action="store_true", help="rotate: the new key opens now and seals next time"
    )
    keys.add_argument(
        "--keep",
        metavar="N",
        type=_positive,
        help="rotate: drop all but the newest N old keys (default: drop none)",
    )

    _migrate(
        command(
            "migrate",
            "migrating:migrate",
            "Make the tables of a SQL database fit the classes; nothing is dropped without --drop.",
            parent=shared,
        )
    )

    command("check", "checking:check", "Check the configuration, and whether the store answers.")
    return root


def _migrate(of: argparse.ArgumentParser) -> None:
    of.add_argument("kinds", metavar="KIND", nargs="*", help="only these kinds")
    do = of.add_mutually_exclusive_group(required=True)
    do.add_argument("--plan", action="store_true", help="print what there is to do, as SQL")
    do.add_argument("--apply", action="store_true", help="do it")
    do.add_argument(
        "--write", metavar="FOLDER", help="write it as a revision among the Alembic scripts there"
    )
    of.add_argument(
        "--drop", action="store_true", help="also drop what no class uses any more, with its data"
    )
    of.add_argument(
        "--rename",
        metavar="KIND.OLD=NEW",
        action="append",
        default=[],
        help="the field was renamed: its column or table follows, with its data",
    )


def _changing(apply: argparse.ArgumentParser) -> None:
    apply.add_argument(
        "changes",
        metavar="JSON",
        help='changes by field, such as {"turns": {"add": 1}}; - reads them from standard input',
    )
    apply.add_argument(
        "--op", help="the op id, an idempotency key: commits with the same one are applied once"
    )
    apply.add_argument(
        "--expect",
        metavar="REVISION",
        help="refuse unless the state is at this revision, absent or present",
    )
    apply.add_argument(
        "--epoch", type=_positive, default=0, help="the writer's epoch, a fencing token"
    )
    apply.add_argument(
        "--subject", action="append", help="whom the state is about; may be said several times"
    )
    apply.add_argument(
        "--no-subject",
        dest="subject",
        action="store_const",
        const=[],
        help="the state is about nobody any more",
    )
    apply.add_argument(
        "--ttl",
        type=_duration,
        help="how long it lives from now on, such as 30s (default, and at most: the kind's)",
    )


def _deletion(of: argparse.ArgumentParser) -> None:
    of.add_argument(
        "--op", help="the op id, an idempotency key: deletions with the same one are made once"
    )
    of.add_argument(
        "--expect",
        metavar="REVISION",
        help="refuse unless the state is at this revision, or present",
    )


def _shared() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    where = shared.add_argument_group("where")
    where.add_argument(
        "--config", metavar="FILE", help="the configuration file (default: statehold.toml)"
    )
    where.add_argument("--backend", metavar="URL", help="the backend (default: the configured one)")
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return shared


def _reach(shared: argparse.ArgumentParser) -> argparse.ArgumentParser:
    reach = argparse.ArgumentParser(add_help=False, parents=[shared])
    where = reach.add_argument_group("through a server")
    where.add_argument(
        "--server", metavar="URL", help=f"go through this server; its key is in {KEY_VARIABLE}"
    )
    reach.add_argument("--tenant", default="", help="the tenant's namespace")
    return reach
