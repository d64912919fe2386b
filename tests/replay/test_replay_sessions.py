"""Real shopping sessions through the HTTP API of a real server: every event is accounted for."""

import json
import shutil
import time
from collections import Counter
from urllib.request import urlopen

import pytest

from commands import ROOT, contents, dump, serving, start, statehold
from examples.sessions import convert
from statehold import Store
from statehold.config import Config

EXAMPLE = ROOT / "examples" / "sessions"


@pytest.fixture(scope="module")
def sessions(data_dir):
    return list(convert.sessions(data_dir / "otto_sessions.jsonl.gz"))


@pytest.fixture(scope="module")
def lines(sessions):
    return [
        json.dumps(commit) + "\n" for session in sessions for commit in convert.commits(session)
    ]


def backend(folder, lines):
    folder.mkdir(exist_ok=True)
    shutil.copy(EXAMPLE / "statehold.toml", folder)
    (folder / "in.jsonl").write_text("".join(lines))
    return folder


def stored(folder):
    with Store.open(f"sqlite:///{folder / 'sessions.db'}") as store:
        return contents(store, Config.load(folder / "statehold.toml", {}).kinds)


def read(url, id):
    with urlopen(f"{url}/v1/visit/{id}") as response:
        return json.load(response)


@pytest.fixture(scope="module")
def undisturbed(lines, tmp_path_factory):
    """What the sessions look like when nothing happens on the way."""
    folder = backend(tmp_path_factory.mktemp("undisturbed"), lines)
    statehold("replay", "in.jsonl", cwd=folder)
    return stored(folder)


def test_every_event(sessions, lines, undisturbed, tmp_path):
    backend(tmp_path, lines)
    with serving(tmp_path) as (url, _):
        out, _ = statehold("replay", "in.jsonl", "--server", url, cwd=tmp_path)
        summary = json.loads(out)
        assert (summary["applied"], summary["rejected"]) == (len(lines), 0)

        total = Counter()
        for session in sessions:
            id, events = str(session["session"]), session["events"]
            fields = read(url, id)["fields"]
            assert fields["events"] == events
            assert fields["counts"] == Counter(event["type"] for event in events)
            assert fields["last"] == events[-1]["ts"]
            clicks = Counter(str(event["aid"]) for event in events if event["type"] == "clicks")
            assert fields["clicked"] == clicks
            total.update(fields["counts"])
        assert total == Counter(e["type"] for session in sessions for e in session["events"])
        assert total.total() == len(lines)

        before = dump(tmp_path / "sessions.db")
        out, _ = statehold("replay", "in.jsonl", "--server", url, cwd=tmp_path)
        assert json.loads(out)["applied"] == 0
        assert dump(tmp_path / "sessions.db") == before
    assert stored(tmp_path) == undisturbed


def under_way(process, folder, sessions):
    """Wait until the longest session has a third of its events."""
    longest = max(sessions, key=lambda session: len(session["events"]))
    kinds = Config.load(folder / "statehold.toml", {}).kinds
    with Store.open(f"sqlite:///{folder / 'sessions.db'}") as store:
        visits = store.collection(kinds["visit"])
        while 3 * len(visits.get(str(longest["session"])).events) < len(longest["events"]):
            assert process.poll() is None
            time.sleep(0.005)


def test_the_server_is_killed_and_comes_back_in_time(sessions, lines, undisturbed, tmp_path):
    """The replay goes on asking, and what was under way is applied once."""
    backend(tmp_path, lines)
    with serving(tmp_path) as (url, server):
        replay = start("replay", "in.jsonl", "--server", url, "--jobs", 4, cwd=tmp_path)
        under_way(replay, tmp_path, sessions)
        server.kill()
        server.wait()
    with serving(tmp_path, port=url.rpartition(":")[2]):
        out, err = replay.communicate(timeout=60)
    assert replay.returncode == 0, err
    assert json.loads(out)["rejected"] == 0
    assert stored(tmp_path) == undisturbed


def test_the_server_is_killed_and_stays_away(sessions, lines, undisturbed, tmp_path):
    """The replay says where it stopped; from there, or from the start, the rest is done."""
    backend(tmp_path, lines)
    with serving(tmp_path) as (url, server):
        replay = start(
            "replay", "in.jsonl", "--server", url, "--jobs", 4, "--patience", 0.2, cwd=tmp_path
        )
        under_way(replay, tmp_path, sessions)
        server.kill()
        server.wait()
        _, err = replay.communicate(timeout=60)
    assert replay.returncode == 5
    said = err.decode().splitlines()
    assert len(said) == 1
    assert said[0].startswith("statehold: unavailable: ")
    line = said[0].rpartition(" ")[2]
    assert 1 < int(line) <= len(lines)
    with serving(tmp_path) as (url, _):
        statehold("replay", "in.jsonl", "--server", url, "--from", line, cwd=tmp_path)
    assert stored(tmp_path) == undisturbed


def test_keys_and_tenants(lines, tmp_path):
    """A server with keys takes them from STATEHOLD_KEY and stops a replay that has none."""
    backend(tmp_path, lines[-20:])
    key = "k" * 20
    with serving(tmp_path, STATEHOLD_SERVER_KEY=key) as (url, _):
        _, err = statehold("replay", "in.jsonl", "--server", url, cwd=tmp_path, code=1)
        assert err.startswith("statehold: denied: ")
        statehold(
            "replay",
            "in.jsonl",
            "--server",
            url,
            "--tenant",
            "ü/1",
            cwd=tmp_path,
            STATEHOLD_KEY=key,
        )
        scan = ("scan", "visit", "--server", url)
        assert statehold(*scan, cwd=tmp_path, STATEHOLD_KEY=key)[0] == ""
        out, _ = statehold(*scan, "--tenant", "ü/1", cwd=tmp_path, STATEHOLD_KEY=key)
        assert len(out.splitlines()) == len({json.loads(line)["id"] for line in lines[-20:]})
