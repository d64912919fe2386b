"""Servers to test: an application in this process, or a real one in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from statehold.config import Config
from statehold.server import create_app

KINDS = """
[kinds.chat]
ttl = "1h"
ops = 16

[kinds.chat.fields]
history = { type = "log", items = { role = "string", content = "string" }, keep = 20, max_bytes = "4KiB" }
turns = "counter"
filters = { type = "map", values = "string", keep = 3 }
focus = { type = "register", value = "string" }

[kinds.profile]
ttl = "never"

[kinds.profile.fields]
score = { type = "counter", number = "number" }
tags = { type = "set", items = "string", keep = 8 }
clicks = { type = "tally", keys = "string", keep = 8 }
spend = { type = "window", span = "1h" }
taste = { type = "decayed_mean", dim = 2, half_life = "1h" }
backend = { type = "vector", dim = 2 }
talk = { type = "turns", items = "string", keep = 4 }
steps = { type = "steps", values = "object" }
"""

READ, WRITE, BOTH, SHOP, METRICS = (letter * 24 for letter in "rwbsm")
KEYS = f"""
[server]
keys = [
    {{ name = "reader", env = "KEY_{READ[0]}", scopes = ["read"] }},
    {{ name = "writer", env = "KEY_{WRITE[0]}", scopes = ["write"] }},
    {{ name = "both", env = "KEY_{BOTH[0]}" }},
    {{ name = "shop", env = "KEY_{SHOP[0]}", tenant = "shop" }},
    {{ name = "prometheus", env = "KEY_{METRICS[0]}", scopes = ["metrics"] }},
]
"""
ENV = {f"KEY_{key[0]}": key for key in (READ, WRITE, BOTH, SHOP, METRICS)}


def load(folder: Path, *, backend="memory://", server="", kinds=KINDS) -> Config:
    path = folder / "statehold.toml"
    path.write_text(f'backend = "{backend}"\n{server}\n{kinds}', "utf-8")
    return Config.load(path, ENV)


@pytest.fixture
def client_of(tmp_path):
    """Make clients of applications in this process; `config` lets a test name the whole thing."""
    opened = []

    def make(*, config=None, base_url="http://127.0.0.1", raises=True, **said):
        app = create_app(config or load(tmp_path, **said))
        client = TestClient(app, base_url=base_url, raise_server_exceptions=raises)
        opened.append(client.__enter__())
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(client_of):
    return client_of()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Served:
    """A server in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.log = folder / "server.log"
        self.start()

    def start(self) -> None:
        code = "from statehold.config import Config; from statehold.server import run; run(Config.load())"
        env = {**os.environ, **ENV, "STATEHOLD_PORT": str(self.port)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], cwd=self.folder, env=env, stdout=log, stderr=log
            )
        until = time.monotonic() + 30
        while True:
            try:
                if self.ask("GET", "/healthz")[0] == 200:
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < until, self.log.read_text()
                time.sleep(0.05)

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, body as JSON if it is)."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            data = None if body is None else json.dumps(body).encode()
            given = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, data, {**given, **(headers or {})})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        is_json = "json" in response.getheader("Content-Type", "")
        return response.status, response.headers, json.loads(text) if is_json else text

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def serve(tmp_path):
    """Start servers; those that are left at the end are killed."""
    started = []

    def start(**said) -> Served:
        load(tmp_path, **said)
        started.append(Served(tmp_path, free_port()))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.kill()
