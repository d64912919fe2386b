"""Turn OTTO's shopping sessions into commits that `statehold replay` takes.

    python convert.py otto_sessions.jsonl.gz > sessions.jsonl
    statehold replay sessions.jsonl

Each event becomes one commit. The commits have no op ids: `replay` makes them from the lines.
"""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def sessions(path: Path) -> Iterator[dict[str, Any]]:
    """The sessions of a file."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from map(json.loads, file)


def commits(session: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One commit for each event."""
    for event in session["events"]:
        changes: dict[str, Any] = {
            "events": {"append": [event]},
            "counts": {"add": {event["type"]: 1}},
            "last": {"put": event["ts"]},
        }
        if event["type"] == "clicks":
            changes["clicked"] = {"add": {str(event["aid"]): 1}}
        yield {
            "kind": "visit",
            "id": str(session["session"]),
            "time": event["ts"],
            "changes": changes,
        }


def main(paths: list[str]) -> None:
    """Print the commits of the files, as JSON lines."""
    for path in paths:
        for session in sessions(Path(path)):
            for commit in commits(session):
                print(json.dumps(commit))


if __name__ == "__main__":
    main(sys.argv[1:])
