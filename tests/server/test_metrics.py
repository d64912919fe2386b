"""What /metrics says is true, and in Prometheus' format."""

import re
import shutil
import subprocess

import pytest

from statehold.commits import Commit
from statehold.drivers.memory import MemoryDriver
from statehold.engine import run_now
from statehold.middleware.metrics import Metrics
from tests.needs import require

LINE = re.compile(r'(\w+)(\{(?:\w+="(?:[^"\\]|\\.)*",?)+\})? (-?[0-9.e+-]+)$')


def metrics(client):
    text = client.get("/metrics").text
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = LINE.match(line).groups()
            assert (name, labels) not in found
            found[name + (labels or "")] = float(value)
    return found


def used(client):
    for op in "112":
        client.post(
            "/v1/chat/a/commit", json={"turns": {"add": 1}}, headers={"Idempotency-Key": op}
        )
    client.post("/v1/chat/a/commit", json={}, headers={"If-None-Match": "*"})
    client.post("/v1/chat/a/commit", json={"filters": {"put": dict.fromkeys("abcd", "x")}})
    client.post("/v1/chat/b/commit", json={}, headers={"Statehold-Epoch": "5"})
    client.post("/v1/chat/b/commit", json={}, headers={"Statehold-Epoch": "4"})
    client.get("/v1/chat/a")
    client.get("/v1/chat/nobody")
    client.get("/v1/chat")
    client.get("/nowhere")


def test_calls_and_outcomes_are_counted(client):
    used(client)
    found = metrics(client)
    outcomes = {"written": 3, "repeated": 1, "conflicted": 1, "fenced": 1, "refused": 1}
    for outcome, count in outcomes.items():
        assert found[f'statehold_commits_total{{outcome="{outcome}"}}'] == count
    assert found['statehold_reads_total{result="found"}'] == 1
    assert found['statehold_reads_total{result="absent"}'] == 1
    assert found['statehold_store_call_seconds_count{call="commit"}'] == 7
    assert found['statehold_store_call_seconds_bucket{call="commit",le="+Inf"}'] == 7
    assert found['statehold_store_call_seconds_count{call="scan"}'] == 1
    assert found['statehold_http_requests_total{route="commit",status="200"}'] == 4
    assert found['statehold_http_requests_total{route="commit",status="412"}'] == 1
    assert found['statehold_http_requests_total{route="none",status="404"}'] == 1
    assert found["statehold_driver_states"] == 2
    assert found["statehold_watchers"] == 0


def test_buckets_add_up(client):
    used(client)
    found = metrics(client)
    for name, total in found.items():
        if match := re.fullmatch(r"(\w+)_count(\{.*\})", name):
            labels = match[2][:-1]
            buckets = [
                v for k, v in found.items() if k.startswith(f"{match[1]}_bucket{labels},le=")
            ]
            assert buckets == sorted(buckets)
            assert buckets[-1] == total


def test_promtool_accepts_it(client):
    promtool = shutil.which("promtool")
    if promtool is None:
        require("promtool", "not installed (Debian: apt-get install prometheus)")
    used(client)
    text = client.get("/metrics").content
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.parametrize("route", ["healthz", "get", "commit"])
def test_names_do_not_grow_with_what_is_asked(client, route):
    for number in range(20):
        client.get(f"/v1/chat/{number}")
        client.get(f"/{number}/{route}")
    assert sum(name.startswith("statehold_http_requests_total") for name in metrics(client)) == 2


def test_claims_are_no_commits_and_who_waits_is_not_fenced_off():
    metered = Metrics(MemoryDriver())
    claim, key = 30.0, ("", "chat", "a")
    for epoch in (0, 0, 5):
        run_now(metered.commit([Commit(key, (), 60.0, epoch=epoch, claim=claim)], 1000.0))
    assert metered.outcomes == {"claimed": 1, "held": 1, "fenced": 1}
