"""Real dialogues through `statehold replay`: the stored slots are the true ones at every turn."""

import json
import random
import shutil
import time
from itertools import chain

import pytest

from commands import ROOT, contents, dump, start, statehold
from examples.dialogues import convert
from statehold import Store
from statehold.config import Config

EXAMPLE = ROOT / "examples" / "dialogues"
SEED = 20


class Rounds:
    """The dialogues cut after each user turn: what to replay, and what must then be stored."""

    def __init__(self, dialogues):
        self.lines = {d["dialogue_id"]: list(convert.commits(d)) for d in dialogues}
        self.rounds = []
        self.truths = []
        self.rest = []
        for dialogue in dialogues:
            id, since = dialogue["dialogue_id"], 0
            turns = dialogue["turns"]
            users = [n for n, turn in enumerate(turns, 1) if turn["speaker"] == "USER"]
            for number, end in enumerate(users):
                if number == len(self.rounds):
                    self.rounds.append([])
                    self.truths.append({})
                self.rounds[number].append(self.lines[id][since:end])
                self.truths[number][id] = turns[:end]
                since = end
            self.rest += self.lines[id][since:]


@pytest.fixture(scope="module")
def dialogues(data_dir):
    found = [d for path in sorted(data_dir.glob("sgd_*.json.gz")) for d in convert.dialogues(path)]
    assert found
    return found


@pytest.fixture(scope="module")
def kinds():
    return Config.load(EXAMPLE / "statehold.toml", {}).kinds


def backend(folder):
    folder.mkdir(exist_ok=True)
    shutil.copy(EXAMPLE / "statehold.toml", folder)
    return folder


def write(path, commits):
    path.write_text("".join(json.dumps(commit) + "\n" for commit in commits))
    return path


def matches(state, turns):
    """Whether the state is what the annotators wrote down for the last of these turns."""
    slots, intents, requested = {}, {}, set()
    for turn in turns:
        if turn["speaker"] == "USER":
            requested = set()
            for frame in turn["frames"]:
                service, truth = frame["service"], frame["state"]
                slots[service] = truth["slot_values"]
                intents[service] = truth["active_intent"]
                requested |= {f"{service}.{slot}" for slot in truth["requested_slots"]}
    true = {
        f"{service}.{slot}": said for service, its in slots.items() for slot, said in its.items()
    }
    said = [(turn["speaker"].lower(), turn["utterance"]) for turn in turns]
    return (
        dict(state.slots) == true
        and dict(state.intents) == intents
        and set(state.requested) == requested
        and [(item.speaker, item.text) for item in state.utterances] == said
    )


def interleaved(parts, rng):
    """The lines of the parts in an order drawn by lot, each part's own order kept."""
    left = [iter(part) for part in parts]
    order = [number for number, part in enumerate(parts) for _ in part]
    rng.shuffle(order)
    return [next(left[number]) for number in order]


def killed(chunk, folder, store, kinds, rng):
    """Replay the chunk and kill the process as soon as a line drawn by lot has been applied."""
    lines = [json.loads(line) for line in chunk.read_text().splitlines()]
    target = rng.choice(lines[: len(lines) * 3 // 4])
    states = store.collection(kinds["dialogue"])
    turn = int(target["op"].removeprefix("turn-"))
    process = start("replay", chunk, cwd=folder)
    while process.poll() is None:
        if len(states.get(target["id"]).utterances) > turn:
            process.kill()
            break
        time.sleep(0.002)
    process.communicate()
    return process.returncode == -9


@pytest.mark.timeout(300)
def test_every_user_turn(dialogues, kinds, tmp_path):
    """A process for each round of user turns, killed at random: no turn's state is ever wrong."""
    rng = random.Random(SEED)
    cut = Rounds(dialogues)
    folder = backend(tmp_path / "rounds")
    checked = kills = 0
    with Store.open(f"sqlite:///{folder / 'dialogues.db'}") as store:
        states = store.collection(kinds["dialogue"])
        for number, (parts, truths) in enumerate(zip(cut.rounds, cut.truths, strict=True)):
            chunk = write(tmp_path / f"{number}.jsonl", interleaved(parts, rng))
            kills += killed(chunk, folder, store, kinds, rng)
            out, _ = statehold("replay", chunk, cwd=folder)
            assert json.loads(out)["rejected"] == 0
            for id, turns in truths.items():
                assert matches(states.get(id), turns), (id, len(turns))
                checked += 1
        statehold("replay", write(tmp_path / "rest.jsonl", cut.rest), cwd=folder)
        for dialogue in dialogues:
            assert matches(states.get(dialogue["dialogue_id"]), dialogue["turns"])
        disturbed = contents(store, kinds)
    assert checked == sum(turn["speaker"] == "USER" for d in dialogues for turn in d["turns"])
    assert kills >= len(cut.rounds) // 2

    whole = write(tmp_path / "whole.jsonl", chain(*cut.lines.values()))
    straight = backend(tmp_path / "straight")
    out, _ = statehold("replay", whole, cwd=straight)
    assert json.loads(out)["applied"] == sum(len(dialogue["turns"]) for dialogue in dialogues)
    with Store.open(f"sqlite:///{straight / 'dialogues.db'}") as store:
        assert contents(store, kinds) == disturbed

    before = dump(folder / "dialogues.db")
    out, _ = statehold("replay", whole, cwd=folder)
    assert json.loads(out)["applied"] == json.loads(out)["rejected"] == 0
    assert dump(folder / "dialogues.db") == before


def test_a_slot_that_is_taken_back_is_dropped(kinds, tmp_path):
    """The real dialogues never take a slot back, and name one service in a turn; these do."""

    def frame(service, intent, requested, **slots):
        state = {"active_intent": intent, "requested_slots": requested, "slot_values": slots}
        return {"service": service, "state": state}

    turns = [
        [frame("Hotels", "Find", ["stars"], city=["Bonn"], pets=["yes"])],
        [frame("Hotels", "Book", [], city=["Bonn", "in Bonn"]), frame("Taxis", "NONE", ["price"])],
        [frame("Taxis", "Ride", ["price"], to=["Bonn"])],
    ]
    dialogue = {
        "dialogue_id": "made up",
        "turns": [
            {"speaker": "USER", "utterance": str(n), "frames": f} for n, f in enumerate(turns)
        ],
    }
    folder = backend(tmp_path / "made")
    for number, commit in enumerate(convert.commits(dialogue), 1):
        statehold("replay", write(tmp_path / "line.jsonl", [commit]), cwd=folder)
        with Store.open(f"sqlite:///{folder / 'dialogues.db'}") as store:
            state = store.collection(kinds["dialogue"]).get("made up")
            assert matches(state, dialogue["turns"][:number])
    assert "Hotels.pets" not in state.slots
