"""`statehold keys`: makes, rotates and lists, and never prints a key that it keeps."""

import json
import stat

import pytest

from commands import statehold
from statehold import Counter, State, Store
from statehold.tokens import Jar, Key, KeyRing


class Visit(State, ttl=60):
    n = Counter()


def lines(out):
    return [json.loads(line) for line in out.splitlines()]


def test_rotation_as_an_operator_does_it(tmp_path):
    path = tmp_path / "keys"

    def run(*arguments):
        out, err = statehold("keys", *arguments, path, cwd=tmp_path)
        assert "sh1_" not in out + err
        return [(line["id"], line["role"]) for line in lines(out)]

    ((first, role),) = run("new")
    assert role == "seals"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Store.open("token:", keys=f"file:{path}") as store, Jar() as jar:
        store.collection(Visit).apply("x", Visit.n.add(1))
    prepared = run("rotate", "--prepare")
    assert prepared[0] == (first, "seals")
    second, role = prepared[1]
    assert role == "seals next"
    assert run("rotate") == [(second, "seals"), (first, "opens")] == run("list")
    with Store.open("token:", keys=f"file:{path}") as store, Jar(jar.token):
        assert store.collection(Visit).get("x").n == 1
    assert [role for _, role in run("rotate")] == ["seals", "opens", "opens"]
    *kept, one, other = run("rotate", "--keep", "1")
    assert kept == run("list")
    assert [role for _, role in kept] == ["seals", "opens"]
    assert [one, other] == [(second, "dropped"), (first, "dropped")]


def test_what_goes_wrong_is_one_line(tmp_path):
    path = tmp_path / "keys"
    statehold("keys", "new", path, cwd=tmp_path)
    assert "already" in statehold("keys", "new", path, cwd=tmp_path, code=1)[1]
    path.chmod(0o644)
    assert "chmod 600" in statehold("keys", "rotate", path, cwd=tmp_path, code=2)[1]
    assert "No such file" in statehold("keys", "list", tmp_path / "no", cwd=tmp_path, code=2)[1]


@pytest.mark.parametrize(
    "command", [["check"], ["apply", "chat", "x", "{}"], ["get", "chat", "x"], ["serve"], ["bench"]]
)
def test_tokens_are_no_place_for_the_command_line(tmp_path, command):
    (tmp_path / "statehold.toml").write_text(
        'backend = "token:"\n[kinds.chat]\nttl = "1h"\nfields = { turns = "counter" }\n'
    )
    _, err = statehold(*command, cwd=tmp_path, code=2)
    assert err == (
        "statehold: config: "
        "token: lives in the client; it cannot be served or used from the command line. An application"
        ' opens it by AsyncStore.open("token:", keys=...), and a Jar for each request\n'
    )


def test_a_key_for_the_environment(tmp_path):
    ((made),) = lines(statehold("keys", "new", "-", cwd=tmp_path)[0])
    assert KeyRing(made["key"]).sealing.id.hex() == made["id"]
    assert Key.parse(made["key"]).text() == made["key"]
