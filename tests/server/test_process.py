"""A real server process: kept state, graceful ends, concurrent clients."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

from .test_watch import events, watching

SQLITE = "sqlite:///state.db"


def add(server, id, **headers):
    return server.ask("POST", f"/v1/chat/{id}/commit", {"turns": {"add": 1}}, headers)


def test_what_was_acknowledged_survives_kill_9(serve):
    server = serve(backend=SQLITE)
    for number in range(20):
        assert add(server, "a", **{"Idempotency-Key": str(number)})[0] == 200
    server.kill()
    server.start()
    assert server.ask("GET", "/v1/chat/a")[2]["fields"]["turns"] == 20
    repeated = add(server, "a", **{"Idempotency-Key": "19"})[2]
    assert repeated["repeated"]
    assert server.ask("GET", "/v1/chat/a")[2]["fields"]["turns"] == 20


def test_no_update_of_concurrent_clients_is_lost(serve):
    server = serve(backend=SQLITE)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: add(server, f"{number % 3}")[0], range(150)))
    assert set(answers) == {200}
    turns = [server.ask("GET", f"/v1/chat/{id}")[2]["fields"]["turns"] for id in range(3)]
    assert turns == [50, 50, 50]


def test_sigterm_ends_watches_finishes_requests_and_closes_the_store(serve, tmp_path):
    server = serve(backend=SQLITE)
    add(server, "a")
    body = b'{"turns": {"add": 1}}'
    slow = HTTPConnection("127.0.0.1", server.port, timeout=20)
    slow.putrequest("POST", "/v1/chat/a/commit")
    slow.putheader("Content-Type", "application/json")
    slow.putheader("Content-Length", str(len(body)))
    slow.endheaders(body[:5])
    with watching(server, "/v1/chat/a/watch") as response:
        stream = events(response)
        assert next(stream)[0] == "state"
        ended = []
        stopper = threading.Thread(target=lambda: ended.append(server.terminate()))
        stopper.start()
        assert list(stream) == []
        time.sleep(0.2)
        slow.send(body[5:])
        assert slow.getresponse().status == 200
        slow.close()
        stopper.join()
    assert ended[0] in {0, -15}  # uvicorn raises the signal again when it is done
    log = server.log.read_text()
    assert "Traceback" not in log
    assert not (tmp_path / "state.db-wal").exists()
    server.start()
    assert server.ask("GET", "/v1/chat/a")[2]["fields"]["turns"] == 2


def test_a_configuration_that_cannot_be_is_told_in_one_line(serve, tmp_path):
    import subprocess
    import sys

    (tmp_path / "statehold.toml").write_text('backend = "memory://"\nkinds.a = "no.such:Thing"')
    code = "from statehold.config import Config; Config.load()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "statehold.toml: kinds.a.class: no.such:Thing cannot be imported" in last
