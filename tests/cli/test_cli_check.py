"""`statehold check`: what is wrong, in one line, with an exit code."""

import json
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from commands import inside, serving

BACKEND = 'backend = "sqlite:///state.db"\n'
KIND = '[kinds.chat]\nttl = "1h"\nfields = { turns = "counter" }\n'


def check(folder, *arguments, code, toml=None, **env):
    if toml is not None:
        (folder / "statehold.toml").write_text(toml)
    out, err = inside("check", *arguments, cwd=folder, code=code, **env)
    if code:
        assert out == ""
        assert err.startswith("statehold: ")
        assert err.count("\n") == 1
    return json.loads(out) if out else err


def test_in_order(tmp_path):
    found = check(tmp_path, code=0, toml=BACKEND + KIND)
    assert found == {
        "ok": True,
        "source": "statehold.toml",
        "backend": "sqlite:///state.db",
        "kinds": ["chat"],
    }
    assert check(tmp_path, "--backend", "memory://", code=0)["backend"] == "memory://"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("backend = ", "no TOML"),
        (KIND, "backend: required"),
        (BACKEND, "kinds: none"),
        (BACKEND + "colour = 1\n" + KIND, "no setting 'colour'"),
        ('backend = "state.db"\n' + KIND, "not a backend"),
        ('backend = "etcd://here"\n' + KIND, "no backend 'etcd'"),
        ('backend = "sqlite:///state.db?speed=9"\n' + KIND, "no setting 'speed'"),
        (BACKEND + KIND.replace("1h", "0s"), "ttl"),
        (BACKEND + KIND.replace("1h", "soon"), "not a duration: 'soon'"),
        (BACKEND + KIND.replace("counter", "heap"), "no type 'heap'"),
        (BACKEND + KIND.replace('"counter"', '{ type = "log", items = "string" }'), "keep"),
        (BACKEND + '[kinds]\nchat = "nowhere:Chat"', "nowhere:Chat cannot be imported"),
        (BACKEND + KIND + '[server]\nhost = "0.0.0.0"', "there are no keys"),
        (BACKEND + KIND + '[server]\nport = "high"', "not a port"),
    ],
)
def test_a_wrong_configuration(tmp_path, toml, said):
    err = check(tmp_path, code=2, toml=toml)
    assert err.startswith("statehold: config: ")
    assert said in err


def test_no_configuration(tmp_path):
    assert "backend: required" in check(tmp_path, code=2)
    assert "other.toml" in check(tmp_path, "--config", "other.toml", code=2)


def test_not_a_store(tmp_path):
    (tmp_path / "state.db").write_bytes(b"these are not the bytes of a database" * 100)
    assert "not_a_store" in check(tmp_path, code=5, toml=BACKEND + KIND)
    (tmp_path / "state.db").unlink()
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute("CREATE TABLE customers (name)")
    connection.close()
    assert "not_a_store" in check(tmp_path, code=5)


def test_no_such_folder(tmp_path):
    err = check(tmp_path, code=2, toml=BACKEND.replace("state.db", "no/where/state.db") + KIND)
    assert "no/where" in err


def test_a_server(tmp_path):
    (tmp_path / "statehold.toml").write_text(BACKEND + KIND)
    with serving(tmp_path, STATEHOLD_SERVER_KEY="k" * 20) as (url, process):
        assert check(tmp_path, "--server", url, code=0, STATEHOLD_KEY="k" * 20)["server"] == url
        assert "denied" in check(tmp_path, "--server", url, code=1)
        assert "denied" in check(tmp_path, "--server", url, code=1, STATEHOLD_KEY="wrong")
        process.kill()
        process.wait()
        assert "unavailable" in check(tmp_path, "--server", url, code=5)
    assert "not a server" in check(tmp_path, "--server", "state.db", code=2)
    assert "--server" in check(tmp_path, "--server", url, "--backend", "memory://", code=2)


def test_a_server_of_something_else(tmp_path):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        err = check(tmp_path, "--server", f"http://127.0.0.1:{server.server_port}", code=2)
        server.shutdown()
        thread.join()
    assert "no statehold server" in err
