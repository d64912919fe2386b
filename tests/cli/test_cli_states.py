"""get, apply, scan and delete as a shell sees them: JSON out, diagnostics aside, an exit code."""

import json
import shlex
import subprocess

import pytest

from commands import COMMAND, environment, inside, serving, statehold

TOML = """
backend = "sqlite:///state.db"

[kinds.chat]
ttl = "1h"

[kinds.chat.fields]
history = { type = "log", items = "string", keep = 10, max_bytes = 20 }
turns = "counter"
values = { type = "map", values = "integer", keep = 10 }
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "statehold.toml").write_text(TOML)
    return tmp_path


@pytest.fixture(params=["library", "server"])
def run(request, folder):
    """A command in a folder with a configuration, through the library or through a server."""

    def given(*more):
        def run(*arguments, **how):
            return inside(*arguments, *more, cwd=folder, **how)

        return run

    if request.param == "library":
        yield given()
    else:
        with serving(folder) as (url, _):
            yield given("--server", url)


def test_a_state_from_its_first_change_to_its_last(run):
    _, err = run("get", "chat", "ü/1", code=3)
    assert err == "statehold: absent: chat 'ü/1': not found\n"

    changes = json.dumps({"history": {"append": ["one", "two", "three"]}, "turns": {"add": 2}})
    out, err = run("apply", "chat", "ü/1", changes, "--op", "ö 1", "--subject", "ada")
    first = json.loads(out)
    assert (first["repeated"], err) == (False, "")
    again = json.loads(run("apply", "chat", "ü/1", changes, "--op", "ö 1")[0])
    assert again == {"revision": first["revision"], "repeated": True}

    out, _ = run("get", "chat", "ü/1")
    found = json.loads(out)
    assert found["fields"] == {"history": ["one", "two", "three"], "turns": 2, "values": {}}
    assert (found["id"], found["kind"], found["subject"]) == ("ü/1", "chat", "ada")
    assert found["revision"] == first["revision"]
    run("apply", "chat", "about", "{}", "--subject", "ada", "--subject", "run, 7")
    assert json.loads(run("get", "chat", "about")[0])["subjects"] == ["ada", "run, 7"]
    assert run("scan", "chat", "--subject", "run, 7")[0] == '"about"\n'
    run("apply", "chat", "about", "{}", "--no-subject")
    assert json.loads(run("get", "chat", "about")[0])["subjects"] == []
    out, _ = run("get", "chat", "ü/1", "--fields", "history", "--tail", 1)
    assert json.loads(out)["fields"] == {"history": ["three"]}

    run("apply", "chat", "map", '{"values": {"put": {"a": 1, "b": 2}}}')
    entries = ("--fields", "values", "--entries", '{"values": ["b", "c"]}')
    assert json.loads(run("get", "chat", "map", *entries)[0])["fields"] == {"values": {"b": 2}}
    _, err = run("get", "chat", "map", "--entries", '{"turns": [""]}', code=1)
    assert "a counter has no entries to be read one by one" in err
    _, err = run("get", "chat", "map", "--entries", "b", code=1)
    assert "entries" in err

    lives = found["expires"] - found["updated"]
    run("apply", "chat", "brief", "{}", "--ttl", "1m30s")
    brief = json.loads(run("get", "chat", "brief")[0])
    assert (round(lives), round(brief["expires"] - brief["updated"])) == (3600, 90)
    _, err = run("apply", "chat", "brief", "{}", "--ttl", "2h", code=1)
    assert "ttl: 7200 s is longer than the 3600 s" in err

    expect = ("--expect", first["revision"])
    stdin = b'{"turns": {"add": 1}}'
    second = json.loads(run("apply", "chat", "ü/1", "-", *expect, stdin=stdin)[0])
    _, err = run("apply", "chat", "ü/1", "-", *expect, stdin=stdin, code=4)
    assert err.startswith("statehold: conflict: ")
    assert second["revision"] in err
    _, err = run("apply", "chat", "ü/1", "-", "--expect", "absent", stdin=stdin, code=4)
    assert err.startswith("statehold: conflict: ")
    run("apply", "chat", "ü/1", "-", "--expect", "present", stdin=stdin)

    _, err = run("delete", "chat", "ü/1", *expect, code=4)
    assert err.startswith("statehold: conflict: ")
    assert json.loads(run("delete", "chat", "ü/1")[0]) == {"deleted": True}
    run("delete", "chat", "ü/1", code=3)
    run("get", "chat", "ü/1", code=3)


def test_what_a_state_is_said_to_be_is_the_same_either_way(folder):
    with serving(folder) as (url, _):
        statehold("apply", "chat", "a", '{"turns": {"add": 1}}', cwd=folder)
        library, server = (
            json.loads(inside("get", "chat", "a", *more, cwd=folder)[0])
            for more in ((), ("--server", url))
        )
    assert library.pop("age") <= server.pop("age")
    assert library == server


def test_the_same_errors_either_way(run):
    def says(*arguments, code=1):
        return run(*arguments, code=code)[1]

    assert says("apply", "chat", "a", "{").startswith("statehold: invalid: changes are not JSON")
    assert says("apply", "chat", "a", '{"mood": {"put": 1}}').startswith(
        "statehold: invalid: 'mood'"
    )
    long = json.dumps({"history": {"append": ["x" * 30]}})
    assert says("apply", "chat", "a", long).startswith("statehold: too_large: history: ")
    assert says("apply", "chat", "a", "{}", "--expect", "never").startswith(
        "statehold: invalid: exp"
    )
    assert "no kind 'chats'" in says("get", "chats", "a")
    assert "no kind 'chats'" in says("scan", "chats")
    assert "no kind 'chats'" in says("delete", "chats", "a")
    assert "mood" in says("get", "chat", "a", "--fields", "mood")
    assert says("get", "chat", "x" * 600).startswith("statehold: invalid: id of 600 bytes")
    assert says("delete", "chat", "a", "--expect", "absent").startswith(
        "statehold: invalid: expect"
    )
    run("apply", "chat", "a", '{"turns": {"add": 1}}', "--epoch", 7)
    assert says("apply", "chat", "a", "{}", "--epoch", 6, code=4).startswith("statehold: fenced: ")


def test_scan(run):
    lines = (
        {"kind": "chat", "id": f"{n}\n", "changes": {}, "subject": "ada" if n % 2 else None}
        for n in range(7)
    )
    run("replay", "-", stdin="\n".join(map(json.dumps, lines)).encode())
    out, _ = run("scan", "chat")
    assert sorted(map(json.loads, out.splitlines())) == [f"{number}\n" for number in range(7)]
    out, _ = run("scan", "chat", "--limit", 3)
    assert len(out.splitlines()) == 3
    out, _ = run("scan", "chat", "--subject", "ada", "--limit", 2)
    assert set(map(json.loads, out.splitlines())) < {"1\n", "3\n", "5\n"}
    assert run("scan", "chat", "--tenant", "other")[0] == ""
    out, _ = run("scan", "chat", "--prefix", "5")
    assert json.loads(out) == "5\n"
    for name in ("5\n", "1\n", "3\n"):
        run("apply", "chat", name, "{}")
    out, _ = run("scan", "chat", "--subject", "ada", "--newest", "--values")
    states = list(map(json.loads, out.splitlines()))
    assert [state["id"] for state in states] == ["3\n", "1\n", "5\n"]
    assert states[0] == json.loads(run("get", "chat", "3\n")[0]) | {"age": states[0]["age"]}
    assert "newest" in run("scan", "chat", "--newest", code=1)[1]


def test_tenants(run):
    run("apply", "chat", "a", '{"turns": {"add": 1}}', "--tenant", "t")
    run("get", "chat", "a", code=3)
    assert json.loads(run("get", "chat", "a", "--tenant", "t")[0])["fields"]["turns"] == 1
    run("delete", "chat", "a", code=3)
    run("delete", "chat", "a", "--tenant", "t")


def test_an_id_that_begins_with_a_dash(folder):
    statehold("apply", "--", "chat", "-a", '{"turns": {"add": 1}}', cwd=folder)
    out, _ = statehold("get", "--fields", "turns", "--", "chat", "-a", cwd=folder)
    assert json.loads(out)["fields"] == {"turns": 1}


def test_scan_into_a_pipe_that_closes(folder):
    lines = "".join(f'{{"kind": "chat", "id": "{n}", "changes": {{}}}}\n' for n in range(3000))
    (folder / "in.jsonl").write_text(lines)
    statehold("replay", "in.jsonl", cwd=folder)
    done = subprocess.run(
        f"{shlex.quote(COMMAND)} scan chat | head -n 1",
        shell=True,
        cwd=folder,
        capture_output=True,
        check=True,
        env=environment(),
    )
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""
