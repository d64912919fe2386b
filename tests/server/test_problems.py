"""Each error as problem+json: its status, its code, and when to try again."""

import sqlite3

import pytest
from starlette.testclient import TestClient

from statehold import AsyncStore, Counter, State, errors
from statehold.drivers.memory import MemoryDriver
from statehold.errors import StateholdError
from statehold.server import create_app
from statehold.server.problems import SERVER_STATUS, STATUS, Problem


class Plain(State, ttl=60):
    count = Counter()


class Failing(MemoryDriver):
    """Raises what it is told to."""

    error: Exception | None = None

    async def read(self, keys, want, now):
        if self.error:
            raise self.error
        return await super().read(keys, want, now)

    async def commit(self, commits, now):
        if self.error:
            raise self.error
        return await super().commit(commits, now)

    async def scan(self, asked, now):
        if self.error:
            raise self.error
        return await super().scan(asked, now)


@pytest.fixture
def failing():
    driver = Failing()
    app = create_app(AsyncStore(driver), [Plain])
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client, driver


LEAVES = [
    leaf
    for leaf in vars(errors).values()
    if isinstance(leaf, type) and issubclass(leaf, StateholdError)
]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_every_error_has_its_status(failing, leaf):
    client, driver = failing
    driver.error = leaf("the reason", field="count", expected=1, found="two")
    status, title = STATUS[leaf.code]
    for answer in (
        client.get("/v1/plain/a"),
        client.post("/v1/plain/a/commit", json={"count": {"add": 1}}),
        client.delete("/v1/plain/a"),
        client.get("/v1/plain"),
    ):
        invalid_url = leaf.code == "invalid" and answer.request.url.path == "/v1/plain"
        assert answer.status_code == (400 if invalid_url else status)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json() == {
            "type": f"urn:statehold:problem:{leaf.code}",
            "title": title,
            "status": answer.status_code,
            "detail": "the reason",
            "code": leaf.code,
            "field": "count",
            "expected": 1,
            "found": "two",
        }
        assert ("retry-after" in answer.headers) == leaf.retryable


def test_an_error_of_a_driver_of_ones_own_has_the_status_of_its_kind(failing):
    client, driver = failing

    class Overheated(errors.Unavailable):
        code = "overheated"

    driver.error = Overheated("hot")
    answer = client.get("/v1/plain/a")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_a_failing_store_is_not_ready_but_the_process_alive(failing):
    client, driver = failing
    assert client.get("/readyz").json() == {"status": "ready"}
    driver.error = errors.Unavailable("down")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert client.get("/healthz").json() == {"status": "alive"}
    driver.error = errors.Corrupted("broken")
    assert client.get("/readyz").status_code == 503


def test_what_nobody_expected_is_500_and_tells_nothing(failing):
    client, driver = failing
    driver.error = RuntimeError("a secret")
    answer = client.get("/v1/plain/a")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text


def test_a_batch_that_cannot_be_answered_at_all_is_503(failing):
    client, driver = failing
    driver.error = errors.Unavailable("down")
    batch = {"commit": [{"id": "a", "changes": {}, "op": "1"}], "read": {"ids": ["a"]}}
    answer = client.post("/v1/plain/batch", json=batch)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"


def test_routes_that_there_are_not(client):
    for path in ("/nope", "/v1/", "/v1/chat/", "/v1/chat/a/b", "/v1/chat//commit"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert client.get("/v1/nope").json()["code"] == "unknown_kind"
    assert client.get("/v1/nope/a").json()["code"] == "unknown_kind"
    assert client.post("/v1/nope/a/commit", json={}).json()["code"] == "unknown_kind"
    answer = client.put("/v1/chat/a", json={})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


def test_bodies_over_the_limit(client_of):
    client = client_of(server='[server]\nmax_body_bytes = "1KiB"')
    headers = {"Content-Type": "application/json"}
    long = b'{"turns": {"add": 1}' + b" " * 1100 + b"}"
    said = client.post("/v1/chat/a/commit", content=long, headers=headers)
    streamed = client.post(
        "/v1/chat/a/commit",
        content=iter([long[:600], long[600:]]),
        headers=headers,
    )
    for answer in (said, streamed):
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert (answer.json()["field"], answer.json()["expected"]) == ("body", 1024)
    assert client.get("/v1/chat/a").status_code == 404


def test_pages_and_batches_are_limited(client_of):
    client = client_of(server="[server]\nmax_page = 5\nmax_batch = 2")
    assert client.get("/v1/chat?limit=5").status_code == 200
    assert client.get("/v1/chat").status_code == 200
    assert client.get("/v1/chat?limit=6").json()["expected"] == 5
    for batch in ({"read": {"ids": list("abc")}}, {"commit": [{"id": "a"}] * 3}):
        answer = client.post("/v1/chat/batch", json=batch)
        assert (answer.status_code, answer.json()["expected"]) == (413, 2)


def test_a_corrupted_value_is_reported_beside_the_others(client_of, tmp_path):
    client = client_of(backend=f"sqlite:///{tmp_path}/state.db")
    client.post("/v1/chat/a/commit", json={"focus": {"put": "x"}, "turns": {"add": 1}})
    with sqlite3.connect(tmp_path / "state.db") as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall()
        assert any(_spoil(connection, name, b'"x"') for (name,) in tables)
    connection.close()
    body = client.get("/v1/chat/a").json()
    assert body["fields"]["turns"] == 1
    assert body["fields"]["focus"] is None
    assert [found["field"] for found in body["corrupted"]] == ["focus"]
    assert 'statehold_corrupted_values_total{kind="chat"} 1' in client.get("/metrics").text


def _spoil(connection, table, value):
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    changed = 0
    for column in columns:
        for old in (value, value.decode()):
            where = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"
            changed += connection.execute(where, (b"{" if old == value else "{", old)).rowcount
    return changed


def test_a_problem_shows_only_what_is_short_and_plain():
    long = Problem("invalid", "x", expected=object(), found="x" * 81)
    assert set(long.body) == {"type", "title", "status", "detail", "code"}
    assert not set(STATUS) & set(SERVER_STATUS)
