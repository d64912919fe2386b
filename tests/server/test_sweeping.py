"""A server sweeps what it serves, also when nobody writes any more."""

import sqlite3
import time
from contextlib import closing

from .conftest import Served
from .test_metrics import LINE

OFTEN = '[server]\nsweep_interval = "200ms"'
STATES = 40


def rows(server: Served):
    with closing(sqlite3.connect(server.folder / "state.db")) as file:
        return file.execute("SELECT count(*) FROM state").fetchone()[0]


def swept(server: Served):
    for line in server.ask("GET", "/metrics")[2].decode().splitlines():
        found = LINE.match(line)
        if found and found.group(1) == "statehold_swept_states_total":
            return float(found.group(3))
    raise AssertionError("the metric is not there")


def test_what_has_ended_is_gone_though_nobody_writes(serve):
    server = serve(backend="sqlite:///state.db", server=OFTEN)
    for n in range(STATES):
        headers = {"Statehold-TTL": "1" if n else "3600"}
        answer = server.ask("POST", f"/v1/chat/{n}/commit", {"turns": {"add": 1}}, headers)
        assert answer[0] == 200, answer
    until = time.monotonic() + 30
    while rows(server) > 1 and time.monotonic() < until:
        time.sleep(0.1)
    assert rows(server) == 1, "states that have ended are stored still"
    assert swept(server) == STATES - 1
    assert server.ask("GET", "/v1/chat/0")[2]["fields"]["turns"] == 1


def test_a_store_that_cannot_answer_is_swept_later(serve):
    server = serve(backend="sqlite:///state.db", server=OFTEN)
    server.ask("POST", "/v1/chat/a/commit", {"turns": {"add": 1}})
    hidden = server.folder / "state.db.away"
    (server.folder / "state.db").rename(hidden)
    until = time.monotonic() + 30
    while "sweeping:" not in server.log.read_text() and time.monotonic() < until:
        time.sleep(0.1)
    assert "sweeping:" in server.log.read_text()
    hidden.rename(server.folder / "state.db")
    assert server.ask("GET", "/v1/chat/a")[2]["fields"]["turns"] == 1
    assert server.terminate() in {0, -15}
