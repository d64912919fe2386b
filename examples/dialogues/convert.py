"""Turn schema-guided dialogues into commits that `statehold replay` takes.

    python convert.py sgd_dev_001.json.gz … > dialogues.jsonl
    statehold replay dialogues.jsonl

Each turn becomes one commit. After a user's turn the stored slots, intents and requests are those
that the dialogue's annotators have written down for it; a service that a turn does not mention
keeps its slots and its intent.
"""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def dialogues(path: Path) -> list[dict[str, Any]]:
    """The dialogues of a file."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        found: list[dict[str, Any]] = json.load(file)
    return found


def commits(dialogue: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One commit for each turn, with nothing in it but what the turn changes."""
    slots: dict[str, dict[str, list[str]]] = {}  # by service, as of the turn before
    intents: dict[str, str] = {}
    requested: set[str] = set()
    for number, turn in enumerate(dialogue["turns"]):
        said = {"speaker": turn["speaker"].lower(), "text": turn["utterance"]}
        changes: dict[str, Any] = {"utterances": {"append": [said]}}
        if turn["speaker"] == "USER":
            now: set[str] = set()
            changes["slots"] = {"drop": [], "put": {}}
            changes["intents"] = {"put": {}}
            for frame in turn["frames"]:
                service, state = frame["service"], frame["state"]
                old, new = slots.get(service, {}), state["slot_values"]
                slots[service] = new
                gone = sorted(old.keys() - new.keys())
                changed = {slot: said for slot, said in new.items() if old.get(slot) != said}
                changes["slots"]["drop"] += [f"{service}.{slot}" for slot in gone]
                changes["slots"]["put"] |= {f"{service}.{slot}": changed[slot] for slot in changed}
                if intents.get(service) != state["active_intent"]:
                    intents[service] = state["active_intent"]
                    changes["intents"]["put"][service] = state["active_intent"]
                now |= {f"{service}.{slot}" for slot in state["requested_slots"]}
            changes["requested"] = {
                "discard": sorted(requested - now),
                "add": sorted(now - requested),
            }
            requested = now
        yield {
            "kind": "dialogue",
            "id": dialogue["dialogue_id"],
            "op": f"turn-{number}",
            "changes": _lean(changes),
        }


def _lean(changes: dict[str, Any]) -> dict[str, Any]:
    lean = {
        field: {do: what for do, what in does.items() if what} for field, does in changes.items()
    }
    return {field: does for field, does in lean.items() if does}


def main(paths: list[str]) -> None:
    """Print the commits of the files, as JSON lines."""
    for path in paths:
        for dialogue in dialogues(Path(path)):
            for commit in commits(dialogue):
                print(json.dumps(commit, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
