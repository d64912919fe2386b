"""A replay that is cut short, and a store that does not answer."""

import asyncio
import json
import random
import shutil
import signal
import socket
import time

import pytest

from commands import ROOT, contents, start, statehold
from examples.dialogues import convert
from statehold import AsyncStore, Counter, ManualClock, ReadOnly, State, Store, Timeout, Unavailable
from statehold.client import Local
from statehold.config import Config
from statehold.replay import Replay, Source
from statehold.replay.report import Rejects


class Chat(State, ttl=None):
    turns = Counter()


class Shaky(Local):
    """Fails as it is told before or after doing what it is asked."""

    def __init__(self, store, *, before=(), after=()):
        super().__init__(store, {"chat": Chat})
        self.calls = 0
        self.before = dict(before)
        self.after = dict(after)

    async def commit(self, key, changes, **how):
        self.calls += 1
        call = self.calls
        if call in self.before:
            raise self.before[call]
        done = await super().commit(key, changes, **how)
        if call in self.after:
            raise self.after[call]
        return done


def run(folder, lines, *, first=1, store=None, **faults):
    """Replay the lines through a shaky store in memory; the turns by id, and the replay."""
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    async def main():
        opened = store or AsyncStore.open("memory://")
        access = Shaky(opened, **faults)
        with Rejects(folder / "rejects") as rejects:
            replay = Replay(Source(str(path)), access, rejects, first=first, clock=ManualClock())
            try:
                found = await replay.run()
            except Unavailable as error:
                found = error
        chats = opened.collection(Chat)
        turns = {id: int((await chats.get(id)).turns) async for id in chats.scan()}
        return turns, replay, found

    return asyncio.run(main())


def add(id, amount=1):
    return {"kind": "chat", "id": id, "changes": {"turns": {"add": amount}}}


LINES = [add(id, n) for n in range(1, 21) for id in "abc"]
ALL = dict.fromkeys("abc", 210)


def test_what_may_have_been_applied_is_sent_again(tmp_path):
    """An answer that was lost: the line is known already when it is sent again."""
    turns, _, summary = run(
        tmp_path,
        LINES,
        before={n: Unavailable("down") for n in range(5, 9)},
        after={n: Timeout("too late") for n in range(20, 40, 5)},
    )
    assert turns == ALL
    assert summary.total.applied + summary.total.repeated == 60
    assert summary.total.repeated == 4


def test_patience_ends(tmp_path):
    """It says from which line to go on; no line before it is left out, and none after is lost."""
    down = {n: Unavailable("down") for n in range(30, 10_000)}
    turns, replay, error = run(tmp_path, LINES, before=down)
    assert str(error) == "down"
    assert turns != ALL
    assert 1 < replay.next_line <= 60

    sums = dict.fromkeys("abc", 0)
    for line in LINES[: replay.next_line - 1]:
        sums[line["id"]] += line["changes"]["turns"]["add"]
    assert all(turns.get(id, 0) >= done for id, done in sums.items())


def test_read_only_is_not_asked_again(tmp_path):
    _, replay, error = run(tmp_path, LINES, before={1: ReadOnly("read only")})
    assert isinstance(error, ReadOnly)
    assert replay.next_line == 1


def test_an_interrupt_says_where_it_stopped(tmp_path):
    """Ctrl-C while the store does not answer."""
    (tmp_path / "in.jsonl").write_text(json.dumps(add("a")) + "\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = start("replay", "in.jsonl", "--server", url, cwd=tmp_path)
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"interrupted; stopped at line 1" in err
    assert b"Traceback" not in err


def test_a_store_that_is_down(tmp_path):
    (tmp_path / "in.jsonl").write_text(json.dumps(add("a")) + "\n")
    server = ("--server", "http://127.0.0.1:9", "--patience", "0.2")
    _, err = statehold("replay", "in.jsonl", *server, cwd=tmp_path, code=5)
    assert err.count("\n") == 1
    assert "stopped at line 1: run it again, or from there with --from 1" in err


@pytest.mark.timeout(180)
def test_killed_in_the_middle(data_dir, tmp_path):
    """kill -9 again and again: in the end everything is there, and once."""
    example = ROOT / "examples" / "dialogues"
    kinds = Config.load(example / "statehold.toml", {}).kinds
    lines = [
        json.dumps(commit) + "\n"
        for dialogue in convert.dialogues(min(data_dir.glob("sgd_*.json.gz")))
        for commit in convert.commits(dialogue)
    ]
    found = []
    rng = random.Random(3)
    for folder, kills in ((tmp_path / "killed", 4), (tmp_path / "straight", 0)):
        folder.mkdir()
        shutil.copy(example / "statehold.toml", folder)
        (folder / "in.jsonl").write_text("".join(lines))
        with Store.open(f"sqlite:///{folder / 'dialogues.db'}") as store:
            states = store.collection(kinds["dialogue"])
            for number in range(kills):
                part = len(lines) // kills
                target = json.loads(lines[rng.randrange(number * part, (number + 1) * part)])
                turn = int(target["op"].removeprefix("turn-"))
                process = start("replay", "in.jsonl", cwd=folder)
                while process.poll() is None and len(states.get(target["id"]).utterances) <= turn:
                    time.sleep(0.001)
                process.kill()
                process.communicate()
            out, _ = statehold("replay", "in.jsonl", cwd=folder)
            summary = json.loads(out)
            assert summary["applied"] + summary["repeated"] == len(lines)
            found.append(contents(store, kinds))
    assert found[0] == found[1]


def test_two_at_once(tmp_path):
    """The same file by two processes at the same time: each line is applied by one of them."""
    toml = 'backend = "sqlite:///state.db"\n[kinds.chat]\nttl = "never"\nfields = { turns = "counter" }'
    (tmp_path / "statehold.toml").write_text(toml)
    lines = [json.dumps(add(str(n % 50), n)) + "\n" for n in range(3000)]
    (tmp_path / "in.jsonl").write_text("".join(lines))
    both = [start("replay", "in.jsonl", "--rejects", n, cwd=tmp_path) for n in "12"]
    outs = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert sum(out["applied"] for out in outs) == len(lines)
    with Store.open(f"sqlite:///{tmp_path / 'state.db'}") as store:
        chats = store.collection(Chat)
        assert {id: int(chats.get(id).turns) for id in chats.scan()} == {
            str(key): sum(range(key, 3000, 50)) for key in range(50)
        }
